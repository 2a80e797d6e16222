//! AMQP 0-9-1 from the octets up.
pub mod broker;
#[cfg(feature = "cli")]
pub mod cli;
pub mod client;
pub mod codec;
mod driver;
pub mod protocol;
pub mod rpc;
