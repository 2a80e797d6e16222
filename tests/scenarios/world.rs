//! What a scenario runs in: a broker somewhere, names of its own, and words for what it expects.

use std::{
    fmt::Debug,
    future::Future,
    sync::{Arc, Mutex},
};

use amqp_rpc::{
    broker::Broker,
    client::{Channel, Confirm, ConnectOptions, Connection, Consumer, Delivery, Error},
    codec::*,
    protocol::{Cause, CloseReason, Message},
    rpc::{CallOptions, RpcClient, RpcError},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::timeout,
};
use uuid::Uuid;

use crate::raw::{CHANNEL, Ending, PATIENCE, Raw};

/// One broker, and the names that one scenario uses on it.
#[derive(Clone)]
pub struct World {
    uri: String,
    prefix: String,
    /// What is deleted at the end, whoever declared it: exchange or queue.
    used: Arc<Mutex<Vec<(Kind, ShortString)>>>,
}

#[derive(Clone, Copy)]
enum Kind {
    Queue,
    Exchange,
}

/// Makes two tests of each scenario in these modules, and lists all of them.
macro_rules! on_both_brokers {
    (const $all:ident; $($module:ident: $($name:ident)*;)*) => {
        $(mod $module;)*

        /// On a broker that is started for each scenario.
        mod builtin {
            $(mod $module { $(
                #[tokio::test]
                async fn $name() {
                    crate::world::on_builtin(crate::$module::$name).await;
                }
            )* })*
        }

        /// On the broker that `AMQP_TEST_URL` names.
        mod rabbitmq {
            $(mod $module { $(
                #[tokio::test]
                #[ignore = "needs AMQP_TEST_URL, an AMQP broker"]
                async fn $name() {
                    crate::world::on_rabbitmq(crate::$module::$name).await;
                }
            )* })*
        }

        /// `module::scenario` of every one of them.
        const $all: &[&str] = &[$($(concat!(stringify!($module), "::", stringify!($name)),)*)*];
    };
}

/// Runs a scenario on a broker of its own.
pub async fn on_builtin<F: Future<Output = ()> + Send + 'static>(scenario: fn(World) -> F) {
    let broker = Broker::start().await.expect("a port");
    play(&broker.uri(), scenario).await;
    broker.stop().await;
}

/// Runs the same scenario on the broker that `AMQP_TEST_URL` names.
pub async fn on_rabbitmq<F: Future<Output = ()> + Send + 'static>(scenario: fn(World) -> F) {
    play(&crate::raw::test_url(), scenario).await;
}

/// Plays a scenario in a task, so that its names are deleted however it ends.
async fn play<F: Future<Output = ()> + Send + 'static>(uri: &str, scenario: fn(World) -> F) {
    let world = World {
        uri: uri.into(),
        prefix: format!("scenario.{}", Uuid::new_v4().simple()),
        used: Arc::default(),
    };
    let outcome = timeout(4 * PATIENCE, tokio::spawn(scenario(world.clone()))).await;
    world.clean_up().await;
    if let Err(failed) = outcome.expect("a scenario that comes to its end") {
        std::panic::resume_unwind(failed.into_panic());
    }
}

impl World {
    pub fn uri(&self) -> &str {
        &self.uri
    }

    pub fn options(&self) -> ConnectOptions {
        self.uri
            .parse::<ConnectOptions>()
            .expect("a URI")
            .operation_timeout(PATIENCE)
    }

    pub async fn connect(&self) -> Connection {
        Connection::connect(self.options())
            .await
            .expect("a connection")
    }

    /// A connection of its own and a channel on it, which keeps it open.
    pub async fn channel(&self) -> Channel {
        self.connect()
            .await
            .open_channel()
            .await
            .expect("a channel")
    }

    /// An open connection on which anything can be said.
    pub async fn raw(&self) -> Raw {
        Raw::open(&self.uri).await
    }

    /// A name that nobody else uses and nobody deletes.
    pub fn name(&self, what: &str) -> ShortString {
        format!("{}.{what}", self.prefix)
            .try_into()
            .expect("a short name")
    }

    /// The name of a queue, which is deleted at the end.
    pub fn queue(&self, what: &str) -> ShortString {
        self.remember(Kind::Queue, what)
    }

    /// The name of an exchange, which is deleted at the end.
    pub fn exchange(&self, what: &str) -> ShortString {
        self.remember(Kind::Exchange, what)
    }

    fn remember(&self, kind: Kind, what: &str) -> ShortString {
        let name = self.name(what);
        self.used.lock().unwrap().push((kind, name.clone()));
        name
    }

    async fn clean_up(&self) {
        let used = std::mem::take(&mut *self.used.lock().unwrap());
        if used.is_empty() {
            return;
        }
        let connection = self.connect().await;
        for (kind, name) in used {
            // An exclusive queue may still be its connection's: it goes with that, and costs us this channel only.
            let Ok(channel) = connection.open_channel().await else {
                return;
            };
            let _ = match kind {
                Kind::Queue => channel
                    .queue_delete(QueueDelete {
                        queue: name,
                        ..Default::default()
                    })
                    .await
                    .map(drop),
                Kind::Exchange => {
                    let delete = ExchangeDelete {
                        exchange: name,
                        ..Default::default()
                    };
                    channel.exchange_delete(delete).await
                }
            };
        }
        let _ = connection.close().await;
    }
}

/// A declare of a queue that this connection alone uses.
pub fn own(queue: &ShortString) -> QueueDeclare {
    QueueDeclare {
        queue: queue.clone(),
        exclusive: true,
        ..Default::default()
    }
}

/// A declare of a queue that every connection may use.
pub fn shared(queue: &ShortString) -> QueueDeclare {
    QueueDeclare {
        queue: queue.clone(),
        ..Default::default()
    }
}

pub fn passive(queue: &ShortString) -> QueueDeclare {
    QueueDeclare {
        queue: queue.clone(),
        passive: true,
        ..Default::default()
    }
}

pub fn exchange(name: &ShortString, kind: &'static str) -> ExchangeDeclare {
    ExchangeDeclare {
        exchange: name.clone(),
        kind: ShortString::literal(kind),
        ..Default::default()
    }
}

/// The publish of a message that has to reach a queue of this name.
pub fn to(queue: &ShortString) -> BasicPublish {
    BasicPublish {
        routing_key: queue.clone(),
        ..Default::default()
    }
}

pub fn table<const N: usize>(entries: [(&'static str, FieldValue); N]) -> FieldTable {
    FieldTable(
        entries
            .map(|(name, value)| (ShortString::literal(name), value))
            .into(),
    )
}

/// Publishes and waits until each message is in its queue: what is asked next finds it there.
pub async fn fill(channel: &Channel, queue: &ShortString, bodies: &[&'static str]) {
    for body in bodies {
        put(channel, to(queue), *body).await;
    }
}

/// The same for one message, anywhere.
pub async fn put(channel: &Channel, publish: BasicPublish, message: impl Into<Message>) {
    channel.confirm_select().await.expect("confirm mode");
    let confirmation = channel
        .publish_confirmed(publish, message)
        .await
        .expect("a publish");
    let outcome = confirmation.outcome().await.expect("a confirm");
    assert_eq!(outcome, Confirm::Ack);
}

/// Messages ready and consumers, as a passive declare counts them.
pub async fn counts(channel: &Channel, queue: &ShortString) -> (u32, u32) {
    let found = channel
        .queue_declare(passive(queue))
        .await
        .expect("a queue");
    (found.message_count, found.consumer_count)
}

/// The body of the next delivery, which must come.
pub async fn next(consumer: &mut Consumer<Delivery>) -> Delivery {
    let next = timeout(PATIENCE, consumer.next())
        .await
        .expect("a delivery in time");
    next.expect("a consumer that goes on").expect("a delivery")
}

/// A body as text.
pub fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).into_owned()
}

/// Takes all that is ready, in the order it lies there.
pub async fn drain(channel: &Channel, queue: &ShortString) -> Vec<String> {
    let mut bodies = Vec::new();
    while let Some(got) = channel.get_no_ack(queue).await.expect("a get") {
        bodies.push(text(got.delivery.body()));
    }
    bodies
}

/// A soft error: its channel is lost, with this code, because of this method. What it said is for the caller to judge.
#[track_caller]
pub fn costs_channel<T: Debug>(result: Result<T, Error>, code: u16, method: MethodId) -> String {
    match result {
        Err(Error::ChannelClosed(Cause::ClosedByPeer(reason))) => said(&reason, code, method),
        other => panic!("expected channel.close {code}, got {other:?}"),
    }
}

/// A hard error: the connection is lost.
#[track_caller]
pub fn costs_connection<T: Debug>(result: Result<T, Error>, code: u16, method: MethodId) -> String {
    match result {
        Err(Error::ConnectionClosed(Cause::ClosedByPeer(reason))) => said(&reason, code, method),
        other => panic!("expected connection.close {code}, got {other:?}"),
    }
}

#[track_caller]
fn said(reason: &CloseReason, code: u16, method: MethodId) -> String {
    assert_eq!(
        (reason.code, reason.method),
        (ReplyCode(code), method),
        "{reason}"
    );
    reason.text.clone()
}

/// Says a method on channel 1 and expects it to cost the channel.
pub async fn loses_channel(raw: &mut Raw, method: impl Into<Method>, code: u16) -> String {
    let method = method.into();
    let id = method.id();
    raw.say(CHANNEL, method).await;
    match raw.ending().await {
        Ending::Channel(reason) => said(&reason, code, id),
        other => panic!("expected channel.close {code}, got {other:?}"),
    }
}

/// Says a method on channel 1 and expects it to cost the connection.
pub async fn loses_connection(raw: &mut Raw, method: impl Into<Method>, code: u16) -> String {
    let method = method.into();
    let id = method.id();
    raw.say(CHANNEL, method).await;
    match raw.ending().await {
        Ending::Connection(reason) => said(&reason, code, id),
        other => panic!("expected connection.close {code}, got {other:?}"),
    }
}

/// A call that is on its way while the scenario goes on.
pub type Calling = JoinHandle<Result<Message, RpcError>>;

pub fn calling(
    client: &RpcClient,
    options: CallOptions,
    queue: &ShortString,
    request: &'static str,
) -> Calling {
    let (client, queue) = (client.clone(), queue.clone());
    tokio::spawn(async move { client.call_with(options, queue, request).await })
}

/// A way to the broker that can be cut.
pub struct Tap {
    address: std::net::SocketAddr,
    passing: Arc<Mutex<JoinSet<()>>>,
    listening: JoinHandle<()>,
}

impl Tap {
    pub async fn start(uri: &str) -> Self {
        let there = uri.parse::<ConnectOptions>().expect("a URI").address();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let passing = Arc::new(Mutex::new(JoinSet::new()));
        let connections = passing.clone();
        let listening = tokio::spawn(async move {
            while let Ok((mut here, _)) = listener.accept().await {
                let there = there.clone();
                connections.lock().unwrap().spawn(async move {
                    let mut there = TcpStream::connect(there).await.expect("a broker");
                    let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
                });
            }
        });
        Self {
            address,
            passing,
            listening,
        }
    }

    /// How to connect by this way.
    pub fn options(&self, world: &World) -> ConnectOptions {
        let host = self.address.ip().to_string();
        world.options().at(&host, self.address.port())
    }

    /// Cuts every connection; new ones pass.
    pub fn cut(&self) {
        self.passing.lock().unwrap().abort_all();
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.listening.abort();
    }
}
