//! A reference model of one conversation, and the two cores it is compared with.
//!
//! ```text
//!    application          ┌────────────┐  Transit: octets on their way   ┌────────────┐          application
//!    of the client ─────► │ Connection │ ─────────────────────────────► │ Connection │ ◄───── of the broker
//!                         └─────┬──────┘ ◄───────────────────────────── └─────┬──────┘
//!                  the same?    │                                             │    the same?
//!                         ┌─────┴──────┐                                ┌─────┴──────┐
//!                         │    End     │                                │    End     │
//!                         └────────────┘                                └────────────┘
//! ```
//!
//! An [`End`] is one side of the protocol without octets, buffers and time: it hears a frame and says which frames go
//! out and what its application is told. It is short enough to be read in one sitting, and it is the whole rule of who
//! may say what when: start at [`End::hear`].
//!
//! Every [`Action`] can be taken at any time. Where it is illegal, the model says which refusal or which close follows.
//! After each action what a core did has to be what its `End` did, line by line.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use amqp_rpc::{
    codec::{method::Sender, *},
    protocol::{
        Cause, ClientConfig, CloseReason, Connection, Event, Ledger, ServerConfig, Tuning,
        Violation,
    },
};
use bytes::{Bytes, BytesMut};

/// Small limits, so that a short script reaches them.
const CHANNEL_MAX: u16 = 3;
const FRAME_MAX: u32 = 4096;
const BODY_LIMIT: usize = 5000;

/// Sizes of bodies where something changes: none, one frame, a full frame, two frames, the limit, too large.
pub(crate) const SIZES: [usize; 6] = [0, 1, 4088, 4089, BODY_LIMIT, BODY_LIMIT + 1];

/// Who does something.
#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Broker,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Client => Self::Broker,
            Self::Broker => Self::Client,
        }
    }
}

/// Something that an application, the network or a liar does. Channels are 1 to 3; what they name need not exist.
#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// The client opens a channel.
    Open,
    /// The client asks for something.
    Ask(u8, Request),
    /// The client publishes a body of one of the [`SIZES`].
    Publish(u8, u8),
    /// The client acknowledges one of the deliveries it holds, perhaps with all before it.
    Ack(u8, u8, bool),
    /// The broker answers the oldest request it has heard on the channel.
    Answer(u8),
    /// The broker delivers a body of one of the [`SIZES`].
    Deliver(u8, u8),
    CloseChannel(Side, u8),
    Close(Side),
    /// An application asks its core for what may not be said.
    Misuse(Side, u8),
    /// Octets that no core would send reach the other side behind those that are on their way.
    Lie(Side, u8, Lie),
    /// So many frames of this side arrive, and a part of the next one, in pieces of so many octets.
    Carry(Side, u8, u16),
    /// Seconds pass.
    Wait(u8),
    /// The socket of this side is gone, once all it said has arrived.
    HangUp(Side),
}

#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
#[derive(Debug, Clone, Copy)]
pub(crate) enum Request {
    Declare,
    DeclareNoWait,
    Get,
    Qos,
    Flow,
}

/// What no core of ours says: some of it is legal all the same.
#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lie {
    /// A method of class connection on a channel. FRAME-15
    ConnectionMethod,
    /// A method for which the listener is the sender. METH-4
    WrongDirection,
    /// A reply that nobody asked for. METH-9
    Unasked,
    /// channel.open, whatever is open already. CHAN-3, CHAN-4
    Open,
    /// channel.close-ok, whether or not it is owed. CHAN-13
    CloseOk,
    /// A queue.declare on channel 0. FRAME-16
    OnChannelZero,
    /// A header without its method. CONTENT-8
    Header,
    /// A content whose second body is too long. CONTENT-5
    TooMuch,
    /// A content with a method of its own channel inside. CONTENT-7
    Interrupted,
    /// A content with a heartbeat and another channel's content inside, which is legal. CONTENT-1, HB-9
    Interleaved,
    /// A method that nobody knows. METH-2
    UnknownMethod,
    /// A heartbeat on a channel. FRAME-20
    Heartbeat,
    /// A wrong frame-end, after which nothing can be understood. FRAME-3, FRAME-13
    FrameEnd,
}

// ---- the model ---------------------------------------------------------------------------------------------------

/// What is on the wire: a frame, or octets that are none and the code they earn.
#[derive(Debug, Clone)]
enum Line {
    Frame(Frame),
    /// A payload that cannot be decoded: the next frame can.
    Malformed(ReplyCode),
    /// The end of all understanding.
    Broken,
}

/// What one side did: frames that went out, and what its application was told, each as a line of text.
#[derive(Debug, Default, PartialEq)]
struct Done {
    said: Vec<String>,
    told: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// Our close is out. CLOSE-2
    Closing,
    /// A broker that answered a close and waits for the client to hang up. CLOSE-7
    Lingering,
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LaneStage {
    Opening,
    Open,
    Closing,
}

/// What may come next on a channel. CONTENT-7 to CONTENT-9
#[derive(Debug, Clone, PartialEq)]
enum Due {
    Method,
    Header(Method),
    /// So many octets are left of a body; false if it is thrown away when it is complete.
    Body(Method, u64, u64, bool),
}

#[derive(Debug)]
struct Lane {
    stage: LaneStage,
    due: Due,
    /// The requests that wait for a reply, the oldest first. METH-6
    owed: VecDeque<Method>,
}

/// One side of a conversation, after the handshake.
#[derive(Debug)]
struct End {
    side: Side,
    stage: Stage,
    lanes: BTreeMap<u16, Lane>,
    /// The frame-end was wrong: whatever comes is noise. FRAME-13
    deaf: bool,
    now: u64,
    /// When the wait for a close-ok, or for the end of the stream, is over. CLOSE-7, CLOSE-8
    until: Option<u64>,
    done: Done,
}

impl End {
    fn new(side: Side) -> Self {
        Self {
            side,
            stage: Stage::Open,
            lanes: BTreeMap::new(),
            deaf: false,
            now: 0,
            until: None,
            done: Done::default(),
        }
    }

    /// A frame arrives.
    fn hear(&mut self, line: &Line) {
        if self.deaf || self.stage == Stage::Over {
            return;
        }
        let frame = match line {
            Line::Frame(frame) => frame,
            Line::Malformed(code) if self.stage == Stage::Open => return self.hard(*code),
            Line::Malformed(_) => return, // CLOSE-3
            Line::Broken => {
                self.deaf = true;
                if self.stage == Stage::Open {
                    self.hard(ReplyCode::FRAME_ERROR);
                    self.until = Some(self.now + 3); // ERR-7
                }
                return;
            }
        };
        match (self.stage, frame.channel.0, &frame.payload) {
            (_, _, Payload::Heartbeat) => {} // HB-7
            (Stage::Open, 0, Payload::Method(Method::ConnectionClose(close))) => {
                self.say(0, &ConnectionCloseOk {}.into());
                self.tell(format!("closed by the peer: {}", close.reply_code));
                self.lanes.clear();
                match self.side {
                    Side::Client => self.over(), // CLOSE-6
                    Side::Broker => self.wait(Stage::Lingering, 10),
                }
            }
            (Stage::Open, 0, Payload::Method(_)) => self.hard(ReplyCode::CHANNEL_ERROR), // CONN-11
            (Stage::Open, 0, _) => self.hard(ReplyCode::UNEXPECTED_FRAME),
            (Stage::Open, channel, payload) => self.hear_lane(channel, payload),
            // CLOSE-2: after our close, everything is discarded but these two.
            (_, 0, Payload::Method(Method::ConnectionClose(_))) => {
                self.say(0, &ConnectionCloseOk {}.into()); // CLOSE-5, CLOSE-9
            }
            (_, 0, Payload::Method(Method::ConnectionCloseOk(_))) => self.over(),
            _ => {}
        }
    }

    /// A frame on a channel: nothing may come between the frames of a content.
    fn hear_lane(&mut self, channel: u16, payload: &Payload) {
        if matches!(payload, Payload::Method(method) if method.id().class == 10) {
            return self.hard(ReplyCode::COMMAND_INVALID); // FRAME-15
        }
        let full = self.lanes.len() >= usize::from(CHANNEL_MAX);
        let Some(lane) = self.lanes.get_mut(&channel) else {
            let opens = matches!(payload, Payload::Method(Method::ChannelOpen(_)));
            return match (opens && self.side == Side::Broker, full) {
                (false, _) => self.hard(ReplyCode::CHANNEL_ERROR), // CHAN-2
                (true, true) => self.hard(ReplyCode::NOT_ALLOWED), // CHAN-4
                (true, false) => {
                    self.lanes.insert(channel, Lane::new(LaneStage::Open));
                    self.say(channel, &ChannelOpenOk::default().into());
                    self.tell(format!("{channel} opened"));
                }
            };
        };
        let open = lane.stage == LaneStage::Open;
        match (std::mem::replace(&mut lane.due, Due::Method), payload) {
            (Due::Method, Payload::Method(method)) if method.row().carries_content => {
                lane.due = Due::Header(method.clone());
            }
            (Due::Method, Payload::Method(method)) => self.hear_method(channel, method),
            (Due::Header(method), Payload::Header(header)) => {
                let (size, fits) = (header.body_size, header.body_size <= BODY_LIMIT as u64);
                if size > 0 {
                    lane.due = Due::Body(method.clone(), size, size, open && fits);
                }
                if open && !fits {
                    self.soft(channel, ReplyCode::PRECONDITION_FAILED); // SEC-5, SEC-6
                } else if size == 0 && open {
                    self.hear_content(channel, &method, 0);
                }
            }
            (Due::Body(method, size, left, kept), Payload::Body(octets)) => {
                match left.checked_sub(octets.len() as u64) {
                    None => self.hard(ReplyCode::FRAME_ERROR), // CONTENT-5
                    Some(0) if kept && open => self.hear_content(channel, &method, size),
                    Some(0) => {}
                    Some(left) => lane.due = Due::Body(method, size, left, kept && open),
                }
            }
            _ => self.hard(ReplyCode::UNEXPECTED_FRAME), // CONTENT-7 to CONTENT-9
        }
    }

    /// A whole method that carries nothing.
    fn hear_method(&mut self, channel: u16, method: &Method) {
        use Method as M;
        let Some(lane) = self.lanes.get_mut(&channel) else {
            return;
        };
        match (lane.stage, method) {
            (LaneStage::Closing, M::ChannelClose(_)) => {
                self.say(channel, &ChannelCloseOk {}.into()); // CLOSE-5: our own close-ok is still due
            }
            (LaneStage::Closing, M::ChannelCloseOk(_)) => {
                self.lanes.remove(&channel);
                self.tell(format!("{channel} reply channel.close-ok"));
            }
            (LaneStage::Closing, M::ChannelOpen(_)) => self.hard(ReplyCode::CHANNEL_ERROR), // CHAN-3
            (LaneStage::Closing, _) => {} // CHAN-7, CHAN-9
            _ if self.is_mine(method) => self.hard(ReplyCode::COMMAND_INVALID), // METH-4
            (_, M::ChannelOpen(_)) => self.hard(ReplyCode::CHANNEL_ERROR), // CHAN-3
            (_, M::ChannelClose(close)) => {
                self.lanes.remove(&channel);
                self.say(channel, &ChannelCloseOk {}.into());
                self.tell(format!(
                    "{channel} closed by the peer: {}",
                    close.reply_code
                )); // CHAN-10
            }
            (_, M::ChannelCloseOk(_)) => self.hard(ReplyCode::COMMAND_INVALID), // CHAN-13
            (_, M::ChannelFlow(flow)) if self.side == Side::Broker && !flow.active => {
                self.hard(ReplyCode::NOT_IMPLEMENTED);
            }
            (_, M::ChannelFlow(flow)) => {
                self.say(
                    channel,
                    &ChannelFlowOk {
                        active: flow.active,
                    }
                    .into(),
                ); // CHAN-14
                self.tell(format!("{channel} method channel.flow"));
            }
            (_, method) if method.row().is_reply() => self.hear_reply(channel, method, None),
            (_, method) => self.tell(format!("{channel} method {}", method.name())),
        }
    }

    /// A reply belongs to the oldest request of its channel. METH-6, METH-9
    fn hear_reply(&mut self, channel: u16, reply: &Method, body: Option<u64>) {
        let Some(lane) = self.lanes.get_mut(&channel) else {
            return;
        };
        let oldest = lane.owed.front();
        if !oldest.is_some_and(|request| request.row().replies.contains(&reply.id())) {
            return self.hard(ReplyCode::COMMAND_INVALID);
        }
        lane.owed.pop_front();
        if reply.id() == ChannelOpenOk::ID {
            lane.stage = LaneStage::Open;
        }
        let body = body.map_or(String::new(), |octets| format!(" {octets}"));
        self.tell(format!("{channel} reply {}{body}", reply.name()));
    }

    fn hear_content(&mut self, channel: u16, method: &Method, octets: u64) {
        if self.is_mine(method) {
            self.hard(ReplyCode::COMMAND_INVALID);
        } else if method.row().is_reply() {
            self.hear_reply(channel, method, Some(octets));
        } else {
            self.tell(format!("{channel} content {} {octets}", method.name()));
        }
    }

    fn is_mine(&self, method: &Method) -> bool {
        match method.row().sender {
            Sender::Client => self.side == Side::Client,
            Sender::Broker => self.side == Side::Broker,
            Sender::Both => false,
        }
    }

    /// The peer broke a rule that costs the connection. ERR-2
    fn hard(&mut self, code: ReplyCode) {
        self.say_close(code);
        self.tell(format!("closed: {code}"));
    }

    /// The peer broke a rule that costs the channel. ERR-1
    fn soft(&mut self, channel: u16, code: ReplyCode) {
        if let Some(lane) = self.lanes.get_mut(&channel) {
            lane.stage = LaneStage::Closing;
        }
        self.done
            .said
            .push(format!("{channel} channel.close {code}"));
        self.tell(format!("{channel} closed: {code}"));
    }

    fn say_close(&mut self, code: ReplyCode) {
        self.done.said.push(format!("0 connection.close {code}"));
        self.lanes.clear();
        self.wait(Stage::Closing, 10);
    }

    fn wait(&mut self, stage: Stage, seconds: u64) {
        self.stage = stage;
        self.until = Some(self.now + seconds);
    }

    fn over(&mut self) {
        self.stage = Stage::Over;
        self.until = None;
        self.lanes.clear();
    }

    fn pass(&mut self, seconds: u64) {
        self.now += seconds;
        if self.until.is_some_and(|until| self.now >= until) {
            self.over();
        }
    }

    fn say(&mut self, channel: u16, method: &Method) {
        self.done.said.push(gist(&Frame {
            channel: ChannelId(channel),
            payload: Payload::Method(method.clone()),
        }));
    }

    fn tell(&mut self, what: String) {
        self.done.told.push(what);
    }

    // What its own application asks for: `Err` is the code of the refusal, and then nothing is said.

    fn open_channel(&mut self) -> Result<u16, u16> {
        if self.stage != Stage::Open {
            return Err(504);
        }
        let free = (1..=CHANNEL_MAX).find(|channel| !self.lanes.contains_key(channel));
        let channel = free.ok_or(530u16)?; // TUNE-8
        let mut lane = Lane::new(LaneStage::Opening);
        let open = Method::from(ChannelOpen::default());
        lane.owed.push_back(open.clone());
        self.lanes.insert(channel, lane);
        self.say(channel, &open);
        Ok(channel)
    }

    fn open_lane(&mut self, channel: u16) -> Result<&mut Lane, u16> {
        let connected = self.stage == Stage::Open;
        let lane = self.lanes.get_mut(&channel);
        lane.filter(|lane| connected && lane.stage == LaneStage::Open)
            .ok_or(504)
    }

    fn send(&mut self, channel: u16, method: &Method) -> Result<(), u16> {
        let lane = self.open_lane(channel)?;
        if method.awaits_reply() {
            lane.owed.push_back(method.clone());
        }
        self.say(channel, method);
        Ok(())
    }

    fn send_content(&mut self, channel: u16, method: &Method, body: usize) -> Result<(), u16> {
        self.open_lane(channel)?;
        self.say(channel, method);
        self.done.said.push(format!("{channel} header {body}"));
        let limit = FRAME_MAX as usize - 8;
        for at in (0..body).step_by(limit) {
            let octets = limit.min(body - at);
            self.done.said.push(format!("{channel} body {octets}")); // CONTENT-3, CONTENT-4
        }
        Ok(())
    }

    fn close_channel(&mut self, channel: u16) -> Result<(), u16> {
        self.open_lane(channel)?.stage = LaneStage::Closing;
        self.done.said.push(format!("{channel} channel.close 200"));
        self.tell(format!("{channel} closed here"));
        Ok(())
    }

    fn close(&mut self) {
        if self.stage == Stage::Open {
            self.say_close(ReplyCode::SUCCESS);
            self.tell("closed here".into());
        }
    }

    fn end_of_stream(&mut self) {
        if self.stage == Stage::Open {
            self.tell("hung up".into()); // CLOSE-10
        }
        self.over();
    }
}

impl Lane {
    fn new(stage: LaneStage) -> Self {
        Self {
            stage,
            due: Due::Method,
            owed: VecDeque::new(),
        }
    }
}

/// A frame as a line: closes with their code, contents with their sizes, and no texts (ERR-4).
fn gist(frame: &Frame) -> String {
    let channel = frame.channel;
    match &frame.payload {
        Payload::Method(Method::ChannelClose(close)) => {
            format!("{channel} channel.close {}", close.reply_code)
        }
        Payload::Method(Method::ConnectionClose(close)) => {
            format!("{channel} connection.close {}", close.reply_code)
        }
        Payload::Method(method) => format!("{channel} {}", method.name()),
        Payload::Header(header) => format!("{channel} header {}", header.body_size),
        Payload::Body(octets) => format!("{channel} body {}", octets.len()),
        Payload::Heartbeat => "heartbeat".into(),
    }
}

/// An event as a line, in the same words.
fn told(event: &Event) -> String {
    let why = |cause: &Cause| match cause {
        Cause::ClosedHere => "closed here".to_owned(),
        Cause::ClosedByPeer(reason) => format!("closed by the peer: {}", reason.code),
        Cause::Violation(violation) => format!("closed: {}", violation.code),
        Cause::EndOfStream => "hung up".to_owned(),
        other => other.to_string(),
    };
    match event {
        Event::Opened(_) => "open".into(),
        Event::ChannelOpened(channel) => format!("{channel} opened"),
        Event::Method(channel, method) => format!("{channel} method {}", method.name()),
        Event::Reply(channel, method, message) => {
            let body = message.as_ref().map(|message| message.body.len());
            let body = body.map_or(String::new(), |octets| format!(" {octets}"));
            format!("{channel} reply {}{body}", method.name())
        }
        Event::Content(channel, method, message) => {
            format!("{channel} content {} {}", method.name(), message.body.len())
        }
        Event::ChannelClosed(channel, cause) => format!("{channel} {}", why(cause)),
        Event::Closed(cause) => why(cause),
    }
}

// ---- the cores, and what lies between them -----------------------------------------------------------------------

/// Octets that one side has said and the other has not read.
#[derive(Default)]
struct Transit {
    octets: BytesMut,
    /// What they are, with the number of octets that are left of each.
    lines: VecDeque<(Line, usize)>,
    /// What the listener has and cannot use yet.
    inbound: BytesMut,
}

impl Transit {
    fn push(&mut self, line: Line, octets: &[u8]) {
        self.octets.extend_from_slice(octets);
        self.lines.push_back((line, octets.len()));
    }

    /// So many octets have arrived: the lines that are whole now.
    fn arrived(&mut self, mut octets: usize) -> Vec<Line> {
        let mut whole = Vec::new();
        while let Some((_, left)) = self.lines.front_mut() {
            let now = octets.min(*left);
            *left -= now;
            octets -= now;
            if *left > 0 {
                break;
            }
            whole.extend(self.lines.pop_front().map(|(line, _)| line));
        }
        whole
    }
}

/// One side: its core, its model, and what an application of it writes down.
struct Party {
    side: Side,
    core: Connection,
    model: End,
    began: Instant,
    /// Deliveries that are not acknowledged: a broker's that it sent, a client's that it heard. ACK-1
    unacked: BTreeMap<u16, Ledger<()>>,
    /// Requests that a broker has heard and not answered.
    unanswered: BTreeMap<u16, VecDeque<Method>>,
}

/// Both sides of an open connection, joined by a wire that takes its time.
pub(crate) struct World {
    parties: [Party; 2],
    transits: [Transit; 2],
    now: Instant,
    /// Nobody has said in the name of a core which channels are open, so both have to agree on it in the end.
    honest: bool,
}

impl World {
    /// A connection after its handshake, without channels.
    pub(crate) fn new() -> Self {
        let tuning = Tuning {
            channel_max: CHANNEL_MAX,
            frame_max: FRAME_MAX,
            heartbeat: 0,
        };
        let client = ClientConfig {
            tuning,
            body_limit: BODY_LIMIT as u64,
            ..ClientConfig::default()
        };
        let broker = ServerConfig {
            tuning,
            body_limit: BODY_LIMIT as u64,
            ..ServerConfig::default()
        };
        let now = Instant::now();
        let mut client = Connection::client(client, now);
        let mut broker = Connection::server(broker, now);
        let (mut to_broker, mut to_client) = (BytesMut::new(), BytesMut::new());
        for _ in 0..4 {
            client.transmit(&mut to_broker);
            while broker.receive(&mut to_broker) {}
            broker.transmit(&mut to_client);
            while client.receive(&mut to_client) {}
        }
        for core in [&mut client, &mut broker] {
            let opened = core.poll_event();
            assert!(matches!(opened, Some(Event::Opened(_))), "{opened:?}");
        }
        let party = |side, core| Party {
            side,
            core,
            model: End::new(side),
            began: now,
            unacked: BTreeMap::new(),
            unanswered: BTreeMap::new(),
        };
        Self {
            parties: [party(Side::Client, client), party(Side::Broker, broker)],
            transits: Default::default(),
            now,
            honest: true,
        }
    }

    fn party(&mut self, side: Side) -> &mut Party {
        &mut self.parties[side as usize]
    }

    /// Does it on both, the core and the model, and compares them.
    pub(crate) fn act(&mut self, action: &Action) {
        let channel = |n: u8| u16::from(n % 4); // 0 as well: nothing of this may be said there
        let body = |n: u8| SIZES[usize::from(n) % SIZES.len()];
        match *action {
            Action::Open => self.party(Side::Client).open_channel(),
            Action::Ask(n, request) => self.party(Side::Client).send(channel(n), request.method()),
            Action::Publish(n, octets) => {
                let publish = BasicPublish::default().into();
                self.party(Side::Client)
                    .send_content(channel(n), publish, body(octets));
            }
            Action::Ack(n, which, multiple) => {
                self.party(Side::Client).ack(channel(n), which, multiple);
            }
            Action::Answer(n) => self.party(Side::Broker).answer(channel(n)),
            Action::Deliver(n, octets) => {
                self.party(Side::Broker).deliver(channel(n), body(octets));
            }
            Action::CloseChannel(side, n) => self.party(side).close_channel(channel(n)),
            Action::Close(side) => {
                self.party(side).core.close(&CloseReason::goodbye());
                self.party(side).model.close();
            }
            Action::Misuse(side, n) => self.party(side).misuse(channel(n)),
            Action::Lie(side, n, lie) => {
                self.honest &= !matches!(lie, Lie::Open | Lie::CloseOk);
                let channel = u16::from(n) % (CHANNEL_MAX + 2) + 1; // more of them than there may be
                lie.tell(side, channel, &mut self.transits[side as usize]);
            }
            Action::Carry(side, frames, piece) => self.carry(side, frames, piece),
            Action::Wait(seconds) => self.wait(seconds.into()),
            Action::HangUp(side) => self.hang_up(side),
        }
        self.compare();
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        for party in &mut self.parties {
            party.core.tick(self.now);
            party.model.pass(seconds);
        }
    }

    fn hang_up(&mut self, side: Side) {
        if self.transits[side as usize].octets.is_empty() {
            let inbound = &mut std::mem::take(&mut self.transits[side as usize].inbound);
            let listener = self.party(side.other());
            listener.core.end_of_stream(inbound);
            listener.model.end_of_stream();
        }
    }

    fn carry(&mut self, from: Side, frames: u8, piece: u16) {
        let transit = &mut self.transits[from as usize];
        let whole = transit.lines.iter().take(frames.into());
        let whole: usize = whole.map(|(_, octets)| octets).sum();
        let part = usize::from(piece) % 7; // of the frame behind them
        let octets = transit
            .octets
            .split_to((whole + part).min(transit.octets.len()));
        for piece in octets.chunks(usize::from(piece).max(1)) {
            let transit = &mut self.transits[from as usize];
            transit.inbound.extend_from_slice(piece);
            let lines = transit.arrived(piece.len());
            let mut inbound = std::mem::take(&mut transit.inbound);
            let listener = self.party(from.other());
            while listener.core.receive(&mut inbound) {}
            for line in &lines {
                listener.model.hear(line);
            }
            assert!(
                inbound.len() < 8 + FRAME_MAX as usize,
                "what is not a whole frame is less than one"
            );
            self.transits[from as usize].inbound = inbound;
            if !lines.is_empty() {
                self.compare();
            }
        }
    }

    /// What each core did is what its model did, and what it said is on its way.
    fn compare(&mut self) {
        for (party, transit) in self.parties.iter_mut().zip(&mut self.transits) {
            let mut octets = BytesMut::new();
            party.core.transmit(&mut octets);
            let mut done = Done::default();
            for (frame, octets) in frames(&octets) {
                done.said.push(gist(&frame));
                transit.push(Line::Frame(frame), &octets);
            }
            while let Some(event) = party.core.poll_event() {
                done.told.push(told(&event));
                party.note(&event);
            }
            let expected = std::mem::take(&mut party.model.done);
            assert_eq!(done, expected, "{:?}: the core, the model", party.side);
            party.compare_state();
        }
    }

    /// Carries everything to its end. Then both have to agree, and what is open has to work; or both are over.
    pub(crate) fn settle(&mut self) {
        self.deliver_all();
        for channel in 1..=CHANNEL_MAX {
            self.use_up(channel);
        }
        let [client, broker] = &self.parties;
        if client.model.stage == Stage::Open && broker.model.stage == Stage::Open {
            if self.honest {
                client.agrees_with(broker);
            }
            return;
        }
        self.wait(10);
        self.hang_up(Side::Client);
        self.hang_up(Side::Broker);
        self.compare();
        assert!(self.parties.iter().all(|party| party.core.is_over()));
    }

    /// One more request, and the answers to all there are.
    fn use_up(&mut self, channel: u16) {
        if self.party(Side::Client).model.open_lane(channel).is_err() {
            return;
        }
        let [_, n] = channel.to_be_bytes();
        self.act(&Action::Ask(n, Request::Qos));
        self.deliver_all();
        while self.party(Side::Broker).owes(channel) {
            self.act(&Action::Answer(n));
            self.deliver_all();
        }
    }

    fn deliver_all(&mut self) {
        while self
            .transits
            .iter()
            .any(|transit| !transit.octets.is_empty())
        {
            self.act(&Action::Carry(Side::Client, u8::MAX, 1000));
            self.act(&Action::Carry(Side::Broker, u8::MAX, 1000));
        }
    }
}

impl Party {
    /// An answer that core and model have to give alike: done, or refused with a code.
    fn same<T: std::fmt::Debug + PartialEq>(core: Result<T, Violation>, model: &Result<T, u16>) {
        let core = core.map_err(|refused| refused.code.0);
        assert_eq!(&core, model, "the core, the model");
    }

    fn open_channel(&mut self) {
        let opened = self.core.open_channel().map(|channel| channel.0);
        Self::same(opened, &self.model.open_channel());
    }

    fn send(&mut self, channel: u16, method: Method) {
        let model = self.model.send(channel, &method);
        Self::same(self.core.send(ChannelId(channel), method), &model);
    }

    fn send_content(&mut self, channel: u16, method: Method, octets: usize) {
        let model = self.model.send_content(channel, &method, octets);
        let body = vec![b'x'; octets];
        let core = self
            .core
            .send_content(ChannelId(channel), method, Properties::default(), &body);
        Self::same(core, &model);
    }

    fn close_channel(&mut self, channel: u16) {
        let core = self
            .core
            .close_channel(ChannelId(channel), &CloseReason::goodbye());
        Self::same(core, &self.model.close_channel(channel));
    }

    fn ack(&mut self, channel: u16, which: u8, multiple: bool) {
        let Some(ledger) = self
            .unacked
            .get_mut(&channel)
            .filter(|held| !held.is_empty())
        else {
            return;
        };
        let which = usize::from(which) % ledger.len();
        let delivery_tag = ledger
            .iter()
            .nth(which)
            .map_or(DeliveryTag(0), |(tag, ())| *tag);
        let ack = BasicAck {
            delivery_tag,
            multiple,
        };
        if self.model.open_lane(channel).is_ok() {
            ledger.settle(delivery_tag, multiple).expect("one it holds");
        }
        self.send(channel, ack.into());
    }

    fn deliver(&mut self, channel: u16, octets: usize) {
        let mut deliver = BasicDeliver::default();
        if self.model.open_lane(channel).is_ok() {
            deliver.delivery_tag = self.unacked.entry(channel).or_default().push(());
        }
        self.send_content(channel, deliver.into(), octets);
    }

    fn owes(&self, channel: u16) -> bool {
        let unanswered = self.unanswered.get(&channel);
        self.model.stage == Stage::Open && unanswered.is_some_and(|waiting| !waiting.is_empty())
    }

    fn answer(&mut self, channel: u16) {
        let request = self
            .unanswered
            .get_mut(&channel)
            .and_then(VecDeque::pop_front);
        match request {
            None => {}
            Some(Method::QueueDeclare(_)) => self.send(channel, QueueDeclareOk::default().into()),
            Some(Method::BasicQos(_)) => self.send(channel, BasicQosOk {}.into()),
            Some(Method::BasicGet(get)) if get.no_ack => {
                self.send(channel, BasicGetEmpty::default().into());
            }
            Some(Method::BasicGet(_)) => {
                self.send_content(channel, BasicGetOk::default().into(), 3);
            }
            Some(other) => panic!("{other} needs no answer from an application"),
        }
    }

    /// METH-4, FRAME-16, CHAN-2: what may not be said is refused, and nothing of it is sent.
    fn misuse(&mut self, channel: u16) {
        let not_mine: Method = match self.side {
            Side::Client => QueueDeclareOk::default().into(),
            Side::Broker => QueueDeclare::default().into(),
        };
        let connected = self.model.stage == Stage::Open;
        let code = if connected { 503 } else { 504 };
        for method in [
            not_mine,
            ChannelClose::default().into(),
            BasicDeliver::default().into(),
        ] {
            let refused = self.core.send(ChannelId(channel), method);
            assert_eq!(refused.map_err(|refused| refused.code.0), Err(code));
        }
    }

    /// What an application writes down.
    fn note(&mut self, event: &Event) {
        match (self.side, event) {
            (Side::Client, Event::Content(channel, Method::BasicDeliver(deliver), _)) => {
                let counted = self.unacked.entry(channel.0).or_default().push(());
                assert_eq!(counted, deliver.delivery_tag, "both sides count");
            }
            (Side::Broker, Event::Method(channel, Method::BasicAck(ack))) => {
                // A client acknowledges what it heard, so both books have it under the same number.
                let ledger = self.unacked.entry(channel.0).or_default();
                let settled = ledger.settle(ack.delivery_tag, ack.multiple);
                settled.expect("outstanding here as well");
            }
            (Side::Broker, Event::Method(_, Method::ChannelFlow(_))) => {} // its core has answered
            (Side::Broker, Event::Method(channel, method)) if method.awaits_reply() => {
                let waiting = self.unanswered.entry(channel.0).or_default();
                waiting.push_back(method.clone());
            }
            (_, Event::ChannelClosed(channel, _)) => {
                self.unacked.remove(&channel.0); // CHAN-10, CHAN-15
                self.unanswered.remove(&channel.0);
            }
            (_, Event::Closed(_)) => {
                self.unacked.clear();
                self.unanswered.clear();
            }
            _ => {}
        }
    }

    fn compare_state(&mut self) {
        let stage = self.model.stage;
        assert_eq!(self.core.is_over(), stage == Stage::Over);
        assert_eq!(self.core.is_closing(), stage != Stage::Open);
        let until = self.model.until.map(Duration::from_secs);
        assert_eq!(self.core.deadline(), until.map(|until| self.began + until));
        assert_eq!(self.core.unsent(), 0);
        assert!(self.model.lanes.len() <= usize::from(CHANNEL_MAX));
        for channel in 0..=CHANNEL_MAX + 1 {
            if self.model.open_lane(channel).is_err() {
                let ack = match self.side {
                    Side::Client => BasicReject::default().into(),
                    Side::Broker => Method::from(BasicNack::default()),
                };
                let refused = self.core.send(ChannelId(channel), ack);
                assert_eq!(refused.map_err(|refused| refused.code.0), Err(504));
            }
        }
    }

    /// Nothing is on its way: what is open, what is owed and what is not acknowledged is the same for both.
    fn agrees_with(&self, broker: &Self) {
        let stages = |party: &Self| -> Vec<(u16, LaneStage)> {
            let lanes = party.model.lanes.iter();
            lanes
                .map(|(channel, lane)| (*channel, lane.stage))
                .collect()
        };
        assert_eq!(stages(self), stages(broker));
        for lane in self.model.lanes.values() {
            assert_eq!(
                lane.stage,
                LaneStage::Open,
                "nobody waits for an open-ok or a close-ok"
            );
            assert!(
                lane.owed.is_empty(),
                "nobody waits for a reply: {:?}",
                lane.owed
            );
        }
        let unacked = |party: &Self| -> Vec<(u16, Vec<u64>)> {
            let held = party
                .unacked
                .iter()
                .filter(|(_, ledger)| !ledger.is_empty());
            let tags = |ledger: &Ledger<()>| ledger.iter().map(|(tag, ())| tag.0).collect();
            held.map(|(channel, ledger)| (*channel, tags(ledger)))
                .collect()
        };
        assert_eq!(unacked(self), unacked(broker));
    }
}

impl Request {
    fn method(self) -> Method {
        match self {
            Self::Declare => QueueDeclare::default().into(),
            Self::DeclareNoWait => QueueDeclare {
                no_wait: true,
                ..QueueDeclare::default()
            }
            .into(),
            Self::Get => BasicGet::default().into(),
            Self::Qos => BasicQos::default().into(),
            Self::Flow => ChannelFlow { active: true }.into(),
        }
    }
}

impl Lie {
    /// Puts its octets on the wire.
    fn tell(self, side: Side, channel: u16, transit: &mut Transit) {
        let other = channel % CHANNEL_MAX + 1;
        let by_side = |client: Method, broker: Method| match side {
            Side::Client => client,
            Side::Broker => broker,
        };
        let qos_or_ack = by_side(BasicQos::default().into(), BasicAck::default().into());
        let carrying = by_side(
            BasicPublish::default().into(),
            BasicReturn::default().into(),
        );
        let declare = || Method::from(QueueDeclare::default());
        let declare_ok = || Method::from(QueueDeclareOk::default());
        let method = |method: Method| Payload::Method(method);
        let header = |body_size| {
            Payload::Header(ContentHeader {
                class_id: BASIC_CLASS,
                body_size,
                ..ContentHeader::default()
            })
        };
        let body = || Payload::Body(Bytes::from_static(b"abc"));
        let here = |payloads: Vec<Payload>| -> Vec<(u16, Payload)> {
            payloads
                .into_iter()
                .map(|payload| (channel, payload))
                .collect()
        };
        let frames = match self {
            Self::ConnectionMethod => here(vec![method(ConnectionClose::default().into())]),
            Self::WrongDirection => here(vec![method(by_side(declare_ok(), declare()))]),
            Self::Unasked => here(vec![method(by_side(
                ChannelFlowOk::default().into(),
                declare_ok(),
            ))]),
            Self::Open => here(vec![method(ChannelOpen::default().into())]),
            Self::CloseOk => here(vec![method(ChannelCloseOk {}.into())]),
            Self::OnChannelZero => vec![(0, method(declare()))],
            Self::Header => here(vec![header(3)]),
            Self::TooMuch => here(vec![method(carrying), header(5), body(), body()]),
            Self::Interrupted => here(vec![
                method(carrying),
                header(5),
                body(),
                method(qos_or_ack),
            ]),
            Self::Interleaved => vec![
                (channel, method(carrying.clone())),
                (0, Payload::Heartbeat),
                (other, method(carrying)),
                (channel, header(6)),
                (other, header(3)),
                (channel, body()),
                (other, body()),
                (0, Payload::Heartbeat),
                (channel, body()),
            ],
            Self::UnknownMethod => {
                let [_, channel] = channel.to_be_bytes();
                let octets = [1, 0, channel, 0, 0, 0, 4, 0, 60, 3, 231, FRAME_END];
                return transit.push(Line::Malformed(ReplyCode::NOT_IMPLEMENTED), &octets);
            }
            Self::Heartbeat => {
                let [_, channel] = channel.to_be_bytes();
                let octets = [8, 0, channel, 0, 0, 0, 0, FRAME_END];
                return transit.push(Line::Malformed(ReplyCode::FRAME_ERROR), &octets);
            }
            Self::FrameEnd => return transit.push(Line::Broken, &[8, 0, 0, 0, 0, 0, 0, 0]),
        };
        for (channel, payload) in frames {
            let frame = Frame {
                channel: ChannelId(channel),
                payload,
            };
            let mut octets = BytesMut::new();
            frame.encode(&mut octets);
            transit.push(Line::Frame(frame), &octets);
        }
    }
}

/// The frames in what a core has said, each with its octets: they decode, to the last octet, and none is too long.
fn frames(octets: &[u8]) -> Vec<(Frame, Vec<u8>)> {
    let mut decoder = FrameDecoder::new();
    decoder.set_limits(FRAME_MAX - FRAME_OVERHEAD, 0); // exact: the tolerance is for reading only (FRAME-6, FRAME-7)
    let (mut left, mut frames) = (BytesMut::from(octets), Vec::new());
    while !left.is_empty() {
        let at = octets.len() - left.len();
        let frame = decoder.decode(&mut left).expect("what a core says decodes");
        let frame = frame.expect("what a core says is whole frames");
        frames.push((frame, octets[at..octets.len() - left.len()].to_vec()));
    }
    frames
}
