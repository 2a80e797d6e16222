//! # Pending: the calls in flight, each resolved at most once
//!
//! ```text
//! register "a" ──▶ │ a: who waits │ ──▶ resolve "a": the entry goes, and its call has the outcome
//!                  │ b: who waits │ ──▶ dropped: the future of b is gone, and its entry with it
//!                  │ c: who waits │ ──▶ fail: every entry goes, with the cause of the loss (RPC-11)
//!                       └ resolve "a" again, or "z": there is nobody, and the reply is dropped (RPC-4, RPC-6)
//! ```
//!
//! The entry is made before the request is sent: a fast server answers before the publish returns (RPC-5). And it
//! cannot be forgotten, since it lives in the future of its call: a timeout that left it behind would leak one entry
//! for each call that fails. After a loss nothing is registered any more, for its reply could never come.
//!
//! Read next: `replies`. Explained in `docs/11-rpc.md`.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use foldhash::HashMap;

use super::error::RpcError;
use crate::{
    client::{Confirm, ConfirmListener, Error, Message},
    codec::ShortString,
};

/// How a call ends.
pub(super) type Outcome = Result<Message, RpcError>;

/// The calls of one reply address, by their ids.
#[derive(Debug, Default)]
pub(super) struct Pending(Mutex<Calls>);

#[derive(Debug, Default)]
struct Calls {
    /// By ids that are made here, so nobody can choose them to collide.
    waiting: HashMap<ShortString, Arc<Slot>>,
    /// Why no reply will ever come again.
    over: Option<Error>,
}

/// Where a call waits, and where everybody leaves what he knows of it. There is one thing to wait for and one to wake,
/// so that a call costs one allocation and its caller one wake-up.
#[derive(Debug, Default)]
pub(super) struct Slot(Mutex<Known>);

/// What is known of a call.
#[derive(Debug, Default)]
struct Known {
    outcome: Option<Outcome>,
    confirm: Option<Confirm>,
    caller: Option<Waker>,
}

impl Slot {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(&self, outcome: Outcome) {
        let mut known = self.known();
        known.outcome = Some(outcome);
        wake(known);
    }
}

/// The caller is not woken under the lock, which is the first thing it would ask for.
fn wake(mut known: MutexGuard<'_, Known>) {
    let caller = known.caller.take();
    drop(known);
    if let Some(caller) = caller {
        caller.wake();
    }
}

/// An ack is no news for the caller, who waits for the reply: it is written down for the report of a timeout, and wakes
/// nobody. RPC-12
impl ConfirmListener for Slot {
    fn confirmed(&self, outcome: Result<Confirm, Error>) {
        let Ok(confirm) = outcome else {
            return; // the channel is over, and the call hears of it as everyone does
        };
        let mut known = self.known();
        known.confirm = Some(confirm);
        if confirm == Confirm::Nack {
            wake(known);
        }
    }
}

/// An entry among the calls in flight, for as long as somebody waits: it goes with the future of the call.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pending: &'a Pending,
    queue: &'a ShortString,
    pub(super) id: ShortString,
    slot: Arc<Slot>,
    /// Its entry went with its outcome.
    resolved: bool,
}

impl Call<'_> {
    /// Who hears what became of its request.
    pub(super) fn listener(&self) -> Arc<Slot> {
        self.slot.clone()
    }

    /// Whether the broker has taken its request. RPC-12
    pub(super) fn is_confirmed(&self) -> bool {
        self.slot.known().confirm == Some(Confirm::Ack)
    }

    /// How it ends: by its reply, by whatever says that there will be none, or by the broker's nack.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub(super) async fn outcome(&mut self) -> Outcome {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &Context<'_>) -> Poll<Outcome> {
        let mut known = self.slot.known();
        if let Some(outcome) = known.outcome.take() {
            self.resolved = true;
            return Poll::Ready(outcome);
        }
        if known.confirm == Some(Confirm::Nack) {
            let queue = self.queue.clone();
            return Poll::Ready(Err(RpcError::Refused { queue }));
        }
        known.caller = Some(context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if !self.resolved {
            self.pending.calls().waiting.remove(&self.id);
        }
    }
}

impl Pending {
    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for the reply, before the request is sent to its queue. RPC-5
    ///
    /// # Errors
    /// Why no reply would come.
    pub(super) fn register<'a>(
        &'a self,
        id: ShortString,
        queue: &'a ShortString,
    ) -> Result<Call<'a>, Error> {
        let slot = Arc::<Slot>::default();
        let mut calls = self.calls();
        if let Some(error) = &calls.over {
            return Err(error.clone());
        }
        calls.waiting.insert(id.clone(), slot.clone());
        drop(calls);
        Ok(Call {
            pending: self,
            queue,
            id,
            slot,
            resolved: false,
        })
    }

    /// The first outcome counts. Says whether a call waited for it: what is late or doubled finds none. RPC-4, RPC-6
    #[must_use]
    pub(super) fn resolve(&self, id: &ShortString, outcome: Outcome) -> bool {
        let call = self.calls().waiting.remove(id);
        call.map(|call| call.end(outcome)).is_some()
    }

    /// Everyone who waits hears why no reply will come. RPC-11
    pub(super) fn fail(&self, cause: &Error, outcome: &RpcError) {
        let mut calls = self.calls();
        calls.over.get_or_insert(cause.clone());
        for (_, call) in calls.waiting.drain() {
            call.end(Err(outcome.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{HashMap, HashSet},
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
        task::Wake,
    };

    use proptest::prelude::*;

    use super::*;

    /// What can befall a few calls, in any order: two ids for each of them, so that some are foreign.
    #[derive(Debug, Clone)]
    enum Step {
        Call(u8),
        Reply(u8),
        GiveUp(u8),
        Lose,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..8_u8).prop_map(Step::Call),
            6 => (0..16_u8).prop_map(Step::Reply),
            2 => (0..8_u8).prop_map(Step::GiveUp),
            1 => Just(Step::Lose),
        ]
    }

    fn id(number: u8) -> ShortString {
        ShortString::truncated(&number.to_string())
    }

    static QUEUE: ShortString = ShortString::literal("q");

    /// How a call ends, if it has ended.
    fn ended(call: &mut Call<'_>) -> Option<Outcome> {
        match call.poll(&Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => Some(outcome),
            Poll::Pending => None,
        }
    }

    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }

    #[test]
    fn an_ack_wakes_nobody_and_a_nack_ends_the_call() {
        // RPC-12, CONF-7
        let (pending, bell) = (Pending::default(), Arc::new(Bell::default()));
        let waker = Waker::from(bell.clone());
        let mut calls = [0, 1].map(|number| pending.register(id(number), &QUEUE).unwrap());
        for call in &mut calls {
            assert!(call.poll(&Context::from_waker(&waker)).is_pending());
        }
        let [mut taken, mut refused] = calls;
        taken.listener().confirmed(Ok(Confirm::Ack));
        assert_eq!(bell.0.load(Relaxed), 0);
        assert!(taken.is_confirmed() && ended(&mut taken).is_none());
        refused.listener().confirmed(Ok(Confirm::Nack));
        assert_eq!(bell.0.load(Relaxed), 1);
        let Some(Err(RpcError::Refused { queue })) = ended(&mut refused) else {
            panic!("not refused")
        };
        assert_eq!(queue, QUEUE);
        drop(refused);
        assert!(!pending.resolve(&id(1), Ok("late".into())));
        assert!(pending.resolve(&id(0), Ok("in time".into())));
        assert_eq!(ended(&mut taken).unwrap().unwrap().body, "in time");
    }

    proptest! {
        /// RPC-4, RPC-6, RPC-11: whatever comes in whatever order, a call has at most one outcome, and it is its own.
        #[test]
        fn each_call_is_resolved_at_most_once_with_its_own_answer(steps in proptest::collection::vec(step(), 0..64)) {
            let pending = Pending::default();
            let mut waiting = HashMap::new();
            let mut called = HashSet::new();
            let mut lost = false;
            for step in steps {
                match step {
                    Step::Call(number) if called.insert(number) => match pending.register(id(number), &QUEUE) {
                        Ok(call) => {
                            prop_assert!(!lost);
                            waiting.insert(number, call);
                        }
                        Err(error) => {
                            prop_assert!(lost);
                            prop_assert!(matches!(error, Error::ChannelClosed(_)));
                        }
                    },
                    Step::Call(_) => {} // RPC-3: an id is used once
                    Step::Reply(number) => {
                        let taken = pending.resolve(&id(number), Ok(number.to_string().into()));
                        prop_assert_eq!(taken, waiting.contains_key(&number), "late, doubled and foreign replies find nobody");
                        if let Some(mut call) = waiting.remove(&number) {
                            let reply = ended(&mut call).unwrap().unwrap();
                            prop_assert_eq!(reply.body, number.to_string());
                            prop_assert!(ended(&mut call).is_none(), "one outcome");
                        }
                    }
                    Step::GiveUp(number) => drop(waiting.remove(&number)),
                    Step::Lose => {
                        let cause = Error::ChannelClosed(crate::client::Cause::ClosedHere);
                        pending.fail(&cause, &RpcError::lost(cause.clone(), true));
                        lost = true;
                        for (_, mut call) in waiting.drain() {
                            let outcome = ended(&mut call).unwrap();
                            let told = matches!(outcome, Err(RpcError::ChannelClosed { maybe_executed: true, .. }));
                            prop_assert!(told, "{outcome:?}");
                        }
                    }
                }
                prop_assert_eq!(pending.calls().waiting.len(), waiting.len(), "nothing is left behind");
            }
        }
    }
}
