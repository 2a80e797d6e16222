//! # Chapter 3: where octets meet a socket
//!
//! One task per connection, one loop, the same for client and broker. The `select!` has five arms and there is no
//! other `.await` in it: a loop that waits for a write cannot read, and two peers that both wait for a write wait for
//! ever; a loop that waits for a slow consumer sends no heartbeats.
//!
//! ```text
//!           ┌───────────────────────────── loop ─────────────────────────────┐
//!  socket ─▶│ read ─▶ inbound ─▶ core.receive ─▶ events ─▶ application       │
//!  socket ◀─│ write ◀─ outbound ◀─ core.transmit ◀─ core.send ◀─ commands    │
//!           │ timer ─▶ core.tick                bell: there may be room again│
//!           └────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Memory is bounded in both directions. Out: above `HIGH_WATER` unsent octets no command is taken, so whoever
//! sends waits. In: while the application has no room nothing is read, so the peer waits; our heartbeats go on
//! (HB-8), and the peer is not called dead for what we did not listen to. The same holds while a peer leaves what we
//! answered unread. One that takes nothing of what waits for it is dropped once the application's patience is over
//! (SEC-10).
//!
//! A burst leaves in one write: whoever is taken from the queue of commands takes the others along.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};

use crate::protocol::{Cause, Connection, Event};

/// Octets that may wait for the socket before whoever produces more has to wait too.
pub(crate) const HIGH_WATER: usize = 256 * 1024;

/// Room for one read. A body is a slice of this, so it is also what a kept slice pins.
const READ_BUFFER: usize = 64 * 1024;

/// A read gets a fresh buffer when less room than this is left. Before the connection is open no more than this is ever
/// needed, and somebody who only connects should not cost us more. SEC-7
const LEAST_ROOM: usize = 4 * 1024;

/// Commands taken at once: as many as may wait.
const BATCH: usize = 1024;

/// How long the last octets may take, and how long a socket that cannot be written is still read. HDR-6
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What sits on a core: the session of a client, or of a broker.
pub(crate) trait Application: Send {
    /// What its users ask of it.
    type Command: Send;

    /// Octets came, which is a sign of life whatever they are (HB-3). Once for each read, not for each frame.
    fn on_read(&mut self) {}

    /// Something happened.
    fn on_event(&mut self, core: &mut Connection, event: Event);

    /// Waits for commands and appends at most `most` of them. Cancel safe.
    fn commands(
        &mut self,
        batch: &mut Vec<Self::Command>,
        most: usize,
    ) -> impl Future<Output = usize> + Send;

    /// One of them. None at all means that nobody is left to give any.
    fn on_command(&mut self, core: &mut Connection, command: Option<Self::Command>);

    /// Whether what is read next has somewhere to go; `unsent` octets wait for the socket.
    fn has_room(&mut self, unsent: usize) -> bool;

    /// Rings when there may be room again, or less patience.
    fn bell(&self) -> Arc<Notify>;

    /// How long the peer may take nothing of what waits for it, if not for ever.
    fn patience(&self) -> Option<Duration>;

    /// Everything there was to send is in the socket.
    fn on_flushed(&mut self) {}
}

/// Runs one connection to its end.
pub(crate) async fn drive<R, W, A>(mut reader: R, mut writer: W, core: Connection, app: A)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    A: Application,
{
    let mut this = Driver::new(core, app);
    let bell = this.app.bell();
    let mut batch = Vec::new();
    let timer = sleep_until(Instant::now() + Duration::from_hours(1));
    tokio::pin!(timer);

    while let Turn::Wait { reading, due } = this.turn(&mut writer) {
        // Activity moves the deadline all the time, so the timer is only moved when it would be late.
        if let Some(due) = due.filter(|due| timer.is_elapsed() || *due < timer.deadline()) {
            timer.as_mut().reset(due);
        }
        let listening = this.listening && this.commands.is_empty();
        let writing = !this.outbound.is_empty();
        tokio::select! {
            read = reader.read_buf(&mut this.inbound), if reading => this.read(read),
            wrote = writer.write_buf(&mut this.outbound), if writing => this.trouble.wrote(wrote),
            taken = this.app.commands(&mut batch, BATCH), if listening => this.take(taken, &mut batch),
            () = bell.notified(), if !reading || writing => {}
            () = timer.as_mut(), if due.is_some() => {}
        }
    }
    this.say_goodbye(writer).await;
}

/// A connection's core, what sits on it, and what is on its way between them and the socket.
struct Driver<A: Application> {
    core: Connection,
    app: A,
    inbound: BytesMut,
    outbound: BytesMut,
    /// Taken from the queue, and not yet done. `None` is the end of them.
    commands: VecDeque<Option<A::Command>>,
    /// Whether there may be more in the queue.
    listening: bool,
    /// Octets that what the peer said has made us answer since the socket last took everything.
    answers: usize,
    trouble: Trouble,
}

/// What is to be done after a turn.
enum Turn {
    /// Wait for whatever comes first; `due` is when to look at the clock.
    Wait {
        reading: bool,
        due: Option<Instant>,
    },
    Over,
}

impl<A: Application> Driver<A> {
    fn new(core: Connection, app: A) -> Self {
        let (inbound, outbound) = (BytesMut::new(), BytesMut::new());
        let (commands, trouble) = (VecDeque::new(), Trouble::default());
        Self {
            core,
            app,
            inbound,
            outbound,
            commands,
            listening: true,
            answers: 0,
            trouble,
        }
    }

    /// Does everything that needs no waiting: the time, what users ask for, what the peer said, and a first attempt to
    /// write what has gathered.
    fn turn<W: AsyncWrite + Unpin>(&mut self, writer: &mut W) -> Turn {
        loop {
            self.core.tick(Instant::now().into_std());
            self.obey();
            let reading = self.understand();
            self.core.watch(reading);
            let waited = self.unsent() > 0;
            let given_up = self.write(writer);
            if self.core.is_over() {
                return Turn::Over;
            }
            if self.outbound.is_empty() {
                self.flushed();
                let (unread, unsaid) = (!reading && waited, self.core.unsent() > 0);
                if unread || unsaid || !self.commands.is_empty() {
                    continue; // what had to wait for room has it now
                }
            }
            if self.inbound.capacity() - self.inbound.len() < LEAST_ROOM {
                let is_open = self.core.is_open();
                let room = if is_open { READ_BUFFER } else { LEAST_ROOM };
                self.inbound.reserve(room);
            }
            let due = self.core.deadline().map(Instant::from_std);
            return Turn::Wait {
                reading,
                due: [due, given_up].into_iter().flatten().min(),
            };
        }
    }

    /// Does what users ask for, as long as it has room.
    fn obey(&mut self) {
        while self.unsent() < HIGH_WATER
            && let Some(command) = self.commands.pop_front()
        {
            self.app.on_command(&mut self.core, command);
            self.tell(); // a close among the commands is the answer to those behind it
        }
    }

    /// Takes frames off `inbound` one by one, as long as what they bring has somewhere to go, and what we answer as well:
    /// a peer that asks and asks and reads nothing is not heard any more. SEC-10
    fn understand(&mut self) -> bool {
        self.tell();
        loop {
            // A connection that is closing goes on reading, and discards (CLOSE-2).
            let room = self.answers < HIGH_WATER && self.app.has_room(self.unsent());
            if !room && !self.core.is_closing() {
                return false;
            }
            let before = self.core.unsent();
            let received = self.core.receive(&mut self.inbound);
            self.tell();
            self.answers += self.core.unsent().saturating_sub(before);
            if !received {
                return true;
            }
        }
    }

    /// Octets that wait for the socket.
    fn unsent(&self) -> usize {
        self.outbound.len() + self.core.unsent()
    }

    /// Everything there was to send is in the socket.
    fn flushed(&mut self) {
        self.answers = 0;
        if self.outbound.capacity() > HIGH_WATER {
            self.outbound = BytesMut::new(); // a message of 16 MiB would leave its room behind
        }
        self.app.on_flushed();
    }

    /// Tells the application all that has happened.
    fn tell(&mut self) {
        while let Some(event) = self.core.poll_event() {
            self.app.on_event(&mut self.core, event);
        }
    }

    /// The socket nearly always takes at once what there is; the arm of the `select!` is for when it does not. Returns
    /// when a socket that takes nothing is given up.
    fn write<W: AsyncWrite + Unpin>(&mut self, writer: &mut W) -> Option<Instant> {
        if self.outbound.is_empty() {
            self.core.transmit(&mut self.outbound);
        }
        if !self.outbound.is_empty()
            && let Poll::Ready(wrote) = at_once(writer.write_buf(&mut self.outbound))
        {
            self.trouble.wrote(wrote);
        }
        self.trouble
            .look(&mut self.core, &mut self.outbound, self.app.patience())
    }

    fn take(&mut self, taken: usize, batch: &mut Vec<A::Command>) {
        self.listening = taken > 0;
        self.commands.extend(batch.drain(..).map(Some));
        if !self.listening {
            self.commands.push_back(None);
        }
    }

    /// The stream may have ended. RabbitMQ ends it with a reset as often as not, which says no more than an end does
    /// (CLOSE-12), and neither does a write that failed before: when it ended tells more (CONN-16).
    fn read(&mut self, read: io::Result<usize>) {
        match read {
            Ok(1..) => self.app.on_read(),
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => {
                self.core.end(Cause::Io(error.to_string()));
            }
            _ => self.core.end_of_stream(&mut self.inbound),
        }
    }

    async fn say_goodbye<W: AsyncWrite + Unpin>(mut self, mut writer: W) {
        self.tell();
        self.commands.clear(); // whoever gave them hears of the end now
        self.core.transmit(&mut self.outbound);
        let _ = timeout(LAST_WORDS, async {
            writer.write_all_buf(&mut self.outbound).await?;
            writer.shutdown().await
        })
        .await;
    }
}

/// Polls a future once, and does not come back to it.
fn at_once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// What is wrong with writing, and how long we put up with it.
#[derive(Default)]
struct Trouble {
    /// Nothing can be written any more. What is still to be read may say why.
    broken: Option<(Cause, Instant)>,
    /// Since when the socket has taken nothing.
    stuck: Option<Instant>,
}

impl Trouble {
    fn wrote(&mut self, wrote: io::Result<usize>) {
        self.stuck = None;
        let cause = match wrote {
            Ok(1..) => return,
            Ok(0) => io::ErrorKind::WriteZero.to_string(),
            Err(error) => error.to_string(),
        };
        self.broken = Some((Cause::Io(cause), Instant::now() + LAST_WORDS));
    }

    /// Ends the connection if it is time for that, or says when it will be.
    fn look(
        &mut self,
        core: &mut Connection,
        outbound: &mut BytesMut,
        patience: Option<Duration>,
    ) -> Option<Instant> {
        let now = Instant::now();
        if let Some((cause, until)) = &self.broken {
            outbound.clear();
            if *until <= now {
                core.end(cause.clone());
            }
            return Some(*until);
        }
        let Some(limit) = patience.filter(|_| !outbound.is_empty()) else {
            self.stuck = None;
            return None;
        };
        let until = *self.stuck.get_or_insert(now) + limit;
        if until <= now {
            let silence = limit.as_secs();
            core.end(Cause::Io(format!(
                "the peer has read nothing for {silence} s"
            )));
        }
        Some(until)
    }
}
