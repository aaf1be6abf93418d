//! The closing table of `cargo xtask test`: phases, independent readers, skips, failures, and the line that counts.

use std::collections::{BTreeMap, BTreeSet};

use super::report::{How, Reading};
use super::{Outcome, Skips};

/// Prints it; true when the run failed.
pub(super) fn print(outcomes: &[Outcome], readings: &[Reading], skips: Skips) -> bool {
    let strict = skips == Skips::Failures;
    println!(
        "\n{:<13}{:<8}{:>8}{:>8}{:>9}{:>8}",
        "phase", "result", "passed", "failed", "skipped", "time"
    );
    for outcome in outcomes {
        let seconds = format!("{} s", outcome.took.as_secs());
        println!(
            "{:<13}{:<8}{:>8}{:>8}{:>9}{:>8}",
            outcome.phase.to_string(),
            result(outcome, skips),
            outcome.passed,
            outcome.failures.len(),
            outcome.skips.len(),
            seconds
        );
    }
    print_readers(readings);
    print_blind(readings);
    print_counts(readings);
    print_lines("skipped, and why", outcomes, |outcome| &outcome.skips);
    print_lines("failed", outcomes, |outcome| &outcome.failures);

    let passed: u64 = outcomes.iter().map(|outcome| outcome.passed).sum();
    let failed: usize = outcomes.iter().map(|outcome| outcome.failures.len()).sum();
    let skipped: usize = outcomes.iter().map(|outcome| outcome.skips.len()).sum();
    if strict && skipped > 0 {
        println!("\n--strict: each of the {skipped} skips counts as a failure");
        println!("\n{passed} passed, {} failed, 0 skipped", failed + skipped);
    } else {
        println!("\n{passed} passed, {failed} failed, {skipped} skipped");
    }
    failed > 0 || strict && skipped > 0
}

fn result(outcome: &Outcome, skips: Skips) -> &'static str {
    let strict = skips == Skips::Failures;
    let skipped = !outcome.skips.is_empty();
    match (
        !outcome.failures.is_empty() || strict && skipped,
        outcome.passed,
    ) {
        (true, _) => "FAILED",
        (false, 0) => "skipped",
        (false, _) if skipped => "part",
        (false, _) => "ok",
    }
}

/// Which program that is not ours read what, and how often.
fn print_readers(readings: &[Reading]) {
    let mut read: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for reading in readings.iter().filter(|reading| reading.how == How::Read) {
        *read.entry((&reading.reader, &reading.what)).or_default() += 1;
    }
    if read.is_empty() {
        return;
    }
    println!("\n{:<26}{:<44}{:>8}", "read or run by", "what", "times");
    for ((reader, what), times) in read {
        println!("{reader:<26}{what:<44}{times:>8}");
    }
}

/// What readers cannot see of what they read, so that it is known what their agreement does not say.
fn print_blind(readings: &[Reading]) {
    let blind: BTreeSet<(&str, &str, &str)> = readings
        .iter()
        .filter_map(|reading| match &reading.how {
            How::Blind(why) => Some((reading.reader.as_str(), reading.what.as_str(), why.as_str())),
            _ => None,
        })
        .collect();
    if !blind.is_empty() {
        println!("\nnot seen by a reader, and why");
    }
    for (reader, what, why) in blind {
        println!("  {reader}: {what}: {why}");
    }
}

/// How many kills, fault points and drawn cases there were, and from which seeds.
fn print_counts(readings: &[Reading]) {
    let mut counts: BTreeMap<(&str, &str), (u64, BTreeSet<&str>)> = BTreeMap::new();
    for reading in readings {
        if let How::Counted(count, seed) = &reading.how {
            let (sum, seeds) = counts.entry((&reading.reader, &reading.what)).or_default();
            *sum += count;
            seeds.extend(Some(seed.as_str()).filter(|seed| !seed.is_empty()));
        }
    }
    if !counts.is_empty() {
        println!("\n{:<26}{:<44}{:>8}", "counted by", "what", "count");
    }
    for ((test, what), (count, seeds)) in counts {
        let seeds: Vec<_> = seeds.into_iter().collect();
        let line = format!("{test:<26}{what:<44}{count:>8}  {}", seeds.join(", "));
        println!("{}", line.trim_end());
    }
}

fn print_lines(title: &str, outcomes: &[Outcome], lines: impl Fn(&Outcome) -> &Vec<String>) {
    let mut title = Some(title);
    for outcome in outcomes {
        let once: BTreeSet<&String> = lines(outcome).iter().collect();
        for line in once {
            if let Some(title) = title.take() {
                println!("\n{title}");
            }
            println!("  {}: {line}", outcome.phase);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::test::Phase;

    #[test]
    fn a_skip_fails_a_strict_run_only() {
        let outcome = |skips: &[&str]| Outcome {
            phase: Phase::Interop,
            took: Duration::ZERO,
            passed: 1,
            failures: Vec::new(),
            skips: skips.iter().map(ToString::to_string).collect(),
        };
        assert!(!print(&[outcome(&["virsh: absent"])], &[], Skips::Reported));
        assert!(print(&[outcome(&["virsh: absent"])], &[], Skips::Failures));
        assert!(!print(&[outcome(&[])], &[], Skips::Failures));
    }
}
