//! A tap between a program and its socket, which prints what crosses it, frame by frame.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use anstyle::{AnsiColor, Style};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::say;
use crate::codec::{Frame, FrameDecoder, Method, PROTOCOL_HEADER, Payload, Redact, annotate};

/// Who talks to the broker, and how it is shown.
#[derive(Debug)]
pub struct Speaker {
    name: &'static str,
    style: Style,
    hex: bool,
    /// What has not made a whole frame yet: sent, received.
    partial: Mutex<[BytesMut; 2]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    ToBroker,
    FromBroker,
}

impl Speaker {
    /// A speaker whose conversation is printed in `color`, with `hex` down to the octets.
    pub fn new(name: &'static str, color: AnsiColor, hex: bool) -> Arc<Self> {
        Arc::new(Self {
            name,
            style: color.on_default(),
            hex,
            partial: Mutex::default(),
        })
    }

    fn crossed(&self, direction: Direction, octets: &[u8]) {
        let mut partial = self.partial.lock().unwrap_or_else(PoisonError::into_inner);
        let partial = match (direction, &mut *partial) {
            (Direction::ToBroker, [sent, _]) => sent,
            (Direction::FromBroker, [_, received]) => received,
        };
        partial.extend_from_slice(octets);
        while let Some(unit) = next_unit(partial) {
            self.print(direction, unit);
        }
    }

    fn print(&self, direction: Direction, octets: Bytes) {
        let arrow = match direction {
            Direction::ToBroker => "──▶ broker",
            Direction::FromBroker => "◀── broker",
        };
        let (channel, what) = describe(&octets);
        let (style, dim) = (self.style, Style::new().dimmed());
        say(format_args!(
            "  {style}{:<6} {arrow}{style:#}  {dim}{channel:<9}{dim:#}  {what}",
            self.name
        ));
        if self.hex {
            // The demo's own guest/guest are no secret.
            for line in annotate(octets, Redact::Nothing).to_string().lines() {
                say(format_args!("{dim}           {line}{dim:#}"));
            }
        }
    }
}

/// The octets of the next protocol header or whole frame.
fn next_unit(partial: &mut BytesMut) -> Option<Bytes> {
    if partial.starts_with(&PROTOCOL_HEADER) {
        return Some(partial.split_to(PROTOCOL_HEADER.len()).freeze());
    }
    let size = partial.get(3..7)?.try_into().ok().map(u32::from_be_bytes)?;
    let length = usize::try_from(size).ok()?.checked_add(8)?;
    (partial.len() >= length).then(|| partial.split_to(length).freeze())
}

/// The lane, and what is said on it.
fn describe(octets: &Bytes) -> (String, String) {
    let mut decoder = FrameDecoder::new();
    decoder.set_limits(1 << 24, 1 << 24);
    match decoder.decode(&mut BytesMut::from(octets.as_ref())) {
        _ if **octets == PROTOCOL_HEADER => (String::new(), "protocol header  AMQP 0-9-1".into()),
        Ok(Some(Frame { channel, payload })) => (format!("channel {channel}"), summary(&payload)),
        Ok(None) | Err(_) => (
            String::new(),
            format!("{} octets that are no frame", octets.len()),
        ),
    }
}

/// The fields that matter.
fn summary(payload: &Payload) -> String {
    let bold = Style::new().bold();
    match payload {
        Payload::Method(method) => {
            let said = fields_that_matter(method);
            let (name, fields) = said.split_once(' ').unwrap_or((&said, ""));
            format!("{bold}{name}{bold:#}  {fields}")
                .trim_end()
                .to_owned()
        }
        Payload::Header(_) | Payload::Body(_) => format!("  {payload}"),
        Payload::Heartbeat => format!("{bold}heartbeat{bold:#}"),
    }
}

fn fields_that_matter(method: &Method) -> String {
    let product = |properties: &crate::codec::FieldTable| {
        let text = |key| {
            properties
                .get(key)
                .and_then(|value| value.as_long_string())
                .unwrap_or_default()
                .escape_ascii()
        };
        format!("{} {}", text("product"), text("version"))
    };
    match method {
        Method::ConnectionStart(start) => {
            format!(
                "{} I am {}; log in with {}",
                method.name(),
                product(&start.server_properties),
                start.mechanisms
            )
        }
        Method::ConnectionStartOk(ok) => {
            let who = product(&ok.client_properties);
            format!(
                "{} I am {who}; {}, my password is (hidden)",
                method.name(),
                ok.mechanism
            )
        }
        other => other.to_string(),
    }
}

/// Reads from a socket, and prints what comes.
#[derive(Debug)]
pub struct TapReader<R> {
    inner: R,
    speaker: Arc<Speaker>,
}

/// Writes to a socket, and prints what goes.
#[derive(Debug)]
pub struct TapWriter<W> {
    inner: W,
    speaker: Arc<Speaker>,
}

/// Puts the tap between a speaker and its socket.
pub fn tap<R, W>(reader: R, writer: W, speaker: &Arc<Speaker>) -> (TapReader<R>, TapWriter<W>) {
    let reader = TapReader {
        inner: reader,
        speaker: speaker.clone(),
    };
    (
        reader,
        TapWriter {
            inner: writer,
            speaker: speaker.clone(),
        },
    )
}

impl<R: AsyncRead + Unpin> AsyncRead for TapReader<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.speaker.crossed(
            Direction::FromBroker,
            buf.filled().get(before..).unwrap_or_default(),
        );
        poll
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for TapWriter<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.inner).poll_write(cx, octets);
        if let Poll::Ready(Ok(written)) = &poll {
            self.speaker.crossed(
                Direction::ToBroker,
                octets.get(..*written).unwrap_or_default(),
            );
        }
        poll
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
