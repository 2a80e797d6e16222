//! The broker's hands: a listener, a task per connection, and one lock around the brain.
//!
//! ```text
//!  socket ─ driver ─ Session ─┐                    ┌─ queue of connection 1 ─▶ Session ─ driver ─ socket
//!  socket ─ driver ─ Session ─┼─▶ lock(Vhost) ─────┼─ queue of connection 2 ─▶ ...
//!  pipe   ─ driver ─ Session ─┘   one event, then  └─ ...
//!                                 all its outputs
//! ```
//!
//! Every output goes through the queue of its connection, also to the connection that caused it, and it is put there
//! while the lock is held: so two events that concern one connection reach it in the order in which they happened,
//! and no delivery can follow the `cancel-ok` that ends it (CONS-13).

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant as StdInstant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, duplex, split},
    net::{TcpListener, ToSocketAddrs},
    sync::{Notify, mpsc, watch},
    task::JoinSet,
    time::{Instant, timeout},
};
use tracing::{Instrument, debug, debug_span, info, warn};

use super::vhost::{ConnectionId, Output, Vhost, VhostOptions};
use crate::{
    client::{self, ConnectOptions},
    codec::{Method, MethodId, ReplyCode},
    driver::{Application, HIGH_WATER, drive},
    protocol::{
        BODY_LIMIT, CloseReason, Connection as Core, Credentials, Event, ServerConfig, Tuning,
    },
    short,
};

/// How long the connections have to hear that the broker shuts down.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

/// How long a client without heartbeats may read nothing of what waits for it. SEC-10
const PATIENCE: Duration = Duration::from_mins(1);

/// Octets in flight in each direction of an in-process connection.
const PIPE: usize = 64 * 1024;

/// What a broker is started with. The default is what RabbitMQ has on a fresh machine: guest/guest from loopback, the
/// virtual host `/`, its limits and a handshake of at most 10 s.
#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// Who may log in. `guest` is let in from loopback only (SASL-11).
    pub users: Vec<Credentials>,
    /// The limits offered in `connection.tune`.
    pub tuning: Tuning,
    /// The time from accept to open. SEC-2
    pub handshake_timeout: Duration,
    /// The largest body accepted, in octets. SEC-5
    pub body_limit: u64,
    /// The most connections at once; the next one is dropped. SEC-8
    pub max_connections: usize,
    /// Names and memory.
    pub vhost: VhostOptions,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            users: vec![Credentials::guest()],
            tuning: Tuning::default(),
            handshake_timeout: Duration::from_secs(10),
            body_limit: BODY_LIMIT,
            max_connections: 10_000,
            vhost: VhostOptions::default(),
        }
    }
}

impl BrokerOptions {
    fn server_config(&self, peer_is_loopback: bool) -> ServerConfig {
        ServerConfig {
            users: self.users.clone(),
            virtual_hosts: vec![short!("/")],
            tuning: self.tuning,
            handshake_timeout: self.handshake_timeout,
            body_limit: self.body_limit,
            peer_is_loopback,
        }
    }
}

/// A small AMQP 0-9-1 broker in this process: in memory, one node, gone with its process.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// use amqp_rpc::{broker::Broker, client::Connection};
///
/// let broker = Broker::start().await?; // ready, on a port of its own
/// let connection = Connection::open(&broker.uri()).await?;
/// connection.close().await?;
/// broker.shutdown().await;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Dropped, it tells its clients 320 and goes; [`shutdown`](Self::shutdown) also waits until they have heard it.
#[derive(Debug)]
pub struct Broker {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// Dropped with the broker, which ends the listener.
    stop: watch::Sender<()>,
    /// Every task of the broker holds one of these.
    running: watch::Sender<()>,
}

#[derive(Debug)]
struct Shared {
    options: BrokerOptions,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    vhost: Vhost,
    inboxes: HashMap<ConnectionId, mpsc::UnboundedSender<Order>>,
    last: u64,
    /// Whoever comes now is sent away.
    stopping: bool,
}

/// What a connection's task is to do.
#[derive(Debug)]
#[expect(clippy::large_enum_variant)] // nearly all are outputs, and a box would cost an allocation for each
enum Order {
    Output(Output),
    Shutdown,
}

impl Shared {
    /// A panic elsewhere while the lock was held must not stop the other connections (ERR-6).
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Tells every connection to say goodbye, and those as well whose task has yet to begin.
    fn stop(&mut self) {
        self.stopping = true;
        for inbox in self.inboxes.values() {
            let _ = inbox.send(Order::Shutdown);
        }
    }

    /// Puts what is to be done into the queues of those who have to do it.
    fn dispatch(&mut self) {
        while let Some((connection, output)) = self.vhost.poll_output() {
            if let Some(inbox) = self.inboxes.get(&connection) {
                let _ = inbox.send(Order::Output(output)); // its task may be ending: the vhost hears of it next
            }
        }
    }
}

impl Broker {
    /// Starts a broker on 127.0.0.1 and a port of its own, ready for clients when this returns.
    ///
    /// # Errors
    /// When no port can be had.
    ///
    /// # Cancel safety
    /// A dropped future leaves nothing behind.
    pub async fn start() -> io::Result<Self> {
        Self::bind((Ipv4Addr::LOCALHOST, 0), BrokerOptions::default()).await
    }

    /// The same at an address and with options.
    ///
    /// # Errors
    /// When the address cannot be had, as when something listens there already.
    ///
    /// # Cancel safety
    /// A dropped future leaves nothing behind.
    pub async fn bind(address: impl ToSocketAddrs, options: BrokerOptions) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let vhost = Vhost::new(short!("/"), options.vhost.clone());
        let state = Mutex::new(State {
            vhost,
            inboxes: HashMap::new(),
            last: 0,
            stopping: false,
        });
        let shared = Arc::new(Shared { options, state });
        let (stop, stopping) = watch::channel(());
        let running = watch::Sender::new(());
        let span = debug_span!("broker", %address);
        tokio::spawn(listen(listener, shared.clone(), stopping, running.clone()).instrument(span));
        Ok(Self {
            shared,
            address,
            stop,
            running,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a client connects to: `amqp://guest:guest@127.0.0.1:40123/%2f`.
    pub fn uri(&self) -> String {
        format!("amqp://guest:guest@{}/%2f", self.address)
    }

    /// A connection within this process, without a socket.
    ///
    /// # Errors
    /// As for [`client::Connection::open`].
    ///
    /// # Cancel safety
    /// As for [`client::Connection::open`].
    pub async fn connect(&self) -> Result<client::Connection, client::Error> {
        let (near, far) = duplex(PIPE);
        let (reader, writer) = split(far);
        let (serve, running) = (
            serve(self.shared.clone(), reader, writer, true),
            self.running.clone(),
        );
        tokio::spawn(async move {
            serve.await;
            drop(running);
        });
        let (reader, writer) = split(near);
        client::Connection::over(reader, writer, ConnectOptions::default()).await
    }

    /// A look at one queue: messages ready and unacknowledged, consumers.
    pub fn queue(&self, name: &str) -> Option<super::QueueStats> {
        self.shared.state().vhost.queue(name)
    }

    /// Tells every client 320 `CONNECTION_FORCED` (CLOSE-15) and waits until they have hung up, 5 s at most.
    ///
    /// # Cancel safety
    /// A dropped future shuts the broker down without waiting.
    pub async fn shutdown(self) {
        let Self { stop, running, .. } = self;
        let mut stopped = running.subscribe();
        drop((stop, running));
        let _ = timeout(SHUTDOWN_LIMIT, stopped.changed()).await; // an error is the end
    }
}

/// Accepts connections until the broker is dropped, then waits for them to end.
async fn listen(
    listener: TcpListener,
    shared: Arc<Shared>,
    mut stopping: watch::Receiver<()>,
    _running: watch::Sender<()>,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((_, peer)) if connections.len() >= shared.options.max_connections => {
                    warn!(%peer, "refused: too many connections");
                }
                Ok((stream, peer)) => {
                    let _ = stream.set_nodelay(true); // we gather our writes ourselves
                    let (reader, writer) = stream.into_split();
                    let serve = serve(shared.clone(), reader, writer, peer.ip().to_canonical().is_loopback());
                    connections.spawn(serve.instrument(debug_span!("client", %peer)));
                }
                Err(error) => {
                    warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await; // as when no file descriptor is left
                }
            },
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    warn!(%error, "a connection's task failed");
                }
            }
            _ = stopping.changed() => break,
        }
    }
    drop(listener);
    shared.state().stop();
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(SHUTDOWN_LIMIT, all).await.is_err() {
        info!("some clients did not hang up; their connections are dropped");
    }
}

async fn serve<R, W>(shared: Arc<Shared>, reader: R, writer: W, peer_is_loopback: bool)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let core = Core::server(shared.options.server_config(peer_is_loopback), now());
    drive(reader, writer, core, Session::new(shared)).await;
}

fn now() -> StdInstant {
    Instant::now().into_std()
}

/// The application on the core of a broker: events go to the vhost, outputs come from it.
struct Session {
    id: ConnectionId,
    shared: Arc<Shared>,
    inbox: mpsc::UnboundedReceiver<Order>,
    /// Octets of contents that were handed to the core and may not be in the socket yet.
    unsent: usize,
    patience: Duration,
    bell: Arc<Notify>,
}

impl Session {
    fn new(shared: Arc<Shared>) -> Self {
        let (sender, inbox) = mpsc::unbounded_channel(); // bounded by the vhost, see `Vhost::sent`
        let mut state = shared.state();
        state.last += 1;
        let id = ConnectionId(state.last);
        if state.stopping {
            let _ = sender.send(Order::Shutdown);
        }
        state.inboxes.insert(id, sender);
        drop(state);
        Self {
            id,
            shared,
            inbox,
            unsent: 0,
            patience: PATIENCE,
            bell: Arc::new(Notify::new()),
        }
    }

    /// Tells the vhost one thing, and does at once what it asks of this connection.
    fn tell(&mut self, core: &mut Core, what: impl FnOnce(&mut Vhost, ConnectionId)) {
        let mut state = self.shared.state();
        what(&mut state.vhost, self.id);
        state.dispatch();
        drop(state);
        while let Ok(order) = self.inbox.try_recv() {
            self.obey(core, order);
        }
    }

    fn obey(&mut self, core: &mut Core, order: Order) {
        let Order::Output(output) = order else {
            let text = "broker forced connection closure with reason 'shutdown'";
            return core.close(&CloseReason::new(
                ReplyCode::CONNECTION_FORCED,
                text,
                MethodId::NONE,
            ));
        };
        self.unsent += output.octets();
        let done = match output {
            Output::Method { channel, method } => core.send(channel, method),
            Output::Content {
                channel,
                method,
                message,
            } => core.send_content(channel, method, message.properties, &message.body),
            Output::CloseChannel {
                channel,
                code,
                text,
                method,
            } => core.close_channel(channel, &CloseReason { code, text, method }),
            Output::CloseConnection { code, text, method } => {
                core.close(&CloseReason { code, text, method });
                Ok(())
            }
        };
        if let Err(violation) = done {
            debug!(%violation, "not sent: the channel has closed in between");
        }
    }
}

impl Application for Session {
    type Command = Order;

    async fn commands(&mut self, batch: &mut Vec<Order>, most: usize) -> usize {
        self.inbox.recv_many(batch, most).await
    }

    fn on_command(&mut self, core: &mut Core, order: Option<Order>) {
        if let Some(order) = order {
            self.obey(core, order);
        }
    }

    fn on_event(&mut self, core: &mut Core, event: Event) {
        match event {
            Event::Opened(opened) => {
                if let Some(interval) = opened.tuning.heartbeat() {
                    self.patience = 2 * interval;
                }
                let notify_cancel = opened.peer_can("consumer_cancel_notify");
                self.tell(core, |vhost, id| {
                    vhost.connect(id, opened.user, notify_cancel);
                });
            }
            Event::ChannelOpened(channel) => {
                self.tell(core, |vhost, id| vhost.open_channel(id, channel));
            }
            Event::Method(channel, method) | Event::Reply(channel, method, _) => {
                self.tell(core, |vhost, id| vhost.method(id, channel, method, now()));
            }
            Event::Content(channel, Method::BasicPublish(publish), message) => {
                self.tell(core, |vhost, id| {
                    vhost.publish(id, channel, publish, message, now());
                });
            }
            Event::Content(..) => {} // no other content comes from a client (METH-4)
            Event::ChannelClosed(channel, _) => {
                self.tell(core, |vhost, id| vhost.close_channel(id, channel, now()));
            }
            Event::Closed(cause) => {
                debug!(%cause, "over");
                self.tell(core, |vhost, id| vhost.disconnect(id, now()));
            }
        }
    }

    /// A client that does not read its replies is not read either.
    fn has_room(&mut self, unsent: usize) -> bool {
        unsent < HIGH_WATER
    }

    fn bell(&self) -> Arc<Notify> {
        self.bell.clone() // never rung: what makes room is a write, which wakes the driver anyway
    }

    /// The watch on its heartbeats pauses while a client that does not read is not read, so its silence tells nothing.
    fn patience(&self) -> Option<Duration> {
        Some(self.patience)
    }

    fn on_flushed(&mut self) {
        if self.unsent > 0 {
            let mut state = self.shared.state();
            state
                .vhost
                .sent(self.id, std::mem::take(&mut self.unsent), now());
            state.dispatch();
        }
    }
}

/// However its task ended, nothing of the connection stays.
impl Drop for Session {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.vhost.disconnect(self.id, now());
        state.inboxes.remove(&self.id);
        state.dispatch();
    }
}
