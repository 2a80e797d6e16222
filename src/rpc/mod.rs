//! # Chapter 6: RPC, tutorial six on the client alone
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
//!    │ match the id                │◀───────────────────────── ack ┤ only now: RPC-14
//! ```
//!
//! A remote call is not a local one. It may find nobody, come too late, be done twice, or be done while its caller
//! never hears of it; [`RpcError`] says which, and no call waits for ever.
//!
//! Reading order: [`client`] and [`server`] are the lesson. Then what they stand on: [`call`], `pending`, `replies`,
//! [`queue`], [`deadline`], [`error`], [`no_reply`]. Last what production adds: [`reconnect`], `keeper`, [`stats`].

pub mod call;
pub mod client;
pub mod deadline;
pub mod error;
mod keeper;
pub mod no_reply;
mod pending;
pub mod queue;
pub mod reconnect;
mod replies;
pub mod server;
pub mod stats;

pub use self::{
    call::{CallOptions, ReplyMode, RpcClientOptions},
    client::RpcClient,
    deadline::Deadline,
    error::{HandlerError, RpcError},
    no_reply::{NoReply, Servers},
    queue::QueueType,
    reconnect::ConnectionState,
    server::{Request, RpcServer, RpcServerOptions},
    stats::RpcStats,
};

/// `type` of a reply that reports an error; its body is the message and its header [`ERROR_KIND`] the kind. A reply
/// without it is a result, as in tutorial six. RPC-18
pub const ERROR_TYPE: &str = "error";

/// The header that names the kind of an error.
pub const ERROR_KIND: &str = "error-kind";
