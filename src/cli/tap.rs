//! # The tap: at a socket, it hears what crosses it
//!
//! ```text
//! program ◀══▶ tap ◀══▶ socket        octets pass as they come, in pieces or in heaps
//!               └─▶ conversation      and are heard on the way; one of them may come out inverted
//! ```
//!
//! A connection is driven over any reader and writer, so a tap is one of each, and no other layer knows of it.
//!
//! Read next: [`conversation`](super::conversation).

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::conversation::{Direction, Speaker};

/// Reads from a socket, and tells what comes.
#[derive(Debug)]
pub struct TapReader<R> {
    inner: R,
    speaker: Arc<Speaker>,
}

/// Writes to a socket, and tells what goes.
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
        let read = ready!(Pin::new(&mut self.inner).poll_read(cx, buf));
        let octets = buf.filled().get(before..).unwrap_or_default();
        if octets.is_empty() {
            self.speaker.hung_up();
        } else {
            self.speaker.crossed(Direction::FromBroker, octets);
        }
        Poll::Ready(read)
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for TapWriter<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = match self.speaker.flipped(octets) {
            Some(flipped) => Pin::new(&mut self.inner).poll_write(cx, &flipped),
            None => Pin::new(&mut self.inner).poll_write(cx, octets),
        };
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
