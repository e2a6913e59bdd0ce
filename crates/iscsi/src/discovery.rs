//! SendTargets (RFC 7143 appendix C): logs in at a portal in a discovery session and asks for its targets.

use super::login::{Login, LoginError, LoginOutcome, log_in};
use super::pdu::{NO_TAG, PduError, Response, SequenceNumbers, encode_logout, encode_text};
use super::text::{TEXT_LIMIT, Text, TextError, parse_text};
use super::transport::{TcpTransport, TransportError};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

/// At most so many requests for one list: each answer of a real target has some hundred bytes at least.
const MOST_REQUESTS: u32 = 256;
/// At most so many redirections.
const MOST_MOVES: usize = 4;

/// A target, as a portal describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveredTarget {
    pub name: String,
    /// `host:port`, IPv6 in brackets. Empty when the target is at the portal that was asked.
    pub addresses: Vec<String>,
}

/// Why discovery failed.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    #[error("cannot ask iscsi portal {portal} for its targets: {cause}")]
    Login { portal: SocketAddr, cause: LoginError },
    #[error("iscsi portal {0} sends us from one place to another")]
    Restless(SocketAddr),
    #[error("iscsi portal {portal} moved to `{address}`, which is no address with a port")]
    Moved { portal: SocketAddr, address: String },
}

/// Logs in at a portal and asks for its targets.
pub fn discover(
    first: SocketAddr,
    login: &Login,
    patience: Duration,
) -> Result<(SocketAddr, Vec<DiscoveredTarget>), DiscoveryError> {
    let mut portal = first;
    for _ in 0..=MOST_MOVES {
        let failed = |cause: LoginError| DiscoveryError::Login { portal, cause };
        let connect = || TcpTransport::connect(portal, patience).map_err(|error| failed(error.into()));
        let mut transport = connect()?;
        let mut outcome = log_in(&mut transport, login);
        if outcome.as_ref().is_err_and(LoginError::asks_for_old_chap) {
            transport = connect()?;
            outcome = log_in(&mut transport, &Login { old_chap: true, ..*login });
        }
        match outcome.map_err(failed)? {
            LoginOutcome::LoggedIn(session) => {
                let status = session.status_number.wrapping_add(1);
                return Ok((portal, send_targets(&mut transport, status).map_err(failed)?));
            }
            LoginOutcome::Moved { address, .. } => {
                portal = address.parse().map_err(|_| DiscoveryError::Moved { portal, address })?;
            }
        }
    }
    Err(DiscoveryError::Restless(first))
}

/// Asks for the list of all targets, then logs out. `expected_status` is the ExpStatSN after the login.
///
/// # Errors
/// [`LoginError`]
pub fn send_targets<S: Read + Write>(
    transport: &mut TcpTransport<S>,
    expected_status: u32,
) -> Result<Vec<DiscoveredTarget>, LoginError> {
    let mut numbers = SequenceNumbers { command: 1, expected_status };
    let mut ask = Text::default();
    ask.push("SendTargets", "All");
    let (mut ask, mut tag, mut bytes) = (ask.encode(), NO_TAG, Vec::new());
    for task in 2..2 + MOST_REQUESTS {
        transport.send(&encode_text(ask.len(), task, tag, numbers), &ask)?;
        let (response, data) = transport.receive(numbers)?;
        let Response::Text { last, target_tag, status_number, .. } = response else {
            return Err(TransportError::from(PduError::Unexpected(0)).into());
        };
        bytes.extend_from_slice(&data);
        if bytes.len() > TEXT_LIMIT {
            return Err(TextError::TooLong.into());
        }
        numbers = SequenceNumbers {
            command: numbers.command.wrapping_add(1),
            expected_status: status_number.wrapping_add(1),
        };
        if last {
            let found = parse_targets(&parse_text(&bytes)?);
            // The list is complete. A target that does not read the logout notices the end of the connection.
            let _ = transport
                .send(&encode_logout(task + 1, numbers), &[])
                .and_then(|()| transport.receive(numbers).map(drop));
            return Ok(found);
        }
        // An empty request with the target's tag asks for the next part.
        (ask, tag) = (Vec::new(), target_tag);
    }
    Err(LoginError::Endless)
}

/// `TargetName` begins a target. Its `TargetAddress`es follow, as `host[:port],group`.
fn parse_targets(text: &Text) -> Vec<DiscoveredTarget> {
    let mut all: Vec<DiscoveredTarget> = Vec::new();
    for (key, value) in text.pairs() {
        match (key, all.last_mut()) {
            ("TargetName", _) => all.push(DiscoveredTarget { name: value.into(), addresses: Vec::new() }),
            ("TargetAddress", Some(target)) => {
                target.addresses.push(value.split(',').next().unwrap_or_default().into());
            }
            _ => {}
        }
    }
    all
}

/// The portals of a target in the order in which they are tried. The portal that was asked comes first when it is
/// listed or the list is empty, else last: behind address translation a target lists addresses that only it can reach.
/// Loopback and unspecified addresses and names are left out.
pub fn portals(asked: SocketAddr, found: &DiscoveredTarget) -> Vec<SocketAddr> {
    let usable = |portal: &SocketAddr| {
        let ip = portal.ip();
        !ip.is_unspecified() && (!ip.is_loopback() || asked.ip().is_loopback())
    };
    let named = found.addresses.iter().filter_map(|address| parse_address(address)).filter(usable);
    let mut portals: Vec<SocketAddr> = Vec::new();
    for portal in named {
        if !portals.contains(&portal) {
            portals.push(portal);
        }
    }
    match portals.iter().position(|portal| *portal == asked) {
        Some(at) => {
            let portal = portals.remove(at);
            portals.insert(0, portal);
        }
        None => portals.push(asked),
    }
    portals
}

fn parse_address(address: &str) -> Option<SocketAddr> {
    let ip = || address.trim_matches(['[', ']']).parse().ok();
    address.parse().ok().or_else(|| Some(SocketAddr::new(ip()?, super::PORT)))
}

#[cfg(test)]
mod tests {
    use super::super::text::parse_text;
    use super::super::transport::tests::{FakeStream, transport, written};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_list_in_several_parts() {
        let mut pipe = FakeStream::default();
        pipe.push(0x24, 0x40, 5, b"TargetName=iqn.a\0TargetAddr");
        pipe.push(0x24, 0x00, 5, b"ess=10.0.0.1:3260,1\0TargetAddress=[fd00::1]:3261,2\0");
        pipe.push(0x24, 0x80, NO_TAG, b"TargetName=iqn.b\0");
        pipe.push(0x26, 0x80, NO_TAG, b"");
        let mut transport = transport(pipe);
        let found = send_targets(&mut transport, 9).unwrap();
        let a =
            DiscoveredTarget { name: "iqn.a".into(), addresses: vec!["10.0.0.1:3260".into(), "[fd00::1]:3261".into()] };
        assert_eq!(found, [a, DiscoveredTarget { name: "iqn.b".into(), addresses: vec![] }]);
        let sent = written(&transport);
        let opcodes: Vec<u8> = [0, 64, 112, 160].iter().map(|at| sent[*at]).collect();
        assert_eq!(opcodes, [0x04, 0x04, 0x04, 0x46]);
        assert_eq!(sent[48..64], *b"SendTargets=All\0");
        assert_eq!(sent[64 + 20..64 + 24], 5u32.to_be_bytes(), "the target's tag goes back");
        assert_eq!(sent[64 + 24..64 + 28], 2u32.to_be_bytes(), "the next command");
    }

    #[test]
    fn broken_lists_are_errors() {
        for (flags, data) in [(0x80, &b"TargetName"[..]), (0x80, b"\xff=1\0")] {
            let mut pipe = FakeStream::default();
            pipe.push(0x24, flags, NO_TAG, data);
            assert!(matches!(send_targets(&mut transport(pipe), 0), Err(LoginError::Text(_))));
        }
        let mut pipe = FakeStream::default();
        pipe.push(0x21, 0x80, NO_TAG, b"");
        assert!(matches!(send_targets(&mut transport(pipe), 0), Err(LoginError::Transport(TransportError::Pdu(_)))));
        let mut pipe = FakeStream::default();
        (0..300).for_each(|_| pipe.push(0x24, 0, 5, b""));
        assert!(matches!(send_targets(&mut transport(pipe), 0), Err(LoginError::Endless)));
    }

    #[test]
    fn portals_in_order() {
        let asked: SocketAddr = "10.0.2.2:3260".parse().unwrap();
        for (addresses, expected) in [
            (&[][..], &["10.0.2.2:3260"][..]),
            (&["127.0.0.1:3260", "0.0.0.0:3260"], &["10.0.2.2:3260"]),
            (&["10.0.0.9:3261", "10.0.2.2:3260", "san:3260"], &["10.0.2.2:3260", "10.0.0.9:3261"]),
            (&["10.0.0.9", "[fd00::1]", "10.0.0.9:3260"], &["10.0.0.9:3260", "[fd00::1]:3260", "10.0.2.2:3260"]),
        ] {
            let addresses = addresses.iter().map(|a| a.to_string()).collect();
            let found = portals(asked, &DiscoveredTarget { name: "iqn.a".into(), addresses });
            let found: Vec<String> = found.iter().map(|portal| portal.to_string()).collect();
            assert_eq!(found, expected);
        }
        let local: SocketAddr = "127.0.0.1:3260".parse().unwrap();
        let found = DiscoveredTarget { name: "iqn.a".into(), addresses: vec!["127.0.0.1:3260".into()] };
        assert_eq!(portals(local, &found), [local]);
    }

    proptest! {
        #[test]
        fn no_list_panics(bytes in "((TargetName|TargetAddress|X)=[a-z0-9:.,\\[\\]]{0,20}\0){0,6}") {
            let asked: SocketAddr = "10.0.2.2:3260".parse().unwrap();
            for found in parse_targets(&parse_text(bytes.as_bytes()).unwrap()) {
                prop_assert!(portals(asked, &found).contains(&asked));
            }
        }
    }
}
