//! # Draining: the orderly end of a server, frame by frame (RPC-22)
//!
//! ```text
//!  basic.cancel ─▶ ◀─ basic.cancel-ok      nothing new comes from here on
//!  basic.nack requeue ─▶                   what no handler has begun: another server can have it at once
//!  basic.publish ─▶ ◀─ basic.ack           what handlers have begun is finished and answered, ...
//!  basic.ack ─▶                            ... and then settled
//!  channel.close ─▶ ◀─ channel.close-ok    the broker has taken all of it
//!  connection.close ─▶ ◀─ connection.close-ok
//! ```
//!
//! A cancel-ok comes behind all that was sent before it, so waiting for it is what makes "nothing new" true; a request
//! that goes back before that would only come again (CONS-13).
//!
//! Read next: [`monitor`](super::monitor). Explained in `docs/18-draining.md`.

use std::time::Duration;

use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};
use tracing::{info, warn};

use super::requests::Requests;
use crate::client::{Delivery, Error};

/// What closing may take at the most when the limit is used up.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Ends a server, within a limit. What runs beyond it is cut off, and comes again.
///
/// # Errors
/// The channel or the connection is over: all that was not settled comes again.
pub(super) async fn drain(
    mut requests: Requests,
    waiting: impl Iterator<Item = Delivery>,
    mut running: JoinSet<()>,
    limit: Duration,
) -> Result<(), Error> {
    let until = Instant::now() + limit;
    let monitor = requests.monitor().clone();
    let given_back = || monitor.counters().given_back.add();
    info!(running = running.len(), "draining");
    let finished = timeout_at(until, async {
        let unbegun = requests.cancel().await?;
        for request in waiting.chain(unbegun) {
            given_back();
            request.nack(true).await?;
        }
        while running.join_next().await.is_some() {}
        Ok::<_, Error>(())
    })
    .await;
    if let Ok(finished) = finished {
        finished?;
    } else {
        let cut_off = running.len();
        warn!(cut_off, "not finished in time: these requests come again");
        (0..cut_off).for_each(|_| given_back());
        running.abort_all(); // and not waited for: one may block its thread
    }
    let close = timeout_at(until.max(Instant::now() + LAST_WORDS), requests.close());
    close.await.unwrap_or(Ok(())) // dropped, it closes by itself
}
