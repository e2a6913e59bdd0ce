//! `ip=` on the command line, with dnsmasq at the far end: a lease, a router, and DHCPv6.

use super::*;
use crate::v6::advert::eui64_address;
use bootwright_base::cmdline::parse_cmdline;
use bootwright_contract::Network;

/// What dnsmasq gives by DHCPv4 and DHCPv6; [`AUTO`] stands for the address of the router's prefix.
const LEASE: &str = "10.7.0.50/24";
const LEASE6: &str = "2001:db8:7::100/128";
const AUTO: &str = "auto";

#[derive(Clone, Copy)]
struct Row {
    /// The command line.
    words: &'static str,
    /// What the recipe says of IPv6.
    recipe: Ipv6Mode,
    addresses: &'static [&'static str],
    /// Whether services that want `${ip6}` may start.
    ip6: bool,
    says: &'static [&'static str],
}

const fn row(words: &'static str, addresses: &'static [&'static str], ip6: bool) -> Row {
    Row { words, recipe: Ipv6Mode::Off, addresses, ip6, says: &[] }
}

const ROWS: &[Row] = &[
    row("", &[LEASE], false),
    row("ip=dhcp", &[LEASE], false),
    row("ip=on", &[LEASE], false),
    row("ip=any", &[LEASE], false),
    row("ip=single-dhcp", &[LEASE], false),
    Row { recipe: Ipv6Mode::Auto, ..row("ip=dhcp", &[LEASE, LEASE6, AUTO], true) },
    row("ip=auto", &[LEASE, LEASE6, AUTO], true),
    row("ip=dhcp,dhcp6", &[LEASE, LEASE6, AUTO], true),
    row("ip=dhcp6,dhcp", &[LEASE, LEASE6, AUTO], true),
    row("ip=veth0:dhcp,auto6", &[LEASE, LEASE6, AUTO], true),
    row("ip=auto6", &[LEASE6, AUTO], true),
    row("ip=either6", &[LEASE6, AUTO], true),
    row("ip=dhcp6", &[LEASE6, AUTO], true),
    row("ip=link6", &[], false),
    row("ip=link-local", &[], false),
    row("ip=off", &[], false),
    row("ip=veth0:dhcp ip=veth0:auto6", &[LEASE, LEASE6, AUTO], true),
    row("ip=veth0:dhcp ip=[2001:db8:7::9]:::64::veth0:none", &[LEASE, "2001:db8:7::9/64"], true),
    row(
        "ip=10.7.0.9::10.7.0.1:24::veth0:none ip=[2001:db8:7::9]::[2001:db8:7::1]:64::veth0:none",
        &["10.7.0.9/24", "2001:db8:7::9/64"],
        true,
    ),
    row("ip=10.7.0.9::10.7.0.1:255.255.255.0", &["10.7.0.9/24"], false),
    Row {
        says: &["`ip=dhpc` has no method `dhpc`", "without a usable `ip=` the network is that of the recipe"],
        ..row("ip=dhpc", &[LEASE], false)
    },
    Row {
        says: &["`ip=eth9:shared` has no method `shared`", "the network is that of the recipe"],
        ..row("ip=eth9:shared", &[LEASE], false)
    },
    Row { says: &["has no method `foo`: "], ..row("ip=veth0:dhcp,foo", &[LEASE], false) },
    Row { says: &["`BOOTIF=veth0` is no MAC"], ..row("BOOTIF=veth0 ip=dhcp", &[LEASE], false) },
    Row { says: &["`nameserver=x`"], ..row("nameserver=x", &[LEASE], false) },
    Row {
        says: &["DHCP holds, which comes last"],
        ..row("ip=10.7.0.9:10.7.0.1:10.7.0.1:255.255.255.0 ip=dhcp", &[LEASE], false)
    },
];

fn play_row(row: Row, mut cable: Cable) {
    cable.address_there("veth1", &["10.7.0.1/24", "2001:db8:7::1/64"]);
    let _server = cable.dnsmasq(
        "veth1",
        &[
            "--enable-ra",
            "--dhcp-range=10.7.0.50,10.7.0.50,255.255.255.0,2m",
            "--dhcp-range=2001:db8:7::100,2001:db8:7::100,slaac,64,10m",
        ],
    );
    let config = Network { ipv6: row.recipe, interfaces: vec!["veth0".into()], ..boot_config().network };
    let plan = crate::plan::plan(&config, &parse_cmdline(row.words)).expect("a good config");
    let node = Node::new(Plan { timeout_s: 30, ..plan });
    let mut engine = node.engine();
    engine.wait_until_up().unwrap_or_else(|error| panic!("{}: {error}: {:#?}", row.words, node.heard.all()));
    let mac = link(&mut cable.here, "veth0").mac;
    let auto = || format!("{}/64", eui64_address("2001:db8:7::".parse().expect("a prefix"), &mac));
    let text = |address: &&str| if *address == AUTO { auto() } else { address.to_string() };
    let mut expected: Vec<String> = row.addresses.iter().map(text).collect();
    expected.sort_unstable();
    let found = || {
        let mut found = has().addresses;
        found.sort_unstable();
        found
    };
    node.run_until(&mut engine, row.words, &|| found() == expected && node.facts().ip6.is_some() == row.ip6);
    assert_eq!(found(), expected, "{}: {:#?}", row.words, node.heard.all());
    assert!(node.has_said(row.says), "{}: {:#?}", row.words, node.heard.all());
    assert_eq!(node.plan.notes.len(), row.says.len(), "{}: {:?}", row.words, node.plan.notes);
}

#[test]
fn words_of_the_command_line() {
    if have("dnsmasq") {
        play(ROWS, |row| row.words, play_row);
    }
}
