//! ONC RPC (RFC 5531) over TCP, as far as it takes to ask a server whether it is there: the null procedure of a
//! program, and rpcbind's GETPORT (RFC 1833 section 3, version 2).

pub mod wire;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;
pub use wire::ReplyError;
use wire::{LAST, LONGEST, format_call, parse_reply};

pub const NFS_PORT: u16 = 2049;
pub const RPCBIND_PORT: u16 = 111;

const NFS: u32 = 100_003;
const RPCBIND: u32 = 100_000;
const RPCBIND_VERSION: u32 = 2;
/// Procedures.
const NULL: u32 = 0;
const GETPORT: u32 = 3;
const TCP: u32 = 6;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    #[error("{0}")]
    Connect(#[source] io::Error),
    #[error("the connection broke: {0}")]
    Broken(#[source] io::Error),
    #[error("no answer in time")]
    Silent,
    #[error(transparent)]
    Reply(#[from] ReplyError),
}

/// A connection for many questions.
pub struct Caller {
    stream: TcpStream,
    next: u32,
}

impl Caller {
    /// Connects. `limit` holds for each answer.
    pub fn connect(server: SocketAddr, connect: Duration, limit: Duration) -> Result<Caller, RpcError> {
        let stream = TcpStream::connect_timeout(&server, connect).map_err(RpcError::Connect)?;
        for set in
            [stream.set_read_timeout(Some(limit)), stream.set_write_timeout(Some(limit)), stream.set_nodelay(true)]
        {
            set.map_err(RpcError::Connect)?;
        }
        Ok(Caller { stream, next: 1 })
    }

    /// Asks whether the server answers for this version of NFS.
    pub fn ask(&mut self, major: u32) -> Result<(), RpcError> {
        self.call(NFS, major, NULL, &[]).map(drop)
    }

    /// Whether the server has closed the connection. Never waits.
    pub fn is_closed(&self) -> bool {
        let peeked = recv(self.stream.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT);
        // A byte or EAGAIN: still open. 0 bytes: the end of the stream.
        !matches!(peeked, Ok(1..) | Err(Errno::EAGAIN | Errno::EINTR))
    }

    fn call(&mut self, program: u32, version: u32, procedure: u32, arguments: &[u32]) -> Result<Vec<u32>, RpcError> {
        self.next = self.next.wrapping_add(1);
        let xid = self.next;
        self.stream.write_all(&format_call(xid, program, version, procedure, arguments)).map_err(broken)?;
        let mut mark = [0; 4];
        self.stream.read_exact(&mut mark).map_err(broken)?;
        let mark = u32::from_be_bytes(mark);
        let length = (mark & !LAST) as usize;
        if mark & LAST == 0 || length > LONGEST {
            return Err(ReplyError::NotRpc.into());
        }
        let mut reply = vec![0; length];
        self.stream.read_exact(&mut reply).map_err(broken)?;
        Ok(parse_reply(&reply, xid, version)?)
    }
}

/// Asks once, over a new connection.
pub fn ask(server: SocketAddr, major: u32, limit: Duration) -> Result<(), RpcError> {
    Caller::connect(server, limit, limit)?.ask(major)
}

/// The port of NFS over TCP; 0 when the server has none.
pub fn find_port(rpcbind: SocketAddr, major: u32, limit: Duration) -> Result<u16, RpcError> {
    let arguments = [NFS, major, TCP, 0];
    let results = Caller::connect(rpcbind, limit, limit)?.call(RPCBIND, RPCBIND_VERSION, GETPORT, &arguments)?;
    results.first().and_then(|port| u16::try_from(*port).ok()).ok_or(RpcError::Reply(ReplyError::NotRpc))
}

fn broken(error: io::Error) -> RpcError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => RpcError::Silent,
        _ => RpcError::Broken(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    fn bytes(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    /// A server that answers each connection with these bytes.
    fn server(answer: Vec<u8>) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut call = [0; 44];
                let mut stream = stream;
                if stream.read_exact(&mut call).is_ok() {
                    // The client may have gone.
                    let _ = stream.write_all(&answer);
                }
            }
        });
        address
    }

    #[test]
    fn a_server_is_asked() {
        let limit = Duration::from_secs(5);
        let good = server([bytes(&[LAST | 24]), bytes(&[2, 1, 0, 0, 0, 0])].concat());
        ask(good, 4, limit).unwrap();
        let ssh = server(b"SSH-2.0-OpenSSH\r\n".to_vec());
        assert_eq!(ask(ssh, 4, limit).unwrap_err().to_string(), "what answers is no RPC server");
        let closed = server(Vec::new());
        let error = ask(closed, 4, limit).unwrap_err().to_string();
        assert!(error.starts_with("the connection broke"), "{error}");
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        assert!(matches!(ask(free, 4, limit), Err(RpcError::Connect(_))));
        let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let asked = ask(silent.local_addr().unwrap(), 4, Duration::from_millis(50));
        assert!(matches!(asked, Err(RpcError::Silent)), "{asked:?}");
    }

    #[test]
    fn a_server_that_closes_the_connection_is_seen() {
        const LIMIT: Duration = Duration::from_secs(5);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let caller = Caller::connect(listener.local_addr().unwrap(), LIMIT, LIMIT).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert!(!caller.is_closed());
        drop(accepted);
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while !caller.is_closed() {
            assert!(std::time::Instant::now() < deadline);
        }
    }
}
