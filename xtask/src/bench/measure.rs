//! Taking times: the best of five, since everything that disturbs a run makes it longer.

use std::time::{Duration, Instant};

use crate::exec::Error;

/// How often everything is run.
pub(crate) const RUNS: usize = 5;
/// How often what takes milliseconds on a disk is run: others' flushes must be missed at least once.
pub(crate) const SHORT_RUNS: usize = 4 * RUNS;

/// The shortest of several runs. What is compared runs in turn, so that both meet the same disturbances.
pub(crate) struct Best(Duration);

impl Best {
    pub(crate) const fn new() -> Self {
        Self(Duration::MAX)
    }

    /// Runs `work` once; what it gives back is dropped after the clock was read.
    pub(crate) fn run<R>(&mut self, work: impl FnOnce() -> Result<R, Error>) -> Result<(), Error> {
        let start = Instant::now();
        let done = work()?;
        self.take(start.elapsed());
        drop(done);
        Ok(())
    }

    /// Counts a run that took its own time.
    pub(crate) fn take(&mut self, time: Duration) {
        self.0 = self.0.min(time);
    }

    pub(crate) fn get(&self) -> Duration {
        self.0
    }
}

/// A time for a table: three digits that count.
pub(crate) fn show(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1e3;
    match ms {
        ms if ms < 0.995 => format!("{:.0} µs", ms * 1e3),
        ms if ms < 9.95 => format!("{ms:.2} ms"),
        ms if ms < 99.5 => format!("{ms:.1} ms"),
        ms if ms < 9995.0 => format!("{ms:.0} ms"),
        ms => format!("{:.1} s", ms / 1e3),
    }
}

/// How many times `peer` the time `ours` is.
pub(crate) fn ratio(ours: Duration, peer: Duration) -> f64 {
    ours.as_secs_f64() / peer.as_secs_f64().max(1e-9)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_best_run_counts() {
        let mut best = Best::new();
        for ms in [3, 1, 2] {
            best.take(Duration::from_millis(ms));
        }
        assert_eq!(best.get(), Duration::from_millis(1));
        assert!(best.run(|| Err::<(), _>(Error::new("no"))).is_err());
        best.run(|| Ok(())).unwrap();
        assert!(best.get() <= Duration::from_millis(1));
    }

    #[test]
    fn times_are_shown_with_three_digits() {
        let shown = [0.000_25, 0.001_234, 0.0456, 0.789, 12.34].map(Duration::from_secs_f64);
        assert_eq!(
            shown.map(show),
            ["250 µs", "1.23 ms", "45.6 ms", "789 ms", "12.3 s"]
        );
    }
}
