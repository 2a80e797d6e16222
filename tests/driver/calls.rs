//! Remote calls against a broker that does what the test says: one outcome for each way to end.

use std::time::Duration;

use amqp_rpc::{
    client::ConnectOptions,
    codec::*,
    rpc::{CallOptions, ConnectionState, ReplyMode, RpcClient, RpcClientOptions, RpcError},
    short,
};
use bytes::BytesMut;

use super::peer::{Peer, encoded, method};

const ID: ShortString = ShortString::literal("the call");
const DIRECT: ShortString = ShortString::literal("amq.rabbitmq.reply-to");

/// A client whose calls all have the same id, and the broker that it talks to.
async fn client(reply_mode: ReplyMode) -> (RpcClient, Peer) {
    let (connection, mut peer) = Peer::pair(ConnectOptions::default(), 1 << 16).await;
    let options = RpcClientOptions {
        reply_mode,
        correlation_id: || ID,
        ..Default::default()
    };
    let rpc = peer
        .serving(RpcClient::with_options(&connection, options))
        .await;
    (rpc.unwrap(), peer)
}

/// The next request, and where its reply has to go.
async fn request(peer: &mut Peer) -> (BasicPublish, Properties) {
    let (_, published) = peer.expect("basic.publish").await;
    let header = peer.reader.frame().await.unwrap();
    let body = peer.reader.frame().await.unwrap();
    assert!(matches!(body.payload, Payload::Body(_)), "{body:?}");
    match (published, header.payload) {
        (Method::BasicPublish(publish), Payload::Header(header)) => (publish, *header.properties),
        other => panic!("expected a publish and its header, got {other:?}"),
    }
}

/// A content whose only property is a correlation id.
fn content(carrier: impl Into<Method>, id: &ShortString, body: &'static str) -> BytesMut {
    let properties = Properties {
        correlation_id: Some(id.clone()),
        ..Default::default()
    };
    let header = ContentHeader {
        class_id: 60,
        body_size: body.len() as u64,
        properties: properties.into(),
    };
    let mut octets = method(1, carrier);
    octets.extend_from_slice(&encoded(1, Payload::Header(header)));
    octets.extend_from_slice(&encoded(1, Payload::Body(body.into())));
    octets
}

fn reply(exchange: ShortString, routing_key: ShortString, id: &ShortString) -> BytesMut {
    let deliver = BasicDeliver {
        consumer_tag: ConsumerTag(short!("ctag-1.1")),
        delivery_tag: DeliveryTag(1),
        exchange,
        routing_key,
        ..Default::default()
    };
    content(deliver, id, "832040")
}

fn confirm() -> BytesMut {
    let delivery_tag = DeliveryTag(1);
    method(
        1,
        BasicAck {
            delivery_tag,
            multiple: false,
        },
    )
}

fn returned() -> BytesMut {
    let no_route = BasicReturn {
        reply_code: ReplyCode::NO_ROUTE,
        reply_text: short!("NO_ROUTE"),
        routing_key: short!("q"),
        ..Default::default()
    };
    content(no_route, &ID, "30")
}

/// Calls, lets the broker say this behind the request, and gives the outcome.
async fn outcome_of(words: &[BytesMut]) -> Result<(), RpcError> {
    let (rpc, mut peer) = client(ReplyMode::DirectReplyTo).await;
    let broker = async {
        request(&mut peer).await;
        for said in words {
            peer.say(said.clone()).await;
        }
        peer.serving(std::future::pending::<()>()).await;
    };
    tokio::select! {
        outcome = rpc.call("q", "30") => outcome.map(|reply| assert_eq!(reply.body, "832040")),
        () = broker => unreachable!("it is pending"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_is_one_round_trip() {
    // RPC-1, RPC-7, RPC-12, DRT-1, DRT-2: all that is needed is prepared once. Then a call is one request out and its
    // reply in, and the confirm, for which nobody waits; the client sends nothing more until the next call.
    let (connection, mut peer) = Peer::pair(ConnectOptions::default(), 1 << 16).await;
    let preparing = RpcClient::new(&connection);
    let granting = async {
        for name in ["channel.open", "confirm.select"] {
            peer.grant(name).await;
        }
        peer.grant("basic.consume").await
    };
    let (rpc, consume) = tokio::join!(preparing, granting);
    let Method::BasicConsume(consume) = consume else {
        unreachable!()
    };
    assert!(consume.no_ack && consume.queue == DIRECT);
    let rpc = rpc.unwrap();
    for _ in 0..2 {
        let broker = async {
            let (publish, properties) = request(&mut peer).await;
            assert!(publish.mandatory && publish.exchange.is_empty() && publish.routing_key == "q");
            assert_eq!(properties.reply_to, Some(DIRECT));
            assert_eq!(properties.expiration, Some(short!("5000"))); // RPC-10
            let deadline = properties
                .headers
                .unwrap()
                .get("rpc-deadline")
                .and_then(FieldValue::as_integer);
            assert!(deadline > Some(1_700_000_000_000), "{deadline:?}");
            peer.say(reply(
                short!(""),
                DIRECT,
                &properties.correlation_id.unwrap(),
            ))
            .await;
        };
        let (outcome, ()) = tokio::join!(rpc.call("q", "30"), broker);
        assert_eq!(outcome.unwrap().body, "832040");
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_first_decides() {
    // CONF-6, CONF-7, RPC-6, RPC-7: a return comes before the confirm of its publish, and ends the call all the same.
    let unroutable = outcome_of(&[returned(), confirm()]).await;
    assert!(
        matches!(
            unroutable,
            Err(RpcError::Unroutable {
                code: ReplyCode::NO_ROUTE,
                ..
            })
        ),
        "{unroutable:?}"
    );
    let answer = || reply(short!(""), DIRECT, &ID);
    assert!(
        outcome_of(&[answer()]).await.is_ok(),
        "nobody waits for the confirm"
    );
    assert!(outcome_of(&[confirm(), answer(), answer()]).await.is_ok());
    let nack = BasicNack {
        delivery_tag: DeliveryTag(1),
        multiple: false,
        requeue: false,
    };
    let refused = outcome_of(&[method(1, nack)]).await;
    assert!(
        matches!(refused, Err(RpcError::Refused { .. })),
        "{refused:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_timeout_says_what_is_known() {
    // RPC-9, RPC-12, BLOCK-1
    let told = async |words: &[BytesMut]| match outcome_of(words).await {
        Err(RpcError::Timeout(no_reply)) => no_reply,
        other => panic!("{other:?}"),
    };
    let unconfirmed = told(&[]).await;
    assert_eq!(
        (unconfirmed.confirmed, unconfirmed.elapsed),
        (false, Duration::from_secs(5))
    );
    assert_eq!(
        (unconfirmed.queue, unconfirmed.correlation_id),
        (short!("q"), ID)
    );
    assert!(told(&[confirm()]).await.confirmed);
    let reason = short!("low on memory");
    let blocked = told(&[method(
        0,
        ConnectionBlocked {
            reason: reason.clone(),
        },
    )])
    .await;
    assert_eq!(blocked.blocked, Some(reason));
    assert_eq!(
        blocked.to_string(),
        "queue q within 5 s: the broker takes no requests now (low on memory)"
    );
}

#[tokio::test(start_paused = true)]
async fn a_reply_behind_the_deadline_is_late_also_while_the_broker_is_asked() {
    // RPC-6, RPC-9
    let (rpc, mut peer) = client(ReplyMode::DirectReplyTo).await;
    let broker = async {
        request(&mut peer).await;
        peer.expect("channel.open").await; // who consumes from the queue?
        peer.say(reply(short!(""), DIRECT, &ID)).await;
        peer.serving(std::future::pending::<()>()).await;
    };
    let outcome = tokio::select! {
        outcome = rpc.call("q", "30") => outcome,
        () = broker => unreachable!("it is pending"),
    };
    assert!(matches!(outcome, Err(RpcError::Timeout(_))), "{outcome:?}");
    assert_eq!((rpc.stats().late, rpc.stats().timed_out), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn only_what_comes_to_our_own_address_is_a_reply() {
    // RPC-4, DRT-12: through another exchange, to another queue, or without the id of a call
    for (mode, address) in [
        (ReplyMode::DirectReplyTo, DIRECT),
        (ReplyMode::ExclusiveQueue, short!("q")),
    ] {
        let (rpc, mut peer) = client(mode).await;
        let broker = async {
            request(&mut peer).await;
            peer.say(reply(short!("amq.fanout"), address.clone(), &ID))
                .await;
            peer.say(reply(short!(""), short!("elsewhere"), &ID)).await;
            peer.say(reply(
                short!(""),
                address.clone(),
                &short!("of another call"),
            ))
            .await;
            peer.say(reply(short!(""), address, &ID)).await;
        };
        let (outcome, ()) = tokio::join!(rpc.call("q", "30"), broker);
        assert_eq!(outcome.unwrap().body, "832040");
        let stats = rpc.stats();
        assert_eq!(
            (stats.foreign, stats.late, stats.answered, stats.pending),
            (2, 1, 1, 0)
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_channel_is_told_from_a_lost_connection_and_replaced() {
    // RPC-11, CONS-18: the reply consumer is cancelled, or its channel closed; the connection goes on.
    let close = ChannelClose {
        reply_code: ReplyCode::PRECONDITION_FAILED,
        reply_text: short!("PRECONDITION_FAILED - no"),
        ..Default::default()
    };
    let cancel = BasicCancel {
        consumer_tag: ConsumerTag(short!("ctag-1.1")),
        no_wait: true,
    };
    for loss in [method(1, close), method(1, cancel)] {
        let (rpc, mut peer) = client(ReplyMode::DirectReplyTo).await;
        let mut state = rpc.state();
        let broker = async {
            request(&mut peer).await;
            peer.say(loss).await;
        };
        let idempotent = CallOptions::default().idempotent(); // which is no reason to try what closed a channel again
        let (outcome, ()) = tokio::join!(rpc.call_with(idempotent, "q", "30"), broker);
        assert!(
            matches!(
                outcome,
                Err(RpcError::ChannelClosed {
                    maybe_executed: true,
                    ..
                })
            ),
            "{outcome:?}"
        );
        let back = async {
            let seen = state
                .wait_for(|state| matches!(state, ConnectionState::Connected))
                .await;
            drop(seen.unwrap());
            while rpc.stats().reconnects == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        peer.serving(back).await;
        assert_eq!(rpc.stats().lost, 1);
    }
}
