//! What the built-in broker leaves out.

use amqp_rpc::{
    codec::*,
    rpc::{DeadLetters, HandlerError, Request, RpcServer, RpcServerOptions},
    short,
};

use crate::world::*;

/// RPC-23: what a server rejects arrives where the queue sends its dead letters.
#[tokio::test]
#[ignore = "needs AMQP_TEST_URL, an AMQP broker"]
async fn rejected_requests_are_dead_lettered() {
    on_rabbitmq(dead_letters).await;
}

async fn dead_letters(world: World) {
    let (queue, letters, dead) = (
        world.queue("rpc"),
        world.exchange("letters"),
        world.queue("dead"),
    );
    let channel = world.channel().await;
    channel
        .exchange_declare(exchange(&letters, "direct"))
        .await
        .unwrap();
    channel.queue_declare(shared(&dead)).await.unwrap();
    let bind = QueueBind {
        queue: dead.clone(),
        exchange: letters.clone(),
        routing_key: short!("dead"),
        ..Default::default()
    };
    channel.queue_bind(bind).await.unwrap();
    let routing_key = Some(short!("dead"));
    let options = RpcServerOptions {
        dead_letters: Some(DeadLetters {
            exchange: letters,
            routing_key,
        }),
        ..Default::default()
    };
    let connection = world.connect().await;
    let server = RpcServer::with_options(&connection, &queue, options)
        .await
        .unwrap();
    let never = |_: Request| std::future::pending::<Result<&'static str, HandlerError>>();
    let serving = tokio::spawn(server.serve(never, std::future::pending()));
    fill(&channel, &queue, &["nobody waits"]).await;
    let mut consumer = channel.consume(&dead).await.unwrap();
    let letter = next(&mut consumer).await;
    assert_eq!(letter.body(), b"nobody waits");
    let headers = letter.properties().headers.clone().unwrap();
    assert!(headers.get("x-death").is_some(), "{headers}");
    serving.abort();
}
