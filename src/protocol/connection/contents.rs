//! # Contents out: a method, a header and bodies as one unit
//!
//! ```text
//! publisher   [publish] [header] [body] [body]
//!                           └─▶ written once, when the message is taken in
//! consumers   [deliver] [header] [body] [body] [body]     the same octets for each of them; the body is cut anew
//! ```
//!
//! Nothing of the channel comes between them (CONTENT-13). A client encodes the header of what it publishes. A broker may
//! change next to nothing of a message (PROP-16), so there the header need not be a value any more on the way out. How
//! long a frame may be is another thing with each receiver: bodies are cut to that, and a header that does not fit is
//! refused, for it is never split (CONTENT-15).
//!
//! Read next: `closing`. Explained in `docs/06-content.md`.

use tracing::trace;

use super::{
    super::{content::bodies, error::Violation},
    Connection,
};
use crate::codec::{
    BASIC_CLASS, ChannelId, ContentHeader, Method, Properties,
    frame::{encode_body, encode_header, encode_header_payload, encode_method},
};

impl Connection {
    /// Sends a method, its content header and its bodies as one unit: nothing of the channel comes between. CONTENT-13
    ///
    /// # Errors
    /// As for [`send`](Self::send), and 311 when the properties do not fit a frame, which is never split (CONTENT-15).
    pub fn send_content(
        &mut self,
        channel: ChannelId,
        method: impl Into<Method>,
        properties: impl Into<Box<Properties>>,
        body: &[u8],
    ) -> Result<(), Violation> {
        let method = method.into();
        self.sendable(channel, &method, true)?;
        let body_size = u64::try_from(body.len()).unwrap_or(u64::MAX);
        let header = ContentHeader {
            class_id: BASIC_CLASS,
            body_size,
            properties: properties.into(),
        };
        let before = self.outbound.len();
        encode_method(channel, &method, &mut self.outbound);
        let size = encode_header(channel, &header, &mut self.outbound);
        // The header shows its size when it is written; one that does not fit takes its method back with it.
        let fits = self.tuning.fit_header(channel, method.id(), size);
        fits.inspect_err(|_| self.outbound.truncate(before))?;
        trace!(%channel, %method, "sent");
        trace!(%channel, size = header.body_size, properties = %header.properties, "sent a header");
        for octets in bodies(body, self.tuning.body_limit()) {
            encode_body(channel, octets, &mut self.outbound);
        }
        Ok(())
    }

    /// Sends a method, the payload of a content header as it is, and the bodies. CONTENT-13, PROP-11
    ///
    /// # Errors
    /// As for [`send_content`](Self::send_content).
    pub fn forward(
        &mut self,
        channel: ChannelId,
        method: impl Into<Method>,
        header: &[u8],
        body: &[u8],
    ) -> Result<(), Violation> {
        let method = method.into();
        self.sendable(channel, &method, true)?;
        self.tuning.fit_header(channel, method.id(), header.len())?;
        self.say(channel, &method);
        trace!(%channel, size = body.len(), header = %header.escape_ascii(), "sent a header");
        encode_header_payload(channel, header, &mut self.outbound);
        for octets in bodies(body, self.tuning.body_limit()) {
            encode_body(channel, octets, &mut self.outbound);
        }
        Ok(())
    }
}
