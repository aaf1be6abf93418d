//! The QEMU Machine Protocol: one JSON value on a line each way (QEMU, `docs/interop/qmp-spec`).
//!
//! Only the protocol is here: greeting, commands, events, and a peer that is slow, silent or not
//! QEMU at all. Where the socket is, and what an event means, is not.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use stratavm::{Error, ErrorKind, Result};

/// Longest line that is taken, in bytes. QEMU's longest answer to what is asked here is far below.
const MAX_LINE: usize = 1 << 20;

/// A stream with time limits on both directions.
pub(crate) trait Timed: Read + Write {
    /// Sets the limit of one read or write; never zero.
    fn limit(&self, limit: Duration) -> io::Result<()>;
}

/// An event that QEMU reported.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    /// Its name, such as `SHUTDOWN`.
    pub(crate) name: String,
    /// Its data; null if it has none.
    pub(crate) data: Value,
}

/// One QMP session.
#[derive(Debug)]
pub(crate) struct Qmp<S> {
    stream: S,
    buffer: Vec<u8>,
    events: VecDeque<Event>,
}

impl<S: Timed> Qmp<S> {
    /// Reads the greeting and leaves the negotiation mode.
    ///
    /// # Errors
    /// `Product` if the peer does not speak QMP, goes away, or is silent until `deadline`.
    pub(crate) fn open(stream: S, deadline: Instant) -> Result<Self> {
        let mut qmp = Self {
            stream,
            buffer: Vec::new(),
            events: VecDeque::new(),
        };
        let greeting = qmp.line(deadline)?.ok_or_else(silent)?;
        if greeting.get("QMP").is_none() {
            return Err(nonsense(&greeting.to_string()));
        }
        qmp.execute("qmp_capabilities", deadline)?;
        Ok(qmp)
    }

    /// Runs a command without arguments and returns its answer.
    ///
    /// # Errors
    /// `Product` with QEMU's own words if it refuses; as [`Self::open`] otherwise.
    pub(crate) fn execute(&mut self, command: &str, deadline: Instant) -> Result<Value> {
        let line = format!("{}\r\n", json!({ "execute": command }));
        self.send(line.as_bytes(), deadline)?;
        loop {
            let mut answer = self.line(deadline)?.ok_or_else(silent)?;
            if let Some(event) = event(&answer) {
                self.events.push_back(event);
            } else if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            } else if let Some(reason) = answer.pointer("/error/desc").and_then(Value::as_str) {
                let message = format!("QEMU refused {command}: {}", shown(reason));
                return Err(Error::new(ErrorKind::Product, message));
            } else {
                return Err(nonsense(&answer.to_string()));
            }
        }
    }

    /// The next event, waiting at most until `deadline`; `None` if there was none.
    ///
    /// # Errors
    /// As [`Self::open`], but silence is none.
    pub(crate) fn event(&mut self, deadline: Instant) -> Result<Option<Event>> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            match self.line(deadline)? {
                None => return Ok(None),
                Some(line) => self.events.extend(event(&line)),
            }
        }
    }

    fn send(&mut self, bytes: &[u8], deadline: Instant) -> Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        self.stream
            .limit(left.max(SHORTEST))
            .and_then(|()| self.stream.write_all(bytes))
            .map_err(|error| {
                if timed_out(&error) {
                    silent()
                } else {
                    gone(error)
                }
            })
    }

    /// The next line as JSON; `None` at the deadline.
    fn line(&mut self, deadline: Instant) -> Result<Option<Value>> {
        let mut chunk = [0; 4096];
        let mut searched = 0;
        loop {
            if let Some(end) = self.buffer[searched..]
                .iter()
                .position(|byte| *byte == b'\n')
            {
                let line: Vec<u8> = self.buffer.drain(..=searched + end).collect();
                return match serde_json::from_slice(&line) {
                    Ok(value @ Value::Object(_)) => Ok(Some(value)),
                    _ => Err(nonsense(&String::from_utf8_lossy(&line))),
                };
            }
            searched = self.buffer.len();
            if searched > MAX_LINE {
                return Err(nonsense(&String::from_utf8_lossy(&self.buffer)));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream.limit(left.max(SHORTEST)).map_err(gone)?;
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(gone(io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => self.buffer.extend(&chunk[..read]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if timed_out(&error) => return Ok(None),
                Err(error) => return Err(gone(error)),
            }
        }
    }
}

/// A limit of zero would mean none.
const SHORTEST: Duration = Duration::from_millis(1);

fn event(line: &Value) -> Option<Event> {
    let name = line.get("event")?.as_str()?.to_owned();
    Some(Event {
        name,
        data: line.get("data").cloned().unwrap_or(Value::Null),
    })
}

fn timed_out(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

fn silent() -> Error {
    Error::new(ErrorKind::Product, "QEMU's control socket does not answer")
}

fn gone(error: io::Error) -> Error {
    Error::new(
        ErrorKind::Product,
        "the connection to QEMU's control socket was lost",
    )
    .caused_by(error)
}

/// Whether the peer went away, as QEMU does when it ends while it is asked.
pub(crate) fn is_lost(error: &Error) -> bool {
    let cause =
        std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| {
        matches!(
            cause.kind(),
            io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe
        )
    })
}

fn nonsense(line: &str) -> Error {
    let message = format!(
        "what answers on QEMU's control socket is not QMP: {}",
        shown(line)
    );
    Error::new(ErrorKind::Product, message)
}

/// Foreign text in a message: short and without control characters.
fn shown(text: &str) -> String {
    text.trim()
        .chars()
        .take(200)
        .flat_map(char::escape_debug)
        .collect()
}

#[cfg(test)]
mod tests;
