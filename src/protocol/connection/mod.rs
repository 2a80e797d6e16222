//! # The connection: one state machine for both sides
//!
//! Framing, content, channels, closing, heartbeats and the scope of errors are the same at each end of the wire. Only
//! the handshake and the direction of methods differ, so [`Connection::client`] and [`Connection::server`] pick a
//! table and the rest hardly asks who it is. This file is what callers see.
//!
//! ```text
//!  HANDSHAKE --open-ok--> OPEN --(send close)--> CLOSING --(recv close-ok)--> OVER
//!                         OPEN --(recv close)--> send close-ok --> LINGERING (broker) / OVER (client)
//!                         CLOSING --(recv close)--> send close-ok, stay CLOSING
//! ```
//! Read next: `event`. Explained in `docs/12-inside.md`.

mod blocking;
mod closing;
mod contents;
mod event;
mod opening;
mod receive;

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tracing::trace;

pub use self::event::Event;
use super::{
    channel::{Channel, Stage as ChannelStage},
    content::Held,
    error::{Cause, CloseReason, Violation},
    handshake::{ClientConfig, ClientHandshake, ServerConfig, ServerHandshake},
    heartbeat::{Beat, Heartbeat},
    tuning::Tuning,
};
use crate::codec::{
    ChannelClose, ChannelFlow, ChannelId, ChannelOpen, FrameDecoder, Method, MethodId,
    PROTOCOL_HEADER, ReplyCode, Sender,
    frame::{encode_heartbeat, encode_method},
};

#[derive(Debug)]
enum Stage {
    /// A broker that has not seen the eight octets yet.
    AwaitHeader,
    Client(Box<ClientConfig>, ClientHandshake),
    Server(Box<ServerConfig>, ServerHandshake),
    Open,
    /// Our close is out: everything but close and close-ok is discarded. CLOSE-2
    Closing,
    /// A broker that sent close-ok and waits for the end of the stream. CLOSE-7
    Lingering,
    Over,
}

/// One connection without its socket and without a clock.
#[derive(Debug)]
pub struct Connection {
    side: Sender,
    stage: Stage,
    /// When the present stage has lasted too long.
    until: Option<Instant>,
    handshake_timeout: Duration,
    server: Option<Box<ServerConfig>>,
    decoder: FrameDecoder,
    /// Octets of a frame whose rest has yet to come: they were heard when they came, and not again.
    heard: usize,
    /// Octets of whole frames so far.
    read: u64,
    channels: BTreeMap<ChannelId, Channel>,
    /// What the contents of all channels take that have begun to come. SEC-8
    unfinished: Held,
    tuning: Tuning,
    /// The peer announced the capability `connection.blocked`. CONN-8
    hears_of_blocking: bool,
    heartbeat: Heartbeat,
    body_limit: u64,
    now: Instant,
    outbound: BytesMut,
    events: VecDeque<Event>,
}

impl Connection {
    /// A client: it speaks first, with the protocol header. HDR-1
    pub fn client(config: ClientConfig, now: Instant) -> Self {
        let mut this = Self::new(
            Sender::Client,
            config.handshake_timeout,
            config.body_limit,
            now,
        );
        this.outbound.extend_from_slice(&PROTOCOL_HEADER);
        this.stage = Stage::Client(Box::new(config), ClientHandshake::AwaitStart);
        this
    }

    /// A broker: it says nothing until it has heard the protocol header. HDR-2
    pub fn server(config: ServerConfig, now: Instant) -> Self {
        let mut this = Self::new(
            Sender::Broker,
            config.handshake_timeout,
            config.body_limit,
            now,
        );
        this.server = Some(Box::new(config));
        this
    }

    fn new(side: Sender, handshake_timeout: Duration, body_limit: u64, now: Instant) -> Self {
        Self {
            side,
            stage: Stage::AwaitHeader,
            until: Some(now + handshake_timeout),
            handshake_timeout,
            server: None,
            decoder: FrameDecoder::new(),
            heard: 0,
            read: 0,
            channels: BTreeMap::new(),
            unfinished: Held::default(),
            tuning: Tuning::BEFORE,
            hears_of_blocking: false,
            heartbeat: Heartbeat::off(now),
            body_limit,
            now,
            outbound: BytesMut::new(),
            events: VecDeque::new(),
        }
    }

    /// The time, before anything else that happened: heartbeats, and whatever has taken too long.
    pub fn tick(&mut self, now: Instant) {
        self.now = now;
        if self.until.is_some_and(|until| now >= until) {
            let limit = self.handshake_timeout;
            self.end(Cause::HandshakeTimeout { limit }); // after a close it is only the end
        }
        if self.is_over() {
            return;
        }
        match self.heartbeat.look(now) {
            Beat::Quiet => {}
            Beat::Send => {
                // Octets that wait to be sent are a sign of life themselves, once they go. HB-2, HB-10
                if self.outbound.is_empty() {
                    encode_heartbeat(&mut self.outbound);
                }
                self.heartbeat.on_sent(now);
            }
            Beat::PeerDead(silence) => self.end(Cause::Silence { silence }),
        }
    }

    /// When to call [`tick`](Self::tick) next.
    pub fn deadline(&self) -> Option<Instant> {
        [self.until, self.heartbeat.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Says whether we read. While we do not, the peer's silence proves nothing, and the watch on it pauses.
    pub fn watch(&mut self, watching: bool) {
        self.heartbeat.watch(watching, self.now);
    }

    /// Octets in: takes *one* frame off the front of `inbound` and says whether there was one. Drain the events before
    /// calling it again: replies must leave in the order of the requests (METH-10).
    pub fn receive(&mut self, inbound: &mut BytesMut) -> bool {
        if inbound.len() > self.heard {
            self.heartbeat.on_heard(self.now); // HB-3: parts of a frame count
        }
        let before = inbound.len();
        let received = self.one_frame(inbound);
        self.heard = inbound.len();
        self.read += u64::try_from(before - self.heard).unwrap_or_default();
        received
    }

    fn one_frame(&mut self, inbound: &mut BytesMut) -> bool {
        match &self.stage {
            Stage::Over => inbound.clear(),
            Stage::AwaitHeader => return self.protocol_header(inbound),
            Stage::Client(_, ClientHandshake::AwaitStart) if !inbound.starts_with(&[1]) => {
                return self.greeting(inbound, false);
            }
            _ => match self.decoder.decode(inbound) {
                Ok(Some(frame)) => {
                    self.frame(frame);
                    return true;
                }
                Ok(None) => {}
                Err(bad) => return self.bad_frame(bad, inbound),
            },
        }
        false
    }

    /// The socket is of no use any more. After a close that is no news.
    pub fn end(&mut self, cause: Cause) {
        if !matches!(self.stage, Stage::Closing | Stage::Lingering | Stage::Over) {
            self.events.push_back(Event::Closed(cause));
        }
        self.over();
    }

    /// What happened, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Octets out: appends what is to be sent.
    pub fn transmit(&mut self, out: &mut BytesMut) {
        if self.outbound.is_empty() {
            return;
        }
        self.heartbeat.on_sent(self.now);
        if out.is_empty() {
            mem::swap(out, &mut self.outbound);
        } else {
            out.extend_from_slice(&self.outbound);
        }
        self.outbound.clear();
    }

    /// Octets that wait for [`transmit`](Self::transmit).
    pub fn unsent(&self) -> usize {
        self.outbound.len()
    }

    /// Whether nothing more will be read or said: hang up once all is transmitted.
    pub const fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }

    /// Whether the handshake is over and no close has been said.
    pub const fn is_open(&self) -> bool {
        matches!(self.stage, Stage::Open)
    }

    /// Whether a close has been said by either side.
    pub const fn is_closing(&self) -> bool {
        matches!(self.stage, Stage::Closing | Stage::Lingering | Stage::Over)
    }

    /// The limits in force.
    pub const fn tuning(&self) -> Tuning {
        self.tuning
    }

    /// Asks for a channel on the lowest unused number. CHAN-1
    ///
    /// # Errors
    /// 504 when the connection is not open, 530 when channel-max channels are (TUNE-8).
    pub fn open_channel(&mut self) -> Result<ChannelId, Violation> {
        self.must_be_open(ChannelId::CONTROL, ChannelOpen::ID)?;
        let most = if self.tuning.channel_max == 0 {
            u16::MAX
        } else {
            self.tuning.channel_max
        };
        let free = (1..=most)
            .map(ChannelId)
            .find(|id| !self.channels.contains_key(id));
        let Some(channel) = free else {
            let text = format!("all {most} channels are open");
            return Err(Violation::ours(
                ReplyCode::NOT_ALLOWED,
                ChannelId::CONTROL,
                ChannelOpen::ID,
                text,
            ));
        };
        let open = Method::from(ChannelOpen::default());
        let mut lane = Channel::new(ChannelStage::Opening);
        lane.expect(&open);
        self.channels.insert(channel, lane);
        self.say(channel, &open);
        Ok(channel)
    }

    /// Sends a method that carries nothing.
    ///
    /// # Errors
    /// The rule that this would break, in which case nothing is sent: the channel is not open (504), or the method is
    /// not this side's to send (503).
    pub fn send(&mut self, channel: ChannelId, method: impl Into<Method>) -> Result<(), Violation> {
        let method = method.into();
        self.sendable(channel, &method, false)?.expect(&method);
        self.say(channel, &method);
        Ok(())
    }

    /// Says `channel.close`; the reply is `channel.close-ok`. CHAN-6, ERR-1
    ///
    /// # Errors
    /// 504 when the channel is not open.
    pub fn close_channel(
        &mut self,
        channel: ChannelId,
        reason: &CloseReason,
    ) -> Result<(), Violation> {
        self.must_be_open(channel, ChannelClose::ID)?;
        self.start_channel_close(channel, reason, Cause::ClosedHere)
    }

    /// Says `connection.close`, once. CLOSE-1
    pub fn close(&mut self, reason: &CloseReason) {
        match self.stage {
            Stage::Open => self.start_close(reason, Cause::ClosedHere),
            Stage::Closing | Stage::Lingering | Stage::Over => {}
            _ => self.end(Cause::ClosedHere), // nothing may be said before open
        }
    }
}

/// The checks behind `send`: whether we may say this, here and now.
impl Connection {
    fn say(&mut self, channel: ChannelId, method: &Method) {
        trace!(%channel, %method, "sent");
        encode_method(channel, method, &mut self.outbound);
    }

    fn must_be_open(&self, channel: ChannelId, method: MethodId) -> Result<(), Violation> {
        if matches!(self.stage, Stage::Open) {
            Ok(())
        } else {
            Err(not_open(channel, method))
        }
    }

    fn sendable(
        &mut self,
        channel: ChannelId,
        method: &Method,
        content: bool,
    ) -> Result<&mut Channel, Violation> {
        let row = method.row();
        self.must_be_open(channel, row.id)?;
        let ours = row.sender == self.side || row.sender == Sender::Both;
        let by_itself = matches!(row.id.class, 10 | 20) && row.id != ChannelFlow::ID;
        if !ours || row.carries_content != content || by_itself {
            let text = format!("{} is not sent this way", row.name);
            return Err(Violation::ours(
                ReplyCode::COMMAND_INVALID,
                channel,
                row.id,
                text,
            ));
        }
        let lane = self
            .channels
            .get_mut(&channel)
            .filter(|lane| lane.stage == ChannelStage::Open);
        lane.ok_or_else(|| not_open(channel, row.id))
    }
}

fn not_open(channel: ChannelId, method: MethodId) -> Violation {
    let what = if channel == ChannelId::CONTROL {
        "the connection".to_owned()
    } else {
        format!("channel {channel}")
    };
    Violation::ours(
        ReplyCode::CHANNEL_ERROR,
        channel,
        method,
        format!("{what} is not open"),
    )
}
