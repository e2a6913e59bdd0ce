//! The kernel's side of iSCSI: requests on a NETLINK_ISCSI socket, and the events that come between their answers.

use super::message::{KernelEvent, KernelMessage, KernelRequest, ShortMessage, parse_message};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, sockopt};
use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// `ISCSI_NL_GRP_ISCSID` as a bit mask: PDUs and errors of all sessions.
const GROUP: u32 = 1;
/// The transport of iscsi_tcp.
const HANDLE: &str = "/sys/class/iscsi_transport/tcp/handle";
/// Room for a PDU of the largest size that a login or text response has, and for what is around it.
const BUFFER: usize = 80 << 10;
/// Events of a login that nobody has read yet; far more than there are.
const QUEUE: usize = 1 << 20;
/// The kernel answers at once, unless it is destroying something that is busy.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why the kernel does not do it.
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
    /// Events were lost: what state the connection is in is not known.
    #[error("events of the kernel were lost")]
    Overrun,
    #[error(transparent)]
    Short(#[from] ShortMessage),
}

/// The socket. Each session has one of its own: events of all sessions arrive on each, replies only where they belong.
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
        // A smaller queue does as well, mostly.
        let _ = socket::setsockopt(&fd, sockopt::RcvBufForce, &QUEUE);
        socket::bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUP)).map_err(failed("bind"))?;
        Ok(KernelSocket { fd, transport, events: VecDeque::new() })
    }

    /// Asks, and waits for the answer: two words that depend on the request.
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
                    // Late, from a request that was given up.
                    None => {}
                },
            }
        }
    }

    /// The next event, or `None` when there was none until then.
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

    /// Whether [`KernelSocket::event`] has something although the descriptor may not be readable.
    pub fn has_event(&self) -> bool {
        !self.events.is_empty()
    }

    /// Forgets what was said of a connection that is over.
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
            // Rounded up, so that the last millisecond is slept too; an interruption is looked at above.
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
