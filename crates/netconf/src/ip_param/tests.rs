//! Forms of `ip=`, good and bad, and MACs.

use super::*;
use proptest::prelude::*;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn forms_of_ip() {
    let method = |dhcp, v6| IpParam { methods: Methods { dhcp, v6 }, ..IpParam::default() };
    let dhcp = method(true, Some(V6Method::AsRecipe));
    let (auto6, dhcp6) = (Some(V6Method::Auto), Some(V6Method::Dhcp));
    let fixed = IpParam { address: Some((ip("10.0.2.9"), 24)), gateway: Some(ip("10.0.2.2")), ..IpParam::default() };
    let full = IpParam {
        hostname: Some("n1".into()),
        device: Some("eth0".into()),
        dns: vec![ip("10.0.2.3"), ip("10.0.2.4")],
        ..fixed.clone()
    };
    let six = IpParam {
        address: Some((ip("2001:db8::7"), 64)),
        gateway: Some(ip("2001:db8::1")),
        device: Some("eth1".into()),
        ..IpParam::default()
    };
    let on_eth1 = IpParam { device: Some("eth1".into()), ..dhcp.clone() };
    for (text, expected) in [
        ("dhcp", dhcp.clone()),
        ("on", dhcp.clone()),
        ("bootp", dhcp.clone()),
        ("rarp", dhcp.clone()),
        ("single-dhcp", dhcp.clone()),
        ("", dhcp.clone()),
        ("off", IpParam::default()),
        ("none", IpParam::default()),
        ("eth1:dhcp", on_eth1.clone()),
        ("eth1:on:9000", IpParam { mtu: Some(9000), ..on_eth1.clone() }),
        (":::::eth1:dhcp", on_eth1.clone()),
        (":10.0.2.1::::eth1:dhcp", IpParam { server: Some(ip("10.0.2.1")), ..on_eth1.clone() }),
        ("10.0.2.9::10.0.2.2:255.255.255.0", fixed.clone()),
        ("10.0.2.9/24::10.0.2.2:", fixed.clone()),
        ("10.0.2.9::10.0.2.2:24:::off", fixed.clone()),
        (
            "10.0.2.9::10.0.2.2:255.255.255.0:n1:eth0:none:10.0.2.3:10.0.2.4:10.0.2.5",
            IpParam { ntp: vec![ip("10.0.2.5")], ..full.clone() },
        ),
        ("10.0.2.9:10.0.2.1:10.0.2.2:24", IpParam { server: Some(ip("10.0.2.1")), ..fixed.clone() }),
        ("auto6", method(false, auto6)),
        ("either6", method(false, auto6)),
        ("auto", method(true, auto6)),
        ("link6", method(false, Some(V6Method::LinkLocal))),
        ("link-local", method(false, Some(V6Method::LinkLocal))),
        ("dhcp,dhcp6", method(true, dhcp6)),
        ("dhcp6,dhcp", method(true, dhcp6)),
        ("auto6,dhcp", method(true, auto6)),
        ("on,,auto6,dhcp6,", method(true, dhcp6)),
        ("none,dhcp6", method(false, dhcp6)),
        ("eth1:dhcp6", IpParam { device: Some("eth1".into()), ..method(false, dhcp6) }),
        (
            "eth1:dhcp,auto6:9000",
            IpParam { mtu: Some(9000), methods: Methods { dhcp: true, v6: auto6 }, ..on_eth1.clone() },
        ),
        ("eth1:on::52:54:00:12:34:56", on_eth1.clone()),
        (":::::eth1:dhcp::52:54:00:12:34:56", on_eth1.clone()),
        ("52:54:00:12:34:56:dhcp", IpParam { device: Some("52:54:00:12:34:56".into()), ..dhcp.clone() }),
        (
            "10.0.2.9::10.0.2.2:24::52:54:00:12:34:56:none",
            IpParam { device: Some("52:54:00:12:34:56".into()), ..fixed.clone() },
        ),
        ("10.0.2.9::10.0.2.2:", IpParam { address: Some((ip("10.0.2.9"), 8)), ..fixed.clone() }),
        ("10.0.2.9", IpParam { address: Some((ip("10.0.2.9"), 8)), gateway: None, ..fixed.clone() }),
        ("[2001:db8::7]", IpParam { address: Some((ip("2001:db8::7"), 64)), ..IpParam::default() }),
        ("[2001:db8::7]::[2001:db8::1]:64::eth1:dhcp", IpParam { methods: dhcp.methods, ..six.clone() }),
        (
            "10.0.2.9::10.0.2.2:24::eth1:dhcp,dhcp6",
            IpParam {
                methods: Methods { dhcp: true, v6: dhcp6 },
                address: None,
                device: Some("eth1".into()),
                ..fixed.clone()
            },
        ),
        ("[2001:db8::7]::[2001:db8::1]:64::eth1:none", six.clone()),
        ("[2001:db8::7]/64::[2001:db8::1]::::none:1400", IpParam { mtu: Some(1400), device: None, ..six.clone() }),
        (
            "[2001:db8::7]/64::[2001:db8::1]:::eth1:off:[2001:db8::53]:10.0.2.3",
            IpParam { dns: vec![ip("2001:db8::53"), ip("10.0.2.3")], ..six },
        ),
        ("10.0.2.9::10.0.2.2:255.255.255.0:n1:eth0:none:1400", IpParam { mtu: Some(1400), dns: vec![], ..full }),
    ] {
        assert_eq!(parse_ip_param(text), Ok(expected), "{text}");
    }
}

#[test]
fn bad_ip() {
    for (text, message) in [
        ("ibft2", "no method `ibft2`"),
        ("eth0:bootps", "no method `bootps`"),
        ("[2001:db8::1]::gw", "bad gateway: `gw`"),
        ("[2001:db8::1:::64", "no method"),
        ("[2001:db8::1]::[2001:db8::2]:255.255.255.0", "bad net mask"),
        ("shared", "no method `shared`"),
        ("DHCP", "no method `DHCP`"),
        ("foo,bar", "no method `bar`"),
        ("10.0.2.9::10.0.2.2:255.0.255.0", "bad net mask: `255.0.255.0`"),
        ("10.0.2.9::10.0.2.2:33", "bad net mask"),
        ("10.0.2.300:::24", "bad address: `10.0.2.300`"),
        ("[2001:db8::7]/129:::", "bad address"),
        ("10.0.2.9/40:::", "bad address"),
        ("10.0.2.9::x:24", "bad gateway"),
    ] {
        let error = parse_ip_param(text).expect_err(text).to_string();
        assert!(error.contains(message), "{text}: {error}");
    }
}

#[test]
fn what_is_bad_in_a_good_ip_is_left_out() {
    for (text, message) in [
        ("dhcp,foo", "has no method `foo`"),
        ("10.0.2.9:::24:a b", "has a bad hostname: `a b`"),
        ("eth0:dhcp:big", "has a bad MTU: `big`"),
        (":::::eth0:dhcp:1.2.3", "has a bad name server: `1.2.3`"),
        (":::::eth0:dhcp:1.2.3.4::x", "has a bad time server: `x`"),
    ] {
        let param = parse_ip_param(text).expect(text);
        let left_out: Vec<String> = param.left_out.iter().map(ToString::to_string).collect();
        assert!(left_out.len() == 1 && left_out[0].starts_with(message), "{text}: {left_out:?}");
        assert!(param.address.is_some() || param.methods.dhcp, "{text}");
    }
}

#[test]
fn macs() {
    let mac = Some([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
    for text in ["52:54:00:12:34:56", "01-52-54-00-12-34-56", "52-54-00-12-34-56"] {
        assert_eq!(parse_mac(text), mac, "{text}");
    }
    for text in
        ["", "52:54:00:12:34", "20-52-54-00-12-34-56", "52:54:00:12:34:5g", "+2:54:00:12:34:56", "52:54:0:12:34:56"]
    {
        assert_eq!(parse_mac(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn macs_survive(mac: [u8; 6]) {
        prop_assert_eq!(parse_mac(&format_mac(&mac)), Some(mac));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[a-z0-9:./\\[\\] ]{0,60}") {
        let _ = parse_ip_param(&text);
        let _ = parse_mac(&text);
        let _ = parse_cidr(&text);
    }
}
