//! Keeps an NBD device connected.

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

/// A server that needs longer than this for one request is not waited for.
const LONGEST_TIMEOUT_S: u64 = 24;
/// The kernel may notice a request without an answer that much later than its timeout.
const LATE: Duration = Duration::from_secs(2);

/// The main side of a device's recovery thread.
pub struct NbdAttachment {
    index: u32,
    status: StatusHandle,
    describe: String,
    /// Dropped or used, it ends the thread.
    stop: Waker,
    /// Says that the thread has ended.
    ended: Receiver<()>,
}

/// The recovery thread.
struct NbdRecovery {
    control: NbdControl,
    index: u32,
    place: ExportAddress,
    export: Export,
    mark: Option<Vec<u8>>,
    /// For requests on this connection, and since when there is this connection.
    timeout_s: u64,
    connected: Instant,
    /// Between two words of the next handshake.
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
        // Without the recovery thread nobody connects again what is being disconnected.
        let _ = self.ended.recv_timeout(deadline);
        let (done, wait) = channel();
        let index = self.index;
        // In a thread: saying goodbye to a server that is gone can hang.
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

/// How long to wait for descriptors. An event that came along with an answer is read already: no descriptor tells of it.
fn patience(limit: Option<Duration>, has_event: bool) -> PollTimeout {
    match limit {
        Some(limit) => PollTimeout::from(u16::try_from(limit.as_millis()).unwrap_or(u16::MAX)),
        None if has_event => PollTimeout::ZERO,
        None => PollTimeout::NONE,
    }
}

/// For requests after a loss that is over at once. What was sent again on the last connection, and had no answer there
/// either, says that the server is not away but slow: it gets more time.
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

    /// Until there is an event, or for so long; true when all is over.
    fn sleep(&mut self, limit: Option<Duration>) -> bool {
        let events = self.control.socket();
        let timeout = patience(limit, events.has_pending());
        let mut fds = vec![PollFd::new(self.stop.as_fd(), PollFlags::POLLIN)];
        // While it is being repaired only time counts.
        if limit.is_none() {
            fds.push(PollFd::new(events.as_fd(), PollFlags::POLLIN));
        }
        // Interrupted or not: the caller looks.
        let _ = poll(&mut fds, timeout);
        fds.first().and_then(PollFd::any).unwrap_or(false)
    }

    /// Tries until the device is connected again; false when all is over.
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

    /// A new connection to the same export, handed to the kernel; gives the server's address.
    fn reconnect(&mut self, timeout_s: u64) -> Result<String, NbdError> {
        let connection = self.place.connect(self.patience);
        // It may have been too slow for us.
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
