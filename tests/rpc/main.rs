//! What production adds to a call: types, layers of tower, counters, traces, and replies that are kept.

#![allow(clippy::panic, clippy::unwrap_used)] // in a test a panic is the report

mod cache;
mod metrics;
mod tower;
mod traces;
mod typed;

use std::{future::Future, time::Duration};

use amqp_rpc::{
    broker::Broker,
    client::{Connection, Message},
    rpc::{
        CallOptions, HandlerError, Request, RpcClient, RpcServer, RpcServerOptions, ServerMonitor,
    },
};

/// Longer than anything takes on a machine that does other things as well.
const PATIENCE: Duration = Duration::from_secs(30);

/// For calls that are answered.
const PATIENTLY: CallOptions = CallOptions {
    timeout: Some(PATIENCE),
    idempotent: false,
};

/// A broker and a connection to it, for both sides.
struct World {
    broker: Broker,
    connection: Connection,
}

impl World {
    async fn new() -> Self {
        let broker = Broker::start().await.unwrap();
        let connection = broker.connect().await.unwrap();
        Self { broker, connection }
    }

    async fn client(&self) -> RpcClient {
        RpcClient::new(&self.connection).await.unwrap()
    }

    async fn serve<H, F, R>(&self, queue: &'static str, handler: H) -> ServerMonitor
    where
        H: Fn(Request) -> F + Send + Sync + 'static,
        F: Future<Output = Result<R, HandlerError>> + Send + 'static,
        R: Into<Message> + 'static,
    {
        let options = RpcServerOptions::default();
        self.serve_with(options, queue, handler).await
    }

    /// Serves until the test is over.
    async fn serve_with<H, F, R>(
        &self,
        options: RpcServerOptions,
        queue: &'static str,
        handler: H,
    ) -> ServerMonitor
    where
        H: Fn(Request) -> F + Send + Sync + 'static,
        F: Future<Output = Result<R, HandlerError>> + Send + 'static,
        R: Into<Message> + 'static,
    {
        let server = RpcServer::with_options(&self.connection, queue, options);
        let server = server.await.unwrap();
        let monitor = server.monitor();
        tokio::spawn(server.serve(handler, std::future::pending()));
        monitor
    }
}

/// Thousands of calls may be in flight, and each is a future in memory. What hardly any call needs would be most of it.
#[tokio::test]
async fn a_call_in_flight_is_small() {
    let world = World::new().await;
    let client = world.client().await;
    let octets = size_of_val(&client.call("q", ""));
    assert!(octets <= 2048, "{octets}");
}
