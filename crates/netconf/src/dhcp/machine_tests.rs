//! The state machine against a fake clock and a server of a few lines.

use super::lease::{LeaseError, parse_lease};
use super::machine::{ACK, DISCOVER, DhcpAction, DhcpClient, DhcpMachine, Millis, NAK, OFFER, REQUEST};
use super::packet::{DhcpPacket, parse_packet};
use bootwright_base::firmware_uuid::FirmwareUuid;
use std::net::Ipv4Addr;

const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const START: Millis = 5000;

fn machine() -> DhcpMachine {
    let uuid = FirmwareUuid::parse("00112233-4455-6677-8899-aabbccddeeff\n").map(|uuid| uuid.wire());
    DhcpMachine::new(DhcpClient { mac: MAC, uuid, hostname: Some("n1".into()) }, 42, START)
}

/// Options of a good answer: a lease of 1000 s in 10.0.2.0/24.
fn options(kind: u8) -> Vec<(u8, Vec<u8>)> {
    vec![
        (53, vec![kind]),
        (54, SERVER.octets().to_vec()),
        (51, 1000u32.to_be_bytes().to_vec()),
        (1, vec![255, 255, 255, 0]),
        (3, SERVER.octets().to_vec()),
    ]
}

fn reply(to: &DhcpPacket, options: Vec<(u8, Vec<u8>)>) -> DhcpPacket {
    DhcpPacket { op: 2, yiaddr: ADDRESS, ciaddr: Ipv4Addr::UNSPECIFIED, options, ..to.clone() }
}

fn answer(to: &DhcpPacket, kind: u8) -> Vec<u8> {
    reply(to, options(kind)).to_bytes()
}

/// The message of the only action, and whether it goes to everybody.
fn sent(actions: &[DhcpAction]) -> (DhcpPacket, bool) {
    match actions {
        [DhcpAction::Broadcast(payload)] => (parse_packet(payload).expect("ours"), true),
        [DhcpAction::Unicast { to: SERVER, from: ADDRESS, payload }] => (parse_packet(payload).expect("ours"), false),
        other => panic!("expected one message: {other:?}"),
    }
}

/// Runs the clock to the next deadline.
fn next(machine: &mut DhcpMachine) -> (Millis, Vec<DhcpAction>) {
    let at = machine.deadline().expect("a deadline");
    (at, machine.on_time(at))
}

/// Hears an offer and takes it.
fn take_offer(machine: &mut DhcpMachine, offer: &[u8], at: Millis) -> Vec<DhcpAction> {
    assert_eq!(machine.on_packet(offer, at), [DhcpAction::Offered]);
    machine.accept(at)
}

/// Goes through the handshake; the lease counts from the time that comes back.
fn bind(machine: &mut DhcpMachine) -> Millis {
    let (at, actions) = next(machine);
    let (discover, _) = sent(&actions);
    let (request, _) = sent(&take_offer(machine, &answer(&discover, OFFER), at));
    assert!(matches!(&machine.on_packet(&answer(&request, ACK), at + 100)[..], [DhcpAction::Bound(_)]));
    at
}

#[test]
fn handshake_and_what_the_messages_hold() {
    let mut machine = machine();
    let (at, actions) = next(&mut machine);
    assert_eq!(at, START, "the first message leaves at once");
    let (discover, everybody) = sent(&actions);
    assert!(everybody && !discover.broadcast);
    assert_eq!((discover.op, discover.kind(), discover.mac), (1, Some(DISCOVER), MAC));
    assert_eq!(discover.option(61), Some(&[1, 0x52, 0x54, 0, 0x12, 0x34, 0x56][..]));
    let uuid = [0, 0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];
    assert_eq!(discover.option(97), Some(&uuid[..]));
    assert_eq!(discover.option(12), Some(&b"n1"[..]));
    let wanted = discover.option(55).expect("a parameter list");
    let place = |code| wanted.iter().position(|c| *c == code).expect("asked for");
    assert!(place(121) < place(3), "RFC 3442 wants 121 first");

    let (request, everybody) = sent(&take_offer(&mut machine, &answer(&discover, OFFER), at + 50));
    assert!(everybody);
    assert_eq!((request.kind(), request.xid), (Some(REQUEST), discover.xid));
    assert_eq!(request.option(50), Some(&ADDRESS.octets()[..]));
    assert_eq!(request.option(54), Some(&SERVER.octets()[..]));
    let actions = machine.on_packet(&answer(&request, ACK), at + 60);
    let [DhcpAction::Bound(lease)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((lease.address, lease.prefix, lease.gateway), (ADDRESS, 24, Some(SERVER)));
    assert_eq!((lease.renew_s, lease.rebind_s, lease.lease_s), (500, 875, 1000));
    assert_eq!(machine.deadline(), Some(at + 50 + 500_000), "times count from the request");
}

#[test]
fn silence_is_asked_again_with_back_off_and_the_broadcast_flag() {
    let mut machine = machine();
    let mut waits = Vec::new();
    let mut last = START;
    for round in 0..7 {
        let (at, actions) = next(&mut machine);
        let (discover, _) = sent(&actions);
        assert_eq!(discover.broadcast, round > 0, "round {round}");
        assert_eq!(u64::from(discover.secs), (at - START) / 1000);
        waits.push((at - last) / 1000);
        last = at;
    }
    assert_eq!(waits, [0, 1, 2, 4, 8, 8, 8]);
    assert_eq!(machine.on_time(last), [], "not before the deadline");
}

#[test]
fn requests_without_an_answer_end_in_a_new_discover() {
    let mut machine = machine();
    let (at, actions) = next(&mut machine);
    let (discover, _) = sent(&actions);
    let (mut requests, mut xid) = (1, 0);
    take_offer(&mut machine, &answer(&discover, OFFER), at);
    loop {
        let (_, actions) = next(&mut machine);
        if matches!(actions[..], [DhcpAction::Odd(_), DhcpAction::Refused]) {
            break;
        }
        let (request, _) = sent(&actions);
        assert_eq!(request.kind(), Some(REQUEST));
        (requests, xid) = (requests + 1, request.xid);
    }
    assert_eq!(requests, 4);
    let (again, _) = sent(&next(&mut machine).1);
    assert_eq!(again.kind(), Some(DISCOVER));
    assert_ne!(again.xid, xid, "a new exchange");
}

#[test]
fn renewing_rebinding_and_the_end_of_the_lease() {
    let mut machine = machine();
    let asked = bind(&mut machine);
    let (at, actions) = next(&mut machine);
    assert_eq!(at, asked + 500_000);
    let (renewal, everybody) = sent(&actions);
    assert!(!everybody);
    assert_eq!((renewal.kind(), renewal.ciaddr), (Some(REQUEST), ADDRESS));
    assert!(renewal.option(50).is_none() && renewal.option(54).is_none(), "RFC 2131 table 5 forbids both");

    // No answer: unicast until T2, then broadcast until the end, never sooner than a minute.
    let (mut last, mut broadcasts, mut unicasts) = (at, 0, 1);
    let end = loop {
        let (at, actions) = next(&mut machine);
        if let [DhcpAction::Note(note), DhcpAction::Lost(ADDRESS)] = &actions[..] {
            assert!(note.contains("has ended"), "{note}");
            break at;
        }
        let (_, everybody) = sent(&actions);
        assert_eq!(everybody, at >= asked + 875_000, "at {at}");
        assert!(at - last >= 60_000 || at == asked + 875_000, "{last} {at}");
        (broadcasts, unicasts) = (broadcasts + u32::from(everybody), unicasts + u32::from(!everybody));
        last = at;
    };
    assert_eq!(end, asked + 1_000_000);
    assert!(broadcasts >= 2 && unicasts >= 3, "{broadcasts} {unicasts}");
    assert_eq!(sent(&next(&mut machine).1).0.kind(), Some(DISCOVER));
}

#[test]
fn an_answer_to_a_renewal_starts_the_lease_anew() {
    let mut machine = machine();
    bind(&mut machine);
    let (at, actions) = next(&mut machine);
    let (renewal, _) = sent(&actions);
    assert!(matches!(&machine.on_packet(&answer(&renewal, ACK), at + 5)[..], [DhcpAction::Bound(_)]));
    assert_eq!(machine.deadline(), Some(at + 500_000));
    machine.on_carrier(at + 10);
    assert_eq!(machine.deadline(), Some(at + 10), "the cable was out: ask at once");
    let (_, everybody) = sent(&machine.on_time(at + 10));
    assert!(!everybody);
}

#[test]
fn a_nak_starts_over_and_takes_the_address_away() {
    let mut machine = machine();
    let (at, actions) = next(&mut machine);
    let (discover, _) = sent(&actions);
    let (request, _) = sent(&take_offer(&mut machine, &answer(&discover, OFFER), at));
    let mut foreign = options(NAK);
    foreign[1].1 = vec![10, 0, 2, 99];
    assert_eq!(machine.on_packet(&reply(&request, foreign).to_bytes(), at), [], "another server's");
    assert!(matches!(machine.on_packet(&answer(&request, NAK), at)[..], [DhcpAction::Odd(_), DhcpAction::Refused]));
    let again = next(&mut machine);
    assert_eq!(again.0, at + 1000, "not at once: the server may always refuse");
    assert_eq!(sent(&again.1).0.kind(), Some(DISCOVER));

    let mut machine = self::machine();
    bind(&mut machine);
    let (at, actions) = next(&mut machine);
    let (renewal, _) = sent(&actions);
    let actions = machine.on_packet(&answer(&renewal, NAK), at);
    assert!(matches!(actions[..], [DhcpAction::Note(_), DhcpAction::Lost(ADDRESS)]), "{actions:?}");
}

#[test]
fn what_is_not_for_us_is_passed_over() {
    let mut machine = machine();
    let (at, actions) = next(&mut machine);
    let (discover, _) = sent(&actions);
    let offer = reply(&discover, options(OFFER));
    for (what, packet) in [
        ("a request", DhcpPacket { op: 1, ..offer.clone() }),
        ("another exchange", DhcpPacket { xid: offer.xid ^ 1, ..offer.clone() }),
        ("another node", DhcpPacket { mac: [2; 6], ..offer.clone() }),
        ("an ACK that nobody asked for", reply(&discover, options(ACK))),
        ("no type", reply(&discover, vec![])),
    ] {
        assert_eq!(machine.on_packet(&packet.to_bytes(), at), [], "{what}");
    }
    assert_eq!(machine.on_packet(b"rubbish", at), []);
    assert_eq!(machine.accept(at), [], "there is nothing to take yet");
    sent(&take_offer(&mut machine, &offer.to_bytes(), at));
}

#[test]
fn leases_that_are_refused() {
    let mut machine = machine();
    let (at, actions) = next(&mut machine);
    let offer = reply(&sent(&actions).0, options(OFFER));
    for address in [[0, 0, 0, 0], [169, 254, 3, 4], [127, 0, 0, 1], [224, 0, 0, 1], [255, 255, 255, 255]] {
        let bad = DhcpPacket { yiaddr: address.into(), ..offer.clone() };
        assert_eq!(parse_lease(&bad), Err(LeaseError::Address(address.into())));
        let actions = machine.on_packet(&bad.to_bytes(), at);
        assert!(matches!(&actions[..], [DhcpAction::Odd(note)] if note.contains("offer refused")), "{actions:?}");
    }
    for last in [0, 255] {
        let bad = DhcpPacket { yiaddr: Ipv4Addr::new(10, 0, 2, last), ..offer.clone() };
        assert_eq!(parse_lease(&bad), Err(LeaseError::Edge(bad.yiaddr, 24)));
        // Networks of two addresses and of one have no such address.
        for mask in [[255, 255, 255, 254], [255, 255, 255, 255]] {
            let mut small = bad.clone();
            small.options[3].1 = mask.into();
            assert!(parse_lease(&small).is_ok(), "{last} {mask:?}");
        }
    }
    assert_eq!(parse_lease(&DhcpPacket { yiaddr: SERVER, ..offer.clone() }), Err(LeaseError::Server(SERVER)));
    let mut nameless = offer.clone();
    nameless.options.retain(|(code, _)| *code != 54);
    assert_eq!(parse_lease(&nameless), Err(LeaseError::Option { code: 54 }));
    // An answer to us that cannot be read is told of, one to others is not.
    let mut cut = offer.to_bytes();
    cut.truncate(cut.iter().rposition(|byte| *byte == 255).expect("an end mark") - 2);
    assert!(matches!(&machine.on_packet(&cut, at)[..], [DhcpAction::Odd(note)] if note.contains("runs over the end")));
    cut[33] ^= 1;
    assert_eq!(machine.on_packet(&cut, at), []);
}

#[test]
fn a_server_that_always_refuses_is_asked_more_and_more_slowly() {
    let mut machine = machine();
    let mut pauses = Vec::new();
    for _ in 0..7 {
        let (at, actions) = next(&mut machine);
        let (discover, _) = sent(&actions);
        // Another server might answer: the one that has refused comes second.
        let mut offer = answer(&discover, OFFER);
        let mut when = at;
        if !pauses.is_empty() {
            assert_eq!(machine.on_packet(&offer, at), []);
            let (later, actions) = next(&mut machine);
            (offer, when) = (answer(&sent(&actions).0, OFFER), later);
        }
        let (request, _) = sent(&take_offer(&mut machine, &offer, when));
        machine.on_packet(&answer(&request, NAK), when);
        pauses.push((machine.deadline().expect("a deadline") - when) / 1000);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 32]);
    let (at, actions) = next(&mut machine);
    let (discover, _) = sent(&actions);
    let other = Ipv4Addr::new(10, 0, 2, 3);
    let from_other = |kind| {
        let mut options = options(kind);
        options[1].1 = other.octets().to_vec();
        options
    };
    let (request, _) = sent(&take_offer(&mut machine, &reply(&discover, from_other(OFFER)).to_bytes(), at));
    let bound = machine.on_packet(&reply(&request, from_other(ACK)).to_bytes(), at);
    assert!(matches!(&bound[..], [DhcpAction::Bound(lease)] if lease.server == other), "{bound:?}");
}

#[test]
fn while_ours_is_asked_no_other_server_takes_the_lease_away() {
    let mut machine = machine();
    bind(&mut machine);
    let (at, actions) = next(&mut machine);
    let (renewal, _) = sent(&actions);
    let mut foreign = options(NAK);
    foreign[1].1 = vec![10, 0, 2, 99];
    let foreign = reply(&renewal, foreign).to_bytes();
    assert_eq!(machine.on_packet(&foreign, at), []);
    // When everybody is asked everybody may answer.
    let (at, _) = loop {
        let (at, actions) = next(&mut machine);
        if sent(&actions).1 {
            break (at, ());
        }
    };
    assert!(matches!(machine.on_packet(&foreign, at)[..], [DhcpAction::Note(_), DhcpAction::Lost(ADDRESS)]));
}

#[test]
fn what_a_lease_says() {
    let with = |extra: &[(u8, &[u8])]| {
        let mut options = options(ACK);
        options.retain(|(code, _)| extra.iter().all(|(other, _)| other != code));
        options.extend(extra.iter().map(|(code, value)| (*code, value.to_vec())));
        let packet = DhcpPacket {
            op: 2,
            xid: 1,
            secs: 0,
            broadcast: false,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: ADDRESS,
            siaddr: Ipv4Addr::UNSPECIFIED,
            mac: MAC,
            options,
        };
        parse_lease(&packet).expect("a good lease")
    };
    let lease = with(&[(6, &[1, 1, 1, 1, 2, 2, 2, 2, 3]), (15, b"lab.example"), (12, b"n1\n"), (26, &[5, 0xdc])]);
    assert_eq!(lease.dns.len(), 2);
    assert_eq!((lease.search, lease.hostname, lease.mtu), (vec!["lab.example".to_string()], None, Some(1500)));
    let lease = with(&[(119, b"\x01a\x01b\0"), (15, b"c.d"), (42, &[9, 9, 9, 9])]);
    assert_eq!((lease.search, lease.ntp), (vec!["a.b".to_string()], vec![Ipv4Addr::new(9, 9, 9, 9)]));
    // Option 121 hides option 3, also when it has no default route.
    let lease = with(&[(121, &[8, 10, 10, 0, 2, 9])]);
    assert_eq!((lease.gateway, lease.default_gateway(), lease.routes.len()), (None, None, 1));
    let lease = with(&[(121, &[0, 10, 0, 2, 9])]);
    assert_eq!(lease.default_gateway(), Some(Ipv4Addr::new(10, 0, 2, 9)));
    // Times that make no sense are not believed.
    let times = |renew: u32, rebind: u32| {
        let lease = with(&[(58, &renew.to_be_bytes()), (59, &rebind.to_be_bytes())]);
        (lease.renew_s, lease.rebind_s, lease.odd.len())
    };
    assert_eq!([times(100, 200), times(300, 200), times(0, 5000)], [(100, 200, 0), (200, 200, 1), (500, 875, 2)]);
    assert_eq!([times(1, 900), times(60, 60)], [(500, 900, 1), (60, 60, 0)], "not more often than once a minute");
    assert_eq!(with(&[(51, &[255; 4])]).lease_s, u32::MAX);
    let lease_of = |value: &[u8]| {
        let lease = with(&[(51, value)]);
        (lease.lease_s, lease.renew_s, lease.odd.len())
    };
    let usual = (3600, 1800, 1);
    assert_eq!([lease_of(&[]), lease_of(&[0, 0, 9])], [usual, usual]);
    assert_eq!(
        [lease_of(&[0; 4]), lease_of(&[0, 0, 0, 1]), lease_of(&[0, 0, 0, 10])],
        [(10, 5, 1), (10, 5, 1), (10, 5, 0)]
    );
    assert_eq!(lease_of(&[0, 0, 1, 0, 0, 0, 1, 0]), (256, 128, 0), "the option came twice");
}

#[test]
fn an_endless_lease_is_never_renewed() {
    let mut machine = machine();
    let (at, actions) = next(&mut machine);
    let mut endless = options(OFFER);
    endless[2].1 = vec![255; 4];
    let (request, _) = sent(&take_offer(&mut machine, &reply(&sent(&actions).0, endless.clone()).to_bytes(), at));
    endless[0].1 = vec![ACK];
    machine.on_packet(&reply(&request, endless).to_bytes(), at);
    assert_eq!(machine.deadline(), None);
    machine.on_carrier(at + 7);
    sent(&machine.on_time(at + 7));
}

#[test]
fn where_to_boot_from() {
    let packet = |siaddr: [u8; 4], more: Vec<(u8, Vec<u8>)>| DhcpPacket {
        op: 2,
        xid: 1,
        secs: 0,
        broadcast: false,
        ciaddr: Ipv4Addr::UNSPECIFIED,
        yiaddr: ADDRESS,
        siaddr: siaddr.into(),
        mac: MAC,
        options: [options(ACK), more].concat(),
    };
    let path = b"iscsi:10.0.2.9::::iqn.2026-11.org.example:root\0".to_vec();
    for (packet, server, root) in [
        (packet([0; 4], vec![]), None, None),
        (packet([10, 0, 2, 4], vec![(66, b"boot.lab".to_vec())]), Some("10.0.2.4"), None),
        (packet([0; 4], vec![(66, b"boot.lab\0".to_vec()), (17, path)]), Some("boot.lab"), Some("iscsi:10.0.2.9")),
        (packet([0; 4], vec![(66, b"bad name".to_vec()), (17, b"/a b".to_vec())]), None, None),
    ] {
        let lease = parse_lease(&packet).expect("good");
        assert_eq!(lease.boot_server.as_deref(), server);
        assert_eq!(lease.root_path.is_some(), root.is_some());
        assert!(lease.root_path.unwrap_or_default().starts_with(root.unwrap_or_default()));
    }
}

#[test]
fn an_offer_that_nobody_takes_is_forgotten() {
    let mut machine = machine();
    let (at, actions) = next(&mut machine);
    let (discover, _) = sent(&actions);
    assert_eq!(machine.on_packet(&answer(&discover, OFFER), at), [DhcpAction::Offered]);
    let (later, actions) = next(&mut machine);
    assert_eq!((later - at, sent(&actions).0.kind()), (15_000, Some(DISCOVER)));
}

#[test]
fn a_short_lease_is_asked_for_more_than_once() {
    let mut machine = machine();
    let (at, actions) = next(&mut machine);
    let (discover, _) = sent(&actions);
    let short = |to: &DhcpPacket, kind| {
        let mut options = options(kind);
        options[2].1 = 20u32.to_be_bytes().to_vec();
        reply(to, options).to_bytes()
    };
    let (request, _) = sent(&take_offer(&mut machine, &short(&discover, OFFER), at));
    machine.on_packet(&short(&request, ACK), at);
    let mut times = Vec::new();
    loop {
        let (now, actions) = next(&mut machine);
        if matches!(actions[..], [DhcpAction::Note(_), DhcpAction::Lost(_)]) {
            break assert_eq!(now, at + 20_000);
        }
        times.push((now - at) / 1000);
    }
    assert_eq!(times, [10, 14, 16, 18], "{times:?}");
}
