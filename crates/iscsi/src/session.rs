//! A session of the kernel's initiator. It is created once; its connection is made again each time it was lost, and I/O
//! waits meanwhile. Requests come in the order of open-iscsi. Logins go through the kernel, because only the kernel
//! knows the CmdSN of the session.

use super::chap::new_challenge;
use super::kernel::{KernelError, KernelSocket};
use super::login::{LoggedIn, Login, LoginError, LoginOutcome, Transport, log_in};
use super::message::{KernelEvent, KernelRequest, Parameter, StopReason};
use super::negotiate::Agreed;
use super::pdu::{
    AsyncMessage, Isid, LoginRequest, LoginResponse, PduError, Response, SequenceNumbers, encode_logout, parse_response,
};
use super::target::Auth;
use super::transport;
use super::transport::{TransportError, connect};
use nix::errno::Errno;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long a target may take to answer.
pub const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// Waits look at least this often whether the session was given up.
const SLICE: Duration = Duration::from_millis(200);
/// Pause before a PDU is sent again that the kernel was not ready for.
const BUSY: Duration = Duration::from_millis(1);
/// At most so many redirections from one portal.
const MOST_MOVES: usize = 4;
/// Commands in flight for a session and for a disk, as open-iscsi has them.
const COMMANDS: u16 = 128;
const QUEUE_DEPTH: u16 = 32;

/// The target to log in to, and the initiator's identity.
#[derive(Debug, Clone)]
pub struct Peer {
    pub initiator: String,
    pub isid: Isid,
    pub target: String,
    pub auth: Auth,
    /// An attempt has shown that the target does not support SHA256.
    pub old_chap: bool,
    /// Tried in their order.
    pub portals: Vec<SocketAddr>,
    /// Limit for one attempt to connect.
    pub connect_wait: Duration,
}

/// Why a portal did not work.
#[derive(Debug, thiserror::Error)]
pub enum PortalError {
    #[error("cannot reach iscsi portal {portal}: {cause}")]
    Reach { portal: SocketAddr, cause: TransportError },
    #[error("iscsi target `{target}` on {portal} refused the login: {cause}")]
    Refused { target: String, portal: SocketAddr, cause: Box<LoginError> },
    #[error("login to iscsi target `{target}` on {portal} failed: {cause}")]
    Login { target: String, portal: SocketAddr, cause: Box<LoginError> },
    #[error("iscsi target `{target}` moved from {portal} to `{address}`, which is no address with a port")]
    Moved { target: String, portal: SocketAddr, address: String },
    #[error("iscsi target `{target}` moves around: {portal} was one move too many")]
    Restless { target: String, portal: SocketAddr },
    #[error("iscsi portal {portal}: {cause}")]
    Kernel { portal: SocketAddr, cause: KernelError },
    #[error("the machine goes down")]
    GivenUp,
}

/// A session in the kernel.
pub struct Session {
    pub kernel: KernelSocket,
    pub peer: Peer,
    /// Number of the session in the kernel.
    pub number: u32,
    /// Number of its SCSI host.
    pub host: u32,
    pub agreed: Agreed,
    /// The portal of the last successful login.
    pub portal: Option<SocketAddr>,
    /// Limit for each answer to a login PDU.
    pub patience: Duration,
    /// Set when the session is to end: all waits end soon after.
    given_up: Arc<AtomicBool>,
}

/// What a message of the kernel means for the thread that keeps the session alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEvent {
    Nothing,
    /// The connection is lost. `error` is of `enum iscsi_err`.
    Lost {
        error: u32,
    },
    /// The target drops the connection. `wait_s`: seconds to wait before the next login.
    Dropped {
        wait_s: u16,
    },
    /// The target asks for a logout or for new parameters; both are done by a new login.
    AskedOut,
    /// The disks of the session are removed.
    Unbound,
    /// The target has answered our logout.
    LoggedOut,
}

impl Session {
    /// Creates a session and its connection, without a login.
    ///
    /// # Errors
    /// [`KernelError`]
    pub fn create(peer: Peer, given_up: Arc<AtomicBool>) -> Result<Session, KernelError> {
        let mut kernel = KernelSocket::open()?;
        let create = KernelRequest::CreateSession { first_command: 1, commands: COMMANDS, queue_depth: QUEUE_DEPTH };
        let [number, host] = kernel.ask(&create)?;
        let (agreed, patience) = (Agreed::default(), ANSWER_PATIENCE);
        let mut session = Session { kernel, peer, number, host, agreed, portal: None, patience, given_up };
        if let Err(error) = session.kernel.ask(&KernelRequest::CreateConnection { session: number }) {
            let _ = session.kernel.ask(&KernelRequest::DestroySession { session: number });
            return Err(error);
        }
        Ok(session)
    }

    /// Logs in at a portal and follows redirections. Calls `reached` once a server has answered.
    ///
    /// # Errors
    /// [`PortalError`]
    pub fn connect(&mut self, first: SocketAddr, reached: &dyn Fn()) -> Result<(), PortalError> {
        let mut portal = first;
        for _ in 0..=MOST_MOVES {
            let mut outcome = self.connect_once(portal, reached);
            if let Err(PortalError::Refused { cause, .. }) = &outcome
                && cause.asks_for_old_chap()
            {
                self.peer.old_chap = true;
                outcome = self.connect_once(portal, reached);
                // Without SHA256 it fails too, so SHA256 was not the cause.
                self.peer.old_chap = outcome.is_ok();
            }
            match outcome? {
                LoginOutcome::LoggedIn(_) => {
                    self.portal = Some(portal);
                    return Ok(());
                }
                LoginOutcome::Moved { address, permanent } => {
                    let to = address.parse();
                    let target = self.peer.target.clone();
                    let to = to.map_err(|_| PortalError::Moved { target, portal, address })?;
                    if permanent && !self.peer.portals.contains(&to) {
                        self.peer.portals.insert(0, to);
                    }
                    portal = to;
                }
            }
        }
        Err(PortalError::Restless { target: self.peer.target.clone(), portal })
    }

    fn connect_once(&mut self, portal: SocketAddr, reached: &dyn Fn()) -> Result<LoginOutcome, PortalError> {
        let stream = connect(portal, self.peer.connect_wait).map_err(|cause| PortalError::Reach { portal, cause })?;
        reached();
        let kernel = |cause| PortalError::Kernel { portal, cause };
        self.kernel.drop_events().map_err(kernel)?;
        self.ask(&KernelRequest::Bind { session: self.number, fd: stream.as_raw_fd() }).map_err(kernel)?;
        // The kernel has its own reference to the socket now.
        drop(stream);
        let outcome = self.log_in(portal);
        if !matches!(outcome, Ok(LoginOutcome::LoggedIn(_))) {
            // Otherwise the kernel would refuse the next socket. The first error is the one that is reported.
            let _ = self.stop(StopReason::Recover);
        }
        outcome
    }

    fn log_in(&mut self, portal: SocketAddr) -> Result<LoginOutcome, PortalError> {
        let kernel = |cause| PortalError::Kernel { portal, cause };
        self.set_before_login(portal).map_err(kernel)?;
        let Session { kernel: socket, peer, number, patience, given_up, .. } = self;
        let login = Login {
            initiator: &peer.initiator,
            target: Some(&peer.target),
            isid: peer.isid,
            auth: &peer.auth,
            challenge: new_challenge(&peer.auth),
            old_chap: peer.old_chap,
        };
        let mut transport = KernelTransport { kernel: socket, session: *number, patience: *patience, given_up };
        let outcome = log_in(&mut transport, &login).map_err(|cause| {
            let target = peer.target.clone();
            match cause {
                LoginError::Transport(TransportError::GivenUp) => PortalError::GivenUp,
                LoginError::Refused { .. } => PortalError::Refused { target, portal, cause: Box::new(cause) },
                _ => PortalError::Login { target, portal, cause: Box::new(cause) },
            }
        })?;
        if let LoginOutcome::LoggedIn(session) = &outcome {
            self.set_after_login(session).map_err(kernel)?;
            self.ask(&KernelRequest::Start { session: self.number }).map_err(kernel)?;
            self.agreed = session.agreed.clone();
        }
        Ok(outcome)
    }

    fn set_before_login(&mut self, portal: SocketAddr) -> Result<(), KernelError> {
        let (target, initiator) = (self.peer.target.clone(), self.peer.initiator.clone());
        self.set_all(&[
            (Parameter::TargetName, &target),
            (Parameter::PersistentAddress, &portal.ip().to_string()),
            (Parameter::PersistentPort, &portal.port().to_string()),
            // The kernel never gives up: `[root] lost` decides how long a server may stay away, and a detach ends the
            // wait.
            (Parameter::RecoveryTimeout, "-1"),
            (Parameter::FastAbort, "1"),
            (Parameter::AbortTimeout, "15"),
            (Parameter::UnitResetTimeout, "30"),
            (Parameter::TargetResetTimeout, "30"),
            // A ping after 5 s of silence, and 5 s for its answer.
            (Parameter::PingTimeout, "5"),
            (Parameter::ReceiveTimeout, "5"),
            (Parameter::InitiatorName, &initiator),
        ])
    }

    fn set_after_login(&mut self, session: &LoggedIn) -> Result<(), KernelError> {
        let agreed = &session.agreed;
        let flag = |value: bool| if value { "1" } else { "0" };
        let mut parameters = vec![
            (Parameter::MaxRecvSegment, agreed.our_segment.to_string()),
            (Parameter::MaxXmitSegment, agreed.their_segment.to_string()),
            (Parameter::HeaderDigest, flag(agreed.header_digest).into()),
            (Parameter::DataDigest, flag(agreed.data_digest).into()),
            (Parameter::InitialR2t, flag(agreed.initial_r2t).into()),
            (Parameter::MaxR2t, "1".into()),
            (Parameter::ImmediateData, flag(agreed.immediate_data).into()),
            (Parameter::FirstBurst, agreed.first_burst.to_string()),
            (Parameter::MaxBurst, agreed.max_burst.to_string()),
            (Parameter::PduInOrder, "1".into()),
            (Parameter::SequenceInOrder, "1".into()),
            (Parameter::RecoveryLevel, "0".into()),
            (Parameter::ExpectedStatus, session.status_number.wrapping_add(1).to_string()),
        ];
        parameters.extend(agreed.portal_group.map(|tag| (Parameter::PortalGroup, tag.to_string())));
        let parameters: Vec<(Parameter, &str)> = parameters.iter().map(|(p, value)| (*p, value.as_str())).collect();
        self.set_all(&parameters)
    }

    fn set_all(&mut self, parameters: &[(Parameter, &str)]) -> Result<(), KernelError> {
        let session = self.number;
        parameters
            .iter()
            .try_for_each(|&(parameter, value)| self.ask(&KernelRequest::Set { session, parameter, value }))
    }

    fn ask(&mut self, request: &KernelRequest) -> Result<(), KernelError> {
        self.kernel.ask(request).map(drop)
    }

    /// Stops the connection.
    pub fn stop(&mut self, how: StopReason) -> Result<(), KernelError> {
        self.ask(&KernelRequest::Stop { session: self.number, how })
    }

    /// Sends a logout. The answer comes as [`SessionEvent::LoggedOut`].
    pub fn send_logout(&mut self) -> Result<(), KernelError> {
        let header = encode_logout(1, SequenceNumbers::default());
        self.ask(&KernelRequest::SendPdu { session: self.number, header: &header, data: &[] })
    }

    /// What a message of the kernel means for this session.
    pub fn read(&self, event: &KernelEvent) -> SessionEvent {
        match event {
            KernelEvent::ConnectionError { session, error } if *session == self.number => {
                SessionEvent::Lost { error: *error }
            }
            KernelEvent::Unbound { session } if *session == self.number => SessionEvent::Unbound,
            KernelEvent::Pdu { session, header, .. } if *session == self.number => match parse_response(header) {
                Ok(Response::Async(AsyncMessage::Logout { .. } | AsyncMessage::Renegotiate)) => SessionEvent::AskedOut,
                Ok(Response::Async(AsyncMessage::Dropped { wait_s })) => SessionEvent::Dropped { wait_s },
                Ok(Response::Logout { .. }) => SessionEvent::LoggedOut,
                _ => SessionEvent::Nothing,
            },
            _ => SessionEvent::Nothing,
        }
    }

    /// Waits for `wanted`, at most until `until`. Ends early when the connection is lost.
    pub fn await_happened(&mut self, wanted: SessionEvent, until: Instant) -> Result<SessionEvent, KernelError> {
        loop {
            let Some(event) = self.kernel.event(until)? else { return Ok(SessionEvent::Nothing) };
            match self.read(&event) {
                lost @ SessionEvent::Lost { .. } => return Ok(lost),
                happened if happened == wanted => return Ok(happened),
                _ => {}
            }
        }
    }

    /// Ends the session in order: disks, logout, connection, session. Nothing may use a disk of it any more.
    pub fn log_out(&mut self, until: Instant) -> Result<(), KernelError> {
        self.set_all(&[(Parameter::RecoveryTimeout, "1")])?;
        self.ask(&KernelRequest::Unbind { session: self.number })?;
        // When the target is gone, this only costs time: the steps below work without it.
        let unbound = self.await_happened(SessionEvent::Unbound, until)?;
        if unbound == SessionEvent::Unbound && self.send_logout().is_ok() {
            self.await_happened(SessionEvent::LoggedOut, until.min(Instant::now() + Duration::from_secs(2)))?;
        }
        self.destroy()
    }

    /// Ends the session without the target. I/O that waits fails.
    pub fn destroy(&mut self) -> Result<(), KernelError> {
        let session = self.number;
        // Each step is tried whatever became of the one before. Only the last one decides about success.
        let _ = self.stop(StopReason::Terminate);
        let _ = self.ask(&KernelRequest::DestroyConnection { session });
        self.ask(&KernelRequest::DestroySession { session })
    }

    /// Whether the session is to end.
    pub fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }
}

/// Carries login PDUs through the kernel.
struct KernelTransport<'a> {
    kernel: &'a mut KernelSocket,
    session: u32,
    patience: Duration,
    given_up: &'a AtomicBool,
}

impl Transport for KernelTransport<'_> {
    fn exchange(&mut self, request: &LoginRequest, text: &[u8]) -> Result<(LoginResponse, Vec<u8>), TransportError> {
        let header = request.encode(text.len());
        let until = Instant::now() + self.patience;
        let send = KernelRequest::SendPdu { session: self.session, header: &header, data: text };
        // The kernel handles one request at a time, and reports a response a moment before it is done with the request.
        while let Err(error) = self.kernel.ask(&send) {
            if !matches!(error, KernelError::Refused { errno: Errno::EPERM, .. }) || Instant::now() >= until {
                return Err(error.into());
            }
            thread::sleep(BUSY);
        }
        while Instant::now() < until {
            if self.given_up.load(Ordering::Acquire) {
                return Err(TransportError::GivenUp);
            }
            match self.kernel.event(Instant::now() + SLICE)? {
                Some(KernelEvent::Pdu { session, header, data }) if session == self.session => {
                    match parse_response(&header)? {
                        Response::Login(response) => return Ok((response, data)),
                        Response::Reject { reason } => return Err(PduError::Rejected(reason).into()),
                        _ => {}
                    }
                }
                Some(KernelEvent::ConnectionError { session, error }) if session == self.session => {
                    return Err(transport::TransportError::Lost(error));
                }
                _ => {}
            }
        }
        Err(TransportError::Timeout)
    }
}
