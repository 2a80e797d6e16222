//! # The keeper: a client's reply address, and another after each loss
//!
//! ```text
//! Up(address) ── no reply can come any more ──▶ Down(cause) ── another one ──▶ Up(another address)
//!      │                                            └── the connection was given, and is lost ──▶ Over
//!      └── the client is closed ──▶ Over, and stays so
//! ```
//!
//! A call takes the address that is there, or waits for one until its deadline. It holds on to it for one attempt: an
//! address does not change, it is replaced, so that a late reply to the old one reaches nobody.
//!
//! Read next: [`stats`](super::stats). Explained in `docs/rpc.md`.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use tokio::{sync::watch, task::AbortHandle};
use tracing::{info, warn};

use super::{
    call::ReplyMode,
    error::RpcError,
    reconnect::{ConnectionState, Line},
    replies::ReplyAddress,
    stats::Counters,
};
use crate::client::{Cause, Connection, Endpoints, Error};

/// What a call has to go by.
#[derive(Debug, Clone)]
enum Link {
    /// Here replies come.
    Up(Arc<ReplyAddress>),
    /// Nowhere yet, and why.
    Down(Error),
    /// Nowhere again: the outcome of every call from now on.
    Over(RpcError),
}

/// A client's connection and reply address, and the task that replaces them.
#[derive(Debug)]
pub(super) struct Keeper {
    link: Arc<watch::Sender<Link>>,
    state: Arc<watch::Sender<ConnectionState>>,
    task: AbortHandle,
    /// Whether the connection was opened here, and so is closed here.
    own: bool,
    refusing: AtomicBool,
}

/// With the last clone of a client the replies have nobody to go to.
impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Keeper {
    /// Connects, and will again.
    ///
    /// # Errors
    /// What the last place failed with.
    ///
    /// # Cancel safety
    /// A dropped future leaves nothing behind.
    pub(super) async fn connect(
        endpoints: Endpoints,
        mode: ReplyMode,
        counters: &Arc<Counters>,
    ) -> Result<Self, Error> {
        Self::begin(Line::dial(endpoints).await?, mode, counters).await
    }

    /// On this connection and no other.
    ///
    /// # Errors
    /// What the channel or the connection failed with.
    ///
    /// # Cancel safety
    /// A dropped future leaves nothing behind.
    pub(super) async fn on(
        connection: &Connection,
        mode: ReplyMode,
        counters: &Arc<Counters>,
    ) -> Result<Self, Error> {
        Self::begin(Line::on(connection.clone()), mode, counters).await
    }

    async fn begin(line: Line, mode: ReplyMode, counters: &Arc<Counters>) -> Result<Self, Error> {
        let address = ReplyAddress::open(line.connection(), mode, counters.clone());
        let address = Arc::new(address.await?);
        let task = Task {
            line,
            mode,
            counters: counters.clone(),
            link: Arc::new(watch::Sender::new(Link::Up(address.clone()))),
            state: Arc::new(watch::Sender::new(ConnectionState::Connected)),
        };
        Ok(Self {
            link: task.link.clone(),
            state: task.state.clone(),
            own: task.line.is_ours(),
            refusing: AtomicBool::new(false),
            task: tokio::spawn(task.run(address)).abort_handle(),
        })
    }

    pub(super) fn state(&self) -> watch::Receiver<ConnectionState> {
        self.state.subscribe()
    }

    pub(super) fn connection(&self) -> Option<Connection> {
        self.address().map(|address| address.connection.clone())
    }

    /// The reply address, if there is one now.
    pub(super) fn address(&self) -> Option<Arc<ReplyAddress>> {
        match &*self.link.borrow() {
            Link::Up(address) if !self.refusing.load(Relaxed) => Some(address.clone()),
            _ => None,
        }
    }

    /// The reply address, as soon as there is one.
    ///
    /// # Errors
    /// There will be none again.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn next_address(&self) -> Result<Arc<ReplyAddress>, RpcError> {
        if self.refusing.load(Relaxed) {
            return Err(RpcError::ShutDown {
                maybe_executed: false,
            });
        }
        let mut link = self.link.subscribe();
        let link = link.wait_for(|link| !matches!(link, Link::Down(_))).await;
        match link.as_deref() {
            Ok(Link::Up(address)) => Ok(address.clone()),
            Ok(Link::Over(error)) => Err(error.clone()),
            Ok(Link::Down(_)) | Err(_) => Err(self.absence()), // neither: it was waited for, and its sender is here
        }
    }

    /// Waits until calls do not go to this address any more.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn replaced(&self, address: &Arc<ReplyAddress>) {
        let mut link = self.link.subscribe();
        let other =
            |link: &Link| !matches!(link, Link::Up(current) if Arc::ptr_eq(current, address));
        let _ = link.wait_for(other).await; // its sender is here, so it does not fail
    }

    /// What a call ends with that found no address in time.
    pub(super) fn absence(&self) -> RpcError {
        let cause = match &*self.link.borrow() {
            Link::Down(cause) => cause.clone(),
            Link::Up(_) => Error::ConnectionClosed(Cause::EndOfStream), // back, in the very moment
            Link::Over(error) => return error.clone(),
        };
        RpcError::lost(cause, false)
    }

    /// From now on there is no address for a new call.
    pub(super) fn refuse(&self) {
        self.refusing.store(true, Relaxed);
    }

    /// Ends the calls that are left, and closes what was opened here.
    ///
    /// # Errors
    /// What the channel or the connection failed with.
    ///
    /// # Cancel safety
    /// A dropped future has ended the calls, and may have closed the channel.
    pub(super) async fn close(&self) -> Result<(), Error> {
        self.task.abort();
        let shut_down = RpcError::ShutDown {
            maybe_executed: false,
        };
        let closed_here = Error::ChannelClosed(Cause::ClosedHere);
        let closed = ConnectionState::Closed(closed_here.clone());
        let before = change(&self.link, &self.state, Link::Over(shut_down), closed);
        let Some(Link::Up(address)) = before else {
            return Ok(());
        };
        let outcome = RpcError::ShutDown {
            maybe_executed: true,
        };
        address.pending.fail(&closed_here, &outcome);
        if self.own {
            address.connection.clone().close().await
        } else {
            address.close().await
        }
    }
}

/// What calls go by, and what is shown of it; gives back what was before. The end is final: an abort takes effect at
/// the next await only, so a task may find another address in the very moment when its client is closed.
fn change(
    link: &watch::Sender<Link>,
    state: &watch::Sender<ConnectionState>,
    to: Link,
    shown: ConnectionState,
) -> Option<Link> {
    let mut before = None;
    link.send_if_modified(|link| {
        let goes_on = !matches!(link, Link::Over(_));
        if goes_on {
            before = Some(mem::replace(link, to));
            state.send_replace(shown);
        }
        goes_on
    });
    before
}

/// Waits for a loss, and makes up for it.
struct Task {
    line: Line,
    mode: ReplyMode,
    counters: Arc<Counters>,
    link: Arc<watch::Sender<Link>>,
    state: Arc<watch::Sender<ConnectionState>>,
}

impl Task {
    async fn run(mut self, mut address: Arc<ReplyAddress>) {
        loop {
            let lost = address.over().await;
            drop(address);
            address = match self.another(lost).await {
                Ok(address) => Arc::new(address),
                Err(error) => {
                    warn!(%error, "no reply will come again");
                    let outcome = RpcError::lost(error.clone(), false);
                    self.change(Link::Over(outcome), ConnectionState::Closed(error));
                    return;
                }
            };
            info!("calls go out again");
            self.counters.reconnects.add();
            self.change(Link::Up(address.clone()), ConnectionState::Connected);
        }
    }

    fn change(&self, link: Link, state: ConnectionState) {
        change(&self.link, &self.state, link, state);
    }

    async fn another(&mut self, lost: Error) -> Result<ReplyAddress, Error> {
        let trying = |attempt, cause: Error| {
            warn!(%cause, attempt, "no reply can come: connecting again");
            let link = Link::Down(cause.clone());
            let state = ConnectionState::Reconnecting { attempt, cause };
            change(&self.link, &self.state, link, state);
        };
        let open = async |connection| {
            ReplyAddress::open(&connection, self.mode, self.counters.clone()).await
        };
        let another = self.line.again(lost, trying, open).await;
        // A given connection is over, and that is the cause, whatever failed first because of it.
        another.map_err(|last| {
            let cause = self.line.connection().cause();
            cause.map_or(last, |cause| Error::ConnectionClosed(cause.clone()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_comes_after_the_end() {
        let lost = || Error::ConnectionClosed(Cause::EndOfStream);
        let link = watch::Sender::new(Link::Down(lost()));
        let state = watch::Sender::new(ConnectionState::Connected);
        let over = Link::Over(RpcError::ShutDown {
            maybe_executed: false,
        });
        let closed = ConnectionState::Closed(Error::ChannelClosed(Cause::ClosedHere));
        assert!(change(&link, &state, over, closed).is_some());
        let late = ConnectionState::Reconnecting {
            attempt: 2,
            cause: lost(),
        };
        assert!(change(&link, &state, Link::Down(lost()), late).is_none());
        assert!(matches!(&*link.borrow(), Link::Over(_)));
        assert!(matches!(&*state.borrow(), ConnectionState::Closed(_)));
    }
}
