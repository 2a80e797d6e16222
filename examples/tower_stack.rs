//! Layers of tower: a rate limit and retries around a client, a time limit and shed load around a handler.
//!
//! ```sh
//! cargo run --example tower_stack --features tower
//! ```

use std::{
    future::{Ready, pending, ready},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use amqp_rpc::{
    broker::Broker,
    client::{Error, Message},
    rpc::{
        HandlerError, Request, RpcClient, RpcError, RpcServer,
        service::{RpcRequest, from_service},
    },
};
use tower::{
    BoxError, Service, ServiceBuilder, ServiceExt, load_shed::error::Overloaded, retry::Policy,
    service_fn,
};

type Outcome = Result<Message, RpcError>;

/// How often a call is tried again.
#[derive(Clone)]
struct Again(u32);

// A rate-limited, retrying client in fifteen lines: these eleven ...
impl Policy<RpcRequest, Message, RpcError> for Again {
    type Future = Ready<()>;
    fn retry(&mut self, call: &mut RpcRequest, end: &mut Outcome) -> Option<Ready<()>> {
        let again = call.may_try_again(end.as_ref().err()?);
        self.0 = self.0.checked_sub(1).filter(|_| again)?;
        Some(ready(()))
    }
    fn clone_request(&mut self, call: &RpcRequest) -> Option<RpcRequest> {
        Some(call.clone())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Broker::start().await?;
    serve(&broker).await?;
    let rpc = RpcClient::connect(broker.uri().as_str()).await?;

    // ... and these four.
    let mut rpc = ServiceBuilder::new()
        .rate_limit(100, Duration::from_secs(1))
        .retry(Again(3))
        .service(rpc);

    for number in 0..5 {
        let request = RpcRequest::new("moody", format!("call {number}"))?.idempotent();
        let reply = rpc.ready().await?.call(request).await?;
        println!("{}", String::from_utf8_lossy(&reply.body));
    }
    Ok(())
}

/// A handler that has no time for every other request, behind layers that shed load and stop what takes too long.
async fn serve(broker: &Broker) -> Result<(), Error> {
    static REQUESTS: AtomicU32 = AtomicU32::new(0);
    let moody = service_fn(|request: Request| {
        let number = REQUESTS.fetch_add(1, Relaxed);
        ready(if number.is_multiple_of(2) {
            Err(HandlerError::unavailable("not now"))
        } else {
            Ok(request.body)
        })
    });
    let layered = ServiceBuilder::new()
        .map_err(|error: BoxError| {
            let shed = error.downcast::<Overloaded>();
            shed.map_or_else(
                |other| other,
                |_| HandlerError::unavailable("too much to do").into(),
            )
        })
        .load_shed()
        .concurrency_limit(10)
        .timeout(Duration::from_secs(1))
        .service(moody);
    let server = RpcServer::connect(broker.uri().as_str(), "moody").await?;
    tokio::spawn(server.serve(from_service(layered), pending()));
    Ok(())
}
