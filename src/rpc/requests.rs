//! # Requests: a subscription, and another one when that is lost
//!
//! ```text
//!  queue deleted, node gone    basic.cancel ─▶ the connection stands: declare, consume ─┐
//!  channel lost                channel.close ─▶ the connection stands: another channel ─┤ each attempt after a pause
//!  connection lost             every place in turn, if it is ours to replace ───────────┘ that grows, with jitter
//! ```
//!
//! With the channel goes every delivery tag that it gave (CHAN-10): what is in hand can neither be answered nor settled
//! any more, and comes again (RPC-25). After a cancel the channel still stands, and so do they.
//!
//! Read next: [`bounds`](super::bounds). Explained in `docs/rpc.md`.

use std::{fmt, mem, pin::Pin, sync::Arc};

use tracing::{info, warn};

use super::{
    monitor::ServerMonitor, queue::declare, reconnect::Line, server_options::RpcServerOptions,
};
use crate::{
    client::{Cause, Channel, ConnectOptions, Connection, Consumer, Delivery, Endpoints, Error},
    codec::{BasicConsume, ShortString},
};

/// The requests of one queue, over as many subscriptions as it takes.
pub(super) struct Requests {
    state: State,
    monitor: ServerMonitor,
}

/// Without the future of the next subscription, which shows nothing.
impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Requests");
        shown
            .field("monitor", &self.monitor)
            .finish_non_exhaustive()
    }
}

enum State {
    On(Box<Subscription>),
    /// Kept here and not in the future of [`Requests::next`], which is dropped whenever something else happens first.
    Again(Again),
    Over(Error),
}

type Again = Pin<Box<dyn Future<Output = Result<Box<Subscription>, Error>> + Send>>;

/// What comes next.
pub(super) enum Next {
    /// A request, and the channel it came on, which is the one to answer on (RPC-21).
    Request(Delivery, Channel),
    /// The channel of all requests in hand is over, and why. None of them can be answered: they come again (RPC-25).
    Lost(Error),
}

/// What it takes to subscribe.
struct Link {
    line: Line,
    queue: ShortString,
    options: Arc<RpcServerOptions>,
}

struct Subscription {
    link: Link,
    channel: Channel,
    requests: Consumer<Delivery>,
}

/// However a server ends, whoever watches it hears of it.
impl Drop for Requests {
    fn drop(&mut self) {
        self.monitor.over(Error::ChannelClosed(Cause::ClosedHere));
    }
}

impl Requests {
    /// Those of a connection that was given, for as long as that lasts.
    pub(super) async fn on(
        connection: Connection,
        queue: ShortString,
        options: Arc<RpcServerOptions>,
    ) -> Result<Self, Error> {
        Self::begin(Line::on(connection), queue, options).await
    }

    /// Those of connections that are made as they are needed, each on a thread of its own.
    pub(super) async fn dial(
        endpoints: Endpoints,
        queue: ShortString,
        options: Arc<RpcServerOptions>,
    ) -> Result<Self, Error> {
        let line = Line::dial(endpoints.map(ConnectOptions::own_thread)).await?;
        Self::begin(line, queue, options).await
    }

    async fn begin(
        line: Line,
        queue: ShortString,
        options: Arc<RpcServerOptions>,
    ) -> Result<Self, Error> {
        let (channel, requests) = subscribe(line.connection(), &queue, &options).await?;
        let monitor = ServerMonitor::new(requests.vitals());
        let state = State::On(Box::new(Subscription {
            link: Link {
                line,
                queue,
                options,
            },
            channel,
            requests,
        }));
        Ok(Self { state, monitor })
    }

    pub(super) fn monitor(&self) -> &ServerMonitor {
        &self.monitor
    }

    /// The next request. Of a loss it tells once, and goes on with another subscription.
    ///
    /// # Errors
    /// There will be none again: the connection was given, and is lost.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Next, Error> {
        loop {
            let lost = match &mut self.state {
                State::Over(error) => return Err(error.clone()),
                State::Again(again) => {
                    self.state = match again.await {
                        Ok(subscription) => {
                            self.monitor.subscribed(subscription.requests.vitals());
                            State::On(subscription)
                        }
                        Err(error) => State::Over(error),
                    };
                    continue;
                }
                State::On(on) => match on.requests.next().await {
                    Some(Ok(request)) => return Ok(Next::Request(request, on.channel.clone())),
                    Some(Err(error)) => error,
                    None => Error::ChannelClosed(Cause::ClosedHere),
                },
            };
            // What is in hand can still be answered when only the queue is gone.
            let all_lost = !matches!(lost, Error::ConsumerCancelled(_));
            self.begin_again(lost.clone());
            if all_lost {
                return Ok(Next::Lost(lost));
            }
        }
    }

    fn begin_again(&mut self, lost: Error) {
        let over = State::Over(lost.clone());
        if let State::On(on) = mem::replace(&mut self.state, over) {
            let again = on.link.again(lost, self.monitor.clone());
            self.state = State::Again(Box::pin(again));
        }
    }

    /// Takes nothing new, and waits until the broker has heard it. What it had sent before and nobody has begun goes
    /// back, but not earlier: it would only come again. RPC-22, CONS-13
    ///
    /// # Errors
    /// The channel or the connection is over, and so all of it goes back by itself.
    pub(super) async fn cancel(&mut self) -> Result<Vec<Delivery>, Error> {
        let mut unbegun = Vec::new();
        if let State::On(on) = &mut self.state {
            on.requests.cancel().await?;
            while let Some(request) = on.requests.next().await {
                unbegun.push(request?);
            }
        }
        Ok(unbegun)
    }

    /// Closes the channel, and the connection if it is ours. Both wait until the broker has taken all that was sent.
    ///
    /// # Errors
    /// As for [`cancel`](Self::cancel).
    pub(super) async fn close(mut self) -> Result<(), Error> {
        let closed = Error::ChannelClosed(Cause::ClosedHere);
        let State::On(on) = mem::replace(&mut self.state, State::Over(closed)) else {
            return Ok(());
        };
        drop(self);
        drop(on.requests);
        on.channel.close().await?;
        on.link.line.close().await
    }
}

impl Link {
    /// Subscribes again, however long it takes.
    async fn again(
        mut self,
        lost: Error,
        monitor: ServerMonitor,
    ) -> Result<Box<Subscription>, Error> {
        let (queue, options) = (&self.queue, &self.options);
        let trying = |attempt, cause| {
            warn!(%queue, %cause, attempt, "no requests: subscribing again");
            monitor.trying(attempt, cause);
        };
        let prepare = async |connection| subscribe(&connection, queue, options).await;
        match self.line.again(lost, trying, prepare).await {
            Ok((channel, requests)) => {
                info!(%queue, "subscribed again");
                Ok(Box::new(Subscription {
                    link: self,
                    channel,
                    requests,
                }))
            }
            Err(cause) => {
                monitor.over(cause.clone());
                Err(cause)
            }
        }
    }
}

/// On a channel of its own: an error costs it, and what is in hand is answered on the channel it came on.
async fn subscribe(
    connection: &Connection,
    queue: &ShortString,
    options: &RpcServerOptions,
) -> Result<(Channel, Consumer<Delivery>), Error> {
    let channel = connection.open_channel().await?;
    let dead_letters = options.dead_letters.as_ref();
    declare(
        connection,
        &channel,
        queue,
        options.queue_type,
        dead_letters,
    )
    .await?;
    channel.confirm_select().await?;
    channel.qos(options.prefetch()).await?; // QOS-4: before consume
    let consume = BasicConsume {
        queue: queue.clone(),
        ..Default::default()
    };
    let requests = channel.consume_with(consume).await?;
    Ok((channel, requests))
}
