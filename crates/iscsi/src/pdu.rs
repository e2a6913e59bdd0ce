//! PDUs as bytes: the basic header segment of each type that the control path of an initiator sends or receives (RFC
//! 7143 section 11). All numbers are big-endian.

/// Size of the basic header segment.
pub const HEADER: usize = 48;
/// A basic header segment.
pub type PduHeader = [u8; HEADER];
/// Longest data segment of a login or text PDU before another length is negotiated (RFC 7143 section 13.12), in bytes.
pub const DATA_LIMIT: usize = 8192;
/// "No tag" in the initiator's and the target's task tag.
pub const NO_TAG: u32 = u32::MAX;

/// Opcodes (RFC 7143 section 11.2.1.2). `IMMEDIATE` is a flag in the same byte.
const IMMEDIATE: u8 = 0x40;
const NOP_OUT: u8 = 0x00;
const LOGIN_REQUEST: u8 = 0x03;
const TEXT_REQUEST: u8 = 0x04;
const LOGOUT_REQUEST: u8 = 0x06;
const NOP_IN: u8 = 0x20;
const LOGIN_RESPONSE: u8 = 0x23;
const TEXT_RESPONSE: u8 = 0x24;
const LOGOUT_RESPONSE: u8 = 0x26;
const ASYNC_MESSAGE: u8 = 0x32;
const REJECT: u8 = 0x3f;

/// Flags of login and text PDUs: T or F, and C, which says that the text continues in the next PDU.
const FINAL: u8 = 0x80;
const CONTINUE: u8 = 0x40;

/// What is wrong with a PDU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PduError {
    #[error("a login response names the stage {0}")]
    Stage(u8),
    #[error("a pdu of {0} bytes of data, more than agreed")]
    TooLong(usize),
    #[error("a pdu that was not asked for (opcode {0:#04x})")]
    Unexpected(u8),
    #[error("the target rejected a pdu (reason {0:#04x})")]
    Rejected(u8),
}

/// Stages of a login (RFC 7143 section 11.12.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginStage {
    Security = 0,
    Operational = 1,
    FullFeature = 3,
}

impl LoginStage {
    fn parse(bits: u8) -> Result<LoginStage, PduError> {
        match bits & 3 {
            0 => Ok(LoginStage::Security),
            1 => Ok(LoginStage::Operational),
            3 => Ok(LoginStage::FullFeature),
            other => Err(PduError::Stage(other)),
        }
    }
}

/// An initiator's session identifier (RFC 7143 section 11.12.5).
pub type Isid = [u8; 6];

/// A login request (RFC 7143 section 11.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginRequest {
    /// The current stage, and the stage to go to. The same value twice means to stay.
    pub stage: LoginStage,
    pub next: LoginStage,
    pub isid: Isid,
    pub task_tag: u32,
    pub command_number: u32,
    pub expected_status: u32,
}

impl LoginRequest {
    pub fn encode(&self, data_length: usize) -> PduHeader {
        let mut header = request(LOGIN_REQUEST | IMMEDIATE, data_length, self.task_tag);
        let transit = if self.stage == self.next { 0 } else { FINAL | self.next as u8 };
        header[1] = transit | (self.stage as u8) << 2;
        header[8..14].copy_from_slice(&self.isid);
        put(&mut header, 24, self.command_number);
        put(&mut header, 28, self.expected_status);
        header
    }
}

/// A text request whose whole text is in this PDU (RFC 7143 section 11.10).
pub fn encode_text(data_length: usize, task_tag: u32, target_tag: u32, numbers: SequenceNumbers) -> PduHeader {
    let mut header = request(TEXT_REQUEST, data_length, task_tag);
    header[1] = FINAL;
    put(&mut header, 20, target_tag);
    put(&mut header, 24, numbers.command);
    put(&mut header, 28, numbers.expected_status);
    header
}

/// A logout request that closes the session (RFC 7143 section 11.14).
pub fn encode_logout(task_tag: u32, numbers: SequenceNumbers) -> PduHeader {
    let mut header = request(LOGOUT_REQUEST | IMMEDIATE, 0, task_tag);
    header[1] = FINAL;
    put(&mut header, 24, numbers.command);
    put(&mut header, 28, numbers.expected_status);
    header
}

/// The answer to a target's ping (RFC 7143 section 11.18).
pub fn encode_pong(target_tag: u32, numbers: SequenceNumbers) -> PduHeader {
    let mut header = request(NOP_OUT | IMMEDIATE, 0, NO_TAG);
    header[1] = FINAL;
    put(&mut header, 20, target_tag);
    put(&mut header, 24, numbers.command);
    put(&mut header, 28, numbers.expected_status);
    header
}

/// CmdSN and ExpStatSN of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SequenceNumbers {
    pub command: u32,
    pub expected_status: u32,
}

fn request(opcode: u8, data_length: usize, task_tag: u32) -> PduHeader {
    let mut header = [0; HEADER];
    header[0] = opcode;
    // The length field has three bytes; no caller has more than 8 KiB.
    let [_, length @ ..] = u32::try_from(data_length).unwrap_or(u32::MAX).to_be_bytes();
    header[5..8].copy_from_slice(&length);
    put(&mut header, 16, task_tag);
    header
}

fn put(header: &mut PduHeader, at: usize, value: u32) {
    if let Some(place) = header.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = value.to_be_bytes();
    }
}

/// The word at an offset that is inside the header.
fn word(header: &PduHeader, at: usize) -> u32 {
    header.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

fn half(header: &PduHeader, at: usize) -> u16 {
    header.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u16::from_be_bytes(*bytes))
}

/// Bytes of the data segment without its padding.
pub fn data_length(header: &PduHeader) -> usize {
    word(header, 4) as usize & 0xff_ffff
}

/// Bytes of the additional header segments.
pub fn additional_length(header: &PduHeader) -> usize {
    usize::from(header[4]) * 4
}

/// Bytes of padding after `length` bytes, to a multiple of 4.
pub fn padding(length: usize) -> usize {
    length.wrapping_neg() & 3
}

/// A PDU from a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Response {
    Login(LoginResponse),
    /// `last`: the target has finished; `goes_on`: the text continues in the next PDU.
    Text {
        last: bool,
        goes_on: bool,
        target_tag: u32,
        status_number: u32,
    },
    /// `reason`: 0 done, 1 no such connection, 2 no recovery of connections, 3 cleanup failed.
    Logout {
        reason: u8,
        wait_s: u16,
    },
    Async(AsyncMessage),
    Reject {
        reason: u8,
    },
    /// A ping. It wants an answer unless its tag is [`NO_TAG`].
    NopIn {
        target_tag: u32,
    },
}

/// A login response (RFC 7143 section 11.13).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginResponse {
    /// The stage that the target agrees to go to.
    pub next: Option<LoginStage>,
    /// The text continues in the next response.
    pub goes_on: bool,
    pub status_number: u32,
    pub expected_command: u32,
    pub status: LoginStatus,
}

/// Class and detail of a login response (RFC 7143 section 11.13.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginStatus {
    pub class: u8,
    pub detail: u8,
}

/// An asynchronous message (RFC 7143 section 11.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AsyncMessage {
    /// SCSI sense data or a vendor's message, which need no action.
    Other,
    /// The target asks for a logout within this time.
    Logout { within_s: u16 },
    /// The target drops this connection or all connections. The next login has to wait for `wait_s` seconds.
    Dropped { wait_s: u16 },
    /// The target wants to negotiate again.
    Renegotiate,
}

/// Parses the header of a PDU that a target sent.
///
/// # Errors
/// [`PduError`]
pub fn parse_response(header: &PduHeader) -> Result<Response, PduError> {
    let flags = header[1];
    match header[0] & 0x3f {
        LOGIN_RESPONSE => {
            let status = LoginStatus { class: header[36], detail: header[37] };
            let next = match flags & FINAL != 0 && status.class == 0 {
                true => Some(LoginStage::parse(flags)?),
                false => None,
            };
            let goes_on = flags & CONTINUE != 0;
            let (status_number, expected_command) = (word(header, 24), word(header, 28));
            Ok(Response::Login(LoginResponse { next, goes_on, status_number, expected_command, status }))
        }
        TEXT_RESPONSE => Ok(Response::Text {
            last: flags & FINAL != 0,
            goes_on: flags & CONTINUE != 0,
            target_tag: word(header, 20),
            status_number: word(header, 24),
        }),
        LOGOUT_RESPONSE => Ok(Response::Logout { reason: header[2], wait_s: half(header, 40) }),
        ASYNC_MESSAGE => Ok(Response::Async(match header[36] {
            1 => AsyncMessage::Logout { within_s: half(header, 42) },
            2 | 3 => AsyncMessage::Dropped { wait_s: half(header, 40) },
            4 => AsyncMessage::Renegotiate,
            _ => AsyncMessage::Other,
        })),
        REJECT => Ok(Response::Reject { reason: header[2] }),
        NOP_IN => Ok(Response::NopIn { target_tag: word(header, 20) }),
        other => Err(PduError::Unexpected(other)),
    }
}

impl LoginStatus {
    /// The status in words (RFC 7143 section 11.13.5).
    pub fn meaning(self) -> &'static str {
        match (self.class, self.detail) {
            (0, _) => "success",
            (1, 1) => "the target moved temporarily",
            (1, 2) => "the target moved permanently",
            (2, 0) => "initiator error",
            (2, 1) => "authentication failure",
            (2, 2) => "authorization failure: this initiator may not use the target",
            (2, 3) => "the target was not found",
            (2, 4) => "the target was removed",
            (2, 5) => "unsupported version",
            (2, 6) => "too many connections",
            (2, 7) => "missing parameter",
            (2, 8) => "the connection cannot be included in the session",
            (2, 9) => "the session type is not supported",
            (2, 10) => "the session does not exist",
            (2, 11) => "invalid request during login",
            (3, 1) => "service unavailable",
            (3, 2) => "out of resources",
            (3, _) => "target error",
            _ => "unknown status",
        }
    }
}

#[cfg(test)]
mod tests;
