//! A service of values, and a call to it: JSON on the wire, and types on both sides.
//!
//! ```sh
//! cargo run --example json_service --features serde                                        # with a broker of its own
//! cargo run --example json_service --features serde -- amqp://guest:guest@localhost:5672
//! ```

use amqp_rpc::{
    broker::Broker,
    rpc::{HandlerError, RpcClient, RpcError, RpcServer, typed},
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    item: String,
    count: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Receipt {
    cents: u64,
}

/// The service: it never sees an octet.
async fn price(Order { item, count }: Order) -> Result<Receipt, HandlerError> {
    let each = match item.as_str() {
        "tea" => 250,
        "coffee" => 300,
        _ => {
            return Err(HandlerError::new(
                "unknown-item",
                format!("there is no {item}"),
            ));
        }
    };
    let cents = each * u64::from(count);
    Ok(Receipt { cents })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let broker = Broker::start().await?; // nobody uses it if there is a URL
    let url = std::env::args().nth(1).unwrap_or(broker.uri());

    let server = RpcServer::connect(url.as_str(), "price").await?;
    tokio::spawn(server.serve(typed::json(price), std::future::pending()));

    let rpc = RpcClient::connect(url.as_str()).await?;
    for (item, count) in [("tea", 2), ("coffee", 1), ("milk", 3)] {
        let item = item.to_owned();
        match rpc.call_json("price", &Order { item, count }).await {
            Ok(Receipt { cents }) => println!("{cents} cents"),
            Err(RpcError::Remote { kind, message }) => println!("{kind}: {message}"),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
