//! Machines with network cards of the test's own, whose cables it can pull. A reset starts them again.

use crate::QEMU;
use crate::console;
use crate::folders::new_folder;
use crate::image::Image;
use crate::lan::{self, Lan};
use crate::qmp::qmp;
use crate::secure_boot::BootDisk;
use crate::tpm::Tpm;
use bootwright::smoke::{Engine, Firmware};
use serde_json::json;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Time for a boot and what is tested; the machine may be busy.
pub const LIMIT: Duration = Duration::from_secs(240);

/// A kernel command line with these words, for a machine that is watched by its first serial port.
pub fn words_for(words: &str) -> String {
    format!("console=ttyS0 panic=-1 {words}")
}

/// A network card's other end.
pub enum Card<'a> {
    Lan(&'a Lan),
    /// QEMU's own network with DHCP and routers.
    User,
    /// The same, with this port of the host's loopback address for the guest's sshd.
    Ssh(u16),
    /// The same; the machine boots from this card, whose iPXE loads that address.
    Ipxe(u16, &'a str),
    /// A cable to another machine: the ports of its two ends, ours first.
    Cable(u16, u16),
    /// The same with the cable out.
    Unplugged,
}

/// A machine with cards of our own, which is ended with the test.
pub struct Machine {
    qemu: Child,
    folder: tempfile::TempDir,
}

impl Machine {
    /// The cards' addresses end in 0x10, 0x11 and so on.
    pub fn start(image: &Image, words: &str, cards: &[Card<'_>]) -> Machine {
        Self::start_with(image, words, 0x10, cards)
    }

    /// A second machine beside one that runs, with addresses from `first_mac` on.
    pub fn start_with(image: &Image, words: &str, first_mac: usize, cards: &[Card<'_>]) -> Machine {
        let file = |name: &str| image.dir().join(name).display().to_string();
        let mut args = ["-machine", "q35,graphics=off", "-m", "256", "-kernel"].map(String::from).to_vec();
        args.extend([file("vmlinuz"), "-initrd".into(), file("initrd.img"), "-append".into(), words_for(words)]);
        Self::start_from(args, first_mac, cards)
    }

    /// One that boots from a disk with Secure Boot on. `more`: further arguments of QEMU.
    pub fn start_securely(disk: &BootDisk, ram_mib: u32, more: &[&str], cards: &[Card<'_>]) -> Machine {
        let mut args = disk.arguments();
        args.extend(["-m".into(), ram_mib.to_string()]);
        args.extend(more.iter().map(|arg| arg.to_string()));
        Self::start_from(args, 0x10, cards)
    }

    /// One with UEFI, without Secure Boot, that boots from a card by iPXE, and measures what it boots into a TPM.
    pub fn start_measured(tpm: &Tpm, ram_mib: u32, cards: &[Card<'_>]) -> Machine {
        let ovmf = Firmware::Uefi.find().expect("OVMF was looked for").expect("UEFI is a firmware of its own");
        let mut args = ["-machine", "q35,graphics=off", "-m"].map(String::from).to_vec();
        args.push(ram_mib.to_string());
        for (path, how) in [(ovmf.code, "readonly=on"), (ovmf.variables, "snapshot=on")] {
            args.extend(["-drive".into(), format!("if=pflash,format=raw,{how},file={}", path.display())]);
        }
        args.extend(tpm.arguments());
        Self::start_from(args, 0x10, cards)
    }

    /// `boots`: arguments for the machine, its memory, and what it boots.
    fn start_from(boots: Vec<String>, first_mac: usize, cards: &[Card<'_>]) -> Machine {
        let folder = new_folder();
        let file = |name: &str| folder.path().join(name).display().to_string();
        let mut args: Vec<String> =
            ["-nodefaults", "-no-user-config", "-display", "none", "-S"].map(String::from).into();
        args.extend(Engine::Tcg.arguments().map(String::from));
        args.extend(boots);
        for (key, value) in [
            ("-smp", "2".to_string()),
            // Nobody has to be connected: what the machine writes is in the log.
            (
                "-chardev",
                format!("socket,id=console,path={},server=on,wait=off,logfile={}", file("typed"), file("console")),
            ),
            ("-serial", "chardev:console".into()),
            ("-qmp", format!("unix:{},server=on,wait=off", file("qmp"))),
        ] {
            args.extend([key.to_string(), value]);
        }
        for (i, card) in cards.iter().enumerate() {
            let netdevs = match card {
                Card::Lan(lan) => lan.netdevs(&format!("net{i}")),
                Card::User | Card::Unplugged => vec![format!("user,id=net{i}")],
                Card::Ssh(port) => vec![format!("user,id=net{i},hostfwd=tcp:127.0.0.1:{port}-:22")],
                Card::Ipxe(port, address) => {
                    vec![format!("user,id=net{i},hostfwd=tcp:127.0.0.1:{port}-:22,bootfile={address}")]
                }
                Card::Cable(ours, theirs) => vec![lan::datagrams(&format!("net{i}"), *ours, *theirs)],
            };
            args.extend(netdevs.into_iter().flat_map(|netdev| ["-netdev".to_string(), netdev]));
            let mac = format!("52:54:00:00:00:{:02x}", first_mac + i);
            // The ROM that QEMU puts into a card is iPXE.
            let rom = if matches!(card, Card::Ipxe(..)) { "bootindex=0" } else { "romfile=" };
            // A bond by LACP takes only cards that know how fast they are.
            let device = format!("virtio-net-pci,id=card{i},netdev=net{i},mac={mac},speed=1000,duplex=full,{rom}");
            args.extend(["-device".into(), device]);
        }
        let mut qemu = Command::new(QEMU);
        qemu.args(&args).stdin(Stdio::null()).stdout(Stdio::null());
        let machine = Machine { qemu: qemu.spawn().expect("QEMU was found"), folder };
        for (i, _) in cards.iter().enumerate().filter(|(_, card)| matches!(card, Card::Unplugged)) {
            machine.plug(i, false);
        }
        machine.command("cont", json!({}));
        machine
    }

    /// The cable of a card.
    pub fn plug(&self, card: usize, in_: bool) {
        self.command("set_link", json!({ "name": format!("card{card}"), "up": in_ }));
    }

    /// One command of QEMU's machine protocol.
    fn command(&self, name: &str, arguments: serde_json::Value) {
        qmp(&self.folder.path().join("qmp"), name, arguments);
    }

    /// Asks the kernel for something by a key of its "magic SysRq" (Documentation/admin-guide/sysrq.rst): a break on the serial
    /// line, then the key. The kernel command line must have `sysrq_always_enabled`.
    pub fn sysrq(&self, key: u8) {
        let mut typed = UnixStream::connect(self.folder.path().join("typed")).expect("QEMU listens");
        self.command("chardev-send-break", json!({ "id": "console" }));
        typed.write_all(&[key]).expect("QEMU reads");
    }

    pub fn console(&self) -> String {
        console::read(&self.folder.path().join("console"))
    }

    #[track_caller]
    pub fn await_line(&self, text: &str) {
        self.await_lines(text, 1);
    }

    #[track_caller]
    pub fn await_lines(&self, text: &str, count: usize) {
        let started = std::time::Instant::now();
        while self.console().matches(text).count() < count {
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
