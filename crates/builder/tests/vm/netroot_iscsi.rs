//! A root on an iSCSI target: boots, survives the loss of the target, goes down without it, and says what is wrong with it.

use crate::corrupted;
use crate::outage::{self, Kubelet, outage};
use std::path::Path;
use std::time::{Duration, Instant};
use testkit::image::Image;
use testkit::iscsi::{Relay, redirect};
use testkit::ssh::{key, power_off, ssh_ok};
use testkit::tgt::{Disk, NAME, Target, Tgt};
use testkit::vm::{Outcome, Running, runs, smoke, wait_until};
use testkit::{QEMU, load, need::have};

const TGTD: &str = "tgtd";

/// Recovery takes at most 2 s; the rest is for a busy machine.
const BACK_WITHIN: Duration = Duration::from_secs(6);
/// What is written at once.
const BLOCK: usize = 256 << 10;

/// Writes blocks that differ, each to the disk itself before the next one, until it is told to stop.
const WRITER: &str = r#"
block=0
while [ ! -e /run/stop ]; do
    busybox yes "block $block" | busybox head -c 262144 > /run/block
    busybox dd if=/run/block of=/dev/sdb bs=256k seek=$block conv=notrunc,fsync || echo "error: write"
    block=$((block + 1))
    echo $block > /run/blocks
done
busybox touch /run/stopped
"#;

fn image() -> Image {
    Image::build_with_root("rescue", "iscsi", &[&format!("ssh_key={}", key().public)])
}

fn disk(image: &Image) -> std::path::PathBuf {
    image.dir().join("root.img")
}

/// PID1's own lines: the kernel prints the whole command line, with what is secret in it.
fn said(console: &str) -> String {
    console.lines().filter(|line| line.contains("bootwright: ")).collect::<Vec<_>>().join("\n")
}

fn boot(image: &Image, sources: &[String], more: &[&str]) -> Outcome {
    let words: Vec<String> = sources.iter().map(|source| format!("--append=bw.root={source}")).collect();
    let words = words.iter().map(String::as_str).chain(more.iter().copied());
    smoke(image, &words.collect::<Vec<_>>())
}

#[test]
fn kubelet_is_healthy_and_stays_so_without_the_target() {
    if !have(&[QEMU, TGTD, "go", "ssh", "ssh-keygen"]) {
        return;
    }
    let image = outage::worker("iscsi");
    let mut tgt = Tgt::start(Target::open(&disk(&image)));
    let root = format!("bw.root=iscsi://10.0.2.2:{}/{NAME}", tgt.port());
    let machine = Running::start(&image, &["--append", &root, "--deadline-s", "300"]);
    eprintln!("kubelet healthy after {:?} s", machine.uptime_s("service:kubelet"));
    let before = Kubelet::of(&machine);
    load::start(&machine, "/dev/sda");
    outage(&image, BACK_WITHIN, |up| if up { tgt.restart() } else { tgt.kill() });
    load::check(&machine, &disk(&image));
    assert_eq!(Kubelet::of(&machine), before);
    power_off(machine);
    assert!(said(&image.console()).contains(" is detached"), "{}", image.console());
}

#[test]
fn a_target_that_comes_back_is_not_noticed() {
    if !have(&[QEMU, TGTD, "ssh", "ssh-keygen"]) {
        return;
    }
    let image = image();
    let folder = testkit::folders::new_folder();
    let written = folder.path().join("written.img");
    std::fs::write(&written, vec![0; 512 << 20]).expect("a new file");
    let root = Disk { image: disk(&image), writable: false };
    let mut tgt = Tgt::start(Target {
        disks: vec![root, Disk { image: written.clone(), writable: true }],
        incoming: Some(("node", "secret of the node")),
        outgoing: Some(("san", "secret of the target")),
    });
    let login = "node:secret%20of%20the%20node";
    let proof = "user_in=san&secret_in=secret%20of%20the%20target";
    let source = format!("bw.root=iscsi://{login}@10.0.2.2:{}/{NAME}?{proof}", tgt.port());
    let machine = Running::start(&image, &["--append", &source, "--deadline-s", "180"]);
    load::start(&machine, "/dev/sda");
    ssh_ok(&machine, &format!("cat > /run/writer <<'EOF'\n{WRITER}\nEOF"));
    ssh_ok(&machine, "busybox setsid sh /run/writer > /run/writer.log 2>&1 < /dev/null &");
    outage(&image, BACK_WITHIN, |up| if up { tgt.restart() } else { tgt.kill() });
    load::check(&machine, &disk(&image));
    ssh_ok(&machine, "touch /run/stop; until [ -e /run/stopped ]; do sleep 0.2; done");
    check_blocks(&machine, &written);
    let roots = ssh_ok(&machine, "cat /run/bootwright/roots.json");
    assert!(roots.contains("\"state\":\"up\"") && roots.contains("\"losses\":1"), "{roots}");
    let told = [said(&image.console()), roots, ssh_ok(&machine, "bootwright-ctl status")].concat();
    assert!(!told.contains("secret") && !told.contains("node:"), "{told}");
}

/// What the guest wrote is on the target's disk, every byte.
fn check_blocks(machine: &Running, written: &Path) {
    let log = ssh_ok(machine, "cat /run/writer.log");
    assert!(!log.contains("error:"), "{log}");
    let count: usize = ssh_ok(machine, "cat /run/blocks").trim().parse().expect("a number of blocks");
    assert!(count > 2, "{count} blocks were written");
    let bytes = std::fs::read(written).expect("the target's file");
    for block in 0..count {
        let expected: Vec<u8> = format!("block {block}\n").bytes().cycle().take(BLOCK).collect();
        assert!(bytes[block * BLOCK..][..BLOCK] == expected, "block {block} of {count} differs");
    }
    eprintln!("{count} blocks were written");
}

/// With data that cannot be written and a process that waits for it: the kernel's own shutdown would wait for ever too.
#[test]
fn a_target_that_stays_away_does_not_hold_the_shutdown() {
    if !have(&[QEMU, TGTD, "ssh", "ssh-keygen"]) {
        return;
    }
    let image = image();
    let folder = testkit::folders::new_folder();
    let written = folder.path().join("written.img");
    std::fs::write(&written, vec![0; 64 << 20]).expect("a new file");
    let root = Disk { image: disk(&image), writable: false };
    let mut tgt =
        Tgt::start(Target { disks: vec![root, Disk { image: written, writable: true }], ..Target::default() });
    // As dracut is told (RFC 4173), of two portals of which the first leads nowhere.
    let place = |port| format!("netroot=iscsi:10.0.2.2::{port}:1:{NAME}");
    let words = format!("{} {} bw.poweroff_after_s=30", place(1), place(tgt.port()));
    let machine = Running::start(&image, &["--append", &words, "--deadline-s", "180"]);
    let write = "while true; do busybox dd if=/dev/zero of=/dev/sdb bs=1M count=8; done";
    ssh_ok(&machine, &format!("busybox setsid sh -c '{write}' > /run/dd.log 2>&1 < /dev/null &"));
    tgt.kill();
    wait_until("it is told to go", Duration::from_secs(60), || image.console().contains("poweroff asked for"));
    let since = Instant::now();
    let qemu = machine.qemu_pid();
    // 60 s for services and pods, 5 s for other processes, 10 s for file systems, 4 s for the connection.
    wait_until("the machine is off", Duration::from_secs(60 + 5 + 10 + 4 + 20), || !runs(qemu));
    eprintln!("off after {:.1} s", since.elapsed().as_secs_f64());
    let console = image.console();
    assert!(console.contains("down poweroff"), "{console}");
}

/// Sources are tried in turn, so one boot tells what is wrong with each; the last one is found by discovery.
#[test]
fn what_is_wrong_is_told_and_the_next_source_is_tried() {
    if !have(&[QEMU, TGTD]) {
        return;
    }
    let image = image();
    let bytes = std::fs::read(disk(&image)).expect("the image was built");
    let folder = testkit::folders::new_folder();
    let (short, damaged) = (folder.path().join("short.img"), folder.path().join("damaged.img"));
    std::fs::write(&short, &bytes[..bytes.len() / 2 / 4096 * 4096]).expect("a new file");
    std::fs::write(&damaged, [&[!bytes[0]], &bytes[1..]].concat()).expect("a new file");
    let root = |image: &Path| Disk { image: image.into(), writable: false };
    let disks = vec![root(&disk(&image)), root(&short), root(&damaged)];
    let open = Tgt::start(Target { disks: disks.clone(), ..Target::default() });
    let incoming = Some(("node", "secret of the node"));
    let closed = Tgt::start(Target { disks: disks.clone(), incoming, ..Target::default() });
    let mutual = Tgt::start(Target { disks, incoming, outgoing: Some(("san", "secret of the target")) });
    let mut gone = Tgt::start(Target::default());
    gone.kill();
    let login = "node:secret%20of%20the%20node";
    let cases = [
        (format!("10.0.2.2:{}/{NAME}", gone.port()), "cannot reach iscsi portal 10.0.2.2:PORT: cannot connect: "),
        (
            format!("10.0.2.2:{}/{NAME}", closed.port()),
            "iscsi target `NAME` on 10.0.2.2:PORT refused the login: authentication failure (class 2, detail 1)",
        ),
        (
            format!("node:a%20wrong%20secret@10.0.2.2:{}/{NAME}", closed.port()),
            "iscsi target `NAME` on 10.0.2.2:PORT refused the login: authentication failure (class 2, detail 1)",
        ),
        (
            format!("{login}@10.0.2.2:{}/{NAME}?user_in=san&secret_in=a%20wrong%20secret", mutual.port()),
            "the target does not know its secret: it is another one, or the secret is wrong",
        ),
        (
            format!("{login}@10.0.2.2:{}/{NAME}?user_in=other&secret_in=secret%20of%20the%20target", mutual.port()),
            "the target calls itself `san`, not `other`",
        ),
        (
            format!("10.0.2.2:{}/iqn.2024-07.internal.bootwright:other", open.port()),
            "refused the login: the target was not found (class 2, detail 3)",
        ),
        (format!("10.0.2.2:{}/{NAME}/9", open.port()), "iscsi target `NAME` has no disk with LUN 9; it has "),
        (format!("10.0.2.2:{}/{NAME}/2", open.port()), "is truncated: it has "),
        (format!("10.0.2.2:{}/{NAME}/3", open.port()), "block 0 (data) is not that of this build and is refused"),
        // No target: discovery, and a login with CHAP at what it finds.
        (format!("{login}@10.0.2.2:{}/", mutual.port()), " is attached: "),
    ];
    let sources: Vec<String> = cases.iter().map(|(place, _)| format!("iscsi://{place}")).collect();
    let outcome = boot(&image, &sources, &["--deadline-s", "180"]);
    let said = said(&outcome.console());
    outcome.assert_passed();
    for (place, message) in &cases {
        let (_, rest) = place.split_once("10.0.2.2:").expect("each is there");
        let port = rest.split('/').next().expect("a split has a part");
        let message = message.replace("PORT", port).replace("NAME", NAME);
        assert!(said.contains(&message), "no {message:?} for {place} in\n{said}");
    }
    assert!(!said.contains("secret%20") && !said.contains("secret of"), "{said}");
}

#[test]
fn blocks_that_were_changed_while_the_target_was_away_are_refused_and_the_machine_reboots_where_that_is_asked_for() {
    if !have(&[QEMU, TGTD, "ssh", "ssh-keygen"]) {
        return;
    }
    let key = format!("ssh_key={}", key().public);
    let recipe = corrupted::recipe() + "[root]\ncorrupted = { reboot_after_s = 25 }\n";
    let image = Image::build_variant_with_root("spare-reboot", "rescue", &recipe, &[&key], Some("iscsi"));
    let folder = testkit::folders::new_folder();
    let copy = folder.path().join("root.img");
    std::fs::copy(disk(&image), &copy).expect("the image was built");
    let tgt = std::cell::RefCell::new(Tgt::start(Target::open(&copy)));
    let words = format!("bw.root=iscsi://10.0.2.2:{}/{NAME}", tgt.borrow().port());
    let machine = Running::start(&image, &["--append", &words, "--deadline-s", "180"]);
    let (away, back) = (|| tgt.borrow_mut().kill(), || tgt.borrow_mut().restart());
    corrupted::changed_blocks_are_refused(&machine, &image, &copy, away, back);
    wait_until("it reboots", Duration::from_secs(60), || {
        image.console().contains("has given out other blocks than were packed; rebooting")
    });
}

/// The first portal leads nowhere, the second sends us elsewhere, and the target there asks us out once.
#[test]
fn portals_redirections_and_a_target_that_asks_for_a_logout() {
    if !have(&[QEMU, TGTD, "ssh", "ssh-keygen"]) {
        return;
    }
    let image = image();
    let tgt = Tgt::start(Target::open(&disk(&image)));
    let relay = Relay::start(tgt.port());
    let source = format!("bw.root=iscsi://10.0.2.2:1/{NAME}?portal=10.0.2.2:{}", redirect(relay.port));
    let machine = Running::start(&image, &["--append", &source, "--deadline-s", "180"]);
    let attached = format!("`{NAME}` on 10.0.2.2:{} as ", relay.port);
    assert!(said(&image.console()).contains(&attached), "{}", image.console());
    load::start(&machine, "/dev/sda");
    relay.ask_out();
    wait_until("it is logged in again", Duration::from_secs(30), || image.console().contains(" is back after "));
    assert!(said(&image.console()).contains("the target asks for a new login"), "{}", image.console());
    assert!(relay.has_seen(0x06), "no logout came");
    load::check(&machine, &disk(&image));
}
