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

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::{
    select,
    sync::watch,
    time::{Instant, sleep_until, timeout, timeout_at},
};
use tracing::Instrument;

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
    client::{Confirm, Connection, Endpoints, Error, Message},
    codec::ShortString,
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
                let attempts = self.attempts(options, counted.started, &queue, request);
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
                started,
                deadline,
                left,
            };
            let error = match attempt.run(&self.0.options, request.clone()).await {
                Ok(reply) => return Ok(reply),
                Err(error) if options.may_try_again(&error) => error,
                Err(error) => return Err(error.behind(lost)),
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
    started: Instant,
    deadline: Deadline,
    left: Duration,
}

impl Attempt<'_> {
    /// Three things may come, in any order: the broker's confirm, the reply or what ends the call, and the deadline.
    async fn run(
        self,
        options: &RpcClientOptions,
        mut request: Message,
    ) -> Result<Message, RpcError> {
        let id = (options.correlation_id)();
        let registered = self.address.pending.register(id); // RPC-5
        let (call, mut outcome) = registered.map_err(|error| RpcError::lost(error, false))?;
        trace::attempt(&call.id);
        let properties = &mut request.properties;
        properties.correlation_id = Some(call.id.clone());
        properties.reply_to = Some(self.address.name.clone());
        deadline::put(properties, self.left, options.clock);
        let sent = self.address.publish(self.queue, request);
        let confirmation = match timeout_at(self.deadline.instant(), sent).await {
            Ok(sent) => sent.map_err(|error| RpcError::lost(error, false))?,
            Err(_) => return Err(Box::pin(self.too_late(call, false)).await),
        };
        let mut confirmation = pin!(confirmation.settled());
        let (mut asked, mut confirmed) = (true, false);
        loop {
            select! {
                biased;
                outcome = &mut outcome => {
                    return outcome.unwrap_or(Err(RpcError::ShutDown { maybe_executed: true }));
                }
                confirm = &mut confirmation, if asked => match confirm {
                    Ok(Confirm::Nack) => return Err(RpcError::Refused { queue: self.queue.clone() }),
                    Ok(Confirm::Ack) => (asked, confirmed) = (false, true),
                    Err(_) => asked = false, // the channel is over, and the call hears of it as everyone does
                },
                () = sleep_until(self.deadline.instant()) => {
                    return Err(Box::pin(self.too_late(call, confirmed)).await);
                }
            }
        }
    }

    async fn too_late(&self, call: Call<'_>, confirmed: bool) -> RpcError {
        let (queue, id) = (self.queue.clone(), call.id.clone());
        drop(call); // a reply that comes while the broker is asked is late, and counted so: RPC-6
        let elapsed = self.started.elapsed();
        let no_reply = NoReply::find_out(self.address, queue, id, elapsed, confirmed);
        RpcError::Timeout(Box::new(no_reply.await))
    }
}
