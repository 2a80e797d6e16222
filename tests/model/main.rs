//! State machines by model: random scripts, and a reference that is short enough to be believed.
//!
//! A transcript shows one path that its author thought of. Here a generator makes up the paths, legal and illegal, and
//! after each step the thing itself is compared with a model of it: [`conversation`] is two cores on a slow wire,
//! [`queues`] the broker's brain. What fails is made shorter by proptest until every action in it is needed.
//!
//! The fuzz targets `pair` and `vhost` drive the same two models.

#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)] // in a test a panic is the report

mod conversation;
mod queues;

use conversation::{Action, Lie, Request, Side, World};
use proptest::prelude::*;

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Client), Just(Side::Broker)]
}

/// The channels 1 to 3, and now and then 0.
fn channel() -> impl Strategy<Value = u8> {
    prop_oneof![6 => Just(1u8), 3 => Just(2), 2 => Just(3), 1 => Just(0)]
}

fn request() -> impl Strategy<Value = Request> {
    use Request::*;
    prop::sample::select(vec![Declare, DeclareNoWait, Get, Qos, Flow])
}

fn lie() -> impl Strategy<Value = Lie> {
    use Lie::*;
    prop::sample::select(vec![
        ConnectionMethod,
        WrongDirection,
        Unasked,
        Open,
        CloseOk,
        OnChannelZero,
        Header,
        TooMuch,
        Interrupted,
        Interleaved,
        UnknownMethod,
        Heartbeat,
        FrameEnd,
    ])
}

/// What an honest application and a network do, and `lies` parts of what no core says.
fn action(lies: u32) -> impl Strategy<Value = Action> {
    use Action::*;
    let piece = prop_oneof![1u16..40, 1000u16..5000];
    let work = prop_oneof![
        3 => Just(Open),
        4 => (channel(), request()).prop_map(|(n, request)| Ask(n, request)),
        2 => (channel(), any::<u8>()).prop_map(|(n, size)| Publish(n, size)),
        3 => (channel(), any::<u8>(), any::<bool>()).prop_map(|(n, which, multiple)| Ack(n, which, multiple)),
        4 => channel().prop_map(Answer),
        4 => (channel(), any::<u8>()).prop_map(|(n, size)| Deliver(n, size)),
        1 => (side(), channel()).prop_map(|(side, n)| CloseChannel(side, n)),
        1 => (side(), channel()).prop_map(|(side, n)| Misuse(side, n)),
        9 => (side(), 0u8..6, piece).prop_map(|(side, frames, piece)| Carry(side, frames, piece)),
    ];
    let end = prop_oneof![
        2 => side().prop_map(Close),
        2 => (0u8..6).prop_map(Wait),
        1 => side().prop_map(HangUp),
    ];
    let wrong = (side(), 0u8..5, lie()).prop_map(|(side, n, lie)| Lie(side, n, lie));
    prop_oneof![40 => work, 1 => end, lies => wrong]
}

fn run(actions: &[Action]) {
    let mut world = World::new();
    for action in actions {
        world.act(action);
    }
    world.settle();
}

proptest! {
    /// METH-6, METH-7, CHAN-1, CHAN-6, CHAN-7, CHAN-9, CHAN-10, CLOSE-2, CLOSE-5, CLOSE-8, ACK-1, ACK-4, FRAME-7,
    /// FRAME-10, FRAME-17
    #[test]
    fn two_honest_cores_agree(actions in prop::collection::vec(action(0), 0..80)) {
        run(&actions);
    }

    /// ERR-1, ERR-2, ERR-7, ERR-10, CLOSE-3, and the code of each [`Lie`]: what is lost is what the rule says.
    #[test]
    fn a_lie_costs_what_it_costs(actions in prop::collection::vec(action(4), 0..60)) {
        run(&actions);
    }
}

fn queue_action() -> impl Strategy<Value = queues::Action> {
    use queues::{Action::*, How, Mistake};
    let lane = || 0u8..4;
    let queue = || prop_oneof![3 => Just(0u8), 1 => Just(1)];
    let how = || prop::sample::select(vec![How::Ack, How::Drop, How::Requeue]);
    let settle =
        (lane(), 0u8..8, any::<bool>(), how()).prop_map(|(lane, which, multiple, how)| Settle {
            lane,
            which,
            multiple,
            how,
        });
    let consume =
        (lane(), queue(), prop::bool::weighted(0.2)).prop_map(|(lane, queue, no_ack)| Consume {
            lane,
            queue,
            no_ack,
        });
    let get = (lane(), queue(), any::<bool>()).prop_map(|(lane, queue, no_ack)| Get {
        lane,
        queue,
        no_ack,
    });
    let qos = (lane(), 0u8..4, any::<bool>()).prop_map(|(lane, count, global)| Qos {
        lane,
        count,
        global,
    });
    let mistake = prop::sample::select(vec![
        Mistake::UnknownTag,
        Mistake::TagZero,
        Mistake::NoQueue,
        Mistake::PrefetchSize,
        Mistake::ConsumerTagInUse,
    ]);
    prop_oneof![
        12 => queue().prop_map(Publish),
        4 => consume,
        1 => (lane(), any::<u8>()).prop_map(|(lane, which)| Cancel(lane, which)),
        2 => get,
        8 => settle,
        1 => (lane(), how()).prop_map(|(lane, how)| SettleAll(lane, how)),
        1 => lane().prop_map(Recover),
        3 => qos,
        1 => queue().prop_map(Purge),
        1 => queue().prop_map(Delete),
        1 => lane().prop_map(Close),
        1 => any::<u8>().prop_map(Disconnect),
        1 => (lane(), mistake).prop_map(|(lane, mistake)| Mistake(lane, mistake)),
    ]
}

proptest! {
    /// ACK-3 to ACK-10, CHAN-11, CHAN-15, CONS-3, CONS-11, CONS-12, CONS-13, CONS-19, CONS-20, QOS-1 to QOS-8
    #[test]
    fn queues_keep_their_order_and_lose_nothing(actions in prop::collection::vec(queue_action(), 0..80)) {
        let mut world = queues::World::new();
        for action in &actions {
            world.act(action);
        }
    }
}
