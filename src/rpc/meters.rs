//! # Meters: counters, gauges and a histogram, each an atomic addition
//!
//! ```text
//! Counter    +1                        how many there were
//! Gauge      +1 .. and -1 on drop      how many there are
//! Latencies  a bucket +1               how long: each bucket at most 1 % wide, 30 KiB in all
//! ```
//!
//! No lock, so that thousands of calls in flight do not wait for each other to be counted; and no sample is kept, so a
//! million calls take no more memory than one. Under the feature `metrics` the application's recorder hears of it as
//! well.
//!
//! Read next: `metrics`. Explained in `docs/rpc.md`.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use histogram::{AtomicHistogram, Bucket, Config, Histogram};

#[cfg(feature = "metrics")]
use super::metrics::Metric;

/// Without the feature nobody else hears of it.
#[cfg(not(feature = "metrics"))]
#[derive(Debug)]
struct Metric;

#[cfg(not(feature = "metrics"))]
#[expect(clippy::unused_self)] // the same face as with the feature
#[rustfmt::skip] // it does nothing
impl Metric {
    fn new(_: &'static str, _: Option<&'static str>) -> Self { Self }
    fn count(&self) {}
    fn up(&self) {}
    fn down(&self) {}
    fn took(&self, _: Duration) {}
}

/// How many there were.
#[derive(Debug)]
pub(super) struct Counter {
    number: AtomicU64,
    metric: Metric,
}

impl Counter {
    pub(super) fn new(name: &'static str) -> Self {
        Self::of(name, None)
    }

    /// One of several that count the same thing by how it ended.
    pub(super) fn ended(name: &'static str, outcome: &'static str) -> Self {
        Self::of(name, Some(outcome))
    }

    fn of(name: &'static str, outcome: Option<&'static str>) -> Self {
        let metric = Metric::new(name, outcome);
        Self {
            number: AtomicU64::new(0),
            metric,
        }
    }

    pub(super) fn add(&self) {
        self.number.fetch_add(1, Relaxed);
        self.metric.count();
    }

    pub(super) fn get(&self) -> u64 {
        self.number.load(Relaxed)
    }
}

/// How many there are now.
#[derive(Debug)]
pub(super) struct Gauge {
    number: AtomicU64,
    metric: Metric,
}

impl Gauge {
    pub(super) fn new(name: &'static str) -> Self {
        let metric = Metric::new(name, None);
        Self {
            number: AtomicU64::new(0),
            metric,
        }
    }

    /// One more for as long as the value lives.
    pub(super) fn during(&self) -> During<'_> {
        self.number.fetch_add(1, Relaxed);
        self.metric.up();
        During(self)
    }

    pub(super) fn get(&self) -> u64 {
        self.number.load(Relaxed)
    }
}

pub(super) struct During<'a>(&'a Gauge);

impl Drop for During<'_> {
    fn drop(&mut self) {
        self.0.number.fetch_sub(1, Relaxed);
        self.0.metric.down();
    }
}

/// Buckets of microseconds: exact up to 256 µs, then 128 for each doubling, so that no value is off by 1 %; up to 2^36 µs,
/// which is 19 hours. They take 30 KiB.
const BUCKETS: Config = match Config::new(7, 36) {
    Ok(config) => config,
    Err(_) => unreachable!(), // at compile time, and so it is not
};

/// The longest time that has a bucket.
const LONGEST: u64 = (1 << 36) - 1;

/// How long calls took.
#[derive(Debug)]
pub(super) struct Latencies {
    histogram: AtomicHistogram,
    metric: Metric,
}

impl Latencies {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            histogram: AtomicHistogram::with_config(&BUCKETS),
            metric: Metric::new(name, None),
        }
    }

    pub(super) fn took(&self, time: Duration) {
        let microseconds = u64::try_from(time.as_micros()).unwrap_or(LONGEST);
        let _ = self.histogram.increment(microseconds.min(LONGEST)); // there is a bucket for it
        self.metric.took(time);
    }

    pub(super) fn snapshot(&self) -> Latency {
        let histogram = self.histogram.load();
        let calls = histogram.as_slice().iter().sum();
        Latency {
            calls,
            p50: below(&histogram, 0.5),
            p95: below(&histogram, 0.95),
            p99: below(&histogram, 0.99),
            max: below(&histogram, 1.0),
        }
    }
}

/// Within this time so many of the calls were answered.
fn below(histogram: &Histogram, part: f64) -> Duration {
    let bucket = histogram.quantile_bucket(part).ok().flatten();
    Duration::from_micros(bucket.as_ref().map_or(0, Bucket::end))
}

/// How long calls took that a server answered, be it with a result or with an error; the others have taken as long as
/// their callers let them. Each time is at most 1 % too long, and all are zero as long as there was no such call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Latency {
    /// How many calls this is about.
    pub calls: u64,
    /// Half of them took no longer.
    pub p50: Duration,
    /// 95 of 100 took no longer.
    pub p95: Duration,
    /// 99 of 100 took no longer.
    pub p99: Duration,
    /// None took longer.
    pub max: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_time_of_a_call_to_one_percent() {
        let latencies = Latencies::new("test");
        assert_eq!(latencies.snapshot(), Latency::default());
        for milliseconds in 1..=1000 {
            latencies.took(Duration::from_millis(milliseconds));
        }
        let Latency {
            calls,
            p50,
            p95,
            p99,
            max,
        } = latencies.snapshot();
        assert_eq!(calls, 1000);
        for (found, milliseconds) in [(p50, 500), (p95, 950), (p99, 990), (max, 1000)] {
            let wanted = Duration::from_millis(milliseconds);
            assert!(
                wanted <= found && found <= wanted.mul_f64(1.01),
                "{found:?} for {wanted:?}"
            );
        }
    }

    #[test]
    fn no_time_is_too_long_to_be_counted() {
        let latencies = Latencies::new("test");
        latencies.took(Duration::MAX);
        assert_eq!(latencies.snapshot().max, Duration::from_micros(LONGEST));
    }

    #[test]
    fn a_gauge_goes_down_with_its_value() {
        let gauge = Gauge::new("test");
        let (one, two) = (gauge.during(), gauge.during());
        assert_eq!(gauge.get(), 2);
        drop((one, two));
        assert_eq!(gauge.get(), 0);
    }
}
