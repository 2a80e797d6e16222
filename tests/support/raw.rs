//! A client without manners: it sends any octets over a socket and shows every frame that comes back.
//!
//! For what the client of this crate refuses to say, and to see the order of frames on the wire.
// Each test program uses its own part, and a panic is how a test reports.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::missing_panics_doc
)]

use std::time::Duration;

use amqp_rpc::{
    client::ConnectOptions,
    codec::*,
    protocol::{CloseReason, Message},
};
use bytes::BytesMut;
use fluent_uri::Uri;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Every wait of a test ends here, long after any broker that works has answered.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The one channel that [`Raw::open`] opens.
pub const CHANNEL: ChannelId = ChannelId(1);

/// All that RabbitMQ offers, and no heartbeats.
pub const TUNE_OK: ConnectionTuneOk = ConnectionTuneOk {
    channel_max: 2047,
    frame_max: 131_072,
    heartbeat: 0,
};

/// Octets to and frames from a broker.
pub struct Raw {
    stream: TcpStream,
    inbound: BytesMut,
    decoder: FrameDecoder,
}

/// What ends a channel, a connection or a socket, seen from its other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    Channel(CloseReason),
    Connection(CloseReason),
    /// The socket closed, by an orderly end or by a reset, and no close came before.
    Socket,
}

impl Raw {
    /// A socket, before the first octet.
    pub async fn connect(uri: &str) -> Self {
        let options: ConnectOptions = uri.parse().expect("a URI");
        let stream = timeout(PATIENCE, TcpStream::connect(options.address())).await;
        let stream = stream
            .expect("a connection in time")
            .expect("a broker that listens");
        stream.set_nodelay(true).unwrap();
        let mut decoder = FrameDecoder::new();
        decoder.set_limits(131_072, 1 << 20);
        Self {
            stream,
            inbound: BytesMut::new(),
            decoder,
        }
    }

    /// The same, with the protocol header sent and `connection.start` come.
    pub async fn greeted(uri: &str) -> Self {
        let mut raw = Self::connect(uri).await;
        raw.send(&PROTOCOL_HEADER).await;
        let start = raw.method().await;
        assert!(
            matches!(start, Some(Method::ConnectionStart(_))),
            "got {start:?}"
        );
        raw
    }

    /// An open connection with channel 1 open on it.
    pub async fn open(uri: &str) -> Self {
        Self::tuned(uri, TUNE_OK).await
    }

    /// The same with other limits.
    pub async fn tuned(uri: &str, tune_ok: ConnectionTuneOk) -> Self {
        let mut raw = Self::greeted(uri).await;
        let virtual_host = raw.log_in(uri).await;
        let open = ConnectionOpen {
            virtual_host,
            ..Default::default()
        };
        raw.say(ChannelId(0), tune_ok).await;
        raw.say(ChannelId(0), open).await;
        let opened = raw.method().await;
        assert!(
            matches!(opened, Some(Method::ConnectionOpenOk(_))),
            "got {opened:?}"
        );
        let opened = raw.ask(ChannelOpen::default()).await;
        assert!(matches!(opened, Method::ChannelOpenOk(_)), "got {opened:?}");
        raw
    }

    /// Answers `connection.start` and waits for `connection.tune`; gives the virtual host to open.
    pub async fn log_in(&mut self, uri: &str) -> ShortString {
        let (user, password, virtual_host) = login(uri);
        let capabilities = FieldTable(vec![(
            ShortString::literal("consumer_cancel_notify"),
            true.into(),
        )]);
        let start_ok = ConnectionStartOk {
            client_properties: FieldTable(vec![(
                ShortString::literal("capabilities"),
                capabilities.into(),
            )]),
            mechanism: ShortString::literal("PLAIN"),
            response: Secret(format!("\0{user}\0{password}").into()),
            locale: ShortString::literal("en_US"),
        };
        self.say(ChannelId(0), start_ok).await;
        let tune = self.method().await;
        assert!(
            matches!(tune, Some(Method::ConnectionTune(_))),
            "got {tune:?}"
        );
        virtual_host
    }

    /// The two halves of the socket, for a peer that says and reads at its own pace.
    pub fn split(
        self,
    ) -> (
        tokio::net::tcp::OwnedReadHalf,
        tokio::net::tcp::OwnedWriteHalf,
    ) {
        self.stream.into_split()
    }

    /// Octets, whatever they are. That the broker has hung up already shows at the next read.
    pub async fn send(&mut self, octets: &[u8]) {
        let _ = timeout(PATIENCE, self.stream.write_all(octets)).await;
    }

    /// One method, legal or not.
    pub async fn say(&mut self, channel: ChannelId, method: impl Into<Method>) {
        let payload = Payload::Method(method.into());
        let mut octets = BytesMut::new();
        Frame { channel, payload }.encode(&mut octets);
        self.send(&octets).await;
    }

    /// One frame on channel 1, legal or not.
    pub async fn say_frame(&mut self, payload: Payload) {
        let mut octets = BytesMut::new();
        let channel = CHANNEL;
        Frame { channel, payload }.encode(&mut octets);
        self.send(&octets).await;
    }

    /// One method with its content on channel 1: method, header and a single body frame.
    pub async fn publish(&mut self, publish: BasicPublish, message: impl Into<Message>) {
        let Message { properties, body } = message.into();
        let header = ContentHeader {
            class_id: BASIC_CLASS,
            body_size: body.len() as u64,
            properties,
        };
        let mut payloads = vec![Payload::Method(publish.into()), Payload::Header(header)];
        if !body.is_empty() {
            payloads.push(Payload::Body(body)); // CONTENT-2
        }
        let mut octets = BytesMut::new();
        for payload in payloads {
            let channel = CHANNEL;
            Frame { channel, payload }.encode(&mut octets);
        }
        self.send(&octets).await;
    }

    /// A request on channel 1 and the next method that comes, which should be its answer.
    pub async fn ask(&mut self, request: impl Into<Method>) -> Method {
        self.say(CHANNEL, request).await;
        self.method()
            .await
            .expect("an answer, not the end of the stream")
    }

    /// The next octets as they are; none at the end of the stream.
    pub async fn octets(&mut self) -> BytesMut {
        if self.inbound.is_empty() {
            self.read().await;
        }
        self.inbound.split()
    }

    /// The next frame that is no heartbeat, or `None` at the end of the stream.
    pub async fn frame(&mut self) -> Option<Frame> {
        loop {
            match self
                .decoder
                .decode(&mut self.inbound)
                .expect("frames from a broker")
            {
                Some(frame) if frame.payload == Payload::Heartbeat => {}
                Some(frame) => return Some(frame),
                None if self.read().await => {}
                None => return None,
            }
        }
    }

    /// The next frame, heartbeats included.
    pub async fn any_frame(&mut self) -> Option<Frame> {
        loop {
            match self
                .decoder
                .decode(&mut self.inbound)
                .expect("frames from a broker")
            {
                Some(frame) => return Some(frame),
                None if self.read().await => {}
                None => return None,
            }
        }
    }

    /// The next method; headers and bodies are passed over.
    pub async fn method(&mut self) -> Option<Method> {
        loop {
            if let Payload::Method(method) = self.frame().await?.payload {
                return Some(method);
            }
        }
    }

    /// Waits for what ends the channel or more, and answers it as a client has to.
    pub async fn ending(&mut self) -> Ending {
        loop {
            match self.method().await {
                Some(Method::ChannelClose(close)) => {
                    self.say(CHANNEL, ChannelCloseOk {}).await;
                    return Ending::Channel(close.into());
                }
                Some(Method::ConnectionClose(close)) => {
                    self.say(ChannelId(0), ConnectionCloseOk {}).await;
                    return Ending::Connection(close.into());
                }
                Some(_) => {}
                None => return Ending::Socket,
            }
        }
    }

    /// Reads on until the socket is closed: an orderly end or a reset, whatever else is still said before.
    pub async fn hung_up(&mut self) {
        while self.read().await {
            self.inbound.clear();
        }
    }

    async fn read(&mut self) -> bool {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.inbound)).await;
        read.expect("octets, or the end of the stream, in time")
            .is_ok_and(|octets| octets > 0) // RabbitMQ ends most connections with a reset
    }
}

fn login(uri: &str) -> (String, String, ShortString) {
    let options: ConnectOptions = uri.parse().expect("a URI");
    let parsed = Uri::parse(uri).expect("a URI");
    let userinfo = parsed
        .authority()
        .and_then(|authority| authority.userinfo());
    let password = userinfo.and_then(|userinfo| userinfo.split_once(':'));
    let password = password.map_or("guest".into(), |(_, password)| {
        password.decode().to_string().expect("UTF-8").into_owned()
    });
    (
        options.user().to_owned(),
        password,
        options.virtual_host().clone(),
    )
}

/// The broker that the ignored tests run on.
pub fn test_url() -> String {
    std::env::var("AMQP_TEST_URL").expect(
        "this test needs a broker: set AMQP_TEST_URL, for example to amqp://guest:guest@localhost:5672/%2f",
    )
}
