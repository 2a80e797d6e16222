//! # Services: `tower` on both sides
//!
//! ```text
//!  Retry ─▶ RateLimit ─▶ … ─▶ RpcClient ═══ queue ═══▶ RpcServer ─▶ from_service ─▶ LoadShed ─▶ … ─▶ your service
//! ```
//!
//! Timeouts, limits, retries and load shedding are layers of [`tower`](https://docs.rs/tower) already, and so not ours.
//! A layer around a client sees [`RpcRequest`]s; a layer around a handler sees [`Request`]s.
//!
//! Read next: the programs, `cli`. Explained in `docs/rpc.md`.

use std::{
    error::Error as StdError,
    future::poll_fn,
    pin::Pin,
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};

use tower_service::Service;

use super::{
    CallOptions, HandlerError, LAYER, Request, RpcClient, RpcError, UNAVAILABLE, call::random_id,
};
use crate::{
    client::{Error, Message},
    codec::ShortString,
};

/// One call, as layers see it: a clone of it is the same call once more.
#[derive(Debug, Clone)]
pub struct RpcRequest {
    /// The queue it is for.
    pub queue: ShortString,
    /// Its body and properties.
    pub message: Message,
    /// Its time limit, and whether it may be done twice.
    pub options: CallOptions,
}

impl RpcRequest {
    /// A request for a queue.
    ///
    /// # Errors
    /// The name of the queue is longer than 255 octets.
    pub fn new<Q>(queue: Q, message: impl Into<Message>) -> Result<Self, Error>
    where
        Q: TryInto<ShortString>,
        Error: From<Q::Error>,
    {
        Ok(Self {
            queue: queue.try_into()?,
            message: message.into(),
            options: CallOptions::default(),
        })
    }

    /// The work may be done twice; and every clone has the same `message_id`, so that a server which keeps its replies
    /// does it once, however often a layer tries (RPC-15).
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.options = self.options.idempotent();
        let id = &mut self.message.properties.message_id;
        id.get_or_insert_with(random_id);
        self
    }

    /// Whether this call may be tried again after it has ended so, for the policy of a retrying layer: nothing was
    /// executed, or it is idempotent; and another try may end otherwise.
    pub fn may_try_again(&self, error: &RpcError) -> bool {
        match error {
            RpcError::Remote { kind, .. } if kind == LAYER => self.options.idempotent,
            RpcError::Remote { kind, .. } => kind == UNAVAILABLE,
            RpcError::Unroutable { .. }
            | RpcError::Refused { .. }
            | RpcError::Timeout(_)
            | RpcError::ConnectionLost { .. }
            | RpcError::ChannelClosed { .. } => self.options.idempotent || !error.maybe_executed(),
            RpcError::Decode(_) | RpcError::ShutDown { .. } => false,
            RpcError::NotSent(_) | RpcError::Encode(_) => false,
        }
    }
}

type Pinned<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Always ready. A call waits for a connection that comes back, and does so within its own time limit; readiness has
/// none. A layer that sheds load needs one between it and the client that limits, as `ConcurrencyLimit` does.
///
/// A layer that retries asks [`RpcRequest::may_try_again`] first.
impl Service<RpcRequest> for RpcClient {
    type Response = Message;
    type Error = RpcError;
    type Future = Pinned<Result<Message, RpcError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), RpcError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: RpcRequest) -> Self::Future {
        let RpcRequest {
            queue,
            message,
            options,
        } = request;
        let client = self.clone();
        Box::pin(async move { client.call_with(options, queue, message).await })
    }
}

/// What a service may fail with: a [`HandlerError`], which is the caller's to see, or whatever a layer says.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Makes a handler out of a service: each request has a clone of it, and waits until that is ready. A request that
/// waits takes one of the server's places, so a limit below `concurrency` belongs into the server's options; and a layer
/// without clones, as `RateLimit`, needs a `Buffer` around it.
///
/// An error that is no [`HandlerError`], since a layer said it, is answered with the kind [`LAYER`] and its text. Of most
/// layers nobody can tell here whether the work was begun; where a layer is known to be before it, as `LoadShed` is,
/// `map_err` around it makes its error [`unavailable`](HandlerError::unavailable).
pub fn from_service<S, R>(
    service: S,
) -> impl Fn(Request) -> Pinned<Result<R, HandlerError>> + Send + Sync
where
    S: Service<Request, Response = R, Error: Into<BoxError>, Future: Send> + Clone + Send + 'static,
    R: Into<Message>,
{
    let service = Mutex::new(service); // handlers are shared between threads, and not every service can be
    move |request| {
        let mut service = service
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        Box::pin(async move {
            let ready = poll_fn(|context| service.poll_ready(context)).await;
            ready.map_err(|error| told(error.into()))?;
            service
                .call(request)
                .await
                .map_err(|error| told(error.into()))
        })
    }
}

fn told(error: BoxError) -> HandlerError {
    match error.downcast() {
        Ok(error) => *error,
        Err(other) => HandlerError::new(LAYER, other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{client::Cause, codec::ReplyCode, short};

    #[test]
    fn only_what_does_no_harm_and_may_help_is_tried_again() {
        let plain = RpcRequest::new("q", "").unwrap();
        let idempotent = plain.clone().idempotent();
        let cause = Error::ConnectionClosed(Cause::EndOfStream);
        let lost = |maybe_executed| RpcError::lost(cause.clone(), maybe_executed);
        let remote = |kind: &str| RpcError::Remote {
            kind: kind.into(),
            message: String::new(),
        };
        let unroutable = RpcError::Unroutable {
            queue: short!("q"),
            code: ReplyCode::NO_ROUTE,
            text: short!("NO_ROUTE"),
        };
        let shut_down = RpcError::ShutDown {
            maybe_executed: false,
        };
        #[rustfmt::skip] // a table
        let cases = [
            (unroutable,                            true,  true),
            (RpcError::Refused { queue: short!("q") }, true,  true),
            (lost(false),                           true,  true),
            (lost(true),                            false, true),
            (remote(UNAVAILABLE),                   true,  true),
            (remote(LAYER),                         false, true),
            (remote("bad-request"),                 false, false),
            (RpcError::Decode(String::new()),       false, false),
            (RpcError::Encode(String::new()),       false, false),
            (RpcError::NotSent(cause.clone()),      false, false),
            (shut_down,                             false, false),
        ];
        for (error, once, often) in cases {
            assert_eq!(plain.may_try_again(&error), once, "{error}");
            assert_eq!(
                idempotent.may_try_again(&error),
                often,
                "idempotent: {error}"
            );
        }
    }
}
