//! Peers that want memory of us: no input makes a side hold more than docs/limits.md says. SEC-8, SEC-16
//!
//! The allocator of this program counts, so each test measures what octets from a hostile peer cost: the **peak** while
//! they come and what is **kept** after. It counts the whole process, so the tests run one at a time, and a test makes
//! the hostile octets before it begins to measure. A vector that grows counts twice for a moment, old and new.
//!
//! Every test says what the peer gets to hear, and that somebody with manners is served all the while.
#![allow(
    unreachable_pub,
    clippy::missing_panics_doc,
    clippy::similar_names, // a writer and its writes
    clippy::panic,
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::cast_possible_truncation
)]

mod after_login;
mod before_login;
mod client;
mod cves;
mod decoder;
mod keeping;
mod limits;
mod octets;
#[path = "../driver/peer.rs"]
#[allow(dead_code)] // the tests of the driver use all of it
mod peer;
#[path = "../support/raw.rs"]
mod raw;

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

static ALONE: Mutex<()> = Mutex::new(());

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// What the other tests of this program may allocate while they wait for their turn.
const NOISE: usize = 64 * KIB;

/// The only test that runs, and what is in memory when it begins to measure.
pub struct Meter {
    _alone: MutexGuard<'static, ()>,
    before: usize,
    started: Instant,
}

impl Drop for Meter {
    fn drop(&mut self) {
        println!("after {:?}", self.started.elapsed());
    }
}

impl Meter {
    /// Waits for the other tests, and begins to measure.
    pub fn start() -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut meter = Self {
            _alone: alone,
            before: 0,
            started: Instant::now(),
        };
        meter.restart();
        meter
    }

    /// What there is now does not count.
    pub fn restart(&mut self) {
        HEAP.reset_peak_usage();
        self.before = HEAP.current_usage();
    }

    /// The most there was at any moment since the start.
    pub fn peak(&self) -> usize {
        HEAP.peak_usage().saturating_sub(self.before)
    }

    /// What there is now.
    pub fn kept(&self) -> usize {
        HEAP.current_usage().saturating_sub(self.before)
    }

    /// The peak is below a limit, for which `why` has the sum.
    pub fn assert_peak(&self, limit: usize, why: impl fmt::Display) {
        let peak = self.peak();
        println!("peak {peak:>9} of {limit:>9}: {why}");
        assert!(
            peak <= limit + NOISE,
            "{peak} octets at the peak, at most {limit}: {why}"
        );
    }

    /// So is what is kept.
    pub fn assert_kept(&self, limit: usize, why: impl fmt::Display) {
        let kept = self.kept();
        println!("kept {kept:>9} of {limit:>9}: {why}");
        assert!(
            kept <= limit + NOISE,
            "{kept} octets are kept, at most {limit}: {why}"
        );
    }
}

/// Runs a test on one thread, where nothing else allocates.
pub fn run(test: impl Future<Output = ()>) {
    runtime(false).block_on(test);
}

/// The same with virtual time: it moves on when everybody waits.
pub fn run_paused(test: impl Future<Output = ()>) {
    runtime(true).block_on(test);
}

fn runtime(paused: bool) -> tokio::runtime::Runtime {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().start_paused(paused).build().unwrap()
}
