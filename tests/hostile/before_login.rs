//! Before anybody has logged in: whoever can open a socket can do all of this. SEC-2, SEC-7

use std::time::{Duration, Instant};

use amqp_rpc::{
    broker::{Broker, BrokerOptions},
    client::{ConnectOptions, Connection},
    codec::*,
    protocol::{BODY_LIMIT, Cause, Connection as Core, Event, ServerConfig},
};
use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant as Clock, sleep},
};

use super::{KIB, MIB, Meter, octets::*, peer, run, run_paused};

/// What a connection takes before login: its task with the loop and the core, the users of the broker, and room for two
/// of the longest frames there may be.
pub const STRANGER: usize = 16 * KIB;

/// A client that has manners gets through all of the handshake and back.
async fn assert_good(broker: &Broker) {
    let connection = Connection::open(&broker.uri()).await.unwrap();
    let channel = connection.open_channel().await.unwrap();
    channel
        .queue_declare(QueueDeclare::default())
        .await
        .unwrap();
    connection.close().await.unwrap();
}

/// What a client has to say for each stage of a broker's handshake, and the name of the stage after it.
fn stages() -> Vec<(&'static str, Vec<u8>)> {
    let start_ok = ConnectionStartOk {
        mechanism: amqp_rpc::short!("PLAIN"),
        response: Secret("\0guest\0guest".into()),
        ..Default::default()
    };
    let tune_ok = ConnectionTuneOk {
        channel_max: 2047,
        frame_max: 131_072,
        heartbeat: 0,
    };
    vec![
        ("nothing", vec![]),
        ("the protocol header", PROTOCOL_HEADER.to_vec()),
        ("start-ok", method(0, start_ok).to_vec()),
        ("tune-ok", method(0, tune_ok).to_vec()),
        (
            "open",
            method(
                0,
                ConnectionOpen {
                    virtual_host: amqp_rpc::short!("/"),
                    ..Default::default()
                },
            )
            .to_vec(),
        ),
    ]
}

/// Feeds a core as the driver does, in pieces, and says what became of it.
fn feed(core: &mut Core, octets: &[u8]) -> (Vec<Event>, usize) {
    let (mut inbound, mut events, mut longest) = (BytesMut::new(), Vec::new(), 0);
    for piece in octets.chunks(4 * KIB) {
        inbound.extend_from_slice(piece);
        while core.receive(&mut inbound) {}
        events.extend(std::iter::from_fn(|| core.poll_event()));
        longest = longest.max(inbound.len());
        core.transmit(&mut BytesMut::new());
    }
    (events, longest)
}

#[test]
fn four_gib_are_refused_at_every_stage_of_a_broker() {
    // SEC-1, SEC-7, FRAME-8: and nothing is collected for them, however much comes behind the announcement.
    let mut meter = Meter::start();
    let stages = stages();
    for reached in 0..stages.len() {
        let (after, _) = stages[reached];
        let before = stages[..=reached].concat_octets();
        for kind in [1, 2, 3, 8] {
            let mut octets = announcement(kind, 0, u32::MAX).to_vec();
            octets.extend(vec![b'x'; MIB]);
            let mut core = Core::server(ServerConfig::default(), Instant::now());
            feed(&mut core, &before);
            assert!(!core.is_closing(), "{after}");
            meter.restart();
            let (events, longest) = feed(&mut core, &octets);
            meter.assert_peak(8 * KIB, format!("4 GiB after {after}"));
            assert!(
                longest < 8 * KIB,
                "what is not understood is not collected: {longest}"
            );
            let causes: Vec<_> = events.iter().filter_map(cause).collect();
            match (after, &causes[..]) {
                ("nothing", [Cause::NotAmqp(_)]) => {} // HDR-3
                ("open", [cause]) => assert_eq!(cause.code(), Some(ReplyCode::FRAME_ERROR)),
                (_, [Cause::Refused(text)]) => {
                    assert!(
                        text.contains("frame payload of 4294967295 octets, at most"),
                        "{text}"
                    ); // CONN-12
                }
                (_, other) => panic!("after {after}: {other:?}"),
            }
        }
    }
}

fn cause(event: &Event) -> Option<&Cause> {
    match event {
        Event::Closed(cause) => Some(cause),
        _ => None,
    }
}

/// The octets of all of them, one behind the other.
trait Octets {
    fn concat_octets(&self) -> Vec<u8>;
}

impl Octets for [(&'static str, Vec<u8>)] {
    fn concat_octets(&self) -> Vec<u8> {
        self.iter().flat_map(|(_, octets)| octets.clone()).collect()
    }
}

#[test]
fn a_handshake_of_heartbeats_and_frames_too_early_costs_nothing() {
    // SEC-9, CONN-13, CONN-14: a mebibyte of heartbeats is heard; anything on a channel ends the handshake.
    let mut meter = Meter::start();
    let stages = stages();
    let beats = heartbeats(MIB / 8);
    for reached in 1..stages.len() - 1 {
        let (after, _) = stages[reached];
        let mut core = Core::server(ServerConfig::default(), Instant::now());
        feed(&mut core, &stages[..=reached].concat_octets());
        meter.restart();
        let (events, _) = feed(&mut core, &beats);
        meter.assert_peak(16 * KIB, format!("131,072 heartbeats after {after}"));
        assert!(events.is_empty() && !core.is_closing());
        for channel in 1..=100 {
            feed(&mut core, &method(channel, ChannelOpen::default()));
        }
        meter.assert_peak(16 * KIB, format!("100 channels too early after {after}"));
        assert!(core.is_closing());
    }
}

#[test]
fn a_table_before_login_is_as_large_as_a_frame_lets_it_be() {
    // SEC-7, SEC-17: start-ok has client-properties, and comes from a stranger. 4096 octets become 120 times as many
    // while they are read, and are forgotten when the login is refused.
    let mut meter = Meter::start();
    for password in ["guest", "wrong"] {
        let mut payload = b"\0\x0a\0\x0b".to_vec();
        payload.extend(table(&array_of_smallest(4000)));
        payload.extend(b"\x05PLAIN\0\0\0\x0c\0guest\0");
        payload.extend(password.as_bytes());
        payload.push(0);
        payload.truncate(4096);
        let start_ok = envelope(1, 0, &payload);
        let mut core = Core::server(ServerConfig::default(), Instant::now());
        feed(&mut core, &PROTOCOL_HEADER);
        meter.restart();
        feed(&mut core, &start_ok);
        meter.assert_peak(120 * 4096, "one start-ok");
        if password == "wrong" {
            assert!(core.is_over());
            meter.assert_kept(0, "a login that was refused");
        }
    }
}

#[test]
fn five_hundred_strangers_that_only_connect() {
    // SEC-7, SEC-8: an open socket is the cheapest thing to have many of.
    const STRANGERS: usize = 500;
    run(async {
        let mut meter = Meter::start();
        let broker = Broker::start().await.unwrap();
        assert_good(&broker).await;
        let mut sockets = Vec::with_capacity(STRANGERS);
        meter.restart();
        for number in 0..STRANGERS {
            let mut socket = TcpStream::connect(broker.address()).await.unwrap();
            if number % 2 == 1 {
                socket.write_all(&PROTOCOL_HEADER).await.unwrap();
                let _ = socket.read(&mut [0; 1000]).await.unwrap(); // the broker has said connection.start
            }
            sockets.push(socket);
        }
        meter.assert_peak(STRANGERS * STRANGER, format!("{STRANGERS} strangers"));
        assert_good(&broker).await;
    });
}

#[test]
fn a_slow_loris_is_dropped_after_ten_seconds() {
    // SEC-2, HDR-4: an octet a second, at every stage; none of them prolongs it. Virtual time.
    const EACH: usize = 40;
    run_paused(async {
        let mut meter = Meter::start();
        let broker = Broker::start().await.unwrap();
        let stages = stages();
        meter.restart();
        let started = Clock::now();
        let mut flood = JoinSet::new();
        for reached in 0..stages.len() - 1 {
            for _ in 0..EACH {
                let mut said = stages[..=reached].concat_octets();
                let slowly = said.len();
                match reached {
                    0 => said.extend(PROTOCOL_HEADER),
                    _ => said.extend(envelope(1, 0, &[0; 4000])),
                }
                let mut socket = TcpStream::connect(broker.address()).await.unwrap();
                flood.spawn(async move {
                    socket.write_all(&said[..slowly]).await.unwrap();
                    for octet in &said[slowly..] {
                        if socket.write_all(&[*octet]).await.is_err()
                            || started.elapsed() > Duration::from_secs(11)
                        {
                            break;
                        }
                        sleep(Duration::from_secs(1)).await;
                    }
                    let _ = socket.read_to_end(&mut Vec::new()).await; // to the end, or a reset
                    started.elapsed()
                });
            }
        }
        sleep(Duration::from_secs(5)).await;
        // The other ends of the sockets are in this process as well, each a task with what it says.
        let other_ends = 24 * KIB;
        meter.assert_peak(
            flood.len() * (STRANGER + other_ends),
            format!("{} slow strangers", flood.len()),
        );
        assert_good(&broker).await;
        while let Some(ended) = flood.join_next().await {
            let after = ended.unwrap();
            assert!((10..14).contains(&after.as_secs()), "{after:?}");
        }
        assert_good(&broker).await;
        meter.assert_kept(64 * KIB, "when they are gone");
    });
}

#[test]
fn more_strangers_than_allowed_are_not_let_in() {
    // SEC-8: the next one is dropped, and a place is free again when its owner is.
    run_paused(async {
        let _meter = Meter::start();
        let options = BrokerOptions {
            max_connections: 3,
            ..Default::default()
        };
        let broker = Broker::bind("127.0.0.1:0", options).await.unwrap();
        let mut sockets = Vec::new();
        for _ in 0..3 {
            let mut socket = TcpStream::connect(broker.address()).await.unwrap();
            socket.write_all(&PROTOCOL_HEADER).await.unwrap();
            assert!(
                socket.read(&mut [0; 1000]).await.unwrap() > 8,
                "connection.start"
            );
            sockets.push(socket);
        }
        let mut fourth = TcpStream::connect(broker.address()).await.unwrap();
        let _ = fourth.write_all(&PROTOCOL_HEADER).await;
        let mut said = Vec::new();
        let _ = fourth.read_to_end(&mut said).await;
        assert!(said.is_empty(), "dropped without a word");
        sleep(Duration::from_secs(11)).await;
        assert_good(&broker).await;
    });
}

#[test]
fn four_gib_are_refused_at_every_stage_of_a_client() {
    // SEC-16: the broker may be the hostile one, and a client has credentials to lose.
    run_paused(async {
        let mut meter = Meter::start();
        for stage in 0..3 {
            let (near, far) = tokio::io::duplex(64 * KIB);
            let (reader, writer) = tokio::io::split(near);
            let mut peer = peer::Peer::new(far);
            meter.restart();
            let opening = Connection::over(reader, writer, ConnectOptions::default());
            let (opened, ()) = tokio::join!(opening, async {
                if stage > 0 {
                    peer.greet().await;
                }
                if stage > 1 {
                    let tune = ConnectionTune {
                        channel_max: 2047,
                        frame_max: 131_072,
                        heartbeat: 600,
                    };
                    peer.say(peer::method(0, tune)).await;
                    peer.expect("connection.tune-ok").await;
                    peer.expect("connection.open").await;
                }
                peer.say(BytesMut::from(&announcement(1, 0, u32::MAX)[..]))
                    .await;
                if stage > 1 {
                    peer.expect("connection.close").await; // CONN-18
                    drop(peer);
                }
            });
            let why = peer::cause(opened);
            assert_eq!(why.code(), Some(ReplyCode::FRAME_ERROR), "{why}");
            // Both ends of the pipe are in this process.
            meter.assert_peak(300 * KIB, format!("4 GiB at stage {stage} of a client"));
        }
    });
}

#[test]
fn the_limit_of_a_body_is_one_for_both_sides() {
    let _meter = Meter::start();
    assert_eq!(ServerConfig::default().body_limit, BODY_LIMIT);
    assert_eq!(
        amqp_rpc::protocol::ClientConfig::default().body_limit,
        BODY_LIMIT
    );
}
