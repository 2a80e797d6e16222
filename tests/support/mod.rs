//! A client's core and a broker's core, joined in memory: no socket, no clock, no waiting.
// Each test program uses its own part, and a panic is how a test reports.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::unwrap_used
)]
#![allow(clippy::missing_panics_doc, clippy::needless_pass_by_value)]

use std::time::{Duration, Instant};

use amqp_rpc::{
    codec::{ChannelId, Frame, FrameDecoder, Method, PROTOCOL_HEADER, Payload},
    protocol::{ClientConfig, Connection, Event, ServerConfig},
};
use bytes::BytesMut;

/// Who said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Client,
    Broker,
}

/// Two cores and everything that crossed the wire between them.
pub struct Pair {
    pub client: Connection,
    pub broker: Connection,
    pub client_events: Vec<Event>,
    pub broker_events: Vec<Event>,
    /// Every frame, in the order it was sent, after the two protocol headers.
    pub wire: Vec<(Side, Frame)>,
    pub now: Instant,
    inbound: [BytesMut; 2],
    seen: usize,
    /// This side's core is told nothing: the test speaks for it.
    puppet: Option<Side>,
}

impl Pair {
    /// Both ends, before the first octet.
    pub fn new(client: ClientConfig, broker: ServerConfig) -> Self {
        let now = Instant::now();
        Self {
            client: Connection::client(client, now),
            broker: Connection::server(broker, now),
            client_events: Vec::new(),
            broker_events: Vec::new(),
            wire: Vec::new(),
            now,
            inbound: Default::default(),
            seen: 0,
            puppet: None,
        }
    }

    /// A connection that is open, with channel 1 open on it, and nothing to look at yet.
    pub fn open() -> Self {
        let mut pair = Self::new(ClientConfig::default(), ServerConfig::default());
        pair.exchange();
        assert_eq!(pair.client.open_channel(), Ok(ChannelId(1)));
        pair.exchange();
        pair.forget();
        pair
    }

    /// Before the first octet, with a client that will say nothing of its own: the test speaks for it.
    pub fn with_puppet_client() -> Self {
        let mut pair = Self::new(ClientConfig::default(), ServerConfig::default());
        pair.client.transmit(&mut BytesMut::new());
        pair.puppet = Some(Side::Client);
        pair
    }

    /// Behind the client's header, with a broker that will say nothing of its own: the test speaks for it.
    pub fn with_puppet_broker() -> Self {
        let mut pair = Self::new(ClientConfig::default(), ServerConfig::default());
        pair.client.transmit(&mut BytesMut::new());
        pair.puppet = Some(Side::Broker);
        pair
    }

    /// Carries octets both ways until both sides are silent.
    pub fn exchange(&mut self) {
        let mut quiet = false;
        while !quiet {
            quiet = !self.carry(Side::Client) & !self.carry(Side::Broker);
        }
        self.client_events
            .extend(std::iter::from_fn(|| self.client.poll_event()));
        self.broker_events
            .extend(std::iter::from_fn(|| self.broker.poll_event()));
    }

    /// Carries what one side has to say to the other.
    fn carry(&mut self, from: Side) -> bool {
        let (speaker, listener, events, inbound) = match from {
            Side::Client => (
                &mut self.client,
                &mut self.broker,
                &mut self.broker_events,
                &mut self.inbound[0],
            ),
            Side::Broker => (
                &mut self.broker,
                &mut self.client,
                &mut self.client_events,
                &mut self.inbound[1],
            ),
        };
        let mut said = BytesMut::new();
        speaker.transmit(&mut said);
        if said.is_empty() {
            return false;
        }
        self.wire
            .extend(frames(&said).into_iter().map(|frame| (from, frame)));
        if self.puppet.is_some_and(|puppet| puppet != from) {
            return true;
        }
        inbound.extend_from_slice(&said);
        while listener.receive(inbound) {
            events.extend(std::iter::from_fn(|| listener.poll_event()));
        }
        events.extend(std::iter::from_fn(|| listener.poll_event()));
        true
    }

    /// Raw octets from one side, as no core of ours would send them.
    pub fn inject(&mut self, from: Side, octets: &[u8]) {
        let (listener, events, inbound) = match from {
            Side::Client => (
                &mut self.broker,
                &mut self.broker_events,
                &mut self.inbound[0],
            ),
            Side::Broker => (
                &mut self.client,
                &mut self.client_events,
                &mut self.inbound[1],
            ),
        };
        inbound.extend_from_slice(octets);
        while listener.receive(inbound) {}
        events.extend(std::iter::from_fn(|| listener.poll_event()));
        self.exchange();
    }

    /// One frame from one side, as no core of ours would send it.
    pub fn inject_frame(&mut self, from: Side, channel: u16, payload: Payload) {
        let mut octets = BytesMut::new();
        Frame {
            channel: ChannelId(channel),
            payload,
        }
        .encode(&mut octets);
        self.inject(from, &octets);
    }

    /// One method from one side, legal or not.
    pub fn inject_method(&mut self, from: Side, channel: u16, method: impl Into<Method>) {
        self.inject_frame(from, channel, Payload::Method(method.into()));
    }

    /// Lets virtual time pass on both sides.
    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        self.client.tick(self.now);
        self.broker.tick(self.now);
        self.exchange();
    }

    /// One side says a method, and the other hears exactly that.
    pub fn says(&mut self, side: Side, channel: u16, method: Method) {
        let speaker = match side {
            Side::Client => &mut self.client,
            Side::Broker => &mut self.broker,
        };
        speaker
            .send(ChannelId(channel), method.clone())
            .expect("a method that may be sent");
        self.exchange();
        let got = self.next_method(side, channel);
        assert_eq!(got, method, "what crossed the wire next");
    }

    /// The next method on the wire, which must be of this side and channel.
    pub fn next_method(&mut self, side: Side, channel: u16) -> Method {
        let (from, frame) = self
            .wire
            .get(self.seen)
            .unwrap_or_else(|| panic!("{side:?} said nothing more"));
        self.seen += 1;
        assert_eq!((*from, frame.channel.0), (side, channel), "{frame:?}");
        match &frame.payload {
            Payload::Method(method) => method.clone(),
            other => panic!("expected a method, got {other:?}"),
        }
    }

    /// Looks away from everything so far.
    pub fn forget(&mut self) {
        self.seen = self.wire.len();
        self.client_events.clear();
        self.broker_events.clear();
    }

    /// Nothing crossed the wire that was not looked at.
    pub fn assert_silent(&self) {
        assert_eq!(self.wire.get(self.seen..), Some(&[][..]));
    }
}

fn frames(octets: &[u8]) -> Vec<Frame> {
    let mut octets = BytesMut::from(octets.strip_prefix(&PROTOCOL_HEADER).unwrap_or(octets));
    let mut decoder = FrameDecoder::new();
    decoder.set_limits(1 << 24, 1 << 24);
    let frames = std::iter::from_fn(|| {
        decoder
            .decode(&mut octets)
            .expect("what a core transmits decodes")
    })
    .collect();
    assert!(octets.is_empty(), "what a core transmits are whole frames");
    frames
}

/// A conversation, line by line: `C:` and `S:` say a method, which the other side must hear; `C!` and `S!` expect one
/// that a core says by itself, as a pattern.
#[macro_export]
macro_rules! transcript {
    ($pair:expr, channel $channel:literal: $($rest:tt)*) => {{
        let pair: &mut $crate::support::Pair = &mut $pair;
        transcript!(@ pair $channel $($rest)*);
        pair.assert_silent();
    }};
    (@ $pair:ident $channel:literal) => {};
    (@ $pair:ident $channel:literal C: $method:expr; $($rest:tt)*) => {
        $pair.says($crate::support::Side::Client, $channel, $method.into());
        transcript!(@ $pair $channel $($rest)*);
    };
    (@ $pair:ident $channel:literal S: $method:expr; $($rest:tt)*) => {
        $pair.says($crate::support::Side::Broker, $channel, $method.into());
        transcript!(@ $pair $channel $($rest)*);
    };
    (@ $pair:ident $channel:literal C! $name:ident $fields:tt; $($rest:tt)*) => {
        transcript!(@expect $pair Client $channel $name $fields);
        transcript!(@ $pair $channel $($rest)*);
    };
    (@ $pair:ident $channel:literal S! $name:ident $fields:tt; $($rest:tt)*) => {
        transcript!(@expect $pair Broker $channel $name $fields);
        transcript!(@ $pair $channel $($rest)*);
    };
    (@expect $pair:ident $side:ident $channel:literal $name:ident $fields:tt) => {
        let got = $pair.next_method($crate::support::Side::$side, $channel);
        assert!(matches!(&got, amqp_rpc::codec::Method::$name(amqp_rpc::codec::$name $fields)), "got {got}");
    };
}
