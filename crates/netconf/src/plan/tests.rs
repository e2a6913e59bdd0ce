//! Plans from recipes and command lines.

use super::*;
use crate::tests::link;
use bootwright_base::cmdline::parse_cmdline;
use bootwright_contract::fixture::boot_config;

fn config(mode: NetworkMode) -> Network {
    Network { mode, dns: vec!["10.9.9.9".into()], ..boot_config().network }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn of(config: &Network, cmdline: &str) -> Plan {
    plan(config, &parse_cmdline(cmdline)).expect(cmdline)
}

#[test]
fn the_command_line_comes_first() {
    let mac = InterfaceChoice::Mac([2, 0, 0, 0, 0, 1]);
    let named = |name: &str| InterfaceChoice::Name(name.into());
    let mut config = config(NetworkMode::Dhcp);
    config.interfaces = vec!["eth5".into()];
    for (text, dhcp, ipv6, select) in [
        ("", true, Ipv6Mode::Auto, named("eth5")),
        ("ip=off", false, Ipv6Mode::Off, named("eth5")),
        ("ip=auto6", false, Ipv6Mode::Auto, named("eth5")),
        ("ip=auto", true, Ipv6Mode::Auto, named("eth5")),
        ("ip=dhcp,dhcp6", true, Ipv6Mode::Dhcp, named("eth5")),
        ("ip=eth1:dhcp6", false, Ipv6Mode::Dhcp, named("eth1")),
        ("ip=eth1:dhcp", true, Ipv6Mode::Auto, named("eth1")),
        ("ip=52-54-00-12-34-56:dhcp", true, Ipv6Mode::Auto, InterfaceChoice::Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56])),
        ("ip=52:54:00:12:34:56:dhcp", true, Ipv6Mode::Auto, InterfaceChoice::Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56])),
        ("ip=eth1:dhcp BOOTIF=01-02-00-00-00-00-01", true, Ipv6Mode::Auto, mac.clone()),
        ("bootdev=eth3", true, Ipv6Mode::Auto, named("eth3")),
        ("vlan=eth0.5:eth0 ip=eth0.5:dhcp BOOTIF=01-02-00-00-00-00-01", true, Ipv6Mode::Auto, named("eth0.5")),
        // Several words for one device, and one that names none.
        ("ip=eth1:dhcp ip=eth1:auto6", true, Ipv6Mode::Auto, named("eth1")),
        ("ip=eth1:dhcp6 ip=dhcp", true, Ipv6Mode::Dhcp, named("eth1")),
        ("ip=dhcp ip=eth0:dhcp6 bootdev=eth0", true, Ipv6Mode::Dhcp, named("eth0")),
    ] {
        let plan = of(&config, text);
        let first = &plan.interfaces[0];
        assert_eq!((first.dhcp, first.ipv6, &first.select), (dhcp, ipv6, &select), "{text}");
        assert_eq!((plan.interfaces.len(), &plan.notes[..]), (1, &[][..]), "{text}");
        assert_eq!(plan.dns, [ip("10.9.9.9")]);
    }
    config.interfaces = vec!["02:00:00:00:00:01".into()];
    assert_eq!(of(&config, "").interfaces[0].select, mac);
    config.interfaces = vec!["eth0".into(), "eth1".into()];
    assert_eq!(of(&config, "").interfaces[0].select, InterfaceChoice::Any(config.interfaces.clone()));
}

#[test]
fn name_servers_routes_and_names() {
    let config = config(NetworkMode::Dhcp);
    let plan =
        of(&config, "ip=1.2.3.4:1.2.3.1::24:n1:eth0:off:1.1.1.1::3.3.3.3 rd.peerdns=0 nameserver=[2001:db8::53]");
    assert_eq!(plan.dns, [ip("2001:db8::53"), ip("1.1.1.1")]);
    assert_eq!((plan.peer_dns, plan.hostname.as_deref(), plan.server), (false, Some("n1"), Some(ip("1.2.3.1"))));
    assert_eq!(plan.ntp, [ip("3.3.3.3")]);
    let plan =
        of(&config, "ip=a:dhcp ip=b:dhcp bootdev=b rd.route=10.5.0.0/16:10.0.0.1 rd.route=10.6.0.0/16:10.0.0.1:a");
    assert_eq!(plan.interfaces.len(), 2);
    assert_eq!(plan.interfaces[0].select, InterfaceChoice::Name("b".into()));
    assert_eq!(plan.interfaces[0].routes[0].to, (ip("10.5.0.0"), 16));
    assert_eq!(plan.interfaces[1].routes[0].to, (ip("10.6.0.0"), 16));
    let plan = of(&config, "ifname=lan0:02:00:00:00:00:01 bond=bond0:a,b:mode=1 vlan=bond0.7:bond0");
    assert_eq!(plan.names, [("lan0".to_string(), [2, 0, 0, 0, 0, 1])]);
    let made: Vec<_> = plan.made.iter().map(|made| made.name.as_str()).collect();
    assert_eq!(made, ["bond0", "bond0.7"]);
    assert_eq!(plan.interfaces[0].select, InterfaceChoice::Name("bond0.7".into()), "the uppermost one that was made");
}

#[test]
fn more_interfaces_of_the_recipe() {
    let mut config = config(NetworkMode::Dhcp);
    let extra = |interface: &str, mode| ExtraInterface {
        interface: interface.into(),
        mode,
        ipv6: Ipv6Mode::Off,
        addresses: vec!["10.4.0.9/24".into()],
        mtu: Some(9000),
    };
    config.extra = vec![extra("eth1", NetworkMode::Static), extra("eth2", NetworkMode::Dhcp)];
    let plan = of(&config, "ip=eth2:dhcp");
    let selects: Vec<_> = plan.interfaces.iter().map(|i| i.select.clone()).collect();
    assert_eq!(selects, [InterfaceChoice::Name("eth2".into()), InterfaceChoice::Name("eth1".into())], "each once");
    assert_eq!((plan.interfaces[1].dhcp, &plan.interfaces[1].addresses[..]), (false, &[(ip("10.4.0.9"), 24)][..]));
}

#[test]
fn bad_plans_say_why() {
    let mut fixed = config(NetworkMode::Static);
    assert_eq!(plan(&fixed, &parse_cmdline("")), Err(PlanError::NoAddress));
    for (address, message) in
        [("10.0.0.1", "`network.addresses`"), ("169.254.1.1/16", "169.254.1.1/16"), ("fe80::1/64", "fe80::1/64")]
    {
        fixed.addresses = vec![address.into()];
        let error = plan(&fixed, &parse_cmdline("")).expect_err(address).to_string();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn several_words_for_one_device_describe_one_interface() {
    let mut config = config(NetworkMode::Dhcp);
    config.ipv6 = Ipv6Mode::Auto;
    let (v4, v6) = ((ip("10.0.0.9"), 24), (ip("2001:db8::9"), 64));
    let both = "ip=10.0.0.9::10.0.0.1:24:n1:eth0:none ip=[2001:db8::9]::[2001:db8::1]:64::eth0:none:1400";
    for (text, dhcp, addresses, ipv6, gateways, note) in [
        (both, false, vec![v4, v6], Ipv6Mode::Off, 2, None),
        ("ip=eth0:dhcp ip=[2001:db8::9]:::64::eth0:none", true, vec![v6], Ipv6Mode::Off, 0, None),
        ("ip=[2001:db8::9]:::64::eth0:none ip=eth0:auto", true, vec![v6], Ipv6Mode::Auto, 0, None),
        ("ip=10.0.0.9::10.0.0.1:24::eth0:none ip=eth0:dhcp6", false, vec![v4], Ipv6Mode::Dhcp, 1, None),
        // Without a device, as pxelinux and iPXE scripts pass them.
        ("ip=10.0.0.9:10.0.0.1:10.0.0.1:24 ip=auto6", false, vec![v4], Ipv6Mode::Auto, 1, None),
        ("ip=10.0.0.9:10.0.0.1:10.0.0.1:24 ip=dhcp", true, vec![], Ipv6Mode::Auto, 1, Some("DHCP holds")),
        ("ip=dhcp ip=10.0.0.9:10.0.0.1:10.0.0.1:24", false, vec![v4], Ipv6Mode::Auto, 1, Some("static address holds")),
        ("ip=dhcp ip=dhcp", true, vec![], Ipv6Mode::Auto, 0, None),
    ] {
        let plan = of(&config, text);
        let first = &plan.interfaces[0];
        assert_eq!(plan.interfaces.len(), 1, "{text}");
        assert_eq!((first.dhcp, &first.addresses, first.ipv6), (dhcp, &addresses, ipv6), "{text}");
        assert_eq!(first.gateways.len(), gateways, "{text}");
        match note {
            Some(note) => assert!(plan.notes.len() == 1 && plan.notes[0].contains(note), "{text}: {:?}", plan.notes),
            None => assert_eq!(plan.notes, [""; 0], "{text}"),
        }
    }
    let plan = of(&config, both);
    assert_eq!((plan.interfaces[0].mtu, plan.hostname.as_deref()), (Some(1400), Some("n1")));
    let link_only = &of(&config, "ip=link6").interfaces[0];
    assert!(link_only.link_local && !link_only.is_off() && link_only.ipv6 == Ipv6Mode::Off);
}

#[test]
fn bad_words_are_named_and_left_out() {
    let config = config(NetworkMode::Dhcp);
    let usual = of(&config, "");
    for (text, messages) in [
        ("BOOTIF=eth0", &["`BOOTIF=eth0`"][..]),
        ("ip=bogus", &["`ip=bogus` has no method `bogus`", "the network is that of the recipe"]),
        ("ip=shared ip=eth7:nope", &["`ip=shared`", "`ip=eth7:nope`", "the network is that of the recipe"]),
        ("ip=10.0.0.300:::24", &["bad address: `10.0.0.300`", "the network is that of the recipe"]),
        ("nameserver=x", &["`nameserver=x`"]),
        ("vlan=x", &["`vlan=x`"]),
        ("bond=x:y:z", &["`bond=x:y:z`"]),
        ("rd.route=x", &["`rd.route=x`"]),
        ("ifname=x", &["`ifname=x`"]),
    ] {
        let plan = of(&config, text);
        assert_eq!(plan.notes.len(), messages.len(), "{:?}", plan.notes);
        for (note, message) in plan.notes.iter().zip(messages) {
            assert!(note.contains(message), "{note}");
        }
        assert_eq!(Plan { notes: vec![], ..plan }, usual, "{text}: the rest holds");
    }
    let plan = of(&config, "ip=eth0:dhcp,foo ip=bar");
    assert_eq!((plan.interfaces[0].dhcp, &plan.interfaces[0].select), (true, &InterfaceChoice::Name("eth0".into())));
    assert!(
        plan.notes.len() == 2 && plan.notes[0].contains("`foo`") && plan.notes[1].contains("`ip=bar`"),
        "{:?}",
        plan.notes
    );
}

#[test]
fn links_have_an_order() {
    let (first, second) = (link(1, "eth0"), link(2, "eth1"));
    let any = InterfaceChoice::Any(vec![]);
    assert!(any.rank(&first) < any.rank(&second), "by MAC");
    let listed = InterfaceChoice::Any(vec!["eth1".into(), "02:00:00:00:00:01".into()]);
    assert!(listed.rank(&second) < listed.rank(&first), "by the recipe");
    assert_eq!(listed.rank(&link(3, "eth2")), None);
    let member = Link { has_master: true, ..first.clone() };
    assert_eq!(any.rank(&member), None);
    let below = Link { mac: [9; 6], permanent_mac: Some(first.mac), ..first.clone() };
    assert!(InterfaceChoice::Mac(first.mac).rank(&below).is_some());
    let bridge = Link { made_by_software: true, ..first.clone() };
    assert!(any.rank(&bridge).is_none() && InterfaceChoice::Mac(first.mac).rank(&bridge).is_none());
    assert!(InterfaceChoice::Name("eth0".into()).rank(&bridge).is_some());
}
