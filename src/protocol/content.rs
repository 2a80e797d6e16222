//! placeholder
use crate::codec::Properties;
use bytes::Bytes;

/// What a method carries: fourteen optional properties and a body.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Message {
    /// The properties, `headers` among them.
    pub properties: Properties,
    /// The octets, of which AMQP asks nothing.
    pub body: Bytes,
}
