//! Networks that are slow, partly dead or unusual, played by the test.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;
use testkit::ganesha::{GANESHA, Ganesha, is_root};
use testkit::image::Image;
use testkit::lan::{LanEvent, Rules, lan};
use testkit::machine::{Card, LIMIT, Machine};
use testkit::server::ServerProcess;
use testkit::tgt::{Target, Tgt};
use testkit::vm::{smoke, wait_until};
use testkit::{QEMU, need::have, rescue};

const LEASE_S: u32 = 20;

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
    let asked = late.count(LanEvent::Discover);
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
    wait_until("three renewals", LIMIT, || lan.count(LanEvent::Renewal) >= 3);
    assert!(!machine.console().contains("lost its address"), "{}", machine.console());
    let times: Vec<Duration> =
        lan.seen().iter().filter(|(_, seen)| *seen == LanEvent::Renewal).map(|(at, _)| *at).collect();
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
    if !have(&[QEMU, "python3", GANESHA, "tgtd", "qemu-nbd"]) || !is_root() {
        return;
    }
    // The image's own root is on NFS; the command line chooses among all.
    let choices = "[root]\nchoices = [\"http\", \"nbd\", \"iscsi\"]\n[budget]\nboot_files_mb = 40\n";
    let build = |root| Image::build_variant_with_root("rescue-choices", "rescue", choices, &[], Some(root));
    let (image, disk) = (build("nfs"), build("nbd").dir().join("root.img"));
    let folder = image.dir().display().to_string();
    let web = ServerProcess::start(&[
        "python3",
        "-m",
        "http.server",
        "--bind",
        "127.0.0.1",
        "--directory",
        &folder,
        "{port}",
    ]);
    let nfs = Ganesha::start("4", &[(&image.dir().join("root"), "/root", "RO")]);
    let tgt = Tgt::start(Target::open(&disk));
    let disk = disk.to_str().expect("cargo's folders are UTF-8");
    let nbd = ServerProcess::start(&["qemu-nbd", "-t", "-r", "-fraw", "-b127.0.0.1", "-p{port}", "-xroot", disk]);
    // Each server is understood in what it answers; the last one has the root.
    let sources = [
        ("http", web.port, "missing.img", "the server answered 404 (not found)"),
        ("nfs", nfs.server.port, "nothing", "the server exports no such path (ENOENT"),
        ("iscsi", tgt.port(), "iqn.2024-07.internal.bootwright:other", "the target was not found (class 2, detail 3)"),
        ("nbd", nbd.port, "root", "/root` is attached"),
    ];
    let word = |(scheme, port, path, _): (&str, u16, &str, &str)| {
        format!("--append=bw.root={scheme}://[fec0::2]:{}/{path}", relay_from_ipv6(port))
    };
    let words = sources.map(word);
    let words = words.each_ref().map(String::as_str);
    let outcome = smoke(&image, &[&words[..], &["--deadline-s", "180"]].concat());
    outcome.assert_passed();
    let console = outcome.console();
    for message in sources.map(|(_, _, _, message)| message).into_iter().chain(["eth0 has fec0::"]) {
        assert!(console.contains(message), "no {message:?} in {console}");
    }
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
