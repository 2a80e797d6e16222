//! # Typed calls: a value on each side, and a codec between
//!
//! ```text
//! &[1, 2, 39] ── encode ──▶ "[1,2,39]" ═══ request ═══▶ decode ──▶ Vec<u64> ──▶ handler
//!          42 ◀─ decode ─── "42" ◀════════ reply ══════ encode ◀── 42 ◀────────────┘
//! ```
//!
//! A body is octets, and text is octets: without this [`RpcClient::call`] takes and gives both. What is typed here is
//! the same on the wire but for `content-type`, so both sides are typed or not as they like.
//!
//! Read next: `service`. Explained in `docs/rpc.md`.

use std::{fmt::Display, pin::Pin};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{CallOptions, HandlerError, Request, RpcClient, RpcError};
use crate::{
    client::{Error, Message},
    codec::{Properties, ShortString},
    short,
};

/// A format of bodies. [`Json`] is one; another takes as many lines.
pub trait Codec {
    /// What `content-type` says of such a body.
    const CONTENT_TYPE: ShortString;

    /// What is wrong with a value or a body.
    type Error: Display;

    /// Writes a body.
    ///
    /// # Errors
    /// The format has no words for this value.
    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, Self::Error>;

    /// Reads a body, whatever its `content-type`: not every client sets one.
    ///
    /// # Errors
    /// It is not of this format, or says something else.
    fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Self::Error>;

    /// A message with this value as its body, for a call or a reply with properties of its own.
    ///
    /// # Errors
    /// As for [`encode`](Self::encode).
    fn message<T: Serialize + ?Sized>(value: &T) -> Result<Message, Self::Error> {
        let properties = Properties {
            content_type: Some(Self::CONTENT_TYPE),
            ..Default::default()
        };
        Ok(Message::new(properties, Self::encode(value)?))
    }
}

/// `application/json`.
#[derive(Debug, Clone, Copy)]
pub enum Json {}

impl Codec for Json {
    const CONTENT_TYPE: ShortString = short!("application/json");
    type Error = serde_json::Error;

    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, Self::Error> {
        serde_json::to_vec(value).map(Bytes::from)
    }

    fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Self::Error> {
        serde_json::from_slice(body)
    }
}

impl RpcClient {
    /// Sends a value in JSON, and reads the reply as one.
    ///
    /// ```no_run
    /// # async fn example(rpc: amqp_rpc::rpc::RpcClient) -> Result<(), Box<dyn std::error::Error>> {
    /// let sum: u64 = rpc.call_json("sum", &[1, 2, 39]).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`call`](Self::call); and [`RpcError::Encode`], before anything is sent, or [`RpcError::Decode`], when the
    /// work is done.
    ///
    /// # Cancel safety
    /// As for [`call`](Self::call).
    pub async fn call_json<R, T, Q>(&self, queue: Q, request: &T) -> Result<R, RpcError>
    where
        R: DeserializeOwned,
        T: Serialize + ?Sized,
        Q: TryInto<ShortString>,
        Error: From<Q::Error>,
    {
        let options = CallOptions::default();
        self.call_typed::<Json, R, T, Q>(options, queue, request)
            .await
    }

    /// The same in any format, and with options.
    ///
    /// # Errors
    /// As for [`call_json`](Self::call_json).
    ///
    /// # Cancel safety
    /// As for [`call`](Self::call).
    pub async fn call_typed<C, R, T, Q>(
        &self,
        options: CallOptions,
        queue: Q,
        request: &T,
    ) -> Result<R, RpcError>
    where
        C: Codec,
        R: DeserializeOwned,
        T: Serialize + ?Sized,
        Q: TryInto<ShortString>,
        Error: From<Q::Error>,
    {
        let queue = queue.try_into().map_err(|e| RpcError::NotSent(e.into()));
        let request = queue.and_then(|queue| {
            let request = C::message(request).map_err(|e| RpcError::Encode(e.to_string()))?;
            Ok((queue, request))
        });
        let read = |reply: Message| {
            C::decode(&reply.body).map_err(|error| RpcError::Decode(error.to_string()))
        };
        self.exchange(options, request, read).await
    }
}

impl Request {
    /// Reads the body as JSON, for a handler that wants to see more of the request than its value.
    ///
    /// # Errors
    /// `bad-request`, with what is wrong and where.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, HandlerError> {
        self.typed::<Json, T>()
    }

    /// The same in any format.
    ///
    /// # Errors
    /// As for [`json`](Self::json).
    pub fn typed<C: Codec, T: DeserializeOwned>(&self) -> Result<T, HandlerError> {
        let read = C::decode(&self.body);
        read.map_err(|error| {
            HandlerError::bad_request(format!("expected {}: {error}", C::CONTENT_TYPE))
        })
    }
}

/// The work of a typed handler on one request.
pub type Work = Pin<Box<dyn Future<Output = Result<Message, HandlerError>> + Send>>;

/// Makes a handler of requests out of a handler of values in JSON.
///
/// ```no_run
/// use amqp_rpc::rpc::{HandlerError, RpcServer, typed};
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
///
/// async fn sum(numbers: Vec<u64>) -> Result<u64, HandlerError> {
///     Ok(numbers.iter().sum())
/// }
///
/// let server = RpcServer::connect("amqp://localhost", "sum").await?;
/// server.serve(typed::json(sum), std::future::pending()).await?;
/// # Ok(())
/// # }
/// ```
///
/// A request that is not read is answered with an error of kind `bad-request`, and its handler hears nothing of it; a
/// result that cannot be written, with one of kind `bad-reply`.
pub fn json<T, R, H, F>(handler: H) -> impl Fn(Request) -> Work + Send + Sync + 'static
where
    T: DeserializeOwned,
    R: Serialize,
    H: Fn(T) -> F + Send + Sync + 'static,
    F: Future<Output = Result<R, HandlerError>> + Send + 'static,
{
    handler_of::<Json, T, R, H, F>(handler)
}

/// The same in any format: `typed::handler_of::<Cbor, _, _, _, _>(sum)`.
pub fn handler_of<C, T, R, H, F>(handler: H) -> impl Fn(Request) -> Work + Send + Sync + 'static
where
    C: Codec,
    T: DeserializeOwned,
    R: Serialize,
    H: Fn(T) -> F + Send + Sync + 'static,
    F: Future<Output = Result<R, HandlerError>> + Send + 'static,
{
    move |request| {
        let work = request.typed::<C, T>().map(&handler);
        Box::pin(async move {
            let result = work?.await?;
            C::message(&result).map_err(|error| HandlerError::new("bad-reply", error.to_string()))
        })
    }
}
