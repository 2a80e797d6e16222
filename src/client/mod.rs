//! # Part 4: the client, what a user touches
//!
//! ```no_run
//! use amqp_rpc::client::Connection;
//! # async fn example() -> Result<(), amqp_rpc::client::Error> {
//!
//! let connection = Connection::open("amqp://guest:guest@localhost:5672/%2f").await?;
//! let channel = connection.open_channel().await?;
//! channel.publish("", "hello", "world").await?;
//!
//! let mut consumer = channel.consume("hello").await?;
//! while let Some(delivery) = consumer.next().await {
//!     let delivery = delivery?;
//!     println!("{}", String::from_utf8_lossy(delivery.body()));
//!     delivery.ack().await?;
//! }
//! connection.close().await
//! # }
//! ```
//!
//! ```text
//!  your tasks                           the connection's task
//!  channel.publish(..) ─┐  Command     ┌───────────────────────────────────┐
//!  channel.qos(..)     ─┴─────────────▶│ session/commands.rs ─▶ core.send  │─▶ driver ─▶ socket
//!     its answer       ◀──────oneshot──│                                   │
//!  consumer.next()     ◀─────────Inbox──│ session/events.rs ◀─ core's event │◀─ driver ◀─ socket
//!                                      └───────────────────────────────────┘
//! ```
//!
//! A [`Connection`] is a task (the [driver](crate#the-one-sentence)) and handles to it; a [`Channel`] is a lane of it.
//! Whoever waits for an answer does so with a deadline. A message to come and room for one to go are waited for as long as
//! it takes; and everyone who waits wakes with the first cause when a channel or the connection is over.
//!
//! Reading order: [`options`], [`endpoints`], `dial`, [`channel`], [`publish`], [`consumer`], `inbox`, `listener`,
//! [`vitals`], `handle`, `session`, `own_thread`, [`error`].
//!
//! Read next: [`options`]. What travels when you call is explained in `docs/05-channels.md` to
//! `docs/09-errors-and-closing.md`.

pub mod channel;
pub mod consumer;
mod dial;
pub mod endpoints;
pub mod error;
mod handle;
mod inbox;
mod listener;
pub mod options;
mod own_thread;
pub mod publish;
pub(crate) mod session;
pub mod vitals;

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tracing::{Instrument, debug_span};

pub use self::{
    channel::{Channel, Got},
    consumer::{Acker, Consumer, Delivery, Received},
    endpoints::Endpoints,
    error::Error,
    options::ConnectOptions,
    publish::{Confirmation, Returns},
    session::{Confirm, Returned},
    vitals::Vitals,
};
use self::{
    dial::{dial, failed, who_is_there},
    own_thread::Place,
    session::{ChannelShared, Command, Queued, Session, Shared},
};
pub(crate) use self::{
    listener::{ConfirmListener, Listener},
    publish::{Confirming, PublishPermit},
};
pub use crate::protocol::{Cause, CloseReason, Message};
use crate::{
    codec::{ConsumerTag, ShortString},
    driver::drive,
    protocol::{Connection as Core, Opened},
};

/// Commands that may wait for the connection's task; whoever gives more waits.
const COMMANDS: usize = 1024;

/// An open connection. Cheap to clone; it closes when [`close`](Self::close) is called, or when the last clone,
/// channel, consumer and delivery of it are gone.
#[derive(Debug, Clone)]
pub struct Connection(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    /// One queue, so that what a `Drop` says comes after all that was said before it. Bounded by `Shared::places`.
    pub(crate) commands: mpsc::UnboundedSender<Queued>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) opened: Opened,
    pub(crate) operation_timeout: Duration,
    pub(crate) consumer_octets: usize,
    ended: watch::Receiver<()>,
}

/// With the last handle goes the patience with a broker that does not read.
impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.leave();
    }
}

impl Connection {
    /// Connects, logs in and enters the virtual host, as a URI says.
    ///
    /// # Errors
    /// [`Error::Uri`]; [`Error::Connect`] when nothing listens; [`Error::ConnectionClosed`] with what the broker said,
    /// or what seems to answer there if it is no AMQP 0-9-1 broker.
    ///
    /// # Cancel safety
    /// A dropped future leaves nothing behind but a connection that closes itself.
    pub async fn open(uri: &str) -> Result<Self, Error> {
        Self::connect(uri.parse()?).await
    }

    /// The same with options. All addresses of the host are tried in turn: `localhost` is often `::1` first.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    ///
    /// # Cancel safety
    /// As for [`open`](Self::open).
    pub async fn connect(options: ConnectOptions) -> Result<Self, Error> {
        let stream = dial(&options).await?;
        let peer = stream.peer_addr();
        let place = Place::new(options.own_thread).map_err(|error| failed(&options, error))?;
        let stream = place
            .adopt(stream)
            .map_err(|error| failed(&options, error))?;
        let (reader, writer) = stream.into_split();
        match (Self::at(place, reader, writer, options).await, peer) {
            (
                Err(Error::ConnectionClosed(
                    silence @ (Cause::HandshakeTimeout { .. } | Cause::EndOfStream),
                )),
                Ok(peer),
            ) => {
                let cause = who_is_there(peer).await.map_or(silence, Cause::NotAmqp);
                Err(Error::ConnectionClosed(cause))
            }
            (result, _) => result,
        }
    }

    /// The same over octet streams that are there already: an in-process pipe, a tunnel, a tap. With
    /// [`own_thread`](ConnectOptions::own_thread) they are still woken by the runtime they were made in.
    ///
    /// # Errors
    /// [`Error::ConnectionClosed`] with what the broker said.
    ///
    /// # Cancel safety
    /// As for [`open`](Self::open).
    pub async fn over<R, W>(reader: R, writer: W, options: ConnectOptions) -> Result<Self, Error>
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let place = Place::new(options.own_thread).map_err(|error| failed(&options, error))?;
        Self::at(place, reader, writer, options).await
    }

    async fn at<R, W>(
        place: Place,
        reader: R,
        writer: W,
        options: ConnectOptions,
    ) -> Result<Self, Error>
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let (commands, inbox) = mpsc::unbounded_channel();
        let (opening, opened) = oneshot::channel();
        let (ended_sender, ended) = watch::channel(());
        let shared = Arc::new(Shared::new(COMMANDS));
        let span = debug_span!("connection", address = %options.address());
        let core = Core::client(options.config.clone(), Instant::now().into_std());
        let session = Session::new(shared.clone(), inbox, opening, ended_sender);
        let task = drive(reader, writer, core, session).instrument(span);
        place.run(task).map_err(|error| failed(&options, error))?;
        let opened = opened.await.unwrap_or_else(|_| Err(shared.over()))?;
        let (operation_timeout, consumer_octets) =
            (options.operation_timeout, options.consumer_octets);
        Ok(Self(Arc::new(Inner {
            commands,
            shared,
            opened,
            operation_timeout,
            consumer_octets,
            ended,
        })))
    }

    /// Opens a channel on the lowest free number.
    ///
    /// # Errors
    /// [`Error::ConnectionClosed`], [`Error::Timeout`], or 530 when channel-max channels are open.
    ///
    /// # Cancel safety
    /// A dropped future leaves no channel behind.
    pub async fn open_channel(&self) -> Result<Channel, Error> {
        let (reply, answer) = oneshot::channel();
        let mut awaited = AwaitedChannel {
            connection: &self.0,
            answer,
        };
        let channel = self.0.within("channel.open", async {
            self.0.command(Command::OpenChannel { reply }).await?;
            let answer = (&mut awaited.answer).await;
            answer.unwrap_or_else(|_| Err(self.0.shared.over()))
        });
        Ok(Channel::new(self.0.clone(), channel.await?))
    }

    /// What the handshake agreed on, and what the broker says of itself.
    pub fn opened(&self) -> &Opened {
        &self.0.opened
    }

    /// Why the connection is over, once it is.
    pub fn cause(&self) -> Option<&Cause> {
        self.0.shared.cause.get()
    }

    /// Whether the broker asks publishers to stop, with its reason: `connection.blocked`. BLOCK-3
    pub fn blocked(&self) -> watch::Receiver<Option<ShortString>> {
        self.0.shared.blocked.subscribe()
    }

    /// The consumer whose full queue keeps this connection from being read, if one does.
    pub fn in_the_way(&self) -> Option<ConsumerTag> {
        self.0.shared.in_the_way()
    }

    /// Waits until the connection is over, whoever ended it, and says why.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn closed(&self) -> Cause {
        let _ = self.0.ended.clone().changed().await; // an error is the end
        self.cause().cloned().unwrap_or(Cause::ClosedHere)
    }

    /// Closes the connection and waits until the broker has heard it: it has taken everything that was sent before.
    /// What waits for an answer fails. A broker that does not read any more is given 10 s.
    ///
    /// # Errors
    /// [`Error::ConnectionClosed`] with the first cause, if that was another.
    ///
    /// # Cancel safety
    /// A dropped future may have closed the connection.
    pub async fn close(self) -> Result<(), Error> {
        self.0.ask(Command::Close);
        self.0.shared.leave();
        match self.closed().await {
            Cause::ClosedHere => Ok(()),
            cause => Err(Error::ConnectionClosed(cause)),
        }
    }
}

/// A channel that is being opened. Should nobody wait for it any more, it is closed, also when its open-ok has just come.
struct AwaitedChannel<'a> {
    connection: &'a Inner,
    answer: oneshot::Receiver<Result<Arc<ChannelShared>, Error>>,
}

impl Drop for AwaitedChannel<'_> {
    fn drop(&mut self) {
        self.answer.close();
        if let Ok(Ok(channel)) = self.answer.try_recv() {
            let reply = None;
            self.connection
                .ask(Command::CloseChannel { channel, reply });
        }
    }
}
