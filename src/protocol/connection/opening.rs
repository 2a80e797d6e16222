//! # Opening: from the first octet to open
//!
//! ```text
//! a broker hears   41 4d 51 50 00 00 09 01     the right eight: it says start
//!                  41 4d 51 50 01 01 00 0a     any other eight: it says the right ones, and hangs up (HDR-3)
//!                  41 4d 51                    too few: not wrong yet, it waits (HDR-4)
//! a client hears   01 ..                       a frame: start
//!                  anything else               no frame: who is that? (HDR-5)
//! ```
//!
//! From start to open every method is for the table in `handshake`, which gives back the next state and what to say.
//! What goes wrong on the way is said aloud only where somebody can read it: a client may say close once its open is
//! out, and a broker in three cases; otherwise the socket just ends (CONN-12, CONN-18).
//!
//! Read next: `receive`. Explained in `docs/03-handshake.md`, and `docs/01-first-octets.md`.

use std::mem;

use bytes::{Buf, BytesMut};

use super::{
    super::{
        error::{Cause, Greeting},
        handshake::{ClientHandshake, Opened, ServerHandshake, start},
        tuning::Tuning,
    },
    Connection, Event, Stage,
};
use crate::codec::{ChannelId, Method, PROTOCOL_HEADER, Payload, Sender};

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

    pub(super) fn handshake(&mut self, channel: ChannelId, payload: Payload) {
        let method = match payload {
            Payload::Method(method) if channel == ChannelId::CONTROL => method,
            _ => return self.too_early(),
        };
        if let (Method::ConnectionClose(close), Sender::Client) = (&method, self.side) {
            // CONN-15
            return self.closed_by_peer(close.clone().into());
        }
        match mem::replace(&mut self.stage, Stage::Over) {
            Stage::Client(config, state) => {
                let aloud = matches!(state, ClientHandshake::AwaitOpenOk(_)); // CONN-18
                match state.receive(&config, method) {
                    Ok((ClientHandshake::Done(opened), _)) => self.opened(opened),
                    Ok((state, replies)) => {
                        self.reply(&replies);
                        if let ClientHandshake::AwaitOpenOk(opened) = &state {
                            self.tuned(opened.tuning);
                        }
                        self.stage = Stage::Client(config, state);
                    }
                    Err(cause) => self.refuse(cause, aloud),
                }
            }
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
            stage => self.stage = stage, // before the protocol header and after the end nothing is a frame
        }
    }

    pub(super) fn too_early(&mut self) {
        let text = "expected a method of the handshake on channel 0";
        let cause = match &self.stage {
            Stage::Server(_, state) => state.too_early(),
            _ => Cause::Refused(text.into()),
        };
        self.refuse(cause, true);
    }

    /// A fault before open: said only where the peer can read it. CONN-12, CONN-18
    pub(super) fn refuse(&mut self, cause: Cause, aloud: bool) {
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

    /// The limits of tune-ok hold from the next frame on. TUNE-7, HB-6
    pub(super) fn tuned(&mut self, tuning: Tuning) {
        self.tuning = tuning;
        let header_max = if self.side == Sender::Client {
            tuning.header_limit()
        } else {
            0
        };
        self.decoder.set_limits(tuning.frame_limit(), header_max);
        self.heartbeat.start(tuning.heartbeat(), self.now);
    }

    pub(super) fn opened(&mut self, opened: Opened) {
        self.stage = Stage::Open;
        self.until = None;
        self.hears_of_blocking = opened.peer_can("connection.blocked");
        self.events.push_back(Event::Opened(opened));
    }
}
