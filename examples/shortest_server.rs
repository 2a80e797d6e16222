//! The shortest server that is correct: `cargo run --example shortest_server`, with a broker at `AMQP_URL` or localhost.
//!
//! A reply is confirmed before its request is acknowledged, a bad request and a panic are answered, a request that nobody
//! waits for is not begun, and Ctrl-C finishes what runs.

use std::error::Error;

use amqp_rpc::rpc::{HandlerError, Request, RpcServer};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("AMQP_URL").unwrap_or("amqp://localhost".into());
    let server = RpcServer::connect(&url, "upper").await?;
    let stop = async { _ = tokio::signal::ctrl_c().await };
    Ok(server.serve(upper, stop).await?)
}

async fn upper(request: Request) -> Result<String, HandlerError> {
    let text = std::str::from_utf8(&request.body)
        .map_err(|_| HandlerError::bad_request("expected UTF-8"))?;
    Ok(text.to_uppercase())
}
