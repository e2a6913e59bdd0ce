//! VLANs and bonds: made by PID1, and held to what switches and other machines see of them.

use testkit::image::Image;
use testkit::lan::{LanEvent, Rules, lan};
use testkit::machine::{Card, LIMIT, Machine};
use testkit::ssh::{key, ssh_at, ssh_ok_at};
use testkit::vm::{free_port, wait_until};
use testkit::{QEMU, need::have};

/// The image with what bonds and VLANs need.
fn with_links() -> Image {
    let key = format!("ssh_key={}", key().public);
    Image::build_variant("rescue-links", "rescue", "[kernel]\nmodules = [\"bonding\", \"8021q\"]\n", &[&key])
}

#[test]
fn a_vlan_of_the_command_line() {
    if !have(&[QEMU]) {
        return;
    }
    let tagged = lan(Rules { vlan: Some(5), ..Rules::default() });
    let machine = Machine::start(&with_links(), "vlan=eth0.5:eth0 ip=eth0.5:dhcp", &[Card::Lan(&tagged)]);
    machine.await_line("eth0.5 has 10.9.0.50/24");
    tagged.ask_for_node();
    wait_until("the node answers", LIMIT, || tagged.count(LanEvent::Arp) > 0);
}

#[test]
fn a_bond_goes_on_when_a_cable_is_pulled() {
    if !have(&[QEMU]) {
        return;
    }
    let (first, second) = (lan(Rules::default()), lan(Rules::default()));
    let words = "bond=bond0:eth0,eth1:mode=active-backup,miimon=100 ip=bond0:dhcp";
    let machine = Machine::start(&with_links(), words, &[Card::Lan(&first), Card::Lan(&second)]);
    machine.await_line("bond0 has 10.9.0.50/24");
    let (active, other, card) =
        if first.count(LanEvent::Request) > 0 { (&first, &second, 0) } else { (&second, &first, 1) };
    assert!(active.count(LanEvent::Request) > 0);
    machine.plug(card, false);
    other.ask_for_node();
    wait_until("the other card answers", LIMIT, || other.count(LanEvent::Arp) > 0);
}

/// What a bond's file says of its active aggregator and of each card's.
const BOND: &str = "/proc/net/bonding/bond0";

/// Two machines with two cables: each is the other's partner, by the kernel's own LACP (IEEE 802.1AX).
#[test]
fn a_bond_agrees_with_its_partner_on_both_cables() {
    if !have(&[QEMU, "ssh", "ssh-keygen"]) {
        return;
    }
    let image = with_links();
    let ports: Vec<u16> = (0..5).map(|_| free_port()).collect();
    let bond = "bond=bond0:eth0,eth1:mode=802.3ad,miimon=100,lacp_rate=fast:1400";
    let words = |host: u8| format!("{bond} ip=10.8.0.{host}:::24::bond0:none");
    let one = Machine::start(&image, &words(1), &[Card::Cable(ports[0], ports[1]), Card::Cable(ports[2], ports[3])]);
    let cards = [Card::Cable(ports[1], ports[0]), Card::Cable(ports[3], ports[2]), Card::Ssh(ports[4])];
    let two = Machine::start_with(&image, &format!("{} ip=eth2:dhcp", words(2)), 0x20, &cards);
    for machine in [&one, &two] {
        machine.await_line("phases done");
    }
    let state = || ssh_ok_at(ports[4], &format!("cat {BOND}"));
    wait_until("sshd answers", LIMIT, || ssh_at(ports[4], "true").status.success());
    let ports_of = |count: usize| {
        let state = state();
        state.contains(&format!("Number of ports: {count}\n"))
            && state.contains("Partner Mac Address: 52:54:00:00:00:1")
    };
    let pings = || ssh_at(ports[4], "busybox ping -c 1 -W 2 10.8.0.1").status.success();
    wait_until("both cables are one", LIMIT, || ports_of(2));
    let text = state();
    let aggregators: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("Aggregator ID: ")).collect();
    assert!(aggregators.len() == 2 && aggregators[0] == aggregators[1], "{text}");
    wait_until("traffic flows", LIMIT, pings);
    assert_eq!(ssh_ok_at(ports[4], "cat /sys/class/net/bond0/mtu").trim(), "1400");
    // At the other end: only LACP tells this one.
    one.plug(0, false);
    wait_until("one cable is left", LIMIT, || ports_of(1));
    wait_until("traffic flows", LIMIT, pings);
}
