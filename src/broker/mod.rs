//! # Part 5: the broker's brain, methods in and methods out
//!
//! ```text
//!  basic.publish ──► exchange ──binding──► queue ──turn──► consumer ──► basic.deliver
//!                    routes, keeps nothing  keeps, in order  takes what its prefetch allows
//! ```
//!
//! Everything in this part but `server` and `session` is pure: no socket, no clock, no thread. A
//! [`Vhost`](vhost::Vhost) is told what a connection asked for and at what time, and says what each connection has to
//! send because of it. So routing, turns, prefetch and requeueing are tested as transcripts, without a wait and without
//! a port.
//!
//! Where the published text and RabbitMQ differ, this broker does what RabbitMQ 3.10 does, down to the reply texts:
//! that is what existing clients were written against.
//!
//! Reading order: [`exchange`] and [`matching`] decide where a message goes; [`stored`], [`queue`] and [`consumers`]
//! keep it and choose who gets it, and [`death`] is what comes of those that are not kept; [`arguments`] and [`fault`]
//! say what is refused, [`account`] what everything costs, and [`names`] what the broker makes up; [`vhost`] is where
//! all of it meets the methods of the table; [`server`] and `session` put it on a socket.
//!
//! Read next: [`exchange`]. Explained in `docs/08-routing.md`; `docs/broker.md` has what it does like RabbitMQ.

pub mod account;
pub mod arguments;
pub mod consumers;
pub mod death;
pub mod exchange;
pub mod fault;
pub mod matching;
pub mod names;
pub mod queue;
pub mod server;
mod session;
pub mod stored;
pub mod vhost;

pub use self::{
    names::NameSource,
    queue::QueueStats,
    server::{Broker, BrokerOptions},
    vhost::VhostOptions,
};
