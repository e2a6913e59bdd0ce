//! Several links: which of them is used, and what is said of the others.

use super::*;

/// Names `veth0` and `lan0`, in this order unless `names` says otherwise.
fn two(names: &[&str]) -> Plan {
    let mut plan = plan(Source::Dhcp, 30);
    plan.interfaces[0].select = InterfaceChoice::Any(names.iter().map(|name| name.to_string()).collect());
    plan
}

const RANGE: &str = "--dhcp-range=10.7.0.50,10.7.0.59,255.255.255.0,2m";
const OTHER_RANGE: &str = "--dhcp-range=10.8.0.50,10.8.0.59,255.255.255.0,2m";

#[test]
fn the_second_is_used_when_the_first_leads_nowhere() {
    if !have("dnsmasq") {
        return;
    }
    with_cable(|mut cable| {
        cable.add("lan0", "lan1");
        cable.add("dead0", "dead1");
        // veth0 has a carrier and nobody at the other end, dead0 has none.
        cable.plug_in();
        cable.address_there("lan1", &["10.8.0.1/24"]);
        let _server = cable.dnsmasq("lan1", &[OTHER_RANGE]);
        let heard = Heard::default();
        let plan = two(&["dead0", "veth0", "lan0"]);
        let mut engine = Engine::new(plan, client(), &heard, clock).expect("an engine");
        engine.wait_until_up().expect("a lease");
        let said = heard.all();
        for line in ["veth0: not used (no DHCP server has answered), lan0 is", "dead0: not used (no carrier), lan0 is"]
        {
            assert!(said.iter().any(|said| said == line), "no {line:?} in {said:#?}");
        }
        assert!(said.iter().any(|line| line.starts_with("lan0 has [10.8.0.5")), "{said:#?}");
    });
}

#[test]
fn the_recipes_order_decides_when_both_have_an_offer() {
    if !have("dnsmasq") {
        return;
    }
    with_cable(|mut cable| {
        cable.add("lan0", "lan1");
        cable.address_there("veth1", &["10.7.0.1/24"]);
        cable.address_there("lan1", &["10.8.0.1/24"]);
        let _one = cable.dnsmasq("veth1", &[RANGE]);
        let _two = cable.dnsmasq("lan1", &[OTHER_RANGE]);
        // Both servers run and both links are up before anybody asks.
        for name in ["veth0", "lan0"] {
            let index = link(&mut cable.here, name).index;
            cable.here.set_up(index).expect("up");
        }
        let heard = Heard::default();
        let mut engine = Engine::new(two(&["lan0", "veth0"]), client(), &heard, clock).expect("an engine");
        engine.wait_until_up().expect("a lease");
        let said = heard.all();
        assert!(said.iter().any(|line| line.starts_with("lan0 has [10.8.0.5")), "{said:#?}");
        assert!(said.iter().any(|line| line.starts_with("veth0: not used (")), "{said:#?}");
    });
}

#[test]
fn a_mac_names_the_link_and_the_others_are_told_of() {
    with_cable(|mut cable| {
        cable.add("lan0", "lan1");
        cable.plug_in();
        cable.plug("lan1");
        let source = Source::Static { addresses: vec![(ADDRESS.into(), 24)], gateways: vec![] };
        let mut plan = plan(source, 5);
        plan.interfaces[0].select = InterfaceChoice::Name("lan0".into());
        let heard = Heard::default();
        let mut engine = Engine::new(plan, client(), &heard, clock).expect("an engine");
        engine.wait_until_up().expect("up");
        assert!(heard.all().iter().any(|line| line == "lan0 has [10.7.0.9/24]"), "{:?}", heard.all());
    });
}

#[test]
fn a_second_interface_is_set_up_beside_the_first() {
    with_cable(|mut cable| {
        cable.add("lan0", "lan1");
        cable.plug_in();
        cable.plug("lan1");
        let fixed = |ip: [u8; 4]| Source::Static { addresses: vec![(ip.into(), 24)], gateways: vec![] };
        let mut plan = plan(fixed([10, 7, 0, 9]), 5);
        plan.interfaces.push(interface("lan0", fixed([10, 8, 0, 9])));
        let heard = Heard::default();
        let mut engine = Engine::new(plan, client(), &heard, clock).expect("an engine");
        engine.wait_until_up().expect("up");
        step_until(&mut engine, &heard, "veth0 has [10.7.0.9/24 10.8.0.9/24]");
        assert!(UdpSocket::bind("10.8.0.9:0").is_ok());
    });
}

/// A card that `ip=` names and that the machine lacks, or whose cable is out: the console does not stay silent until the time is
/// over.
#[test]
fn what_is_waited_for_is_said_once() {
    for (wanted, plugged, said) in [
        ("eth9", true, "no network interface `eth9`, found: veth0"),
        ("veth0", false, "no carrier on veth0"),
        ("veth0", true, "no DHCP lease on veth0"),
    ] {
        with_cable(move |mut cable| {
            if plugged {
                cable.plug_in();
            }
            let mut plan = plan(Source::Dhcp, 4);
            plan.interfaces[0].select = InterfaceChoice::Name(wanted.into());
            let heard = Heard::default();
            let mut engine = Engine::new(plan, client(), &heard, clock).expect("an engine");
            assert_eq!(engine.wait_until_up().expect_err("there is no server").to_string(), said);
            let waits: Vec<String> = heard.all().into_iter().filter(|line| line.starts_with("waiting")).collect();
            assert_eq!(waits, [format!("waiting: {said}")]);
        });
    }
}
