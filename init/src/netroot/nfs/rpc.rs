//! As much ONC RPC (RFC 5531) over TCP as it takes to ask a server whether it is there: the null procedure of a program,
//! and rpcbind's question for a port (RFC 1833 section 3, version 2).

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub const NFS_PORT: u16 = 2049;
pub const RPCBIND_PORT: u16 = 111;

const NFS: u32 = 100_003;
const RPCBIND: u32 = 100_000;
const RPCBIND_VERSION: u32 = 2;
/// Procedures.
const NULL: u32 = 0;
const GETPORT: u32 = 3;
const TCP: u32 = 6;
/// Set in a record's length: it is the last fragment (RFC 5531 section 11).
const LAST: u32 = 1 << 31;
/// A longer answer is none to our questions.
const LONGEST: usize = 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    #[error("{0}")]
    Connect(#[source] io::Error),
    #[error("the connection broke: {0}")]
    Broken(#[source] io::Error),
    #[error("no answer in time")]
    Silent,
    #[error("what answers is no RPC server")]
    NotRpc,
    #[error("it has no NFS service")]
    NoProgram,
    #[error("it does not speak NFS version {wanted}: it speaks {low} to {high}")]
    Version { wanted: u32, low: u32, high: u32 },
    #[error("it refused the call: {0}")]
    Refused(&'static str),
}

/// A connection to ask over again and again.
pub struct Caller {
    stream: TcpStream,
    next: u32,
}

impl Caller {
    pub fn connect(server: SocketAddr, limit: Duration) -> Result<Caller, RpcError> {
        let stream = TcpStream::connect_timeout(&server, limit).map_err(RpcError::Connect)?;
        for set in
            [stream.set_read_timeout(Some(limit)), stream.set_write_timeout(Some(limit)), stream.set_nodelay(true)]
        {
            set.map_err(RpcError::Connect)?;
        }
        Ok(Caller { stream, next: 1 })
    }

    /// Does the server answer for this version of NFS?
    pub fn ask(&mut self, major: u32) -> Result<(), RpcError> {
        self.call(NFS, major, NULL, &[]).map(drop)
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
            return Err(RpcError::NotRpc);
        }
        let mut reply = vec![0; length];
        self.stream.read_exact(&mut reply).map_err(broken)?;
        parse_reply(&reply, xid, version)
    }
}

/// One question over a connection of its own.
pub fn ask(server: SocketAddr, major: u32, limit: Duration) -> Result<(), RpcError> {
    Caller::connect(server, limit)?.ask(major)
}

/// The port of NFS over TCP; 0: there is none.
pub fn find_port(rpcbind: SocketAddr, major: u32, limit: Duration) -> Result<u16, RpcError> {
    let arguments = [NFS, major, TCP, 0];
    let results = Caller::connect(rpcbind, limit)?.call(RPCBIND, RPCBIND_VERSION, GETPORT, &arguments)?;
    results.first().and_then(|port| u16::try_from(*port).ok()).ok_or(RpcError::NotRpc)
}

fn broken(error: io::Error) -> RpcError {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => RpcError::Silent,
        _ => RpcError::Broken(error),
    }
}

/// A call without credentials, as one record (RFC 5531 sections 9 and 11).
fn format_call(xid: u32, program: u32, version: u32, procedure: u32, arguments: &[u32]) -> Vec<u8> {
    let head = [xid, 0, 2, program, version, procedure, 0, 0, 0, 0];
    let words = head.len() + arguments.len();
    let mark = LAST | (words * 4) as u32;
    [mark].iter().chain(&head).chain(arguments).flat_map(|word| word.to_be_bytes()).collect()
}

/// The results of a reply (RFC 5531 section 9) without its record mark.
fn parse_reply(bytes: &[u8], xid: u32, wanted: u32) -> Result<Vec<u32>, RpcError> {
    let (words, []) = bytes.as_chunks::<4>() else { return Err(RpcError::NotRpc) };
    let mut words = words.iter().map(|word| u32::from_be_bytes(*word));
    let mut next = || words.next().ok_or(RpcError::NotRpc);
    if (next()?, next()?) != (xid, 1) {
        return Err(RpcError::NotRpc);
    }
    if next()? != 0 {
        return Err(RpcError::Refused("it wants other credentials or another RPC version"));
    }
    // The verifier: its flavour, then its length in bytes.
    next()?;
    for _ in 0..next()?.div_ceil(4).min(LONGEST as u32) {
        next()?;
    }
    match next()? {
        0 => Ok(words.collect()),
        1 => Err(RpcError::NoProgram),
        2 => Err(RpcError::Version { wanted, low: next()?, high: next()? }),
        3 => Err(RpcError::Refused("it does not know the procedure")),
        4 => Err(RpcError::Refused("it could not read the call")),
        _ => Err(RpcError::Refused("an error of its own")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    fn bytes(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    fn reply(words: &[u32]) -> Result<Vec<u32>, String> {
        parse_reply(&bytes(words), 7, 4).map_err(|e| e.to_string())
    }

    #[test]
    fn calls_are_records() {
        let expected = [0x8000_0028, 9, 0, 2, 100_003, 4, 0, 0, 0, 0, 0];
        assert_eq!(format_call(9, NFS, 4, NULL, &[]), bytes(&expected));
        assert_eq!(format_call(9, RPCBIND, 2, GETPORT, &[NFS, 3, TCP, 0])[3], 56);
    }

    #[test]
    fn replies_say_what_is_wrong() {
        assert_eq!(reply(&[7, 1, 0, 0, 0, 0, 2049]), Ok(vec![2049]));
        assert_eq!(reply(&[7, 1, 0, 6, 5, 0, 0, 0]), Ok(vec![]), "a verifier is passed over");
        let cases: &[(&[u32], &str)] = &[
            (&[8, 1, 0, 0, 0, 0], "what answers is no RPC server"),
            (&[7, 0, 0, 0, 0, 0], "what answers is no RPC server"),
            (&[7, 1, 0], "what answers is no RPC server"),
            (&[7, 1, 0, 0, u32::MAX, 0], "what answers is no RPC server"),
            (&[7, 1, 1, 1, 1], "it refused the call: it wants other credentials"),
            (&[7, 1, 0, 0, 0, 1], "it has no NFS service"),
            (&[7, 1, 0, 0, 0, 2, 3, 3], "it does not speak NFS version 4: it speaks 3 to 3"),
            (&[7, 1, 0, 0, 0, 5], "it refused the call: an error of its own"),
        ];
        for (words, expected) in cases {
            let error = reply(words).unwrap_err();
            assert!(error.starts_with(expected), "{words:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_reply_panics(reply in proptest::collection::vec(any::<u8>(), 0..64), xid in 0u32..3) {
            // What it says does not matter.
            let _ = parse_reply(&reply, xid, 4);
        }
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
}
