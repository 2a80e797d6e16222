//! A broker that does what the test says, on the other end of an in-process pipe.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use amqp_rpc::{
    client::{ConnectOptions, Connection, Error},
    codec::*,
    protocol::Cause,
    short,
};
use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf},
    task::JoinHandle,
};

/// The broker's end of a connection.
pub struct Peer {
    pub reader: Wire<ReadHalf<DuplexStream>>,
    pub writer: WriteHalf<DuplexStream>,
}

/// Frames off a stream.
pub struct Wire<R> {
    reader: R,
    decoder: FrameDecoder,
    inbound: BytesMut,
    /// Heartbeats so far.
    pub beats: usize,
}

impl<R: AsyncRead + Unpin> Wire<R> {
    pub fn new(reader: R) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_limits(1 << 20, 1 << 20);
        Self {
            reader,
            decoder,
            inbound: BytesMut::new(),
            beats: 0,
        }
    }

    /// The next frame, or `None` at a clean end of the stream.
    pub async fn frame(&mut self) -> Option<Frame> {
        loop {
            let decoded = self.decoder.decode(&mut self.inbound);
            if let Some(frame) = decoded.expect("what a client sends decodes") {
                self.beats += usize::from(frame.payload == Payload::Heartbeat);
                return Some(frame);
            }
            if self.reader.read_buf(&mut self.inbound).await.unwrap() == 0 {
                assert!(self.inbound.is_empty(), "the last frame is torn");
                return None;
            }
        }
    }

    /// The next method; heartbeats are passed over.
    pub async fn method(&mut self) -> (ChannelId, Method) {
        loop {
            let frame = self.frame().await.expect("a method, not the end");
            match frame.payload {
                Payload::Heartbeat => {}
                Payload::Method(method) => return (frame.channel, method),
                other => panic!("expected a method, got {other:?}"),
            }
        }
    }

    /// The next publish, and the body of it, whole and with nothing between. CONTENT-13
    pub async fn publish(&mut self) -> Bytes {
        let (channel, method) = self.method().await;
        assert!(matches!(method, Method::BasicPublish(_)), "got {method}");
        let header = self.frame().await.unwrap();
        let Payload::Header(header) = header.payload else {
            panic!("expected a content header, got {header:?}")
        };
        let mut body = BytesMut::new();
        while (body.len() as u64) < header.body_size {
            let frame = self.frame().await.unwrap();
            let Payload::Body(octets) = frame.payload else {
                panic!("expected a body, got {frame:?}")
            };
            assert_eq!(frame.channel, channel);
            body.extend_from_slice(&octets);
        }
        body.freeze()
    }
}

pub fn encoded(channel: u16, payload: Payload) -> BytesMut {
    let mut octets = BytesMut::new();
    let channel = ChannelId(channel);
    Frame { channel, payload }.encode(&mut octets);
    octets
}

pub fn method(channel: u16, method: impl Into<Method>) -> BytesMut {
    encoded(channel, Payload::Method(method.into()))
}

/// A content of one body frame.
pub fn content(channel: u16, carrier: impl Into<Method>, body: &[u8]) -> BytesMut {
    let mut octets = method(channel, carrier);
    let header = ContentHeader {
        class_id: 60,
        body_size: body.len() as u64,
        properties: Box::default(),
    };
    octets.extend_from_slice(&encoded(channel, Payload::Header(header)));
    octets.extend_from_slice(&encoded(
        channel,
        Payload::Body(Bytes::copy_from_slice(body)),
    ));
    octets
}

pub fn delivery(consumer_tag: &ConsumerTag, tag: u64, body: &[u8]) -> BytesMut {
    let deliver = BasicDeliver {
        consumer_tag: consumer_tag.clone(),
        delivery_tag: DeliveryTag(tag),
        ..Default::default()
    };
    content(1, deliver, body)
}

/// What an honest broker answers.
pub fn answer(method: &Method) -> Option<Method> {
    Some(match method {
        Method::ChannelOpen(_) => ChannelOpenOk::default().into(),
        Method::ChannelClose(_) => ChannelCloseOk::default().into(),
        Method::ConnectionClose(_) => ConnectionCloseOk::default().into(),
        Method::QueueDeclare(_) => QueueDeclareOk {
            queue: short!("q"),
            ..Default::default()
        }
        .into(),
        Method::BasicQos(_) => BasicQosOk::default().into(),
        Method::BasicConsume(consume) => BasicConsumeOk {
            consumer_tag: consume.consumer_tag.clone(),
        }
        .into(),
        Method::BasicCancel(cancel) => BasicCancelOk {
            consumer_tag: cancel.consumer_tag.clone(),
        }
        .into(),
        Method::ConfirmSelect(_) => ConfirmSelectOk::default().into(),
        _ => return None,
    })
}

impl Peer {
    pub fn new(stream: DuplexStream) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self {
            reader: Wire::new(reader),
            writer,
        }
    }

    /// A connection that is open, over a pipe of so many octets.
    pub async fn pair(options: ConnectOptions, pipe: usize) -> (Connection, Self) {
        Self::pair_through(options, pipe, |writer| writer).await
    }

    /// The same, with something around the client's writer.
    pub async fn pair_through<W>(
        options: ConnectOptions,
        pipe: usize,
        around: impl FnOnce(WriteHalf<DuplexStream>) -> W,
    ) -> (Connection, Self)
    where
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let (near, far) = tokio::io::duplex(pipe);
        let (reader, writer) = tokio::io::split(near);
        let mut peer = Self::new(far);
        let opening = Connection::over(reader, around(writer), options);
        let (connection, ()) = tokio::join!(opening, peer.open());
        (connection.unwrap(), peer)
    }

    /// The whole handshake.
    pub async fn open(&mut self) {
        let tune = ConnectionTune {
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat: 600,
        };
        self.greet().await;
        self.say(method(0, tune)).await;
        self.expect("connection.tune-ok").await;
        self.expect("connection.open").await;
        self.say(method(0, ConnectionOpenOk::default())).await;
    }

    /// The handshake as far as start-ok.
    pub async fn greet(&mut self) {
        let mut header = [0; 8];
        self.reader.reader.read_exact(&mut header).await.unwrap();
        assert_eq!(header, PROTOCOL_HEADER);
        let start = ConnectionStart {
            version_major: 0,
            version_minor: 9,
            mechanisms: "PLAIN".into(),
            locales: "en_US".into(),
            ..Default::default()
        };
        self.say(method(0, start)).await;
        self.expect("connection.start-ok").await;
    }

    pub async fn say(&mut self, octets: BytesMut) {
        self.writer.write_all(&octets).await.unwrap();
    }

    pub async fn expect(&mut self, name: &str) -> (ChannelId, Method) {
        let (channel, method) = self.reader.method().await;
        assert_eq!(method.name(), name);
        (channel, method)
    }

    /// The close of the connection, which must come next.
    pub async fn connection_close(&mut self) -> ConnectionClose {
        match self.reader.method().await {
            (_, Method::ConnectionClose(close)) => close,
            (_, other) => panic!("expected connection.close, got {other}"),
        }
    }

    /// The close of a channel, which must come next.
    pub async fn channel_close(&mut self) -> ChannelClose {
        match self.reader.method().await {
            (_, Method::ChannelClose(close)) => close,
            (_, other) => panic!("expected channel.close, got {other}"),
        }
    }

    /// Answers what comes next, which must be this.
    pub async fn grant(&mut self, name: &str) -> Method {
        let (channel, request) = self.expect(name).await;
        let reply = answer(&request).expect("an answer");
        self.say(method(channel.0, reply)).await;
        request
    }

    /// Answers everything for as long as `work` runs.
    pub async fn serving<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                frame = self.reader.frame() => match frame {
                    Some(Frame { channel, payload: Payload::Method(request) }) => {
                        if let Some(reply) = answer(&request) {
                            self.writer.write_all(&method(channel.0, reply)).await.unwrap();
                        }
                    }
                    Some(_) => {}
                    None => return work.await,
                },
            }
        }
    }
}

/// Writes all of it, however long that takes, and gives the writer back.
pub fn flood(
    mut writer: WriteHalf<DuplexStream>,
    octets: BytesMut,
) -> JoinHandle<WriteHalf<DuplexStream>> {
    tokio::spawn(async move {
        writer.write_all(&octets).await.unwrap();
        writer
    })
}

/// A writer that notes the size of every write that was accepted, and fails from `breaks` octets on.
pub struct Noted<W> {
    pub writer: W,
    pub writes: Arc<Mutex<Vec<usize>>>,
    pub breaks: usize,
}

impl<W> Noted<W> {
    pub fn new(writer: W, writes: &Arc<Mutex<Vec<usize>>>) -> Self {
        let (writes, breaks) = (writes.clone(), usize::MAX);
        Self {
            writer,
            writes,
            breaks,
        }
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Noted<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.writes.lock().unwrap().iter().sum::<usize>() >= self.breaks {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let wrote = Pin::new(&mut self.writer).poll_write(context, octets);
        if let Poll::Ready(Ok(octets)) = wrote {
            self.writes.lock().unwrap().push(octets);
        }
        wrote
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(context)
    }
}

/// A reader whose stream ends with a reset, as RabbitMQ's does as often as not. CLOSE-12
pub struct ResetAtEnd<R>(pub R);

impl<R: AsyncRead + Unpin> AsyncRead for ResetAtEnd<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.0).poll_read(context, into);
        match read {
            Poll::Ready(Ok(())) if into.filled().len() == before => {
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
            read => read,
        }
    }
}

/// What a connection ended with.
pub fn cause<T: std::fmt::Debug>(result: Result<T, Error>) -> Cause {
    match result {
        Err(Error::ConnectionClosed(cause)) => cause,
        other => panic!("expected a closed connection, got {other:?}"),
    }
}

/// Whether the error is a timeout that blames this consumer.
pub fn blames<T: std::fmt::Debug>(result: &Result<T, Error>, tag: &ConsumerTag) -> bool {
    matches!(result, Err(Error::Timeout { in_the_way: Some(consumer), .. }) if consumer == tag)
}
