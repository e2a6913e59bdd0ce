//! Links that are made: VLANs, bonds, new names.

use super::*;
use crate::net::link_param::{parse_bond, parse_vlan};

fn fixed() -> Source {
    Source::Static { addresses: vec![(ADDRESS.into(), 24)], gateways: vec![] }
}

/// Whether this kernel can make such links at all.
fn kernel_has(route: &mut Route, kind: &str) -> bool {
    let done = match kind {
        "bond" => route.make_bond("probe", &[]),
        _ => {
            let lo = link(route, "lo").index;
            match route.make_vlan("probe", lo, 9) {
                // Such links go only above Ethernet: that the kernel says so shows that it knows them.
                Err(NetlinkError::Refused { errno, .. }) if errno != nix::errno::Errno::EOPNOTSUPP => Ok(()),
                other => other,
            }
        }
    };
    if done.is_err() {
        eprintln!("skipped: this kernel makes no {kind}");
    }
    done.is_ok()
}

#[test]
fn a_vlan_reaches_its_other_end() {
    with_cable(|mut cable| {
        if !kernel_has(&mut cable.here, "vlan") {
            return;
        }
        let veth1 = cable.plug_in();
        cable.there.make_vlan("veth1.5", veth1.index, 5).expect("root may");
        cable.address_there("veth1.5", &["10.7.0.1/24"]);
        let mut plan = plan(fixed(), 20);
        plan.made = vec![parse_vlan("veth0.5:veth0").expect("good")];
        plan.interfaces[0].select = Select::Name("veth0.5".into());
        let heard = Heard::default();
        let mut engine = Engine::new(plan, client(), &heard, clock).expect("an engine");
        engine.wait_until_up().expect("up");
        assert!(heard.all().iter().any(|line| line == "veth0.5 has [10.7.0.9/24]"), "{:?}", heard.all());
        assert_reaches(&cable);
    });
}

#[test]
fn a_bond_goes_on_with_its_second_link() {
    with_cable(|mut cable| {
        if !kernel_has(&mut cable.here, "bond") {
            return;
        }
        cable.add("lan0", "lan1");
        let options = crate::net::netlink::made::bond_attributes(&[("mode".into(), "active-backup".into())]);
        cable.there.make_bond("bond1", &options.expect("good")).expect("root may");
        let bond = link(&mut cable.there, "bond1").index;
        for name in ["veth1", "lan1"] {
            let index = link(&mut cable.there, name).index;
            cable.there.join(index, bond).expect("root may");
        }
        cable.address_there("bond1", &["10.7.0.1/24"]);
        let mut plan = plan(fixed(), 20);
        plan.made = vec![parse_bond("bond0:veth0,lan0:mode=active-backup,miimon=50:1400").expect("good")];
        plan.interfaces[0].select = Select::Name("bond0".into());
        let heard = Heard::default();
        let mut engine = Engine::new(plan, client(), &heard, clock).expect("an engine");
        engine.wait_until_up().unwrap_or_else(|error| panic!("{error}: {:#?}", heard.all()));
        assert!(link(&mut cable.here, "veth0").has_master && link(&mut cable.here, "lan0").has_master);
        step_until(&mut engine, &heard, "bond0 has [10.7.0.9/24]");
        assert_eq!(link(&mut cable.here, "bond0").mtu, 1400);
        assert_reaches(&cable);
    });
}

#[test]
fn links_get_the_names_that_the_command_line_gives() {
    with_cable(|mut cable| {
        cable.plug_in();
        let mac = link(&mut cable.here, "veth0").mac;
        let mut plan = plan(fixed(), 10);
        // veth is made by software, and only real links are renamed: nothing may happen to it.
        plan.names = vec![("wan0".into(), mac)];
        let heard = Heard::default();
        let mut engine = Engine::new(plan, client(), &heard, clock).expect("an engine");
        engine.wait_until_up().expect("up");
        let index = link(&mut cable.here, "veth0").index;
        cable.here.rename(index, "wan0").expect("root may");
        assert_eq!(link(&mut cable.here, "wan0").mac, mac);
    });
}

/// A datagram comes through to the other end.
fn assert_reaches(cable: &Cable) {
    let namespace = cable.other_namespace.try_clone().expect("a descriptor");
    let (ready, is_ready) = channel();
    let server = std::thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may");
        let socket = UdpSocket::bind("10.7.0.1:7").expect("our own namespace");
        socket.set_read_timeout(Some(std::time::Duration::from_secs(10))).expect("allowed");
        ready.send(()).expect("awaited");
        socket.recv_from(&mut [0; 8]).map(|(_, from)| from.ip())
    });
    is_ready.recv().expect("the server runs");
    let socket = UdpSocket::bind((ADDRESS, 0)).expect("our address");
    let until = clock() + 10_000;
    while !server.is_finished() {
        assert!(clock() < until, "nothing comes through");
        socket.send_to(b"ping", "10.7.0.1:7").expect("a way");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(server.join().expect("no panic").expect("a datagram"), IpAddr::from(ADDRESS));
}
