use super::handshake::{Export, HandshakeError, negotiate, read_at};
use proptest::prelude::*;
use std::io::{self, Read, Write};

/// A server that says what it is told to, and keeps what it hears.
struct Script {
    says: io::Cursor<Vec<u8>>,
    heard: Vec<u8>,
}

impl Read for Script {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.says.read(buffer)
    }
}

impl Write for Script {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.heard.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn talk(says: &[&[u8]], name: &str) -> (Result<Export, HandshakeError>, Vec<u8>) {
    let mut script = Script { says: io::Cursor::new(says.concat()), heard: Vec::new() };
    (negotiate(&mut script, name), script.heard)
}

const FIXED: &[u8] = b"NBDMAGICIHAVEOPT\0\x03";
const EXPORT: &[u8] = b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x07\0\0\0\x03\0\0\0\x0c\0\0\0\0\0\0\0\0\x10\0\0\x03";
const BLOCKS: &[u8] =
    b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x07\0\0\0\x03\0\0\0\x0e\0\x03\0\0\x02\0\0\0\x10\0\x02\0\0\0";
const ACK: &[u8] = b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x07\0\0\0\x01\0\0\0\0";

fn error(code: u8, message: &[u8]) -> Vec<u8> {
    let head = b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x07\x80\0\0";
    [&head[..], &[code, 0, 0, 0, message.len() as u8], message].concat()
}

#[test]
fn the_usual_way() {
    let (export, heard) = talk(&[FIXED, BLOCKS, EXPORT, ACK], "worker");
    assert_eq!(export.expect("good"), Export { size: 4096, flags: 3, block_size: 512 });
    assert_eq!(heard, b"\0\0\0\x03IHAVEOPT\0\0\0\x07\0\0\0\x0e\0\0\0\x06worker\0\x01\0\x03");
}

#[test]
fn servers_without_go_are_asked_by_name() {
    let answer = b"\0\0\0\0\0\0\x20\0\0\x01";
    let (export, heard) = talk(&[FIXED, &error(1, b""), answer], "w");
    assert_eq!(export.expect("good"), Export { size: 8192, flags: 1, block_size: 1 });
    assert!(heard.ends_with(b"IHAVEOPT\0\0\0\x01\0\0\0\x01w"));
    let (export, heard) = talk(&[b"NBDMAGICIHAVEOPT\0\0", answer, &[0; 124]], "w");
    assert_eq!(export.expect("good").size, 8192);
    assert_eq!(heard, b"\0\0\0\0IHAVEOPT\0\0\0\x01\0\0\0\x01w");
}

#[test]
fn failures_name_the_cause() {
    let garbled = [EXPORT, b"x"].concat();
    let endless = BLOCKS.repeat(40);
    let big = b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x07\0\0\0\x03\xff\0\0\0";
    for (says, message) in [
        (vec![&b"HTTP/1.1 400 Bad Request"[..]], "there is no NBD server"),
        (vec![b"NBDMAGIC\0\0\x42\x02\x81\x86\x12\x53"], "old-style"),
        (vec![b"NBDMAGICxxxxxxxx"], "there is no NBD server"),
        (vec![b"NBD"], "the server closed the connection"),
        (vec![FIXED, &error(6, b"no such")], "the server has no export of that name"),
        (vec![FIXED, &error(5, b"")], "the server refused: it demands TLS"),
        (vec![FIXED, &error(2, b"go\x1b[2J away")], "the server refused: not allowed: go[2J away"),
        (vec![FIXED, &error(1, b"")], "the server has no export of that name"),
        (vec![FIXED, ACK], "the server's answer makes no sense"),
        (vec![FIXED, &garbled], "the server closed the connection"),
        (vec![FIXED, &endless], "the server's answer makes no sense"),
        (vec![FIXED, big], "the server's answer makes no sense"),
    ] {
        let error = talk(&says, "worker").0.expect_err(message).to_string();
        assert!(error.contains(message), "{error}, expected {message}");
    }
}

#[test]
fn a_read_before_the_kernel_reads() {
    let read = |says: &[u8]| {
        let mut script = Script { says: io::Cursor::new(says.to_vec()), heard: Vec::new() };
        (read_at(&mut script, 0x1000, 4).map_err(|e| e.to_string()), script.heard)
    };
    let (data, heard) = read(b"\x67\x44\x66\x98\0\0\0\0bootwrigdata");
    assert_eq!(data, Ok(b"data".to_vec()));
    assert_eq!(heard, b"\x25\x60\x95\x13\0\0\0\0bootwrig\0\0\0\0\0\0\x10\0\0\0\0\x04");
    assert_eq!(read(b"\x67\x44\x66\x98\0\0\0\x05bootwrig").0, Err("the server cannot read at 4096: error 5".into()));
    assert_eq!(read(b"\x67\x44\x66\x98\0\0\0\0bootwrogdata").0, Err("the server's answer makes no sense".into()));
}

proptest! {
    #[test]
    fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..300), greeting: bool, replies in 0usize..4) {
        let reply = [EXPORT, BLOCKS, ACK].concat();
        let mut says = if greeting { FIXED.to_vec() } else { Vec::new() };
        says.extend_from_slice(&reply[..(replies * 20).min(reply.len())]);
        says.extend(bytes);
        let (_, heard) = talk(&[&says], "worker");
        prop_assert!(heard.len() < 200);
    }

    #[test]
    fn what_a_server_says_is_understood(size: u64, flags: u16, shift in 0u32..13) {
        let mut export = EXPORT.to_vec();
        export[22..30].copy_from_slice(&size.to_be_bytes());
        export[30..32].copy_from_slice(&flags.to_be_bytes());
        let mut blocks = BLOCKS.to_vec();
        blocks[22..26].copy_from_slice(&(1u32 << shift).to_be_bytes());
        let (found, _) = talk(&[FIXED, &export, &blocks, ACK], "x");
        prop_assert_eq!(found.unwrap(), Export { size, flags, block_size: 1 << shift });
    }
}
