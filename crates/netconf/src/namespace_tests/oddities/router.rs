//! IPv6 routers.

use super::*;
use crate::v6::advert::eui64_address;
use crate::v6::advert::tests::{advert, dns_option, prefix_option};
use crate::v6::socket::RouterSocket;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn6, sendmsg};
use std::io::IoSlice;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// All nodes of the link.
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const EVERY: Duration = Duration::from_millis(200);

/// One advertisement: from which router, its packet's hop limit, flags, lifetime, options.
#[derive(Clone, Copy)]
struct Says {
    from: &'static str,
    hops: i32,
    flags: u8,
    router_s: u16,
    options: fn() -> Vec<Vec<u8>>,
}

const GOOD: Says = Says { from: "fe80::1", hops: 255, flags: 0, router_s: 1800, options: good };

#[derive(Clone, Copy)]
struct Row {
    what: &'static str,
    adverts: &'static [Says],
    /// Prefixes of which the node makes an address.
    prefixes: &'static [&'static str],
    routes: &'static [&'static str],
    resolv: &'static [&'static str],
    says: &'static [&'static str],
}

const USUAL: Row = Row {
    what: "all is well",
    adverts: &[GOOD],
    prefixes: &["2001:db8:7::"],
    routes: &["2001:db8:7::/64", "default via fe80::1"],
    resolv: &["nameserver 2001:db8:7::53"],
    says: &[],
};

fn good() -> Vec<Vec<u8>> {
    vec![prefix_option("2001:db8:7::", 64, 0xc0, 3600, 1800), dns_option("2001:db8:7::53", 600)]
}

fn with(option: Vec<u8>) -> Vec<Vec<u8>> {
    [good(), vec![option]].concat()
}

fn mtu(bytes: [u8; 4]) -> Vec<u8> {
    [&[5, 1, 0, 0][..], &bytes].concat()
}

const ROWS: &[Row] = &[
    USUAL,
    Row { what: "router lifetime 0", adverts: &[Says { router_s: 0, ..GOOD }], routes: &["2001:db8:7::/64"], ..USUAL },
    Row {
        what: "preferred for longer than valid",
        adverts: &[Says { options: || with(prefix_option("2001:db8:8::", 64, 0xc0, 10, 20)), ..GOOD }],
        says: &["router fe80::1: not used: prefix 2001:db8:8::/64, which is preferred for longer"],
        ..USUAL
    },
    Row {
        what: "link-local prefix",
        adverts: &[Says { options: || with(prefix_option("fe80::", 10, 0xc0, 3600, 1800)), ..GOOD }],
        says: &["prefix fe80::/10, which is for no addresses"],
        ..USUAL
    },
    Row {
        what: "prefix of 129 bits",
        adverts: &[Says { options: || with(prefix_option("2001:db8:8::", 129, 0xc0, 3600, 1800)), ..GOOD }],
        says: &["prefix 2001:db8:8::/129, which has a length"],
        ..USUAL
    },
    Row {
        what: "everything on the link",
        adverts: &[Says { options: || with(prefix_option("2001:db8:8::", 0, 0xc0, 3600, 1800)), ..GOOD }],
        says: &["prefix 2001:db8:8::/0, which has a length"],
        ..USUAL
    },
    Row {
        what: "prefix of 56 bits",
        adverts: &[Says { options: || with(prefix_option("2001:db8:800::", 56, 0xc0, 3600, 1800)), ..GOOD }],
        routes: &["2001:db8:7::/64", "2001:db8:800::/56", "default via fe80::1"],
        says: &["prefix 2001:db8:800::/56 for addresses, as its length is not 64"],
        ..USUAL
    },
    Row {
        what: "prefix that is over",
        adverts: &[Says { options: || with(prefix_option("2001:db8:8::", 64, 0xc0, 0, 0)), ..GOOD }],
        ..USUAL
    },
    Row {
        what: "name server that is over, and one that nobody can be",
        adverts: &[Says {
            options: || [with(dns_option("2001:db8:7::54", 0)), vec![dns_option("ff02::1", 600)]].concat(),
            ..GOOD
        }],
        says: &["not used: name server ff02::1"],
        ..USUAL
    },
    Row {
        what: "MTU of 1279",
        adverts: &[Says { options: || with(mtu([0, 0, 4, 255])), ..GOOD }],
        says: &["not used: an MTU of 1279, too small for IPv6"],
        ..USUAL
    },
    Row {
        what: "MTU of 9000 on a link of 1500",
        adverts: &[Says { options: || with(mtu([0, 0, 35, 40])), ..GOOD }],
        says: &["a router names an MTU of 9000, and the link has 1500"],
        ..USUAL
    },
    Row {
        what: "from another link",
        adverts: &[Says { hops: 254, ..GOOD }],
        prefixes: &[],
        routes: &[],
        resolv: &[],
        says: &["router fe80::1: the router advertisement has come from another link: its hop limit is 254"],
    },
    Row {
        what: "an option without a length",
        adverts: &[Says { options: || with(vec![3, 0, 0, 0, 0, 0, 0, 0]), ..GOOD }],
        prefixes: &[],
        routes: &[],
        resolv: &[],
        says: &["router fe80::1: option 3 of the router advertisement runs over the end"],
    },
    Row {
        what: "several routers, the better one last",
        adverts: &[
            Says { flags: 0x18, ..GOOD },
            Says { from: "fe80::2", flags: 0x08, options: || vec![dns_option("2001:db8:7::54", 600)], ..GOOD },
            Says { from: "fe80::3", router_s: 0, options: Vec::new, ..GOOD },
        ],
        routes: &["2001:db8:7::/64", "default via fe80::2"],
        resolv: &["nameserver 2001:db8:7::53", "nameserver 2001:db8:7::54"],
        ..USUAL
    },
];

/// Sends the row's advertisements again and again.
fn advertise(row: Row, index: u32) {
    // An address could not be used as a source before the kernel has looked for others that have it.
    std::fs::write("/proc/sys/net/ipv6/conf/veth1/accept_dad", "0").expect("our own namespace");
    let mut route = Route::open().expect("a netlink socket");
    for says in row.adverts {
        let cidr = (says.from.parse().expect("an address"), 64);
        route.add_address(index, &Address::lasting(cidr)).expect("root may");
    }
    let socket = RouterSocket::open(index, "veth1").expect("a raw socket");
    let to = SockaddrIn6::from(SocketAddrV6::new(ALL_NODES, 0, 0, index));
    // Without a carrier nothing can be sent yet.
    let end = Instant::now() + Duration::from_millis(2 * ROW_MS);
    while Instant::now() < end {
        for says in row.adverts {
            let from: Ipv6Addr = says.from.parse().expect("an address");
            let from = nix::libc::in6_pktinfo {
                ipi6_addr: nix::libc::in6_addr { s6_addr: from.octets() },
                ipi6_ifindex: index,
            };
            let bytes = advert(says.flags, says.router_s, &(says.options)());
            let control = [ControlMessage::Ipv6PacketInfo(&from), ControlMessage::Ipv6HopLimit(&says.hops)];
            let fd = socket.as_fd().as_raw_fd();
            let _ = sendmsg(fd, &[IoSlice::new(&bytes)], &control, MsgFlags::empty(), Some(&to));
        }
        thread::sleep(EVERY);
    }
}

fn play_row(row: Row, mut cable: Cable) {
    let veth1 = cable.plug_in();
    cable.in_the_other_namespace(move || advertise(row, veth1.index));
    let mut plan = plan(Source::None, 30);
    plan.interfaces[0].ipv6 = Ipv6Mode::Auto;
    let node = Node::new(plan);
    let mut engine = node.engine();
    let mac = link(&mut cable.here, "veth0").mac;
    let address = |prefix: &&str| format!("{}/64", eui64_address(prefix.parse().expect("a prefix"), &mac));
    let expected = Has {
        addresses: row.prefixes.iter().map(address).collect(),
        routes: texts(row.routes),
        resolv: texts(row.resolv),
        mtu: 1500,
    };
    node.run_until(&mut engine, row.what, &|| {
        let found = has();
        found.addresses == expected.addresses
            && found.routes.len() == row.routes.len()
            && node.has_said(row.says)
            && (row.prefixes.is_empty() || node.resolv().len() == row.resolv.len())
    });
    let found = Has { resolv: node.resolv(), ..has() };
    assert_eq!(found, expected, "{}: {:#?}", row.what, node.heard.all());
    let said = node.heard.all();
    for line in row.says {
        assert_eq!(said.iter().filter(|said| said.contains(line)).count(), 1, "{}: {line:?}: {said:#?}", row.what);
    }
    let odd = said.iter().filter(|line| line.contains("router")).count();
    assert!(!row.says.is_empty() || odd == 0, "{}: nothing to complain of: {said:#?}", row.what);
}

#[test]
fn routers_that_say_odd_things() {
    play(ROWS, |row| row.what, play_row);
}
