//! The server's side: take a request, do the work, reply, and only then acknowledge.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::{task::JoinSet, time::timeout_at};
use tracing::{debug, warn};

use super::{
    ERROR_KIND, ERROR_TYPE,
    deadline::{Deadline, time_limit},
    error::HandlerError,
    queue::{QueueType, declare},
};
use crate::{
    client::{Acker, Channel, Connection, Consumer, Delivery, Error, Message, Received},
    codec::{BasicConsume, FieldTable, Properties, ShortString},
    short,
};

/// How a server serves.
#[derive(Debug, Clone)]
pub struct RpcServerOptions {
    /// How the queue is declared.
    pub queue_type: QueueType,
    /// How many requests the broker hands out before the first is acknowledged, and how many handlers run at once; 1
    /// is fair dispatch: a busy server gets no second request (QOS-9, RPC-13).
    pub prefetch: u16,
    /// How long a request may take that does not say how long its caller waits: 30 s.
    pub work_limit: Duration,
    /// The longest result in octets: 16 MiB, which is what RabbitMQ 4 takes. A longer one would cost the channel, so
    /// its caller gets an error in its place.
    pub max_reply: usize,
}

impl Default for RpcServerOptions {
    fn default() -> Self {
        Self {
            queue_type: QueueType::Auto,
            prefetch: 1,
            work_limit: Duration::from_secs(30),
            max_reply: 16 << 20,
        }
    }
}

/// One request, as a handler sees it.
#[derive(Debug, Clone)]
pub struct Request {
    /// The body.
    pub body: Bytes,
    /// The fourteen properties.
    pub properties: Box<Properties>,
    /// Whether it was delivered before: the work may have been done already (RPC-15, RPC-24).
    pub redelivered: bool,
    /// Until when the caller waits. Long work stops when it is over.
    pub deadline: Deadline,
}

/// Serves requests from one queue.
///
/// ```no_run
/// use amqp_rpc::{client::Connection, rpc::{HandlerError, Request, RpcServer}};
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
///
/// let connection = Connection::open("amqp://localhost").await?;
/// let server = RpcServer::new(&connection, "upper").await?;
/// let handler = |request: Request| async move {
///     let text = std::str::from_utf8(&request.body).map_err(|_| HandlerError::bad_request("expected UTF-8"))?;
///     Ok(text.to_uppercase().into())
/// };
/// server.serve(handler, std::future::pending()).await?;
/// # Ok(())
/// # }
/// ```
///
/// A request is acknowledged after its reply is on its way, so a server that dies in between gets it again: handlers
/// must be idempotent (RPC-14, RPC-15). What a handler cannot read, fails at or panics on is answered with an error
/// and never comes back (RPC-18, RPC-20).
#[derive(Debug)]
#[must_use = "a server serves once `serve` is called"]
pub struct RpcServer {
    channel: Channel,
    requests: Consumer<Delivery>,
    options: RpcServerOptions,
}

impl RpcServer {
    /// Declares the queue and subscribes to it, on a channel of its own.
    ///
    /// # Errors
    /// What the channel or the connection failed with.
    ///
    /// # Cancel safety
    /// A dropped future may have declared the queue.
    pub async fn new<Q>(connection: &Connection, queue: Q) -> Result<Self, Error>
    where
        Q: TryInto<ShortString>,
        Error: From<Q::Error>,
    {
        Self::with_options(connection, queue, RpcServerOptions::default()).await
    }

    /// The same with options.
    ///
    /// # Errors
    /// As for [`new`](Self::new), and 406 when the queue exists with other properties.
    ///
    /// # Cancel safety
    /// As for [`new`](Self::new).
    pub async fn with_options<Q>(
        connection: &Connection,
        queue: Q,
        options: RpcServerOptions,
    ) -> Result<Self, Error>
    where
        Q: TryInto<ShortString>,
        Error: From<Q::Error>,
    {
        let queue = queue.try_into()?;
        let channel = connection.open_channel().await?;
        declare(connection, &channel, &queue, options.queue_type).await?;
        channel.qos(options.prefetch).await?; // QOS-4: before consume
        let requests = channel
            .consume_with(BasicConsume {
                queue,
                ..Default::default()
            })
            .await?;
        Ok(Self {
            channel,
            requests,
            options,
        })
    }

    /// Serves until `stop` is ready, then takes nothing new, gives back what it has not begun, finishes what it has,
    /// and closes its channel (RPC-22).
    ///
    /// # Errors
    /// What the subscription, the channel or the connection failed with.
    ///
    /// # Cancel safety
    /// A dropped future drops the handlers that run; their requests come again, to whoever serves then.
    pub async fn serve<H, F>(self, handler: H, stop: impl Future<Output = ()>) -> Result<(), Error>
    where
        H: Fn(Request) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Bytes, HandlerError>> + Send + 'static,
    {
        let Self {
            channel,
            mut requests,
            options,
        } = self;
        let at_once = if options.prefetch == 0 {
            usize::MAX
        } else {
            options.prefetch.into()
        };
        let handler = Arc::new(handler);
        let mut running = JoinSet::new();
        let mut stop = pin!(stop);
        let ended = loop {
            tokio::select! {
                request = requests.next(), if running.len() < at_once => match request {
                    Some(Ok(request)) => {
                        let job = Job { channel: channel.clone(), options: options.clone() };
                        running.spawn(job.run(request, handler.clone()));
                    }
                    // The queue is gone, but replies can still be sent.
                    Some(Err(error @ Error::ConsumerCancelled(_))) => break Err(error),
                    Some(Err(error)) => return Err(error),
                    None => break Ok(()),
                },
                Some(_) = running.join_next() => {}
                () = &mut stop => break give_back(&channel, &mut requests).await,
            }
        };
        while running.join_next().await.is_some() {}
        drop(requests);
        ended?;
        channel.close().await
    }
}

/// Takes nothing new, and gives back what was not begun. It goes on taking while it waits for the cancel-ok, which comes
/// behind whatever is queued.
async fn give_back(channel: &Channel, requests: &mut Consumer<Delivery>) -> Result<(), Error> {
    let mut cancelled = pin!(channel.cancel(requests.tag().clone()));
    loop {
        tokio::select! {
            result = &mut cancelled => {
                result?;
                break;
            }
            Some(unbegun) = requests.next() => unbegun?.nack(true).await?,
        }
    }
    while let Some(unbegun) = requests.next().await {
        unbegun?.nack(true).await?;
    }
    Ok(())
}

/// One request on its way through the server.
struct Job {
    channel: Channel,
    options: RpcServerOptions,
}

impl Job {
    async fn run<H, F>(self, delivery: Delivery, handler: Arc<H>)
    where
        H: Fn(Request) -> F,
        F: Future<Output = Result<Bytes, HandlerError>>,
    {
        if let Err(error) = self.answer(delivery, handler).await {
            debug!(%error, "a request could not be answered: it will come again");
        }
    }

    async fn answer<H, F>(&self, delivery: Delivery, handler: Arc<H>) -> Result<(), Error>
    where
        H: Fn(Request) -> F,
        F: Future<Output = Result<Bytes, HandlerError>>,
    {
        let (
            Received {
                redelivered,
                message,
                ..
            },
            acker,
        ) = delivery.into_parts();
        let Message { properties, body } = message;
        let (reply_to, correlation_id) = (
            properties.reply_to.clone(),
            properties.correlation_id.clone(),
        );
        let Some(reply_to) = reply_to else {
            warn!("a request without reply-to: nobody waits, so it is dropped"); // RPC-17
            return acker.reject(false).await;
        };
        let limit = time_limit(&properties);
        let deadline = Deadline::after(limit.unwrap_or(self.options.work_limit));
        let request = Request {
            body,
            properties,
            redelivered,
            deadline,
        };
        match timeout_at(deadline.instant(), caught(|| handler(request))).await {
            Err(_) if limit.is_some() => {
                debug!("the caller waits no longer: no reply"); // RPC-10
                acker.ack().await
            }
            Err(_) => {
                let text = format!(
                    "the work took longer than {} s",
                    self.options.work_limit.as_secs_f32()
                );
                self.reply(
                    reply_to,
                    correlation_id,
                    Err(HandlerError::new("work-limit", text)),
                    acker,
                )
                .await
            }
            Ok(outcome) => self.reply(reply_to, correlation_id, outcome, acker).await,
        }
    }

    /// An error in place of what would be refused for its length, and would cost the channel with it.
    fn fitting(&self, outcome: Result<Bytes, HandlerError>) -> Result<Bytes, HandlerError> {
        let most = self.options.max_reply;
        let octets = outcome
            .as_ref()
            .map_or_else(|error| error.message.len(), Bytes::len);
        if octets <= most {
            return outcome;
        }
        let text = format!("the reply has {octets} octets, at most {most} are sent");
        Err(HandlerError::new("reply-too-large", text))
    }

    /// To the default exchange and nowhere else, whatever the caller wrote into reply-to, and never mandatory: it may
    /// be gone, which is normal (RPC-16, RPC-19, DRT-7). Then, and only then, the ack (RPC-14).
    async fn reply(
        &self,
        reply_to: ShortString,
        correlation_id: Option<ShortString>,
        outcome: Result<Bytes, HandlerError>,
        acker: Acker,
    ) -> Result<(), Error> {
        let mut properties = Box::new(Properties {
            correlation_id,
            ..Default::default()
        });
        let body = self.fitting(outcome).unwrap_or_else(|error| {
            warn!(kind = %error.kind, %error, "answered with an error");
            properties.kind = Some(const { ShortString::literal(ERROR_TYPE) });
            let name = const { ShortString::literal(ERROR_KIND) };
            // Cut like a reply text: the headers must fit a frame.
            let kind = ShortString::truncated(&error.kind).to_string();
            properties.headers = Some(FieldTable(vec![(name, kind.into())]));
            error.message.into()
        });
        self.channel
            .publish(short!(""), reply_to, Message { properties, body })
            .await?;
        acker.ack().await
    }
}

/// Runs a handler; its panic becomes an error of this one request.
async fn caught<F>(handler: impl FnOnce() -> F) -> Result<Bytes, HandlerError>
where
    F: Future<Output = Result<Bytes, HandlerError>>,
{
    let panicked = |_| {
        Err(HandlerError::new(
            "panic",
            "the server failed at this request",
        ))
    };
    let future = match catch_unwind(AssertUnwindSafe(handler)) {
        Ok(future) => future,
        Err(panic) => return panicked(panic),
    };
    let mut future = pin!(future);
    std::future::poll_fn(|context| {
        let poll = AssertUnwindSafe(|| future.as_mut().poll(context));
        catch_unwind(poll).unwrap_or_else(|panic| panicked(panic).into())
    })
    .await
}
