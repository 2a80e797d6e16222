//! # Traces: the span of a call, and how the server's becomes its child
//!
//! ```text
//!  handle_order                          the application's own span
//!  └─ rpc.call       client              traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
//!     └─ rpc.request server                              trace-id                         span of the call
//!        └─ ...                          whatever the handler does, its own calls included
//! ```
//!
//! Two headers carry this, by the W3C's recommendation "Trace Context": `traceparent` and, with what vendors add,
//! `tracestate`. Both are long strings (`S`), which every client reads as text. Their ids belong to a tracing system,
//! and there are several; so the application says by a [`Propagator`] what they are, and without one no header is
//! written. The names of the fields are those that OpenTelemetry has for messaging.
//!
//! Read next: [`cache`](super::cache). Explained in `docs/rpc.md`.

use std::fmt::Debug;

use tracing::{
    Span,
    field::{Empty, display},
    info_span,
};

use super::{
    call::RpcClientOptions, error::RpcError, error_reply::HandlerError,
    server_options::RpcServerOptions,
};
use crate::{
    client::{Message, Received},
    codec::{FieldValue, Properties, ShortString},
    short,
};

/// The header that names the caller's span.
pub const TRACEPARENT: &str = "traceparent";

/// The header with what the vendors of tracing systems add to it.
pub const TRACESTATE: &str = "tracestate";

/// The longest `tracestate` in octets that is taken. The recommendation demands no more.
const MOST_STATE: usize = 512;

/// The most vendors in a `tracestate`.
const MOST_VENDORS: usize = 32;

/// Knows what [`tracing`] spans are called in a tracing system. With OpenTelemetry, whose crates this one does not
/// depend on:
///
/// ```
/// use std::collections::HashMap;
///
/// use amqp_rpc::rpc::{Propagator, TraceContext};
/// use opentelemetry::propagation::TextMapPropagator;
/// use opentelemetry_sdk::propagation::TraceContextPropagator;
/// use tracing::Span;
/// use tracing_opentelemetry::OpenTelemetrySpanExt;
///
/// #[derive(Debug)]
/// struct OpenTelemetry;
///
/// impl Propagator for OpenTelemetry {
///     fn inject(&self, span: &Span) -> Option<TraceContext> {
///         let mut headers = HashMap::new();
///         TraceContextPropagator::new().inject_context(&span.context(), &mut headers);
///         TraceContext::new(headers.get("traceparent")?, headers.get("tracestate").map(String::as_str))
///     }
///
///     fn extract(&self, span: &Span, caller: &TraceContext) {
///         let mut headers = HashMap::from([("traceparent".into(), caller.traceparent().into())]);
///         headers.extend(caller.tracestate().map(|state| ("tracestate".into(), state.into())));
///         let _ = span.set_parent(TraceContextPropagator::new().extract(&headers)); // refused: no layer is there
///     }
/// }
/// ```
pub trait Propagator: Debug + Send + Sync {
    /// What a request carries whose call is this span. The span may be disabled, if nobody listens.
    fn inject(&self, span: &Span) -> Option<TraceContext>;

    /// Makes the span of a request, which nobody has entered yet, a child of its caller's.
    fn extract(&self, span: &Span, caller: &TraceContext);
}

/// A caller's span, as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    traceparent: String,
    tracestate: Option<String>,
}

impl TraceContext {
    /// `None` if `traceparent` is malformed. A malformed `tracestate`, an empty one, or one of more than 512 octets is
    /// left out, as the recommendation has it.
    pub fn new(traceparent: &str, tracestate: Option<&str>) -> Option<Self> {
        is_traceparent(traceparent).then(|| Self {
            traceparent: traceparent.to_owned(),
            tracestate: tracestate
                .filter(|state| is_tracestate(state))
                .map(str::to_owned),
        })
    }

    /// Reads it from a message. A handler that knows no tracing system passes it on by this and [`put`](Self::put).
    pub fn of(properties: &Properties) -> Option<Self> {
        let headers = properties.headers.as_ref()?;
        let text = |name| str::from_utf8(headers.get(name)?.as_long_string()?).ok();
        Self::new(text(TRACEPARENT)?, text(TRACESTATE))
    }

    /// Writes it into a message that has none. What is there already is somebody's purpose, and stays.
    pub fn put(self, properties: &mut Properties) {
        if is_traced(properties) {
            return;
        }
        let headers = properties.headers.get_or_insert_default();
        headers.insert(short!("traceparent"), FieldValue::from(self.traceparent));
        if let Some(state) = self.tracestate {
            headers.insert(short!("tracestate"), FieldValue::from(state));
        }
    }

    /// `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01`: version, trace-id, parent-id and flags.
    pub fn traceparent(&self) -> &str {
        &self.traceparent
    }

    /// `vendor=value,…`, if there is any.
    pub fn tracestate(&self) -> Option<&str> {
        self.tracestate.as_deref()
    }
}

fn is_traced(properties: &Properties) -> bool {
    let headers = properties.headers.as_ref();
    headers.is_some_and(|headers| {
        headers.get(TRACEPARENT).is_some() || headers.get(TRACESTATE).is_some()
    })
}

/// `version "-" trace-id "-" parent-id "-" trace-flags`, all of them lower-case hexadecimal. Version `ff` is none, an id
/// is not all zeros, and only a later version than `00` may go on, behind another `-`.
fn is_traceparent(text: &str) -> bool {
    let mut parts = text.splitn(5, '-');
    let mut hex = |digits: usize| {
        let part = parts.next()?;
        let lower = |digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
        (part.len() == digits && part.bytes().all(lower)).then_some(part)
    };
    let some = |id: &str| id.bytes().any(|digit| digit != b'0');
    let Some(version) = hex(2) else { return false };
    let ids = hex(32).is_some_and(some) && hex(16).is_some_and(some);
    let flags = hex(2).is_some();
    let rest = parts.next();
    ids && flags && version != "ff" && (version != "00" || rest.is_none())
}

/// `key "=" value` of up to 32 vendors, with commas between, and spaces or nothing around each.
fn is_tracestate(text: &str) -> bool {
    let members = || {
        text.split(',')
            .map(|member| member.trim_matches([' ', '\t']))
    };
    let members_are_right = members().filter(|member| !member.is_empty()).all(|member| {
        member
            .split_once('=')
            .is_some_and(|(key, value)| is_key(key) && is_value(value))
    });
    members_are_right
        && members().any(|member| !member.is_empty())
        && members().count() <= MOST_VENDORS
        && text.len() <= MOST_STATE
}

fn is_key(key: &str) -> bool {
    let first = key.bytes().next();
    key.len() <= 256
        && first.is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit())
        && key.bytes().all(|octet| {
            octet.is_ascii_lowercase() || octet.is_ascii_digit() || b"_-*/@".contains(&octet)
        })
}

fn is_value(value: &str) -> bool {
    (1..=256).contains(&value.len())
        && value
            .bytes()
            .all(|octet| matches!(octet, b' '..=b'~') && octet != b',' && octet != b'=')
}

/// The span of a call, and the header by which the server's becomes its child.
pub(super) fn call(options: &RpcClientOptions, queue: &ShortString, request: &mut Message) -> Span {
    let span = info_span!(
        "rpc.call",
        otel.kind = "client",
        messaging.system = "rabbitmq",
        messaging.operation.type = "send",
        messaging.operation.name = "publish",
        messaging.destination.name = %queue,
        messaging.message.conversation_id = Empty,
        messaging.message.body.size = request.body.len(),
        error.type = Empty,
        otel.status_code = Empty,
        otel.status_description = Empty,
    );
    if let Some(propagator) = &options.propagator
        && !is_traced(&request.properties)
        && let Some(context) = propagator.inject(&span)
    {
        context.put(&mut request.properties);
    }
    span
}

/// An attempt begins, under an id of its own.
pub(super) fn attempt(span: &Span, id: &ShortString) {
    span.record("messaging.message.conversation_id", display(id));
}

/// The span of a request, and of whatever its handler does. Its parent is the caller's span, or nobody.
pub(super) fn request(options: &RpcServerOptions, request: &Received) -> Span {
    let properties = request.properties();
    let span = info_span!(
        parent: None,
        "rpc.request",
        otel.kind = "server",
        messaging.system = "rabbitmq",
        messaging.operation.type = "process",
        messaging.operation.name = "deliver",
        messaging.destination.name = %request.routing_key,
        messaging.message.conversation_id = properties.correlation_id.as_ref().map(display),
        messaging.message.id = properties.message_id.as_ref().map(display),
        messaging.message.body.size = request.body().len(),
        redelivered = request.redelivered,
        traceparent = Empty,
        error.type = Empty,
        otel.status_code = Empty,
        otel.status_description = Empty,
    );
    let traced = options.propagator.is_some() || !span.is_disabled();
    if let Some(caller) = traced.then(|| TraceContext::of(properties)).flatten() {
        span.record("traceparent", caller.traceparent());
        if let Some(propagator) = &options.propagator {
            propagator.extract(&span, &caller);
        }
    }
    span
}

/// What was answered, if it was an error.
pub(super) fn answered(span: &Span, error: Option<&HandlerError>) {
    if let Some(error) = error {
        span.record("error.type", &*error.kind);
        span.record("otel.status_code", "ERROR");
        span.record("otel.status_description", &*error.message);
    }
}

/// What the call came to. A span without an error is one that went well.
pub(super) fn ended<T>(span: &Span, outcome: &Result<T, RpcError>) {
    if let Err(error) = outcome {
        span.record("error.type", error.outcome());
        span.record("otel.status_code", "ERROR");
        span.record("otel.status_description", display(error));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{FieldTable, LongString};

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_what_the_recommendation_says() {
        let ids = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
        #[rustfmt::skip] // a table
        let cases = [
            (PARENT.to_owned(),                                                  true),
            (format!("00-{ids}-00"),                                             true),
            (format!("00-{ids}-ff"),                                             true),
            (format!("cc-{ids}-01"),                                             true),  // a later version ...
            (format!("cc-{ids}-01-what-the-future-will-be-like"),                true),  // ... may say more
            (format!("cc-{ids}-01.what"),                                        false),
            (format!("00-{ids}-01-more"),                                        false),
            (format!("00-{ids}-01-"),                                            false),
            (format!("ff-{ids}-01"),                                             false),
            (format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),               false),
            (format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", "0".repeat(16)), false),
            (PARENT.to_uppercase(),                                              false),
            (PARENT.replace("b7", "g7"),                                         false),
            (PARENT.replace("b7", "b"),                                          false),
            (PARENT.replace("b7", "b77"),                                        false),
            (format!(" {PARENT}"),                                               false),
            (format!("00-{ids}"),                                                false),
            (format!("0-{ids}-01"),                                              false),
            (format!("00-{ids}-1"),                                              false),
            (String::new(),                                                      false),
        ];
        for (text, right) in cases {
            assert_eq!(TraceContext::new(&text, None).is_some(), right, "{text:?}");
        }
    }

    #[test]
    fn a_tracestate_is_left_out_if_it_is_malformed() {
        let members = |number| vec!["a=b"; number].join(",");
        #[rustfmt::skip] // a table
        let cases = [
            ("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE".to_owned(), true),
            ("fw529a3039@dt=FfffffeA3fYxIDE=".replace("IDE=", "IDE"), true),
            ("a=1 , b = 2".to_owned(),                     false), // no space within a key
            ("a=1 ,\tb= 2".to_owned(),                     true),
            ("a=1,,b=2".to_owned(),                        true),  // an empty member is allowed
            ("1a_-*/=!~".to_owned(),                       true),
            (members(32),                                  true),
            (members(33),                                  false),
            (format!("a={}", "b".repeat(256)),             true),
            (format!("a={}", "b".repeat(257)),             false),
            (vec![format!("a={}", "b".repeat(200)); 3].join(","), false), // over 512
            (String::new(),                                false),
            (",".to_owned(),                               false),
            ("a".to_owned(),                               false),
            ("a=".to_owned(),                              false),
            ("=b".to_owned(),                              false),
            ("A=b".to_owned(),                             false),
            ("a=b=c".to_owned(),                           false),
            ("a=b\u{7f}".to_owned(),                       false),
            ("a=\u{e4}".to_owned(),                        false),
        ];
        for (text, right) in cases {
            let context = TraceContext::new(PARENT, Some(&text)).unwrap();
            assert_eq!(context.tracestate(), right.then_some(&*text), "{text:?}");
        }
    }

    #[test]
    fn what_is_there_already_is_not_replaced() {
        let context = TraceContext::new(PARENT, Some("a=b")).unwrap();
        let mut empty = Properties::default();
        context.clone().put(&mut empty);
        assert_eq!(TraceContext::of(&empty), Some(context.clone()));
        for name in [short!("traceparent"), short!("tracestate")] {
            let there = FieldTable(vec![(name, FieldValue::from("mine"))]);
            let mut properties = Properties {
                headers: Some(there),
                ..Default::default()
            };
            let before = properties.clone();
            context.clone().put(&mut properties);
            assert_eq!(properties, before);
        }
    }

    #[test]
    fn other_types_than_long_strings_are_no_trace() {
        let octets = FieldValue::ByteArray(PARENT.into());
        for value in [
            octets,
            FieldValue::Bool(true),
            FieldValue::LongString(LongString(vec![0xff].into())),
        ] {
            let headers = FieldTable(vec![(short!("traceparent"), value)]);
            let properties = Properties {
                headers: Some(headers),
                ..Default::default()
            };
            assert_eq!(TraceContext::of(&properties), None);
        }
        assert_eq!(TraceContext::of(&Properties::default()), None);
    }
}
