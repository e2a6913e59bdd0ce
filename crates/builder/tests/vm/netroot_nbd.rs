//! A root on an NBD server: boots, survives the loss of the server, goes down without it, and says what is wrong with it.

use crate::corrupted;
use crate::outage::{self, Kubelet, outage};
use std::path::Path;
use std::time::Duration;
use testkit::image::Image;
use testkit::nbd::{NBD_SERVER, QEMU_NBD, nbd_server, qemu_nbd};
use testkit::server::ServerProcess;
use testkit::ssh::{key, power_off, ssh_ok};
use testkit::vm::{Running, runs, smoke, wait_until};
use testkit::{QEMU, load, need::have};

/// Recovery takes at most 2 s; the rest is for a busy machine.
const BACK_WITHIN: Duration = Duration::from_secs(6);

fn image() -> Image {
    Image::build_with_root("rescue", "nbd", &[&format!("ssh_key={}", key().public)])
}

fn serve(disk: &Path) -> ServerProcess {
    qemu_nbd(disk, "rescue")
}

fn root(server: &ServerProcess) -> String {
    format!("bw.root=nbd://10.0.2.2:{}/rescue", server.port)
}

#[test]
fn kubelet_is_healthy_and_stays_so_without_the_server() {
    if !have(&[QEMU, QEMU_NBD, "go", "ssh", "ssh-keygen"]) {
        return;
    }
    let image = outage::worker("nbd");
    let disk = image.dir().join("root.img");
    let mut server = qemu_nbd(&disk, "worker");
    let root = format!("bw.root=nbd://10.0.2.2:{}/worker", server.port);
    let machine = Running::start(&image, &["--append", &root, "--deadline-s", "300"]);
    eprintln!("kubelet healthy after {:?} s", machine.uptime_s("service:kubelet"));
    let before = Kubelet::of(&machine);
    load::start(&machine, "/dev/nbd0");
    outage(&image, BACK_WITHIN, |up| if up { server.restart() } else { server.kill() });
    load::check(&machine, &disk);
    assert_eq!(Kubelet::of(&machine), before);
    power_off(machine);
    let console = image.console();
    for bad in ["stays mounted", "did not end in order", "did not close", "I/O error"] {
        assert!(!console.contains(bad), "{bad} in {console}");
    }
    assert!(console.contains(" is detached"), "{console}");
}

/// Debian's server here; qemu-nbd is the one of the other tests.
#[test]
fn a_server_that_comes_back_is_not_noticed() {
    if !have(&[QEMU, NBD_SERVER, "ssh", "ssh-keygen"]) {
        return;
    }
    let image = image();
    let disk = image.dir().join("root.img");
    let folder = testkit::folders::new_folder();
    let mut server = nbd_server(&disk, "rescue", folder.path(), false);
    let machine = Running::start(&image, &["--append", &root(&server), "--deadline-s", "180"]);
    load::start(&machine, "/dev/nbd0");
    outage(&image, BACK_WITHIN, |up| if up { server.restart() } else { server.kill() });
    load::check(&machine, &disk);
    let roots = ssh_ok(&machine, "cat /run/bootwright/roots.json");
    assert!(roots.contains("\"state\":\"up\"") && roots.contains("\"losses\":1"), "{roots}");
    let locked = ssh_ok(&machine, "cat /proc/1/status /proc/1/oom_score_adj");
    assert!(locked.contains("-1000") && !locked.contains("VmLck:\t       0 kB"), "{locked}");
}

#[test]
fn a_server_that_stays_away_does_not_hold_the_shutdown() {
    if !have(&[QEMU, QEMU_NBD]) {
        return;
    }
    let image = image();
    let disk = image.dir().join("root.img");
    let disk = disk.to_str().expect("cargo's folders are UTF-8");
    // As nbd-client is told of its root: with a port there is no name of an export.
    let mut server = ServerProcess::start(&[QEMU_NBD, "-t", "-e0", "-r", "-fraw", "-b127.0.0.1", "-p{port}", disk]);
    let words = format!("nbdroot=10.0.2.2:{} bw.poweroff_after_s=15", server.port);
    let machine = Running::start(&image, &["--append", &words, "--deadline-s", "180"]);
    server.kill();
    let qemu = machine.qemu_pid();
    wait_until("the machine is off", Duration::from_secs(15 + 60 + 30), || !runs(qemu));
    let console = image.console();
    assert!(console.contains(" is lost") && console.contains("down poweroff"), "{console}");
}

/// Another content behind the same name: the first 4 KiB and the size are what PID1 knows it by.
#[test]
fn blocks_that_were_changed_while_the_server_was_away_are_refused() {
    if !have(&[QEMU, QEMU_NBD, "ssh", "ssh-keygen"]) {
        return;
    }
    let key = format!("ssh_key={}", key().public);
    let image = Image::build_variant_with_root("spare", "rescue", &corrupted::recipe(), &[&key], Some("nbd"));
    let folder = testkit::folders::new_folder();
    let disk = folder.path().join("root.img");
    std::fs::copy(image.dir().join("root.img"), &disk).expect("the image was built");
    let server = std::cell::RefCell::new(qemu_nbd(&disk, "spare"));
    let words = format!("bw.root=nbd://10.0.2.2:{}/spare", server.borrow().port);
    let machine = Running::start(&image, &["--append", &words, "--deadline-s", "180"]);
    let (away, back) = (|| server.borrow_mut().kill(), || server.borrow_mut().restart());
    corrupted::changed_blocks_are_refused(&machine, &image, &disk, away, back);
    power_off(machine);
    assert!(!image.console().contains("did not"), "{}", image.console());
}

#[test]
fn what_is_wrong_is_told() {
    if !have(&[QEMU, QEMU_NBD]) {
        return;
    }
    let image = image();
    let disk = std::fs::read(image.dir().join("root.img")).expect("the image was built");
    let folder = testkit::folders::new_folder();
    let (short, damaged) = (folder.path().join("short.img"), folder.path().join("damaged.img"));
    std::fs::write(&short, &disk[..disk.len() / 2 / 4096 * 4096]).expect("a new file");
    let mut bytes = disk.clone();
    // Of the first block, which is read first.
    bytes[100] ^= 1;
    std::fs::write(&damaged, &bytes).expect("a new file");
    let (good, short, damaged) = (serve(&image.dir().join("root.img")), serve(&short), serve(&damaged));
    // Tried in turn, so one boot tells what is wrong with each; the last one can be mounted.
    let cases = [
        (&good, "other", "nbd export `other` on 10.0.2.2:PORT: the server has no export of that name"),
        (&short, "rescue", "is truncated: it has "),
        (&damaged, "rescue", "block 0 (data) is not that of this build and is refused"),
    ];
    let words = cases.map(|(server, export, _)| format!("--append=bw.root=nbd://10.0.2.2:{}/{export}", server.port));
    let words = words.each_ref().map(String::as_str);
    let limits = ["--append=bw.policy.root=reboot:1", "--deadline-s=90"];
    let outcome = smoke(&image, &[&words[..], &limits].concat());
    assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
    for (server, export, message) in cases {
        let (message, console) = (message.replace("PORT", &server.port.to_string()), outcome.console());
        assert!(console.contains(&message), "no {message:?} for {export} in {console}");
    }
}
