//! # The server: a listener, a task per connection, and one lock around the brain
//!
//! ```text
//!  socket ─ driver ─ Session ─┐                    ┌─ queue of connection 1 ─▶ Session ─ driver ─ socket
//!  socket ─ driver ─ Session ─┼─▶ lock(Vhost) ─────┼─ queue of connection 2 ─▶ ...
//!  pipe   ─ driver ─ Session ─┘   one event, then  └─ ...
//!                                 all its outputs
//! ```
//!
//! Beside the listener somebody watches the clock: what expires in a queue has to go when nobody says anything.
//!
//! Read next: `session`, what a connection's task does. Explained in `docs/23-testing.md`.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, MutexGuard},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, duplex, split},
    net::{TcpListener, ToSocketAddrs},
    sync::watch,
    task::{JoinSet, yield_now},
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::{Instrument, debug_span, info, warn};

use super::{
    queue::QueueStats,
    session::{Session, Shared, State, now},
    vhost::VhostOptions,
};
use crate::{
    client::{self, ConnectOptions},
    codec::ShortString,
    driver::drive,
    protocol::{BODY_LIMIT, Connection as Core, Credentials, ServerConfig, Tuning},
    short,
};

/// How long the connections have to hear that the broker shuts down.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

/// How long whoever connects waits once no file descriptor is left: the listener is ready all the while, and to ask it
/// at once would be a busy loop.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The same is said again after that long. Descriptors come and go, and each that goes would be news.
const SAY_AGAIN: Duration = Duration::from_mins(1);

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
    pub(super) fn server_config(&self, peer_is_loopback: bool) -> ServerConfig {
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
/// broker.stop().await;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Dropped, it tells its clients 320 and goes; [`stop`](Self::stop) also waits until they have heard it. A test may then
/// [`bind`](Self::bind) another to the same address, which knows nothing of this one's queues, durable or not.
#[derive(Debug)]
pub struct Broker {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// Dropped with the broker, which ends the listener.
    alive: watch::Sender<()>,
    /// Every task of the broker holds one of these.
    running: watch::Sender<()>,
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
        let shared = Arc::new(Shared::new(options));
        let (alive, stopping) = watch::channel(());
        let running = watch::Sender::new(());
        let span = debug_span!("broker", %address);
        let (listen, watch_the_clock) = (
            listen(listener, shared.clone(), stopping, running.clone()),
            watch_the_clock(shared.clone()),
        );
        let serve = async {
            tokio::select! {
                () = listen => {}
                () = watch_the_clock => {}
            }
        };
        tokio::spawn(serve.instrument(span));
        Ok(Self {
            shared,
            address,
            alive,
            running,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a client connects to, as the first of the users: `amqp://guest:guest@127.0.0.1:40123/%2f`.
    pub fn uri(&self) -> String {
        let Credentials { user, password } = self.first_user();
        let (user, password) = (percent_encoded(&user), percent_encoded(&password));
        format!("amqp://{user}:{password}@{}/%2f", self.address)
    }

    fn first_user(&self) -> Credentials {
        let first = self.shared.options.users.first();
        first.cloned().unwrap_or_else(Credentials::guest)
    }

    /// A connection within this process, without a socket, as the first of the users.
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
        let Credentials { user, password } = self.first_user();
        let options = ConnectOptions::default().credentials(&user, &password);
        client::Connection::over(reader, writer, options).await
    }

    /// A look at one queue: messages ready and unacknowledged, consumers. What has expired by now is not among them.
    pub fn queue(&self, name: &str) -> Option<QueueStats> {
        self.state_now().vhost.queue(name)
    }

    /// The same for all queues there are, by their names.
    pub fn queues(&self) -> BTreeMap<ShortString, QueueStats> {
        let state = self.state_now();
        let queues = state.vhost.queues();
        queues.map(|(name, stats)| (name.clone(), stats)).collect()
    }

    fn state_now(&self) -> MutexGuard<'_, State> {
        let mut state = self.shared.state();
        state.tick();
        state
    }

    /// Blocks whoever publishes from now on, as if memory were low: it is told `connection.blocked` with this reason, cut
    /// to 255 octets, if it announced that it understands, and is not read any more (BLOCK-1, BLOCK-2). RabbitMQ's own
    /// reason is `low on memory`.
    pub fn block(&self, reason: &str) {
        let mut state = self.shared.state();
        state.vhost.block(ShortString::truncated(reason));
    }

    /// Ends [`block`](Self::block): what was published meanwhile comes in. BLOCK-1
    pub fn unblock(&self) {
        let mut state = self.shared.state();
        state.vhost.unblock(now());
        state.dispatch();
    }

    /// Closes every connection with 320 `CONNECTION_FORCED` and this reason behind it, as an operator does. The broker
    /// goes on, and clients may come back at once. CLOSE-15
    pub fn close_connections(&self, reason: &str) {
        self.shared.state().close_all(reason);
    }

    /// Tells every client 320 `CONNECTION_FORCED` (CLOSE-15) and waits until they have hung up, 5 s at most. Then the
    /// address is free.
    ///
    /// # Cancel safety
    /// A dropped future stops the broker without waiting.
    pub async fn stop(self) {
        let Self { alive, running, .. } = self;
        let mut stopped = running.subscribe();
        drop((alive, running));
        let _ = timeout(SHUTDOWN_LIMIT, stopped.changed()).await; // an error is the end
    }
}

/// A name as it stands in a URI: everything but letters, digits and four marks as its octets. RFC 3986
fn percent_encoded(name: &str) -> String {
    let encode = |octet: u8| match octet {
        b'-' | b'.' | b'_' | b'~' => char::from(octet).to_string(),
        plain if plain.is_ascii_alphanumeric() => char::from(plain).to_string(),
        other => format!("%{other:02x}"),
    };
    name.bytes().map(encode).collect()
}

/// Accepts connections until the broker is dropped, then waits for them to end.
async fn listen(
    listener: TcpListener,
    shared: Arc<Shared>,
    mut stopping: watch::Receiver<()>,
    _running: watch::Sender<()>,
) {
    let mut connections = JoinSet::new();
    let mut said: Option<Instant> = None;
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
                    if said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
                        warn!(%error, "connections wait until they can be accepted");
                        said = Some(Instant::now());
                    }
                    sleep(ACCEPT_PAUSE).await;
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

/// Tells the vhost the time whenever it wants to know it.
async fn watch_the_clock(shared: Arc<Shared>) {
    loop {
        let due = shared.state().tick();
        yield_now().await; // a great many dead letters are due at once, again and again
        let due = async {
            match due {
                Some(due) => sleep_until(Instant::from_std(due)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = shared.hurry.notified() => {}
        }
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
