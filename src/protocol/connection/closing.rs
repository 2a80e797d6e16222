//! # Closing: who says it, what is lost with it, and who waits how long
//!
//! ```text
//! we                               the peer
//!  │ ── close ──────────╮             │
//!  │ ◀──────────────────│── deliver ──│   said before our close was heard: thrown away (CLOSE-2)
//!  │                    ╰───────────▶ │
//!  │ ◀───────────────────── close-ok ─│   nothing comes behind it, so whoever hears it hangs up
//! ```
//!
//! Thrown away, but not unread: the close-ok can only be found behind the envelopes of what comes before it (CLOSE-3).
//! When two closes cross, each is answered (CLOSE-5). What a broken rule costs, one channel or the connection with all
//! of them, its code says; how long an answer may take is up to us (CLOSE-8).
//!
//! Read next: `blocking`. Explained in `docs/09-errors-and-closing.md`.

use std::time::Duration;

use bytes::BytesMut;

use super::{
    super::{
        channel::Stage as ChannelStage,
        error::{Cause, CloseReason, Violation},
        handshake::ClientHandshake,
        heartbeat::Heartbeat,
    },
    Connection, Event, Stage, not_open,
};
use crate::codec::{
    ChannelClose, ChannelId, ConnectionCloseOk, Method, MethodId, Payload, ReplyCode, Scope, Sender,
};

/// How long the other side has for its close-ok, or to hang up after ours. CLOSE-7, CLOSE-8
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// The same after a framing error, when nothing that comes can be understood. ERR-7
const BROKEN_CLOSE_LIMIT: Duration = Duration::from_secs(3);

/// Octets of answers that may wait while a connection closes, when nobody looks at what is unsent any more. SEC-10
const FEW: usize = 4096;

impl Connection {
    /// The stream has ended; `inbound` is what came last and was no frame.
    pub fn end_of_stream(&mut self, inbound: &mut BytesMut) {
        match &self.stage {
            Stage::Client(_, ClientHandshake::AwaitStart) if !inbound.is_empty() => {
                self.greeting(inbound, true);
            }
            Stage::Client(_, ClientHandshake::AwaitTune { .. }) => self.end(Cause::LoginRefused),
            Stage::Client(_, ClientHandshake::AwaitOpenOk(_)) => self.end(Cause::LimitsRefused),
            _ => self.end(Cause::EndOfStream),
        }
    }

    pub(super) fn closed_by_peer(&mut self, reason: CloseReason) {
        self.reply(&[ConnectionCloseOk::default().into()]);
        self.channels.clear();
        self.events
            .push_back(Event::Closed(Cause::ClosedByPeer(reason)));
        match self.side {
            // Who hears the close-ok to its own close hangs up. A broker that sends one waits for that, within a limit;
            // a client hangs up behind it, as the broker will. CLOSE-6, CLOSE-7
            Sender::Broker => self.wait(Stage::Lingering, CLOSE_LIMIT),
            _ => self.over(),
        }
    }

    pub(super) fn while_closing(&mut self, channel: ChannelId, payload: &Payload) {
        match payload {
            // CLOSE-5, CLOSE-9. One that says close again and again and reads none of the answers gets no more of them.
            Payload::Method(Method::ConnectionClose(_))
                if channel == ChannelId::CONTROL && self.outbound.len() < FEW =>
            {
                self.reply(&[ConnectionCloseOk::default().into()]);
            }
            Payload::Method(Method::ConnectionCloseOk(_)) if channel == ChannelId::CONTROL => {
                self.over();
            }
            _ => {} // CLOSE-2
        }
    }

    /// A hard error of the peer's, wherever it happened. ERR-2
    pub(super) fn broken(&mut self, code: ReplyCode, method: MethodId, text: &str) {
        self.violated(Violation::by_peer(code, ChannelId::CONTROL, method, text));
    }

    pub(super) fn violated(&mut self, violation: Violation) {
        let reason = CloseReason::from(&violation);
        match (&self.stage, violation.scope()) {
            (Stage::Open, Scope::Channel) => {
                let _ = self.start_channel_close(
                    violation.channel,
                    &reason,
                    Cause::Violation(violation),
                );
            }
            // CONN-18: from open on there is somebody to tell.
            (
                Stage::Open | Stage::Client(_, ClientHandshake::AwaitOpenOk(_)),
                Scope::Connection,
            ) => {
                self.start_close(&reason, Cause::Violation(violation));
            }
            _ => self.end(Cause::Violation(violation)),
        }
    }

    pub(super) fn start_channel_close(
        &mut self,
        channel: ChannelId,
        reason: &CloseReason,
        cause: Cause,
    ) -> Result<(), Violation> {
        let Some(lane) = self
            .channels
            .get_mut(&channel)
            .filter(|lane| lane.stage == ChannelStage::Open)
        else {
            return Err(not_open(channel, ChannelClose::ID));
        };
        lane.stage = ChannelStage::Closing;
        self.say(channel, &reason.on_channel().into());
        self.events.push_back(Event::ChannelClosed(channel, cause));
        Ok(())
    }

    pub(super) fn start_close(&mut self, reason: &CloseReason, cause: Cause) {
        self.say(ChannelId::CONTROL, &reason.on_connection().into());
        self.channels.clear();
        self.events.push_back(Event::Closed(cause));
        self.wait(
            Stage::Closing,
            if self.decoder.is_broken() {
                BROKEN_CLOSE_LIMIT
            } else {
                CLOSE_LIMIT
            },
        );
    }

    pub(super) fn wait(&mut self, stage: Stage, limit: Duration) {
        self.stage = stage;
        self.until = Some(self.now + limit);
    }

    pub(super) fn over(&mut self) {
        self.stage = Stage::Over;
        self.until = None;
        self.heartbeat = Heartbeat::off(self.now);
        self.channels.clear();
    }
}
