//! AMQP 0-9-1 from the octets up.
pub mod broker;
pub mod client;
pub mod codec;
mod driver;
pub mod protocol;
pub mod rpc;
