//! The caller's side: publish a request, wait for the reply that carries its id.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};
use tracing::debug;
use uuid::Uuid;

use super::{
    ERROR_KIND, ERROR_TYPE,
    deadline::{Deadline, expiration},
    error::RpcError,
    queue::look_up,
};
use crate::{
    client::{Cause, Channel, Connection, Consumer, Error, Message, Received, Returned, Returns},
    codec::{BasicConsume, BasicPublish, QueueDeclare, ShortString},
};

/// How long the broker may take to say how many servers there are, once a call has failed already.
const LOOK_UP_LIMIT: Duration = Duration::from_millis(500);

/// How a client calls.
#[derive(Debug, Clone)]
pub struct RpcClientOptions {
    /// How long a call waits for its reply, unless the call says otherwise: 5 s.
    pub timeout: Duration,
    /// Makes the id of a call; never the same one twice (RPC-3). A random UUID.
    pub correlation_id: fn() -> ShortString,
}

impl Default for RpcClientOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            correlation_id: random_id,
        }
    }
}

fn random_id() -> ShortString {
    let mut buffer = Uuid::encode_buffer();
    let text = Uuid::new_v4().hyphenated().encode_lower(&mut buffer);
    ShortString::truncated(text)
}

/// Calls servers through their queues. Clone it and call from as many tasks as you like: thousands of calls can be in
/// flight on one connection.
///
/// ```no_run
/// use amqp_rpc::{client::Connection, rpc::RpcClient};
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
///
/// let connection = Connection::open("amqp://localhost").await?;
/// let rpc = RpcClient::new(&connection).await?;
/// let reply = rpc.call("rpc_queue", "30").await?;
/// assert_eq!(reply.body, "832040");
/// # Ok(())
/// # }
/// ```
///
/// Replies come to an exclusive queue that the broker names, as in tutorial six (RPC-2). It goes with the connection.
#[derive(Debug, Clone)]
pub struct RpcClient(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connection: Connection,
    channel: Channel,
    reply_to: ShortString,
    options: RpcClientOptions,
    pending: Arc<Pending>,
    replies: tokio::task::AbortHandle,
}

/// With the last clone the replies have nobody to go to.
impl Drop for Inner {
    fn drop(&mut self) {
        self.replies.abort();
    }
}

/// What a client has counted so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RpcStats {
    /// Calls that wait for their reply now.
    pub pending: usize,
    /// Replies that no call waited for: late, doubled or foreign. They are dropped (RPC-4, RPC-6).
    pub unexpected: u64,
}

type Outcome = Result<Message, RpcError>;

/// The calls in flight, by their ids.
#[derive(Debug, Default)]
struct Pending {
    calls: Mutex<Calls>,
    unexpected: AtomicU64,
}

#[derive(Debug, Default)]
struct Calls {
    waiting: HashMap<ShortString, oneshot::Sender<Outcome>>,
    /// Why no reply will ever come again.
    over: Option<Error>,
}

impl RpcClient {
    /// Prepares a reply queue on a channel of its own.
    ///
    /// # Errors
    /// What the channel or the connection failed with.
    ///
    /// # Cancel safety
    /// A dropped future may leave a reply queue, which goes with the connection, as does that of a dropped client.
    pub async fn new(connection: &Connection) -> Result<Self, Error> {
        Self::with_options(connection, RpcClientOptions::default()).await
    }

    /// The same with options.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    ///
    /// # Cancel safety
    /// As for [`new`](Self::new).
    pub async fn with_options(
        connection: &Connection,
        options: RpcClientOptions,
    ) -> Result<Self, Error> {
        let channel = connection.open_channel().await?;
        let declare = QueueDeclare {
            exclusive: true,
            ..Default::default()
        };
        let reply_to = channel.queue_declare(declare).await?.queue;
        let consume = BasicConsume {
            queue: reply_to.clone(),
            ..Default::default()
        };
        let returns = channel.all_returns();
        let replies = channel.consume_no_ack(consume).await?; // RPC-1: before the first request
        let pending = Arc::new(Pending::default());
        let replies = tokio::spawn(sort(replies, returns, pending.clone())).abort_handle();
        let connection = connection.clone();
        Ok(Self(Arc::new(Inner {
            connection,
            channel,
            reply_to,
            options,
            pending,
            replies,
        })))
    }

    /// Sends a request to a queue and waits for its reply.
    ///
    /// # Errors
    /// [`RpcError`] says what is known. Only `Unroutable` and `NotSent` mean that nothing was executed.
    ///
    /// # Cancel safety
    /// A dropped future has sent the request or has not; its reply is dropped when it comes.
    pub async fn call<Q>(&self, queue: Q, request: impl Into<Message>) -> Result<Message, RpcError>
    where
        Q: TryInto<ShortString>,
        Error: From<Q::Error>,
    {
        self.call_within(self.0.options.timeout, queue, request)
            .await
    }

    /// The same with a time limit of its own, which travels with the request: a server does not start what nobody
    /// waits for any more (RPC-10).
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    ///
    /// # Cancel safety
    /// As for [`call`](Self::call).
    pub async fn call_within<Q>(
        &self,
        limit: Duration,
        queue: Q,
        request: impl Into<Message>,
    ) -> Result<Message, RpcError>
    where
        Q: TryInto<ShortString>,
        Error: From<Q::Error>,
    {
        let queue: ShortString = queue
            .try_into()
            .map_err(|error| RpcError::NotSent(error.into()))?;
        let started = Instant::now();
        let deadline = Deadline::after(limit);
        let (call, outcome) = self.0.pending.register((self.0.options.correlation_id)())?; // RPC-5
        let sent = timeout_at(
            deadline.instant(),
            self.send(&queue, &call.id, limit, request.into()),
        );
        match sent.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(RpcError::NotSent(error)),
            // Dropped before it was handed over: nothing of it was sent.
            Err(_) => {
                let in_the_way = self.0.connection.in_the_way();
                let (operation, after) = ("basic.publish", limit);
                return Err(RpcError::NotSent(Error::Timeout {
                    operation,
                    after,
                    in_the_way,
                }));
            }
        }
        match timeout_at(deadline.instant(), outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(RpcError::Lost(Error::ChannelClosed(Cause::ClosedHere))),
            Err(_) => Err(self.too_late(queue, call.id.clone(), started).await),
        }
    }

    /// Late, doubled and foreign replies, and the calls in flight.
    pub fn stats(&self) -> RpcStats {
        let pending = &self.0.pending;
        RpcStats {
            pending: pending.calls().waiting.len(),
            unexpected: pending.unexpected.load(Ordering::Relaxed),
        }
    }

    /// The queue that replies come to.
    pub fn reply_to(&self) -> &ShortString {
        &self.0.reply_to
    }

    /// Mandatory, so that a missing queue is known at once (RPC-7).
    async fn send(
        &self,
        queue: &ShortString,
        id: &ShortString,
        limit: Duration,
        request: Message,
    ) -> Result<(), Error> {
        let Message {
            mut properties,
            body,
        } = request;
        properties.correlation_id = Some(id.clone());
        properties.reply_to = Some(self.0.reply_to.clone());
        properties.expiration = Some(expiration(limit));
        let publish = BasicPublish {
            routing_key: queue.clone(),
            mandatory: true,
            ..Default::default()
        };
        self.0
            .channel
            .publish_with(publish, Message { properties, body })
            .await
    }

    /// Only now, when the call has failed anyway, is it worth a round trip to ask who is there.
    async fn too_late(
        &self,
        queue: ShortString,
        correlation_id: ShortString,
        started: Instant,
    ) -> RpcError {
        let elapsed = started.elapsed();
        let in_the_way = self.0.connection.in_the_way().map(Box::new);
        let consumers = match in_the_way {
            Some(_) => None, // no answer would be read either
            None => self.count_consumers(&queue).await,
        };
        RpcError::Timeout {
            queue,
            correlation_id,
            elapsed,
            consumers,
            in_the_way,
        }
    }

    async fn count_consumers(&self, queue: &ShortString) -> Option<u32> {
        let look_up = look_up(&self.0.connection, queue);
        let found = tokio::time::timeout(LOOK_UP_LIMIT, look_up).await;
        Some(found.ok()?.ok()??.consumer_count)
    }
}

/// An entry among the calls in flight, for as long as somebody waits: it goes with the future of the call.
struct Call<'a> {
    pending: &'a Pending,
    id: ShortString,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.pending.calls().waiting.remove(&self.id);
    }
}

impl Pending {
    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(
        &self,
        id: ShortString,
    ) -> Result<(Call<'_>, oneshot::Receiver<Outcome>), RpcError> {
        let (sender, outcome) = oneshot::channel();
        let mut calls = self.calls();
        if let Some(error) = &calls.over {
            return Err(RpcError::NotSent(error.clone()));
        }
        calls.waiting.insert(id.clone(), sender);
        Ok((Call { pending: self, id }, outcome))
    }

    /// The first outcome counts; whatever comes for an id that nobody waits on is counted and dropped. RPC-4, RPC-6
    fn resolve(&self, id: Option<&ShortString>, outcome: Outcome) {
        let call = id.and_then(|id| self.calls().waiting.remove(id));
        if call.is_none_or(|call| call.send(outcome).is_err()) {
            self.unexpected.fetch_add(1, Ordering::Relaxed);
            debug!(correlation_id = ?id, "a reply that no call waits for");
        }
    }

    /// Everyone who waits hears why no reply will come. RPC-11
    fn fail(&self, error: &Error) {
        let mut calls = self.calls();
        calls.over = Some(error.clone());
        for (_, call) in calls.waiting.drain() {
            let _ = call.send(Err(RpcError::Lost(error.clone()))); // whoever waited may have given up
        }
    }
}

/// Hands replies and returned requests to the calls they belong to. It waits for nothing else, so it never stands in
/// the connection's way.
async fn sort(mut replies: Consumer<Received>, mut returns: Returns, pending: Arc<Pending>) {
    loop {
        tokio::select! {
            reply = replies.next() => match reply {
                Some(Ok(reply)) => {
                    let id = reply.message.properties.correlation_id.clone();
                    pending.resolve(id.as_ref(), read(reply.message));
                }
                Some(Err(error)) => return pending.fail(&error),
                None => return pending.fail(&Error::ChannelClosed(Cause::ClosedHere)),
            },
            Some(Returned { reason, message }) = returns.next() => {
                let (queue, code, text) = (reason.routing_key, reason.reply_code, reason.reply_text);
                let unroutable = RpcError::Unroutable { queue, code, text };
                pending.resolve(message.properties.correlation_id.as_ref(), Err(unroutable));
            }
        }
    }
}

/// A result, or the error that the server reports in its place. RPC-18
fn read(reply: Message) -> Outcome {
    if reply
        .properties
        .kind
        .as_ref()
        .is_none_or(|kind| *kind != ERROR_TYPE)
    {
        return Ok(reply);
    }
    let headers = reply.properties.headers.unwrap_or_default();
    let kind = headers
        .get(ERROR_KIND)
        .and_then(|kind| kind.as_long_string())
        .unwrap_or(b"error");
    let kind = String::from_utf8_lossy(kind).into_owned();
    Err(RpcError::Remote {
        kind,
        message: String::from_utf8_lossy(&reply.body).into_owned(),
    })
}
