//! The boot chain in real machines: by BIOS and UEFI, by MAC, by the menu, with a node's own files, and by other loaders than iPXE.

use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;
use testkit::image::Image;
use testkit::serve::Serve;
use testkit::ssh::{key, ssh_ok};
use testkit::tgt::{self, Target, Tgt};
use testkit::tool::tool;
use testkit::vm::{Running, smoke, wait_until};
use testkit::{QEMU, need::have, rescue};

pub const MAC: &str = "52:54:00:00:00:11";
const UUID: &str = "0e3c1a5b-0000-4000-8000-0123456789ab";
/// Firmware, loader and kernel under emulation, on a machine that does other things too.
pub const DEADLINE_S: &str = "300";

pub const NODES: &str = r#"
[menu]
timeout_s = 2

[defaults]
recipe = "rescue"

[[node]]
name = "n1"
mac = "52:54:00:00:00:11"
overlay = "files"
cmdline = ["console=ttyS0", "panic=-1", "bw.timeline=/dev/ttyS1"]
vars = { rack = 7 }
"#;

/// An image that may be changed, with a `nodes.toml` beside its folder.
pub struct Lab {
    dir: TempDir,
    pub image: Image,
}

impl Lab {
    pub fn new(image: &Image) -> Self {
        let (dir, copy) = image.copy();
        // What the chain needs to know of it.
        std::fs::copy(image.dir().join("manifest.json"), copy.dir().join("manifest.json")).unwrap();
        let lab = Self { dir, image: copy };
        std::fs::create_dir_all(lab.path("files/etc")).unwrap();
        std::fs::write(lab.path("files/etc/motd.j2"), "{{ name }} of rack {{ rack }}, {{ mac }}\n").unwrap();
        std::fs::write(lab.path("nodes.toml"), NODES).unwrap();
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A script of the lab's own, which decides what comes first.
    pub fn write_first(&self, script: &str) {
        std::fs::create_dir(self.path("loaders")).unwrap();
        std::fs::write(self.path("loaders/first.ipxe"), script).unwrap();
    }

    pub fn write_chain(&self) {
        let nodes = self.path("nodes.toml");
        tool().args(["boot", "--nodes"]).arg(nodes).arg("--out").arg(&self.image.out).assert().success();
    }

    fn serve(&self) -> Serve {
        self.serve_with(&[])
    }

    pub fn serve_with(&self, args: &[&str]) -> Serve {
        Serve::start(&self.path(""), &[&["--out", ".", "--nodes", "nodes.toml"], args].concat())
    }
}

pub fn entry(serve: &Serve) -> String {
    format!("http://10.0.2.2:{}/boot/boot.ipxe", serve.port)
}

pub fn first(serve: &Serve) -> String {
    format!("http://10.0.2.2:{}/loaders/first.ipxe", serve.port)
}

#[test]
fn uefi_boots_over_the_network() {
    if !have(&[QEMU]) {
        return;
    }
    let outcome = smoke(&rescue(), &["--via", "ipxe", "--firmware", "uefi", "--deadline-s", DEADLINE_S]);
    outcome.assert_passed();
    assert!(outcome.log("http.log").contains("GET /vmlinuz 200"), "{}", outcome.log("http.log"));
    assert!(outcome.log("qemu.txt").contains("if=pflash"), "{}", outcome.log("qemu.txt"));
}

#[test]
fn a_node_is_known_by_its_mac_and_reports_how_far_it_is() {
    if !have(&[QEMU, "ssh", "ssh-keygen"]) {
        return;
    }
    let lab = Lab::new(&Image::build("rescue", &[&format!("ssh_key={}", key().public)]));
    let serve = lab.serve();
    let args = ["--via", "ipxe", "--bootfile", &entry(&serve), "--mac", MAC, "--deadline-s", DEADLINE_S];
    let machine = Running::start(&lab.image, &args);
    let said = ssh_ok(&machine, "cat /etc/motd; hostname");
    assert_eq!(said, format!("n1 of rack 7, {MAC}\nn1\n"));
    wait_until("the node reports that it is up", Duration::from_secs(30), || serve.node("n1")["stage"] == "up");
    let node = serve.node("n1");
    assert_eq!((node["hostname"].as_str(), node["mac"].as_str()), (Some("n1"), Some(MAC)));
    assert!(node["phases"].as_array().unwrap().iter().any(|phase| phase["name"] == "root"), "{node:#}");
    assert!(serve.log().contains("GET /boot/nodes/n1.cpio.gz 200"), "{}", serve.log());
    assert_eq!(serve.status()["nodes"].as_array().unwrap().len(), 1, "{:#}", serve.status());
}

#[test]
fn a_stranger_gets_the_menu_and_its_default_with_uefi() {
    if !have(&[QEMU]) {
        return;
    }
    let lab = Lab::new(&rescue());
    let serve = lab.serve();
    let mac = "52:54:00:00:00:99";
    let bootfile = entry(&serve);
    let args =
        ["--via", "ipxe", "--firmware", "uefi", "--bootfile", &bootfile, "--mac", mac, "--deadline-s", DEADLINE_S];
    let outcome = smoke(&lab.image, &args);
    outcome.assert_passed();
    assert!(outcome.console().contains("is no known node"), "{}", outcome.console());
    let log = serve.log();
    assert!(log.contains("GET /boot/menu.ipxe 200") && log.contains("GET /rescue/initrd.img 200"), "{log}");
    assert_eq!(serve.node(mac)["known"], false);
}

/// The machine's card starts undionly.kpxe, which takes the card over by the driver that is in the card (UNDI). Then a menu of somebody's own
/// finds the node.
const UNDIONLY: &str = "#!ipxe
echo the driver is ${net0/chip}
iseq ${net0/chip} undionly && chain ../boot/by-mac/${net0/mac:hexhyp}.ipxe || chain undionly.kpxe
";

#[test]
fn undionly_loads_a_nodes_script_and_its_root_is_fetched_from_the_same_server() {
    if !have(&[QEMU, "/usr/lib/ipxe/undionly.kpxe"]) {
        return;
    }
    let image = Image::build_with_root("rescue", "http", &[]);
    let lab = Lab::new(&image);
    std::fs::copy(image.dir().join("root.img"), lab.image.dir().join("root.img")).unwrap();
    std::fs::write(lab.path("nodes.toml"), NODES.replace("[defaults]\n", "[defaults]\nroot = \"http\"\n")).unwrap();
    lab.write_first(UNDIONLY);
    let serve = lab.serve();
    let first = first(&serve);
    let args = ["--via", "ipxe", "--bootfile", &first, "--mac", MAC, "--deadline-s", DEADLINE_S];
    let outcome = smoke(&lab.image, &args);
    outcome.assert_passed();
    let console = outcome.console();
    assert!(console.contains("the driver is undionly"), "{console}");
    let log = serve.log();
    for fetch in [
        "GET /loaders/undionly.kpxe 200",
        "GET /boot/by-mac/52-54-00-00-00-11.ipxe 200",
        "GET /rescue-http/root.img 20",
    ] {
        assert!(log.contains(fetch), "no {fetch:?} in\n{log}");
    }
}

/// iPXE logs in itself, with CHAP, and leaves a table that says how; PID1 takes the card and the disk from there.
#[test]
fn a_nodes_iscsi_root_is_taken_over_from_ipxe() {
    if !have(&[QEMU, "tgtd"]) {
        return;
    }
    let image = Image::build_with_root("rescue", "iscsi", &[&format!("ssh_key={}", key().public)]);
    let incoming = Some(("node", "secret of the node"));
    let tgt = Tgt::start(Target { incoming, ..Target::open(&image.dir().join("root.img")) });
    let lab = Lab::new(&image);
    let root = format!(
        "root = \"iscsi://node:secret%20of%20the%20node@10.0.2.2:{}/{}/1?initiator=iqn.2024-07.lab:from-ipxe\"\n\
         secrets = \"allowed\"\nsecrets_reason = \"a lab of one machine\"",
        tgt.port(),
        tgt::NAME
    );
    let nodes = NODES.replace("cmdline = [", &format!("{root}\nibft = true\ncmdline = [\"ip=ibft\", "));
    // What strangers boot has to be there too.
    let nodes = nodes.replace("[defaults]\n", "[defaults]\nroot = \"iscsi\"\n");
    // Known by its firmware, not by its card.
    let nodes = nodes.replace(&format!("mac = \"{MAC}\""), &format!("uuid = \"{UUID}\""));
    std::fs::write(lab.path("nodes.toml"), nodes).unwrap();
    let serve = lab.serve();
    let (entry, ids) = (entry(&serve), ["--mac", MAC, "--uuid", UUID]);
    let args = [&["--via", "ipxe", "--bootfile", &entry, "--deadline-s", DEADLINE_S][..], &ids].concat();
    let outcome = smoke(&lab.image, &args);
    outcome.assert_passed();
    let console = outcome.console();
    // The kernel prints the whole command line; the secret is not on it either.
    assert!(console.contains("bw.root=iscsi:ibft") && !console.contains("secret"), "{console}");
    for said in [
        "bootwright: this is n1",
        "the boot firmware had ip=52-54-00-00-00-11:dhcp",
        &format!("`{}` on 10.0.2.2:{} as `iqn.2024-07.lab:from-ipxe`", tgt::NAME, tgt.port()),
    ] {
        assert!(console.contains(said), "no {said:?} in\n{console}");
    }
}

#[test]
fn a_segment_of_another_node_is_refused() {
    if !have(&[QEMU]) {
        return;
    }
    let lab = Lab::new(&rescue());
    lab.write_chain();
    let segment = std::fs::read(lab.path("boot/nodes/n1.cpio.gz")).unwrap();
    std::fs::write(lab.path("files/etc/motd.j2"), "another\n").unwrap();
    let serve = lab.serve();
    std::fs::write(lab.path("boot/nodes/n1.cpio.gz"), segment).unwrap();
    let args = ["--via", "ipxe", "--bootfile", &entry(&serve), "--mac", MAC, "--deadline-s", DEADLINE_S];
    let outcome = smoke(&lab.image, &args);
    outcome.assert_failed("segment `node` does not belong to this image");
}

#[test]
fn pxelinux_boots_a_node_by_tftp() {
    let files = ["/usr/lib/PXELINUX/pxelinux.0", "/usr/lib/syslinux/modules/bios/ldlinux.c32"];
    if !have(&[&[QEMU], &files[..]].concat()) {
        return;
    }
    let lab = Lab::new(&rescue());
    lab.write_chain();
    for file in files.map(Path::new) {
        std::fs::copy(file, lab.path("boot").join(file.file_name().unwrap())).unwrap();
    }
    let args = ["--via", "ipxe", "--bootfile", "boot/pxelinux.0", "--mac", MAC, "--deadline-s", DEADLINE_S];
    let outcome = smoke(&lab.image, &args);
    outcome.assert_passed();
    let console = outcome.console();
    assert!(console.contains("bootwright: this is n1"), "{console}");
    assert!(console.contains("bw.hostname=n1"), "the kernel says its command line: {console}");
}
