//! Values on both sides, JSON between them; and each side with one that knows of no types.

use amqp_rpc::{
    client::Message,
    codec::ShortString,
    rpc::{
        HandlerError, Request, RpcError,
        typed::{self, Codec, Json},
    },
    short,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{PATIENTLY, World};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    item: String,
    count: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Receipt {
    Total { cents: u64 },
    SoldOut,
}

async fn price(order: Order) -> Result<Receipt, HandlerError> {
    match order {
        Order { count: 0, .. } => Err(HandlerError::new("nothing", "an order of nothing")),
        Order { count, item } if item == "tea" => Ok(Receipt::Total {
            cents: u64::from(count) * 250,
        }),
        Order { .. } => Ok(Receipt::SoldOut),
    }
}

fn order(item: &str, count: u32) -> Order {
    let item = item.into();
    Order { item, count }
}

#[tokio::test]
async fn values_go_there_and_back() {
    let world = World::new().await;
    world.serve("price", typed::json(price)).await;
    let rpc = world.client().await;
    let receipt: Receipt = rpc.call_json("price", &order("tea", 2)).await.unwrap();
    assert_eq!(receipt, Receipt::Total { cents: 500 });
    let receipt = rpc
        .call_json::<Receipt, _, _>("price", &order("coffee", 1))
        .await;
    assert_eq!(receipt.unwrap(), Receipt::SoldOut);
    let refused = rpc
        .call_json::<Receipt, _, _>("price", &order("tea", 0))
        .await;
    assert!(matches!(refused, Err(RpcError::Remote { kind, .. }) if kind == "nothing"));
}

#[tokio::test]
async fn what_travels_is_json_and_says_so() {
    let world = World::new().await;
    let handler = |request: Request| async move {
        assert_eq!(
            request.properties.content_type,
            Some(short!("application/json"))
        );
        assert_eq!(request.body, r#"{"item":"tea","count":1}"#);
        let order: Order = request.json()?;
        Ok(format!(r#"{{"Total":{{"cents":{}}}}}"#, order.count)) // no content type: decoding decides
    };
    world.serve("price", handler).await;
    let receipt: Receipt = world
        .client()
        .await
        .call_json("price", &order("tea", 1))
        .await
        .unwrap();
    assert_eq!(receipt, Receipt::Total { cents: 1 });

    let world = World::new().await;
    world.serve("price", typed::json(price)).await;
    let text = r#"{"item":"tea","count":1}"#;
    let reply = world.client().await.call("price", text).await.unwrap();
    assert_eq!(
        reply.properties.content_type,
        Some(short!("application/json"))
    );
    assert_eq!(reply.body, r#"{"Total":{"cents":250}}"#);
}

#[tokio::test]
async fn a_request_that_is_not_read_is_answered_and_no_handler_hears_of_it() {
    // RPC-20
    let world = World::new().await;
    let never = |_: Order| async { panic!("a handler of orders") as Result<Receipt, HandlerError> };
    let monitor = world.serve("price", typed::json(never)).await;
    let rpc = world.client().await;
    for body in ["{", "[]", "{\"item\":\"tea\"}", "\u{fffd}"] {
        let RpcError::Remote { kind, message } = rpc.call("price", body).await.unwrap_err() else {
            panic!("{body}: no error");
        };
        assert_eq!(kind, "bad-request", "{body}");
        assert!(
            message.starts_with("expected application/json: "),
            "{message}"
        );
    }
    assert_eq!((monitor.stats().failed, monitor.stats().panicked), (4, 0));
}

/// Nothing can be written in it, and nothing read.
enum Mute {}

impl Codec for Mute {
    const CONTENT_TYPE: ShortString = short!("application/x-mute");
    type Error = &'static str;

    fn encode<T: Serialize + ?Sized>(_: &T) -> Result<Bytes, Self::Error> {
        Err("there are no words")
    }

    fn decode<T: DeserializeOwned>(_: &[u8]) -> Result<T, Self::Error> {
        Err("there are no words")
    }
}

#[tokio::test]
async fn what_cannot_be_written_or_read_is_an_error_of_its_own() {
    let world = World::new().await;
    let echo = |request: Request| async move { Ok(request.body) };
    let monitor = world.serve("echo", echo).await;
    let rpc = world.client().await;

    let unwritten = rpc
        .call_typed::<Mute, u64, _, _>(PATIENTLY, "echo", &1)
        .await
        .unwrap_err();
    assert!(matches!(&unwritten, RpcError::Encode(why) if why == "there are no words"));
    assert!(!unwritten.maybe_executed());
    assert_eq!(monitor.stats().served, 0, "nothing was sent");

    let unread = rpc
        .call_json::<Receipt, _, _>("echo", "tea")
        .await
        .unwrap_err();
    assert!(
        matches!(&unread, RpcError::Decode(why) if why.contains("unknown variant `tea`")),
        "{unread}"
    );
    assert!(unread.maybe_executed());
    assert_eq!(monitor.stats().served, 1);

    let stats = rpc.stats();
    assert_eq!(
        (stats.not_sent, stats.not_understood, stats.answered),
        (1, 1, 0)
    );
    assert_eq!((stats.ended(), stats.pending), (2, 0));
}

#[tokio::test]
async fn a_result_that_cannot_be_written_is_answered_too() {
    let world = World::new().await;
    let map =
        |number: u64| async move { Ok(std::collections::HashMap::from([(vec![number], number)])) };
    world.serve("map", typed::json(map)).await;
    let error = world
        .client()
        .await
        .call_json::<u64, _, _>("map", &1)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, RpcError::Remote { kind, .. } if kind == "bad-reply"),
        "{error}"
    );
}

#[tokio::test]
async fn a_typed_message_takes_other_properties() {
    let world = World::new().await;
    let priority = |request: Request| async move {
        let priority = request.properties.priority.unwrap_or_default();
        Json::message(&priority).map_err(|error| HandlerError::new("bad-reply", error.to_string()))
    };
    world.serve("priority", priority).await;
    let mut request: Message = Json::message(&()).unwrap();
    request.properties.priority = Some(7);
    let reply = world
        .client()
        .await
        .call("priority", request)
        .await
        .unwrap();
    assert_eq!(Json::decode::<u8>(&reply.body).unwrap(), 7);
}
