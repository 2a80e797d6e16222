//! The shortest client that is correct: `cargo run --bin server`, then `cargo run --example shortest_client`.
//!
//! The call has a deadline that the server knows, a reply address that nobody else has, and one outcome: the reply, or an
//! error that says what is known. When the connection is lost, there is another.

use std::{error::Error, time::Duration};

use amqp_rpc::rpc::RpcClient;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("AMQP_URL").unwrap_or("amqp://localhost".into());
    let rpc = RpcClient::connect(&url).await?;
    let reply = rpc.call("rpc_queue", "30").await?;
    println!("{}", String::from_utf8_lossy(&reply.body));
    rpc.close(Duration::from_secs(1)).await?;
    Ok(())
}
