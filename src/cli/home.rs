//! # Home: where a server finds its broker, or becomes one
//!
//! ```text
//! connect ─┬─ open ──────▶ that one
//!          └─ refused ───▶ bind ─┬─ ours ────▶ this process is the broker
//!                                └─ in use ──▶ somebody was faster: connect again
//! ```
//!
//! Two servers may start in the same moment, and each finds the port free. Only one can bind it, so the loser asks
//! again and finds the winner.
//!
//! Read next: [`load`](super::load).

use std::{io, net::Ipv4Addr};

use super::{Failure, Status, sentence};
use crate::{
    broker::{Broker, BrokerOptions},
    client::{ConnectOptions, Connection, Error},
};

/// How often the two sides of a race for the port may find it first free and then taken.
const ATTEMPTS: usize = 5;

/// Where a broker is and, if nobody else had one, the broker itself.
#[derive(Debug)]
pub struct Home {
    /// How to connect to it.
    pub address: ConnectOptions,
    /// Ours, if nothing listened there before.
    pub broker: Option<Broker>,
}

/// Looks for the broker at `local`, by a connection that is closed again; if nothing listens there, becomes that broker, on 127.0.0.1.
///
/// Two servers may start at the same moment. Whoever loses the race for the port connects to the winner.
///
/// # Errors
/// When something listens there that cannot be used, or the port cannot be had: one sentence.
///
/// # Cancel safety
/// A dropped future leaves nothing behind.
pub async fn find_or_host(local: &ConnectOptions) -> Result<Home, Failure> {
    for _ in 0..ATTEMPTS {
        match Connection::connect(local.clone()).await {
            Ok(connection) => {
                drop(connection); // which closes it
                let (address, broker) = (local.clone(), None);
                return Ok(Home { address, broker });
            }
            Err(Error::Connect { source, .. })
                if source.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) => return Err(sentence::of_connect(&error, local)),
        }
        match Broker::bind(
            (Ipv4Addr::LOCALHOST, local.port()),
            BrokerOptions::default(),
        )
        .await
        {
            Ok(broker) => {
                let address = local.clone().at("127.0.0.1", broker.address().port());
                let broker = Some(broker);
                return Ok(Home { address, broker });
            }
            Err(taken) if taken.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(sentence::of_bind(&error, &local.address())),
        }
    }
    let text = format!(
        "The port of {} is taken, but nobody answers there.",
        local.address()
    );
    Err(Failure::new(Status::NoBroker, text))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn free_port() -> u16 {
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .unwrap()
            .local_addr()
            .unwrap()
            .port()
    }

    #[tokio::test]
    async fn the_first_hosts_and_the_second_joins() {
        let local = ConnectOptions::default().at("127.0.0.1", free_port().await);
        let first = find_or_host(&local).await.unwrap();
        let second = find_or_host(&local).await.unwrap();
        assert!(first.broker.is_some() && second.broker.is_none());
        let connection = Connection::connect(second.address).await.unwrap();
        let cause = async {
            first.broker.unwrap().stop().await;
            connection.closed().await
        };
        assert_eq!(
            cause.await.code().map(|code| code.0),
            Some(320),
            "the others are told"
        );
    }

    #[tokio::test]
    async fn of_many_that_start_at_once_one_hosts() {
        let local = ConnectOptions::default().at("127.0.0.1", free_port().await);
        let homes: Vec<_> = (0..8)
            .map(|_| {
                tokio::spawn({
                    let local = local.clone();
                    async move { find_or_host(&local).await }
                })
            })
            .collect();
        let mut hosts = Vec::new();
        for home in homes {
            hosts.push(home.await.unwrap().unwrap());
        }
        assert_eq!(hosts.iter().filter(|home| home.broker.is_some()).count(), 1);
    }

    #[tokio::test]
    async fn what_is_no_broker_is_named_and_not_replaced() {
        // HDR-5
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.read_exact(&mut [0; 8]).await.unwrap();
            stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .await
                .unwrap();
        });
        let failure = find_or_host(&ConnectOptions::default().at("127.0.0.1", port))
            .await
            .unwrap_err();
        assert!(
            failure.sentence.contains("it speaks HTTP"),
            "{}",
            failure.sentence
        );
    }
}
