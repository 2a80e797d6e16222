//! A client's core that hears anything: it never panics, says nothing but whole frames that fit, nothing after its end,
//! and never much more than it heard. A broker is not trusted either (SEC-16).
//!
//! The first octet of the input chooses where the anything begins (at the first octet of the connection, or on an open
//! connection whose channels wait for something), the second how it is split and how much time passes.

#![no_main]

use std::time::Instant;

use amqp_rpc::{
    codec::{BasicAck, BasicCancel, BasicConsume, BasicGet, ChannelId, Method, QueueDeclare},
    protocol::{ClientConfig, CloseReason, Connection, Event, ServerConfig},
};
use amqp_rpc_fuzz::watch::Watched;
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [begin, seed, octets @ ..] = input else {
        return;
    };
    let now = Instant::now();
    let core = Connection::client(ClientConfig::default(), now);
    let mut client = if begin % 4 == 0 {
        Watched::new(core, now)
    } else {
        open(core, now)
    };
    client.feed(octets, *seed, react);
    client.assert_moderate(16);
});

/// Channel 1 waits for four replies, channel 2 for its close-ok, channel 3 for its open-ok.
fn open(core: Connection, now: Instant) -> Watched {
    let broker = Connection::server(ServerConfig::default(), now);
    let [mut client, mut broker] = Watched::joined(core, broker, now);
    for _ in 1..=2 {
        client.core.open_channel().expect("a free channel");
    }
    let mut octets = BytesMut::new();
    client.core.transmit(&mut octets);
    let mut replies = BytesMut::new();
    while broker.core.receive(&mut octets) {}
    broker.core.transmit(&mut replies);
    client.feed(&replies, 5, |_, _, _| {});
    let requests: [Method; 4] = [
        QueueDeclare::default().into(),
        BasicConsume::default().into(),
        BasicCancel::default().into(),
        BasicGet::default().into(),
    ];
    for request in requests {
        client
            .core
            .send(ChannelId(1), request)
            .expect("the channel is open");
    }
    client
        .core
        .close_channel(ChannelId(2), &CloseReason::goodbye())
        .expect("it is open");
    client.core.open_channel().expect("a free channel");
    client
}

/// An application that answers what can be answered, so that there is always something to wait for.
fn react(core: &mut Connection, event: Event, _: Instant) {
    let _ = match event {
        Event::Content(channel, Method::BasicDeliver(deliver), _) => {
            let (delivery_tag, multiple) = (deliver.delivery_tag, false);
            core.send(
                channel,
                BasicAck {
                    delivery_tag,
                    multiple,
                },
            )
        }
        Event::Reply(channel, Method::ChannelOpenOk(_), _) => {
            core.send(channel, BasicGet::default())
        }
        Event::ChannelClosed(..) => core.open_channel().map(drop),
        Event::Opened(_) => core.open_channel().map(drop),
        _ => Ok(()),
    };
}
