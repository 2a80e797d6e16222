//! # Receiving: a frame finds its channel, a method its meaning, and a broken rule its close
//!
//! ```text
//! frame ─┬─ before open ──▶ handshake ─────────────────▶ the next state, and what to answer
//!        ├─ channel 0 ────▶ control ───────────────────▶ close, close-ok, blocked, heartbeat
//!        └─ channel n ────▶ lane ──▶ Assembler ─┬─ method ───▶ answer ──▶ Event::Reply, Event::Method
//!                                               └─ content ──▶ Event::Content
//! any of them: a broken rule ──▶ violated (closing.rs)
//! ```
//!
//! The order of the questions decides which mistake is found. A channel asks its `Assembler` before it asks what a
//! method means: in the middle of a content even the right method is wrong, and 505 (CONTENT-7). A channel that is
//! closing still asks it, and throws the result away (CHAN-8).
//!
//! Read next: `contents`. Explained in `docs/05-channels.md`, and `docs/09-errors-and-closing.md`.

use bytes::BytesMut;
use tracing::trace;

use super::{
    super::{
        channel::{Answer, Channel, Stage as ChannelStage},
        content::{Assembled, Held, Message},
        error::{Cause, Violation},
    },
    Connection, Event, Stage,
};
use crate::codec::{
    BadFrame, BasicPublish, ChannelCloseOk, ChannelFlow, ChannelFlowOk, ChannelId, ChannelOpen,
    ChannelOpenOk, ConnectionUpdateSecretOk, Frame, Method, MethodId, Payload, ReplyCode, Sender,
};

/// How many bodies of the largest size the unfinished contents of one connection may add up to in memory.
const UNFINISHED: usize = 4;

/// Octets of memory that their headers may add up to.
const UNFINISHED_HEADERS: usize = 4 << 20;

impl Connection {
    /// Where the last frame ends, in octets from the beginning of the stream.
    pub(crate) const fn position(&self) -> u64 {
        self.read
    }

    pub(super) fn bad_frame(&mut self, bad: BadFrame, inbound: &mut BytesMut) -> bool {
        match self.stage {
            // CLOSE-3: what would be an error in a payload is discarded like the rest.
            Stage::Closing | Stage::Lingering if !self.decoder.is_broken() => return true,
            Stage::Closing | Stage::Lingering => inbound.clear(),
            Stage::Server(..) => self.end(Cause::Refused(bad.to_string())), // CONN-12
            _ => self.violated(bad.into()),
        }
        if self.decoder.is_broken() {
            inbound.clear();
        }
        !self.decoder.is_broken()
    }

    pub(super) fn frame(&mut self, frame: Frame) {
        let Frame { channel, payload } = frame;
        trace!(%channel, %payload, "received");
        match &self.stage {
            Stage::Open if channel == ChannelId::CONTROL => self.control(payload),
            Stage::Open => self.lane(channel, payload),
            Stage::Closing | Stage::Lingering => self.while_closing(channel, &payload),
            _ if payload == Payload::Heartbeat => {} // CONN-14
            _ => self.handshake(channel, payload),
        }
    }

    pub(super) fn reply(&mut self, methods: &[Method]) {
        for method in methods {
            self.say(ChannelId::CONTROL, method);
        }
    }

    /// Channel 0 of an open connection. FRAME-14
    fn control(&mut self, payload: Payload) {
        use Method as M;
        let method = match payload {
            Payload::Heartbeat => return, // HB-7: never answered
            Payload::Method(method) => method,
            Payload::Header(_) | Payload::Body(_) => {
                return self.broken(
                    ReplyCode::UNEXPECTED_FRAME,
                    MethodId::NONE,
                    "content on channel 0",
                );
            }
        };
        match (method, self.side) {
            (M::ConnectionClose(close), _) => self.closed_by_peer(close.into()),
            (M::ConnectionUpdateSecret(_), Sender::Broker) => {
                self.reply(&[ConnectionUpdateSecretOk::default().into()]);
            }
            (m @ (M::ConnectionBlocked(_) | M::ConnectionUnblocked(_)), Sender::Client) => {
                self.events.push_back(Event::Method(ChannelId::CONTROL, m));
            }
            // CONN-11, FRAME-16, BLOCK-4
            (m, _) => self.broken(
                ReplyCode::CHANNEL_ERROR,
                m.id(),
                "unexpected method in connection state running",
            ),
        }
    }

    /// Any other channel: its content first, since nothing may come between the frames of one.
    fn lane(&mut self, channel: ChannelId, payload: Payload) {
        let connection_class = |method: &Method| method.id().class == 10;
        if let Payload::Method(method) = &payload
            && connection_class(method)
        {
            // FRAME-15
            return self.broken(
                ReplyCode::COMMAND_INVALID,
                method.id(),
                "unimplemented method",
            );
        }
        let Some(lane) = self.channels.get_mut(&channel) else {
            return self.unopened(channel, &payload);
        };
        let wanted = (lane.stage == ChannelStage::Open).then_some(self.body_limit);
        let closing = lane.stage == ChannelStage::Closing;
        let before = lane.assembler.held();
        let step = lane.assembler.step(payload, wanted);
        self.unfinished.changed(before, lane.assembler.held());
        match step {
            Ok(Assembled::More) => self.bound_what_is_unfinished(channel),
            Ok(Assembled::Swallowed) => {}
            Ok(Assembled::Method(method)) if closing => {
                self.while_channel_closing(channel, &method);
            }
            Ok(Assembled::Method(method)) => self.method(channel, method),
            Ok(Assembled::Content(method, message)) => self.content(channel, method, message),
            Err(fault) => self.violated(Violation::by_peer(
                fault.code,
                channel,
                fault.method,
                fault.text,
            )),
        }
    }

    /// Each channel may be within a content, and a peer need not finish any of them. SEC-8
    fn bound_what_is_unfinished(&mut self, channel: ChannelId) {
        let Held { headers, bodies } = self.unfinished;
        let limit = usize::try_from(self.body_limit).unwrap_or(usize::MAX);
        if bodies > limit.saturating_mul(UNFINISHED) || headers > UNFINISHED_HEADERS {
            let text = format!(
                "unfinished contents take {bodies} octets and their headers {headers}, the last on channel {channel}"
            );
            self.broken(ReplyCode::RESOURCE_ERROR, MethodId::NONE, &text);
        }
    }

    /// Its number is free again, and what it held of a content is gone.
    fn remove_channel(&mut self, channel: ChannelId) {
        if let Some(lane) = self.channels.remove(&channel) {
            self.unfinished
                .changed(lane.assembler.held(), Held::default());
        }
    }

    /// A frame for a channel that is not open: right only if it opens one, and we are the broker. CHAN-1, CHAN-2, CHAN-4
    fn unopened(&mut self, channel: ChannelId, payload: &Payload) {
        let method = match payload {
            Payload::Method(method) => method.id(),
            _ => MethodId::NONE,
        };
        if method != ChannelOpen::ID || self.side == Sender::Client {
            return self.broken(ReplyCode::CHANNEL_ERROR, method, "expected 'channel.open'");
        }
        let most = self.tuning.channel_max;
        if most != 0 && self.channels.len() >= usize::from(most) {
            let open = self.channels.len();
            let text = format!(
                "number of channels opened ({open}) has reached the negotiated channel_max ({most})"
            );
            return self.broken(ReplyCode::NOT_ALLOWED, MethodId::NONE, &text);
        }
        self.channels
            .insert(channel, Channel::new(ChannelStage::Open));
        self.say(channel, &ChannelOpenOk::default().into());
        self.events.push_back(Event::ChannelOpened(channel));
    }

    fn method(&mut self, channel: ChannelId, method: Method) {
        use Method as M;
        if !self.may_come(channel, &method) {
            return;
        }
        match method {
            M::ChannelOpen(_) => self.broken(
                ReplyCode::CHANNEL_ERROR,
                ChannelOpen::ID,
                "second 'channel.open' seen",
            ),
            M::ChannelClose(close) => {
                self.say(channel, &ChannelCloseOk::default().into());
                self.remove_channel(channel);
                self.events.push_back(Event::ChannelClosed(
                    channel,
                    Cause::ClosedByPeer(close.into()),
                ));
            }
            // CHAN-13
            M::ChannelCloseOk(_) => self.broken(
                ReplyCode::COMMAND_INVALID,
                ChannelCloseOk::ID,
                "unimplemented method",
            ),
            M::ChannelFlow(flow) => self.flow(channel, flow),
            method => self.answer(channel, method, None),
        }
    }

    fn content(&mut self, channel: ChannelId, method: Method, message: Message) {
        if !self.may_come(channel, &method) {
            return;
        }
        if method.row().is_reply() {
            self.answer(channel, method, Some(message));
        } else {
            self.events
                .push_back(Event::Content(channel, method, message));
        }
    }

    fn answer(&mut self, channel: ChannelId, method: Method, message: Option<Message>) {
        let Some(lane) = self.channels.get_mut(&channel) else {
            return;
        };
        match lane.answer(&method) {
            Answer::Reply => {
                if method.id() == ChannelOpenOk::ID {
                    lane.stage = ChannelStage::Open;
                }
                self.events
                    .push_back(Event::Reply(channel, method, message));
            }
            Answer::Unasked => self.events.push_back(Event::Method(channel, method)),
            Answer::Wrong => {
                let text = format!("{} answers no request", method.name());
                self.broken(ReplyCode::COMMAND_INVALID, method.id(), &text); // METH-9
            }
        }
    }

    /// Whether the peer may say this at all. METH-4, TYPE-9
    fn may_come(&mut self, channel: ChannelId, method: &Method) -> bool {
        if method.row().sender == self.side {
            self.broken(
                ReplyCode::COMMAND_INVALID,
                method.id(),
                "unimplemented method",
            );
            return false;
        }
        let checked = self.side == Sender::Broker && method.id() != BasicPublish::ID;
        if checked && !method.is_utf8() {
            let text = "Malformed UTF-8 in shortstr";
            let code = ReplyCode::FRAME_ERROR;
            self.violated(Violation::by_peer(code, channel, MethodId::NONE, text));
            return false;
        }
        true
    }

    /// A client passes a request to pause on to whoever sends; a broker refuses it. CHAN-14
    fn flow(&mut self, channel: ChannelId, flow: ChannelFlow) {
        if self.side == Sender::Broker && !flow.active {
            return self.broken(ReplyCode::NOT_IMPLEMENTED, ChannelFlow::ID, "active=false");
        }
        let flow_ok = ChannelFlowOk {
            active: flow.active,
        };
        self.say(channel, &flow_ok.into());
        self.events.push_back(Event::Method(channel, flow.into()));
    }

    /// CHAN-6, CLOSE-5: a close that crosses ours is answered, and ours is still owed its close-ok.
    fn while_channel_closing(&mut self, channel: ChannelId, method: &Method) {
        match method {
            Method::ChannelClose(_) => self.say(channel, &ChannelCloseOk::default().into()),
            Method::ChannelCloseOk(close_ok) => {
                self.remove_channel(channel);
                self.events
                    .push_back(Event::Reply(channel, close_ok.clone().into(), None));
            }
            // CHAN-3
            Method::ChannelOpen(_) => self.broken(
                ReplyCode::CHANNEL_ERROR,
                ChannelOpen::ID,
                "second 'channel.open' seen",
            ),
            _ => {} // CHAN-7, CHAN-9
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{codec::PROTOCOL_HEADER, protocol::ServerConfig};

    #[test]
    fn the_position_is_the_end_of_the_last_frame() {
        // FRAME-10, FRAME-11: a frame that has begun does not count yet.
        let mut core = Connection::server(ServerConfig::default(), Instant::now());
        let heartbeat = b"\x08\0\0\0\0\0\0\xce";
        let mut inbound = BytesMut::from(&PROTOCOL_HEADER[..]);
        assert_eq!(core.position(), 0);
        assert!(core.receive(&mut inbound));
        assert_eq!(core.position(), 8);
        inbound.extend_from_slice(heartbeat);
        inbound.extend_from_slice(&heartbeat[..5]);
        while core.receive(&mut inbound) {}
        assert_eq!((core.position(), inbound.len()), (16, 5));
    }
}
