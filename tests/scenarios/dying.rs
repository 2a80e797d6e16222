//! What a queue does not keep: it expires, is rejected or is too much, and may be sent on as a dead letter.
//!
//! What a broker does on its own time is waited for: by a delivery where there is one to come, else by asking until it
//! has happened.

use std::time::Duration;

use amqp_rpc::{
    client::{Channel, Consumer, Delivery},
    codec::*,
    protocol::Message,
    rpc::{DeadLetters, HandlerError, Request, RpcServer, RpcServerOptions},
    short,
};
use tokio::time::{sleep, timeout};

use crate::{raw::PATIENCE, world::*};

/// A declare with these arguments.
fn with<const N: usize>(queue: &ShortString, arguments: [(&'static str, FieldValue); N]) -> QueueDeclare {
    QueueDeclare { arguments: table(arguments), ..shared(queue) }
}

fn name(name: &ShortString) -> FieldValue {
    FieldValue::LongString(name.to_string().into())
}

/// The arguments that send the dead to a queue.
fn dead_to(queue: &ShortString) -> [(&'static str, FieldValue); 2] {
    [("x-dead-letter-exchange", "".into()), ("x-dead-letter-routing-key", name(queue))]
}

/// A queue `dl` with a consumer on it, and a queue `q` that sends its dead there, with these arguments.
struct Stage {
    channel: Channel,
    queue: ShortString,
    dead_letters: Consumer<Delivery>,
}

impl Stage {
    async fn new<const N: usize>(world: World, arguments: [(&'static str, FieldValue); N]) -> Self {
        Self::declared(world, QueueDeclare::default(), arguments).await
    }

    async fn declared<const N: usize>(
        world: World,
        declare: QueueDeclare,
        arguments: [(&'static str, FieldValue); N],
    ) -> Self {
        let channel = world.channel().await;
        let (queue, dl) = (world.queue("q"), world.queue("dl"));
        channel.queue_declare(shared(&dl)).await.unwrap();
        let mut all = table(dead_to(&dl));
        all.0.extend(table(arguments).0);
        channel.queue_declare(QueueDeclare { queue: queue.clone(), arguments: all, ..declare }).await.unwrap();
        let dead_letters = channel.consume(&dl).await.unwrap();
        Self { channel, queue, dead_letters }
    }

    async fn publish(&self, message: impl Into<Message>) {
        put(&self.channel, to(&self.queue), message).await;
    }

    /// Takes the head of the queue, once there is one.
    async fn take(&self) -> Delivery {
        take(&self.channel, &self.queue).await
    }

    /// The next dead letter, acknowledged: its body, its entries in `x-death`, and the rest of its properties.
    async fn dead_letter(&mut self) -> (String, Vec<Death>, Properties) {
        let dead = next(&mut self.dead_letters).await;
        let (body, properties) = (text(dead.body()), dead.properties().clone());
        dead.ack().await.unwrap();
        (body, deaths(&properties), properties)
    }

    /// The one entry that a message has which died in the queue for the first time.
    fn first_death(&self, reason: &'static str) -> Vec<Death> {
        vec![Death::new(&self.queue, reason, 1)]
    }
}

async fn take(channel: &Channel, queue: &ShortString) -> Delivery {
    let taken = async {
        loop {
            if let Some(got) = channel.get(queue).await.unwrap() {
                return got.delivery;
            }
        }
    };
    timeout(PATIENCE, taken).await.expect("a message in time")
}

/// Asks until the queue has so many messages.
async fn until_there_are(channel: &Channel, queue: &ShortString, messages: u32) {
    let there_are = async { while counts(channel, queue).await.0 != messages {} };
    timeout(PATIENCE, there_are).await.expect("so many messages in time");
}

/// An entry of `x-death`, without its time.
#[derive(Debug, PartialEq)]
struct Death {
    queue: String,
    reason: String,
    count: i128,
    exchange: String,
    routing_keys: Vec<String>,
    original_expiration: Option<String>,
}

impl Death {
    /// That of a message that was published to its queue by the default exchange.
    fn new(queue: &ShortString, reason: &str, count: i128) -> Self {
        Self {
            queue: queue.to_string(),
            reason: reason.into(),
            count,
            exchange: String::new(),
            routing_keys: vec![queue.to_string()],
            original_expiration: None,
        }
    }
}

fn word(value: &FieldValue) -> String {
    text(value.as_long_string().expect("a long string"))
}

/// DLX-2: the tags of all of them, and a time that is about now.
fn deaths(properties: &Properties) -> Vec<Death> {
    let headers = properties.headers.as_ref().expect("headers");
    let Some(FieldValue::Array(deaths)) = headers.get("x-death") else {
        panic!("no x-death in {headers}");
    };
    let death = |death: &FieldValue| {
        let FieldValue::Table(death) = death else { panic!("{death} is no table") };
        let get = |name| death.get(name).unwrap_or_else(|| panic!("no {name} in {death}"));
        let FieldValue::I64(count) = *get("count") else { panic!("count in {death}") };
        let FieldValue::Timestamp(time) = *get("time") else { panic!("time in {death}") };
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        assert!(now.abs_diff(time) < 600, "{time} is not now, which is {now}");
        let FieldValue::Array(keys) = get("routing-keys") else { panic!("routing-keys in {death}") };
        Death {
            queue: word(get("queue")),
            reason: word(get("reason")),
            count: count.into(),
            exchange: word(get("exchange")),
            routing_keys: keys.iter().map(word).collect(),
            original_expiration: death.get("original-expiration").map(word),
        }
    };
    deaths.iter().map(death).collect()
}

/// CONS-22, CONS-23: the head goes by itself when its time has come, and what stands behind a message that may stay
/// counts on.
pub async fn head_expires_by_itself(world: World) {
    let expiring = |text| Message::new(Properties { expiration: Some(text), ..Default::default() }, "expires");
    let channel = world.channel().await;
    let (queue, behind) = (world.queue("q"), world.queue("behind"));
    for queue in [&queue, &behind] {
        channel.queue_declare(shared(queue)).await.unwrap();
    }
    fill(&channel, &behind, &["stays"]).await;
    put(&channel, to(&behind), expiring(short!("50"))).await;
    put(&channel, to(&queue), expiring(short!("300"))).await;
    put(&channel, to(&queue), expiring(short!("200"))).await;
    until_there_are(&channel, &queue, 0).await;
    assert_eq!(counts(&channel, &behind).await, (2, 0));
}

/// DLX-1, DLX-2, ACK-7: what is rejected goes where its queue says, and says where it comes from.
pub async fn rejected_message_is_sent_on(world: World) {
    let mut stage = Stage::new(world, []).await;
    let headers = table([("mine", true.into())]);
    let properties = Properties { headers: Some(headers), priority: Some(3), ..Default::default() };
    stage.publish(Message::new(properties, "rejected")).await;
    stage.take().await.reject(false).await.unwrap();

    let dead = next(&mut stage.dead_letters).await;
    assert_eq!((text(dead.body()), &dead.exchange), ("rejected".into(), &short!("")));
    assert_eq!(deaths(dead.properties()), stage.first_death("rejected"));
    let headers = dead.properties().headers.clone().unwrap();
    let said = |name: &str| headers.get(name).map(word);
    let queue = Some(stage.queue.to_string());
    assert_eq!(said("x-first-death-queue"), queue);
    assert_eq!(said("x-first-death-exchange"), Some(String::new()));
    assert_eq!(said("x-first-death-reason"), Some("rejected".into()));
    if headers.get("x-last-death-queue").is_some() {
        assert_eq!(said("x-last-death-queue"), queue, "RabbitMQ 4 has the last beside the first");
        assert_eq!(said("x-last-death-exchange"), Some(String::new()));
        assert_eq!(said("x-last-death-reason"), Some("rejected".into()));
    }
    assert_eq!(headers.get("mine"), Some(&true.into()));
    let others = headers.0.iter().filter(|(name, _)| name != "mine" && !name.to_string().contains("-death"));
    assert_eq!(others.count(), 0, "DLX-6: {headers}");
    let rest = Properties { headers: None, ..dead.properties().clone() };
    assert_eq!(rest, Properties { priority: Some(3), ..Default::default() }, "DLX-6");
}

/// DLX-1, DLX-3: what expires is sent on, and lives on without its expiration.
pub async fn expired_message_is_sent_on(world: World) {
    let mut stage = Stage::new(world, [("x-message-ttl", 100i32.into())]).await;
    stage.publish("by its queue").await;
    let (body, deaths, _) = stage.dead_letter().await;
    assert_eq!((body, deaths), ("by its queue".into(), stage.first_death("expired")));

    let expiration = Some(short!("50"));
    stage.publish(Message::new(Properties { expiration, ..Default::default() }, "by itself")).await;
    let (body, deaths, properties) = stage.dead_letter().await;
    let mut expected = stage.first_death("expired");
    expected[0].original_expiration = Some("50".into());
    assert_eq!((body, deaths, properties.expiration), ("by itself".into(), expected, None));
}

/// CONS-22, DLX-1: whoever holds a message holds it as long as it likes, but nobody gets it after that.
pub async fn message_expires_when_it_is_returned(world: World) {
    let mut stage = Stage::new(world, []).await;
    let mut consumer = stage.channel.consume(&stage.queue).await.unwrap();
    let at_once = Properties { expiration: Some(short!("0")), ..Default::default() };
    stage.publish(Message::new(at_once, "held")).await;
    let held = next(&mut consumer).await; // CONS-22: it could be taken at once
    sleep(Duration::from_millis(50)).await; // no race: this is what makes it late
    held.nack(true).await.unwrap();
    let (body, deaths, _) = stage.dead_letter().await;
    assert_eq!((body.as_str(), deaths[0].reason.as_str()), ("held", "expired"));
}

/// DLX-1, CONF-7: a full queue sends on what it drops, or what it refuses.
pub async fn full_queue_sends_on(world: World) {
    let mut stage = Stage::new(world.clone(), [("x-max-length", 1i32.into())]).await;
    stage.publish("1").await;
    stage.publish("2").await;
    let (body, deaths, _) = stage.dead_letter().await;
    assert_eq!((body, deaths), ("1".into(), stage.first_death("maxlen")));

    let refusing = world.queue("refusing");
    let [exchange, key] = dead_to(&world.name("dl"));
    let overflow = ("x-overflow", "reject-publish-dlx".into());
    let arguments = [exchange, key, ("x-max-length", 1i32.into()), overflow];
    stage.channel.queue_declare(with(&refusing, arguments)).await.unwrap();
    put(&stage.channel, to(&refusing), "1").await;
    let confirm = stage.channel.publish_confirmed(to(&refusing), "2").await.unwrap();
    assert_eq!(confirm.outcome().await.unwrap(), amqp_rpc::client::Confirm::Nack);
    let (body, deaths, _) = stage.dead_letter().await;
    assert_eq!((body, deaths), ("2".into(), vec![Death::new(&refusing, "maxlen", 1)]));
}

fn quorum() -> QueueDeclare {
    QueueDeclare { durable: true, ..Default::default() }
}

/// How often `x-delivery-count` says that it came back; absent is never.
fn returns(delivery: &Delivery) -> i128 {
    let headers = delivery.properties().headers.as_ref();
    let count = headers.and_then(|headers| headers.get("x-delivery-count"));
    count.and_then(FieldValue::as_integer).unwrap_or(0)
}

/// DLX-5, RPC-23: with a limit of 2 a message is delivered three times.
pub async fn quorum_queue_has_a_delivery_limit(world: World) {
    let arguments = [("x-queue-type", "quorum".into()), ("x-delivery-limit", 2i32.into())];
    let mut stage = Stage::declared(world, quorum(), arguments).await;
    stage.publish("poison").await;
    for count in 0..3 {
        let delivery = stage.take().await;
        assert_eq!(returns(&delivery), count);
        delivery.reject(true).await.unwrap();
    }
    let (body, deaths, properties) = stage.dead_letter().await;
    assert_eq!((body, deaths), ("poison".into(), stage.first_death("delivery_limit")));
    let headers = properties.headers.unwrap();
    assert_eq!(headers.get("x-delivery-count"), None, "DLX-6: {headers}");
    until_there_are(&stage.channel, &stage.queue, 0).await;
}

/// DLX-5: 20 unless the queue says otherwise. RabbitMQ 3.10 has no limit of its own.
pub async fn delivery_limit_by_default(world: World) {
    let mut stage = Stage::declared(world, quorum(), [("x-queue-type", "quorum".into())]).await;
    stage.publish("poison").await;
    for count in 0..=20 {
        let delivery = stage.take().await;
        assert_eq!(returns(&delivery), count);
        delivery.reject(true).await.unwrap();
    }
    let (channel, queue, expected) = (stage.channel.clone(), stage.queue.clone(), stage.first_death("delivery_limit"));
    tokio::select! {
        (_, deaths, _) = stage.dead_letter() => assert_eq!(deaths, expected),
        once_more = take(&channel, &queue) => assert_eq!(returns(&once_more), 21, "RabbitMQ 3.10"),
    }
}

/// DLX-2, DLX-4: round and round, as long as somebody rejects it each time.
pub async fn same_death_is_counted(world: World) {
    let channel = world.channel().await;
    let (work, wait) = (world.queue("work"), world.queue("wait"));
    channel.queue_declare(with(&work, dead_to(&wait))).await.unwrap();
    let [exchange, key] = dead_to(&work);
    let arguments = [exchange, key, ("x-message-ttl", 50i32.into())];
    channel.queue_declare(with(&wait, arguments)).await.unwrap();
    put(&channel, to(&work), "try").await;
    for round in 0..4 {
        let delivery = take(&channel, &work).await;
        if round > 0 {
            let expected = [Death::new(&wait, "expired", round), Death::new(&work, "rejected", round)];
            assert_eq!(deaths(delivery.properties()), expected);
        }
        delivery.reject(false).await.unwrap();
    }
}

/// DLX-4: who goes round without anybody looking is dropped.
pub async fn cycle_is_broken(world: World) {
    let channel = world.channel().await;
    let (a, b) = (world.queue("a"), world.queue("b"));
    for (queue, to) in [(&a, &b), (&b, &a)] {
        let [exchange, key] = dead_to(to);
        let arguments = [exchange, key, ("x-message-ttl", 100i32.into())];
        channel.queue_declare(with(queue, arguments)).await.unwrap();
    }
    put(&channel, to(&a), "round").await;
    let nowhere = async { while counts(&channel, &a).await.0 + counts(&channel, &b).await.0 > 0 {} };
    timeout(PATIENCE, nowhere).await.expect("an end of it");

    let own = world.queue("own");
    let [exchange, key] = dead_to(&own);
    channel.queue_declare(with(&own, [exchange, key, ("x-max-length", 1i32.into())])).await.unwrap();

    fill(&channel, &own, &["1", "2"]).await;
    assert_eq!(drain(&channel, &own).await, ["2"]);
}

/// DLX-1, PUB-2: a dead letter keeps its keys, those of CC and BCC as well, unless its queue has a key for it.
pub async fn keys_of_a_dead_letter(world: World) {
    let mut stage = Stage::new(world.clone(), []).await;
    let channel = stage.channel.clone();
    let (keeping, cc, bcc) = (world.queue("keeping"), world.queue("cc"), world.queue("bcc"));
    let dlx = ("x-dead-letter-exchange", "".into());
    channel.queue_declare(with(&keeping, [dlx])).await.unwrap();
    for queue in [&cc, &bcc] {
        channel.queue_declare(shared(queue)).await.unwrap();
    }
    let message = || {
        let copies = |queue| FieldValue::Array(vec![name(queue)]);
        let headers = Some(table([("BCC", copies(&bcc)), ("CC", copies(&cc))]));
        Message::new(Properties { headers, ..Default::default() }, "x")
    };
    put(&channel, to(&keeping), message()).await;
    for queue in [&cc, &bcc] {
        take(&channel, queue).await.ack().await.unwrap();
    }
    take(&channel, &keeping).await.reject(false).await.unwrap();
    for queue in [&keeping, &cc, &bcc] {
        let again = take(&channel, queue).await;
        let keys = vec![keeping.to_string(), cc.to_string()];
        let death = Death { routing_keys: keys, ..Death::new(&keeping, "rejected", 1) };
        assert_eq!(deaths(again.properties()), [death]);
        assert_eq!(again.routing_key, keeping);
        again.ack().await.unwrap();
    }

    stage.publish(message()).await;
    for queue in [&cc, &bcc] {
        take(&channel, queue).await.ack().await.unwrap();
    }
    stage.take().await.reject(false).await.unwrap();
    let (_, deaths, _) = stage.dead_letter().await;
    assert_eq!(deaths[0].routing_keys, [stage.queue.to_string(), cc.to_string()]);
    for queue in [&cc, &bcc] {
        assert_eq!(counts(&channel, queue).await, (0, 0), "no copies of a dead letter");
    }
}

/// DLX-1: a dead letter is routed as any other message; where there is no exchange, or no way from it, it is gone.
pub async fn dead_letters_are_routed(world: World) {
    let channel = world.channel().await;
    let (dlx, queue, dl, lost) =
        (world.exchange("dlx"), world.queue("q"), world.queue("dl"), world.queue("lost"));
    let internal = ExchangeDeclare { internal: true, ..exchange(&dlx, "topic") };
    channel.exchange_declare(internal).await.unwrap();
    channel.queue_declare(with(&queue, [("x-dead-letter-exchange", name(&dlx))])).await.unwrap();
    let missing = name(&world.name("missing"));
    channel.queue_declare(with(&lost, [("x-dead-letter-exchange", missing)])).await.unwrap();
    channel.queue_declare(shared(&dl)).await.unwrap();
    let reject = async |queue, body| {
        put(&channel, to(queue), body).await;
        take(&channel, queue).await.reject(false).await.unwrap();
    };
    reject(&lost, "no such exchange").await;
    reject(&queue, "no way from it").await;
    let bind = QueueBind {
        queue: dl.clone(),
        exchange: dlx.clone(),
        routing_key: short!("scenario.#"),
        ..Default::default()
    };
    counts(&channel, &queue).await; // it answers behind the reject
    channel.queue_bind(bind).await.unwrap();
    reject(&queue, "as any other").await;
    let dead = take(&channel, &dl).await;
    assert_eq!(text(dead.body()), "as any other");
    assert_eq!((&dead.exchange, &dead.routing_key), (&dlx, &queue), "CONS-10");
    assert_eq!((counts(&channel, &lost).await, counts(&channel, &dl).await), ((0, 0), (0, 0)));
}

/// DLX-1, CONS-12: in the order of their deaths; what is purged or deleted is not among them.
pub async fn order_of_dead_letters(world: World) {
    let mut stage = Stage::new(world.clone(), []).await;
    stage.publish("purged").await;
    let purge = QueuePurge { queue: stage.queue.clone(), ..Default::default() };
    assert_eq!(stage.channel.queue_purge(purge).await.unwrap(), 1);
    let bodies = ["1", "2", "3", "4", "5", "6", "7", "8"];
    for body in bodies {
        let expiration = Some(short!("50"));
        stage.publish(Message::new(Properties { expiration, ..Default::default() }, body)).await;
    }
    for body in bodies {
        assert_eq!(stage.dead_letter().await.0, body);
    }
    stage.publish("deleted").await;
    let delete = QueueDelete { queue: stage.queue.clone(), ..Default::default() };
    assert_eq!(stage.channel.queue_delete(delete).await.unwrap(), 1);
    let again = with(&stage.queue, dead_to(&world.name("dl")));
    stage.channel.queue_declare(again).await.unwrap();
    stage.publish("rejected").await;
    stage.take().await.reject(false).await.unwrap();
    assert_eq!(stage.dead_letter().await.0, "rejected");
}

/// RPC-23, DLX-1: what an RPC server rejects arrives where its queue sends its dead letters.
pub async fn rejected_requests_are_sent_on(world: World) {
    let (queue, letters, dead) = (world.queue("rpc"), world.exchange("letters"), world.queue("dead"));
    let channel = world.channel().await;
    channel.exchange_declare(exchange(&letters, "direct")).await.unwrap();
    channel.queue_declare(shared(&dead)).await.unwrap();
    let bind = QueueBind {
        queue: dead.clone(),
        exchange: letters.clone(),
        routing_key: short!("dead"),
        ..Default::default()
    };
    channel.queue_bind(bind).await.unwrap();
    let dead_letters = Some(DeadLetters { exchange: letters, routing_key: Some(short!("dead")) });
    let options = RpcServerOptions { dead_letters, ..Default::default() };
    let connection = world.connect().await;
    let server = RpcServer::with_options(&connection, &queue, options).await.unwrap();
    let never = |_: Request| std::future::pending::<Result<&'static str, HandlerError>>();
    let serving = tokio::spawn(server.serve(never, std::future::pending()));
    fill(&channel, &queue, &["nobody waits"]).await;
    let letter = take(&channel, &dead).await;
    assert_eq!((text(letter.body()), &letter.routing_key), ("nobody waits".into(), &short!("dead")));
    assert_eq!(deaths(letter.properties()), [Death::new(&queue, "rejected", 1)]);
    serving.abort();
}

/// QUEUE-20: a queue that nobody uses goes, and what is in it is gone. A consumer uses it by being there.
pub async fn unused_queue_expires(world: World) {
    let mut stage = Stage::new(world.clone(), [("x-expires", 600i32.into())]).await;
    let used = world.queue("used");
    let consumer = loop {
        // It may be gone before there is a consumer, if nobody gave us the time.
        let channel = world.channel().await;
        channel.queue_declare(with(&used, [("x-expires", 300i32.into())])).await.unwrap();
        if let Ok(consumer) = channel.consume(&used).await {
            break consumer;
        }
    };
    stage.publish("gone").await;
    let gone = async {
        // Asking is a use of it, so it is asked after a longer time each time.
        for wait in 1.. {
            sleep(Duration::from_millis(600 * wait)).await;
            let channel = world.channel().await;
            if channel.queue_declare(passive(&stage.queue)).await.is_err() {
                break;
            }
        }
    };
    timeout(PATIENCE, gone).await.expect("a queue that is not used");
    assert_eq!(counts(&stage.channel, &used).await, (0, 1));
    drop(consumer);
    let bell = world.queue("bell");
    stage.channel.queue_declare(with(&bell, dead_to(&world.name("dl")))).await.unwrap();
    put(&stage.channel, to(&bell), "bell").await;
    take(&stage.channel, &bell).await.reject(false).await.unwrap();
    assert_eq!(stage.dead_letter().await.0, "bell", "DLX-1: nothing came from the queue that expired");
}
