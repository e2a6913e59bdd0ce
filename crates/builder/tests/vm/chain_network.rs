//! The boot chain in a network of its own: a bridge with the lab's server, and a machine whose UEFI has no iPXE.

use crate::chain::{Lab, MAC, NODES};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;
use testkit::console;
use testkit::vm::wait_until;
use testkit::{
    QEMU,
    need::{can, have},
    rescue,
};

const UUID: &str = "0e3c1a5b-1234-4000-8000-0123456789ab";

const BRIDGE: &str = r#"
set -e
ip link set lo up
ip link add br0 type bridge
ip address add 192.0.2.1/24 dev br0
ip tuntap add dev tap0 mode tap
ip link set tap0 master br0
ip link set tap0 up
ip link set br0 up
"#;

const MACHINE: &str = r#"
qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot -machine q35,graphics=off -accel tcg,thread=single -cpu max -m 512 \
    -drive if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd \
    -drive if=pflash,format=raw,snapshot=on,file=/usr/share/OVMF/OVMF_VARS_4M.fd $FIRMWARE \
    -serial file:console.log -netdev tap,id=net,ifname=tap0,script=no,downscript=no \
    -device virtio-net-pci,romfile=,netdev=net,bootindex=0,mac=$MAC -uuid $UUID </dev/null &
"#;

/// A DHCP server that knows nothing of booting.
const OTHER_DHCP: &str = r#"
ip link add dhcp0 type veth peer name dhcp1
ip link set dhcp0 master br0
ip link set dhcp0 up
unshare --net sh -c 'touch unshared; while ! ip link show dhcp1 >/dev/null 2>&1; do sleep 0.1; done
    ip address add 192.0.2.2/24 dev dhcp1; ip link set dhcp1 up
    exec dnsmasq -k --conf-file=/dev/null --port=0 --interface=dhcp1 --bind-interfaces --dhcp-range=192.0.2.50,192.0.2.60 \
        --leasefile-ro --pid-file= --user=root' &
other=$!
until [ -e unshared ]; do sleep 0.1; done
ip link set dhcp1 netns $other
"#;

/// A DHCP server of somebody's own that names GRUB to UEFI's HTTP boot.
const GRUB_DHCP: &str = r#"
dnsmasq -k --conf-file=/dev/null --port=0 --interface=br0 --bind-interfaces --dhcp-range=192.0.2.50,192.0.2.60 \
    --dhcp-vendorclass=set:http,HTTPClient --dhcp-option-force=tag:http,60,HTTPClient \
    --dhcp-boot=tag:http,http://192.0.2.1/loaders/grubx64.efi --leasefile-ro --pid-file= --user=root &
"#;

const SERVE: &str = r#"exec "$TOOL" -v serve --out . --nodes nodes.toml --interface br0 $ARGS 2>serve.log"#;

/// OVMF asks by PXE first, unless it is told not to (its README, "PXE support").
const HTTP_ONLY: &str =
    "-fw_cfg name=opt/org.tianocore/IPv4PXESupport,string=n -fw_cfg name=opt/org.tianocore/IPv6PXESupport,string=n";

/// What a test needs beside `more`; only root may make network namespaces.
fn may_run(more: &[&str]) -> bool {
    let needed = [QEMU, "dnsmasq", "ip", "unshare", "/usr/share/OVMF/OVMF_CODE_4M.fd"];
    if !have(&[&needed, more].concat()) {
        return false;
    }
    let may = Command::new("unshare").args(["--net", "test", "-e", "/dev/net/tun"]).status();
    can(may.is_ok_and(|status| status.success()), "network namespaces and /dev/net/tun")
}

/// A running network: the lab's server, the machine, and what else the script starts. All of it ends on drop.
struct Network {
    server: Child,
    dir: PathBuf,
}

impl Network {
    /// `more` starts before the machine; `args` are those of `bootwright serve`.
    fn start(lab: &Lab, more: &str, firmware: &str, args: &str) -> Self {
        let script = [BRIDGE, more, MACHINE, SERVE].concat();
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", &script]).current_dir(lab.path("")).process_group(0);
        command.env("TOOL", testkit::tool::tool_path());
        command.envs([("MAC", MAC), ("UUID", UUID), ("FIRMWARE", firmware), ("ARGS", args)]);
        Self { server: command.spawn().unwrap(), dir: lab.path("") }
    }

    fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(self.dir.join(name)).unwrap_or_default()).into_owned()
    }

    /// Waits until the server's log has `last`, ends everything, and looks for the others.
    fn expect(mut self, last: &str, others: &[&str]) -> String {
        wait_until(last, Duration::from_secs(300), || {
            self.read("serve.log").contains(last) || self.server.try_wait().unwrap().is_some()
        });
        assert!(self.signal("INT"));
        let ended = self.server.wait().unwrap();
        let (log, console) = (self.read("serve.log"), console::read(&self.dir.join("console.log")));
        assert!(ended.success(), "{log}");
        for expected in others.iter().chain([&last]) {
            assert!(log.contains(expected), "no {expected:?} in:\n{log}\n{console}");
        }
        console
    }

    /// To all that was started. A shell's background processes do not hear SIGINT.
    fn signal(&self, name: &str) -> bool {
        let group = format!("-{}", self.server.id());
        let status = Command::new("kill").args(["-s", name, "--", &group]).status();
        status.is_ok_and(|status| status.success())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.signal("KILL");
        // Fails only when it was waited for already.
        let _ = self.server.wait();
    }
}

/// The firmware's PXE gets iPXE by TFTP, iPXE gets its script over HTTP, PID1 reports to where that came from.
#[test]
fn pxe_boots_from_dnsmasq_beside_another_dhcp_server() {
    if !may_run(&["/usr/lib/ipxe/ipxe.efi"]) {
        return;
    }
    let lab = Lab::new(&rescue());
    let network = Network::start(&lab, OTHER_DHCP, "", "--listen 192.0.2.1:8080 --proxy 192.0.2.0");
    network.expect(
        "POST /report 204",
        &["proxy on subnet 192.0.2.0", "ipxe.efi to 192.0.2.5", "GET /boot/nodes/n1.ipxe 200"],
    );
}

fn know_by_uuid(lab: &Lab) {
    let nodes = NODES.replace(&format!("mac = \"{MAC}\""), &format!("uuid = \"{UUID}\""));
    std::fs::write(lab.path("nodes.toml"), nodes).unwrap();
}

/// The firmware loads iPXE over HTTP, which finds the node by its UUID; what it does then is no other than in the test above.
#[test]
fn uefi_loads_ipxe_over_http() {
    if !may_run(&["/usr/lib/ipxe/ipxe.efi"]) {
        return;
    }
    let lab = Lab::new(&rescue());
    know_by_uuid(&lab);
    let network = Network::start(&lab, "", HTTP_ONLY, "--listen 192.0.2.1:8080 --dhcp-range 192.0.2.50,192.0.2.60");
    network.expect(
        "GET /boot/nodes/n1.ipxe 200",
        &["vendor class: HTTPClient:Arch:00016", "GET /loaders/ipxe.efi 200", "GET /boot/boot.ipxe 200"],
    );
}

/// The firmware loads GRUB over HTTP, and GRUB the rest, for the node that it knows by UUID; Debian's knows HTTP on port 80 only.
#[test]
fn grub_boots_a_node_over_http() {
    if !may_run(&["grub-mkimage", "/usr/lib/grub/x86_64-efi/http.mod"]) {
        return;
    }
    let lab = Lab::new(&rescue());
    know_by_uuid(&lab);
    std::fs::create_dir(lab.path("loaders")).unwrap();
    let mut mkimage = assert_cmd::Command::new("grub-mkimage");
    mkimage.args(["-O", "x86_64-efi", "-p", "(http,192.0.2.1)/boot", "-o"]).arg(lab.path("loaders/grubx64.efi"));
    mkimage.args(["efinet", "http", "normal", "linux", "echo", "test", "configfile", "smbios", "serial", "terminal"]);
    mkimage.assert().success();
    let network = Network::start(&lab, GRUB_DHCP, HTTP_ONLY, "--listen 192.0.2.1:80 --url http://192.0.2.1");
    let console = network.expect(
        "POST /report 204",
        &[
            "GET /loaders/grubx64.efi 200",
            "GET /boot/grub.cfg 200",
            "GET /rescue/initrd.img 200",
            "GET /boot/nodes/n1.cpio.gz 200",
        ],
    );
    // What a node that is known by its MAC is chosen by.
    let card = format!("BOOTIF=01:{MAC} ");
    assert!(console.contains("bw.hostname=n1") && console.contains(&card), "{console}");
}
