//! One side of a conversation, without octets, buffers and sockets: it hears a frame, and says which frames go out and
//! what its application is told.
//!
//! ```text
//!  OPEN --(say close)--> CLOSING --(hear close-ok)--> OVER          each channel has the same three within it
//!  OPEN --(hear close)--> say close-ok --> OVER, or a broker LINGERING until the client hangs up
//! ```
//!
//! Start at [`End::hear`]. Rule ids are those of `docs/rules.md`.

use std::collections::{BTreeMap, VecDeque};

use amqp_rpc::{
    codec::{method::Sender, *},
    protocol::{Cause, Event},
};

/// Small limits, so that a short script reaches them.
pub(super) const CHANNEL_MAX: u16 = 3;
pub(super) const FRAME_MAX: u32 = 4096;
pub(super) const BODY_LIMIT: usize = 5000;

/// Who does something.
#[cfg_attr(fuzzing, derive(arbitrary::Arbitrary))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Broker,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Client => Self::Broker,
            Self::Broker => Self::Client,
        }
    }
}

/// What is on the wire: a frame, or octets that are none and the code they earn.
#[derive(Debug, Clone)]
pub(super) enum Line {
    Frame(Frame),
    /// A payload that cannot be decoded: the next frame can.
    Malformed(ReplyCode),
    /// The end of all understanding.
    Broken,
}

/// What one side did: frames that went out, and what its application was told, each as a line of text.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Done {
    pub(super) said: Vec<String>,
    pub(super) told: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Open,
    /// Our close is out. CLOSE-2
    Closing,
    /// A broker that answered a close and waits for the client to hang up. CLOSE-7
    Lingering,
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LaneStage {
    Opening,
    Open,
    Closing,
}

/// What may come next on a channel. CONTENT-7 to CONTENT-9
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Due {
    Method,
    Header(Method),
    /// So many octets are left of a body; false if it is thrown away when it is complete.
    Body(Method, u64, u64, bool),
}

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) stage: LaneStage,
    pub(super) due: Due,
    /// The requests that wait for a reply, the oldest first. METH-6
    pub(super) owed: VecDeque<Method>,
}

/// One side of a conversation, after the handshake.
#[derive(Debug)]
pub(super) struct End {
    pub(super) side: Side,
    pub(super) stage: Stage,
    pub(super) lanes: BTreeMap<u16, Lane>,
    /// The frame-end was wrong: whatever comes is noise. FRAME-13
    pub(super) deaf: bool,
    pub(super) now: u64,
    /// When the wait for a close-ok, or for the end of the stream, is over. CLOSE-7, CLOSE-8
    pub(super) until: Option<u64>,
    pub(super) done: Done,
}

impl End {
    pub(super) fn new(side: Side) -> Self {
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
    pub(super) fn hear(&mut self, line: &Line) {
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

    pub(super) fn pass(&mut self, seconds: u64) {
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

    pub(super) fn open_channel(&mut self) -> Result<u16, u16> {
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

    pub(super) fn open_lane(&mut self, channel: u16) -> Result<&mut Lane, u16> {
        let connected = self.stage == Stage::Open;
        let lane = self.lanes.get_mut(&channel);
        lane.filter(|lane| connected && lane.stage == LaneStage::Open)
            .ok_or(504)
    }

    pub(super) fn send(&mut self, channel: u16, method: &Method) -> Result<(), u16> {
        let lane = self.open_lane(channel)?;
        if method.awaits_reply() {
            lane.owed.push_back(method.clone());
        }
        self.say(channel, method);
        Ok(())
    }

    pub(super) fn send_content(
        &mut self,
        channel: u16,
        method: &Method,
        body: usize,
    ) -> Result<(), u16> {
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

    pub(super) fn close_channel(&mut self, channel: u16) -> Result<(), u16> {
        self.open_lane(channel)?.stage = LaneStage::Closing;
        self.done.said.push(format!("{channel} channel.close 200"));
        self.tell(format!("{channel} closed here"));
        Ok(())
    }

    pub(super) fn close(&mut self) {
        if self.stage == Stage::Open {
            self.say_close(ReplyCode::SUCCESS);
            self.tell("closed here".into());
        }
    }

    pub(super) fn end_of_stream(&mut self) {
        if self.stage == Stage::Open {
            self.tell("hung up".into()); // CLOSE-10
        }
        self.over();
    }
}

impl Lane {
    pub(super) fn new(stage: LaneStage) -> Self {
        Self {
            stage,
            due: Due::Method,
            owed: VecDeque::new(),
        }
    }
}

/// A frame as a line: closes with their code, contents with their sizes, and no texts (ERR-4).
pub(super) fn gist(frame: &Frame) -> String {
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
pub(super) fn told(event: &Event) -> String {
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
