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

use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::HashMap;
use tokio::sync::oneshot;

use super::error::RpcError;
use crate::{
    client::{Error, Message},
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
    waiting: HashMap<ShortString, oneshot::Sender<Outcome>>,
    /// Why no reply will ever come again.
    over: Option<Error>,
}

/// An entry among the calls in flight, for as long as somebody waits: it goes with the future of the call.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pending: &'a Pending,
    pub(super) id: ShortString,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.pending.calls().waiting.remove(&self.id);
    }
}

impl Pending {
    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for the reply, before the request is sent. RPC-5
    ///
    /// # Errors
    /// Why no reply would come.
    pub(super) fn register(
        &self,
        id: ShortString,
    ) -> Result<(Call<'_>, oneshot::Receiver<Outcome>), Error> {
        let (sender, outcome) = oneshot::channel();
        let mut calls = self.calls();
        if let Some(error) = &calls.over {
            return Err(error.clone());
        }
        calls.waiting.insert(id.clone(), sender);
        Ok((Call { pending: self, id }, outcome))
    }

    /// The first outcome counts. Says whether a call waited for it: what is late or doubled finds none. RPC-4, RPC-6
    #[must_use]
    pub(super) fn resolve(&self, id: &ShortString, outcome: Outcome) -> bool {
        let call = self.calls().waiting.remove(id);
        call.is_some_and(|call| call.send(outcome).is_ok())
    }

    /// Everyone who waits hears why no reply will come. RPC-11
    pub(super) fn fail(&self, cause: &Error, outcome: &RpcError) {
        let mut calls = self.calls();
        calls.over.get_or_insert(cause.clone());
        for (_, call) in calls.waiting.drain() {
            let _ = call.send(Err(outcome.clone())); // whoever waited may have given up
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

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
                    Step::Call(number) if called.insert(number) => match pending.register(id(number)) {
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
                        if let Some((_call, mut outcome)) = waiting.remove(&number) {
                            let reply = outcome.try_recv().unwrap().unwrap();
                            prop_assert_eq!(reply.body, number.to_string());
                            prop_assert!(outcome.try_recv().is_err(), "one outcome");
                        }
                    }
                    Step::GiveUp(number) => drop(waiting.remove(&number)),
                    Step::Lose => {
                        let cause = Error::ChannelClosed(crate::client::Cause::ClosedHere);
                        pending.fail(&cause, &RpcError::lost(cause.clone(), true));
                        lost = true;
                        for (_, (_call, mut outcome)) in waiting.drain() {
                            let outcome = outcome.try_recv().unwrap();
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
