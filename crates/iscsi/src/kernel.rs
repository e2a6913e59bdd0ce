//! The kernel's side of iSCSI: requests on a NETLINK_ISCSI socket, and the events that arrive between the answers.

use super::message::{KernelEvent, KernelMessage, KernelRequest, ShortMessage, parse_message};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, sockopt};
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// `ISCSI_NL_GRP_ISCSID` as a bit mask: PDUs and connection errors of all sessions.
const GROUP: u32 = 1;
/// The handle of the transport `tcp`, a number.
const HANDLE: &str = "/sys/class/iscsi_transport/tcp/handle";
/// Room for the largest PDU of a login or text response and the headers around it, in bytes.
const BUFFER: usize = 80 << 10;
/// Receive buffer of the socket in bytes: far more than the events of a login need.
const QUEUE: usize = 1 << 20;
/// The kernel answers at once, except while it ends a session that is in use.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why the kernel did not do what it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    #[error("the kernel has no iscsi over tcp: is the module iscsi_tcp there?")]
    NoTransport,
    #[error("iscsi netlink {call}: {}", errno.desc())]
    Socket { call: &'static str, errno: Errno },
    #[error("the kernel would not {request}: {}", errno.desc())]
    Refused { request: &'static str, errno: Errno },
    #[error("the kernel did not answer when asked to {request}")]
    Silent { request: &'static str },
    /// Events were lost, so the state of the connection is unknown.
    #[error("events of the kernel were lost")]
    Overrun,
    #[error(transparent)]
    Short(#[from] ShortMessage),
}

/// A NETLINK_ISCSI socket. Each session has its own: every socket gets the events of all sessions, and the answers to
/// its own requests.
pub struct KernelSocket {
    fd: OwnedFd,
    transport: u64,
    events: VecDeque<KernelEvent>,
}

impl KernelSocket {
    pub fn open() -> Result<KernelSocket, KernelError> {
        let handle = std::fs::read_to_string(HANDLE).map_err(|_| KernelError::NoTransport)?;
        let transport = handle.trim().parse().map_err(|_| KernelError::NoTransport)?;
        let failed = |call| move |errno| KernelError::Socket { call, errno };
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = socket::socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkISCSI)
            .map_err(failed("socket"))?;
        // When this is refused, the default size usually suffices.
        let _ = socket::setsockopt(&fd, sockopt::RcvBufForce, &QUEUE);
        socket::bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUP)).map_err(failed("bind"))?;
        Ok(KernelSocket { fd, transport, events: VecDeque::new() })
    }

    /// Sends a request and waits for the answer: two words whose meaning depends on the request.
    ///
    /// # Errors
    /// [`KernelError`]
    pub fn ask(&mut self, request: &KernelRequest) -> Result<[u32; 2], KernelError> {
        let words = request.words();
        let bytes = request.encode(self.transport);
        socket::send(self.fd.as_raw_fd(), &bytes, MsgFlags::empty())
            .map_err(|errno| KernelError::Socket { call: "send", errno })?;
        let until = Instant::now() + PATIENCE;
        loop {
            match self.read(until)? {
                None => return Err(KernelError::Silent { request: words }),
                Some(KernelMessage::Event(event)) => self.events.push_back(event),
                Some(KernelMessage::Reply(reply)) => match reply.result(request) {
                    Some(Ok(result)) => return Ok(result),
                    Some(Err(errno)) => {
                        return Err(KernelError::Refused { request: words, errno: Errno::from_raw(errno) });
                    }
                    // The late answer to a request that was given up.
                    None => {}
                },
            }
        }
    }

    /// The next event; `None` when there is none before `until`.
    pub fn event(&mut self, until: Instant) -> Result<Option<KernelEvent>, KernelError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            match self.read(until)? {
                None => return Ok(None),
                Some(KernelMessage::Event(event)) => return Ok(Some(event)),
                Some(KernelMessage::Reply(_)) => {}
            }
        }
    }

    /// Whether [`KernelSocket::event`] has a kept event. The descriptor need not be readable then.
    pub fn has_event(&self) -> bool {
        !self.events.is_empty()
    }

    /// Drops the events of a connection that has ended.
    pub fn drop_events(&mut self) -> Result<(), KernelError> {
        self.events.clear();
        loop {
            match self.read(Instant::now()) {
                Ok(Some(_)) | Err(KernelError::Overrun | KernelError::Short(_)) => {}
                Ok(None) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    fn read(&self, until: Instant) -> Result<Option<KernelMessage>, KernelError> {
        let mut buffer = vec![0; BUFFER];
        loop {
            match socket::recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => return Ok(Some(parse_message(buffer.get(..length).unwrap_or_default())?)),
                Err(Errno::ENOBUFS) => return Err(KernelError::Overrun),
                Err(Errno::EAGAIN) => {}
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(KernelError::Socket { call: "recv", errno }),
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
            // Rounded up, so that the rest of a millisecond is waited too. An interrupted poll is repeated by the loop.
            let left = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
            let _ = poll(&mut fds, left);
        }
    }
}

impl AsFd for KernelSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
