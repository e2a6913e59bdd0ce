//! Leases and static addresses of IPv4.

use super::*;

#[test]
fn a_lease_is_taken_renewed_and_lost() {
    with_cable(|mut cable| {
        let (verdict, verdicts) = channel();
        let (saw, seen) = channel();
        cable.serve(10, verdicts, saw);
        let heard = Heard::default();
        let mut engine = Engine::new(plan(Source::Dhcp, 20), client(), &heard, clock).expect("an engine");
        engine.wait_until_up().expect("a lease");

        // The far end may drop its first answer: the kernel sets its queue up some time after the carrier.
        let kinds: Vec<u8> = seen.try_iter().map(|(kind, _)| kind).collect();
        assert_eq!(kinds.last(), Some(&REQUEST), "{kinds:?}");
        assert!(kinds[..kinds.len() - 1].iter().all(|kind| *kind == DISCOVER), "{kinds:?}");
        assert_eq!(link(&mut cable.here, "veth0").mtu, 1400, "option 26");
        // Both routes work: the kernel finds a way out of veth0, from our address.
        for target in ["192.168.9.1:9", "8.8.8.8:9"] {
            let probe = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            probe.connect(target).unwrap_or_else(|e| panic!("no route to {target}: {e}"));
            assert_eq!(probe.local_addr().expect("bound").ip(), ADDRESS, "{target}");
        }
        // The first renewal is granted, the second one refused: the address goes, and a new lease is asked for.
        let until = clock() + 30_000;
        let step_until = |engine: &mut Engine, what: &str, reached: &dyn Fn() -> bool| {
            while !reached() {
                assert!(clock() < until, "no {what}: {:?}", heard.all());
                engine.step(Some(until)).expect("a step");
            }
        };
        let configured = || heard.all().iter().filter(|line| line.contains("veth0 has [1")).count();
        step_until(&mut engine, "renewal", &|| configured() == 2);
        let (kind, renewal) = seen.recv().expect("a renewal");
        assert_eq!((kind, renewal.ciaddr), (REQUEST, ADDRESS));
        verdict.send(NAK).expect("the server runs");
        step_until(&mut engine, "loss", &|| heard.all().iter().any(|line| line == "nothing has []"));
        assert!(UdpSocket::bind((ADDRESS, 0)).is_err(), "the address is gone");
        step_until(&mut engine, "new lease", &|| configured() == 3);
        assert!(UdpSocket::bind((ADDRESS, 0)).is_ok(), "and back");
    });
}

#[test]
fn a_static_address_waits_for_the_carrier() {
    with_cable(|mut cable| {
        let source = Source::Static { addresses: vec![(ADDRESS.into(), 24)], gateways: vec![SERVER.into()] };
        let heard = Heard::default();
        // veth0 has no carrier as long as veth1 is down.
        let mut engine = Engine::new(plan(source, 1), client(), &heard, clock).expect("an engine");
        let error = engine.wait_until_up().expect_err("no carrier yet").to_string();
        assert_eq!(error, "no carrier on veth0");
        cable.plug_in();
        engine.wait_until_up().expect("a retry works");
        assert!(UdpSocket::bind((ADDRESS, 0)).is_ok());
        assert!(UdpSocket::bind("127.0.0.1:0").is_ok(), "lo is up");
        assert_eq!(heard.all(), ["veth0: carrier", "veth0 has [10.7.0.9/24]"]);
    });
}

#[test]
fn what_is_missing_is_said() {
    with_cable(|mut cable| {
        cable.plug_in();
        let heard = Heard::default();
        let mut engine = Engine::new(plan(Source::Dhcp, 1), client(), &heard, clock).expect("an engine");
        let error = engine.wait_until_up().expect_err("nobody answers").to_string();
        assert_eq!(error, "no DHCP lease on veth0");

        let mut wrong = plan(Source::Dhcp, 1);
        wrong.interfaces[0].select = InterfaceChoice::Mac([2, 0, 0, 0, 0, 1]);
        let mut engine = Engine::new(wrong, client(), &heard, clock).expect("an engine");
        let error = engine.wait_until_up().expect_err("no such link").to_string();
        assert!(error.starts_with("no network interface with the MAC 02:00:00:00:00:01, found: veth0"), "{error}");
        // Of links that software made none is taken by itself.
        let mut any = plan(Source::Dhcp, 1);
        any.interfaces[0].select = InterfaceChoice::Any(vec![]);
        let mut engine = Engine::new(any, client(), &heard, clock).expect("an engine");
        let error = engine.wait_until_up().expect_err("only veth").to_string();
        assert!(error.starts_with("no network interface at all, found: "), "{error}");
        assert!(engine.any_mac().is_none());
        let off = Engine::new(plan(Source::None, 1), client(), &heard, clock).expect("an engine").wait_until_up();
        assert!(off.is_ok());
    });
}

#[test]
fn a_lease_of_dnsmasq_with_all_that_it_says_although_it_comes_late() {
    if !have("dnsmasq") {
        return;
    }
    with_cable(|mut cable| {
        cable.address_there("veth1", &["10.7.0.1/24"]);
        let heard = Heard::default();
        let mut engine = Engine::new(plan(Source::Dhcp, 30), client(), &heard, clock).expect("an engine");
        // Two messages are lost.
        let late = clock() + 2_000;
        while clock() < late {
            engine.step(Some(late)).expect("a step");
        }
        let _server = cable.dnsmasq(
            "veth1",
            &[
                "--dhcp-range=10.7.0.50,10.7.0.50,255.255.255.0,2m",
                "--dhcp-option=option:router,10.7.0.1",
                "--dhcp-option=option:dns-server,10.7.0.53",
                "--dhcp-option=option:ntp-server,10.7.0.123",
                "--dhcp-option=option:domain-search,lab,example.org",
                "--dhcp-option=option:mtu,1400",
                "--dhcp-option=option:root-path,nbd:10.7.0.4:worker",
                "--dhcp-boot=boot.ipxe,,10.7.0.4",
            ],
        );
        engine.wait_until_up().expect("a lease");
        let setup = heard.last();
        assert_eq!(setup.addresses[0].ip.to_string(), "10.7.0.50");
        let ips = |all: &[IpAddr]| all.iter().map(|ip| ip.to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!((ips(&setup.dns), ips(&setup.ntp)), ("10.7.0.53".to_string(), "10.7.0.123".to_string()));
        assert_eq!((setup.search.join(" "), setup.mtu), ("lab example.org".to_string(), Some(1400)));
        assert_eq!(setup.boot_server.as_deref(), Some("10.7.0.4"));
        assert_eq!(setup.root_path.as_deref(), Some("nbd:10.7.0.4:worker"));
        assert_eq!(setup.gateway.map(|ip| ip.to_string()).as_deref(), Some("10.7.0.1"));
    });
}

#[test]
fn with_a_root_on_the_network_a_lost_lease_keeps_its_address() {
    with_cable(|mut cable| {
        let (verdict, verdicts) = channel();
        let (saw, _seen) = channel();
        cable.serve(10, verdicts, saw);
        let heard = Heard::default();
        let mut plan = plan(Source::Dhcp, 20);
        plan.keep = true;
        let mut engine = Engine::new(plan, client(), &heard, clock).expect("an engine");
        engine.wait_until_up().expect("a lease");
        verdict.send(NAK).expect("the server runs");
        step_until(&mut engine, &heard, "veth0: keeps 10.7.0.9, as the root comes over it");
        assert!(UdpSocket::bind((ADDRESS, 0)).is_ok(), "it is still there");
        assert!(!heard.all().iter().any(|line| line.starts_with("nothing has")), "{:?}", heard.all());
    });
}
