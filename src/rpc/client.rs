//! # The caller's side: publish a request, wait for the reply that carries its id
//!
//! ```text
//!                      ┌─ a return, a nack ──▶ nothing was executed (RPC-7)
//! register ─▶ publish ─┼─ the reply ─────────▶ the result, if it has our id (RPC-4)
//! (RPC-5)              ├─ the deadline ──────▶ executed, perhaps (RPC-9)
//!                      └─ a loss ────────────▶ perhaps; and once more, if it may be done twice (RPC-11)
//! ```
//! Any of them may come first; even the reply may, before the broker's own ack of the request.
//! Read next: [`server`](super::server). Explained in `docs/11-rpc.md`.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};
use tracing::{Instrument, Span};

use super::{
    call::{CallOptions, RpcClientOptions, random_id},
    deadline::{self, Deadline},
    error::RpcError,
    keeper::Keeper,
    no_reply::NoReply,
    pending::Call,
    reconnect::ConnectionState,
    replies::ReplyAddress,
    stats::{Counters, RpcStats},
    trace,
};
use crate::{
    client::{Confirming, Connection, Endpoints, Error, Message},
    codec::{BasicPublish, ShortString},
};

/// Calls servers through their queues. Clone it and call from as many tasks as you like: thousands of calls can be in
/// flight on one connection.
///
/// ```no_run
/// use amqp_rpc::rpc::RpcClient;
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
///
/// let rpc = RpcClient::connect("amqp://localhost").await?;
/// let reply = rpc.call("rpc_queue", "30").await?; // within 5 s, or an error that says why
/// assert_eq!(reply.body, "832040");
/// # Ok(())
/// # }
/// ```
///
/// Each request is mandatory, confirmed and carries its deadline, each reply is matched by its id, and when the
/// connection is lost there is soon another: [`RpcError`] says what that means for a call that was in flight.
#[derive(Debug, Clone)]
pub struct RpcClient(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: RpcClientOptions,
    keeper: Keeper,
    counters: Arc<Counters>,
    /// Each call holds a receiver while it lasts.
    in_flight: watch::Sender<()>,
}

impl RpcClient {
    /// Connects to the first of these places that answers, and again whenever the connection is lost.
    ///
    /// # Errors
    /// What the last place failed with. Only this first connection can fail; later ones are tried for as long as the
    /// client lives, as [`state`](Self::state) shows.
    ///
    /// # Cancel safety
    /// A dropped future leaves nothing behind.
    pub async fn connect<E>(endpoints: E) -> Result<Self, Error>
    where
        E: TryInto<Endpoints>,
        Error: From<E::Error>,
    {
        Self::connect_with(endpoints, RpcClientOptions::default()).await
    }

    /// Calls on a channel of a connection that is there, and ends with that connection.
    ///
    /// # Errors
    /// What the channel or the connection failed with.
    ///
    /// # Cancel safety
    /// A dropped future leaves nothing behind.
    pub async fn new(connection: &Connection) -> Result<Self, Error> {
        Self::with_options(connection, RpcClientOptions::default()).await
    }

    pub(super) fn kept(keeper: Keeper, options: RpcClientOptions, counters: Arc<Counters>) -> Self {
        Self(Arc::new(Inner {
            options,
            keeper,
            counters,
            in_flight: watch::Sender::new(()),
        }))
    }

    /// Sends a request to a queue and waits for its reply.
    ///
    /// # Errors
    /// [`RpcError`]: one outcome for each way to end, and whether the request may have been executed.
    ///
    /// # Cancel safety
    /// A dropped future has sent the request or has not; its reply is dropped when it comes.
    pub async fn call<Q>(&self, queue: Q, request: impl Into<Message>) -> Result<Message, RpcError>
    where
        Q: TryInto<ShortString>,
        Error: From<Q::Error>,
    {
        self.call_with(CallOptions::default(), queue, request).await
    }

    /// The same with a time limit of its own, or marked as idempotent.
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    ///
    /// # Cancel safety
    /// As for [`call`](Self::call).
    pub async fn call_with<Q>(
        &self,
        options: CallOptions,
        queue: Q,
        request: impl Into<Message>,
    ) -> Result<Message, RpcError>
    where
        Q: TryInto<ShortString>,
        Error: From<Q::Error>,
    {
        let queue = queue.try_into().map_err(|e| RpcError::NotSent(e.into()));
        let request = queue.map(|queue| (queue, request.into()));
        self.exchange(options, request, Ok).await
    }

    /// One call, counted and in a span of its own, from what its request is written from to what its reply is read as.
    pub(super) async fn exchange<T>(
        &self,
        options: CallOptions,
        request: Result<(ShortString, Message), RpcError>,
        read: impl FnOnce(Message) -> Result<T, RpcError>,
    ) -> Result<T, RpcError> {
        let _in_flight = self.0.in_flight.subscribe();
        let counted = self.0.counters.begin();
        let outcome = match request {
            Ok((queue, mut request)) => {
                let span = trace::call(&self.0.options, &queue, &mut request);
                let attempts = self.attempts(options, counted.started, &span, &queue, request);
                let outcome = attempts.instrument(span.clone()).await.and_then(read);
                trace::ended(&span, &outcome);
                outcome
            }
            Err(error) => Err(error),
        };
        counted.end(&outcome);
        outcome
    }

    /// One attempt; and others within the same deadline, if the connection was lost and no harm can come of it. What
    /// hardly any call needs is boxed, so that each of thousands in flight is no larger than what most of them need.
    async fn attempts(
        &self,
        options: CallOptions,
        started: Instant,
        span: &Span,
        queue: &ShortString,
        mut request: Message,
    ) -> Result<Message, RpcError> {
        let mut left = options.timeout.unwrap_or(self.0.options.timeout);
        let deadline = Deadline::since(started, left);
        if options.idempotent {
            request.properties.message_id.get_or_insert_with(random_id);
        }
        let mut lost = None; // the first attempt that may have been executed
        loop {
            let address = if let Some(address) = self.0.keeper.address() {
                address
            } else {
                let next = Box::pin(self.0.keeper.next_address());
                let found = timeout_at(deadline.instant(), next).await;
                left = deadline.remaining();
                let found = found.unwrap_or_else(|_| Err(self.0.keeper.absence()));
                found.map_err(|error| error.behind(lost.take()))?
            };
            if lost.is_some() {
                self.0.counters.resent.add();
            }
            let attempt = Attempt {
                address: &address,
                queue,
                span,
                started,
                deadline,
                left,
            };
            let spare = options.idempotent.then(|| request.clone());
            let (error, unsent) = match attempt.run(&self.0.options, request).await {
                Ok(reply) => return Ok(reply),
                Err(failed) => failed,
            };
            request = match unsent.or(spare) {
                Some(request) if options.may_try_again(&error) => request,
                _ => return Err(error.behind(lost)),
            };
            let replaced = Box::pin(self.0.keeper.replaced(&address));
            if timeout_at(deadline.instant(), replaced).await.is_err() {
                return Err(error.behind(lost));
            }
            left = deadline.remaining();
            if error.maybe_executed() {
                lost.get_or_insert(error);
            }
        }
    }

    /// Whether the client is connected, as it changes.
    pub fn state(&self) -> watch::Receiver<ConnectionState> {
        self.0.keeper.state()
    }

    /// The connection that calls go out on, if there is one now: for what else there is to ask of the broker.
    pub fn connection(&self) -> Option<Connection> {
        self.0.keeper.connection()
    }

    /// What was counted so far.
    pub fn stats(&self) -> RpcStats {
        self.0.counters.snapshot()
    }

    /// Takes no new call, gives those in flight so long to end, and closes what it opened.
    ///
    /// # Errors
    /// What the channel or the connection failed with.
    ///
    /// # Cancel safety
    /// A dropped future takes no new call, and may have ended those in flight and closed what was opened.
    pub async fn close(&self, limit: Duration) -> Result<(), Error> {
        self.0.keeper.refuse();
        let _ = timeout(limit, self.0.in_flight.closed()).await; // those that remain hear of it
        self.0.keeper.close().await
    }
}

/// One request on its way, and the reply to it.
struct Attempt<'a> {
    address: &'a ReplyAddress,
    queue: &'a ShortString,
    span: &'a Span,
    started: Instant,
    deadline: Deadline,
    left: Duration,
}

/// Why an attempt had no reply, and its request if that was not sent.
type Failed = (RpcError, Option<Message>);

impl Attempt<'_> {
    /// The request is mandatory, so that a missing queue is known at once (RPC-7), and confirmed (RPC-12).
    async fn run(
        self,
        options: &RpcClientOptions,
        mut request: Message,
    ) -> Result<Message, Failed> {
        let id = (options.correlation_id)();
        trace::attempt(self.span, &id);
        let properties = &mut request.properties;
        properties.correlation_id = Some(id.clone());
        properties.reply_to = Some(self.address.name.clone());
        deadline::put(properties, self.left, options.clock);
        let mut call = match self.address.pending.register(id, self.queue) {
            Ok(call) => call, // RPC-5
            Err(error) => return Err((RpcError::lost(error, false), Some(request))),
        };
        let exchange = async {
            let permit = match self.address.permit().await {
                Ok(permit) => permit,
                Err(error) => return Err((RpcError::lost(error, false), Some(request))),
            };
            let publish = BasicPublish {
                routing_key: self.queue.clone(),
                mandatory: true,
                ..Default::default()
            };
            let sent = permit.publish(publish, request, Confirming::Listener(call.listener()));
            sent.map_err(|error| (RpcError::lost(error, false), None))?;
            call.outcome().await.map_err(|error| (error, None))
        };
        match timeout_at(self.deadline.instant(), exchange).await {
            Ok(outcome) => outcome,
            Err(_) => Err((Box::pin(self.too_late(call)).await, None)),
        }
    }

    async fn too_late(&self, call: Call<'_>) -> RpcError {
        let (queue, id, confirmed) = (self.queue.clone(), call.id.clone(), call.is_confirmed());
        drop(call); // a reply that comes while the broker is asked is late, and counted so: RPC-6
        let elapsed = self.started.elapsed();
        let no_reply = NoReply::find_out(self.address, queue, id, elapsed, confirmed);
        RpcError::Timeout(Box::new(no_reply.await))
    }
}
