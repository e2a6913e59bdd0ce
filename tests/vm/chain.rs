//! The boot chain in real machines: by BIOS and UEFI, by MAC, by the menu, with a node's own files, and by other loaders than iPXE.

use crate::image::{Image, tool};
use crate::serve::Serve;
use crate::ssh::{key, ssh_ok};
use crate::vm::{Outcome, Running, smoke, turn, wait_until};
use crate::{QEMU, need::have, rescue};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const MAC: &str = "52:54:00:00:00:11";
/// Firmware, loader and kernel under emulation, on a machine that does other things too.
const DEADLINE_S: &str = "300";

const NODES: &str = r#"
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
struct Lab {
    dir: TempDir,
    image: Image,
}

impl Lab {
    fn new(image: &Image) -> Self {
        let (dir, image) = image.copy();
        let lab = Self { dir, image };
        std::fs::create_dir_all(lab.path("files/etc")).unwrap();
        std::fs::write(lab.path("files/etc/motd.j2"), "{{ name }} of rack {{ rack }}, {{ mac }}\n").unwrap();
        std::fs::write(lab.path("nodes.toml"), NODES).unwrap();
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write_chain(&self) {
        let nodes = self.path("nodes.toml");
        tool().args(["boot", "--nodes"]).arg(nodes).arg("--out").arg(&self.image.out).assert().success();
    }

    fn serve(&self) -> Serve {
        Serve::start(self.dir.path(), &["--out", ".", "--nodes", "nodes.toml"])
    }
}

/// An image of the shipped recipe with what the chain needs to know of it.
fn lab(image: &Image) -> Lab {
    let lab = Lab::new(image);
    std::fs::copy(image.dir().join("manifest.json"), lab.image.dir().join("manifest.json")).unwrap();
    lab
}

fn entry(serve: &Serve) -> String {
    format!("http://10.0.2.2:{}/boot/boot.ipxe", serve.port)
}

fn console(outcome: &Outcome) -> String {
    outcome.log("console.log")
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
    let lab = lab(&Image::build("rescue", &[&format!("ssh_key={}", key().public)]));
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
    let lab = lab(&rescue());
    let serve = lab.serve();
    let mac = "52:54:00:00:00:99";
    let bootfile = entry(&serve);
    let args =
        ["--via", "ipxe", "--firmware", "uefi", "--bootfile", &bootfile, "--mac", mac, "--deadline-s", DEADLINE_S];
    let outcome = smoke(&lab.image, &args);
    outcome.assert_passed();
    assert!(console(&outcome).contains("is no known node"), "{}", console(&outcome));
    let log = serve.log();
    assert!(log.contains("GET /boot/menu.ipxe 200") && log.contains("GET /rescue/initrd.img 200"), "{log}");
    assert_eq!(serve.node(mac)["known"], false);
}

#[test]
fn a_nodes_root_is_fetched_from_the_server_of_its_script() {
    if !have(&[QEMU]) {
        return;
    }
    let image = Image::build_with_root("rescue", "http", &[]);
    let lab = lab(&image);
    std::fs::copy(image.dir().join("root.img"), lab.image.dir().join("root.img")).unwrap();
    std::fs::write(lab.path("nodes.toml"), NODES.replace("[defaults]\n", "[defaults]\nroot = \"http\"\n")).unwrap();
    let serve = lab.serve();
    let args = ["--via", "ipxe", "--bootfile", &entry(&serve), "--mac", MAC, "--deadline-s", DEADLINE_S];
    smoke(&lab.image, &args).assert_passed();
    assert!(serve.log().contains("GET /rescue-http/root.img 20"), "{}", serve.log());
}

#[test]
fn a_segment_of_another_node_is_refused() {
    if !have(&[QEMU]) {
        return;
    }
    let lab = lab(&rescue());
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
    if !have(&[QEMU]) || !have_files(&files) {
        return;
    }
    let lab = lab(&rescue());
    lab.write_chain();
    for file in files.map(Path::new) {
        std::fs::copy(file, lab.path("boot").join(file.file_name().unwrap())).unwrap();
    }
    let args = ["--via", "ipxe", "--bootfile", "boot/pxelinux.0", "--mac", MAC, "--deadline-s", DEADLINE_S];
    let outcome = smoke(&lab.image, &args);
    outcome.assert_passed();
    let console = console(&outcome);
    assert!(console.contains("bootwright: this is n1"), "{console}");
    assert!(console.contains("bw.hostname=n1"), "the kernel says its command line: {console}");
}

#[test]
fn grub_boots_a_node_with_uefi() {
    if !have(&[QEMU, "grub-mkimage"]) {
        return;
    }
    let lab = lab(&rescue());
    lab.write_chain();
    let image = lab.path("boot/grubx64.efi");
    let modules = ["efinet", "tftp", "normal", "linux", "echo", "test", "configfile", "smbios", "serial", "terminal"];
    let mut mkimage = assert_cmd::Command::new("grub-mkimage");
    mkimage.args(["-O", "x86_64-efi", "-p", "(tftp,10.0.2.2)/boot", "-o"]).arg(&image).args(modules);
    mkimage.assert().success();
    let args = [
        "--via",
        "ipxe",
        "--firmware",
        "uefi",
        "--bootfile",
        "boot/grubx64.efi",
        "--mac",
        MAC,
        "--deadline-s",
        DEADLINE_S,
    ];
    let outcome = smoke(&lab.image, &args);
    outcome.assert_passed();
    assert!(console(&outcome).contains("bw.hostname=n1"), "{}", console(&outcome));
}

/// A network of its own: a bridge with the lab's server, a DHCP server that knows nothing of booting, and a machine whose UEFI has
/// no iPXE. The firmware's PXE gets iPXE by TFTP, iPXE gets its script over HTTP, PID1 reports to where that came from.
const NETWORK: &str = r#"
set -e
ip link set lo up
ip link add br0 type bridge
ip address add 192.0.2.1/24 dev br0
ip tuntap add dev tap0 mode tap
ip link add dhcp0 type veth peer name dhcp1
for port in tap0 dhcp0; do ip link set $port master br0; ip link set $port up; done
ip link set br0 up
unshare --net sh -c 'touch unshared; while ! ip link show dhcp1 >/dev/null 2>&1; do sleep 0.1; done
    ip address add 192.0.2.2/24 dev dhcp1; ip link set dhcp1 up
    exec dnsmasq -k --conf-file=/dev/null --port=0 --interface=dhcp1 --bind-interfaces --dhcp-range=192.0.2.50,192.0.2.60 \
        --leasefile-ro --pid-file= --user=root' &
other=$!
until [ -e unshared ]; do sleep 0.1; done
ip link set dhcp1 netns $other
qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot -machine q35,graphics=off -accel tcg,thread=single -cpu max -m 512 \
    -drive if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd \
    -drive if=pflash,format=raw,snapshot=on,file=/usr/share/OVMF/OVMF_VARS_4M.fd \
    -serial file:console.log -netdev tap,id=net,ifname=tap0,script=no,downscript=no \
    -device virtio-net-pci,romfile=,netdev=net,bootindex=0,mac=$MAC </dev/null &
exec "$TOOL" -v serve --out . --listen 192.0.2.1:8080 --interface br0 --proxy 192.0.2.0 2>serve.log
"#;

#[test]
fn a_machine_without_ipxe_boots_from_dnsmasq_beside_another_dhcp_server() {
    let files = ["/usr/lib/ipxe/ipxe.efi", "/usr/share/OVMF/OVMF_CODE_4M.fd", "/dev/net/tun"];
    if !have(&[QEMU, "dnsmasq", "ip", "unshare"]) || !have_files(&files) {
        return;
    }
    if !std::process::Command::new("unshare").args(["--net", "true"]).status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: only root may make network namespaces here");
        return;
    }
    let lab = lab(&rescue());
    let _turn = turn();
    let mut network = std::process::Command::new("unshare");
    network.args(["--net", "sh", "-c", NETWORK]).env("MAC", MAC).env("TOOL", env!("CARGO_BIN_EXE_bootwright"));
    let mut network = network.current_dir(lab.dir.path()).process_group(0).spawn().unwrap();
    let group = ProcessGroup(network.id());
    let read = |name: &str| String::from_utf8_lossy(&std::fs::read(lab.path(name)).unwrap_or_default()).into_owned();
    let deadline = Instant::now() + Duration::from_secs(300);
    while !read("serve.log").contains("POST /report 204") && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(group.signal("INT"));
    let ended = network.wait().unwrap();
    let (log, console) = (read("serve.log"), read("console.log"));
    assert!(ended.success(), "{log}");
    for expected in
        ["proxy on subnet 192.0.2.0", "ipxe.efi to 192.0.2.5", "GET /boot/nodes/n1.ipxe 200", "POST /report 204"]
    {
        assert!(log.contains(expected), "no {expected:?} in:\n{log}\n{console}");
    }
}

/// All that a test started; what is left of it is killed on drop. A shell's background processes do not hear SIGINT.
struct ProcessGroup(u32);

impl ProcessGroup {
    fn signal(&self, name: &str) -> bool {
        let group = format!("-{}", self.0);
        std::process::Command::new("kill")
            .args(["-s", name, "--", &group])
            .status()
            .is_ok_and(|status| status.success())
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.signal("KILL");
    }
}

/// Files of packages that tests need: missing ones fail in CI and skip elsewhere.
fn have_files(files: &[&str]) -> bool {
    let missing: Vec<&&str> = files.iter().filter(|file| !Path::new(file).exists()).collect();
    assert!(
        missing.is_empty() || std::env::var_os("CI").is_none(),
        "{missing:?} missing, and in CI nothing is skipped"
    );
    if !missing.is_empty() {
        eprintln!("skipped: {missing:?} missing");
    }
    missing.is_empty()
}
