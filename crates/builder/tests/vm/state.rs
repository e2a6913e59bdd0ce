//! Volumes that outlive the boot: made on first use, found again after a reboot, and never overwritten.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use testkit::ganesha::{GANESHA, Ganesha, is_root};
use testkit::image::Image;
use testkit::server::ServerProcess;
use testkit::ssh::{key, power_off, ssh_ok, told_fingerprint};
use testkit::vm::{Running, runs, wait_until};
use testkit::{QEMU, need::have, tgt};

pub const QEMU_NBD: &str = "qemu-nbd";
/// QEMU's own MAC address: the volume is named after it.
const EXPORT: &str = "state-52:54:00:12:34:56";
const DISK_BYTES: u64 = 96 << 20;

const RECIPE: &str = r#"
[vars]
nbd_port = { type = "int", default = 10809 }
[state]
"/srv" = { volume = "nbd://10.0.2.2:${nbd_port}/state-${mac}", format = "ext4", folder = "srv" }
"/etc" = { volume = "nbd://10.0.2.2:${nbd_port}/state-${mac}", format = "ext4", folder = "etc" }
"/var/log" = { tmpfs = "8M", mode = "0700" }
"#;

/// Drivers, mke2fs and file systems are more than `rescue` has.
const BUDGET: &str = "[budget]\nboot_files_mb = 40\nram_mib = 256\n";

fn image(name: &str, recipe: &str, port: u16) -> Image {
    let (key, port) = (format!("ssh_key={}", key().public), format!("nbd_port={port}"));
    Image::build_variant(name, "rescue ext4", &format!("{recipe}{BUDGET}"), &[&key, &port])
}

pub fn folder() -> TempDir {
    testkit::folders::new_folder()
}

pub fn disk(folder: &TempDir) -> std::path::PathBuf {
    let path = folder.path().join("disk");
    std::fs::File::create(&path).and_then(|file| file.set_len(DISK_BYTES)).expect("a new file");
    path
}

pub fn serve(disk: &Path) -> ServerProcess {
    let (name, disk) = (format!("--export-name={EXPORT}"), disk.to_str().expect("cargo's folders are UTF-8"));
    ServerProcess::start(&[QEMU_NBD, "--persistent", "--format=raw", "--bind=127.0.0.1", "--port={port}", &name, disk])
}

#[test]
fn a_volume_is_made_once_and_found_again() {
    if !have(&[QEMU, QEMU_NBD, "ssh", "ssh-keygen", "e2fsck", "dumpe2fs"]) {
        return;
    }
    let folder = folder();
    let disk = disk(&folder);
    let server = serve(&disk);
    let image = image("state", RECIPE, server.port);
    let machine = Running::start(&image, &["--deadline-s", "180"]);
    assert!(image.console().contains("makes ext4 on the empty volume"), "{}", image.console());
    let host_key = told_fingerprint(&image.console());
    let mounts = ssh_ok(&machine, "cat /proc/mounts");
    for mount in [" /srv ext4 rw", " /etc overlay rw", " /var/log tmpfs rw"] {
        assert!(mounts.contains(mount), "no {mount} in {mounts}");
    }
    ssh_ok(&machine, "cp /usr/bin/busybox /srv/data && echo mine > /etc/mine && cat /etc/passwd /etc/hosts");
    power_off(machine);
    let console_log = image.console();
    assert!(console_log.contains("down poweroff") && !console_log.contains("did not end in order"), "{console_log}");

    let machine = Running::start(&image, &["--deadline-s", "180"]);
    assert!(!image.console().contains("makes ext4"), "{}", image.console());
    assert_eq!(told_fingerprint(&image.console()), host_key, "sshd's key is on the volume too");
    ssh_ok(
        &machine,
        "cmp /usr/bin/busybox /srv/data && grep mine /etc/mine && grep root /etc/passwd && grep localhost /etc/hosts",
    );
    assert!(!ssh_ok(&machine, "dmesg").contains("recovery complete"), "it was unmounted in order");
    // A mount whose path is no text hides no other: neither from `mount`, nor on the way down.
    let listed = ssh_ok(&machine, r"at=/run/$(printf 'a\377b') && mkdir $at && mount -t tmpfs odd $at && mount");
    assert!(listed.contains("odd on /run/a") && listed.contains(" on /srv type ext4"), "{listed}");
    power_off(machine);
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let features = Command::new("dumpe2fs").arg("-h").arg(&disk).env("PATH", &path).output().expect("dumpe2fs runs");
    let features = String::from_utf8_lossy(&features.stdout).into_owned();
    assert!(features.contains("has_journal") && !features.contains("needs_recovery"), "{features}");
    let check = Command::new("e2fsck").args(["-f", "-n"]).arg(&disk).env("PATH", path).output().expect("e2fsck runs");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
}

#[test]
fn what_holds_anything_is_left_as_it_is() {
    if !have(&[QEMU, QEMU_NBD]) {
        return;
    }
    for (at, bytes, message) in [
        (
            510,
            &b"\x55\xaa"[..],
            "`/etc`: the volume has a partition table or boot sector, no file system; it is left as it is",
        ),
        (DISK_BYTES - 1, b"x", "the volume has data that is not known"),
    ] {
        let folder = folder();
        let disk = disk(&folder);
        let file = std::fs::File::options().write(true).open(&disk).expect("it was just made");
        std::os::unix::fs::FileExt::write_all_at(&file, bytes, at).expect("it can be written");
        let before = std::fs::read(&disk).expect("it was just made");
        let server = serve(&disk);
        let image = image("state", RECIPE, server.port);
        let outcome = testkit::vm::smoke(&image, &["--append", "bw.policy.state=reboot:1", "--deadline-s", "90"]);
        assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
        assert!(outcome.console().contains(message), "{message} in {}", outcome.console());
        assert!(std::fs::read(&disk).expect("it is there") == before, "it was written to");
    }
}

#[test]
fn a_file_system_that_is_there_is_used() {
    if !have(&[QEMU, QEMU_NBD, "ssh", "ssh-keygen", "mke2fs"]) {
        return;
    }
    let folder = folder();
    let disk = disk(&folder);
    let files = folder.path().join("files");
    std::fs::create_dir_all(files.join("srv")).expect("a new folder");
    std::fs::write(files.join("srv/old"), "old\n").expect("a new file");
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let made =
        Command::new("mke2fs").args(["-q", "-t", "ext4", "-d"]).arg(&files).arg(&disk).env("PATH", path).status();
    assert!(made.expect("mke2fs runs").success());
    let mut server = serve(&disk);
    let image = image("state", RECIPE, server.port);
    let machine = Running::start(&image, &["--deadline-s", "180"]);
    assert!(!image.console().contains("makes ext4"), "{}", image.console());
    assert_eq!(ssh_ok(&machine, "cat /srv/old"), "old\n");

    // What was written lies in memory, and there is no server any more that takes it.
    ssh_ok(&machine, "dd if=/dev/zero of=/srv/dirty bs=1M count=16 2> /dev/null; echo dirty > /etc/dirty");
    server.kill();
    let since = Instant::now();
    machine.command("system_powerdown", serde_json::json!({}));
    let qemu = machine.qemu_pid();
    // The default of `shutdown_timeout_s` is 60 s.
    wait_until("the machine is off", Duration::from_secs(60 + 30), || !runs(qemu));
    eprintln!("off after {:.1} s", since.elapsed().as_secs_f64());
    assert!(image.console().contains("down poweroff"), "{}", image.console());
}

#[test]
fn a_volume_can_be_a_disk_of_an_iscsi_target() {
    if !have(&[QEMU, "tgtd", "tgtadm", "ssh", "ssh-keygen"]) {
        return;
    }
    let folder = folder();
    let disks = vec![tgt::Disk { image: disk(&folder), writable: true }];
    let target = tgt::Tgt::start(tgt::Target { disks, ..tgt::Target::default() });
    let volume = format!("iscsi://10.0.2.2:{}/{}/1", target.port(), tgt::NAME);
    let recipe = format!("[state]\n\"/srv\" = {{ volume = \"{volume}\", format = \"ext4\" }}\n{BUDGET}");
    let key = format!("ssh_key={}", key().public);
    let image = Image::build_variant("state-iscsi", "rescue ext4", &recipe, &[&key]);
    for made in [true, false] {
        let machine = Running::start(&image, &["--deadline-s", "180"]);
        assert_eq!(image.console().contains("makes ext4 on the empty volume"), made, "{}", image.console());
        ssh_ok(&machine, if made { "cp /usr/bin/busybox /srv/data" } else { "cmp /usr/bin/busybox /srv/data" });
        power_off(machine);
        assert!(!image.console().contains("did not end in order"), "{}", image.console());
    }
}

/// Each line is on the disk before the next one is written.
const WRITER: &str =
    "i=0; while :; do echo $i >> DIR/lines || echo lost a line > /run/failed; sync; i=$((i+1)); sleep 0.05; done";

#[test]
fn volumes_survive_the_loss_of_their_servers() {
    if !have(&[QEMU, QEMU_NBD, GANESHA, "ssh", "ssh-keygen"]) || !is_root() {
        return;
    }
    let folder = folder();
    let disk = disk(&folder);
    let shared = folder.path().join("shared");
    std::fs::create_dir(&shared).expect("a new folder");
    let mut nbd = serve(&disk);
    let mut nfs = Ganesha::start("4", &[(&shared, "/shared", "RW")]);
    let recipe = format!(
        "{RECIPE}\"/opt\" = {{ volume = \"nfs://10.0.2.2:{}/shared\", folder = \"${{hostname}}\" }}\n",
        nfs.server.port
    );
    let image = image("state-both", &recipe, nbd.port);
    let machine = Running::start(&image, &["--deadline-s", "180"]);
    for dir in ["/srv", "/opt"] {
        let writer = WRITER.replace("DIR", dir);
        ssh_ok(&machine, &format!("busybox setsid sh -c '{writer}' > /dev/null 2>&1 < /dev/null &"));
    }
    let lines = |dir: &str| ssh_ok(&machine, &format!("wc -l < {dir}/lines")).trim().parse::<usize>().unwrap_or(0);
    wait_until("both write", Duration::from_secs(60), || lines("/srv") > 3 && lines("/opt") > 3);
    nbd.kill();
    nfs.server.kill();
    wait_until("both are lost", Duration::from_secs(60), || image.console().matches(" is lost").count() == 2);
    std::thread::sleep(Duration::from_secs(20));
    nbd.restart();
    nfs.server.restart();
    wait_until("both are back", Duration::from_secs(30), || image.console().matches(" is back after").count() == 2);
    let (srv, opt) = (lines("/srv"), lines("/opt"));
    wait_until("both write again", Duration::from_secs(60), || lines("/srv") > srv + 3 && lines("/opt") > opt + 3);
    for dir in ["/srv", "/opt"] {
        let text = ssh_ok(&machine, &format!("head -n {} {dir}/lines", srv.min(opt)));
        assert!(text.lines().enumerate().all(|(i, line)| line == i.to_string()), "{dir}: {text}");
    }
    let log = ssh_ok(&machine, "cat /run/failed 2> /dev/null; dmesg");
    assert!(!log.contains("lost a line") && !log.contains("I/O error") && !log.contains("EXT4-fs error"), "{log}");
    power_off(machine);
    assert!(!image.console().contains("did not end in order"), "{}", image.console());
}
