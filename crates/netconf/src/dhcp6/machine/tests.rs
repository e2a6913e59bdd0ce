//! The state machine against a fake clock and answers that are made here.

use super::super::message::tests::{answer, association};
use super::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];
const ID: u32 = 7;

fn machine(managed: bool) -> Dhcp6Machine {
    Dhcp6Machine::new(b"me".to_vec(), &MAC, managed, 42, 1000)
}

/// Type and transaction of the only message.
fn sent(actions: &[Dhcp6Action]) -> (u8, u32) {
    match actions {
        [Dhcp6Action::Send(bytes)] => (bytes[0], u32::from_be_bytes([0, bytes[1], bytes[2], bytes[3]])),
        other => panic!("expected one message: {other:?}"),
    }
}

fn next(machine: &mut Dhcp6Machine) -> (Millis, Vec<Dhcp6Action>) {
    let at = machine.deadline().expect("a deadline");
    (at, machine.on_time(at))
}

fn lease(t1: u32, t2: u32, preferred: u32, valid: u32) -> (u16, Vec<u8>) {
    association(ID, t1, t2, "2001:db8::7", preferred, valid)
}

fn bind(machine: &mut Dhcp6Machine, lease: (u16, Vec<u8>)) -> Millis {
    let (_, actions) = next(machine);
    let (kind, xid) = sent(&actions);
    assert_eq!(kind, MessageType::Solicit as u8);
    let offer = [lease.clone(), (7, vec![255])];
    let (kind, xid) = sent(&machine.on_packet(&answer(MessageType::Advertise, xid, b"me", &offer), 1100));
    assert_eq!(kind, MessageType::Request as u8);
    let actions = machine.on_packet(&answer(MessageType::Reply, xid, b"me", &[lease]), 1200);
    assert!(matches!(&actions[..], [Dhcp6Action::Bound(Some(_), _)]), "{actions:?}");
    1200
}

#[test]
fn a_lease_is_renewed_rebound_and_lost() {
    let mut machine = machine(true);
    let at = bind(&mut machine, lease(10, 16, 20, 20));
    let (renewal, actions) = next(&mut machine);
    assert_eq!((sent(&actions).0, renewal), (MessageType::Renew as u8, at + 10_000));
    let mut kinds = Vec::new();
    loop {
        let (now, actions) = next(&mut machine);
        assert!(now <= at + 20_000);
        match &actions[..] {
            [Dhcp6Action::Send(bytes)] => kinds.push(bytes[0]),
            [Dhcp6Action::Note(note), Dhcp6Action::Lost(ip)] => {
                assert_eq!((note.as_str(), now), ("the lease of 2001:db8::7 has ended", at + 20_000));
                assert_eq!(ip.to_string(), "2001:db8::7");
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(kinds.contains(&(MessageType::Renew as u8)) && kinds.ends_with(&[MessageType::Rebind as u8]), "{kinds:?}");
    assert_eq!(sent(&next(&mut machine).1).0, MessageType::Solicit as u8);
}

#[test]
fn a_renewal_that_is_answered_starts_the_times_again() {
    let mut machine = machine(true);
    bind(&mut machine, lease(0, 0, 100, 200));
    let (now, actions) = next(&mut machine);
    assert_eq!(now, 1200 + 50_000, "half of the preferred lifetime");
    let (_, xid) = sent(&actions);
    let actions = machine.on_packet(&answer(MessageType::Reply, xid, b"me", &[lease(0, 0, 100, 200)]), now);
    assert!(matches!(&actions[..], [Dhcp6Action::Bound(Some(_), _)]));
    assert_eq!(machine.deadline(), Some(now + 50_000));
    // A server that has forgotten us: the address goes and everything starts over.
    let (now, actions) = next(&mut machine);
    let (_, xid) = sent(&actions);
    let forgotten = [(3, [&[0, 0, 0, 7][..], &[0; 8], &[0, 13, 0, 2, 0, 3]].concat())];
    let actions = machine.on_packet(&answer(MessageType::Reply, xid, b"me", &forgotten), now);
    assert!(
        matches!(&actions[..], [Dhcp6Action::Odd(why), Dhcp6Action::Lost(_)] if why.contains("no such association"))
    );
}

#[test]
fn a_server_that_wants_to_be_asked_all_the_time_is_not() {
    // T1 or a lifetime of 0 or 1 s, T1 and T2 of 1 s in a long lease.
    for (t1, t2, preferred, valid, renews_s, odd) in
        [(0, 0, 1, 1, 5, true), (1, 1, 1, 1, 5, true), (0, 0, 0, 100, 50, false), (1, 1, 1000, 2000, 60, false)]
    {
        let mut machine = machine(true);
        let (_, xid) = sent(&next(&mut machine).1);
        let offer = [lease(t1, t2, preferred, valid), (7, vec![255])];
        let (_, xid) = sent(&machine.on_packet(&answer(MessageType::Advertise, xid, b"me", &offer), 1100));
        let actions = machine.on_packet(&answer(MessageType::Reply, xid, b"me", &offer), 1200);
        let said =
            actions.iter().any(|action| matches!(action, Dhcp6Action::Odd(text) if text.contains("lease of 1 s")));
        assert_eq!((machine.deadline(), said), (Some(1200 + renews_s * 1000), odd), "{t1} {t2} {preferred} {valid}");
    }
}

#[test]
fn refusals_are_answered_more_and_more_slowly() {
    let mut machine = machine(true);
    let mut pauses = Vec::new();
    for _ in 0..7 {
        let (now, actions) = next(&mut machine);
        let (_, xid) = sent(&actions);
        let (_, xid) = sent(
            &machine
                .on_packet(&answer(MessageType::Advertise, xid, b"me", &[lease(0, 0, 99, 99), (7, vec![255])]), now),
        );
        machine.on_packet(&answer(MessageType::Reply, xid, b"me", &[(13, vec![0, 2])]), now);
        pauses.push((machine.deadline().expect("a deadline") - now) / 1000);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
}

#[test]
fn offers_are_compared_for_the_first_second() {
    let mut machine = machine(true);
    let (_, actions) = next(&mut machine);
    let (_, xid) = sent(&actions);
    let offer = |preference: u8| {
        let options = [lease(0, 0, 9, 9), (7, vec![preference])];
        answer(MessageType::Advertise, xid, b"me", &options)
    };
    assert!(machine.on_packet(&offer(1), 1100).is_empty());
    assert!(machine.on_packet(&offer(0), 1100).is_empty());
    let empty = answer(MessageType::Advertise, xid, b"me", &[(13, vec![0, 2])]);
    let actions = machine.on_packet(&empty, 1100);
    assert_eq!(actions, [Dhcp6Action::Odd("DHCPv6 offer refused: no addresses left".into())]);
    let (now, actions) = next(&mut machine);
    assert_eq!(sent(&actions).0, MessageType::Request as u8);
    assert!((2000..2200).contains(&now), "{now}");
    // Nobody answers: ten requests, then a new solicitation.
    let kinds: Vec<_> = (0..10).map(|_| next(&mut machine).1).collect();
    assert_eq!(kinds.iter().filter(|actions| matches!(actions[0], Dhcp6Action::Send(_))).count(), 9);
    assert_eq!(kinds[9], [Dhcp6Action::Odd("no answer to the DHCPv6 request".into())]);
}

#[test]
fn facts_alone() {
    let mut machine = machine(false);
    let (_, actions) = next(&mut machine);
    let (kind, xid) = sent(&actions);
    assert_eq!(kind, MessageType::InformationRequest as u8);
    assert!(machine.on_packet(&answer(MessageType::Advertise, xid, b"me", &[]), 1100).is_empty());
    let dns = [(23, vec![0x20, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]), (32, vec![0, 0, 0, 9])];
    let actions = machine.on_packet(&answer(MessageType::Reply, xid, b"me", &dns), 1100);
    assert!(matches!(&actions[..], [Dhcp6Action::Bound(None, facts)] if facts.dns.len() == 1));
    assert_eq!(machine.deadline(), Some(1100 + 600_000), "not more often");
    machine.become_managed(2000);
    assert_eq!(sent(&machine.on_time(2000)).0, MessageType::Solicit as u8);
}

#[test]
fn silence_is_asked_again_with_back_off() {
    let mut machine = machine(true);
    let times: Vec<_> = (0..8).map(|_| next(&mut machine).0).collect();
    let waits: Vec<_> = times.windows(2).map(|pair| (pair[1] - pair[0]) / 1000).collect();
    for (wait, expected) in waits.iter().zip([1, 2, 4, 8, 16, 30, 30]) {
        assert!((expected..=expected + expected / 10 + 1).contains(wait), "{waits:?}");
    }
}
