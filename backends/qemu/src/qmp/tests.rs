//! What the QMP client makes of peers that speak in pieces, fall silent, send garbage or go away.

#![allow(clippy::unwrap_used)]

use super::*;

/// A peer that says what it was told to say, in pieces, and then is silent or gone.
#[derive(Debug)]
struct Script {
    says: VecDeque<Vec<u8>>,
    then: Then,
    heard: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Then {
    Silent,
    Gone,
}

impl Script {
    fn new(pieces: &[&str], then: Then) -> Self {
        let says = pieces
            .iter()
            .map(|piece| piece.as_bytes().to_vec())
            .collect();
        Self {
            says,
            then,
            heard: Vec::new(),
        }
    }
}

impl Read for Script {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(mut piece) = self.says.pop_front() else {
            return match self.then {
                Then::Silent => Err(io::ErrorKind::WouldBlock.into()),
                Then::Gone => Ok(0),
            };
        };
        let length = piece.len().min(buffer.len());
        buffer[..length].copy_from_slice(&piece[..length]);
        let rest = piece.split_off(length);
        if !rest.is_empty() {
            self.says.push_front(rest);
        }
        Ok(length)
    }
}

impl Write for Script {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.heard.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Timed for Script {
    fn limit(&self, limit: Duration) -> io::Result<()> {
        assert!(!limit.is_zero());
        Ok(())
    }
}

/// QEMU 7.2's own greeting.
const GREETING: &str = "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, \
    \"package\": \"Debian 1:7.2+dfsg-7+deb12u18+b3\"}, \"capabilities\": [\"oob\"]}}\r\n";
const OK: &str = "{\"return\": {}}\r\n";

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn open(pieces: &[&str], then: Then) -> Result<Qmp<Script>> {
    Qmp::open(Script::new(pieces, then), soon())
}

#[test]
fn a_session_opens_and_answers() {
    let (half, rest) = GREETING.split_at(31);
    let event = "{\"timestamp\": {\"seconds\": 1, \"microseconds\": 2}, \"event\": \"RESUME\"}\r\n";
    let shutdown =
        "{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true, \"reason\": \"guest-reset\"}}\r\n";
    let status =
        "{\"return\": {\"status\": \"running\", \"singlestep\": false, \"running\": true}}\r\n";
    let together = format!("{event}{status}{shutdown}");
    let mut qmp = open(&[half, rest, OK, &together], Then::Silent).unwrap();
    let answer = qmp.execute("query-status", soon()).unwrap();
    assert_eq!(answer["status"], "running");
    assert_eq!(qmp.event(soon()).unwrap().unwrap().name, "RESUME");
    let last = qmp.event(soon()).unwrap().unwrap();
    assert_eq!(
        (last.name.as_str(), &last.data["reason"]),
        ("SHUTDOWN", &json!("guest-reset"))
    );
    assert_eq!(qmp.event(soon()).unwrap(), None);
    let heard = String::from_utf8(qmp.stream.heard).unwrap();
    assert_eq!(
        heard,
        "{\"execute\":\"qmp_capabilities\"}\r\n{\"execute\":\"query-status\"}\r\n"
    );
}

#[test]
fn a_refusal_carries_qemus_words() {
    let refusal = "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\\u001b way\"}}\r\n";
    let mut qmp = open(&[GREETING, OK, refusal], Then::Silent).unwrap();
    let error = qmp.execute("quit", soon()).unwrap_err();
    assert_eq!(error.to_string(), "QEMU refused quit: no\\u{1b} way");
}

#[test]
fn a_peer_that_is_not_qemu_is_told() {
    for says in [
        "220 smtp.example ESMTP\r\n",
        "{}\n",
        "[1]\n",
        "\u{0}\n",
        "{\"QMP\": \n",
    ] {
        let error = open(&[says], Then::Silent).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Product);
        assert!(
            error.to_string().contains("is not QMP"),
            "{says:?}: {error}"
        );
    }
    let odd = open(&[GREETING, "{\"hello\": 1}\r\n"], Then::Silent).unwrap_err();
    assert!(odd.to_string().contains("is not QMP"), "{odd}");
}

#[test]
fn silence_and_loss_are_told_apart() {
    for pieces in [&[] as &[&str], &[GREETING], &["{\"QMP\""]] {
        let error = open(pieces, Then::Silent).unwrap_err();
        assert!(error.to_string().contains("does not answer"), "{error}");
        let error = open(pieces, Then::Gone).unwrap_err();
        assert!(error.to_string().contains("was lost"), "{error}");
    }
}

#[test]
fn a_line_without_end_is_cut() {
    let flood = "x".repeat(MAX_LINE + 8192);
    let error = open(&[&flood], Then::Silent).unwrap_err();
    assert!(error.to_string().len() < 400, "{error}");
}

#[test]
fn a_deadline_that_has_passed_reads_nothing() {
    let error = Qmp::open(Script::new(&[GREETING], Then::Silent), Instant::now()).unwrap_err();
    assert!(error.to_string().contains("does not answer"));
}
