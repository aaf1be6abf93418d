//! The few facts about this host and process that the library needs.

use crate::hypervisor::ProcessId;

/// This process, so that no later one with the same number is mistaken for it.
#[must_use]
pub fn this_process() -> ProcessId {
    process(std::process::id())
}

/// The process that has the number `pid` now.
#[must_use]
pub fn process(pid: u32) -> ProcessId {
    ProcessId {
        pid,
        started: start_of(pid).unwrap_or(0),
    }
}

/// Whether `process` still runs. Where the host does not tell when a process began, only that its
/// number is in use can be said: then the answer is `None`.
#[must_use]
pub fn is_alive(process: ProcessId) -> Option<bool> {
    if process.started == 0 {
        return None;
    }
    Some(start_of(process.pid) == Some(process.started))
}

/// Whether some process has this number now; `None` where the host does not tell.
#[must_use]
pub(crate) fn is_used(pid: u32) -> Option<bool> {
    cfg!(target_os = "linux").then(|| start_of(pid).is_some())
}

/// When a process began, in clock ticks since the host booted: field 22 of `/proc/PID/stat`
/// (proc(5)). The second field is the program's name in parentheses and may hold anything; the third
/// says whether it is dead and only waits to be reaped.
#[cfg(target_os = "linux")]
fn start_of(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(not(target_os = "linux"))]
fn start_of(_: u32) -> Option<u64> {
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_process_that_nobody_has_reaped_yet_is_dead() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let process = process(child.id());
        assert_eq!(is_alive(process), Some(true));
        child.kill().unwrap();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while is_alive(process) == Some(true) {
            assert!(std::time::Instant::now() < until, "the dead count as alive");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        child.wait().unwrap();
    }

    #[test]
    fn this_process_is_alive_and_an_older_one_of_its_number_is_not() {
        let me = this_process();
        assert_eq!(is_alive(me), Some(true));
        assert_eq!(
            is_alive(ProcessId {
                started: me.started + 1,
                ..me
            }),
            Some(false)
        );
    }
}
