//! What the servers of network roots say to PID1; the first byte says which kind of server.
#![no_main]

use bootwright_contract::json;
use bootwright_contract::manifest::RootManifest;
use bootwright_roots::content::{Content, identify};
use bootwright_roots::http::connection::HttpConnection;
use bootwright_roots::http::message;
use bootwright_roots::http::pace::Pace;
use bootwright_roots::nbd::handshake;
use bootwright_roots::nfs::rpc::wire;
use std::io::{self, Read, Write};
use std::rc::Rc;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| root_servers(bytes));

/// What the servers of roots say; the first byte says which kind of server.
fn root_servers(bytes: &[u8]) {
    let Some((format, bytes)) = bytes.split_first() else { return };
    match format % 7 {
        0 => nbd(bytes),
        1 => http(bytes),
        2 => drop(json::from_slice::<RootManifest>(bytes)),
        3 => drop(bootwright_roots::source::parse_root_path(&String::from_utf8_lossy(bytes))),
        // The number of the call is what the seeds have.
        5 => drop(wire::parse_reply(bytes, 7, 4)),
        6 => {
            let empty = identify(bytes) == Content::Nothing;
            assert_eq!(empty, bytes.iter().all(|byte| *byte == 0));
        }
        _ => {
            if let Ok(head) = message::parse_head(bytes) {
                assert!(head.range.is_none_or(|(first, last, total)| first <= last && total.is_none_or(|t| last < t)));
            }
        }
    }
}

/// A server that says what it says, whatever it is asked.
struct Deaf<'a>(&'a [u8]);

impl Read for Deaf<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Deaf<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn nbd(bytes: &[u8]) {
    let mut server = Deaf(bytes);
    if let Ok(export) = handshake::negotiate(&mut server, "worker") {
        assert!(export.block_size.is_power_of_two());
        if let Ok(read) = handshake::read_at(&mut server, 0, 64) {
            assert_eq!(read.len(), 64);
        }
    }
}

fn http(bytes: &[u8]) {
    let server = io::Cursor::new(bytes.to_vec());
    let Ok((head, mut connection)) = HttpConnection::ask(Box::new(server), "", Rc::new(Pace::new(None))) else { return };
    let mut got = 0;
    while let Ok(piece) = connection.next_piece() {
        if piece.is_empty() {
            break;
        }
        got += piece.len() as u64;
    }
    assert!(got <= bytes.len() as u64 && (head.chunked || head.length.is_none_or(|length| got <= length)));
}
