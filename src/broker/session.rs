//! # The session: events go to the vhost, and what the vhost wants done comes back as orders
//!
//! ```text
//! an event of the core ──▶ lock │ vhost.publish(..)                     │ unlock ──▶ obey our own orders: core.send
//!                               │ each output ─▶ its connection's queue │
//!                               └────────────────────────────────────────────────▶ the others wake up and obey theirs
//! ```
//!
//! Every output goes through the queue of its connection, also to the connection that caused it, and it is put there
//! while the lock is held: so two events that concern one connection reach it in the order in which they happened,
//! and no delivery can follow the `cancel-ok` that ends it (CONS-13).
//!
//! Read next: chapter 6, [`rpc`](crate::rpc). Explained in `docs/12-inside.md`.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant as StdInstant, SystemTime, UNIX_EPOCH},
};

use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};
use tracing::debug;

use super::{
    server::BrokerOptions,
    vhost::{ConnectionId, Output, Vhost},
};
use crate::{
    codec::{MethodId, ReplyCode},
    driver::{Application, HIGH_WATER},
    protocol::{CloseReason, Connection as Core, Event},
    short,
};

/// How long a client without heartbeats may read nothing of what waits for it. SEC-10
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) options: BrokerOptions,
    state: Mutex<State>,
    /// Rings when the vhost wants to be told the time earlier than it had said.
    pub(super) hurry: Arc<Notify>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) vhost: Vhost,
    inboxes: BTreeMap<ConnectionId, mpsc::UnboundedSender<Order>>,
    last: u64,
    /// When the vhost is told the time next, whatever happens.
    due: Option<StdInstant>,
    hurry: Arc<Notify>,
    /// Whoever comes now is sent away.
    stopping: bool,
}

/// What a connection's task is to do.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // the large one is the usual one, as in `Output`
pub(super) enum Order {
    Output(Output),
    /// Say `connection.close` 320, and why. CLOSE-15
    Close(Arc<str>),
}

const SHUTDOWN: &str = "broker forced connection closure with reason 'shutdown'";

impl Shared {
    pub(super) fn new(options: BrokerOptions) -> Self {
        let mut vhost = Vhost::new(short!("/"), options.vhost.clone());
        let today = SystemTime::now().duration_since(UNIX_EPOCH);
        vhost.date(now(), today.unwrap_or_default().as_secs());
        let hurry = Arc::new(Notify::new());
        let state = Mutex::new(State {
            vhost,
            inboxes: BTreeMap::new(),
            last: 0,
            due: None,
            hurry: hurry.clone(),
            stopping: false,
        });
        Self {
            options,
            state,
            hurry,
        }
    }

    /// A panic elsewhere while the lock was held must not stop the other connections (ERR-6).
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Tells every connection to say goodbye, and those as well whose task has yet to begin.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
        self.close_all(SHUTDOWN);
    }

    /// Tells every connection to say goodbye for this reason.
    pub(super) fn close_all(&mut self, reason: &str) {
        let reason = Arc::<str>::from(reason);
        for inbox in self.inboxes.values() {
            let _ = inbox.send(Order::Close(reason.clone()));
        }
    }

    /// Puts what is to be done into the queues of those who have to do it, and sees to it that the vhost hears the time
    /// when it wants to.
    pub(super) fn dispatch(&mut self) {
        while let Some((connection, output)) = self.vhost.poll_output() {
            if let Some(inbox) = self.inboxes.get(&connection) {
                let _ = inbox.send(Order::Output(output)); // its task may be ending: the vhost hears of it next
            }
        }
        let due = self.vhost.deadline();
        if due.is_some_and(|due| self.due.is_none_or(|set| due < set)) {
            self.due = due;
            self.hurry.notify_one();
        }
    }

    /// Tells the vhost the time, and returns when it wants to know it again. A queue that makes us panic is not looked
    /// at again, and costs no other (ERR-6).
    pub(super) fn tick(&mut self) -> Option<StdInstant> {
        let _ = catch_unwind(AssertUnwindSafe(|| self.vhost.tick(now())));
        self.dispatch();
        self.due = self.vhost.deadline();
        self.due
    }
}

pub(super) fn now() -> StdInstant {
    Instant::now().into_std()
}

/// The application on the core of a broker: events go to the vhost, outputs come from it.
pub(super) struct Session {
    id: ConnectionId,
    shared: Arc<Shared>,
    inbox: mpsc::UnboundedReceiver<Order>,
    /// Octets of contents that were handed to the core and may not be in the socket yet.
    unsent: usize,
    /// It has published while memory is low, and is not read until there is more of it. BLOCK-2
    blocked: bool,
    patience: Duration,
    bell: Arc<Notify>,
}

impl Session {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let (sender, inbox) = mpsc::unbounded_channel(); // bounded by the vhost, see `Vhost::sent`
        let mut state = shared.state();
        state.last += 1;
        let id = ConnectionId(state.last);
        if state.stopping {
            let _ = sender.send(Order::Close(SHUTDOWN.into()));
        }
        state.inboxes.insert(id, sender);
        drop(state);
        Self {
            id,
            shared,
            inbox,
            unsent: 0,
            blocked: false,
            patience: PATIENCE,
            bell: Arc::new(Notify::new()),
        }
    }

    /// Tells the vhost one thing, and does at once what it asks of this connection. A fault of ours costs this
    /// connection and no other. ERR-6
    fn tell(&mut self, core: &mut Core, what: impl FnOnce(&mut Vhost, ConnectionId)) {
        let mut state = self.shared.state();
        let told = catch_unwind(AssertUnwindSafe(|| what(&mut state.vhost, self.id)));
        if told.is_err() {
            let text = ReplyCode::INTERNAL_ERROR.name().to_owned();
            core.close(&CloseReason {
                code: ReplyCode::INTERNAL_ERROR,
                text,
                method: MethodId::NONE,
            });
        }
        state.dispatch();
        drop(state);
        while let Ok(order) = self.inbox.try_recv() {
            self.obey(core, order);
        }
    }

    fn obey(&mut self, core: &mut Core, order: Order) {
        let output = match order {
            Order::Output(output) => output,
            Order::Close(why) => {
                let forced = ReplyCode::CONNECTION_FORCED;
                return core.close(&CloseReason::new(forced, &why, MethodId::NONE));
            }
        };
        self.unsent += output.octets();
        match output {
            Output::Blocked(_) => self.blocked = true,
            Output::Unblocked => self.blocked = false,
            _ => {}
        }
        match output.tell(core) {
            Ok(()) => {}
            // CONTENT-15: it goes back to its queue, and the consumer learns why it cannot have it.
            Err(large) if large.code == ReplyCode::CONTENT_TOO_LARGE => {
                let _ = core.close_channel(large.channel, &CloseReason::from(&large));
            }
            Err(violation) => debug!(%violation, "not sent: the channel has closed in between"),
        }
    }
}

impl Application for Session {
    type Command = Order;

    fn poll_command(&mut self, context: &mut Context<'_>) -> Poll<Option<Order>> {
        self.inbox.poll_recv(context)
    }

    fn on_command(&mut self, core: &mut Core, order: Option<Order>) {
        if let Some(order) = order {
            self.obey(core, order);
        }
    }

    fn on_event(&mut self, core: &mut Core, event: Event) {
        match &event {
            Event::Opened(opened) => {
                if let Some(interval) = opened.tuning.heartbeat() {
                    self.patience = 2 * interval;
                }
            }
            Event::Closed(cause) => debug!(%cause, "over"),
            _ => {}
        }
        self.tell(core, |vhost, id| vhost.hear(id, event, now()));
    }

    /// A client that does not read its replies is not read either, nor is one that is blocked.
    fn has_room(&mut self, unsent: usize) -> bool {
        unsent < HIGH_WATER && !self.blocked
    }

    fn bell(&self) -> Arc<Notify> {
        self.bell.clone() // never rung: what makes room is a write or an order, which wake the driver anyway
    }

    /// The watch on its heartbeats pauses while a client that does not read is not read, so its silence tells nothing.
    fn patience(&self) -> Option<Duration> {
        Some(self.patience)
    }

    fn on_flushed(&mut self) {
        if self.unsent > 0 {
            let mut state = self.shared.state();
            let sent = std::mem::take(&mut self.unsent);
            state.vhost.sent(self.id, sent, now());
            state.dispatch();
        }
    }
}

/// However its task ended, nothing of the connection stays.
impl Drop for Session {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.vhost.disconnect(self.id, now());
        state.inboxes.remove(&self.id);
        state.dispatch();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_costs_its_connection_and_no_other() {
        // ERR-6
        let shared = Arc::new(Shared::new(BrokerOptions::default()));
        let other = Session::new(shared.clone());
        let mut session = Session::new(shared.clone());
        let mut core = Core::server(shared.options.server_config(true), now());
        session.tell(&mut core, |_, _| panic!("while the lock is held"));
        assert!(core.is_closing());
        drop(session);
        let left: Vec<_> = shared.state().inboxes.keys().copied().collect();
        assert_eq!(left, [other.id]);
        drop(other);
        assert!(shared.state().inboxes.is_empty());
    }
}
