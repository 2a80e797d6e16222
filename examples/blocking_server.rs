//! A server whose work blocks its thread: `cargo run --example blocking_server`, with a broker at `AMQP_URL` or localhost.
//!
//! `spawn_blocking` moves the work to a thread where it may block. It is not stopped when its handler is dropped, so it
//! looks at the deadline itself; and its panic comes back as an error, which the caller is told.

use std::{error::Error, time::Duration};

use amqp_rpc::rpc::{Deadline, HandlerError, Request, RpcServer};
use tokio::{runtime::Runtime, task::spawn_blocking};

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = Runtime::new()?;
    let ended = runtime.block_on(serve());
    runtime.shutdown_background(); // or it would wait for work that nobody waits for
    ended
}

async fn serve() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("AMQP_URL").unwrap_or("amqp://localhost".into());
    let server = RpcServer::connect(&url, "count").await?;
    let stop = async { _ = tokio::signal::ctrl_c().await };
    Ok(server.serve(count, stop).await?)
}

async fn count(request: Request) -> Result<String, HandlerError> {
    let deadline = request.deadline;
    let work = spawn_blocking(move || slowly(deadline));
    let sheep = work
        .await
        .map_err(|failed| HandlerError::new("failed", failed.to_string()))?;
    Ok(sheep.to_string())
}

/// A piece at a time, for as long as somebody waits.
fn slowly(deadline: Deadline) -> u32 {
    let mut sheep = 0;
    while sheep < 100 && !deadline.is_over() {
        std::thread::sleep(Duration::from_millis(10));
        sheep += 1;
    }
    sheep
}
