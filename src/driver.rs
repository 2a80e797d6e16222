//! # Part 3: where octets meet a socket
//!
//! One task per connection, one loop, the same for client and broker. It waits for five things at once and never for one
//! of them alone: a loop that waits for a write cannot read, and two peers that both wait for a write wait for ever; a
//! loop that waits for a slow consumer sends no heartbeats.
//!
//! ```text
//!           ┌───────────────────────────── loop ─────────────────────────────┐
//!  socket ─▶│ read ─▶ inbound ─▶ core.receive ─▶ events ─▶ application       │
//!  socket ◀─│ write ◀─ outbound ◀─ core.transmit ◀─ core.send ◀─ commands    │
//!           │ timer ─▶ core.tick                bell: there may be room again│
//!           └────────────────────────────────────────────────────────────────┘
//! ```
//!
//! What a `select!` over five futures would do is written out, in `Driver::poll`: whatever is ready is taken, then comes
//! one turn for all of it, and what has said "not yet" is not asked again before it wakes the task. A call of one
//! message costs half as much that way.
//!
//! Memory is bounded in both directions. Out: above `HIGH_WATER` unsent octets no command is taken, so whoever
//! sends waits. In: while the application has no room nothing is read, so the peer waits; our heartbeats go on
//! (HB-8), and the peer is not called dead for what we did not listen to. The same holds while a peer leaves what we
//! answered unread. One that takes nothing of what waits for it is dropped once the application's patience is over
//! (SEC-10).
//!
//! A burst leaves in one write: all commands that wait are obeyed before it.
//!
//! Read next: chapter 4, [`client`](crate::client). Explained in `docs/12-inside.md`.

mod awake;
mod trouble;

use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{Notify, futures::OwnedNotified},
    time::{Instant, Sleep, sleep_until, timeout},
};

use self::{
    awake::{Arm, Awake},
    trouble::Trouble,
};
use crate::protocol::{Cause, Connection, Event};

/// Octets that may wait for the socket before whoever produces more has to wait too.
pub(crate) const HIGH_WATER: usize = 256 * 1024;

/// Room for one read. A body is a slice of this, so it is also what a kept slice pins.
const READ_BUFFER: usize = 64 * 1024;

/// A read gets a fresh buffer when less room than this is left. Before the connection is open no more than this is ever
/// needed, and somebody who only connects should not cost us more. SEC-7
const LEAST_ROOM: usize = 4 * 1024;

/// How long the last octets may take, and how long a socket that cannot be written is still read. HDR-6
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What sits on a core: the session of a client, or of a broker.
pub(crate) trait Application: Send {
    /// What its users ask of it.
    type Command: Send;

    /// Octets came, which is a sign of life whatever they are (HB-3). Not for each frame, and not even for each read.
    fn on_read(&mut self, _now: Instant) {}

    /// Something happened.
    fn on_event(&mut self, core: &mut Connection, event: Event);

    /// The next command, or `None` once nobody is left to give any.
    fn poll_command(&mut self, context: &mut Context<'_>) -> Poll<Option<Self::Command>>;

    /// What [`poll_command`](Self::poll_command) said.
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
pub(crate) async fn drive<R, W, A>(reader: R, writer: W, core: Connection, app: A)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    A: Application,
{
    let mut driver = Driver::new(reader, writer, core, app);
    poll_fn(|context| driver.poll(context)).await;
    driver.say_goodbye().await;
}

/// A connection's core, what sits on it, and what is on its way between them and the socket.
#[allow(clippy::struct_excessive_bools)] // four facts, each of which may be so or not whatever the others are
struct Driver<R, W, A> {
    reader: R,
    writer: W,
    core: Connection,
    app: A,
    inbound: BytesMut,
    outbound: BytesMut,
    /// The writer has octets that it may be holding back, as one that encrypts does.
    unflushed: bool,
    /// Octets came, and the application has not heard of it yet.
    heard: bool,
    /// Whether there may be more commands.
    listening: bool,
    /// Whether what is read next has somewhere to go.
    reading: bool,
    /// When to look at the clock, and what rings then or earlier.
    due: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    bell: Pin<Box<OwnedNotified>>,
    /// Octets that what the peer said has made us answer since the socket last took everything.
    answers: usize,
    trouble: Trouble,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin, A: Application> Driver<R, W, A> {
    fn new(reader: R, writer: W, core: Connection, app: A) -> Self {
        let bell = Box::pin(app.bell().notified_owned());
        Self {
            reader,
            writer,
            core,
            app,
            inbound: BytesMut::new(),
            outbound: BytesMut::new(),
            unflushed: false,
            heard: false,
            listening: true,
            reading: true,
            due: None,
            timer: Box::pin(sleep_until(Instant::now())),
            bell,
            answers: 0,
            trouble: Trouble::default(),
        }
    }

    /// Takes whatever is ready and does what follows from it, until nothing is. Ready itself once the connection is over.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut awake = Awake::new(context);
        self.wait(&mut awake);
        loop {
            self.turn(&mut awake);
            if self.core.is_over() {
                return Poll::Ready(());
            }
            if !self.wait(&mut awake) {
                return Poll::Pending;
            }
        }
    }

    /// Asks the reader, the bell and the timer; the other two are asked in a turn. Says whether any of them is ready.
    fn wait(&mut self, awake: &mut Awake<'_, '_>) -> bool {
        let Self {
            reader,
            inbound,
            bell,
            timer,
            ..
        } = self;
        let (mut time, mut room, mut read) = (None, None, None);
        if self.due.is_some() {
            time = awake.ask(Arm::Timer, |context| timer.as_mut().poll(context));
        }
        if !self.reading || !self.outbound.is_empty() {
            room = awake.ask(Arm::Bell, |context| bell.as_mut().poll(context));
        }
        if self.reading {
            read = awake.ask(Arm::Read, |context| {
                pin!(reader.read_buf(inbound)).poll(context)
            });
        }
        let ready = time.is_some() || room.is_some() || read.is_some();
        if room.is_some() {
            self.bell.set(self.app.bell().notified_owned());
        }
        if let Some(read) = read {
            self.read(read);
        }
        ready
    }

    /// Does everything that needs no waiting: the time, what users ask for, what the peer said, and an attempt to write
    /// what has gathered.
    fn turn(&mut self, awake: &mut Awake<'_, '_>) {
        loop {
            let now = Instant::now();
            if std::mem::take(&mut self.heard) {
                self.app.on_read(now);
            }
            self.core.tick(now.into_std());
            let all_done = self.obey(awake);
            self.reading = self.understand();
            self.core.watch(self.reading);
            let waited = self.unsent() > 0;
            let given_up = self.write(awake, now);
            if self.core.is_over() {
                return;
            }
            if self.outbound.is_empty() && !self.unflushed {
                self.flushed();
                let (unread, unsaid) = (!self.reading && waited, self.core.unsent() > 0);
                if unread || unsaid || !all_done {
                    continue; // what had to wait for room has it now
                }
            }
            if self.inbound.capacity() - self.inbound.len() < LEAST_ROOM {
                let is_open = self.core.is_open();
                let room = if is_open { READ_BUFFER } else { LEAST_ROOM };
                self.inbound.reserve(room);
            }
            let due = self.core.deadline().map(Instant::from_std);
            return self.wind(awake, [due, given_up].into_iter().flatten().min());
        }
    }

    /// Sets the timer. Activity moves the deadline all the time, so it is only moved when it would be late.
    fn wind(&mut self, awake: &mut Awake<'_, '_>, due: Option<Instant>) {
        self.due = due;
        let timer = self.timer.as_mut();
        if let Some(due) = due.filter(|due| timer.is_elapsed() || *due < timer.deadline()) {
            timer.reset(due);
            awake.ask_again(Arm::Timer);
        }
    }

    /// Does what users ask for, and says whether there was room for all of it.
    fn obey(&mut self, awake: &mut Awake<'_, '_>) -> bool {
        while self.listening {
            if self.unsent() >= HIGH_WATER {
                return false;
            }
            let app = &mut self.app;
            let Some(command) = awake.ask(Arm::Commands, |context| app.poll_command(context))
            else {
                break;
            };
            self.listening = command.is_some();
            self.app.on_command(&mut self.core, command);
            self.tell(); // a close among the commands is the answer to those behind it
        }
        true
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

    /// Gives the socket what there is, which it nearly always takes at once. Returns when a socket that takes nothing is
    /// given up.
    fn write(&mut self, awake: &mut Awake<'_, '_>, now: Instant) -> Option<Instant> {
        if self.outbound.is_empty() {
            self.core.transmit(&mut self.outbound);
        }
        let Self {
            writer, outbound, ..
        } = self;
        while !outbound.is_empty()
            && self.trouble.may_write()
            && let Some(wrote) = awake.ask(Arm::Write, |context| {
                pin!(writer.write_buf(outbound)).poll(context)
            })
        {
            self.trouble.wrote(wrote);
            self.unflushed = self.trouble.may_write();
        }
        if self.unflushed
            && outbound.is_empty()
            && let Some(done) = awake.ask(Arm::Write, |context| pin!(writer.flush()).poll(context))
        {
            self.unflushed = false;
            if let Err(error) = done {
                self.trouble.wrote(Err(error));
            }
        }
        let waits = !outbound.is_empty() || self.unflushed;
        let patience = self.app.patience().filter(|_| waits);
        self.trouble
            .look(&mut self.core, &mut self.outbound, patience, now)
    }

    /// The stream may have ended. RabbitMQ ends it with a reset as often as not, which says no more than an end does
    /// (CLOSE-12), and neither does a write that failed before: when it ended tells more (CONN-16).
    fn read(&mut self, read: io::Result<usize>) {
        match read {
            Ok(1..) => self.heard = true,
            Err(error) if error.kind() != io::ErrorKind::ConnectionReset => {
                self.core.end(Cause::Io(error.to_string()));
            }
            _ => self.core.end_of_stream(&mut self.inbound),
        }
    }

    async fn say_goodbye(&mut self) {
        self.tell();
        self.core.transmit(&mut self.outbound);
        let _ = timeout(LAST_WORDS, async {
            self.writer.write_all_buf(&mut self.outbound).await?;
            self.writer.shutdown().await
        })
        .await;
    }
}
