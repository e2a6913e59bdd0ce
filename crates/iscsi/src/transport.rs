//! PDUs over a TCP connection, for discovery sessions. Sessions with disks go through the kernel ([`super::session`]).

use super::kernel::KernelError;
use super::login::Transport;
use super::message::error_words;
use super::pdu::{
    DATA_LIMIT, HEADER, LoginRequest, LoginResponse, NO_TAG, PduError, PduHeader, Response, SequenceNumbers,
    additional_length, data_length, encode_pong, padding, parse_response,
};
use super::text::TEXT_LIMIT;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Why a PDU was not sent or received.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    #[error("the target closed the connection")]
    Closed,
    #[error("the target did not answer in time")]
    Timeout,
    #[error("{}", error_words(*.0))]
    Lost(u32),
    #[error("the machine goes down")]
    GivenUp,
    #[error("the connection broke: {0}")]
    Io(#[source] io::Error),
    #[error(transparent)]
    Pdu(#[from] PduError),
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

impl From<io::Error> for TransportError {
    fn from(error: io::Error) -> TransportError {
        match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => TransportError::Closed,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => TransportError::Timeout,
            _ => TransportError::Io(error),
        }
    }
}

/// Connects. Nagle's algorithm is off, because every PDU is waited for.
pub fn connect(portal: SocketAddr, patience: Duration) -> Result<TcpStream, TransportError> {
    let stream = TcpStream::connect_timeout(&portal, patience).map_err(TransportError::Connect)?;
    stream.set_nodelay(true).map_err(TransportError::Connect)?;
    Ok(stream)
}

/// A connection that carries PDUs.
pub struct TcpTransport<S> {
    pub stream: S,
}

impl TcpTransport<TcpStream> {
    /// Connects. `patience` limits the connection attempt and each read.
    pub fn connect(portal: SocketAddr, patience: Duration) -> Result<Self, TransportError> {
        let stream = connect(portal, patience)?;
        stream.set_read_timeout(Some(patience)).map_err(TransportError::Connect)?;
        stream.set_write_timeout(Some(patience)).map_err(TransportError::Connect)?;
        Ok(TcpTransport { stream })
    }
}

impl<S: Read + Write> TcpTransport<S> {
    /// Sends a PDU in one write.
    pub fn send(&mut self, header: &PduHeader, data: &[u8]) -> Result<(), TransportError> {
        let mut bytes = Vec::with_capacity(HEADER + data.len() + 3);
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len() + padding(data.len()), 0);
        Ok(self.stream.write_all(&bytes)?)
    }

    /// The next PDU that is no ping. Pings are answered.
    pub fn receive(&mut self, numbers: SequenceNumbers) -> Result<(Response, Vec<u8>), TransportError> {
        loop {
            let (header, data) = self.read()?;
            match parse_response(&header)? {
                Response::NopIn { target_tag: NO_TAG } => {}
                Response::NopIn { target_tag } => self.send(&encode_pong(target_tag, numbers), &[])?,
                Response::Reject { reason } => return Err(PduError::Rejected(reason).into()),
                response => return Ok((response, data)),
            }
        }
    }

    fn read(&mut self) -> Result<(PduHeader, Vec<u8>), TransportError> {
        let mut header = [0; HEADER];
        self.stream.read_exact(&mut header)?;
        let (extra, length) = (additional_length(&header), data_length(&header));
        if length > TEXT_LIMIT {
            return Err(PduError::TooLong(length).into());
        }
        let mut data = vec![0; extra + length + padding(length)];
        self.stream.read_exact(&mut data)?;
        data.drain(..extra);
        data.truncate(length);
        Ok((header, data))
    }
}

impl<S: Read + Write> Transport for TcpTransport<S> {
    fn exchange(&mut self, request: &LoginRequest, text: &[u8]) -> Result<(LoginResponse, Vec<u8>), TransportError> {
        if text.len() > DATA_LIMIT {
            return Err(PduError::TooLong(text.len()).into());
        }
        self.send(&request.encode(text.len()), text)?;
        match self.receive(SequenceNumbers::default())? {
            (Response::Login(response), data) => Ok((response, data)),
            _ => Err(PduError::Unexpected(0).into()),
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// What a target sends, and what it got.
    #[derive(Default)]
    pub struct FakeStream {
        pub from_target: VecDeque<u8>,
        pub to_target: Vec<u8>,
    }

    impl FakeStream {
        /// Queues a PDU with the opcode, flags and data.
        pub fn push(&mut self, opcode: u8, flags: u8, target_tag: u32, data: &[u8]) {
            let mut header = [0; HEADER];
            (header[0], header[1]) = (opcode, flags);
            header[5..8].copy_from_slice(&(data.len() as u32).to_be_bytes()[1..]);
            header[20..24].copy_from_slice(&target_tag.to_be_bytes());
            self.from_target.extend(header);
            self.from_target.extend(data);
            self.from_target.extend(std::iter::repeat_n(0, padding(data.len())));
        }
    }

    impl Read for FakeStream {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.from_target.read(buffer)
        }
    }

    impl Write for FakeStream {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.to_target.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    pub fn transport(pipe: FakeStream) -> TcpTransport<FakeStream> {
        TcpTransport { stream: pipe }
    }

    pub fn written(transport: &TcpTransport<FakeStream>) -> &[u8] {
        &transport.stream.to_target
    }

    #[test]
    fn pdus_are_padded_and_pings_answered() {
        let mut pipe = FakeStream::default();
        pipe.push(0x20, 0x80, NO_TAG, b"");
        pipe.push(0x20, 0x80, 77, b"ping!");
        pipe.push(0x24, 0x80, NO_TAG, b"a=b\0c");
        let mut transport = transport(pipe);
        transport.send(&[1; HEADER], b"xyzzy").unwrap();
        let (response, data) = transport.receive(SequenceNumbers::default()).unwrap();
        assert!(matches!(response, Response::Text { last: true, .. }));
        assert_eq!(data, b"a=b\0c");
        let sent = written(&transport);
        assert_eq!(sent[48..56], *b"xyzzy\0\0\0");
        assert_eq!((sent[56], sent[56 + 23], sent.len()), (0x40, 77, 104));
        assert!(matches!(transport.receive(SequenceNumbers::default()), Err(TransportError::Closed)));
    }

    #[test]
    fn too_much_data_and_rejects_are_errors() {
        let mut pipe = FakeStream::default();
        pipe.push(0x3f, 0x80, NO_TAG, &[0; 48]);
        let mut header = [0; HEADER];
        (header[0], header[5]) = (0x24, 0xff);
        pipe.from_target.extend(header);
        let mut transport = transport(pipe);
        assert!(matches!(
            transport.receive(SequenceNumbers::default()),
            Err(TransportError::Pdu(PduError::Rejected(0)))
        ));
        assert!(matches!(
            transport.receive(SequenceNumbers::default()),
            Err(TransportError::Pdu(PduError::TooLong(_)))
        ));
    }
}
