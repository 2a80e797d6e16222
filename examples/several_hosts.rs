//! A client that survives the loss of a node: two brokers here stand for two nodes of a cluster.
//!
//! `cargo run --example several_hosts` prints how the client moves from one to the other, in the middle of its work.

use std::{error::Error, time::Duration};

use amqp_rpc::{
    broker::Broker,
    rpc::{CallOptions, HandlerError, Request, RpcClient, RpcServer},
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (one, two) = (Broker::start().await?, Broker::start().await?);
    for node in [&one, &two] {
        let server = RpcServer::connect(&node.uri(), "echo").await?;
        tokio::spawn(server.serve(echo, std::future::pending()));
    }
    let rpc = RpcClient::connect(&format!("amqp://{},{}", one.address(), two.address())).await?;
    let mut state = rpc.state();
    tokio::spawn(async move {
        while state.changed().await.is_ok() {
            println!("{:?}", *state.borrow_and_update());
        }
    });
    println!("{:?}", rpc.call("echo", "before").await?.body);
    one.stop().await;
    // Idempotent, so it may be sent again if it was in flight; any other call would say that it may have been executed.
    let patiently = CallOptions::within(Duration::from_secs(30)).idempotent();
    println!(
        "{:?}",
        rpc.call_with(patiently, "echo", "after").await?.body
    );
    Ok(())
}

async fn echo(request: Request) -> Result<bytes::Bytes, HandlerError> {
    Ok(request.body)
}
