//! A broker, core and brain, that hears anything: it never panics, says nothing but whole frames that fit, nothing
//! after its end, and never much more than it heard.
//!
//! The first octet of the input chooses where the anything begins (at the first octet of the connection, or on an open
//! connection with a channel in each of its states), the second how it is split and how much time passes.

#![no_main]

use std::time::Instant;

use amqp_rpc::{
    broker::{
        NameSource, VhostOptions,
        vhost::{ConnectionId, Vhost},
    },
    codec::{ChannelId, Method},
    protocol::{ClientConfig, CloseReason, Connection, Event, ServerConfig},
    short,
};
use amqp_rpc_fuzz::watch::Watched;
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

const ID: ConnectionId = ConnectionId(1);

fuzz_target!(|input: &[u8]| {
    let [begin, seed, octets @ ..] = input else {
        return;
    };
    let now = Instant::now();
    let core = Connection::server(ServerConfig::default(), now);
    let options = VhostOptions {
        names: NameSource::Numbered(0),
        ..VhostOptions::default()
    };
    let mut vhost = Vhost::new(short!("/"), options);
    let mut broker = if begin % 4 == 0 {
        Watched::new(core, now)
    } else {
        vhost.connect(ID, short!("guest"), true);
        open(core, &mut vhost, now)
    };
    broker.feed(octets, *seed, |core, event, now| {
        react(&mut vhost, core, event, now)
    });
    // The most that is no mistake: a recover of 13 octets has everything redelivered that was published before, and an
    // input of 4096 octets has room for some hundreds of either.
    broker.assert_moderate(1 << 12);
});

/// Channel 1 is open, channel 2 is being closed, channel 3 is in the middle of a content.
fn open(core: Connection, vhost: &mut Vhost, now: Instant) -> Watched {
    let client = Connection::client(ClientConfig::default(), now);
    let [mut client, mut broker] = Watched::joined(client, core, now);
    for channel in 1..=3 {
        client.core.open_channel().expect("a free channel");
        vhost.open_channel(ID, ChannelId(channel));
    }
    let mut octets = BytesMut::new();
    client.core.transmit(&mut octets);
    broker.feed(&octets, 5, |_, _, _| {});
    broker
        .core
        .close_channel(ChannelId(2), &CloseReason::goodbye())
        .expect("it is open");
    broker.feed(
        b"\x01\x00\x03\x00\x00\x00\x09\x00\x3c\x00\x28\x00\x00\x00\x00\x00\xce",
        5,
        |core, event, now| {
            react(vhost, core, event, now);
        },
    );
    broker
}

/// As the broker's session does it, without its task.
fn react(vhost: &mut Vhost, core: &mut Connection, event: Event, now: Instant) {
    if let Event::Content(_, method, _) = &event {
        let publish = matches!(method, Method::BasicPublish(_));
        assert!(publish, "METH-4: a client does not say {method}");
    }
    vhost.hear(ID, event, now);
    while let Some((_, output)) = vhost.poll_output() {
        let octets = output.octets();
        let _ = output.tell(core); // refused where the channel has closed in between
        vhost.sent(ID, octets, now);
    }
}
