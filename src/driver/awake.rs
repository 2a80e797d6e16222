//! # Awake: who has been asked since the task woke up
//!
//! ```text
//! woken ─▶ read?  octets   write?  not yet   commands?  none        a turn for all that is there
//!          read?  not yet  (write) (commands)                       asked again: the reader alone
//!          └─ all silent: asleep, until one of the five wakes the task
//! ```
//!
//! Read next: [`trouble`](super::trouble).

use std::task::{Context, Poll};

/// One of the five that can wake the task.
#[derive(Debug, Clone, Copy)]
pub(super) enum Arm {
    Read,
    Write,
    Commands,
    Bell,
    Timer,
}

impl Arm {
    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// The time from one wake-up of the task to its next sleep.
pub(super) struct Awake<'a, 'b> {
    context: &'a mut Context<'b>,
    /// A bit for each arm that has said "not yet". It wakes the task by itself, and is not asked again before.
    silent: u8,
}

impl<'a, 'b> Awake<'a, 'b> {
    pub(super) fn new(context: &'a mut Context<'b>) -> Self {
        let silent = 0;
        Self { context, silent }
    }

    /// What this arm has, unless it has said "not yet" before.
    pub(super) fn ask<T>(
        &mut self,
        arm: Arm,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Option<T> {
        if self.silent & arm.bit() != 0 {
            return None;
        }
        match poll(self.context) {
            Poll::Ready(value) => Some(value),
            Poll::Pending => {
                self.silent |= arm.bit();
                None
            }
        }
    }

    /// What this arm waits for has changed: it is to be asked again.
    pub(super) fn ask_again(&mut self, arm: Arm) {
        self.silent &= !arm.bit();
    }
}
