//! Networks that are slow, partly dead or unusual, played by the test.

use crate::image::Image;
use crate::lan::{Lan, Rules, Seen};
use crate::server::Server;
use crate::vm::{smoke, turn, wait_until};
use crate::{QEMU, need::have, rescue};
use serde_json::json;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::MutexGuard;
use std::time::Duration;

/// Time for a boot and what is tested; the machine may be busy.
const LIMIT: Duration = Duration::from_secs(240);
const LEASE_S: u32 = 20;

/// A network card's other end.
enum Card<'a> {
    Lan(&'a Lan),
    /// QEMU's own network with DHCP and routers.
    User,
    /// The same with the cable out.
    Unplugged,
}

/// A machine with cards of our own, which is ended with the test.
struct Machine {
    qemu: Child,
    folder: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Machine {
    fn start(image: &Image, words: &str, cards: &[Card<'_>]) -> Machine {
        let turn = turn();
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("cargo's folder for tests is writable");
        let file = |name: &str| folder.path().join(name).display().to_string();
        let mut args: Vec<String> =
            ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-S"].map(String::from).into();
        let append = format!("console=ttyS0 panic=-1 {words}");
        let image = |name: &str| image.dir().join(name).display().to_string();
        for (key, value) in [
            ("-machine", "q35,graphics=off".to_string()),
            ("-accel", "tcg".into()),
            ("-cpu", "max".into()),
            ("-m", "256".into()),
            ("-smp", "2".into()),
            ("-serial", format!("file:{}", file("console"))),
            ("-qmp", format!("unix:{},server=on,wait=off", file("qmp"))),
            ("-kernel", image("vmlinuz")),
            ("-initrd", image("initrd.img")),
            ("-append", append),
        ] {
            args.extend([key.to_string(), value]);
        }
        for (i, card) in cards.iter().enumerate() {
            let netdev = match card {
                Card::Lan(lan) => lan.netdev(&format!("net{i}")),
                Card::User | Card::Unplugged => format!("user,id=net{i}"),
            };
            let mac = format!("52:54:00:00:00:{:02x}", 0x10 + i);
            let device = format!("virtio-net-pci,id=card{i},netdev=net{i},mac={mac},romfile=");
            args.extend(["-netdev".to_string(), netdev, "-device".into(), device]);
        }
        let mut qemu = Command::new(QEMU);
        qemu.args(&args).stdin(Stdio::null()).stdout(Stdio::null());
        let machine = Machine { qemu: qemu.spawn().expect("QEMU was found"), folder, _turn: turn };
        for (i, _) in cards.iter().enumerate().filter(|(_, card)| matches!(card, Card::Unplugged)) {
            machine.plug(i, false);
        }
        machine.command("cont", json!({}));
        machine
    }

    /// The cable of a card.
    fn plug(&self, card: usize, in_: bool) {
        self.command("set_link", json!({ "name": format!("card{card}"), "up": in_ }));
    }

    /// One command of QEMU's machine protocol.
    fn command(&self, name: &str, arguments: serde_json::Value) {
        let path: PathBuf = self.folder.path().join("qmp");
        wait_until("QEMU listens", Duration::from_secs(30), || UnixStream::connect(&path).is_ok());
        let mut stream = UnixStream::connect(&path).expect("it listens");
        let mut lines = BufReader::new(stream.try_clone().expect("a descriptor")).lines();
        for (name, arguments) in [("qmp_capabilities", json!({})), (name, arguments)] {
            writeln!(stream, "{}", json!({ "execute": name, "arguments": arguments })).expect("QEMU reads");
            let answer = lines
                .by_ref()
                .map(|line| line.expect("QEMU writes"))
                .find(|line| line.contains("\"return\"") || line.contains("\"error\""));
            let answer = answer.expect("an answer");
            assert!(answer.contains("\"return\""), "{name}: {answer}");
        }
    }

    fn console(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.folder.path().join("console")).unwrap_or_default()).into_owned()
    }

    #[track_caller]
    fn await_line(&self, text: &str) {
        let started = std::time::Instant::now();
        while !self.console().contains(text) {
            let (took, console) = (started.elapsed(), self.console());
            assert!(took < LIMIT, "no {text:?} on the console:\n{console}");
            assert!(!console.contains("Kernel panic"), "{console}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both only fail when it has ended already.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// The image with what bonds and VLANs need.
fn with_links() -> Image {
    Image::build_variant("rescue-links", "rescue", "[kernel]\nmodules = [\"bonding\", \"8021q\"]\n", &[])
}

fn lan(rules: Rules) -> Lan {
    Lan::start(Rules { lease_s: if rules.lease_s == 0 { 3600 } else { rules.lease_s }, ..rules })
}

#[test]
fn no_carrier_on_the_first_card() {
    if !have(&[QEMU]) {
        return;
    }
    let machine = Machine::start(&rescue(), "", &[Card::Unplugged, Card::User]);
    machine.await_line("phase network ok");
    machine.await_line("eth0: not used (no carrier), eth1 is");
    machine.await_line("eth1 has 10.0.2.15/24");
    machine.await_line("phases done");
}

#[test]
fn only_the_second_card_leads_anywhere() {
    if !have(&[QEMU]) {
        return;
    }
    let dead = lan(Rules { silent: true, ..Rules::default() });
    let machine = Machine::start(&rescue(), "", &[Card::Lan(&dead), Card::User]);
    machine.await_line("phase network ok");
    machine.await_line("eth0: not used (no DHCP server has answered), eth1 is");
    machine.await_line("eth1 has 10.0.2.15/24");
}

#[test]
fn the_card_that_the_firmware_booted_from_is_used() {
    if !have(&[QEMU]) {
        return;
    }
    let other = lan(Rules::default());
    let cards = [Card::User, Card::Lan(&other)];
    let machine = Machine::start(&rescue(), "BOOTIF=01-52-54-00-00-00-11", &cards);
    machine.await_line("eth0: not used (not the interface with the MAC 52:54:00:00:00:11), eth1 is");
    machine.await_line("eth1 has 10.9.0.50/24");
}

#[test]
fn a_server_that_answers_after_30_s() {
    if !have(&[QEMU]) {
        return;
    }
    let late = lan(Rules { after: Duration::from_secs(30), ..Rules::default() });
    let machine = Machine::start(&rescue(), "", &[Card::Lan(&late)]);
    machine.await_line("phase network ok");
    machine.await_line("eth0 has 10.9.0.50/24");
    let asked = late.count(Seen::Discover);
    assert!((5..=12).contains(&asked), "{:?}", late.seen());
    assert_eq!(machine.console().matches("phase network failed").count(), 0, "{}", machine.console());
}

#[test]
fn a_short_lease_is_renewed_and_the_clock_follows_the_networks() {
    if !have(&[QEMU]) {
        return;
    }
    let lan = lan(Rules { lease_s: LEASE_S, ahead_s: Some(3600), ..Rules::default() });
    let machine = Machine::start(&rescue(), "", &[Card::Lan(&lan)]);
    machine.await_line("phase time ok");
    // The guest's own clock is some seconds late on a busy machine.
    let console = machine.console();
    let off = console.split("time: the clock was -").nth(1).and_then(|rest| rest.split('.').next());
    let off_s: u64 = off.and_then(|text| text.parse().ok()).expect("it was set");
    assert!((3570..3660).contains(&off_s), "{console}");
    wait_until("three renewals", LIMIT, || lan.count(Seen::Renewal) >= 3);
    assert!(!machine.console().contains("lost its address"), "{}", machine.console());
    let times: Vec<Duration> =
        lan.seen().iter().filter(|(_, seen)| *seen == Seen::Renewal).map(|(at, _)| *at).collect();
    let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max().expect("three");
    assert!(longest < Duration::from_secs(LEASE_S.into()), "{times:?}");
}

#[test]
fn an_address_that_no_node_may_have_is_refused() {
    if !have(&[QEMU]) {
        return;
    }
    let odd = lan(Rules { offers: Some([169, 254, 7, 7]), ..Rules::default() });
    let machine = Machine::start(&rescue(), "", &[Card::Lan(&odd), Card::User]);
    machine.await_line("eth0: offer refused: no node may have the address `169.254.7.7`");
    machine.await_line("eth1 has 10.0.2.15/24");
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
    wait_until("the node answers", LIMIT, || tagged.count(Seen::Arp) > 0);
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
        if first.count(Seen::Request) > 0 { (&first, &second, 0) } else { (&second, &first, 1) };
    assert!(active.count(Seen::Request) > 0);
    machine.plug(card, false);
    other.ask_for_node();
    wait_until("the other card answers", LIMIT, || other.count(Seen::Arp) > 0);
}

/// The part of the loopback link that QEMU's network shows to the guest as fec0::2.
fn relay_from_ipv6(to: u16) -> u16 {
    let listener = TcpListener::bind("[::1]:0").expect("IPv6 on the loopback link");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(near), Ok(far)) = (stream, TcpStream::connect(("127.0.0.1", to))) else { continue };
            for (from, into) in [(&near, &far), (&far, &near)] {
                let (mut from, mut into) = (from.try_clone().expect("a descriptor"), into.try_clone().expect("one"));
                // Ends with either side.
                std::thread::spawn(move || {
                    std::io::copy(&mut from, &mut into).and_then(|_| into.shutdown(Shutdown::Write))
                });
            }
        }
    });
    port
}

#[test]
fn a_root_from_a_server_that_has_only_ipv6() {
    if !have(&[QEMU, "python3"]) {
        return;
    }
    let image = Image::build_with_root("rescue", "http", &[]);
    let folder = image.dir().display().to_string();
    let server =
        Server::start(&["python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory", &folder, "{port}"]);
    let root = format!("bw.root=http://[fec0::2]:{}/root.img", relay_from_ipv6(server.port));
    let outcome = smoke(&image, &["--append", &root, "--deadline-s", "180"]);
    outcome.assert_passed();
    assert!(outcome.log("console.log").contains("eth0 has fec0::"), "{}", outcome.log("console.log"));
}

#[test]
fn a_new_name_and_routers_alone() {
    if !have(&[QEMU]) {
        return;
    }
    let words = "ifname=lan0:52:54:00:00:00:10 ip=lan0:auto6";
    let machine = Machine::start(&rescue(), words, &[Card::User]);
    machine.await_line("phase network ok");
    machine.await_line("lan0 has fec0::5054:ff:fe00:10/64, hostname node-000010");
    assert!(!machine.console().contains("10.0.2.15"), "{}", machine.console());
}
