//! Messages of NETLINK_ISCSI as bytes: a netlink header, `struct iscsi_uevent` (56 bytes) and a payload
//! (include/scsi/iscsi_if.h of Linux). All numbers are in native byte order.

use super::pdu::{HEADER, PduHeader, data_length};

/// Size of `struct nlmsghdr`.
const NETLINK_HEADER: usize = 16;
/// Size of `struct iscsi_uevent`: type, iferror, transport handle, the request's union `u` and the reply's union `r`.
const EVENT: usize = 56;
const AT_ERROR: usize = 4;
const AT_HANDLE: usize = 8;
const AT_REQUEST: usize = 16;
const AT_REPLY: usize = 40;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;

/// `enum iscsi_uevent_e`: types of requests, then of events.
const CREATE_SESSION: u32 = 11;
const DESTROY_SESSION: u32 = 12;
const CREATE_CONNECTION: u32 = 13;
const DESTROY_CONNECTION: u32 = 14;
const BIND_CONNECTION: u32 = 15;
const SET_PARAMETER: u32 = 16;
const START_CONNECTION: u32 = 17;
const STOP_CONNECTION: u32 = 18;
const SEND_PDU: u32 = 19;
const UNBIND_SESSION: u32 = 27;
const EVENT_PDU: u32 = 101;
const EVENT_CONNECTION_ERROR: u32 = 102;
const INTERFACE_ERROR: u32 = 103;
const EVENT_UNBOUND: u32 = 105;

/// Number of the only connection of each session.
const CONNECTION: u32 = 0;

/// `enum iscsi_param`: parameters that `SET_PARAM` sets, as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parameter {
    MaxRecvSegment = 0,
    MaxXmitSegment = 1,
    HeaderDigest = 2,
    DataDigest = 3,
    InitialR2t = 4,
    MaxR2t = 5,
    ImmediateData = 6,
    FirstBurst = 7,
    MaxBurst = 8,
    PduInOrder = 9,
    SequenceInOrder = 10,
    RecoveryLevel = 11,
    ExpectedStatus = 14,
    TargetName = 15,
    PortalGroup = 16,
    PersistentAddress = 17,
    PersistentPort = 18,
    RecoveryTimeout = 19,
    FastAbort = 26,
    AbortTimeout = 27,
    UnitResetTimeout = 28,
    PingTimeout = 30,
    ReceiveTimeout = 31,
    InitiatorName = 34,
    TargetResetTimeout = 35,
}

/// Why a connection is stopped (`STOP_CONN_TERM`, `STOP_CONN_RECOVER`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// The session ends: I/O that waits fails.
    Terminate = 1,
    /// I/O waits for the next login.
    Recover = 3,
}

/// A request to the kernel. `session` is the number of the session in the kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum KernelRequest<'a> {
    CreateSession {
        first_command: u32,
        commands: u16,
        queue_depth: u16,
    },
    DestroySession {
        session: u32,
    },
    CreateConnection {
        session: u32,
    },
    DestroyConnection {
        session: u32,
    },
    /// Hands a connected socket to the session.
    Bind {
        session: u32,
        fd: i32,
    },
    Set {
        session: u32,
        parameter: Parameter,
        value: &'a str,
    },
    Start {
        session: u32,
    },
    Stop {
        session: u32,
        how: StopReason,
    },
    SendPdu {
        session: u32,
        header: &'a PduHeader,
        data: &'a [u8],
    },
    /// Removes the disks of the session.
    Unbind {
        session: u32,
    },
}

impl KernelRequest<'_> {
    /// The type of the message. The answer has the same type.
    fn kind(&self) -> u32 {
        match self {
            KernelRequest::CreateSession { .. } => CREATE_SESSION,
            KernelRequest::DestroySession { .. } => DESTROY_SESSION,
            KernelRequest::CreateConnection { .. } => CREATE_CONNECTION,
            KernelRequest::DestroyConnection { .. } => DESTROY_CONNECTION,
            KernelRequest::Bind { .. } => BIND_CONNECTION,
            KernelRequest::Set { .. } => SET_PARAMETER,
            KernelRequest::Start { .. } => START_CONNECTION,
            KernelRequest::Stop { .. } => STOP_CONNECTION,
            KernelRequest::SendPdu { .. } => SEND_PDU,
            KernelRequest::Unbind { .. } => UNBIND_SESSION,
        }
    }

    /// The request in words, for errors.
    pub fn words(&self) -> &'static str {
        match self {
            KernelRequest::CreateSession { .. } => "make a session",
            KernelRequest::DestroySession { .. } => "end the session",
            KernelRequest::CreateConnection { .. } => "make a connection",
            KernelRequest::DestroyConnection { .. } => "end the connection",
            KernelRequest::Bind { .. } => "hand the socket over",
            KernelRequest::Set { .. } => "set a parameter",
            KernelRequest::Start { .. } => "start the session",
            KernelRequest::Stop { .. } => "stop the connection",
            KernelRequest::SendPdu { .. } => "send a pdu",
            KernelRequest::Unbind { .. } => "remove the disks",
        }
    }

    /// Whether the first word of the reply is a result code.
    fn has_result(&self) -> bool {
        matches!(self, KernelRequest::Bind { .. } | KernelRequest::Start { .. } | KernelRequest::SendPdu { .. })
    }

    /// The bytes of the message. `transport` is the handle of the transport `tcp` in sysfs.
    pub fn encode(&self, transport: u64) -> Vec<u8> {
        let (words, data) = self.body();
        let mut event = [0; EVENT];
        let places = event.as_chunks_mut::<4>().0.iter_mut();
        // The union `u` follows type, iferror and handle.
        for (place, word) in places.skip(AT_REQUEST / 4).zip(words) {
            *place = word.to_ne_bytes();
        }
        if let Some(place) = event.first_chunk_mut() {
            *place = self.kind().to_ne_bytes();
        }
        if let Some(place) = event.get_mut(AT_HANDLE..).and_then(<[u8]>::first_chunk_mut) {
            *place = transport.to_ne_bytes();
        }
        let length = size(NETLINK_HEADER + EVENT + data.len());
        let kind = u16::try_from(self.kind()).unwrap_or_default();
        let head = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &REQUEST.to_ne_bytes(), &[0; 8]];
        let mut bytes = [&head.concat(), &event[..], &data].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// The words of the union `u`, and the payload.
    fn body(&self) -> (Vec<u32>, Vec<u8>) {
        let nothing = Vec::new();
        match *self {
            KernelRequest::CreateSession { first_command, commands, queue_depth } => {
                // The second word of the union has two halves.
                let [a, b] = commands.to_ne_bytes();
                let [c, d] = queue_depth.to_ne_bytes();
                (vec![first_command, u32::from_ne_bytes([a, b, c, d])], nothing)
            }
            KernelRequest::DestroySession { session } | KernelRequest::Unbind { session } => (vec![session], nothing),
            KernelRequest::CreateConnection { session }
            | KernelRequest::DestroyConnection { session }
            | KernelRequest::Start { session } => (vec![session, CONNECTION], nothing),
            KernelRequest::Bind { session, fd } => {
                let [a, b, c, d, e, f, g, h] = (fd as u64).to_ne_bytes();
                let fd = [[a, b, c, d], [e, f, g, h]].map(u32::from_ne_bytes);
                (vec![session, CONNECTION, fd[0], fd[1], 1], nothing)
            }
            // The flag of STOP_CONN comes after a handle of 8 bytes.
            KernelRequest::Stop { session, how } => (vec![session, CONNECTION, 0, 0, how as u32], nothing),
            KernelRequest::Set { session, parameter, value } => {
                let data = [value.as_bytes(), &[0]].concat();
                (vec![session, CONNECTION, parameter as u32, size(data.len())], data)
            }
            KernelRequest::SendPdu { session, header, data } => {
                let padded = data.len().next_multiple_of(4);
                let mut bytes = [&header[..], data].concat();
                bytes.resize(HEADER + padded, 0);
                (vec![session, CONNECTION, size(HEADER), size(padded)], bytes)
            }
        }
    }
}

/// A length in bytes. No message has 4 GiB.
fn size(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// An event that the kernel reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelEvent {
    /// A PDU that user space has to handle.
    Pdu {
        session: u32,
        header: PduHeader,
        data: Vec<u8>,
    },
    /// The connection failed. `error` is of `enum iscsi_err`.
    ConnectionError {
        session: u32,
        error: u32,
    },
    /// The disks of the session are removed.
    Unbound {
        session: u32,
    },
    Other,
}

/// A message of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KernelMessage {
    /// The answer to a request.
    Reply(KernelReply),
    Event(KernelEvent),
}

/// The answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelReply {
    kind: u32,
    event: u32,
    error: i32,
    words: [u32; 2],
}

impl KernelReply {
    /// The two words of the result, or the error as a positive errno. `None` when the reply belongs to another request.
    pub fn result(&self, request: &KernelRequest) -> Option<Result<[u32; 2], i32>> {
        if self.kind != request.kind() {
            return None;
        }
        let error = match self.event {
            INTERFACE_ERROR => self.error,
            _ if request.has_result() => self.words[0] as i32,
            _ => 0,
        };
        Some(if error == 0 { Ok(self.words) } else { Err(error.wrapping_abs()) })
    }
}

/// A message that is too short; its length in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message of {0} bytes from the kernel is too short")]
pub struct ShortMessage(usize);

/// Parses a datagram, in which the kernel sends one message.
///
/// # Errors
/// [`ShortMessage`]
pub fn parse_message(datagram: &[u8]) -> Result<KernelMessage, ShortMessage> {
    let short = || ShortMessage(datagram.len());
    let (head, rest) = datagram.split_first_chunk::<NETLINK_HEADER>().ok_or_else(short)?;
    let (event, payload) = rest.split_at_checked(EVENT).ok_or_else(short)?;
    let kind = u32::from(u16::from_ne_bytes([head[4], head[5]]));
    let words = [word(event, AT_REPLY), word(event, AT_REPLY + 4)];
    let what = word(event, 0);
    if kind != 0 {
        let error = word(event, AT_ERROR) as i32;
        return Ok(KernelMessage::Reply(KernelReply { kind, event: what, error, words }));
    }
    let [session, _connection] = words;
    Ok(KernelMessage::Event(match what {
        EVENT_PDU => {
            let header: PduHeader = payload.get(..HEADER).and_then(|h| h.try_into().ok()).ok_or_else(short)?;
            // The message is padded. The header of the PDU tells the true length.
            let data = payload.get(HEADER..HEADER + data_length(&header)).ok_or_else(short)?.to_vec();
            KernelEvent::Pdu { session, header, data }
        }
        EVENT_CONNECTION_ERROR => KernelEvent::ConnectionError { session, error: word(event, AT_REPLY + 8) },
        EVENT_UNBOUND => KernelEvent::Unbound { session },
        _ => KernelEvent::Other,
    }))
}

/// The word at an offset of an event; 0 when the event is too short.
fn word(event: &[u8], at: usize) -> u32 {
    event.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_ne_bytes(*bytes))
}

/// `enum iscsi_err` in words.
pub fn error_words(error: u32) -> &'static str {
    match error {
        1011 => "connection failed",
        1014 | 1015 => "a digest was wrong",
        1019 => "sending failed",
        1020 => "the target closed the connection",
        1021 => "a command took too long",
        1022 => "the target does not answer pings",
        _ => "protocol error",
    }
}

#[cfg(test)]
mod tests;
