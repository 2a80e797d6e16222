//! # A thread of its own: nothing else can keep a connection from its heartbeats
//!
//! ```text
//! one thread for all   ♥  ♥  a handler computes for two minutes │ two intervals of silence: the broker hangs up (HB-4)
//! one for itself       ♥  ♥  ♥  ♥  ♥  ♥  ♥  ♥  ♥  ♥  ♥  ♥  ♥   whatever the handler does
//! ```
//!
//! A task that blocks its thread blocks every task that waits for the same thread, the connection's among them. That is
//! a mistake of the handler's, and a usual one; the connection need not pay for it (HB-8).
//!
//! Read next: [`error`](super::error). Explained in `docs/10-heartbeats.md`.

use std::{io, thread};

use tokio::{net::TcpStream, runtime::Runtime};

/// The name of the thread, as debuggers and `top -H` show it.
const NAME: &str = "amqp";

/// What the connection's task runs on: here, with everybody else, or alone.
#[derive(Debug)]
pub(super) enum Place {
    Here,
    Alone(Own),
}

/// A runtime that may be dropped inside another one, where a plain one would panic: it waits for nobody to end.
#[derive(Debug)]
pub(super) struct Own(Option<Runtime>);

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Place {
    pub(super) fn new(alone: bool) -> io::Result<Self> {
        if !alone {
            return Ok(Self::Here);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        Ok(Self::Alone(Own(Some(runtime))))
    }

    /// A socket is woken by the runtime it was made in, which must be that of its reader.
    pub(super) fn adopt(&self, stream: TcpStream) -> io::Result<TcpStream> {
        match self {
            Self::Here => Ok(stream),
            Self::Alone(Own(runtime)) => {
                let stream = stream.into_std()?;
                let _inside = runtime.as_ref().map(Runtime::enter);
                TcpStream::from_std(stream)
            }
        }
    }

    /// Runs the task to its end.
    pub(super) fn run(self, task: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
        match self {
            Self::Here => {
                tokio::spawn(task);
            }
            Self::Alone(own) => {
                let run = move || own.0.as_ref().map(|runtime| runtime.block_on(task));
                thread::Builder::new().name(NAME.into()).spawn(run)?;
            }
        }
        Ok(())
    }
}
