//! # Dialling: the addresses of a host, and who is there if it is no broker
//!
//! ```text
//! localhost ─┬─ [::1]:5672       refused
//!            └─ 127.0.0.1:5672   connected, AMQP 0 0 9 1 is sent ─▶ silence, or the end
//!                                     ├─ "GET / HTTP/1.0" ──▶ "HTTP/1.1 ..": a web server
//!                                     └─ a ClientHello ─────▶ 15 03 03 ..: TLS
//! ```
//!
//! The first eight octets of AMQP mean nothing to others. A web server waits for the end of a line that never comes,
//! and many a TLS server hangs up without a word. So a stranger who did not answer is asked once more in its own
//! language, on a connection of its own, and the error can say what is wrong with the port (HDR-5).
//!
//! Read next: [`channel`](super::channel). Explained in `docs/03-handshake.md`.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, lookup_host},
    time::timeout,
};

use super::{error::Error, options::ConnectOptions};
use crate::protocol::Greeting;

/// How long a stranger has to answer in its own language.
const ASK_LIMIT: Duration = Duration::from_millis(500);

/// What a web server answers.
const GET: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

/// What a TLS server answers, if only with an alert: record, handshake, `ClientHello` 1.2, 32 octets of randomness, no
/// session, one cipher suite, no compression.
#[rustfmt::skip] // one row per field
const CLIENT_HELLO: &[u8] = &[
    0x16, 3, 1, 0, 45,
    1, 0, 0, 41,
    3, 3,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    0,
    0, 2, 0xc0, 0x2f,
    1, 0,
];

/// Tries the host's addresses one after the other, each within the time limit.
pub(super) async fn dial(options: &ConnectOptions) -> Result<TcpStream, Error> {
    let failed = |error| failed(options, error);
    let limit = options.config.handshake_timeout;
    let host = (options.host.as_str(), options.port);
    let addresses = timeout(limit, lookup_host(host))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let mut last = None;
    for peer in addresses.map_err(failed)? {
        let connected = timeout(limit, TcpStream::connect(peer)).await;
        let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        // We gather our writes ourselves, so nothing is gained when the kernel does so too.
        match connected.and_then(|stream| stream.set_nodelay(true).map(|()| stream)) {
            Ok(stream) => return Ok(stream),
            // A family of addresses that this machine does not have says nothing of the broker: where IPv6 is off,
            // `::1` comes last, and must not hide that 127.0.0.1 has refused.
            Err(error) if last.is_some() && is_no_address(&error) => {}
            Err(error) => last = Some(error),
        }
    }
    let no_address = || io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    Err(failed(last.unwrap_or_else(no_address)))
}

pub(super) fn failed(options: &ConnectOptions, error: io::Error) -> Error {
    Error::Connect {
        address: options.address(),
        source: Arc::new(error),
    }
}

fn is_no_address(error: &io::Error) -> bool {
    use io::ErrorKind::{AddrNotAvailable, NetworkUnreachable};
    matches!(error.kind(), AddrNotAvailable | NetworkUnreachable)
}

/// Names a stranger that met our protocol header with silence: a web server waits for the end of a line that AMQP never
/// sends, and a TLS server may hang up without a word. Each is asked in its own language, on a connection of its own.
pub(super) async fn who_is_there(peer: SocketAddr) -> Option<Greeting> {
    for question in [GET, CLIENT_HELLO] {
        // Any other answer may be anything: the next question.
        if let Ok(Ok(said @ (Greeting::Http | Greeting::Tls))) =
            timeout(ASK_LIMIT, ask(peer, question)).await
        {
            return Some(said);
        }
    }
    None
}

async fn ask(peer: SocketAddr, question: &[u8]) -> io::Result<Greeting> {
    let mut stream = TcpStream::connect(peer).await?;
    stream.write_all(question).await?;
    let mut answer = [0; 7]; // a whole TLS alert, or `HTTP/1.`
    stream.read_exact(&mut answer).await?;
    Ok(Greeting::recognise(&answer, true).unwrap_or(Greeting::Unknown(answer.to_vec())))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_stranger_is_asked_in_its_own_language() {
        // HDR-5
        let cases: [(&[u8], &[u8], _); 3] = [
            (
                b"GET ",
                b"HTTP/1.1 400 Bad Request\r\n",
                Some(Greeting::Http),
            ),
            (
                &[0x16, 3, 1],
                &[0x15, 3, 3, 0, 2, 2, 40],
                Some(Greeting::Tls),
            ),
            (b"HELO", b"220 a mail server", None),
        ];
        for (language, answer, named) in cases {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let peer = listener.local_addr().unwrap();
            let stranger = tokio::spawn(async move {
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let mut heard = vec![0; language.len()];
                    stream.read_exact(&mut heard).await.unwrap();
                    if heard == language {
                        stream.write_all(answer).await.unwrap();
                    }
                }
            });
            assert_eq!(who_is_there(peer).await, named);
            stranger.abort();
        }
    }

    #[test]
    fn the_client_hello_has_the_lengths_that_it_says() {
        let [.., record, 1, 0, 0, body] = CLIENT_HELLO[..9] else {
            panic!("nine octets of headers")
        };
        assert_eq!(
            (usize::from(record), usize::from(body)),
            (CLIENT_HELLO.len() - 5, CLIENT_HELLO.len() - 9)
        );
    }
}
