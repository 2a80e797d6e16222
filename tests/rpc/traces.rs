//! One trace over both sides of a call, as OpenTelemetry sees it; and the headers that carry it.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use amqp_rpc::{
    client::{Connection, Message},
    codec::{FieldTable, FieldValue, Properties, QueueDeclare},
    rpc::{
        HandlerError, Propagator, Request, RpcClient, RpcClientOptions, RpcServerOptions,
        TraceContext,
    },
    short,
};
use opentelemetry::{
    propagation::TextMapPropagator,
    trace::{SpanId, SpanKind, Status, TraceId, TracerProvider},
};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{InMemorySpanExporter, SdkTracerProvider, SpanData},
};
use tokio::time::timeout;
use tracing::{Instrument, Span, info_span, level_filters::LevelFilter};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::{Layer, SubscriberExt};

use super::{PATIENCE, World};

/// What an application with OpenTelemetry writes, as in the documentation of [`Propagator`].
#[derive(Debug)]
struct OpenTelemetry;

impl Propagator for OpenTelemetry {
    fn inject(&self, span: &Span) -> Option<TraceContext> {
        let mut headers = HashMap::new();
        TraceContextPropagator::new().inject_context(&span.context(), &mut headers);
        TraceContext::new(
            headers.get("traceparent")?,
            headers.get("tracestate").map(String::as_str),
        )
    }

    fn extract(&self, span: &Span, caller: &TraceContext) {
        let mut headers = HashMap::from([("traceparent".into(), caller.traceparent().into())]);
        headers.extend(
            caller
                .tracestate()
                .map(|state| ("tracestate".into(), state.into())),
        );
        span.set_parent(TraceContextPropagator::new().extract(&headers))
            .unwrap();
    }
}

/// Every span of this program goes to OpenTelemetry, and ends here. One subscriber for all tests: whether a span is wanted
/// is remembered for the whole process, and subscribers that come and go on other threads would change it meanwhile.
struct Collected {
    spans: InMemorySpanExporter,
}

static SPANS: OnceLock<InMemorySpanExporter> = OnceLock::new();

impl Collected {
    fn new() -> Self {
        let spans = SPANS.get_or_init(|| {
            let spans = InMemorySpanExporter::default();
            let provider = SdkTracerProvider::builder()
                .with_simple_exporter(spans.clone())
                .build();
            let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
            let layer = layer.with_filter(LevelFilter::DEBUG);
            tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer))
                .unwrap();
            spans
        });
        Self {
            spans: spans.clone(),
        }
    }

    /// The span of this name and, if it is told, this destination, once it has ended.
    async fn span(&self, name: &str, destination: &str) -> SpanData {
        let ended = timeout(PATIENCE, self.ended(name, destination)).await;
        ended.unwrap_or_else(|_| panic!("no span {name} {destination}"))
    }

    async fn ended(&self, name: &str, destination: &str) -> SpanData {
        let destined = |span: &SpanData| {
            destination.is_empty() || text(span, "messaging.destination.name") == destination
        };
        loop {
            let spans = self.spans.get_finished_spans().unwrap();
            if let Some(found) = spans
                .into_iter()
                .find(|span| span.name == name && destined(span))
            {
                return found;
            }
            tokio::task::yield_now().await; // a server's span ends when its reply is on its way
        }
    }
}

fn text(span: &SpanData, attribute: &str) -> String {
    let found = span
        .attributes
        .iter()
        .find(|found| found.key.as_str() == attribute);
    found.map_or(String::new(), |found| found.value.to_string())
}

async fn traced_client(connection: &Connection) -> RpcClient {
    let options = RpcClientOptions {
        propagator: Some(Arc::new(OpenTelemetry)),
        ..Default::default()
    };
    RpcClient::with_options(connection, options).await.unwrap()
}

fn traced_server() -> RpcServerOptions {
    RpcServerOptions {
        propagator: Some(Arc::new(OpenTelemetry)),
        ..Default::default()
    }
}

#[tokio::test]
async fn the_span_of_a_request_is_a_child_of_its_call_through_a_second_call_too() {
    let collected = Collected::new();
    let world = World::new().await;
    let inner = traced_client(&world.connection).await;
    world
        .serve_with(traced_server(), "stock", |_: Request| async { Ok("12") })
        .await;
    let relay = move |request: Request| {
        let inner = inner.clone();
        async move {
            let reply = inner.call("stock", request.body).await;
            reply.map_err(|error| HandlerError::new("stock", error.to_string()))
        }
    };
    world.serve_with(traced_server(), "shop", relay).await;
    let rpc = traced_client(&world.connection).await;
    let order = rpc.call("shop", "tea").instrument(info_span!("order"));
    assert_eq!(order.await.unwrap().body, "12");

    let order = collected.span("order", "").await;
    let mut parent = order.clone();
    for queue in ["shop", "stock"] {
        let call = collected.span("rpc.call", queue).await;
        let request = collected.span("rpc.request", queue).await;
        assert_eq!(
            call.parent_span_id,
            parent.span_context.span_id(),
            "{queue}"
        );
        assert_eq!(
            request.parent_span_id,
            call.span_context.span_id(),
            "{queue}"
        );
        assert!(request.parent_span_is_remote && !call.parent_span_is_remote);
        assert_eq!(
            (call.span_kind.clone(), request.span_kind.clone()),
            (SpanKind::Client, SpanKind::Server)
        );
        let ids = [&call, &request].map(|span| text(span, "messaging.message.conversation_id"));
        assert!(ids[0].len() == 36 && ids[0] == ids[1], "{ids:?}");
        for span in [&call, &request] {
            assert_eq!(span.span_context.trace_id(), order.span_context.trace_id());
            assert_eq!(text(span, "messaging.system"), "rabbitmq");
            assert_eq!(text(span, "messaging.message.body.size"), "3");
            assert_eq!(span.status, Status::Unset);
        }
        parent = request;
    }
}

#[tokio::test]
async fn an_error_is_the_status_of_both_spans() {
    let collected = Collected::new();
    let world = World::new().await;
    let fail = |_: Request| async { Err::<&str, _>(HandlerError::new("sold-out", "no tea")) };
    world.serve_with(traced_server(), "sold", fail).await;
    traced_client(&world.connection)
        .await
        .call("sold", "tea")
        .await
        .unwrap_err();
    let request = collected.span("rpc.request", "sold").await;
    assert_eq!(
        (request.status.clone(), text(&request, "error.type")),
        (Status::error("no tea"), "sold-out".into())
    );
    let call = collected.span("rpc.call", "sold").await;
    assert!(
        matches!(&call.status, Status::Error { description } if description.contains("no tea")),
        "{:?}",
        call.status
    );
    assert_eq!(text(&call, "error.type"), "remote error");
}

/// The headers of the request that a call sends, by a server that answers with them.
async fn headers_sent(world: &World, rpc: &RpcClient, request: impl Into<Message>) -> FieldTable {
    let channel = world.connection.open_channel().await.unwrap();
    let queue = QueueDeclare {
        queue: short!("seen"),
        ..Default::default()
    };
    channel.queue_declare(queue).await.unwrap();
    let mut requests = channel.consume("seen").await.unwrap();
    let call = tokio::spawn({
        let (rpc, request) = (rpc.clone(), request.into());
        async move { rpc.call("seen", request).await }
    });
    let seen = requests.next().await.unwrap().unwrap();
    call.abort();
    let headers = seen.properties().headers.clone().unwrap();
    seen.ack().await.unwrap();
    headers
}

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn traced_request() -> Message {
    let parent = FieldValue::from(PARENT);
    let state = FieldValue::from("vendor=value");
    let headers = FieldTable(vec![
        (short!("traceparent"), parent),
        (short!("tracestate"), state),
    ]);
    Message::new(
        Properties {
            headers: Some(headers),
            ..Default::default()
        },
        "",
    )
}

#[tokio::test]
async fn the_headers_are_long_strings_and_those_of_the_application_stay() {
    let _collected = Collected::new();
    let world = World::new().await;
    let plain = world.client().await;
    let traced = traced_client(&world.connection).await;

    let headers = headers_sent(&world, &plain, "").await;
    assert!(headers.get("traceparent").is_none() && headers.get("tracestate").is_none());

    let headers = headers_sent(&world, &traced, "").await;
    let parent = headers.get("traceparent").unwrap();
    assert_eq!(
        (parent.tag(), parent.as_long_string().unwrap().len()),
        (b'S', 55)
    );

    for rpc in [plain, traced] {
        let headers = headers_sent(&world, &rpc, traced_request()).await;
        let text = |name| headers.get(name).unwrap().as_long_string().unwrap();
        assert_eq!(text("traceparent"), PARENT.as_bytes());
        assert_eq!(text("tracestate"), b"vendor=value");
        let parents = headers.0.iter().filter(|(name, _)| *name == "traceparent");
        assert_eq!(parents.count(), 1);
    }
}

#[tokio::test]
async fn a_server_knows_the_trace_of_any_client_and_ignores_what_is_none() {
    let collected = Collected::new();
    let world = World::new().await;
    world
        .serve_with(traced_server(), "any", |_: Request| async { Ok("") })
        .await;
    world
        .serve_with(traced_server(), "none", |_: Request| async { Ok("") })
        .await;
    let rpc = world.client().await; // it passes on what the application set, and nothing of its own
    rpc.call("any", traced_request()).await.unwrap();
    let span = collected.span("rpc.request", "any").await;
    assert_eq!(
        span.span_context.trace_id(),
        TraceId::from_hex("4bf92f3577b34da6a3ce929d0e0e4736").unwrap()
    );
    assert_eq!(
        span.parent_span_id,
        SpanId::from_hex("00f067aa0ba902b7").unwrap()
    );
    assert_eq!(span.span_context.trace_state().header(), "vendor=value");
    assert_eq!(text(&span, "traceparent"), PARENT);

    let mut request = traced_request();
    let headers = FieldTable(vec![(
        short!("traceparent"),
        FieldValue::from(PARENT.to_uppercase()),
    )]);
    request.properties.headers = Some(headers);
    rpc.call("none", request).await.unwrap();
    let span = collected.span("rpc.request", "none").await;
    assert_eq!(
        (span.parent_span_id, text(&span, "traceparent")),
        (SpanId::INVALID, String::new())
    );
}

#[tokio::test]
async fn a_handler_passes_a_trace_on_without_any_tracing_system() {
    let world = World::new().await;
    let context = |request: Request| async move {
        let context =
            TraceContext::of(&request.properties).ok_or(HandlerError::bad_request("no trace"))?;
        let mut next = Message::from("next");
        context.put(&mut next.properties);
        Ok(next)
    };
    world.serve("next", context).await;
    let next = world
        .client()
        .await
        .call("next", traced_request())
        .await
        .unwrap();
    let passed_on = TraceContext::of(&next.properties).unwrap();
    assert_eq!(
        (passed_on.traceparent(), passed_on.tracestate()),
        (PARENT, Some("vendor=value"))
    );
}
