//! # The caller: who waits for a reply, and how it gets there
//!
//! ```text
//! request   reply-to="amq.gen-1"   correlation-id="7f3.."
//!                 │                       │ octet for octet (RPC-16)
//! reply     routing-key="amq.gen-1"   correlation-id="7f3.."   exchange=""   not mandatory
//! ```
//!
//! reply-to is the word of a stranger: it is a routing key for the default exchange, and never the name of an exchange
//! (RPC-19). A caller who is gone is no mistake of the server's, so the reply is not mandatory. It is confirmed, since
//! the request is acknowledged only when the broker has the reply.
//!
//! Read next: `outcome`. Explained in `docs/11-rpc.md`.

use tracing::warn;

use super::error_reply::{self, HandlerError};
use crate::{
    client::{Channel, Confirm, Confirmation, Error, Message},
    codec::{BasicPublish, ShortString},
};

/// Who waits for the reply to one request.
pub(super) struct Caller {
    channel: Channel,
    pub(super) reply_to: ShortString,
    correlation_id: Option<ShortString>,
}

impl Caller {
    /// Nobody, if there is no reply-to. RPC-17
    pub(super) fn of(request: &Message, channel: Channel) -> Option<Self> {
        let properties = &request.properties;
        Some(Self {
            channel,
            reply_to: properties.reply_to.clone()?,
            correlation_id: properties.correlation_id.clone(),
        })
    }

    /// Sends a reply and waits until the broker has taken it, for as long as the channel stands: a broker that blocks
    /// its publishers (BLOCK-2) holds up the reply, and with it the ack. What cannot be sent is replaced by an error.
    ///
    /// # Errors
    /// The channel or the connection is over; whether the reply has got through is unknown (CONF-8).
    pub(super) async fn reply(&self, reply: Message) -> Result<Confirm, Error> {
        let confirmation = match self.publish(reply).await {
            Err(Error::Refused(violation)) => {
                warn!(%violation, "a reply that cannot be sent");
                let error = HandlerError::new("reply-too-large", violation.to_string());
                self.publish(error_reply::write(error)).await?
            }
            sent => sent?,
        };
        confirmation.settled().await
    }

    /// To the default exchange and nowhere else, whatever the caller wrote into reply-to, and never mandatory: it may
    /// be gone, which is normal (RPC-16, RPC-19, DRT-7).
    async fn publish(&self, reply: Message) -> Result<Confirmation, Error> {
        let Message {
            mut properties,
            body,
        } = reply;
        properties.correlation_id = self.correlation_id.clone();
        // What the broker checks and nobody reads in a reply: a mistake of a handler would cost the channel.
        (properties.delivery_mode, properties.expiration) = (None, None);
        (properties.reply_to, properties.user_id) = (None, None);
        if let Some(headers) = &mut properties.headers {
            headers
                .0
                .retain(|(name, _)| *name != "CC" && *name != "BCC"); // more addresses: a reply has one
        }
        let routing_key = self.reply_to.clone();
        let publish = BasicPublish {
            routing_key,
            ..Default::default()
        };
        let reply = Message { properties, body };
        self.channel.publish_confirmed(publish, reply).await
    }
}
