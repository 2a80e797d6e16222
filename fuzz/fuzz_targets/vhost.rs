//! The broker's brain. By the first octet: a script of sensible actions, in which it does what the model in
//! `tests/model` does; or any methods from several connections, after which its books still add up.

#![no_main]

#[path = "../../tests/model/queues.rs"]
#[allow(dead_code)]
mod queues;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use amqp_rpc::{
    broker::{
        NameSource, VhostOptions,
        vhost::{ConnectionId, Output, Vhost},
    },
    codec::{ChannelId, FieldTable, FieldValue, Frame, Method, Payload, QueueDeclare, ShortString},
    protocol::Message,
    short,
};
use amqp_rpc_fuzz::{decode, grammar};
use arbitrary::{Arbitrary, Result, Unstructured};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [first, rest @ ..] = input else {
        return;
    };
    let u = &mut Unstructured::new(rest);
    if first % 2 == 0 {
        let mut world = queues::World::new();
        while !u.is_empty()
            && let Ok(action) = queues::Action::arbitrary(u)
        {
            world.act(&action);
        }
    } else {
        let mut crowd = Crowd::new();
        while !u.is_empty() && crowd.act(u).is_ok() {
            crowd.listen();
            crowd.add_up();
        }
        crowd.leave();
    }
});

const NAMES: [&str; 8] = [
    "",
    "a",
    "b",
    "amq.direct",
    "topic",
    "direct",
    "amq.gen-1",
    "amq.gen-2",
];

/// Connections that say anything, and what is known of their channels: the delivery tags so far.
struct Crowd {
    vhost: Vhost,
    now: Instant,
    channels: BTreeMap<(u64, u16), u64>,
    /// Who may not publish.
    blocked: BTreeSet<u64>,
}

impl Crowd {
    fn new() -> Self {
        let options = VhostOptions {
            names: NameSource::Numbered(0),
            memory_limit: 20_000,
            entry_limit: 60_000,
            max_unsent_octets: 2000,
            max_consumers: 8,
            max_unacked: 8,
        };
        let vhost = Vhost::new(short!("/"), options);
        let mut crowd = Self {
            vhost,
            now: Instant::now(),
            channels: BTreeMap::new(),
            blocked: BTreeSet::new(),
        };
        for connection in 1..=3 {
            crowd.connect(connection);
        }
        crowd
    }

    fn connect(&mut self, connection: u64) {
        self.vhost
            .connect(ConnectionId(connection), short!("guest"), connection == 1);
        for channel in 1..=2 {
            self.open(connection, channel);
        }
    }

    fn open(&mut self, connection: u64, channel: u16) {
        self.vhost
            .open_channel(ConnectionId(connection), ChannelId(channel));
        self.channels.insert((connection, channel), 0);
    }

    fn act(&mut self, u: &mut Unstructured) -> Result<()> {
        let (id, channel) = (u.int_in_range(1..=3)?, u.int_in_range(1..=2)?);
        let (connection, lane) = (ConnectionId(id), ChannelId(channel));
        match u.int_in_range(0..=23)? {
            0 => {
                self.vhost.close_channel(connection, lane, self.now);
                self.open(id, channel);
            }
            1 => {
                self.vhost.disconnect(connection, self.now);
                self.channels.retain(|(of, _), _| *of != id);
                self.blocked.remove(&id);
                self.listen();
                self.connect(id);
            }
            2 => {
                self.now += Duration::from_millis(u.int_in_range(0..=3)?);
                self.vhost.tick(self.now);
            }
            20 => self.vhost.block(short!("for once")),
            21 => self.vhost.unblock(self.now),
            22..=23 => {
                let declare = mortal(u)?.into();
                self.vhost.method(connection, lane, declare, self.now);
            }
            3..=4 => self
                .vhost
                .sent(connection, u.int_in_range(0..=4000)?, self.now),
            5..=9 => {
                let header = grammar::envelope(2, 0, &grammar::header(u)?);
                let Some(Payload::Header(header)) = payload(&header) else {
                    return Ok(());
                };
                let body = vec![b'x'; u.int_in_range(0..=300)?];
                let message = Message {
                    properties: header.properties,
                    body: body.into(),
                };
                if let Some(Method::BasicPublish(publish)) = self.method(u, Some(40))? {
                    self.vhost
                        .publish(connection, lane, publish, message, self.now);
                }
            }
            _ => {
                if let Some(method) = self.method(u, None)? {
                    self.vhost.method(connection, lane, method, self.now);
                }
            }
        }
        Ok(())
    }

    /// A method of the grammar: any, or basic.publish.
    fn method(&self, u: &mut Unstructured, id: Option<u16>) -> Result<Option<Method>> {
        let octets = match id {
            None => grammar::method(u)?,
            Some(id) => grammar::arguments_of(60, id, u)?,
        };
        Ok(match payload(&grammar::envelope(1, 1, &octets)) {
            Some(Payload::Method(method)) => Some(method),
            _ => None,
        })
    }

    /// Nothing is said to a channel that is closed, and delivery tags count up by one.
    fn listen(&mut self) {
        while let Some((ConnectionId(id), output)) = self.vhost.poll_output() {
            let known = |channel: ChannelId| self.channels.contains_key(&(id, channel.0));
            match output {
                Output::Method { channel, method } => assert!(known(channel), "{method}"),
                Output::Content {
                    channel, method, ..
                } => {
                    let tags = self
                        .channels
                        .get_mut(&(id, channel.0))
                        .expect("an open channel");
                    let tag = match method {
                        Method::BasicDeliver(deliver) => deliver.delivery_tag,
                        Method::BasicGetOk(ok) => ok.delivery_tag,
                        Method::BasicReturn(_) => continue,
                        other => panic!("{other} carries no content"),
                    };
                    *tags += 1;
                    assert_eq!(tag.0, *tags, "ACK-1");
                }
                Output::CloseChannel { channel, .. } => {
                    assert!(known(channel));
                    self.channels.remove(&(id, channel.0));
                }
                Output::CloseConnection { .. } => self.channels.retain(|(of, _), _| *of != id),
                Output::Blocked(_) => assert!(self.blocked.insert(id), "BLOCK-1"),
                Output::Unblocked => assert!(self.blocked.remove(&id), "BLOCK-1"),
            }
        }
        for connection in 1..=3 {
            // Who lost everything comes back; a channel that is lost stays lost until its connection does.
            if !self.channels.keys().any(|(id, _)| *id == connection) {
                self.vhost.disconnect(ConnectionId(connection), self.now);
                self.blocked.remove(&connection);
                self.connect(connection);
            }
        }
    }

    /// What queues count as unacknowledged was delivered to channels that are open.
    fn add_up(&mut self) {
        let delivered: u64 = self.channels.values().sum();
        let stats = NAMES.iter().filter_map(|name| self.vhost.queue(name));
        let unacked: usize = stats.map(|stats| stats.unacked).sum();
        assert!(
            unacked as u64 <= delivered,
            "{unacked} unacked of {delivered}"
        );
    }

    /// When everybody is gone nobody holds anything. CHAN-11, CONS-13
    fn leave(&mut self) {
        for connection in 1..=3 {
            self.vhost.disconnect(ConnectionId(connection), self.now);
        }
        while self.vhost.poll_output().is_some() {}
        for stats in NAMES.iter().filter_map(|name| self.vhost.queue(name)) {
            assert_eq!((stats.unacked, stats.consumers), (0, 0));
        }
    }
}

/// A queue in which messages die: late, too many, or too often returned, and perhaps sent on to another.
fn mortal(u: &mut Unstructured) -> Result<QueueDeclare> {
    let mut arguments = FieldTable::EMPTY;
    let number = |u: &mut Unstructured| u.int_in_range(0..=3).map(FieldValue::I32);
    if u.arbitrary()? {
        arguments.insert(short!("x-message-ttl"), number(u)?);
    }
    if u.arbitrary()? {
        arguments.insert(short!("x-max-length"), number(u)?);
    }
    if u.arbitrary()? {
        arguments.insert(short!("x-delivery-limit"), number(u)?);
        arguments.insert(short!("x-queue-type"), "quorum");
    }
    if u.arbitrary()? {
        arguments.insert(short!("x-dead-letter-exchange"), *u.choose(&NAMES)?);
        if u.arbitrary()? {
            arguments.insert(short!("x-dead-letter-routing-key"), *u.choose(&NAMES)?);
        }
    }
    Ok(QueueDeclare {
        queue: ShortString::literal(*u.choose(&NAMES)?),
        durable: true,
        arguments,
        ..QueueDeclare::default()
    })
}

fn payload(octets: &[u8]) -> Option<Payload> {
    let frame = decode(octets).0.pop()?;
    frame.ok().map(|Frame { payload, .. }| payload)
}
