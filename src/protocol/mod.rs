//! # Chapter 2: frames become events, and a conversation has an order
//!
//! ```text
//!            receive(octets)                      poll_event() -> Event
//!   socket ─────────────────> ┌──────────────┐ ─────────────────────────> whoever sits above:
//!            transmit(octets) │  Connection  │   send(channel, method)     a client or a broker
//!          <───────────────── └──────────────┘ <─────────────────────────
//!                               tick(now) / deadline()
//! ```
//!
//! This layer is pure as well: no socket, no clock, no task. Time is an argument, a timer is a question
//! ([`Connection::deadline`]), and both ends of the wire are the same type. That is what makes the tests read like
//! transcripts: two connections, joined in memory, and no waiting.
//!
//! **The contract.** Tell it the time, then change one thing, then drain everything, and only then change the next:
//!
//! ```
//! use amqp_rpc::protocol::{ClientConfig, Connection, Event, ServerConfig};
//! use bytes::BytesMut;
//! use std::time::Instant;
//!
//! let now = Instant::now();
//! let mut client = Connection::client(ClientConfig::default(), now);
//! let mut broker = Connection::server(ServerConfig::default(), now);
//! let (mut to_broker, mut to_client) = (BytesMut::new(), BytesMut::new());
//! for _ in 0..4 {
//!     client.transmit(&mut to_broker);
//!     while broker.receive(&mut to_broker) {}
//!     broker.transmit(&mut to_client);
//!     while client.receive(&mut to_client) {}
//! }
//! assert!(matches!(client.poll_event(), Some(Event::Opened(_))));
//! ```
//!
//! A rule that is broken, by the peer or by our own caller, is a [`Violation`]: a value with a blame, a reply code, a
//! scope and the method at fault. The scope decides what is lost, and nothing else is. Why a channel or a connection is
//! over is a [`Cause`], and a violation is only one of them.
//!
//! Reading order: the parts first, [`handshake`], [`sasl`], [`tuning`], `channel`, [`content`], [`ledger`] and `heartbeat`;
//! then [`connection`], which joins them; [`error`] is where to look up what can go wrong.

mod channel;
pub mod connection;
pub mod content;
pub mod error;
pub mod handshake;
mod heartbeat;
pub mod ledger;
pub mod sasl;
pub mod tuning;

pub(crate) use self::channel::Owed;
pub use self::{
    connection::{Connection, Event},
    content::Message,
    error::{Blame, Cause, CloseReason, Greeting, Violation},
    handshake::{BODY_LIMIT, ClientConfig, Opened, ServerConfig},
    ledger::Ledger,
    sasl::{Credentials, Mechanism},
    tuning::Tuning,
};
