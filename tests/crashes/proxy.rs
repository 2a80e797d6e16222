//! Between a server and its broker: it passes on every frame, up to the one that a test waits for.

use amqp_rpc::{client::ConnectOptions, codec::*};
use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use crate::raw::PATIENCE;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Server,
    Broker,
}

/// A moment in the conversation of a server with its broker: a frame is on its way. The proxy holds it, and what the same
/// side says afterwards is never heard.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub speaker: Side,
    pub method: MethodId,
    /// How many frames like it pass before.
    pub after: usize,
}

/// One connection of one server, in the hands of a test.
pub struct Proxy {
    uri: String,
    reached: watch::Receiver<bool>,
    /// Ends with the proxy.
    _relays: JoinSet<()>,
}

impl Proxy {
    pub async fn start(broker: &str, moment: Moment) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let options: ConnectOptions = broker.parse().expect("a URI");
        let (there, here) = (options.address(), listener.local_addr().expect("bound"));
        let uri = broker.replace(&there, &here.to_string());
        assert_ne!(uri, broker, "the URI names host and port");
        let (sender, reached) = watch::channel(false);
        let mut relays = JoinSet::new();
        relays.spawn(async move {
            let (mut server, _) = listener.accept().await.expect("a server");
            let mut broker = TcpStream::connect(there).await.expect("a broker");
            let mut header = PROTOCOL_HEADER;
            server.read_exact(&mut header).await.expect("a header");
            broker
                .write_all(&header)
                .await
                .expect("a broker that listens");
            let (from_server, to_server) = server.into_split();
            let (from_broker, to_broker) = broker.into_split();
            let relay = |speaker| Relay {
                moment: (moment.speaker == speaker).then_some(moment),
                reached: sender.clone(),
            };
            tokio::join!(
                relay(Side::Server).run(from_server, to_broker),
                relay(Side::Broker).run(from_broker, to_server),
            );
        });
        Self {
            uri,
            reached,
            _relays: relays,
        }
    }

    /// Where the server is to connect.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Waits for the moment.
    pub async fn reached(&mut self) {
        let reached = timeout(PATIENCE, self.reached.wait_for(|reached| *reached)).await;
        reached
            .expect("the moment comes")
            .expect("both sides are there");
    }
}

/// One direction of the connection.
struct Relay {
    moment: Option<Moment>,
    reached: watch::Sender<bool>,
}

impl Relay {
    /// Whatever was passed on reaches the listener, and then the end of the stream does, as when a process dies: its
    /// kernel sends what was written, and closes.
    async fn run(self, mut speaker: impl AsyncRead + Unpin, mut listener: impl AsyncWrite + Unpin) {
        let mut decoder = FrameDecoder::new();
        decoder.set_limits(1 << 20, 1 << 20);
        let (mut inbound, mut outbound) = (BytesMut::new(), BytesMut::new());
        let (mut listening, mut passed) = (true, 0);
        while speaker
            .read_buf(&mut inbound)
            .await
            .is_ok_and(|octets| octets > 0)
        {
            let mut reached = false;
            while let Some(frame) = decoder.decode(&mut inbound).expect("frames") {
                if let Some(moment) = self.moment.filter(|moment| moment.is_marked_by(&frame)) {
                    reached |= passed == moment.after;
                    listening &= !reached;
                    passed += 1;
                }
                if listening {
                    frame.encode(&mut outbound);
                }
            }
            listening &= listener.write_all_buf(&mut outbound).await.is_ok();
            if reached {
                self.reached.send_replace(true);
            }
        }
        let _ = listener.shutdown().await; // it may be dead
    }
}

impl Moment {
    /// The first time that this side says this method.
    pub const fn of(speaker: Side, method: MethodId) -> Self {
        Self {
            speaker,
            method,
            after: 0,
        }
    }

    fn is_marked_by(self, frame: &Frame) -> bool {
        matches!(&frame.payload, Payload::Method(method) if method.id() == self.method)
    }
}
