//! # The handle: what channels, consumers and deliveries share
//!
//! ```text
//! Channel ──┐
//! Consumer ─┼─▶ Handle ── command ──▶ │ one queue for all, bounded │ ──▶ the connection's task
//! Delivery ─┘      └ the last one to go asks for the channel's close
//! ```
//!
//! One queue, so that commands are obeyed in the order in which they were given, also what a `Drop` says. A `Drop`
//! cannot wait for a place in it, so it takes none. A request has one deadline for both, its place and its answer; a
//! publish and an ack wait for their place alone. Every wait ends when the channel or the connection does.
//!
//! Read next: `session`. Explained in `docs/12-inside.md`.

use std::sync::{
    Arc,
    atomic::{AtomicU32, AtomicU64, Ordering},
};

use tokio::{
    sync::{SemaphorePermit, oneshot},
    time::timeout,
};

use super::{
    Inner,
    error::Error,
    session::{Answer, ChannelShared, Command, Queued},
};
use crate::codec::Method;

/// A channel as its deliveries, consumers and users share it. The last one to go asks for its close.
#[derive(Debug, Clone)]
pub struct Handle(Arc<ChannelInner>);

#[derive(Debug)]
struct ChannelInner {
    connection: Arc<Inner>,
    channel: Arc<ChannelShared>,
    /// basic.qos as it was last asked for, or `NO_PREFETCH_SET`.
    prefetch: AtomicU32,
    consumers: AtomicU64,
}

/// More than any prefetch, which has 16 bits.
const NO_PREFETCH_SET: u32 = u32::MAX;

impl Drop for ChannelInner {
    fn drop(&mut self) {
        self.connection.ask(Command::CloseChannel {
            channel: self.channel.clone(),
            reply: None,
        });
    }
}

impl Handle {
    pub(crate) fn new(connection: Arc<Inner>, channel: Arc<ChannelShared>) -> Self {
        let (prefetch, consumers) = (NO_PREFETCH_SET.into(), AtomicU64::new(0));
        Self(Arc::new(ChannelInner {
            connection,
            channel,
            prefetch,
            consumers,
        }))
    }

    pub(crate) fn channel(&self) -> &Arc<ChannelShared> {
        &self.0.channel
    }

    pub(crate) fn connection(&self) -> &Inner {
        &self.0.connection
    }

    /// The prefetch that somebody has set on this channel.
    pub(crate) fn prefetch(&self) -> Option<u16> {
        u16::try_from(self.0.prefetch.load(Ordering::Relaxed)).ok()
    }

    pub(crate) fn set_prefetch(&self, count: u16) {
        self.0.prefetch.store(count.into(), Ordering::Relaxed);
    }

    /// A number that no consumer of this channel has had.
    pub(crate) fn next_consumer(&self) -> u64 {
        self.0.consumers.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn over(&self) -> Error {
        self.0.channel.over(&self.0.connection.shared)
    }

    pub(crate) fn make_room(&self) {
        self.0.connection.shared.room.notify_one();
    }

    /// Says something that cannot wait, from a `Drop`.
    pub(crate) fn ask(&self, command: Command) {
        self.0.connection.ask(command);
    }

    /// Hands a command to the connection's task; waits while too much is unsent.
    pub(crate) async fn command(&self, command: Command) -> Result<(), Error> {
        let place = self.place().await?;
        self.put(place, command)
    }

    /// Waits for a place in the queue of the connection's task.
    pub(crate) async fn place(&self) -> Result<SemaphorePermit<'_>, Error> {
        let ChannelInner {
            connection,
            channel,
            ..
        } = &*self.0;
        if channel.cause.get().is_some() {
            return Err(self.over());
        }
        let places = &connection.shared.places;
        match places.try_acquire() {
            Ok(place) => Ok(place), // nearly always, and without a future
            Err(_) => places.acquire().await.map_err(|_| self.over()),
        }
    }

    pub(crate) fn put(&self, place: SemaphorePermit<'_>, command: Command) -> Result<(), Error> {
        let put = self.0.connection.put(place, command);
        put.map_err(|_| self.over())
    }

    pub(crate) async fn send(&self, method: impl Into<Method>) -> Result<(), Error> {
        self.command(Command::Send {
            channel: self.0.channel.clone(),
            method: method.into(),
        })
        .await
    }

    /// A request and its answer, within the operation's deadline.
    pub(crate) async fn call(&self, method: impl Into<Method>) -> Answer {
        let method = method.into();
        let operation = method.name();
        let channel = self.0.channel.clone();
        self.ask_and_wait(operation, |reply| Command::Call {
            channel,
            method,
            reply,
        })
        .await
    }

    pub(crate) async fn ask_and_wait(
        &self,
        operation: &'static str,
        command: impl FnOnce(oneshot::Sender<Answer>) -> Command,
    ) -> Answer {
        let (reply, answer) = oneshot::channel();
        let wait = async {
            self.command(command(reply)).await?;
            answer.await.unwrap_or_else(|_| Err(self.over()))
        };
        self.0.connection.within(operation, wait).await
    }
}

impl Inner {
    /// Says something that cannot wait, from a `Drop`.
    pub(crate) fn ask(&self, command: Command) {
        let placed = false;
        let _ = self.commands.send(Queued { command, placed }); // if the task has ended there is nothing left to ask for
    }

    /// Hands a command to the connection's task, and waits for a place in its queue.
    pub(crate) async fn command(&self, command: Command) -> Result<(), Error> {
        let place = self.shared.places.acquire().await;
        self.put(place.map_err(|_| self.shared.over())?, command)
    }

    fn put(&self, place: SemaphorePermit<'_>, command: Command) -> Result<(), Error> {
        place.forget(); // given back when the command is taken
        let placed = true;
        let queued = self.commands.send(Queued { command, placed });
        queued.map_err(|_| self.shared.over())
    }

    /// Bounds a wait by the operation's deadline, and names the consumer in the way if there is one.
    pub(crate) async fn within<T>(
        &self,
        operation: &'static str,
        wait: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let after = self.operation_timeout;
        let elapsed = |_| Error::Timeout {
            operation,
            after,
            in_the_way: self.shared.in_the_way(),
        };
        timeout(after, wait).await.map_err(elapsed)?
    }
}
