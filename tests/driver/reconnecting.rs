//! Clients that outlive their connection, on brokers that come and go. Time is real here, since the sockets are.

use std::{net::SocketAddr, time::Duration};

use amqp_rpc::{
    broker::{Broker, BrokerOptions},
    client::{Connection, Delivery, Message},
    codec::*,
    rpc::{CallOptions, ConnectionState, RpcClient, RpcError},
    short,
};
use tokio::time::timeout;

/// A bound, which a slow machine does not meet.
const PATIENCE: Duration = Duration::from_secs(30);

/// A broker, and a server in it that the test plays.
struct Place {
    broker: Broker,
    _connection: Connection,
    requests: amqp_rpc::client::Consumer<Delivery>,
    replies: amqp_rpc::client::Channel,
}

impl Place {
    async fn start(at: &str) -> Self {
        let broker = Broker::bind(at, BrokerOptions::default()).await.unwrap();
        let connection = broker.connect().await.unwrap();
        let replies = connection.open_channel().await.unwrap();
        let queue = QueueDeclare {
            queue: short!("q"),
            ..Default::default()
        };
        replies.queue_declare(queue).await.unwrap();
        let requests = replies.consume("q").await.unwrap();
        Self {
            broker,
            _connection: connection,
            requests,
            replies,
        }
    }

    fn address(&self) -> SocketAddr {
        self.broker.address()
    }

    async fn request(&mut self) -> Properties {
        let delivery = timeout(PATIENCE, self.requests.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        let properties = delivery.properties().clone();
        delivery.ack().await.unwrap();
        properties
    }

    async fn reply(&self, to: Properties) {
        let properties = Properties {
            correlation_id: to.correlation_id,
            ..Default::default()
        };
        let reply = Message::new(properties, "done");
        self.replies
            .publish("", to.reply_to.unwrap(), reply)
            .await
            .unwrap();
    }
}

/// Whether a call that was lost with its connection may have been executed.
#[track_caller]
fn maybe_executed(outcome: Result<Message, RpcError>) -> bool {
    match outcome {
        Err(RpcError::ConnectionLost { maybe_executed, .. }) => maybe_executed,
        other => panic!("expected a lost connection, got {other:?}"),
    }
}

#[tokio::test]
async fn a_call_in_flight_is_lost_at_once_and_an_idempotent_one_is_sent_again() {
    // RPC-3, RPC-11, RPC-15
    let (mut one, mut two) = (
        Place::start("127.0.0.1:0").await,
        Place::start("127.0.0.1:0").await,
    );
    let cluster = format!("amqp://{},{}", one.address(), two.address());
    let rpc = RpcClient::connect(cluster.as_str()).await.unwrap();
    let mut state = rpc.state();
    let patiently = CallOptions::within(PATIENCE);
    let call = |options| {
        let rpc = rpc.clone();
        tokio::spawn(async move { rpc.call_with(options, "q", "x").await })
    };
    let once = call(patiently);
    one.request().await;
    let again = call(patiently.idempotent());
    let first = one.request().await;

    one.broker.stop().await;
    let lost = timeout(PATIENCE / 2, once).await.expect("at once").unwrap();
    assert!(maybe_executed(lost));

    let second = two.request().await;
    assert!(
        first.message_id.is_some() && first.message_id == second.message_id,
        "by which a server knows it"
    );
    assert_ne!(first.correlation_id, second.correlation_id);
    assert_ne!(
        first.reply_to, second.reply_to,
        "a reply to the old address can never come to the new one"
    );
    two.reply(second).await;
    assert_eq!(again.await.unwrap().unwrap().body, "done");

    let connected = state
        .wait_for(|state| matches!(state, ConnectionState::Connected))
        .await;
    drop(connected.unwrap());
    let stats = rpc.stats();
    assert_eq!(
        (stats.answered, stats.lost, stats.resent, stats.reconnects),
        (1, 1, 1, 1)
    );
}

#[tokio::test]
async fn a_later_attempt_does_not_take_back_what_an_earlier_one_may_have_done() {
    // RPC-11: the second broker has no such queue, and so the second request was not executed. The first may have been.
    let mut one = Place::start("127.0.0.1:0").await;
    let two = Broker::bind("127.0.0.1:0", BrokerOptions::default()).await;
    let two = two.unwrap();
    let cluster = format!("amqp://{},{}", one.address(), two.address());
    let rpc = RpcClient::connect(cluster.as_str()).await.unwrap();
    let options = CallOptions::within(PATIENCE).idempotent();
    let played = async {
        one.request().await;
        one.broker.stop().await;
    };
    let (outcome, ()) = tokio::join!(rpc.call_with(options, "q", "x"), played);
    assert!(maybe_executed(outcome));
    assert_eq!((rpc.stats().lost, rpc.stats().resent), (1, 1));
}

#[tokio::test]
async fn a_broker_that_comes_back_is_found_again() {
    let mut place = Place::start("127.0.0.1:0").await;
    let address = place.address().to_string();
    let rpc = RpcClient::connect(format!("amqp://{address}").as_str())
        .await
        .unwrap();
    let mut state = rpc.state();
    for _ in 0..3 {
        place.broker.stop().await;
        let down = state
            .wait_for(|state| matches!(state, ConnectionState::Reconnecting { .. }))
            .await;
        drop(down.unwrap());
        // Nothing was sent, so nothing was executed; the call waits for a connection as long as it has time.
        let outcome = rpc
            .call_with(CallOptions::within(Duration::from_millis(50)), "q", "x")
            .await;
        assert!(!maybe_executed(outcome));
        let waiting = rpc.call_with(CallOptions::within(PATIENCE), "q", "x");
        let back = async {
            let mut place = Place::start(&address).await;
            let request = place.request().await;
            place.reply(request).await;
            place
        };
        let (outcome, started) = tokio::join!(waiting, back);
        assert_eq!(outcome.unwrap().body, "done");
        place = started;
    }
    assert_eq!(rpc.stats().reconnects, 3);
    rpc.close(PATIENCE).await.unwrap();
    assert!(matches!(*rpc.state().borrow(), ConnectionState::Closed(_)));
    let outcome = rpc.call("q", "x").await;
    assert!(
        matches!(
            outcome,
            Err(RpcError::ShutDown {
                maybe_executed: false
            })
        ),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn a_client_on_a_given_connection_ends_with_it() {
    let place = Place::start("127.0.0.1:0").await;
    let connection = place.broker.connect().await.unwrap();
    let rpc = RpcClient::new(&connection).await.unwrap();
    let mut state = rpc.state();
    connection.close().await.unwrap();
    let closed = state
        .wait_for(|state| matches!(state, ConnectionState::Closed(_)))
        .await;
    drop(closed.unwrap());
    let outcome = rpc.call_with(CallOptions::within(PATIENCE), "q", "x").await;
    assert!(!maybe_executed(outcome));
}

#[tokio::test]
async fn the_first_connection_must_succeed() {
    let place = Place::start("127.0.0.1:0").await;
    let address = place.address();
    place.broker.stop().await;
    assert!(
        RpcClient::connect(format!("amqp://{address}").as_str())
            .await
            .is_err()
    );
    assert!(RpcClient::connect("").await.is_err(), "nowhere to go");
}
