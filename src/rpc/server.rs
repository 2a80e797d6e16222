//! # The server's side: take a request, do the work, reply, and only then acknowledge
//!
//! ```text
//! deliver ─▶ work ─▶ publish the reply ─▶ its confirm ─▶ ack    until here the broker keeps the request (RPC-14)
//!    └─ a server that dies before: the request comes again, and the work may be done twice (RPC-15)
//! ```
//! Read next: [`call`](super::call). Explained in `docs/11-rpc.md`, and `docs/14-crashes.md`.

use std::{collections::VecDeque, future::Future, pin::pin, sync::Arc};

use tokio::{
    select,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
    time::timeout_at,
};
use tracing::{Instrument, debug, error, info, warn};

use super::{
    caller::Caller,
    caught::caught,
    dead_ends::DeadEnds,
    deadline::{Deadline, SetBy},
    drain::drain,
    error_reply::{self, HandlerError},
    monitor::ServerMonitor,
    outcome::Outcome,
    poison,
    request::Request,
    requests::{Next, Requests},
    server_options::RpcServerOptions,
    trace,
};
use crate::{
    client::{Channel, Confirm, Connection, Delivery, Endpoints, Error, Message, Received},
    codec::ShortString,
};

/// Serves requests from one queue.
///
/// ```no_run
/// use amqp_rpc::rpc::{HandlerError, Request, RpcServer};
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
///
/// let server = RpcServer::connect("amqp://localhost", "upper").await?;
/// let handler = |request: Request| async move {
///     let text = std::str::from_utf8(&request.body).map_err(|_| HandlerError::bad_request("expected UTF-8"))?;
///     Ok(text.to_uppercase())
/// };
/// server.serve(handler, std::future::pending()).await?;
/// # Ok(())
/// # }
/// ```
///
/// A request is acknowledged after the broker has taken its reply; if its server dies before that, another gets it:
/// handlers must be idempotent (RPC-14, RPC-15). What a handler cannot read, fails at or panics on is answered with an
/// error and never comes back (RPC-18, RPC-20). `docs/rpc.md` has the rest.
#[derive(Debug)]
#[must_use = "a server serves once `serve` is called"]
pub struct RpcServer {
    pub(super) requests: Requests,
    pub(super) options: Arc<RpcServerOptions>,
}

impl RpcServer {
    /// Connects, declares the queue and subscribes to it; and does all of it again whenever the connection, the channel
    /// or the queue is lost. The connection has a thread of its own, so a handler that blocks costs no heartbeat.
    ///
    /// # Errors
    /// What the last of the places failed with. Only what comes later is tried again.
    ///
    /// # Cancel safety
    /// A dropped future may have declared the queue.
    pub async fn connect<E, Q>(endpoints: E, queue: Q) -> Result<Self, Error>
    where
        E: TryInto<Endpoints>,
        Q: TryInto<ShortString>,
        Error: From<E::Error> + From<Q::Error>,
    {
        Self::connect_with(endpoints, queue, RpcServerOptions::default()).await
    }

    /// Serves on a connection that is there already, and ends with it.
    ///
    /// # Errors
    /// What the channel or the connection failed with.
    ///
    /// # Cancel safety
    /// As for [`connect`](Self::connect).
    pub async fn new<Q>(connection: &Connection, queue: Q) -> Result<Self, Error>
    where
        Q: TryInto<ShortString>,
        Error: From<Q::Error>,
    {
        Self::with_options(connection, queue, RpcServerOptions::default()).await
    }

    /// Serves until `stop` is ready, then takes nothing new, gives back what it has not begun, finishes what it has,
    /// and closes its channel, and its connection if it made that (RPC-22).
    ///
    /// # Errors
    /// The connection it was given is lost; or what the channel failed with while it stopped.
    ///
    /// # Cancel safety
    /// A dropped future drops the handlers that run; their requests come again, to whoever serves then.
    pub async fn serve<H, F, R>(
        self,
        handler: H,
        stop: impl Future<Output = ()>,
    ) -> Result<(), Error>
    where
        H: Fn(Request) -> F + Send + Sync + 'static,
        F: Future<Output = Result<R, HandlerError>> + Send + 'static,
        R: Into<Message> + 'static,
    {
        let (monitor, mut requests, options) = (self.monitor(), self.requests, self.options);
        let places = Arc::new(Semaphore::new(options.concurrency()));
        let desk = Arc::new(Desk {
            handler,
            options,
            monitor,
            dead_ends: DeadEnds::default(),
        });
        let (mut waiting, mut running) = (VecDeque::new(), JoinSet::new());
        let mut stop = pin!(stop);
        loop {
            select! {
                biased; // what goes on before what comes in
                () = &mut stop => break,
                Ok(place) = async { places.clone().acquire_owned().await }, if !waiting.is_empty() => {
                    if let Some(job) = waiting.pop_front() {
                        running.spawn(desk.clone().settle(job, place));
                    }
                }
                Some(ended) = running.join_next() => if let Err(error) = ended {
                    error!(%error, "a request was not settled: it comes again with the next channel");
                },
                next = requests.next() => match next? {
                    Next::Request(request, channel) => waiting.push_back(desk.arrived(request, channel)),
                    Next::Lost(cause) => {
                        (waiting, running) = (VecDeque::new(), JoinSet::new());
                        desk.dead_ends.lost(&cause);
                    }
                },
            }
        }
        let unbegun = waiting.into_iter().map(|job| job.request);
        drain(requests, unbegun, running, desk.options.drain_limit).await
    }
}

/// A request that waits for its handler, and until when its caller waits.
struct Job {
    request: Delivery,
    channel: Channel,
    due: Option<(Deadline, SetBy)>,
}

/// Where requests are worked on.
struct Desk<H> {
    handler: H,
    options: Arc<RpcServerOptions>,
    monitor: ServerMonitor,
    dead_ends: DeadEnds,
}

impl<H, F, R> Desk<H>
where
    H: Fn(Request) -> F,
    F: Future<Output = Result<R, HandlerError>>,
    R: Into<Message>,
{
    fn arrived(&self, request: Delivery, channel: Channel) -> Job {
        if request.redelivered {
            self.monitor.counters().redelivered.add();
        }
        let due = Deadline::read(request.properties(), self.options.clock);
        Job {
            request,
            channel,
            due,
        }
    }

    async fn settle(self: Arc<Self>, job: Job, place: OwnedSemaphorePermit) {
        if let Err(error) = self.answer(job, place).await {
            debug!(%error, "a request was not settled: it comes again");
        }
    }

    /// The reply first, and only when the broker has taken it the ack (RPC-14).
    async fn answer(&self, job: Job, place: OwnedSemaphorePermit) -> Result<(), Error> {
        let Job {
            request,
            channel,
            due,
        } = job;
        let (request, acker) = request.into_parts();
        let caller = Caller::of(&request.message, channel);
        let Some(caller) = caller.filter(|caller| !self.dead_ends.have(&caller.reply_to)) else {
            warn!("nobody can be answered, so a request is dropped"); // RPC-17
            self.monitor.counters().unanswerable.add();
            return acker.reject(false).await;
        };
        let outcome = self.work(request, due).await;
        drop(place); // the next handler need not wait for the broker
        match outcome {
            Outcome::Ack(answer) => {
                self.reply(&caller, answer).await?;
                acker.ack().await
            }
            Outcome::Reject(error) => {
                self.reply(&caller, Err(error)).await?;
                acker.reject(false).await
            }
            Outcome::Drop => acker.ack().await,
        }
    }

    /// The bounds first, then the handler, which is dropped at the deadline.
    async fn work(&self, request: Received, due: Option<(Deadline, SetBy)>) -> Outcome {
        let (options, counters) = (&self.options, self.monitor.counters());
        if let Some((late, by)) = due.filter(|(deadline, _)| deadline.is_over()) {
            let id = &request.properties().correlation_id;
            info!(late = ?late.overdue(), %by, ?id, "nobody waits for this request any more"); // RPC-10
            counters.expired.add();
            return Outcome::Drop;
        }
        if let Err(poison) = poison::check(&request, options.max_redeliveries) {
            counters.poisoned.add();
            return Outcome::Reject(poison);
        }
        if let Err(refusal) = options.bounds.check(&request.message) {
            counters.refused.add();
            return Outcome::Ack(Err(refusal)); // RPC-20
        }
        let limit = Deadline::after(options.work_limit);
        let deadline = due.map_or(limit, |(due, _)| due.min(limit));
        let request = Request::new(request, deadline, options);
        let _running = counters.running.during();
        let span = request.span.clone();
        let work = caught(|| self.once(request)).instrument(span.clone());
        let outcome = match timeout_at(deadline.instant(), work).await {
            Ok(Ok(answer)) => {
                counters.answered(answer.is_ok());
                Outcome::Ack(answer)
            }
            Ok(Err(panic)) => {
                error!(panic = panic.message(), "a handler panicked");
                counters.panicked.add();
                let text = "the server failed at this request";
                Outcome::Reject(HandlerError::new("panic", text))
            }
            Err(_) if due.is_some_and(|(due, _)| due.is_over()) => {
                info!(parent: &span, "its caller waits no longer");
                counters.abandoned.add();
                Outcome::Drop // RPC-10
            }
            Err(_) => {
                counters.timed_out.add();
                let limit = options.work_limit.as_secs_f32();
                let text = format!("the work took longer than {limit} s");
                Outcome::Ack(Err(HandlerError::new("work-limit", text)))
            }
        };
        trace::answered(&span, outcome.error());
        outcome
    }

    /// By the handler; or as it was answered before, if that is known (RPC-15).
    async fn once(&self, request: Request) -> Result<Message, HandlerError> {
        let work = async |request| (self.handler)(request).await.map(Into::into);
        let replayed = || self.monitor.counters().replayed.add();
        match &self.options.reply_cache {
            Some(cache) => cache.answer(request, work, replayed).await,
            None => work(request).await,
        }
    }

    /// A reply that the broker refuses, as for a caller whose queue is full, is lost: the work is done, and to do it
    /// again would not help.
    async fn reply(
        &self,
        caller: &Caller,
        answer: Result<Message, HandlerError>,
    ) -> Result<(), Error> {
        if let Err(error) = &answer {
            warn!(kind = %error.kind, %error, "answered with an error");
        }
        let reply = error_reply::fitting(answer, self.options.max_reply);
        let on_its_way = self.dead_ends.enter(&caller.reply_to).await;
        let confirm = caller.reply(reply).await?;
        on_its_way.settled();
        if confirm == Confirm::Nack {
            warn!("the broker refused a reply: its caller hears nothing"); // CONF-7
            self.monitor.counters().replies_refused.add();
        }
        Ok(())
    }
}
