//! # Forwarding: what a broker hands on as it came
//!
//! ```text
//! publisher   [publish] [header] [body] [body]
//!                           └─▶ written once, when the message is taken in
//! consumers   [deliver] [header] [body] [body] [body]     the same octets for each of them; the body is cut anew
//! ```
//!
//! A broker may change next to nothing of a message (PROP-16), so its header need not be a value any more on the way
//! out. How long a frame may be is another thing with each receiver: bodies are cut to that, and a header that does not
//! fit is refused, for it is never split (CONTENT-15).
//!
//! Read next: `closing`. Explained in `docs/06-content.md`.

use tracing::trace;

use super::{
    super::{content::bodies, error::Violation},
    Connection,
};
use crate::codec::{
    ChannelId, Method,
    frame::{encode_body, encode_header_payload},
};

impl Connection {
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
