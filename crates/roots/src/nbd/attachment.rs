//! Keeps an NBD device connected, by a thread.

use super::control::{NbdControl, REQUEST_TIMEOUT_S};
use super::handshake::Export;
use super::{ANSWER_TIMEOUT, ExportAddress, NbdConnection, NbdError};
use crate::attachment::Attachment;
use crate::statuses::{ConnectionState, StatusHandle};
use crate::survival;
use bootwright_base::Failure;
use bootwright_base::channel::{Receiver, RecvError, channel};
use bootwright_base::wake::{self, Sleeper, Waker};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// The timeout of requests grows up to this: slower servers count as gone.
const LONGEST_TIMEOUT_S: u64 = 24;
/// The kernel may notice a timeout so much late.
const LATE: Duration = Duration::from_secs(2);

/// The handle of the thread.
pub struct NbdAttachment {
    index: u32,
    status: StatusHandle,
    describe: String,
    /// Ends the thread when it is dropped or woken.
    stop: Waker,
    /// Has a value when the thread has ended.
    ended: Receiver<()>,
}

/// The thread's own data.
struct NbdRecovery {
    control: NbdControl,
    index: u32,
    place: ExportAddress,
    export: Export,
    mark: Option<Vec<u8>>,
    /// Timeout of requests on this connection, and when the connection was made.
    timeout_s: u64,
    connected: Instant,
    /// Limit for each message of the next handshake.
    patience: Duration,
    status: StatusHandle,
    stop: Sleeper,
}

#[derive(Debug, thiserror::Error)]
enum DetachError {
    #[error("the kernel did not let go of it in time")]
    Deadline,
    #[error("no thread: {0}")]
    Thread(#[source] io::Error),
}

impl NbdAttachment {
    pub fn start(
        control: NbdControl,
        index: u32,
        place: ExportAddress,
        connection: NbdConnection,
        status: StatusHandle,
        describe: String,
    ) -> io::Result<NbdAttachment> {
        let (stop, sleeper) = wake::pair()?;
        let (ending, ended) = channel();
        let NbdConnection { export, mark, .. } = connection;
        let timeout_s = REQUEST_TIMEOUT_S;
        let recovery = NbdRecovery {
            control,
            index,
            place,
            export,
            mark,
            timeout_s,
            connected: Instant::now(),
            patience: survival::FIRST_PATIENCE,
            status: status.clone(),
            stop: sleeper,
        };
        survival::spawn("nbd", move || {
            recovery.run();
            // Nobody waits when the attachment was dropped.
            let _ = ending.send(());
        })?;
        Ok(NbdAttachment { index, status, describe, stop, ended })
    }
}

impl Attachment for NbdAttachment {
    fn detach(self: Box<Self>, deadline: Duration) -> Result<(), Failure> {
        let until = Instant::now() + deadline;
        self.stop.wake();
        // The thread must end first: it would connect the device again.
        let _ = self.ended.recv_timeout(deadline);
        let (done, wait) = channel();
        let index = self.index;
        // In its own thread, because the kernel's disconnect can hang when the server is gone.
        survival::spawn("nbd-detach", move || {
            let outcome = NbdControl::open(false).map_err(NbdError::from);
            let _ = done.send(outcome.and_then(|mut control| Ok(control.disconnect(index)?)));
        })
        .map_err(DetachError::Thread)?;
        match wait.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(outcome) => outcome?,
            Err(RecvError::Timeout | RecvError::Disconnected) => return Err(DetachError::Deadline.into()),
        }
        self.status.set(ConnectionState::Gone, "");
        Ok(())
    }

    fn describe(&self) -> String {
        self.describe.clone()
    }
}

/// Timeout for poll(2). It is 0 when an event came together with an answer: the descriptor does not become readable for
/// it again.
fn patience(limit: Option<Duration>, has_event: bool) -> PollTimeout {
    match limit {
        Some(limit) => PollTimeout::from(u16::try_from(limit.as_millis()).unwrap_or(u16::MAX)),
        None if has_event => PollTimeout::ZERO,
        None => PollTimeout::NONE,
    }
}

/// Timeout of requests on the next connection. When the last connection broke soon after it was made, requests had no
/// answer there either: the server is slow and not gone, and gets more time.
fn next_timeout_s(timeout_s: u64, connected: Duration) -> u64 {
    if connected < Duration::from_secs(timeout_s) + LATE {
        (timeout_s * 2).min(LONGEST_TIMEOUT_S)
    } else {
        REQUEST_TIMEOUT_S
    }
}

impl NbdRecovery {
    fn run(mut self) {
        while !self.sleep(None) {
            match self.control.is_dead(self.index) {
                Ok(false) => {}
                Ok(true) => {
                    self.status.set(ConnectionState::Lost, "the connection broke; what needs it waits");
                    match self.reconnect(next_timeout_s(self.timeout_s, self.connected.elapsed())) {
                        Ok(address) => self.status.set(ConnectionState::Up, &address),
                        Err(_) if !self.repair() => return,
                        Err(_) => {}
                    }
                }
                Err(error) => self.status.note(&error.to_string()),
            }
        }
    }

    /// Sleeps until there is an event or `limit` is over. Returns true when the thread has to end.
    fn sleep(&mut self, limit: Option<Duration>) -> bool {
        let events = self.control.socket();
        let timeout = patience(limit, events.has_pending());
        let mut fds = vec![PollFd::new(self.stop.as_fd(), PollFlags::POLLIN)];
        // During a repair no events are expected.
        if limit.is_none() {
            fds.push(PollFd::new(events.as_fd(), PollFlags::POLLIN));
        }
        // When the poll was interrupted, the caller looks again.
        let _ = poll(&mut fds, timeout);
        fds.first().and_then(PollFd::any).unwrap_or(false)
    }

    /// Tries until the device is connected again. Returns false when the thread has to end.
    fn repair(&mut self) -> bool {
        let lost = Instant::now();
        let mut reasons = survival::FailureReasons::default();
        loop {
            match self.reconnect(REQUEST_TIMEOUT_S) {
                Ok(address) => {
                    self.status.set(ConnectionState::Up, &address);
                    return true;
                }
                Err(error) => reasons.tell(&self.status, error.to_string()),
            }
            if self.sleep(Some(survival::pause(lost.elapsed()))) {
                return false;
            }
        }
    }

    /// Connects to the same export and hands the connection to the kernel. Returns the server's address.
    fn reconnect(&mut self, timeout_s: u64) -> Result<String, NbdError> {
        let connection = self.place.connect(self.patience);
        // The server may have been too slow for the limit.
        let next = if matches!(connection, Err(NbdError::Handshake { .. })) {
            self.patience * 2
        } else {
            survival::FIRST_PATIENCE
        };
        self.patience = next.min(ANSWER_TIMEOUT);
        let connection = connection?;
        let address = connection.address;
        if let Some(what) = connection.differs(&self.export, self.mark.as_deref()) {
            return Err(NbdError::Changed { export: self.place.export.clone(), address, what });
        }
        self.status.set(ConnectionState::Repairing, "");
        let changed = (timeout_s != self.timeout_s).then_some(timeout_s);
        self.control.reconnect(self.index, &connection.stream, changed)?;
        (self.timeout_s, self.connected) = (timeout_s, Instant::now());
        Ok(address.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_that_is_slow_twice_gets_more_time() {
        let seconds = Duration::from_secs;
        let table = [(1, 60, 1), (1, 2, 2), (2, 3, 4), (16, 17, 24), (24, 25, 24), (24, 27, 1)];
        for (timeout_s, connected, expected) in table {
            assert_eq!(next_timeout_s(timeout_s, seconds(connected)), expected, "{timeout_s} {connected}");
        }
    }

    #[test]
    fn an_event_that_was_read_already_is_not_waited_for() {
        assert_eq!(patience(None, true), PollTimeout::ZERO);
        assert_eq!(patience(None, false), PollTimeout::NONE);
        let pause = survival::pause(Duration::ZERO);
        assert_eq!(patience(Some(pause), true), PollTimeout::from(250u16), "a repair waits between two attempts");
    }
}
