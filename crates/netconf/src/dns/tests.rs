//! The resolver against name servers of a few lines on the loopback link.

use super::message::tests::{ASKED, answer};
use super::*;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

type Reply = fn(&[u8]) -> Option<Vec<u8>>;

/// A server that answers each question by `reply`; counts them.
fn serve(reply: Reply) -> (SocketAddr, Arc<AtomicUsize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("bound");
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    std::thread::spawn(move || {
        let mut buffer = [0; 600];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            counter.fetch_add(1, Ordering::SeqCst);
            if let Some(bytes) = reply(&buffer[..length]) {
                socket.send_to(&bytes, from).expect("loopback");
            }
        }
    });
    (address, count)
}

fn servers(servers: &[SocketAddr]) -> NameServers {
    NameServers { servers: servers.to_vec(), search: vec!["lab".into(), "example.org".into()], prefer_v6: false }
}

fn is_v4(question: &[u8]) -> bool {
    question[question.len() - 3] == 1
}

/// `root.example.org` has one address of each kind; other names do not exist.
fn one_name(question: &[u8]) -> Option<Vec<u8>> {
    let v6 = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    if !question[12..].starts_with(b"\x04root\x07example\x03org\0") {
        return Some(answer(question, 3, &[]));
    }
    Some(match is_v4(question) {
        true => answer(question, 0, &[(ASKED, 1, &[10, 0, 0, 1])]),
        false => answer(question, 0, &[(ASKED, 28, &v6)]),
    })
}

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn names_are_found_by_the_search_list_and_addresses_need_no_server() {
    let (address, _) = serve(one_name);
    let mut servers = servers(&[address]);
    let both: Vec<IpAddr> = vec!["10.0.0.1".parse().expect("v4"), "2001:db8::1".parse().expect("v6")];
    for host in ["root", "root.example.org", "root.example.org."] {
        assert_eq!(servers.resolve(host, LIMIT).expect(host), both, "{host}");
    }
    servers.prefer_v6 = true;
    assert_eq!(servers.resolve("root", LIMIT).expect("the same"), [both[1], both[0]]);
    for host in ["2001:db8::1", "[2001:db8::1]"] {
        assert_eq!(NameServers::default().resolve(host, LIMIT).expect("an address"), [both[1]]);
    }
    for (host, message) in [
        ("root.", "the name servers know no address of `root.`"),
        ("other", "the name servers know no address of `other`"),
        ("a b", "`a b` is no host name"),
    ] {
        assert_eq!(servers.resolve(host, LIMIT).expect_err(host).to_string(), message);
    }
    let error = NameServers::default().resolve("root", LIMIT).expect_err("no server").to_string();
    assert_eq!(error, "no name server is known that could look `root` up");
}

#[test]
fn the_next_server_is_asked_when_one_fails_or_is_silent() {
    let (silent, asked) = serve(|_| None);
    let (broken, _) = serve(|question| Some(answer(question, 2, &[])));
    let (liar, _) = serve(|question| {
        let mut bytes = one_name(question)?;
        bytes[0] ^= 1;
        Some(bytes)
    });
    let (good, _) = serve(one_name);
    // A port where nobody listens.
    let closed = UdpSocket::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let found = servers(&[closed, broken, silent, liar, good]).resolve("root.example.org", LIMIT);
    assert_eq!(found.expect("the last one").len(), 2);
    assert_eq!(asked.load(Ordering::SeqCst), 2, "A and AAAA");
    let error = servers(&[broken, silent]).resolve("root.example.org", Duration::from_secs(1)).expect_err("nobody");
    let expected = "cannot look `root.example.org` up: 127.0.0.1: it answered with code 2, 127.0.0.1: no answer";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn long_answers_come_over_tcp() {
    let (address, _) = serve(|question| match is_v4(question) {
        true => Some(answer(question, 0x0200, &[])),
        false => Some(answer(question, 0, &[])),
    });
    let listener = TcpListener::bind(address).expect("the same port");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a client");
            let mut question = [0; 600];
            let length = stream.read(&mut question).expect("a question");
            let records: Vec<(&[u8], u16, &[u8])> = vec![(ASKED, 1, &[10, 0, 0, 7]); 100];
            let bytes = answer(&question[2..length], 0, &records);
            stream.write_all(&[&(bytes.len() as u16).to_be_bytes()[..], &bytes].concat()).expect("sent");
        }
    });
    let found = servers(&[address]).resolve("root.example.org", LIMIT).expect("by TCP");
    assert_eq!(found.len(), 100);
}
