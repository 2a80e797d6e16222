//! A broker without sockets and without a clock, and the connections to it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use amqp_rpc::{
    broker::{
        NameSource, VhostOptions,
        vhost::{ConnectionId, Output, Vhost},
    },
    codec::{
        ChannelId, ChannelOpen, Frame, Method, MethodId, Payload, ReplyCode, describe, next_unit,
    },
    protocol::{ClientConfig, CloseReason, Connection, Event, ServerConfig, Tuning},
    short,
};
use bytes::BytesMut;

/// The time of day at which every transcript begins, in seconds since 1970.
const TODAY: u64 = 57 * 365 * 24 * 60 * 60;

/// More timers than any transcript has.
const TIMERS: usize = 10_000;

/// What is seen of the broker.
#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    /// What `describe` makes of a frame.
    Says(String),
    HangsUp,
}

pub(super) struct World {
    now: Instant,
    vhost: Vhost,
    ends: Vec<End>,
    /// What was heard, by whom, since somebody asked.
    heard: Vec<(String, Heard)>,
}

/// Whether what the broker says on a connection is heard.
#[derive(PartialEq)]
enum Ear {
    Open,
    /// While something is done without a word about it.
    Shut,
    /// The connection has ended.
    Gone,
}

/// The broker's end of one connection.
struct End {
    id: ConnectionId,
    name: String,
    core: Connection,
    inbound: BytesMut,
    /// It has published while memory is low, and is not read. BLOCK-2
    is_blocked: bool,
    ear: Ear,
    /// Channels that the transcript has used.
    channels: BTreeSet<u16>,
}

impl World {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        let options = VhostOptions {
            names: NameSource::Numbered(0),
            ..VhostOptions::default()
        };
        let mut vhost = Vhost::new(short!("/"), options);
        vhost.date(now, TODAY);
        Self {
            now,
            vhost,
            ends: Vec::new(),
            heard: Vec::new(),
        }
    }

    pub(super) fn heard(&mut self) -> Vec<(String, Heard)> {
        std::mem::take(&mut self.heard)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.ends.iter().map(|end| end.name.as_str())
    }

    pub(super) fn knows(&self, name: &str) -> bool {
        self.ends.iter().any(|end| end.name == name)
    }

    /// A connection of which nobody has heard a word.
    pub(super) fn accept(&mut self, name: &str) {
        let id = ConnectionId(self.ends.len() as u64 + 1);
        self.ends.push(End {
            id,
            name: name.into(),
            core: Connection::server(ServerConfig::default(), self.now),
            inbound: BytesMut::new(),
            is_blocked: false,
            ear: Ear::Open,
            channels: BTreeSet::new(),
        });
    }

    /// Opens it without a word on the page, as this crate's client does it, without heartbeats.
    pub(super) fn open(&mut self, name: &str) {
        self.accept(name);
        self.end(name).ear = Ear::Shut;
        let tuning = Tuning {
            heartbeat: 0,
            ..Tuning::default()
        };
        let config = ClientConfig {
            tuning,
            ..ClientConfig::default()
        };
        let mut client = Connection::client(config, self.now);
        let (mut there, mut back) = (BytesMut::new(), BytesMut::new());
        while !client.is_open() {
            client.transmit(&mut there);
            let end = self.end(name);
            end.inbound.extend_from_slice(&there.split());
            self.read(name);
            self.end(name).core.transmit(&mut back);
            while client.receive(&mut back) {}
        }
        self.end(name).ear = Ear::Open;
    }

    /// Opens a channel that the transcript has not used yet, without a word on the page.
    pub(super) fn open_channel(&mut self, name: &str, channel: u16) {
        if channel == 0
            || !self.end(name).channels.insert(channel)
            || !self.end(name).core.is_open()
        {
            return;
        }
        let open = Frame {
            channel: ChannelId(channel),
            payload: Payload::Method(ChannelOpen::default().into()),
        };
        let end = self.end(name);
        end.ear = Ear::Shut;
        open.encode(&mut end.inbound);
        self.read(name);
        let end = self.end(name);
        end.core.transmit(&mut BytesMut::new());
        end.ear = Ear::Open;
    }

    /// The transcript opens it itself, or has to do with an error.
    pub(super) fn leave_channel(&mut self, name: &str, channel: u16) {
        self.end(name).channels.insert(channel);
    }

    /// The octets arrive.
    pub(super) fn receive(&mut self, name: &str, octets: &[u8]) -> Result<(), String> {
        let end = self.end(name);
        if end.ear == Ear::Gone {
            return Err(format!(
                "{name} says something after the end of its connection"
            ));
        }
        end.inbound.extend_from_slice(octets);
        self.read(name);
        self.go_on();
        Ok(())
    }

    pub(super) fn hang_up(&mut self, name: &str) {
        let end = self.end(name);
        let mut rest = end.inbound.split();
        end.core.end_of_stream(&mut rest);
        end.ear = Ear::Gone;
        self.tell(name);
        self.go_on();
    }

    /// Time passes, timer by timer.
    pub(super) fn pass(&mut self, time: Duration) -> Result<(), String> {
        let until = self.now + time;
        for _ in 0..TIMERS {
            let ends = self.ends.iter().filter(|end| end.ear != Ear::Gone);
            let due = ends
                .filter_map(|end| end.core.deadline())
                .chain(self.vhost.deadline())
                .min();
            self.now = due.map_or(until, |due| due.clamp(self.now, until));
            let names: Vec<_> = self.ends.iter().map(|end| end.name.clone()).collect();
            for name in names {
                let now = self.now;
                self.end(&name).core.tick(now);
                self.tell(&name);
            }
            self.vhost.tick(self.now);
            self.go_on();
            if due.is_none_or(|due| due > until) {
                return Ok(());
            }
        }
        Err(format!("more than {TIMERS} timers"))
    }

    /// Publishers are blocked, as if memory were low.
    pub(super) fn block(&mut self) {
        self.vhost.block(short!("low on memory"));
    }

    pub(super) fn unblock(&mut self) {
        self.vhost.unblock(self.now);
        self.go_on();
    }

    /// As `Broker::stop` does it. CLOSE-15
    pub(super) fn stop(&mut self) {
        let why = "broker forced connection closure with reason 'shutdown'";
        let reason = CloseReason::new(ReplyCode::CONNECTION_FORCED, why, MethodId::NONE);
        let names: Vec<_> = self.ends.iter().map(|end| end.name.clone()).collect();
        for name in names {
            self.end(&name).core.close(&reason);
            self.tell(&name);
        }
        self.go_on();
    }

    fn end(&mut self, name: &str) -> &mut End {
        let end = self.ends.iter_mut().find(|end| end.name == name);
        end.expect("a connection that was accepted")
    }

    /// Takes frame by frame what has come, and each has all its consequences before the next.
    fn read(&mut self, name: &str) {
        let now = self.now;
        self.end(name).core.tick(now);
        loop {
            let end = self.end(name);
            if end.is_blocked && !end.core.is_closing() {
                return;
            }
            let mut inbound = std::mem::take(&mut end.inbound);
            let received = end.core.receive(&mut inbound);
            end.inbound = inbound;
            self.tell(name);
            if !received {
                return;
            }
        }
    }

    /// The events of one connection go to the vhost, and what the vhost wants done is done.
    fn tell(&mut self, name: &str) {
        while let Some(event) = self.end(name).core.poll_event() {
            let (id, now) = (self.end(name).id, self.now);
            if let Event::Content(_, method, _) = &event {
                let publish = matches!(method, Method::BasicPublish(_));
                assert!(publish, "METH-4: a client does not say {method}");
            }
            self.vhost.hear(id, event, now);
            self.obey();
        }
        self.listen(name);
    }

    /// What the vhost wants done, in its order, by whomever it concerns.
    fn obey(&mut self) {
        while let Some((id, output)) = self.vhost.poll_output() {
            let end = self.ends.iter_mut().find(|end| end.id == id);
            let end = end.expect("the vhost knows no others");
            let octets = output.octets();
            end.obey(output);
            let name = end.name.clone();
            self.listen(&name);
            self.vhost.sent(id, octets, self.now);
        }
    }

    /// Whoever is not blocked any more is read.
    fn go_on(&mut self) {
        self.obey();
        let waiting =
            |end: &&End| !end.is_blocked && end.ear != Ear::Gone && !end.inbound.is_empty();
        let names: Vec<_> = self
            .ends
            .iter()
            .filter(waiting)
            .map(|end| end.name.clone())
            .collect();
        for name in names {
            self.read(&name);
        }
    }

    /// Notes what the broker says on this connection.
    fn listen(&mut self, name: &str) {
        let end = self.end(name);
        if end.ear != Ear::Open {
            return;
        }
        let mut outbound = BytesMut::new();
        end.core.transmit(&mut outbound);
        let mut heard = Vec::new();
        while let Some(unit) = next_unit(&mut outbound) {
            heard.push(Heard::Says(describe(&unit).to_string()));
        }
        assert!(outbound.is_empty(), "the broker says whole frames");
        if end.core.is_over() {
            end.ear = Ear::Gone;
            heard.push(Heard::HangsUp);
        }
        let heard = heard.into_iter().map(|heard| (name.to_owned(), heard));
        self.heard.extend(heard);
    }
}

impl End {
    /// As the broker's session does it.
    fn obey(&mut self, output: Output) {
        match output {
            Output::Blocked(_) => self.is_blocked = true,
            Output::Unblocked => self.is_blocked = false,
            _ => {}
        }
        let _ = output.tell(&mut self.core); // refused where the channel has closed in between
    }
}
