//! AMQP 0-9-1 from the octets up.
pub mod codec;
pub mod protocol;
