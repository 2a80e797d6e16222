//! What a client has counted.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::error::RpcError;

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
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    begun: AtomicU64,
    answered: AtomicU64,
    unroutable: AtomicU64,
    refused: AtomicU64,
    timed_out: AtomicU64,
    remote_errors: AtomicU64,
    lost: AtomicU64,
    not_understood: AtomicU64,
    shut_down: AtomicU64,
    not_sent: AtomicU64,
    dropped: AtomicU64,
    resent: AtomicU64,
    late: AtomicU64,
    foreign: AtomicU64,
    reconnects: AtomicU64,
}

impl Counters {
    pub(super) fn late(&self) {
        self.late.fetch_add(1, Relaxed);
    }

    pub(super) fn foreign(&self) {
        self.foreign.fetch_add(1, Relaxed);
    }

    pub(super) fn reconnected(&self) {
        self.reconnects.fetch_add(1, Relaxed);
    }

    pub(super) fn resent(&self) {
        self.resent.fetch_add(1, Relaxed);
    }

    /// A call begins; what is returned hears how it ends, or that nobody waits any more.
    pub(super) fn begin(&self) -> Counted<'_> {
        self.begun.fetch_add(1, Relaxed);
        Counted {
            counters: self,
            ending: &self.dropped,
        }
    }

    pub(super) fn snapshot(&self) -> RpcStats {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        let mut stats = RpcStats {
            pending: 0,
            answered: read(&self.answered),
            unroutable: read(&self.unroutable),
            refused: read(&self.refused),
            timed_out: read(&self.timed_out),
            remote_errors: read(&self.remote_errors),
            lost: read(&self.lost),
            not_understood: read(&self.not_understood),
            shut_down: read(&self.shut_down),
            not_sent: read(&self.not_sent),
            dropped: read(&self.dropped),
            resent: read(&self.resent),
            late: read(&self.late),
            foreign: read(&self.foreign),
            reconnects: read(&self.reconnects),
        };
        stats.pending = read(&self.begun).saturating_sub(stats.ended());
        stats
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
    ending: &'a AtomicU64,
}

impl Counted<'_> {
    pub(super) fn end<T>(mut self, outcome: &Result<T, RpcError>) {
        let counters = self.counters;
        self.ending = match outcome {
            Ok(_) => &counters.answered,
            Err(RpcError::Unroutable { .. }) => &counters.unroutable,
            Err(RpcError::Refused { .. }) => &counters.refused,
            Err(RpcError::Timeout(_)) => &counters.timed_out,
            Err(RpcError::Remote { .. }) => &counters.remote_errors,
            Err(RpcError::ConnectionLost { .. } | RpcError::ChannelClosed { .. }) => &counters.lost,
            Err(RpcError::Decode(_)) => &counters.not_understood,
            Err(RpcError::ShutDown { .. }) => &counters.shut_down,
            Err(RpcError::NotSent(_)) => &counters.not_sent,
        };
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.ending.fetch_add(1, Relaxed);
    }
}
