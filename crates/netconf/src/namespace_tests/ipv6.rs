//! Routers and DHCPv6 servers: dnsmasq plays both.

use super::*;
use crate::netlink::route::Link;

const THERE: &[&str] = &["2001:db8:7::1/64"];

/// What a plan of `mode` gets from dnsmasq with these arguments; the engine's words and its setup.
fn from_dnsmasq(mode: Ipv6Mode, args: &'static [&'static str], check: fn(&Link, &Heard)) {
    if !have("dnsmasq") {
        return;
    }
    let test = move |mut cable: Cable| {
        cable.address_there("veth1", THERE);
        let _server = cable.dnsmasq("veth1", &[&["--enable-ra"], args].concat());
        let mut plan = plan(Source::None, 60);
        plan.interfaces[0].ipv6 = mode;
        let heard = Heard::default();
        let mut engine = Engine::new(plan, client(), &heard, clock).expect("an engine");
        engine.wait_until_up().unwrap_or_else(|error| panic!("{error}: {:#?}", heard.all()));
        // Facts may come after the address.
        step_until_setup(&mut engine, &heard, &|setup| !setup.dns.is_empty());
        check(&link(&mut cable.here, "veth0"), &heard);
        // The node reaches what is not on the link: once a router has said that it is one, which may come last.
        let probe = UdpSocket::bind("[::]:0").expect("a socket");
        let until = clock() + 30_000;
        while let Err(error) = probe.connect("[2001:db8:ffff::1]:9") {
            assert!(clock() < until, "no default route: {error}");
            engine.step(Some(clock() + 100)).expect("a step");
        }
    };
    with_cable(test);
}

fn step_until_setup(engine: &mut Engine, heard: &Heard, holds: &dyn Fn(&NetworkSetup) -> bool) {
    let until = clock() + 30_000;
    while !holds(&heard.last()) {
        assert!(clock() < until, "{:#?} {:#?}", heard.last(), heard.all());
        engine.step(Some(until)).expect("a step");
    }
}

fn addresses(heard: &Heard) -> Vec<String> {
    heard.last().addresses.iter().map(|address| address.ip.to_string()).collect()
}

fn ips(all: &[IpAddr]) -> String {
    all.iter().map(|ip| ip.to_string()).collect::<Vec<_>>().join(" ")
}

#[test]
fn addresses_from_a_routers_prefix() {
    from_dnsmasq(
        Ipv6Mode::Auto,
        &["--dhcp-range=2001:db8:7::,ra-only,64,10m", "--dhcp-option=option6:dns-server,[2001:db8:7::53]"],
        |link, heard| {
            let ip = crate::v6::advert::eui64_address("2001:db8:7::".parse().expect("a prefix"), &link.mac);
            assert_eq!(addresses(heard), [ip.to_string()]);
            assert_eq!(ips(&heard.last().dns), "2001:db8:7::53");
            assert!(heard.last().gateway.is_some());
        },
    );
}

#[test]
fn facts_by_dhcpv6_beside_them() {
    from_dnsmasq(
        Ipv6Mode::Auto,
        &[
            "--dhcp-range=2001:db8:7::,ra-stateless,64,10m",
            "--dhcp-option=option6:dns-server,[2001:db8:7::53]",
            "--dhcp-option=option6:domain-search,lab",
            "--dhcp-option=option6:sntp-server,[2001:db8:7::123]",
            "--dhcp-option=option6:ntp-server,[2001:db8:7::124]",
        ],
        |_, heard| {
            assert_eq!(addresses(heard).len(), 1);
            assert_eq!((heard.last().dns.len(), heard.last().search.join(" ")), (1, "lab".to_string()));
        },
    );
}

#[test]
fn an_address_by_dhcpv6() {
    for mode in [Ipv6Mode::Auto, Ipv6Mode::Dhcp] {
        from_dnsmasq(
            mode,
            &[
                "--dhcp-range=2001:db8:7::100,2001:db8:7::100,64,10m",
                "--dhcp-option=option6:dns-server,[2001:db8:7::53]",
            ],
            |_, heard| assert!(addresses(heard).contains(&"2001:db8:7::100".to_string()), "{:?}", heard.last()),
        );
    }
}

#[test]
fn static_addresses_wait_until_no_other_node_has_them() {
    with_cable(|mut cable| {
        cable.plug_in();
        let cidr = |text: &str| parse_cidr(text).expect("an address");
        let addresses = vec![cidr("10.7.0.9/24"), cidr("2001:db8:7::9/64")];
        let gateways = vec!["2001:db8:7::1".parse().expect("an address")];
        let heard = Heard::default();
        let mut engine =
            Engine::new(plan(Source::Static { addresses, gateways }, 20), client(), &heard, clock).expect("an engine");
        engine.wait_until_up().expect("up");
        // A tentative address cannot be bound.
        UdpSocket::bind("[2001:db8:7::9]:0").expect("usable");
        assert_eq!(heard.all().last().expect("told"), "veth0 has [10.7.0.9/24 2001:db8:7::9/64]");
    });
}

#[test]
fn an_address_that_another_node_has_is_not_used() {
    with_cable(|mut cable| {
        cable.address_there("veth1", &["2001:db8:7::9/64"]);
        let addresses = vec![parse_cidr("2001:db8:7::9/64").expect("an address")];
        let source = Source::Static { addresses, gateways: vec![] };
        // The other node has to have its own address first.
        let until = clock() + 10_000;
        let theirs = |cable: &mut Cable| {
            cable.there.ipv6_addresses().expect("a list").iter().any(|a| {
                a.ip.to_string() == "2001:db8:7::9" && a.state == crate::netlink::address::AddressState::Usable
            })
        };
        // Both ends have to be up for that.
        let index = link(&mut cable.here, "veth0").index;
        cable.here.set_up(index).expect("up");
        while !theirs(&mut cable) {
            assert!(clock() < until, "the other end's address stays tentative");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let heard = Heard::default();
        let mut engine = Engine::new(plan(source, 4), client(), &heard, clock).expect("an engine");
        engine.wait_until_up().expect_err("it is in use");
        let line = "veth0: another node has the address 2001:db8:7::9";
        assert!(heard.all().iter().any(|said| said == line), "{:#?}", heard.all());
    });
}
