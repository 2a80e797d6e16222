//! # Part 2: frames become events, and a conversation has an order
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
//! **The contract.** Tell it the time, change one thing, drain everything, and only then change the next:
//!
//! ```
//! use amqp_rpc::protocol::{ClientConfig, Connection, Event, ServerConfig};
//! use bytes::BytesMut;
//! use std::{iter, time::Instant};
//!
//! fn hear(core: &mut Connection, now: Instant, arrived: &mut BytesMut, said: &mut BytesMut) -> Vec<Event> {
//!     let mut happened = Vec::new();
//!     core.tick(now);
//!     loop {
//!         let was_a_frame = core.receive(arrived); // one thing
//!         happened.extend(iter::from_fn(|| core.poll_event())); // and everything that came of it
//!         core.transmit(said);
//!         if !was_a_frame {
//!             return happened;
//!         }
//!     }
//! }
//!
//! let now = Instant::now();
//! let mut client = Connection::client(ClientConfig::default(), now);
//! let mut broker = Connection::server(ServerConfig::default(), now);
//! let (mut to_broker, mut to_client) = (BytesMut::new(), BytesMut::new());
//! for _ in 0..4 {
//!     let events = hear(&mut client, now, &mut to_client, &mut to_broker);
//!     assert!(events.is_empty() || matches!(events[..], [Event::Opened(_)]));
//!     hear(&mut broker, now, &mut to_broker, &mut to_client);
//! }
//! assert!(client.is_open());
//! ```
//!
//! A rule that is broken, by the peer or by our own caller, is a [`Violation`]: a value with a blame, a reply code, a
//! scope and the method at fault. The scope decides what is lost, and nothing else is. Why a channel or a connection is
//! over is a [`Cause`], and a violation is only one of them.
//!
//! Reading order: the parts first, [`handshake`], [`sasl`], [`tuning`], `channel`, [`content`], [`ledger`] and
//! `heartbeat`; then [`connection`], which joins them; [`error`] is where to look up what can go wrong.
//!
//! Read next: [`handshake`]. Explained in `docs/12-inside.md`.

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
