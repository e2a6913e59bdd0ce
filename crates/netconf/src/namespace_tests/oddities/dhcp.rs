//! DHCPv4 servers.

use super::*;
use std::cell::Cell;

/// What the server does beside answering with the row's options.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Play {
    Answers,
    /// With the transaction of another client, or to its MAC.
    OtherExchange,
    OtherNode,
    /// Offers, and refuses each request.
    Refuses,
    /// The row's options in `file` and `sname`, as option 52 says.
    Overloads,
    /// The row's options once more behind the others.
    Repeats,
    /// The last option runs over the end.
    Cuts,
}

#[derive(Clone, Copy)]
struct Row {
    what: &'static str,
    play: Play,
    yiaddr: [u8; 4],
    siaddr: [u8; 4],
    /// In place of the usual ones; an empty value takes the option away.
    options: &'static [(u8, &'static [u8])],
    addresses: &'static [&'static str],
    routes: &'static [&'static str],
    resolv: &'static [&'static str],
    mtu: u32,
    /// Parts of console lines, each said exactly once.
    says: &'static [&'static str],
}

/// A server that does all as the RFCs have it.
const GOOD: Row = Row {
    what: "all is well",
    play: Play::Answers,
    yiaddr: [10, 7, 0, 9],
    siaddr: [0; 4],
    options: &[],
    addresses: &["10.7.0.9/24"],
    routes: &["default via 10.7.0.1"],
    resolv: &["search lab", "nameserver 10.7.0.53"],
    mtu: 1500,
    says: &[],
};
/// What is there when the answer is refused.
const REFUSED: Row = Row { addresses: &[], routes: &[], resolv: &[], ..GOOD };

const ROWS: &[Row] = &[
    GOOD,
    // Times.
    Row { what: "no lease time", options: &[(51, &[])], says: &["option 51: the server does not say"], ..GOOD },
    Row { what: "lease of 0 s", options: &[(51, &[0; 4])], says: &["a lease of 0 s is taken for one of 10 s"], ..GOOD },
    Row { what: "lease of 1 s", options: &[(51, &[0, 0, 0, 1])], says: &["a lease of 1 s is taken for"], ..GOOD },
    Row {
        what: "renewal each second",
        options: &[(58, &[0, 0, 0, 1])],
        says: &["option 58: 1 s for a lease of 3600 s: 1800 s is used"],
        ..GOOD
    },
    Row {
        what: "T1 after T2 after the end",
        options: &[(58, &[0, 0, 16, 0]), (59, &[0, 1, 0, 0])],
        says: &["option 58: 4096 s for a lease", "option 59: 65536 s for a lease of 3600 s: 3150 s is used"],
        ..GOOD
    },
    // The address.
    Row {
        what: "0.0.0.0",
        yiaddr: [0; 4],
        says: &["offer refused: no node may have the address `0.0.0.0`"],
        ..REFUSED
    },
    Row { what: "multicast", yiaddr: [224, 0, 0, 1], says: &["no node may have the address `224.0.0.1`"], ..REFUSED },
    Row { what: "class E", yiaddr: [250, 0, 0, 1], says: &["no node may have the address `250.0.0.1`"], ..REFUSED },
    Row { what: "loopback", yiaddr: [127, 0, 0, 1], says: &["no node may have the address `127.0.0.1`"], ..REFUSED },
    Row { what: "broadcast address", yiaddr: [10, 7, 0, 255], says: &["the address `10.7.0.255/24`"], ..REFUSED },
    Row { what: "network address", yiaddr: [10, 7, 0, 0], says: &["the address `10.7.0.0/24`"], ..REFUSED },
    Row { what: "the server's own", yiaddr: [10, 7, 0, 1], says: &["`10.7.0.1` is the DHCP server's own"], ..REFUSED },
    Row { what: "no server id", options: &[(54, &[])], says: &["DHCP option 54 is missing or malformed"], ..REFUSED },
    // The mask.
    Row { what: "no mask", options: &[(1, &[])], addresses: &["10.7.0.9/8"], ..GOOD },
    Row {
        what: "mask of zeros",
        options: &[(1, &[0; 4])],
        addresses: &["10.7.0.9/8"],
        says: &["option 1: 0.0.0.0 is no net mask of a link: /8 is used"],
        ..GOOD
    },
    Row {
        what: "mask with holes",
        options: &[(1, &[255, 0, 255, 0])],
        addresses: &["10.7.0.9/8"],
        says: &["option 1: 255.0.255.0 is no net mask"],
        ..GOOD
    },
    Row {
        what: "point to point",
        yiaddr: [10, 7, 0, 0],
        options: &[(1, &[255, 255, 255, 254])],
        addresses: &["10.7.0.0/31"],
        ..GOOD
    },
    Row {
        what: "a network of one address",
        options: &[(1, &[255; 4])],
        addresses: &["10.7.0.9/32"],
        routes: &["default via 10.7.0.1", "10.7.0.1"],
        ..GOOD
    },
    // Gateways and routes.
    Row { what: "no router", options: &[(3, &[])], routes: &[], ..GOOD },
    Row {
        what: "router on another network",
        options: &[(3, &[10, 8, 0, 1])],
        routes: &["default via 10.8.0.1", "10.8.0.1"],
        ..GOOD
    },
    Row {
        what: "routers that nobody can be",
        options: &[(3, &[0, 0, 0, 0, 10, 7, 0, 9, 10, 7, 0, 255, 10, 7, 0, 1])],
        says: &["option 3: 0.0.0.0 is left out", "option 3: 10.7.0.9 is left", "option 3: 10.7.0.255 is left"],
        ..GOOD
    },
    Row {
        what: "classless routes with a prefix of 33",
        options: &[(121, &[33, 10, 9, 0, 0, 0, 10, 7, 0, 1])],
        says: &["option 121: it is malformed, no route of it is used"],
        ..GOOD
    },
    Row {
        what: "classless routes that end early",
        options: &[(121, &[24, 192, 168, 9, 10, 7])],
        says: &["option 121: it is malformed, no route of it is used"],
        ..GOOD
    },
    Row {
        what: "two default routes, a bad gateway and a bad destination",
        options: &[(
            121,
            &[
                0, 10, 7, 0, 2, 0, 10, 7, 0, 3, 24, 192, 168, 9, 10, 7, 0, 9, 8, 127, 10, 7, 0, 1, 16, 172, 16, 10, 7,
                0, 1,
            ],
        )],
        routes: &["default via 10.7.0.2", "172.16.0.0/16 via 10.7.0.1"],
        says: &["route to 192.168.9.0/24 by 10.7.0.9 is left out", "route to 127.0.0.0/8 by 10.7.0.1 is left out"],
        ..GOOD
    },
    // Names.
    Row {
        what: "name servers that nobody can be",
        options: &[(6, &[0, 0, 0, 0, 10, 7, 0, 9, 127, 0, 0, 53, 255, 255, 255, 255, 10, 7, 0, 54])],
        resolv: &["search lab", "nameserver 10.7.0.54"],
        says: &[
            "option 6: 0.0.0.0 is left out",
            "option 6: 10.7.0.9 is",
            "option 6: 127.0.0.53 is",
            "6: 255.255.255.255",
        ],
        ..GOOD
    },
    Row {
        what: "several domains, one with a line break",
        options: &[(15, b"lab.example  corp.example,\nnameserver\tx.example\0")],
        resolv: &["search lab.example corp.example x.example", "nameserver 10.7.0.53"],
        says: &["option 15: a name in it is no domain"],
        ..GOOD
    },
    Row {
        what: "compressed search list",
        options: &[(119, b"\x03eng\x05apple\x03com\0\x09marketing\xc0\x04")],
        resolv: &["search eng.apple.com marketing.apple.com", "nameserver 10.7.0.53"],
        ..GOOD
    },
    Row {
        what: "search list that points to itself",
        options: &[(119, b"\x03eng\xc0\x04")],
        says: &["option 119: it is malformed, and is left out"],
        ..GOOD
    },
    Row {
        what: "a hostname, a boot server and a root path that break out",
        siaddr: [255; 4],
        options: &[(12, b"n1\nx"), (66, b"../x"), (17, b"/a b")],
        says: &[
            "option 12: it holds what",
            "option 66: it holds what",
            "option 17: it holds",
            "next server 255.255.255.255",
        ],
        ..GOOD
    },
    // The MTU.
    Row { what: "MTU of 60", options: &[(26, &[0, 60])], says: &["option 26: 60, and no link has less"], ..GOOD },
    Row { what: "MTU of 100", options: &[(26, &[0, 100])], mtu: 576, says: &["the MTU of 100 that"], ..GOOD },
    Row { what: "MTU of one byte", options: &[(26, &[5])], says: &["option 26: it is malformed"], ..GOOD },
    Row { what: "MTU of 1400", options: &[(26, &[5, 120])], mtu: 1400, ..GOOD },
    // Packets.
    Row { what: "other exchange", play: Play::OtherExchange, says: &["veth0: carrier"], ..REFUSED },
    Row { what: "other node", play: Play::OtherNode, says: &["veth0: carrier"], ..REFUSED },
    Row { what: "NAK after each request", play: Play::Refuses, says: &["the server refused the request"], ..REFUSED },
    Row {
        what: "option over the end",
        play: Play::Cuts,
        says: &["answer refused: DHCP option 6 runs over"],
        ..REFUSED
    },
    Row {
        what: "options in the fields for names",
        play: Play::Overloads,
        options: &[(15, b"far.example")],
        resolv: &["search far.example", "nameserver 10.7.0.53"],
        ..GOOD
    },
    Row {
        what: "options that come twice",
        play: Play::Repeats,
        options: &[(51, &[0, 0, 14, 16]), (1, &[255, 255, 255, 0]), (54, &[10, 7, 0, 1]), (26, &[5, 120])],
        mtu: 1400,
        ..GOOD
    },
];

/// The answer to a request.
fn answer(row: &Row, request: &DhcpPacket, kind: u8) -> Vec<u8> {
    let mut options = vec![
        (53, vec![kind]),
        (54, SERVER.octets().to_vec()),
        (51, 3600u32.to_be_bytes().to_vec()),
        (1, vec![255, 255, 255, 0]),
        (3, SERVER.octets().to_vec()),
        (15, b"lab".to_vec()),
        (6, vec![10, 7, 0, 53]),
    ];
    options.retain(|(code, _)| row.options.iter().all(|(other, _)| other != code));
    let own: Vec<(u8, Vec<u8>)> = row
        .options
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(code, value)| (*code, value.to_vec()))
        .collect();
    if row.play == Play::Overloads {
        options.push((52, vec![1]));
    } else {
        options.extend(own.clone());
    }
    let (xid, mac) = match row.play {
        Play::OtherExchange => (request.xid ^ 1, request.mac),
        Play::OtherNode => (request.xid, [2, 9, 9, 9, 9, 9]),
        _ => (request.xid, request.mac),
    };
    let reply = DhcpPacket {
        op: 2,
        xid,
        mac,
        yiaddr: row.yiaddr.into(),
        siaddr: row.siaddr.into(),
        ciaddr: Ipv4Addr::UNSPECIFIED,
        options,
        ..request.clone()
    };
    let mut bytes = reply.to_bytes();
    let end = bytes.iter().rposition(|byte| *byte == 255).expect("an end mark");
    let raw: Vec<u8> =
        own.iter().flat_map(|(code, value)| [&[*code, value.len() as u8][..], value].concat()).chain([255]).collect();
    match row.play {
        // `file` begins at 108 (RFC 2131 section 2).
        Play::Overloads => bytes[108..108 + raw.len()].copy_from_slice(&raw),
        Play::Repeats => {
            bytes.truncate(end);
            bytes.extend(raw);
        }
        Play::Cuts => bytes.truncate(end - 2),
        _ => {}
    }
    bytes
}

fn serve(row: Row, socket: UdpSocket, requests: Sender<u8>) {
    let mut buffer = [0; 2000];
    while let Ok((length, _)) = socket.recv_from(&mut buffer) {
        let request = parse_packet(&buffer[..length]).expect("our client's");
        let kind = request.kind().expect("a type");
        let verdict = match kind {
            DISCOVER => OFFER,
            _ if row.play == Play::Refuses => NAK,
            _ => ACK,
        };
        let bytes = answer(&row, &request, verdict);
        if requests.send(kind).is_err() || socket.send_to(&bytes, (Ipv4Addr::BROADCAST, 68)).is_err() {
            return;
        }
    }
}

fn play_row(row: Row, mut cable: Cable) {
    let (asked, requests) = channel();
    cable.listen(move |socket| serve(row, socket, asked));
    let node = Node::new(plan(Source::Dhcp, 30));
    let mut engine = node.engine();
    let refused = row.addresses.is_empty();
    // What is refused is asked for more than once.
    let count = Cell::new(0);
    let asked_twice = || {
        count.set(count.get() + requests.try_iter().count());
        count.get() >= 2
    };
    node.run_until(&mut engine, row.what, &|| {
        let reached = if refused { asked_twice() } else { has().addresses == texts(row.addresses) };
        reached && node.has_said(row.says)
    });
    let mut found = Has { resolv: node.resolv(), ..has() };
    found.routes.sort_unstable_by(|a, b| b.cmp(a));
    let mut expected =
        Has { addresses: texts(row.addresses), routes: texts(row.routes), resolv: texts(row.resolv), mtu: row.mtu };
    expected.routes.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(found, expected, "{}: {:#?}", row.what, node.heard.all());
    let said = node.heard.all();
    for line in row.says {
        assert_eq!(said.iter().filter(|said| said.contains(line)).count(), 1, "{}: {line:?}: {said:#?}", row.what);
    }
    let odd = said.iter().filter(|line| line.contains("DHCP option") || line.contains("refused")).count();
    assert!(!row.says.is_empty() || odd == 0, "{}: nothing to complain of: {said:#?}", row.what);
}

#[test]
fn servers_that_say_odd_things() {
    play(ROWS, |row| row.what, play_row);
}

/// Answers within two renewals of a lease of one second.
#[test]
fn a_lease_of_a_second_is_not_renewed_eight_times_a_second() {
    with_cable(|mut cable| {
        let (asked, requests) = channel();
        let row = Row { options: &[(51, &[0, 0, 0, 1]), (58, &[0, 0, 0, 0]), (59, &[0, 0, 0, 0])], ..GOOD };
        cable.listen(move |socket| serve(row, socket, asked));
        let node = Node::new(plan(Source::Dhcp, 30));
        let mut engine = node.engine();
        node.run_until(&mut engine, "a lease", &|| has().addresses == ["10.7.0.9/24"]);
        let _ = requests.try_iter().count();
        let until = clock() + 7_000;
        while clock() < until {
            engine.step(Some(until)).expect("a step");
        }
        let renewals = requests.try_iter().count();
        assert!((1..=2).contains(&renewals), "{renewals} requests in 7 s");
        assert_eq!(has().addresses, ["10.7.0.9/24"]);
    });
}
