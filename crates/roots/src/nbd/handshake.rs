//! The client's side of NBD's fixed newstyle handshake (nbd project, doc/proto.md), and a read before the kernel takes
//! the socket. All numbers are big-endian. TLS, structured replies and extended headers are not negotiated, because the
//! kernel's driver understands simple replies only.

use std::io::{self, Read, Write};

const NBD_MAGIC: u64 = u64::from_be_bytes(*b"NBDMAGIC");
const OPTION_MAGIC: u64 = u64::from_be_bytes(*b"IHAVEOPT");
/// Magic of the old-style handshake (before 2011).
const OLD_STYLE_MAGIC: u64 = 0x0000_4202_8186_1253;
const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;

/// Handshake flags.
const FIXED_NEWSTYLE: u16 = 1;
const NO_ZEROES: u16 = 2;

/// Options.
const EXPORT_NAME: u32 = 1;
const GO: u32 = 7;

/// Replies to options; errors have bit 31.
const ACK: u32 = 1;
const INFO: u32 = 3;
const ERROR: u32 = 1 << 31;
const UNSUPPORTED: u32 = ERROR | 1;

/// Kinds of information.
const INFO_EXPORT: u16 = 0;
const INFO_BLOCK_SIZE: u16 = 3;

/// Transmission flag: the export cannot be written.
pub const READ_ONLY: u16 = 1 << 1;

/// Longest payload of a reply in bytes. Names and messages have at most 4096.
const LONGEST_REPLY: u32 = 16 << 10;
/// At most so many replies before the outcome; a server that sends more is no NBD server.
const MOST_REPLIES: u32 = 32;
/// Zero bytes behind the answer to [`EXPORT_NAME`], unless [`NO_ZEROES`] was negotiated.
const ZEROES: usize = 124;

/// An export, as the server describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Export {
    /// Bytes.
    pub size: u64,
    /// Transmission flags.
    pub flags: u16,
    /// Smallest size and alignment of a request in bytes; a power of two.
    pub block_size: u32,
}

/// Why the handshake failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error("the connection broke: {0}")]
    Io(#[source] io::Error),
    #[error("the server closed the connection")]
    Closed,
    #[error("there is no NBD server")]
    NotNbd,
    #[error("the server speaks only the old-style protocol")]
    OldStyle,
    #[error("the server's answer makes no sense")]
    Garbled,
    #[error("the server has no export of that name")]
    NoExport,
    #[error("the server refused: {reason}{}{message}", if message.is_empty() { "" } else { ": " })]
    Refused { reason: &'static str, message: String },
    #[error("the server cannot read at {offset}: error {code}")]
    Read { offset: u64, code: u32 },
}

/// Negotiates the export `name`. After that the stream is in the transmission phase.
///
/// # Errors
/// [`HandshakeError`]
pub fn negotiate(stream: &mut (impl Read + Write), name: &str) -> Result<Export, HandshakeError> {
    let flags = read_greeting(stream)?;
    let zeroes = flags & NO_ZEROES == 0;
    // The client's flags have the same bits as the server's.
    write(stream, &u32::from(flags & (FIXED_NEWSTYLE | NO_ZEROES)).to_be_bytes())?;
    // A server without "fixed" newstyle closes the connection on all other options.
    if flags & FIXED_NEWSTYLE == 0 {
        return ask_by_name(stream, name, zeroes);
    }
    write(stream, &encode_option(GO, &encode_go(name)))?;
    match read_go_replies(stream)? {
        Some(export) => Ok(export),
        None => ask_by_name(stream, name, zeroes),
    }
}

fn read_greeting(stream: &mut impl Read) -> Result<u16, HandshakeError> {
    let first: [u8; 8] = read(stream)?;
    if u64::from_be_bytes(first) != NBD_MAGIC {
        return Err(HandshakeError::NotNbd);
    }
    let second: [u8; 8] = read(stream)?;
    match u64::from_be_bytes(second) {
        OPTION_MAGIC => Ok(u16::from_be_bytes(read(stream)?)),
        OLD_STYLE_MAGIC => Err(HandshakeError::OldStyle),
        _ => Err(HandshakeError::NotNbd),
    }
}

/// An option and its data.
fn encode_option(option: u32, data: &[u8]) -> Vec<u8> {
    [&OPTION_MAGIC.to_be_bytes()[..], &option.to_be_bytes(), &size(data).to_be_bytes(), data].concat()
}

/// A length in bytes. No data has 4 GiB.
fn size(data: &[u8]) -> u32 {
    u32::try_from(data.len()).unwrap_or(u32::MAX)
}

/// Data of [`GO`]: the name, and that the client wants to know the block sizes.
fn encode_go(name: &str) -> Vec<u8> {
    let length = size(name.as_bytes()).to_be_bytes();
    [&length[..], name.as_bytes(), &1u16.to_be_bytes(), &INFO_BLOCK_SIZE.to_be_bytes()].concat()
}

/// Reads the export; `None` when the server does not support the option.
fn read_go_replies(stream: &mut impl Read) -> Result<Option<Export>, HandshakeError> {
    let mut found = None;
    let mut block_size = 1;
    for _ in 0..MOST_REPLIES {
        let (kind, data) = read_reply(stream, GO)?;
        match kind {
            ACK => {
                let (size, flags) = found.ok_or(HandshakeError::Garbled)?;
                return Ok(Some(Export { size, flags, block_size }));
            }
            INFO => match parse_info(&data).ok_or(HandshakeError::Garbled)? {
                ExportInfo::Export { size, flags } => found = Some((size, flags)),
                ExportInfo::BlockSize(size) => block_size = size,
                ExportInfo::Other => {}
            },
            UNSUPPORTED => return Ok(None),
            kind if kind & ERROR != 0 => return Err(refusal(kind, &data)),
            _ => {}
        }
    }
    Err(HandshakeError::Garbled)
}

/// Reads type and payload of a reply to `option`.
fn read_reply(stream: &mut impl Read, option: u32) -> Result<(u32, Vec<u8>), HandshakeError> {
    let magic: [u8; 8] = read(stream)?;
    let [to, kind, length]: [u32; 3] = [read(stream)?, read(stream)?, read(stream)?].map(u32::from_be_bytes);
    if u64::from_be_bytes(magic) != REPLY_MAGIC || to != option || length > LONGEST_REPLY {
        return Err(HandshakeError::Garbled);
    }
    let mut data = vec![0; length as usize];
    stream.read_exact(&mut data).map_err(broken)?;
    Ok((kind, data))
}

/// The payload of an [`INFO`] reply.
enum ExportInfo {
    Export { size: u64, flags: u16 },
    BlockSize(u32),
    Other,
}

fn parse_info(data: &[u8]) -> Option<ExportInfo> {
    let (kind, rest) = data.split_first_chunk()?;
    Some(match u16::from_be_bytes(*kind) {
        INFO_EXPORT => {
            let (size, flags) = rest.split_first_chunk()?;
            ExportInfo::Export { size: u64::from_be_bytes(*size), flags: u16::from_be_bytes(*flags.first_chunk()?) }
        }
        INFO_BLOCK_SIZE => {
            let least = u32::from_be_bytes(*rest.first_chunk()?);
            ExportInfo::BlockSize(Some(least).filter(|least| least.is_power_of_two())?)
        }
        _ => ExportInfo::Other,
    })
}

fn refusal(kind: u32, data: &[u8]) -> HandshakeError {
    let reason = match kind & !ERROR {
        2 => "not allowed",
        3 => "it calls the request invalid",
        5 => "it demands TLS",
        6 => return HandshakeError::NoExport,
        7 => "it is going down",
        _ => "no reason that is known",
    };
    let text = String::from_utf8_lossy(data);
    // The message is printed on the console, so it must not steer it.
    let message = text.chars().filter(|c| !c.is_control()).take(200).collect();
    HandshakeError::Refused { reason, message }
}

/// Asks by [`EXPORT_NAME`], which all newstyle servers support. A server without the export closes the connection.
fn ask_by_name(stream: &mut (impl Read + Write), name: &str, zeroes: bool) -> Result<Export, HandshakeError> {
    write(stream, &encode_option(EXPORT_NAME, name.as_bytes()))?;
    let size = match read(stream) {
        Err(HandshakeError::Closed) => return Err(HandshakeError::NoExport),
        size => u64::from_be_bytes(size?),
    };
    let flags = u16::from_be_bytes(read(stream)?);
    if zeroes {
        stream.read_exact(&mut [0; ZEROES]).map_err(broken)?;
    }
    Ok(Export { size, flags, block_size: 1 })
}

/// Reads `length` bytes of the export at `offset`. Only before the kernel gets the connection.
pub fn read_at(stream: &mut (impl Read + Write), offset: u64, length: u32) -> Result<Vec<u8>, HandshakeError> {
    /// The server returns the cookie. Only one request is under way, so it may be constant.
    const COOKIE: [u8; 8] = *b"bootwrig";
    // Command flags 0, command READ (0).
    let head =
        [&REQUEST_MAGIC.to_be_bytes()[..], &[0; 4], &COOKIE, &offset.to_be_bytes(), &length.to_be_bytes()].concat();
    write(stream, &head)?;
    let [magic, code]: [u32; 2] = [read(stream)?, read(stream)?].map(u32::from_be_bytes);
    let cookie: [u8; 8] = read(stream)?;
    if magic != SIMPLE_REPLY_MAGIC || cookie != COOKIE {
        return Err(HandshakeError::Garbled);
    }
    if code != 0 {
        return Err(HandshakeError::Read { offset, code });
    }
    let mut data = vec![0; length as usize];
    stream.read_exact(&mut data).map_err(broken)?;
    Ok(data)
}

fn read<const N: usize>(stream: &mut impl Read) -> Result<[u8; N], HandshakeError> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).map_err(broken)?;
    Ok(bytes)
}

fn write(stream: &mut impl Write, bytes: &[u8]) -> Result<(), HandshakeError> {
    stream.write_all(bytes).map_err(broken)
}

fn broken(error: io::Error) -> HandshakeError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => HandshakeError::Closed,
        _ => HandshakeError::Io(error),
    }
}
