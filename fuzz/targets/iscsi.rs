//! What an iSCSI target says in a login or a discovery, and what the kernel passes on; the first byte says which.
#![no_main]

use bootwright_iscsi::discovery::{self, send_targets};
use bootwright_iscsi::login::{Login, LoginOutcome, log_in};
use bootwright_iscsi::message::{KernelMessage, parse_message};
use bootwright_iscsi::target::{Auth, Credentials, Secret};
use bootwright_iscsi::text::parse_text;
use bootwright_iscsi::transport::TcpTransport;
use std::io::{self, Read, Write};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| target(bytes));

/// A target that says all it has to say at once.
struct Monologue<'a>(&'a [u8]);

impl Read for Monologue<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Monologue<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The first byte says what the rest is.
fn target(bytes: &[u8]) {
    let Some((format, bytes)) = bytes.split_first() else { return };
    match format % 6 {
        0 => kernel(bytes),
        1 => text(bytes),
        2 => list(bytes),
        way => login(bytes, way),
    }
}

fn kernel(bytes: &[u8]) {
    if let Ok(KernelMessage::Event(bootwright_iscsi::message::KernelEvent::Pdu { header, data, .. })) = parse_message(bytes) {
        assert_eq!(bootwright_iscsi::pdu::data_length(&header), data.len());
        let _ = bootwright_iscsi::pdu::parse_response(&header);
    }
}

fn text(bytes: &[u8]) {
    if let Ok(text) = parse_text(bytes) {
        assert_eq!(parse_text(&text.encode()), Ok(text));
    }
}

fn list(bytes: &[u8]) {
    let asked = "10.0.2.2:3260".parse().expect("an address");
    for found in send_targets(&mut TcpTransport { stream: Monologue(bytes) }, 1).unwrap_or_default() {
        assert!(discovery::portals(asked, &found).contains(&asked));
    }
}

/// Without, with one-way and with mutual CHAP; nobody can know the secret of the last.
fn login(bytes: &[u8], way: u8) {
    let credentials = |secret: &str| Some(Credentials { user: "a".into(), secret: Secret::new(secret) });
    let ours = credentials("one that is long").filter(|_| way > 3);
    let auth = Auth { ours, theirs: credentials("another that is long").filter(|_| way == 5) };
    let login = Login {
        initiator: "iqn.i",
        target: Some("iqn.t"),
        isid: [0; 6],
        auth: &auth,
        challenge: [7; 17],
        old_chap: false,
    };
    let outcome = log_in(&mut TcpTransport { stream: Monologue(bytes) }, &login);
    assert!(way != 5 || !matches!(outcome, Ok(LoginOutcome::LoggedIn(_))), "a target without proof was believed");
}
