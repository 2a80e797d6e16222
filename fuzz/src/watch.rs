//! A core under observation: octets go in as they come, time passes, and what comes out has to be in order.

use std::time::{Duration, Instant};

use amqp_rpc::{
    codec::{FRAME_OVERHEAD, Frame, FrameDecoder, PROTOCOL_HEADER},
    protocol::{Connection, Event},
};
use bytes::BytesMut;

/// A core, and what is known of it.
pub struct Watched {
    pub core: Connection,
    pub now: Instant,
    inbound: BytesMut,
    closed: bool,
    /// Octets that have come in, and that have gone out.
    heard: usize,
    said: usize,
    tick: u64,
}

impl Watched {
    pub fn new(core: Connection, now: Instant) -> Self {
        let inbound = BytesMut::new();
        Self {
            core,
            now,
            inbound,
            closed: false,
            heard: 0,
            said: 0,
            tick: 0,
        }
    }

    /// A client's core and a broker's, joined until the handshake is over.
    pub fn joined(mut client: Connection, mut broker: Connection, now: Instant) -> [Self; 2] {
        let (mut to_broker, mut to_client) = (BytesMut::new(), BytesMut::new());
        for _ in 0..4 {
            client.transmit(&mut to_broker);
            while broker.receive(&mut to_broker) {}
            broker.transmit(&mut to_client);
            while client.receive(&mut to_client) {}
        }
        for core in [&mut client, &mut broker] {
            assert!(matches!(core.poll_event(), Some(Event::Opened(_))));
        }
        [Self::new(client, now), Self::new(broker, now)]
    }

    /// Feeds the octets in pieces whose size, like the time between them, follows from `seed`. `react` is the
    /// application.
    pub fn feed(
        &mut self,
        octets: &[u8],
        seed: u8,
        mut react: impl FnMut(&mut Connection, Event, Instant),
    ) {
        let piece = [1, 3, 8, 64, 1000, usize::MAX][usize::from(seed) % 6].min(octets.len().max(1));
        let pause = [0, 1, 400, 1000, 20_000][usize::from(seed) / 6 % 5];
        for octets in octets.chunks(piece) {
            self.heard += octets.len();
            self.inbound.extend_from_slice(octets);
            loop {
                let more = self.core.receive(&mut self.inbound);
                while let Some(event) = self.core.poll_event() {
                    assert!(!self.closed, "after the end nothing happens: {event:?}");
                    self.closed = matches!(event, Event::Closed(_));
                    react(&mut self.core, event, self.now);
                }
                if !more {
                    break;
                }
            }
            self.look();
            if pause > 0 {
                self.tick += 1;
                self.now += Duration::from_millis(pause * (self.tick % 3));
                self.core.tick(self.now);
                while let Some(event) = self.core.poll_event() {
                    assert!(!self.closed, "after the end nothing happens: {event:?}");
                    self.closed = matches!(event, Event::Closed(_));
                    react(&mut self.core, event, self.now);
                }
                self.look();
            }
        }
    }

    /// What may be asked of a core at any time.
    fn look(&mut self) {
        let mut octets = BytesMut::new();
        self.core.transmit(&mut octets);
        self.said += octets.len();
        let limit = self.core.tuning().frame_limit();
        whole_frames(&octets, limit);
        assert_eq!(self.core.unsent(), 0);
        // FRAME-6, FRAME-19: what waits for the rest of its frame is less than the longest frame there may be.
        assert!(self.inbound.len() < (1 << 20) + 8);
        if self.core.is_over() {
            assert!(self.core.is_closing() && self.core.deadline().is_none());
        }
    }

    /// Whether so many octets of an answer are too many: `factor` for each octet heard, and something for a start.
    pub fn assert_moderate(&self, factor: usize) {
        assert!(
            self.said <= 4096 + factor * self.heard,
            "{} octets for {}",
            self.said,
            self.heard
        );
    }
}

/// FRAME-7: what a core says are whole frames that fit, perhaps after (or, as a refusal, instead of them) the header.
pub fn whole_frames(octets: &[u8], frame_limit: u32) -> Vec<Frame> {
    let octets = octets.strip_prefix(&PROTOCOL_HEADER).unwrap_or(octets);
    let mut decoder = FrameDecoder::new();
    decoder.set_limits(frame_limit - FRAME_OVERHEAD, 0);
    let (mut left, mut frames) = (BytesMut::from(octets), Vec::new());
    while !left.is_empty() {
        frames.push(
            decoder
                .decode(&mut left)
                .expect("it decodes")
                .expect("it is whole"),
        );
    }
    frames
}
