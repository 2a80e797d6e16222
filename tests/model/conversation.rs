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
//! An [`End`] is the model of one side: it hears a frame and says which frames go out and what its application is told.
//! It is short enough to be read in one sitting, and it is the whole rule of who may say what when.
//!
//! Every [`Action`] can be taken at any time. Where it is illegal, the model says which refusal or which close follows.
//! After each action what a core did has to be what its `End` did, line by line.

#[path = "end.rs"] // beside this file for the fuzzer too, which includes it by its path
mod end;

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use amqp_rpc::{
    codec::*,
    protocol::{
        ClientConfig, CloseReason, Connection, Event, Ledger, ServerConfig, Tuning, Violation,
    },
};
use bytes::{Bytes, BytesMut};
use end::{BODY_LIMIT, CHANNEL_MAX, Done, End, FRAME_MAX, LaneStage, Line, Stage, gist, told};

pub(crate) use end::Side;

/// Sizes of bodies where something changes: none, one frame, a full frame, two frames, the limit, too large.
pub(crate) const SIZES: [usize; 6] = [0, 1, 4088, 4089, BODY_LIMIT, BODY_LIMIT + 1];

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
            .map_or(DeliveryTag(0), |(tag, ())| tag);
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
