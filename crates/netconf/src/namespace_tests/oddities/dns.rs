//! Name servers. glibc and Go use the address in each of the rows that have one.

use super::*;
use crate::dns::message::tests::{ASKED, answer};
use crate::dns::resolve;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

/// What a server says to one question.
#[derive(Clone, Copy)]
enum Say {
    /// [`V4`] or [`V6`], whichever is asked for.
    Address,
    /// By an alias of an alias, in the wrong order.
    Aliases,
    /// An alias that leads back to itself.
    AliasRing,
    None,
    /// A response code: 1 FORMERR, 2 SERVFAIL, 3 NXDOMAIN, 4 NOTIMP, 5 REFUSED.
    Code(u8),
    /// The same without the question.
    BareCode(u8),
    /// Points elsewhere.
    Lame,
    Silence,
    OtherId,
    /// Names that point at each other.
    PointerLoop,
    /// It does not fit, and comes by TCP or does not.
    ByTcp,
    Truncated,
}

use Say::{Address, Silence};

/// What one server says of A and AAAA of `root.lab`; other names do not exist.
type Server = (Say, Say);

#[derive(Clone, Copy)]
struct Row {
    what: &'static str,
    servers: &'static [Server],
    /// Addresses that are found, divided by blanks; else the end of the reason.
    found: Result<&'static str, &'static str>,
    at_most_ms: u64,
}

const V4: [u8; 4] = [10, 9, 0, 1];
const V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
const BOTH: Result<&str, &str> = Ok("10.9.0.1 2001:db8::9");
const A: Result<&str, &str> = Ok("10.9.0.1");
/// The last is of servers that are waited for.
const QUICK_MS: u64 = 900;
const SLOW_MS: u64 = 4_500;

const fn row(what: &'static str, server: &'static [Server], found: Result<&'static str, &'static str>) -> Row {
    Row { what, servers: server, found, at_most_ms: QUICK_MS }
}

const ROWS: &[Row] = &[
    row("all is well", &[(Address, Address)], BOTH),
    row("AAAA: none", &[(Address, Say::None)], A),
    row("AAAA: FORMERR", &[(Address, Say::Code(1))], A),
    row("AAAA: SERVFAIL", &[(Address, Say::Code(2))], A),
    row("AAAA: NXDOMAIN", &[(Address, Say::Code(3))], A),
    row("AAAA: NOTIMP", &[(Address, Say::Code(4))], A),
    row("AAAA: REFUSED", &[(Address, Say::Code(5))], A),
    row("AAAA: NOTIMP without the question", &[(Address, Say::BareCode(4))], A),
    row("AAAA: FORMERR without the question", &[(Address, Say::BareCode(1))], A),
    row("AAAA: points elsewhere", &[(Address, Say::Lame)], A),
    row("AAAA: silence", &[(Address, Silence)], A),
    row("AAAA: another id", &[(Address, Say::OtherId)], A),
    row("AAAA: pointer loop", &[(Address, Say::PointerLoop)], A),
    row("AAAA: alias ring", &[(Address, Say::AliasRing)], A),
    row("AAAA: truncated, and nobody at the TCP port", &[(Address, Say::Truncated)], A),
    row("A by TCP, AAAA: silence", &[(Say::ByTcp, Silence)], A),
    row("both by TCP", &[(Say::ByTcp, Say::ByTcp)], BOTH),
    row("aliases in the wrong order", &[(Say::Aliases, Say::Aliases)], BOTH),
    row("A: none", &[(Say::None, Address)], Ok("2001:db8::9")),
    row("A: SERVFAIL", &[(Say::Code(2), Address)], Ok("2001:db8::9")),
    row("no name", &[(Say::Code(3), Say::Code(3))], Err("know no address of `root.lab`")),
    row("no name, and AAAA: silence", &[(Say::Code(3), Silence)], Err("know no address of `root.lab`")),
    row("a name without addresses", &[(Say::None, Say::None)], Err("know no address of `root.lab`")),
    row("all refused", &[(Say::Code(5), Say::Code(5))], Err("10.7.0.1: it answered with code 5")),
    row("the first refuses", &[(Say::Code(5), Say::Code(5)), (Address, Address)], BOTH),
    row("the first points elsewhere", &[(Say::Lame, Say::Lame), (Address, Say::Code(4))], A),
    Row {
        at_most_ms: SLOW_MS,
        ..row("two are silent", &[(Silence, Silence), (Silence, Silence), (Address, Silence)], A)
    },
    Row {
        at_most_ms: SLOW_MS,
        ..row("the first loops", &[(Say::PointerLoop, Say::PointerLoop), (Address, Address)], BOTH)
    },
    Row {
        at_most_ms: SLOW_MS,
        ..row("the first answers another id", &[(Say::OtherId, Say::OtherId), (Address, Address)], BOTH)
    },
];

fn reply(say: Say, question: &[u8], tcp: bool) -> Option<Vec<u8>> {
    let v4 = question[question.len() - 3] == 1;
    let (kind, data): (u16, &[u8]) = if v4 { (1, &V4) } else { (28, &V6) };
    Some(match say {
        Address => answer(question, 0, &[(ASKED, kind, data)]),
        Say::ByTcp if tcp => answer(question, 0, &[(ASKED, kind, data)]),
        Say::ByTcp | Say::Truncated => answer(question, 0x0200, &[]),
        Say::Aliases => {
            let records: &[(&[u8], u16, &[u8])] =
                &[(b"\x01b\0", kind, data), (b"\x01A\0", 5, b"\x01b\0"), (ASKED, 5, b"\x01a\0")];
            answer(question, 0, records)
        }
        Say::AliasRing => answer(question, 0, &[(ASKED, 5, b"\x01x\0"), (b"\x01x\0", 5, ASKED)]),
        Say::None => answer(question, 0, &[]),
        Say::Code(code) => answer(question, code.into(), &[]),
        Say::BareCode(code) => [&question[..2], &[0x80, code, 0, 0, 0, 0, 0, 0, 0, 0]].concat(),
        Say::Lame => {
            let mut bytes = answer(question, 0, &[]);
            bytes[3] &= 0x7f;
            bytes
        }
        Silence => return None,
        Say::OtherId => {
            let mut bytes = answer(question, 0, &[(ASKED, kind, data)]);
            bytes[0] ^= 0x55;
            bytes
        }
        Say::PointerLoop => {
            let here = question.len() as u8;
            answer(question, 0, &[(&[0xc0, here + 2, 0xc0, here], kind, data)])
        }
    })
}

/// What the server says to a question about any name.
fn reply_to((a, aaaa): Server, question: &[u8], tcp: bool) -> Option<Vec<u8>> {
    if !question[12..].starts_with(b"\x04root\x03lab\0") {
        return reply(Say::Code(3), question, tcp);
    }
    reply(if question[question.len() - 3] == 1 { a } else { aaaa }, question, tcp)
}

fn serve(at: SocketAddr, server: Server) {
    let socket = UdpSocket::bind(at).expect("an address of our own");
    if matches!(server.0, Say::ByTcp) {
        let listener = TcpListener::bind(at).expect("an address of our own");
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a client");
                let mut question = [0; 600];
                let length = stream.read(&mut question).expect("a question");
                let bytes = reply_to(server, &question[2..length], true).expect("an answer");
                stream.write_all(&[&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat()).expect("sent");
            }
        });
    }
    thread::spawn(move || {
        let mut buffer = [0; 600];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            if let Some(bytes) = reply_to(server, &buffer[..length], false) {
                socket.send_to(&bytes, from).expect("the client is there");
            }
        }
    });
}

fn play_row(row: Row, mut cable: Cable) {
    cable.address_there("veth1", &["10.7.0.1/24", "10.7.0.2/24", "10.7.0.3/24"]);
    let (ready, is_ready) = channel();
    cable.in_the_other_namespace(move || {
        for (at, server) in row.servers.iter().enumerate() {
            serve(([10, 7, 0, 1 + at as u8], 53).into(), *server);
        }
        ready.send(()).expect("awaited");
    });
    is_ready.recv().expect("the servers run");
    let source = Source::Static { addresses: vec![(ADDRESS.into(), 24)], gateways: vec![] };
    let mut plan = plan(source, 30);
    plan.dns = (1..).take(row.servers.len()).map(|last| [10, 7, 0, last].into()).collect();
    plan.search = vec!["elsewhere".into(), "lab".into()];
    let node = Node::new(plan);
    let mut engine = node.engine();
    node.run_until(&mut engine, row.what, &|| has().addresses == ["10.7.0.9/24"]);
    // By its full name, and by the search list.
    for host in ["root.lab", "root"] {
        let begun = Instant::now();
        let found = resolve(host, &node.facts(), Duration::from_secs(30));
        let taken = begun.elapsed();
        let found = found.map(|found| found.iter().map(|ip| ip.to_string()).collect::<Vec<_>>().join(" "));
        match (&found, row.found) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{}: {host}", row.what),
            (Err(error), Err(_)) if host == "root" => assert!(error.to_string().contains("`root"), "{error}"),
            (Err(error), Err(end)) => assert!(error.to_string().ends_with(end), "{}: {error}", row.what),
            (found, expected) => panic!("{}: {host}: {found:?}, expected {expected:?}", row.what),
        }
        // A name of the list that does not exist comes first.
        assert!(taken < Duration::from_millis(2 * row.at_most_ms), "{}: {host}: {taken:?}", row.what);
    }
}

#[test]
fn name_servers_that_say_odd_things() {
    play(ROWS, |row| row.what, play_row);
}
