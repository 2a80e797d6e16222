//! # Counted: every call that ended, by its outcome
//!
//! ```text
//! begin ──▶ pending ──┬──▶ end(outcome) ──▶ answered, unroutable, refused, timed_out, ..    exactly one of them
//!                     └──▶ the future is dropped ──▶ dropped
//! late, foreign: replies, and not calls
//! ```
//!
//! A call is counted by a value that goes with its future, so the sum is right whatever happens to the future: the
//! calls begun are those that are pending and those that ended.
//!
//! Read next: [`server_options`](super::server_options). Explained in `docs/rpc.md`.

use tokio::time::Instant;

use super::{
    error::RpcError,
    meters::{Counter, During, Gauge, Latencies, Latency},
};

/// What a client has counted since it was made: every call that ended is in one of the numbers, also one whose future was
/// dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RpcStats {
    /// Calls that wait for their reply now.
    pub pending: u64,
    /// Calls with a result.
    pub answered: u64,
    /// Calls that no queue took.
    pub unroutable: u64,
    /// Calls that the broker refused.
    pub refused: u64,
    /// Calls without a reply in time.
    pub timed_out: u64,
    /// Calls that the server answered with an error.
    pub remote_errors: u64,
    /// Calls whose connection or channel was lost.
    pub lost: u64,
    /// Calls whose reply was not understood.
    pub not_understood: u64,
    /// Calls that the end of the client has ended.
    pub shut_down: u64,
    /// Calls that could not be sent as they were.
    pub not_sent: u64,
    /// Calls whose future was dropped.
    pub dropped: u64,
    /// Requests that were sent again.
    pub resent: u64,
    /// Replies that no call waited for: they came late, or twice. They are dropped (RPC-4, RPC-6).
    pub late: u64,
    /// Replies to another address than ours, or without an id. They are dropped (RPC-4).
    pub foreign: u64,
    /// Connections and channels that took the place of a lost one.
    pub reconnects: u64,
    /// How long the calls took that a server answered.
    pub latency: Latency,
}

/// The numbers behind [`RpcStats`], under the same names. How calls end is counted by [`Counted`] alone.
#[derive(Debug)]
pub(super) struct Counters {
    pending: Gauge,
    answered: Counter,
    unroutable: Counter,
    refused: Counter,
    timed_out: Counter,
    remote_errors: Counter,
    connection_lost: Counter,
    channel_closed: Counter,
    not_understood: Counter,
    shut_down: Counter,
    not_sent: Counter,
    dropped: Counter,
    pub(super) resent: Counter,
    pub(super) late: Counter,
    pub(super) foreign: Counter,
    pub(super) reconnects: Counter,
    latency: Latencies,
}

impl Default for Counters {
    fn default() -> Self {
        let ended = |outcome| Counter::ended("amqp_rpc_client_calls_total", outcome);
        Self {
            pending: Gauge::new("amqp_rpc_client_pending_calls"),
            answered: ended("answered"),
            unroutable: ended("unroutable"),
            refused: ended("refused"),
            timed_out: ended("timeout"),
            remote_errors: ended("remote error"),
            connection_lost: ended("connection lost"),
            channel_closed: ended("channel closed"),
            not_understood: ended("not understood"),
            shut_down: ended("shut down"),
            not_sent: ended("not sent"),
            dropped: ended("dropped"),
            resent: Counter::new("amqp_rpc_client_resent_total"),
            late: Counter::new("amqp_rpc_client_late_replies_total"),
            foreign: Counter::new("amqp_rpc_client_foreign_replies_total"),
            reconnects: Counter::new("amqp_rpc_client_reconnects_total"),
            latency: Latencies::new("amqp_rpc_client_latency_seconds"),
        }
    }
}

impl Counters {
    /// A call begins; what is returned hears how it ends, or that nobody waits any more.
    pub(super) fn begin(&self) -> Counted<'_> {
        Counted {
            counters: self,
            ending: &self.dropped,
            started: Instant::now(),
            _pending: self.pending.during(),
        }
    }

    pub(super) fn snapshot(&self) -> RpcStats {
        RpcStats {
            pending: self.pending.get(),
            answered: self.answered.get(),
            unroutable: self.unroutable.get(),
            refused: self.refused.get(),
            timed_out: self.timed_out.get(),
            remote_errors: self.remote_errors.get(),
            lost: self.connection_lost.get() + self.channel_closed.get(),
            not_understood: self.not_understood.get(),
            shut_down: self.shut_down.get(),
            not_sent: self.not_sent.get(),
            dropped: self.dropped.get(),
            resent: self.resent.get(),
            late: self.late.get(),
            foreign: self.foreign.get(),
            reconnects: self.reconnects.get(),
            latency: self.latency.snapshot(),
        }
    }
}

impl RpcStats {
    /// Calls that are over, in whatever way.
    pub fn ended(&self) -> u64 {
        let failed =
            self.unroutable + self.refused + self.timed_out + self.remote_errors + self.lost;
        let left = self.not_understood + self.shut_down + self.not_sent + self.dropped;
        self.answered + failed + left
    }
}

/// A call that will be counted when it ends.
pub(super) struct Counted<'a> {
    counters: &'a Counters,
    ending: &'a Counter,
    pub(super) started: Instant,
    _pending: During<'a>,
}

impl Counted<'_> {
    pub(super) fn end<T>(mut self, outcome: &Result<T, RpcError>) {
        let counters = self.counters;
        if let Ok(_) | Err(RpcError::Remote { .. } | RpcError::Decode(_)) = outcome {
            counters.latency.took(self.started.elapsed());
        }
        self.ending = match outcome {
            Ok(_) => &counters.answered,
            Err(RpcError::Unroutable { .. }) => &counters.unroutable,
            Err(RpcError::Refused { .. }) => &counters.refused,
            Err(RpcError::Timeout(_)) => &counters.timed_out,
            Err(RpcError::Remote { .. }) => &counters.remote_errors,
            Err(RpcError::ConnectionLost { .. }) => &counters.connection_lost,
            Err(RpcError::ChannelClosed { .. }) => &counters.channel_closed,
            Err(RpcError::Decode(_)) => &counters.not_understood,
            Err(RpcError::ShutDown { .. }) => &counters.shut_down,
            Err(RpcError::NotSent(_) | RpcError::Encode(_)) => &counters.not_sent,
        };
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.ending.add();
    }
}
