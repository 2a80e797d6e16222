//! A broker inside a test: it listens before `start` returns, on a port of its own, and goes with its variable.
//!
//! `cargo test --example embedded_broker` runs the test below; any AMQP 0-9-1 client can be given `broker.uri()`.

fn main() {
    println!("This is a test: cargo test --example embedded_broker");
}

#[cfg(test)]
mod tests {
    use amqp_rpc::{
        broker::Broker,
        rpc::{HandlerError, Request, RpcClient, RpcError, RpcServer},
    };

    async fn half(request: Request) -> Result<String, HandlerError> {
        let text = String::from_utf8_lossy(&request.body);
        let number: u32 = text
            .parse()
            .map_err(|_| HandlerError::bad_request("expected a number"))?;
        Ok((number / 2).to_string())
    }

    #[tokio::test]
    async fn a_service_is_tested_over_a_real_connection() -> Result<(), Box<dyn std::error::Error>>
    {
        let broker = Broker::start().await?;
        let server = RpcServer::connect(&broker.uri(), "half").await?;
        tokio::spawn(server.serve(half, std::future::pending()));

        let rpc = RpcClient::connect(&broker.uri()).await?;
        assert_eq!(rpc.call("half", "42").await?.body, "21");
        let refused = rpc.call("half", "x").await;
        assert!(matches!(refused, Err(RpcError::Remote { kind, .. }) if kind == "bad-request"));
        let nobody = rpc.call("double", "21").await;
        assert!(matches!(nobody, Err(RpcError::Unroutable { .. })));
        Ok(())
    }
}
