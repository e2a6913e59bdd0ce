//! A root on an NBD server: boots, survives the loss of the server, goes down without it, and says what is wrong with it.

use crate::image::Image;
use crate::server::Server;
use crate::ssh::{key, ssh_ok};
use crate::vm::{Running, runs, smoke, wait_until};
use crate::{QEMU, load, need::have};
use std::path::Path;
use std::time::{Duration, Instant};

/// What the tests run beside QEMU.
const QEMU_NBD: &str = "qemu-nbd";

/// How long the server is away.
const AWAY: Duration = Duration::from_secs(20);
/// Recovery takes at most 2 s; the rest is for a busy machine.
const BACK_WITHIN: Duration = Duration::from_secs(6);

fn image() -> Image {
    Image::build_with_root("rescue", "nbd", &[&format!("ssh_key={}", key().public)])
}

fn serve(disk: &Path) -> Server {
    let disk = disk.to_str().expect("cargo's folders are UTF-8");
    Server::start(&[
        QEMU_NBD,
        "--persistent",
        "--shared=0",
        "--read-only",
        "--format=raw",
        "--bind=127.0.0.1",
        "--port={port}",
        "--export-name=rescue",
        disk,
    ])
}

fn root(server: &Server) -> String {
    format!("bw.root=nbd://10.0.2.2:{}/rescue", server.port)
}

fn console(image: &Image) -> String {
    String::from_utf8_lossy(&std::fs::read(image.dir().join("smoke/console.log")).unwrap_or_default()).into_owned()
}

#[test]
fn kubelet_is_healthy() {
    if !have(&[QEMU, QEMU_NBD, "go"]) {
        return;
    }
    let image = Image::build_with_root("worker", "nbd", &[]);
    let disk = image.dir().join("root.img");
    let server = Server::start(&[
        QEMU_NBD,
        "-t",
        "-e0",
        "-r",
        "-fraw",
        "-b127.0.0.1",
        "-p{port}",
        "-xworker",
        disk.to_str().unwrap(),
    ]);
    let root = format!("bw.root=nbd://10.0.2.2:{}/worker", server.port);
    let outcome = smoke(&image, &["--append", &root, "--powerdown", "--deadline-s", "300"]);
    outcome.assert_passed();
    eprintln!("kubelet healthy after {:?} s", outcome.uptime_s("kubelet-healthy"));
}

#[test]
fn a_server_that_comes_back_is_not_noticed() {
    if !have(&[QEMU, QEMU_NBD, "ssh", "ssh-keygen"]) {
        return;
    }
    let image = image();
    let disk = image.dir().join("root.img");
    let mut server = serve(&disk);
    let machine = Running::start(&image, &["--append", &root(&server), "--deadline-s", "180"]);
    load::start(&machine, "/dev/nbd0");
    server.kill();
    wait_until("the loss is told", Duration::from_secs(30), || console(&image).contains(" is lost"));
    std::thread::sleep(AWAY);
    assert!(!console(&image).contains(" is back"), "{}", console(&image));
    server.restart();
    let since = Instant::now();
    wait_until("it is connected again", BACK_WITHIN, || console(&image).contains(" is back after "));
    eprintln!("connected again after {:.1} s", since.elapsed().as_secs_f64());
    load::check(&machine, &disk);
    let roots = ssh_ok(&machine, "cat /run/bootwright/roots.json");
    assert!(roots.contains("\"state\":\"up\"") && roots.contains("\"losses\":1"), "{roots}");
    let locked = ssh_ok(&machine, "cat /proc/1/status /proc/1/oom_score_adj");
    assert!(locked.contains("-1000") && !locked.contains("VmLck:\t       0 kB"), "{locked}");
}

#[test]
fn the_root_is_unmounted_before_its_server_is_left() {
    if !have(&[QEMU, QEMU_NBD]) {
        return;
    }
    let image = image();
    let server = serve(&image.dir().join("root.img"));
    let outcome = smoke(&image, &["--append", &root(&server), "--powerdown", "--deadline-s", "180"]);
    outcome.assert_passed();
    let console = outcome.log("console.log");
    for bad in ["stays mounted", "did not end in order", "did not close", "I/O error"] {
        assert!(!console.contains(bad), "{bad} in {console}");
    }
    assert!(console.contains(" is detached"), "{console}");
}

#[test]
fn a_server_that_stays_away_does_not_hold_the_shutdown() {
    if !have(&[QEMU, QEMU_NBD]) {
        return;
    }
    let image = image();
    let mut server = serve(&image.dir().join("root.img"));
    let words = format!("{} bw.poweroff_after_s=15", root(&server));
    let machine = Running::start(&image, &["--append", &words, "--deadline-s", "180"]);
    server.kill();
    let qemu = machine.qemu_pid();
    wait_until("the machine is off", Duration::from_secs(15 + 60 + 30), || !runs(qemu));
    let console = console(&image);
    assert!(console.contains(" is lost") && console.contains("down poweroff"), "{console}");
}

#[test]
fn what_is_wrong_is_told() {
    if !have(&[QEMU, QEMU_NBD]) {
        return;
    }
    let image = image();
    let disk = std::fs::read(image.dir().join("root.img")).expect("the image was built");
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("cargo's folder for tests is writable");
    let (short, damaged) = (folder.path().join("short.img"), folder.path().join("damaged.img"));
    std::fs::write(&short, &disk[..disk.len() / 2 / 4096 * 4096]).expect("a new file");
    let mut bytes = disk.clone();
    // In the middle of the data: the file system can still be mounted.
    bytes[disk.len() / 2] ^= 1;
    std::fs::write(&damaged, &bytes).expect("a new file");
    let good = serve(&image.dir().join("root.img"));
    for (server, words, message) in [
        (
            good,
            "nbd://10.0.2.2:PORT/other",
            "nbd export `other` on 10.0.2.2:PORT: the server has no export of that name",
        ),
        (serve(&short), "nbd://10.0.2.2:PORT/rescue", "`/dev/nbd0` is truncated: it has "),
        (serve(&damaged), "nbd://10.0.2.2:PORT/rescue", "`/dev/nbd0` is damaged: its hash is "),
    ] {
        let fill = |text: &str| text.replace("PORT", &server.port.to_string());
        let outcome = smoke(&image, &["--append", &format!("bw.root={}", fill(words)), "--deadline-s", "30"]);
        assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
        assert!(outcome.log("console.log").contains(&fill(message)), "{message} in {}", outcome.log("console.log"));
    }
}
