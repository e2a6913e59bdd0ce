//! Keeps an iSCSI session alive. A thread waits for events of the kernel, logs in again when the connection is lost,
//! and ends the session when it is detached. The thread reads no file of the root and looks up no name.

use crate::attachment::Attachment;
use crate::statuses::{ConnectionState, StatusHandle};
use crate::survival;
use bootwright_base::Failure;
use bootwright_base::channel::{Receiver, channel};
use bootwright_base::wake::{self, Sleeper, Waker};
use bootwright_iscsi::kernel::KernelError;
use bootwright_iscsi::message::{StopReason, error_words};
use bootwright_iscsi::session::{ANSWER_PATIENCE, PortalError, Session, SessionEvent};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Pause after an event that cannot be read.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a target may take to answer a logout that it has asked for.
const LOGOUT_PATIENCE: Duration = Duration::from_secs(3);

/// Why a session is not kept alive, or not ended.
#[derive(Debug, thiserror::Error)]
enum AttachmentError {
    #[error("no thread to keep the session alive: {0}")]
    Thread(#[source] io::Error),
    #[error("the session did not end within {0} s")]
    Deadline(u64),
}

/// The handle of the thread.
pub struct IscsiAttachment {
    name: String,
    waker: Waker,
    given_up: Arc<AtomicBool>,
    done: Receiver<()>,
    until: Arc<Mutex<Instant>>,
}

/// Starts the thread for a session that is logged in.
pub fn keep(
    session: Session,
    status: StatusHandle,
    given_up: Arc<AtomicBool>,
    name: String,
) -> Result<IscsiAttachment, Failure> {
    let (waker, sleeper) = wake::pair().map_err(AttachmentError::Thread)?;
    let (report, done) = channel();
    let until = Arc::new(Mutex::new(Instant::now()));
    let deadline = until.clone();
    let mut work = IscsiRecovery { session, status, sleeper, up: true };
    let run = move || {
        work.run();
        work.end(*deadline.lock().unwrap_or_else(PoisonError::into_inner));
        // Nobody listens any more when the deadline of the detach is over.
        let _ = report.send(());
    };
    survival::spawn("iscsi", run).map_err(AttachmentError::Thread)?;
    Ok(IscsiAttachment { name, waker, given_up, done, until })
}

impl Attachment for IscsiAttachment {
    fn detach(self: Box<Self>, deadline: Duration) -> Result<(), Failure> {
        let until = Instant::now() + deadline;
        // The target gets half of the time to answer, so that the session can still be ended without it.
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + deadline / 2;
        self.given_up.store(true, Ordering::Release);
        self.waker.wake();
        let ended = self.done.recv_timeout(until.saturating_duration_since(Instant::now()));
        Ok(ended.map_err(|_| AttachmentError::Deadline(deadline.as_secs()))?)
    }

    fn describe(&self) -> String {
        self.name.clone()
    }
}

/// The thread's own data.
struct IscsiRecovery {
    session: Session,
    status: StatusHandle,
    sleeper: Sleeper,
    /// Whether the session is logged in, as far as the thread knows.
    up: bool,
}

impl IscsiRecovery {
    /// Runs until the session is detached.
    fn run(&mut self) {
        while !self.session.is_given_up() {
            self.sleep(None);
            loop {
                // Handles all events that have come, then sleeps.
                match self.session.kernel.event(Instant::now()) {
                    Ok(Some(event)) => {
                        let happened = self.session.read(&event);
                        self.deal_with(happened);
                    }
                    Ok(None) => break,
                    Err(KernelError::Overrun) => self.recover("events of the kernel were lost", Duration::ZERO),
                    Err(error) => {
                        self.status.note(&error.to_string());
                        self.sleep(Some(PAUSE));
                        break;
                    }
                }
                if self.session.is_given_up() {
                    break;
                }
            }
        }
    }

    fn deal_with(&mut self, happened: SessionEvent) {
        match happened {
            SessionEvent::Lost { error } => self.recover(error_words(error), self.usual_wait()),
            SessionEvent::Dropped { wait_s } => {
                self.recover("the target drops the connection", Duration::from_secs(wait_s.into()));
            }
            SessionEvent::AskedOut => {
                self.status.note("the target asks for a new login");
                if self.session.send_logout().is_ok() {
                    // When the target does not answer the logout, the connection is dropped all the same.
                    let _ = self.session.await_happened(SessionEvent::LoggedOut, Instant::now() + LOGOUT_PATIENCE);
                }
                self.recover("logged out as the target asked", Duration::ZERO);
            }
            SessionEvent::Nothing | SessionEvent::Unbound | SessionEvent::LoggedOut => {}
        }
    }

    /// The wait after a lost connection that was negotiated.
    fn usual_wait(&self) -> Duration {
        Duration::from_secs(self.session.agreed.wait_s.into())
    }

    /// Logs in again, however long it takes. I/O waits meanwhile.
    fn recover(&mut self, why: &str, wait: Duration) {
        self.up = false;
        self.status.set(ConnectionState::Lost, why);
        if let Err(error) = self.session.stop(StopReason::Recover) {
            self.status.note(&error.to_string());
        }
        let lost = Instant::now();
        let mut reasons = survival::FailureReasons::default();
        self.session.patience = survival::FIRST_PATIENCE;
        // A server that was restarted is often back at once, so only a negotiated wait is kept.
        self.sleep(Some(wait));
        while !self.session.is_given_up() {
            match self.try_portals() {
                Ok(()) => {
                    self.up = true;
                    return self.status.set(ConnectionState::Up, "");
                }
                Err(PortalError::GivenUp) => return,
                Err(error) => {
                    if matches!(error, PortalError::Login { .. }) {
                        self.session.patience = (self.session.patience * 2).min(ANSWER_PATIENCE);
                    }
                    reasons.tell(&self.status, error.to_string());
                }
            }
            self.sleep(Some(survival::pause(lost.elapsed())));
        }
    }

    fn try_portals(&mut self) -> Result<(), PortalError> {
        let status = self.status.clone();
        let mut outcome = Err(PortalError::GivenUp);
        for portal in self.session.peer.portals.clone() {
            if self.session.is_given_up() {
                break;
            }
            outcome = self.session.connect(portal, &|| status.set(ConnectionState::Repairing, ""));
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    /// Sleeps until the limit is over or somebody wakes the thread; without a limit also until the kernel has an event.
    fn sleep(&mut self, limit: Option<Duration>) {
        if self.session.is_given_up() || (limit.is_none() && self.session.kernel.has_event()) {
            return;
        }
        let timeout = limit
            .map_or(PollTimeout::NONE, |limit| PollTimeout::try_from(limit.as_millis()).unwrap_or(PollTimeout::MAX));
        let mut fds = vec![PollFd::new(self.sleeper.as_fd(), PollFlags::POLLIN)];
        if limit.is_none() {
            fds.push(PollFd::new(self.session.kernel.as_fd(), PollFlags::POLLIN));
        }
        // When the poll was interrupted, everything is looked at too.
        let _ = poll(&mut fds, timeout);
        drop(fds);
        self.sleeper.clear();
    }

    /// Ends the session: in order when it is logged in, else at once, so that I/O that waits for the target fails.
    fn end(&mut self, until: Instant) {
        let ended = match self.up {
            true => self.session.log_out(until),
            false => self.session.destroy(),
        };
        let why = ended.map_or_else(|error| error.to_string(), |()| String::new());
        self.status.set(ConnectionState::Gone, &why);
    }
}
