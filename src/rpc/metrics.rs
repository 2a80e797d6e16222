//! # Metrics: what is counted, for any recorder of the facade
//!
//! Whatever recorder of [`metrics`](https://docs.rs/metrics) the application installs hears of all this, be it one for
//! Prometheus or its own.
//!
//! | name | kind | labels | what |
//! |---|---|---|---|
//! | `amqp_rpc_client_calls_total` | counter | `outcome` | calls that ended: `answered`, `unroutable`, `refused`, `timeout`, `remote error`, `connection lost`, `channel closed`, `not understood`, `shut down`, `not sent` or `dropped` |
//! | `amqp_rpc_client_pending_calls` | gauge | | calls that wait for their reply |
//! | `amqp_rpc_client_latency_seconds` | histogram | | how long calls took that a server answered |
//! | `amqp_rpc_client_late_replies_total` | counter | | replies that no call waited for |
//! | `amqp_rpc_client_foreign_replies_total` | counter | | replies to another address, or without an id |
//! | `amqp_rpc_client_resent_total` | counter | | requests that were sent again |
//! | `amqp_rpc_client_reconnects_total` | counter | | connections and channels that took the place of a lost one |
//! | `amqp_rpc_server_requests_total` | counter | `outcome` | requests that a server is done with: `served`, `failed`, `refused`, `timed_out`, `panicked`, `poisoned`, `unanswerable`, `expired` or `abandoned`, as in [`ServerStats`](super::ServerStats) |
//! | `amqp_rpc_server_running_requests` | gauge | | handlers that run |
//! | `amqp_rpc_server_redelivered_total` | counter | | requests that had been delivered before |
//! | `amqp_rpc_server_replayed_total` | counter | | requests that had the reply of an earlier one |
//! | `amqp_rpc_server_replies_refused_total` | counter | | replies that the broker refused |
//! | `amqp_rpc_server_given_back_total` | counter | | requests that a stopping server gave back |
//! | `amqp_rpc_server_resubscribed_total` | counter | | subscriptions that took the place of a lost one |
//!
//! All clients of a process count together, and all servers; [`RpcClient::stats`](super::RpcClient::stats) and
//! [`ServerMonitor::stats`](super::ServerMonitor::stats) have each by itself. The `outcome` of a call that failed is
//! what [`RpcError::outcome`](super::RpcError::outcome) says. The recorder is asked for at each event, so it may be
//! installed at any time; as long as there is none, an event costs nanoseconds.
//!
//! Read next: [`trace`](super::trace). Explained in `docs/rpc.md`.

use std::time::Duration;

use ::metrics::{Key, KeyName, Label, Level, Metadata, Unit, with_recorder};

static METADATA: Metadata<'static> =
    Metadata::new(module_path!(), Level::INFO, Some(module_path!()));

/// The rows of the table, in this order: name, kind, unit, what.
#[rustfmt::skip] // a table
const ROWS: &[(&str, Kind, Unit, &str)] = &[
    ("amqp_rpc_client_calls_total",           Kind::Counter,   Unit::Count,   "calls that ended, by outcome"),
    ("amqp_rpc_client_pending_calls",         Kind::Gauge,     Unit::Count,   "calls that wait for their reply"),
    ("amqp_rpc_client_latency_seconds",       Kind::Histogram, Unit::Seconds, "how long calls took that a server answered"),
    ("amqp_rpc_client_late_replies_total",    Kind::Counter,   Unit::Count,   "replies that no call waited for"),
    ("amqp_rpc_client_foreign_replies_total", Kind::Counter,   Unit::Count,   "replies to another address, or without an id"),
    ("amqp_rpc_client_resent_total",          Kind::Counter,   Unit::Count,   "requests that were sent again"),
    ("amqp_rpc_client_reconnects_total",      Kind::Counter,   Unit::Count,   "connections and channels that took the place of a lost one"),
    ("amqp_rpc_server_requests_total",        Kind::Counter,   Unit::Count,   "requests that a server is done with, by outcome"),
    ("amqp_rpc_server_running_requests",      Kind::Gauge,     Unit::Count,   "handlers that run"),
    ("amqp_rpc_server_redelivered_total",     Kind::Counter,   Unit::Count,   "requests that had been delivered before"),
    ("amqp_rpc_server_replayed_total",        Kind::Counter,   Unit::Count,   "requests that had the reply of an earlier one"),
    ("amqp_rpc_server_replies_refused_total", Kind::Counter,   Unit::Count,   "replies that the broker refused"),
    ("amqp_rpc_server_given_back_total",      Kind::Counter,   Unit::Count,   "requests that a stopping server gave back"),
    ("amqp_rpc_server_resubscribed_total",    Kind::Counter,   Unit::Count,   "subscriptions that took the place of a lost one"),
];

enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// Tells the recorder units and descriptions, which an exporter may show. Call it once, behind the recorder's
/// installation.
pub fn describe() {
    for (name, kind, unit, what) in ROWS {
        let (name, unit, what) = (KeyName::from_const_str(name), Some(*unit), (*what).into());
        with_recorder(|recorder| match kind {
            Kind::Counter => recorder.describe_counter(name, unit, what),
            Kind::Gauge => recorder.describe_gauge(name, unit, what),
            Kind::Histogram => recorder.describe_histogram(name, unit, what),
        });
    }
}

/// One row of the table, and its label.
#[derive(Debug)]
pub(super) struct Metric(Key);

impl Metric {
    pub(super) fn new(name: &'static str, outcome: Option<&'static str>) -> Self {
        let label = outcome.map(|outcome| Label::from_static_parts("outcome", outcome));
        Self(Key::from_parts(name, label.into_iter().collect::<Vec<_>>()))
    }

    pub(super) fn count(&self) {
        with_recorder(|recorder| recorder.register_counter(&self.0, &METADATA).increment(1));
    }

    /// Up and down by one, so that all clients of a process add up.
    pub(super) fn up(&self) {
        with_recorder(|recorder| recorder.register_gauge(&self.0, &METADATA).increment(1));
    }

    pub(super) fn down(&self) {
        with_recorder(|recorder| recorder.register_gauge(&self.0, &METADATA).decrement(1));
    }

    pub(super) fn took(&self, time: Duration) {
        with_recorder(|recorder| recorder.register_histogram(&self.0, &METADATA).record(time));
    }
}
