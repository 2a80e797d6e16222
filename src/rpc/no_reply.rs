//! # No reply: what can still be found out about a call that nobody answered
//!
//! ```text
//! another consumer's queue is full ─▶ its name: the reply may be there, and is not read
//! the broker blocks its publishers ─▶ its reason: it may never have read the request (BLOCK-2)
//! no confirm has come ──────────────▶ the fault lies before the queue (RPC-12)
//! otherwise ─ queue.declare passive ─▶ nobody consumes │ two servers do, and are slow │ 404: the queue is gone
//! ```
//!
//! `mandatory` notices a missing queue and nothing else: a queue whose servers have all died takes every request
//! (RPC-8). To ask before each call would cost a round trip and prove nothing a moment later; so it is asked when the
//! call has failed.
//!
//! Read next: [`reconnect`](super::reconnect). Explained in `docs/16-three-timeouts.md`.

use std::{
    fmt::{self, Display, Formatter},
    time::Duration,
};

use tokio::time::timeout;

use super::{queue::look_up, replies::ReplyAddress};
use crate::codec::{ConsumerTag, ShortString};

/// How long the broker may take to say how many servers there are, once a call has failed already.
const LOOK_UP_LIMIT: Duration = Duration::from_millis(500);

/// What a broker says of the far end of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Servers {
    /// So many consumers. 0: the queue exists, and nobody is there.
    Consumers(u32),
    /// The queue was there when it took the request, and is gone.
    QueueGone,
    /// The broker could not be asked, or did not answer in time.
    Unknown,
}

impl Display for Servers {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Consumers(0) => f.write_str("the queue exists, but nobody consumes from it"),
            Self::Consumers(1) => f.write_str("one server consumes from the queue"),
            Self::Consumers(many) => write!(f, "{many} servers consume from the queue"),
            Self::QueueGone => f.write_str("the queue has been deleted, and the request with it"),
            Self::Unknown => {
                f.write_str("the broker did not say in time who consumes from the queue")
            }
        }
    }
}

/// What is known of a call whose deadline has passed: enough to find out whose fault it was.
#[derive(Debug, Clone, PartialEq)]
pub struct NoReply {
    /// The queue it was for.
    pub queue: ShortString,
    /// The id of the call, as a server's log has it.
    pub correlation_id: ShortString,
    /// How long it waited.
    pub elapsed: Duration,
    /// Whether the broker had confirmed the request: then the fault is on the server's side. RPC-12
    pub confirmed: bool,
    /// Why the broker does not want to hear from publishers, if it says so: it may never have read the request. BLOCK-1
    pub blocked: Option<ShortString>,
    /// Who consumes from the queue now. RPC-8
    pub servers: Servers,
    /// The consumer whose full queue keeps the connection, and so the reply, from being read, if one does.
    pub in_the_way: Option<ConsumerTag>,
}

impl Display for NoReply {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { queue, elapsed, .. } = self;
        write!(f, "queue {queue} within {} s: ", elapsed.as_secs_f32())?;
        if let Some(tag) = &self.in_the_way {
            write!(f, "consumer {tag} has not taken what is queued for it")
        } else if let Some(reason) = &self.blocked {
            write!(f, "the broker takes no requests now ({reason})")
        } else if !self.confirmed {
            f.write_str("the broker has not confirmed the request")
        } else {
            self.servers.fmt(f)
        }
    }
}

impl NoReply {
    /// Only now, when the call has failed anyway, is it worth a round trip to ask who is there (RPC-8).
    pub(super) async fn find_out(
        address: &ReplyAddress,
        queue: ShortString,
        correlation_id: ShortString,
        elapsed: Duration,
        confirmed: bool,
    ) -> Self {
        let connection = &address.connection;
        let in_the_way = connection.in_the_way();
        let blocked = connection.blocked().borrow().clone();
        let servers = match (&in_the_way, &blocked) {
            (None, None) => ask(address, &queue).await,
            _ => Servers::Unknown, // no answer would be read either
        };
        Self {
            queue,
            correlation_id,
            elapsed,
            confirmed,
            blocked,
            servers,
            in_the_way,
        }
    }
}

async fn ask(address: &ReplyAddress, queue: &ShortString) -> Servers {
    let Ok(_place) = address.look_ups.try_acquire() else {
        return Servers::Unknown; // of thousands that fail together, a few ask
    };
    match timeout(LOOK_UP_LIMIT, look_up(&address.connection, queue)).await {
        Ok(Ok(Some(found))) => Servers::Consumers(found.consumer_count),
        Ok(Ok(None)) => Servers::QueueGone,
        Ok(Err(_)) | Err(_) => Servers::Unknown,
    }
}
