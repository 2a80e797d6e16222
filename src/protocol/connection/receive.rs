//! Octets in: a frame finds its channel, a method its meaning, and a broken rule its close.
//!
//! ```text
//! frame ─┬─ before open ──▶ handshake ─────────────────▶ the next state, and what to answer
//!        ├─ channel 0 ────▶ control ───────────────────▶ close, close-ok, blocked, heartbeat
//!        └─ channel n ────▶ lane ──▶ Assembler ─┬─ method ───▶ answer ──▶ Event::Reply, Event::Method
//!                                               └─ content ──▶ Event::Content
//! any of them: a broken rule ──▶ violated (closing.rs)
//! ```

use std::mem;

use bytes::{Buf, BytesMut};
use tracing::trace;

use super::{
    super::{
        channel::{Answer, Channel, Stage as ChannelStage},
        content::{Assembled, Message},
        error::{Cause, Greeting, Violation},
        handshake::{ClientHandshake, Opened, ServerHandshake, start},
        tuning::Tuning,
    },
    Connection, Event, Stage,
};
use crate::codec::{
    BadFrame, BasicPublish, ChannelCloseOk, ChannelFlow, ChannelFlowOk, ChannelId, ChannelOpen,
    ChannelOpenOk, ConnectionUpdateSecretOk, Frame, Method, MethodId, PROTOCOL_HEADER, Payload,
    ReplyCode, Sender,
};

impl Connection {
    pub(super) fn protocol_header(&mut self, inbound: &mut BytesMut) -> bool {
        let Some(header) = inbound.first_chunk::<8>() else {
            return false; // HDR-4: fewer than eight octets are no error
        };
        let (right, found) = (*header == PROTOCOL_HEADER, *header);
        inbound.advance(8);
        let Some(config) = self.server.take().filter(|_| right) else {
            // HDR-3: the whole answer is the header that would have been right.
            self.outbound.extend_from_slice(&PROTOCOL_HEADER);
            inbound.clear();
            let said =
                Greeting::recognise(&found, true).unwrap_or(Greeting::Unknown(found.to_vec()));
            self.end(Cause::NotAmqp(said));
            return false;
        };
        self.stage = Stage::Server(config, ServerHandshake::AwaitStartOk);
        self.say(ChannelId::CONTROL, &start().into());
        true
    }

    /// Not a frame where connection.start was due: find out who is there before giving up. HDR-5, HDR-6
    pub(super) fn greeting(&mut self, inbound: &mut BytesMut, at_end: bool) -> bool {
        if inbound.is_empty() {
            return false;
        }
        if let Some(said) = Greeting::recognise(inbound, at_end) {
            inbound.clear();
            self.end(Cause::NotAmqp(said));
        }
        false
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
            Stage::Client(..) | Stage::Server(..) => self.handshake(channel, payload),
            Stage::AwaitHeader | Stage::Over => {}
        }
    }

    fn handshake(&mut self, channel: ChannelId, payload: Payload) {
        let method = match payload {
            Payload::Method(method) if channel == ChannelId::CONTROL => method,
            _ => return self.too_early(),
        };
        if let (Method::ConnectionClose(close), Sender::Client) = (&method, self.side) {
            // CONN-15
            return self.closed_by_peer(close.clone().into());
        }
        match mem::replace(&mut self.stage, Stage::Over) {
            Stage::Client(config, state @ ClientHandshake::AwaitOpenOk(_)) => {
                match state.receive(&config, method) {
                    Ok((ClientHandshake::Done(opened), _)) => self.opened(opened),
                    Ok((state, _)) => self.stage = Stage::Client(config, state),
                    Err(cause) => self.refuse(cause, true), // CONN-18
                }
            }
            Stage::Client(config, state) => match state.receive(&config, method) {
                Ok((state, replies)) => {
                    self.reply(&replies);
                    if let ClientHandshake::AwaitOpenOk(opened) = &state {
                        self.tuned(opened.tuning);
                    }
                    self.stage = Stage::Client(config, state);
                }
                Err(cause) => self.refuse(cause, false),
            },
            Stage::Server(config, state) => match state.receive(&config, method) {
                Ok((ServerHandshake::Done(opened), replies)) => {
                    self.reply(&replies);
                    self.opened(opened);
                }
                Ok((state, replies)) => {
                    self.reply(&replies);
                    if let ServerHandshake::AwaitOpen(opened) = &state {
                        self.tuned(opened.tuning);
                    }
                    self.stage = Stage::Server(config, state);
                }
                Err(cause) => self.refuse(cause, true),
            },
            stage => self.stage = stage,
        }
    }

    fn too_early(&mut self) {
        let text = "expected a method of the handshake on channel 0";
        let cause = match &self.stage {
            Stage::Server(_, state) => state.too_early(),
            _ => Cause::Refused(text.into()),
        };
        self.refuse(cause, true);
    }

    /// A fault before open: said only where the peer can read it. CONN-12, CONN-18
    fn refuse(&mut self, cause: Cause, aloud: bool) {
        match cause {
            Cause::Violation(violation) if aloud => {
                self.start_close(&(&violation).into(), Cause::Violation(violation));
            }
            cause => {
                self.events.push_back(Event::Closed(cause));
                self.over();
            }
        }
    }

    pub(super) fn reply(&mut self, methods: &[Method]) {
        for method in methods {
            self.say(ChannelId::CONTROL, method);
        }
    }

    /// The limits of tune-ok hold from the next frame on. TUNE-7, HB-6
    fn tuned(&mut self, tuning: Tuning) {
        self.tuning = tuning;
        let header_max = if self.side == Sender::Client {
            tuning.header_limit()
        } else {
            0
        };
        self.decoder.set_limits(tuning.frame_limit(), header_max);
        self.heartbeat.start(tuning.heartbeat(), self.now);
    }

    fn opened(&mut self, opened: Opened) {
        self.stage = Stage::Open;
        self.until = None;
        self.events.push_back(Event::Opened(opened));
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
        match lane.assembler.step(payload, wanted) {
            Ok(Assembled::More | Assembled::Swallowed) => {}
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
                self.channels.remove(&channel);
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
                self.channels.remove(&channel);
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
