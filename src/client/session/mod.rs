//! # The session: commands in, events out, and who waits for what
//!
//! ```text
//! a command      writes down, for its channel             and an event looks it up
//! a request      waiting    declare-ok: A, bind-ok: B     a reply:    the oldest that it fits (METH-6)
//! consume        consumers  "ctag-1.1": inbox             a delivery: by its consumer tag
//! publish        confirms   4: C, 5: nobody               an ack:     by its number, or all up to it (CONF-4)
//! ```
//!
//! A reply names no request, a confirm names no message: only these three books know. The connection's own task keeps
//! them and nobody else, one thing at a time. So a publish gets its number in the very step that writes its frames
//! (CONF-9), and a consumer is in its book before its `basic.consume` leaves (CONS-4).
//!
//! Read next: `commands`. Explained in `docs/12-inside.md`.

mod commands;
mod events;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, Semaphore, mpsc, oneshot, watch},
    time::Instant,
};

use super::{
    error::Error,
    inbox::{Inbox, Queue, ReturnsTo},
    publish::Confirming,
};
use crate::{
    codec::{BasicPublish, ChannelId, ConsumerTag, DeliveryTag, Method, Properties, ShortString},
    driver::Application,
    protocol::{Cause, CloseReason, Connection as Core, Event, Ledger, Message, Opened, Owed},
};

/// How long a broker that reads nothing is put up with once nobody uses the connection any more.
const FAREWELL: Duration = Duration::from_secs(10);

/// Places in the queue of commands are given back in dozens: each time costs a lock.
const PLACES_AT_ONCE: usize = 32;

/// What is known of a connection outside its task.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Why it is over, once it is. The first cause stays. ERR-10
    pub(crate) cause: OnceLock<Cause>,
    /// Why the broker does not want to hear from publishers now, if so. BLOCK-1
    pub(crate) blocked: watch::Sender<Option<ShortString>>,
    /// The consumer whose queue is full.
    in_the_way: Mutex<Option<ConsumerTag>>,
    /// A consumer made room, or the last user has left.
    pub(crate) room: Arc<Notify>,
    /// Places in the queue of commands.
    pub(crate) places: Semaphore,
    left: AtomicBool,
    began: Instant,
    /// When the broker was last heard, in milliseconds since `began`.
    heard: AtomicU64,
}

impl Shared {
    pub(crate) fn new(places: usize) -> Self {
        let (blocked, _) = watch::channel(None);
        Self {
            cause: OnceLock::new(),
            blocked,
            in_the_way: Mutex::new(None),
            room: Arc::new(Notify::new()),
            places: Semaphore::new(places),
            left: AtomicBool::new(false),
            began: Instant::now(),
            heard: AtomicU64::new(0),
        }
    }

    /// Nobody will ask for anything more: what was said has to be sent soon or never.
    pub(crate) fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
        self.room.notify_one();
    }

    fn hear(&self, now: Instant) {
        let since = now.duration_since(self.began).as_millis();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        self.heard.store(since, Ordering::Relaxed);
    }

    /// How long nothing has been heard from the broker.
    pub(crate) fn silence(&self) -> Duration {
        let heard = Duration::from_millis(self.heard.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(heard)
    }

    pub(crate) fn in_the_way(&self) -> Option<ConsumerTag> {
        self.in_the_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set_in_the_way(&self, consumer: Option<ConsumerTag>) {
        *self
            .in_the_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = consumer;
    }

    pub(crate) fn over(&self) -> Error {
        Error::ConnectionClosed(self.cause.get().cloned().unwrap_or(Cause::ClosedHere))
    }
}

/// What is known of a channel outside the connection's task.
#[derive(Debug)]
pub(crate) struct ChannelShared {
    pub(crate) id: ChannelId,
    /// Why it is over, once it is.
    pub(crate) cause: OnceLock<Cause>,
    returns: Mutex<Option<ReturnsTo>>,
}

/// A mandatory message that no queue took. PUB-3
#[derive(Debug, Clone, PartialEq)]
pub struct Returned {
    /// Why: 312 `NO_ROUTE`, and where it was to go.
    pub reason: crate::codec::BasicReturn,
    /// The message, unchanged.
    pub message: Message,
}

/// The answer to a request: the method, and what `get-ok` carries.
pub(crate) type Answer = Result<(Method, Option<Message>), Error>;

/// What the broker made of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirm {
    /// Taken care of. It may have been returned as unroutable before (CONF-6).
    Ack,
    /// Refused, by a full queue or a broker in trouble. CONF-7
    Nack,
}

/// What users ask of the connection's task.
#[derive(Debug)]
pub(crate) enum Command {
    OpenChannel {
        reply: Opening,
    },
    Call {
        channel: Arc<ChannelShared>,
        method: Method,
        reply: oneshot::Sender<Answer>,
    },
    Consume {
        channel: Arc<ChannelShared>,
        method: Method,
        inbox: Inbox,
        reply: oneshot::Sender<Answer>,
    },
    Send {
        channel: Arc<ChannelShared>,
        method: Method,
    },
    Publish(Publish),
    CloseChannel {
        channel: Arc<ChannelShared>,
        reply: Option<oneshot::Sender<Answer>>,
    },
    /// A consumer was dropped: cancel it, and give back what it has not seen.
    DropConsumer {
        channel: Arc<ChannelShared>,
        tag: ConsumerTag,
        unseen: Vec<DeliveryTag>,
    },
    Close,
}

#[derive(Debug)]
pub(crate) struct Publish {
    pub(crate) channel: Arc<ChannelShared>,
    pub(crate) method: BasicPublish,
    pub(crate) properties: Box<Properties>,
    pub(crate) body: Bytes,
    /// Refused if somebody is to hear of it and the channel is not in confirm mode.
    pub(crate) confirm: Confirming,
}

/// A command on its way, and whether it takes a place among those that may wait. What a `Drop` says takes none: it
/// cannot wait, and there is one at most for every handle that existed.
#[derive(Debug)]
pub(crate) struct Queued {
    pub(crate) command: Command,
    pub(crate) placed: bool,
}

/// Who waits for a channel to open.
type Opening = oneshot::Sender<Result<Arc<ChannelShared>, Error>>;

struct ChannelState {
    shared: Arc<ChannelShared>,
    /// In the order of the requests, which is not always that of the replies.
    waiting: VecDeque<(Owed, Waiter)>,
    /// Who waits for the close-ok, after everyone else was told that the channel is over.
    closing: Option<oneshot::Sender<Answer>>,
    consumers: BTreeMap<ConsumerTag, Inbox>,
    confirms: Option<Ledger<Confirming>>,
}

enum Waiter {
    Open(Opening),
    Answer(oneshot::Sender<Answer>),
    /// Nobody: the reply is discarded when it comes. METH-6
    Nobody,
}

/// The application on the core of a client.
pub(crate) struct Session {
    shared: Arc<Shared>,
    commands: mpsc::UnboundedReceiver<Queued>,
    channels: BTreeMap<ChannelId, ChannelState>,
    opening: Option<oneshot::Sender<Result<Opened, Error>>>,
    /// The queue that is full, until it is not.
    full: Option<Queue>,
    /// Places of commands that were taken, and not yet given back.
    vacated: usize,
    /// Dropped with the session, which is how `close` learns that all is over.
    _ended: watch::Sender<()>,
}

impl Session {
    pub(crate) fn new(
        shared: Arc<Shared>,
        commands: mpsc::UnboundedReceiver<Queued>,
        opening: oneshot::Sender<Result<Opened, Error>>,
        ended: watch::Sender<()>,
    ) -> Self {
        Self {
            shared,
            commands,
            channels: BTreeMap::new(),
            opening: Some(opening),
            full: None,
            vacated: 0,
            _ended: ended,
        }
    }

    /// The state of this very channel, if it is open: a number is used again, a `ChannelShared` is not.
    fn state(&mut self, channel: &Arc<ChannelShared>) -> Result<&mut ChannelState, Error> {
        let state = self
            .channels
            .get_mut(&channel.id)
            .filter(|state| Arc::ptr_eq(&state.shared, channel) && channel.cause.get().is_none());
        state.ok_or_else(|| channel.over(&self.shared))
    }

    /// From here on nothing more is asked; what was asked before is still in the queue.
    fn stop_listening(&mut self) {
        self.commands.close();
        self.shared.places.close();
    }
}

impl ChannelShared {
    /// Where messages go that come back, if anywhere.
    pub(crate) fn returns(&self) -> MutexGuard<'_, Option<ReturnsTo>> {
        self.returns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why nothing can be done here any more.
    pub(crate) fn over(&self, connection: &Shared) -> Error {
        match (self.cause.get(), connection.cause.get()) {
            (Some(cause), _) => Error::ChannelClosed(cause.clone()),
            (None, Some(cause)) => Error::ConnectionClosed(cause.clone()),
            (None, None) => Error::ChannelClosed(Cause::ClosedHere),
        }
    }
}

impl Application for Session {
    type Command = Command;

    fn poll_command(&mut self, context: &mut Context<'_>) -> Poll<Option<Command>> {
        let next = self.commands.poll_recv(context);
        if let Poll::Ready(Some(Queued { placed: true, .. })) = next {
            self.vacated += 1;
        }
        if next.is_pending() || self.vacated >= PLACES_AT_ONCE {
            let places = std::mem::take(&mut self.vacated);
            self.shared.places.add_permits(places);
        }
        next.map(|queued| queued.map(|Queued { command, .. }| command))
    }

    fn on_command(&mut self, core: &mut Core, command: Option<Command>) {
        match command {
            // The last handle is gone, and with it everyone who could ask for anything.
            None | Some(Command::Close) => {
                self.stop_listening();
                core.close(&CloseReason::goodbye());
            }
            Some(Command::OpenChannel { reply }) => self.open_channel(core, reply),
            Some(Command::Call {
                channel,
                method,
                reply,
            }) => self.call(core, &channel, &method, reply),
            Some(Command::Consume {
                channel,
                method,
                inbox,
                reply,
            }) => match self.subscribe(&channel, inbox) {
                Ok(()) => self.call(core, &channel, &method, reply),
                Err(error) => _ = reply.send(Err(error)),
            },
            Some(Command::Send { channel, method }) => {
                if self.state(&channel).is_ok() {
                    let _ = core.send(channel.id, method); // its channel may be closing: the close says so
                }
            }
            Some(Command::Publish(publish)) => self.publish(core, publish),
            Some(Command::CloseChannel { channel, reply }) => {
                self.close_channel(core, &channel, reply);
            }
            Some(Command::DropConsumer {
                channel,
                tag,
                unseen,
            }) => self.drop_consumer(core, &channel, tag, unseen),
        }
    }

    fn on_read(&mut self, now: Instant) {
        self.shared.hear(now);
    }

    fn on_event(&mut self, core: &mut Core, event: Event) {
        match event {
            Event::Opened(opened) => {
                if let Some(opening) = self.opening.take() {
                    let _ = opening.send(Ok(opened)); // whoever waited may have given up
                }
            }
            Event::Content(channel, method, message) => {
                self.content(core, channel, method, message);
            }
            Event::Reply(channel, method, message) => self.reply(core, channel, method, message),
            Event::Method(channel, method) => self.method(channel, method),
            Event::ChannelClosed(channel, cause) => self.channel_closed(channel, &cause),
            Event::Closed(cause) => self.closed(cause),
            Event::ChannelOpened(_) => {} // only a broker hears it
        }
    }

    fn has_room(&mut self, _unsent: usize) -> bool {
        if self.full.as_ref().is_some_and(Queue::is_full) {
            return false;
        }
        if self.full.take().is_some() {
            self.shared.set_in_the_way(None);
        }
        true
    }

    fn bell(&self) -> Arc<Notify> {
        self.shared.room.clone()
    }

    /// A broker may keep publishers waiting for as long as it likes (BLOCK-2), but not whoever wants to leave.
    fn patience(&self) -> Option<Duration> {
        let left = self.shared.left.load(Ordering::Relaxed);
        left.then_some(FAREWELL)
    }
}

/// However its task ended, nobody waits for a place among commands that are never taken: the runtime it ran in may be
/// gone, and its users in another.
impl Drop for Session {
    fn drop(&mut self) {
        self.stop_listening();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_waits_for_a_session_that_was_dropped() {
        let shared = Arc::new(Shared::new(1));
        let (commands, inbox) = mpsc::unbounded_channel();
        let session = Session::new(
            shared.clone(),
            inbox,
            oneshot::channel().0,
            watch::channel(()).0,
        );
        shared.places.acquire().await.unwrap().forget(); // the queue is full
        let waits = tokio::spawn({
            let shared = shared.clone();
            async move { shared.places.acquire().await.is_err() }
        });
        tokio::task::yield_now().await;
        drop(session);
        assert!(waits.await.unwrap() && commands.is_closed());
    }
}
