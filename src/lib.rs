//! AMQP 0-9-1 from the octets up: a codec, a protocol core, a client, a small broker, and on top of them the RPC
//! pattern of RabbitMQ's tutorial six. It is written to be read, and to be used.
//!
//! # The one sentence
//!
//! **Bytes become frames, frames become methods and content, methods move a state machine, the machine emits events,
//! a user sees events**, and each arrow is a module that can be read alone:
//!
//! ```text
//!             rpc        call("rpc_queue", "30") → "832040"                    part 6
//!              │
//!            client      Connection, Channel, Consumer      broker             parts 4 and 5
//!              │                                              │
//!            driver      the one loop that touches a socket   │                part 3
//!              └──────────────────────┬───────────────────────┘
//!            protocol    Connection: receive, send, tick; pure                 part 2
//!              │
//!            codec       octets ⇄ frames ⇄ methods; pure                       part 1
//! ```
//!
//! # Words
//!
//! An **octet** is a byte; the grammar says octet, so this crate does. A **frame** is an envelope with a type, a channel
//! number and a length. A **method** is one request or reply, such as `queue.declare`, with its arguments. A **content**
//! is a message as it travels: a header with its size and properties, then its body in any number of frames. A
//! **channel** is one of many numbered lanes in one connection; number 0 is the connection itself. The **peer** is the
//! other side, whichever we are.
//!
//! An id in a comment, as `FRAME-6`, is a rule of the protocol: `docs/rules.md` has each with its evidence.
//!
//! # Reading order
//!
//! 1. [`codec`]: the frame, the bits, the field table, the table of all 64 methods, the fourteen properties.
//! 2. [`protocol`]: the handshake, channels, content, heartbeats, closing; both ends of the wire in one type.
//! 3. `driver.rs`: where octets meet a socket.
//! 4. [`client`]: what one can ask of a broker, and who waits for what.
//! 5. [`broker`]: exchanges, queues and turns, in memory; start it inside a test with [`broker::Broker::start`].
//! 6. [`rpc`]: tutorial six, with an answer to every question it leaves open.
//!
//! Read next: part 1, [`codec`]; each module ends with the name of the one after it. What the modules do is
//! explained in the chapters of `docs/`, and `docs/12-inside.md` leads from one to the other.
//!
//! # In ten lines
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use amqp_rpc::{broker::Broker, client::Connection, rpc::{Request, RpcClient, RpcServer}};
//!
//! let broker = Broker::start().await?; // or RabbitMQ, by its URL
//! let connection = Connection::open(&broker.uri()).await?;
//!
//! let server = RpcServer::new(&connection, "echo").await?;
//! tokio::spawn(server.serve(|request: Request| async move { Ok(request.body) }, std::future::pending()));
//!
//! let rpc = RpcClient::new(&connection).await?;
//! let reply = rpc.call("echo", "hello").await?; // within 5 s, or an error that says why
//! assert_eq!(reply.body, "hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Features
//!
//! `cli` (default) builds the four programs and is not needed by the library; `stream` makes [`client::Consumer`] a
//! `Stream`; `proptest` brings generators for every wire type. Of [`rpc`], `serde` adds typed calls and handlers
//! (`rpc::typed`), `tower` makes a client a `tower::Service` and such a service a handler (`rpc::service`), and `metrics`
//! tells what is counted to any recorder of that facade (`rpc::metrics`).

pub mod broker;
#[cfg(feature = "cli")]
pub mod cli;
pub mod client;
pub mod codec;
mod driver;
pub mod protocol;
pub mod rpc;

/// The listings of the README, compiled and run by `cargo test --doc`.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;

/// Those of the page about RPC.
#[cfg(all(doctest, feature = "serde"))]
#[doc = include_str!("../docs/rpc.md")]
struct RpcDoctests;

/// Those of the chapters.
#[cfg(doctest)]
#[doc = include_str!("../docs/12-inside.md")]
struct InsideDoctests;

#[cfg(doctest)]
#[doc = include_str!("../docs/23-testing.md")]
struct TestingDoctests;
