//! # Part 6: RPC, tutorial six on the client alone
//!
//! ```text
//!  client                        broker                          server
//!    │ publish "" → rpc_queue      │                               │
//!    │   reply-to=amq.gen-1        │                               │
//!    │   correlation-id=7f3…       │  deliver                      │
//!    ├────────────────────────────▶├──────────────────────────────▶│ work
//!    │                             │  publish "" → amq.gen-1       │
//!    │  deliver                    │    correlation-id=7f3…        │
//!    │◀────────────────────────────┤◀──────────────────────────────┤
//!    │ match the id                │ ack ─────────────────────────▶│ the broker has the reply
//!    │                             │◀───────────────────────── ack ┤ only now: RPC-14
//! ```
//!
//! A remote call is not a local one. It may find nobody, come too late, be done twice, or be done while its caller
//! never hears of it; [`RpcError`] says which, and no call waits for ever.
//!
//! Reading order: [`client`] and [`server`] are the lesson. Then what they stand on: [`call`], `pending`, `replies`,
//! [`request`], `caller`, `outcome`, [`queue`], [`deadline`], [`error`], [`error_reply`], [`no_reply`]. Last what
//! production adds: [`reconnect`], `keeper`, [`stats`] for the client; [`server_options`], `requests`, [`bounds`],
//! `poison`, `caught`, `dead_ends`, `drain`, [`monitor`] for the server; `meters`, `metrics`, [`trace`], [`cache`],
//! `typed`, `service` for both.
//!
//! Read next: [`client`]. Explained in `docs/11-rpc.md`; `docs/rpc.md` tells it from outside.

pub mod bounds;
pub mod cache;
pub mod call;
mod caller;
mod caught;
pub mod client;
mod dead_ends;
pub mod deadline;
mod drain;
pub mod error;
pub mod error_reply;
mod keeper;
mod meters;
#[cfg(feature = "metrics")]
pub mod metrics;
pub mod monitor;
pub mod no_reply;
mod outcome;
mod pending;
mod poison;
pub mod queue;
pub mod reconnect;
mod replies;
pub mod request;
mod requests;
pub mod server;
pub mod server_options;
#[cfg(feature = "tower")]
pub mod service;
pub mod stats;
pub mod trace;
#[cfg(feature = "serde")]
pub mod typed;

pub use self::{
    bounds::Bounds,
    cache::ReplyCache,
    call::{CallOptions, ReplyMode, RpcClientOptions},
    client::RpcClient,
    deadline::Deadline,
    error::RpcError,
    error_reply::{ERROR_KIND, ERROR_TYPE, HandlerError, LAYER, UNAVAILABLE},
    meters::Latency,
    monitor::{Health, ServerMonitor, ServerStats},
    no_reply::{NoReply, Servers},
    queue::{DeadLetters, QueueType},
    reconnect::ConnectionState,
    request::Request,
    server::RpcServer,
    server_options::RpcServerOptions,
    stats::RpcStats,
    trace::{Propagator, TraceContext},
};
