//! # The monitor: what a server has done, and how it is
//!
//! ```text
//! served + failed + refused + timed_out + panicked + poisoned      answered, with a result or an error
//! unanswerable + expired + abandoned                               not answered: nobody waited
//! health: connection, channel, consumer                            all three, or no request will come
//! ```
//!
//! A look asks the broker nothing and keeps nothing open, so a health check may look as often as it likes, and after
//! the end too.
//!
//! Read next: `meters`. Explained in `docs/rpc.md`.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use super::{
    meters::{Counter, Gauge},
    reconnect::ConnectionState,
    server::RpcServer,
};
use crate::client::{Error, Vitals};

/// A view of one server, before and while it serves, and after. Cheap to clone; it keeps nothing open.
#[derive(Debug, Clone)]
pub struct ServerMonitor(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    counters: Counters,
    vitals: Mutex<Vitals>,
    state: watch::Sender<ConnectionState>,
}

impl RpcServer {
    /// A view of it that can be kept while it serves.
    pub fn monitor(&self) -> ServerMonitor {
        self.requests.monitor().clone()
    }

    /// How it is now: connection, channel, consumer, and when the broker was last heard.
    pub fn health(&self) -> Health {
        self.requests.monitor().health()
    }
}

/// What a server has done since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ServerStats {
    /// Requests that were answered with a result.
    pub served: u64,
    /// Requests that a handler answered with an error.
    pub failed: u64,
    /// Requests outside of the [`Bounds`](super::Bounds), answered with an error.
    pub refused: u64,
    /// Requests that took longer than the work limit, answered with an error.
    pub timed_out: u64,
    /// Requests whose handler panicked, answered with an error and rejected.
    pub panicked: u64,
    /// Requests that came back too often, answered with an error and rejected.
    pub poisoned: u64,
    /// Requests without reply-to, or with one that costs the connection, rejected.
    pub unanswerable: u64,
    /// Requests that nobody waited for any more when they were to be begun, dropped.
    pub expired: u64,
    /// Requests whose caller stopped waiting while the handler ran, dropped with it.
    pub abandoned: u64,
    /// Requests that had been delivered before, whatever became of them.
    pub redelivered: u64,
    /// Replies that the broker refused (`basic.nack`). Their callers hear nothing.
    pub replies_refused: u64,
    /// Requests that were given back, or cut off, by a server that stopped.
    pub given_back: u64,
    /// Subscriptions that took the place of a lost one.
    pub resubscribed: u64,
    /// Requests that had the reply of an earlier one, from the [`ReplyCache`](super::ReplyCache). They are counted as
    /// `served` or `failed` too.
    pub replayed: u64,
    /// Handlers that run now.
    pub running: u64,
}

/// How a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// The connection is open.
    pub connection: bool,
    /// So is the channel.
    pub channel: bool,
    /// The broker has the consumer, and will send it what comes.
    pub consumer: bool,
    /// How long nothing has been heard from the broker; any octet counts. With heartbeats every `h` seconds, more than
    /// `h` means trouble, and at `2h` the connection is over. HB-3
    pub last_heard: Duration,
}

impl Health {
    /// Requests that come will be taken.
    pub fn is_serving(&self) -> bool {
        self.connection && self.channel && self.consumer
    }
}

impl ServerMonitor {
    pub(super) fn new(vitals: Vitals) -> Self {
        Self(Arc::new(Inner {
            counters: Counters::default(),
            vitals: Mutex::new(vitals),
            state: watch::Sender::new(ConnectionState::Connected),
        }))
    }

    /// What it has done so far.
    pub fn stats(&self) -> ServerStats {
        self.0.counters.snapshot()
    }

    /// How it is now. It asks the broker nothing, so it may be called as often as one likes.
    pub fn health(&self) -> Health {
        let vitals = self.0.vitals.lock().unwrap_or_else(PoisonError::into_inner);
        Health {
            connection: vitals.connection(),
            channel: vitals.channel(),
            consumer: vitals.consumer(),
            last_heard: vitals.silence(),
        }
    }

    /// Whether it is subscribed, and if not, why not and how often it has tried. After a `ConsumerCancelled` the
    /// connection stands, and the queue is declared again. Closed once it has stopped.
    pub fn state(&self) -> watch::Receiver<ConnectionState> {
        self.0.state.subscribe()
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.0.counters
    }

    pub(super) fn trying(&self, attempt: u32, cause: Error) {
        let state = ConnectionState::Reconnecting { attempt, cause };
        self.0.state.send_replace(state);
    }

    pub(super) fn subscribed(&self, vitals: Vitals) {
        *self.0.vitals.lock().unwrap_or_else(PoisonError::into_inner) = vitals;
        self.counters().resubscribed.add();
        self.0.state.send_replace(ConnectionState::Connected);
    }

    /// The first cause stays.
    pub(super) fn over(&self, cause: Error) {
        self.0.state.send_if_modified(|state| {
            let goes_on = !matches!(state, ConnectionState::Closed(_));
            if goes_on {
                *state = ConnectionState::Closed(cause);
            }
            goes_on
        });
    }
}

/// The numbers behind [`ServerStats`], under the same names.
#[derive(Debug)]
pub(super) struct Counters {
    pub(super) served: Counter,
    pub(super) failed: Counter,
    pub(super) refused: Counter,
    pub(super) timed_out: Counter,
    pub(super) panicked: Counter,
    pub(super) poisoned: Counter,
    pub(super) unanswerable: Counter,
    pub(super) expired: Counter,
    pub(super) abandoned: Counter,
    pub(super) redelivered: Counter,
    pub(super) replies_refused: Counter,
    pub(super) given_back: Counter,
    pub(super) resubscribed: Counter,
    pub(super) replayed: Counter,
    pub(super) running: Gauge,
}

impl Default for Counters {
    fn default() -> Self {
        let ended = |outcome| Counter::ended("amqp_rpc_server_requests_total", outcome);
        Self {
            served: ended("served"),
            failed: ended("failed"),
            refused: ended("refused"),
            timed_out: ended("timed_out"),
            panicked: ended("panicked"),
            poisoned: ended("poisoned"),
            unanswerable: ended("unanswerable"),
            expired: ended("expired"),
            abandoned: ended("abandoned"),
            redelivered: Counter::new("amqp_rpc_server_redelivered_total"),
            replies_refused: Counter::new("amqp_rpc_server_replies_refused_total"),
            given_back: Counter::new("amqp_rpc_server_given_back_total"),
            resubscribed: Counter::new("amqp_rpc_server_resubscribed_total"),
            replayed: Counter::new("amqp_rpc_server_replayed_total"),
            running: Gauge::new("amqp_rpc_server_running_requests"),
        }
    }
}

impl Counters {
    /// A handler has answered.
    pub(super) fn answered(&self, with_a_result: bool) {
        let counter = if with_a_result {
            &self.served
        } else {
            &self.failed
        };
        counter.add();
    }

    fn snapshot(&self) -> ServerStats {
        ServerStats {
            served: self.served.get(),
            failed: self.failed.get(),
            refused: self.refused.get(),
            timed_out: self.timed_out.get(),
            panicked: self.panicked.get(),
            poisoned: self.poisoned.get(),
            unanswerable: self.unanswerable.get(),
            expired: self.expired.get(),
            abandoned: self.abandoned.get(),
            redelivered: self.redelivered.get(),
            replies_refused: self.replies_refused.get(),
            given_back: self.given_back.get(),
            resubscribed: self.resubscribed.get(),
            replayed: self.replayed.get(),
            running: self.running.get(),
        }
    }
}
