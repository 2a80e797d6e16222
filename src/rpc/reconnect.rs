//! # Reconnecting: pauses that grow, with jitter, and every place in turn
//!
//! ```text
//! lost ── 0.1 s + jitter ──▶ one ✗ two ✗ ── 0.2 s + jitter ──▶ one ✗ two ✗ ── .. 10 s at most .. ──▶ one ✓
//! ```
//!
//! What comes back is a connection and what RPC needs on it, and nothing else. Exchanges, bindings and other people's
//! queues are not declared again: only their owner knows whether they should be, and doing it behind his back is a
//! source of errors of its own. The jitter is for the broker: a thousand clients that it lost together must not come
//! back together.
//!
//! Read next: `keeper`. Explained in `docs/rpc.md`.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::{Instant, sleep};
use tracing::info;

use crate::client::{Connection, Endpoints, Error};

/// The first pause, before jitter, which adds up to as much again: a thousand clients of a broker that comes back do
/// not all come in the same moment.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause, before jitter.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How a client or a server that reconnects by itself stands with its broker.
#[derive(Debug, Clone)]
pub enum ConnectionState {
    /// Calls go out, requests come in.
    Connected,
    /// The connection is lost, and attempts are made to get another.
    Reconnecting {
        /// Which attempt comes next: 1 is the first.
        attempt: u32,
        /// What was lost, or why the last attempt failed.
        cause: Error,
    },
    /// There will be none again: it was closed, or was given as it was and is lost.
    Closed(Error),
}

/// A connection, and the next one when it is over, if that is ours to make.
#[derive(Debug)]
pub(super) struct Line {
    connection: Connection,
    /// Where to get another. A connection that was given is neither replaced nor closed.
    dialler: Option<Dialler>,
    pauses: Pauses,
}

impl Line {
    /// A connection that was given.
    pub(super) fn on(connection: Connection) -> Self {
        Self {
            connection,
            dialler: None,
            pauses: Pauses::new(),
        }
    }

    /// A connection to one of these places, and others to any of them.
    ///
    /// # Errors
    /// What the last one failed with.
    ///
    /// # Cancel safety
    /// A dropped future leaves nothing behind but a connection that closes itself.
    pub(super) async fn dial(endpoints: Endpoints) -> Result<Self, Error> {
        let mut dialler = Dialler::new(endpoints);
        let connection = dialler.dial().await?;
        Ok(Self {
            connection,
            dialler: Some(dialler),
            pauses: Pauses::new(),
        })
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Whether it was made here, and so is closed here.
    pub(super) fn is_ours(&self) -> bool {
        self.dialler.is_some()
    }

    /// Closes the connection, if it is ours.
    ///
    /// # Errors
    /// [`Error::ConnectionClosed`] with the first cause, if that was another.
    ///
    /// # Cancel safety
    /// A dropped future may have closed the connection.
    pub(super) async fn close(self) -> Result<(), Error> {
        if self.is_ours() {
            self.connection.close().await?;
        }
        Ok(())
    }

    /// Makes up for a loss: prepares once more what stood on the connection, on the same one if only a channel was lost,
    /// and otherwise on another. Before each attempt `trying` hears which it is and why it is made; then there is a pause.
    ///
    /// # Errors
    /// The last cause: the connection was given, and is over.
    ///
    /// # Cancel safety
    /// As `prepare` is; nothing else is left behind.
    pub(super) async fn again<T, F>(
        &mut self,
        lost: Error,
        trying: impl Fn(u32, Error),
        prepare: impl Fn(Connection) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let mut cause = lost;
        for attempt in 1.. {
            if self.connection.cause().is_some() && !self.is_ours() {
                break;
            }
            trying(attempt, cause);
            self.pauses.pause().await;
            cause = match self.standing().await {
                Ok(connection) => match prepare(connection).await {
                    Ok(prepared) => return Ok(prepared),
                    Err(error) => error,
                },
                Err(error) => error,
            };
        }
        Err(cause)
    }

    /// The connection as it is, or another if it is over.
    async fn standing(&mut self) -> Result<Connection, Error> {
        if let Some(dialler) = &mut self.dialler
            && self.connection.cause().is_some()
        {
            self.connection = dialler.dial().await?;
        }
        Ok(self.connection.clone())
    }
}

/// Where to connect: any of several places.
#[derive(Debug)]
struct Dialler {
    endpoints: Endpoints,
    /// How many places were tried so far: whose turn it is.
    turn: usize,
}

impl Dialler {
    fn new(endpoints: Endpoints) -> Self {
        Self { endpoints, turn: 0 }
    }

    /// Tries each place once, beginning with the one after the last that was tried.
    ///
    /// # Errors
    /// What the last one failed with.
    ///
    /// # Cancel safety
    /// A dropped future leaves nothing behind but a connection that closes itself.
    async fn dial(&mut self) -> Result<Connection, Error> {
        let places = self.endpoints.iter().count();
        let mut last = Error::Uri("there is no place to connect to".into());
        for _ in 0..places {
            let place = self.endpoints.iter().nth(self.turn % places).cloned();
            self.turn += 1;
            let Some(place) = place else { break };
            let address = place.address();
            match Connection::connect(place).await {
                Ok(connection) => {
                    info!(%address, "connected");
                    return Ok(connection);
                }
                Err(error) => {
                    info!(%address, %error, "not connected");
                    last = error;
                }
            }
        }
        Err(last)
    }
}

/// How patiently: each pause is longer than the one before, until all has been well for a while.
#[derive(Debug)]
struct Pauses {
    lengths: ExponentialBackoff,
    ended: Instant,
}

impl Pauses {
    fn new() -> Self {
        Self {
            lengths: lengths(),
            ended: Instant::now(),
        }
    }

    /// Waits before something is tried again.
    ///
    /// # Cancel safety
    /// Cancel safe.
    async fn pause(&mut self) {
        if self.ended.elapsed() > 3 * LONGEST_PAUSE {
            self.lengths = lengths();
        }
        sleep(self.lengths.next().unwrap_or(LONGEST_PAUSE)).await;
        self.ended = Instant::now();
    }
}

fn lengths() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::net::TcpListener;

    use super::*;
    use crate::broker::Broker;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_up_to_a_limit_with_jitter_and_start_again() {
        let mut pauses = Pauses::new();
        let mut lengths = Vec::new();
        for number in 0..12 {
            let started = Instant::now();
            pauses.pause().await;
            let least = (FIRST_PAUSE * 2_u32.pow(number)).min(LONGEST_PAUSE);
            let length = started.elapsed();
            assert!(
                least <= length && length <= 2 * least + FIRST_PAUSE,
                "pause {number}: {length:?}"
            );
            lengths.push(length);
        }
        sleep(4 * LONGEST_PAUSE).await; // all is well
        let started = Instant::now();
        pauses.pause().await;
        assert!(started.elapsed() <= 3 * FIRST_PAUSE);
        assert!(
            lengths.iter().any(|length| length.as_millis() % 100 > 1),
            "{lengths:?}: no jitter"
        );
    }

    /// Answers a connection by hanging up, and takes note.
    async fn hangs_up(name: &'static str, heard: &Arc<Mutex<Vec<&'static str>>>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = heard.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if heard.lock().unwrap().last() != Some(&name) {
                    heard.lock().unwrap().push(name); // who hangs up is asked who he is: those connections count as one
                }
                drop(stream);
            }
        });
        address.to_string()
    }

    #[tokio::test]
    async fn places_are_tried_in_turn() {
        let heard = Arc::default();
        let (one, three) = (
            hangs_up("one", &heard).await,
            hangs_up("three", &heard).await,
        );
        let broker = Broker::start().await.unwrap();
        let two = broker.address();
        let endpoints: Endpoints = format!("amqp://{one},{two},{three}").parse().unwrap();
        let mut dialler = Dialler::new(endpoints);
        for _ in 0..2 {
            let connection = dialler.dial().await.unwrap();
            assert!(connection.cause().is_none());
        }
        assert_eq!(*heard.lock().unwrap(), ["one", "three", "one"]);
    }
}
