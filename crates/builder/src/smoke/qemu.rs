//! The QEMU command line of a smoke boot. Pure: nothing is started here.

use super::{Ovmf, Via};
use crate::nodes::Mac;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The program that boots images.
pub const QEMU: &str = "qemu-system-x86_64";

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    Kvm,
    Tcg,
}

impl Engine {
    /// `-accel` and `-cpu`. TCG runs all CPUs of the guest in one thread: with a thread each, QEMU 7.2 crashed
    /// Debian 13's kernel in some boots. A CPU that claims fast `rep movsb` makes Linux copy byte by byte, and a byte takes
    /// TCG as long as the eight of `rep movsq`.
    pub fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => ["-accel", "tcg,thread=single", "-cpu", "max,-erms,-fsrm"],
        }
    }
}

/// One boot: what is loaded, and how big the machine is.
#[derive(Debug, Clone)]
pub struct Boot {
    /// Folder with `vmlinuz`, `initrd.img` and `boot.ipxe`.
    pub image_dir: PathBuf,
    pub engine: Engine,
    pub ram_mib: u32,
    pub smp: u32,
    pub via: Via,
    /// UEFI's; absent: QEMU's own BIOS.
    pub firmware: Option<Ovmf>,
    pub mac: Option<Mac>,
    pub uuid: Option<String>,
    /// The whole kernel command line; with iPXE it is in the script instead.
    pub cmdline: String,
    /// `root.img` is fetched from a server of ours.
    pub serves_root: bool,
}

/// How a running QEMU is reached; absent in the command that a person runs.
#[derive(Debug, Clone, Copy)]
pub struct Wiring<'a> {
    /// File that gets the bytes of the second serial port.
    pub timeline: &'a Path,
    /// Unix socket for the third serial port.
    pub logs: &'a Path,
    /// Unix socket for QMP.
    pub qmp: &'a Path,
}

/// iPXE by TFTP: the folder that QEMU serves and the script's path below it.
#[derive(Debug, Clone)]
pub struct Tftp<'a> {
    pub dir: &'a Path,
    pub bootfile: String,
}

/// Arguments without the program. `ssh_port` is the port on 127.0.0.1 that leads to the guest's port 22; 0 takes a free one.
pub fn arguments(boot: &Boot, wiring: Option<Wiring<'_>>, tftp: &Tftp<'_>, ssh_port: u16) -> Vec<OsString> {
    let mut args: Vec<OsString> = Vec::new();
    let mut add = |words: &[&str]| args.extend(words.iter().map(OsString::from));
    add(&["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    // graphics=off makes SeaBIOS, and with it iPXE, talk on the first serial port.
    add(&["-machine", "q35,graphics=off"]);
    if let Some(ovmf) = &boot.firmware {
        for (path, rest) in [(&ovmf.code, "readonly=on"), (&ovmf.variables, "snapshot=on")] {
            let mut drive = OsString::from(format!("if=pflash,format=raw,{rest},file="));
            drive.push(escape_commas(path));
            args.extend(["-drive".into(), drive]);
        }
    }
    let mut add = |words: &[&str]| args.extend(words.iter().map(OsString::from));
    add(&boot.engine.arguments());
    add(&["-smp", &boot.smp.to_string(), "-m", &boot.ram_mib.to_string()]);
    if let Some(uuid) = &boot.uuid {
        add(&["-uuid", uuid]);
    }
    match wiring {
        Some(wiring) => {
            add(&["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console", "-chardev"]);
            args.push(join("file,id=timeline,path=", wiring.timeline));
            args.extend(["-serial", "chardev:timeline", "-chardev"].map(OsString::from));
            args.push(listening("socket,id=logs,path=", wiring.logs));
            args.extend(["-serial", "chardev:logs", "-qmp"].map(OsString::from));
            args.push(listening("unix:", wiring.qmp));
        }
        // With the monitor on the same terminal, so that Ctrl-A X ends it.
        None => add(&["-serial", "mon:stdio", "-serial", "null", "-serial", "null"]),
    }
    let mut netdev = OsString::from(format!("user,id=net,hostfwd=tcp:127.0.0.1:{ssh_port}-:22"));
    if boot.via == Via::Ipxe {
        netdev.push(",tftp=");
        netdev.push(escape_commas(tftp.dir));
        netdev.push(format!(",bootfile={}", tftp.bootfile));
    }
    args.extend(["-netdev".into(), netdev, "-device".into()]);
    let mac = boot.mac.map(|mac| format!(",mac={mac}")).unwrap_or_default();
    match boot.via {
        Via::Kernel => {
            args.push(format!("virtio-net-pci,netdev=net,romfile={mac}").into());
            args.extend(["-kernel".into(), boot.image_dir.join("vmlinuz").into()]);
            args.extend(["-initrd".into(), boot.image_dir.join("initrd.img").into()]);
            args.extend(["-append".into(), OsString::from(&boot.cmdline)]);
        }
        Via::Ipxe => args.push(format!("virtio-net-pci,netdev=net,bootindex=0{mac}").into()),
    }
    args
}

fn join(prefix: &str, path: &Path) -> OsString {
    let mut out = OsString::from(prefix);
    out.push(escape_commas(path));
    out
}

/// A unix socket to which somebody may connect at any time.
fn listening(prefix: &str, path: &Path) -> OsString {
    let mut out = join(prefix, path);
    out.push(",server=on,wait=off");
    out
}

/// QEMU's option parser reads `,,` as a comma (qemu(1), "-drive": "If your filename contains a comma").
fn escape_commas(path: &Path) -> OsString {
    match path.to_str() {
        Some(text) => text.replace(',', ",,").into(),
        None => path.into(),
    }
}

/// A command as a line that a POSIX shell reads back to the same words.
pub fn shell_line(program: &str, args: &[OsString]) -> String {
    let mut line = program.to_string();
    for arg in args {
        line.push(' ');
        line.push_str(&shell_word(&arg.to_string_lossy()));
    }
    line
}

fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn boot(via: Via) -> Boot {
        Boot {
            image_dir: "/out dir/worker".into(),
            engine: Engine::Tcg,
            ram_mib: 512,
            smp: 2,
            via,
            firmware: None,
            mac: None,
            uuid: None,
            cmdline: "console=ttyS0 it's=\"x\"".into(),
            serves_root: false,
        }
    }

    #[test]
    fn a_shell_reads_the_command_back() {
        let tftp = Tftp { dir: Path::new("/o,ut"), bootfile: "smoke/rerun.ipxe".into() };
        for via in [Via::Kernel, Via::Ipxe] {
            let args = arguments(&boot(via), None, &tftp, 2222);
            let line = shell_line("printf '%s\\n'", &args);
            let out = Command::new("sh").arg("-c").arg(line).output().unwrap();
            let words: Vec<String> = args.iter().map(|a| a.to_string_lossy().into()).collect();
            assert_eq!(String::from_utf8_lossy(&out.stdout).lines().collect::<Vec<_>>(), words);
        }
    }

    #[test]
    fn uefi_and_mac() {
        let firmware = Some(Ovmf { code: "/fw/code".into(), variables: "/fw,vars".into() });
        let boot = Boot {
            firmware,
            mac: crate::nodes::parse_mac("52:54:00:00:00:01"),
            uuid: Some("0e3c1a5b-0000-4000-8000-0123456789ab".into()),
            ..boot(Via::Ipxe)
        };
        let tftp = Tftp { dir: Path::new("/o"), bootfile: "x".into() };
        let line = shell_line(QEMU, &arguments(&boot, None, &tftp, 0));
        assert!(line.contains("-drive if=pflash,format=raw,readonly=on,file=/fw/code "), "{line}");
        assert!(line.contains("-drive if=pflash,format=raw,snapshot=on,file=/fw,,vars "), "{line}");
        assert!(line.contains(" -uuid 0e3c1a5b-0000-4000-8000-0123456789ab "), "{line}");
        assert!(line.ends_with("virtio-net-pci,netdev=net,bootindex=0,mac=52:54:00:00:00:01"), "{line}");
    }

    #[test]
    fn each_way_loads_the_image() {
        let tftp = Tftp { dir: Path::new("/o,ut"), bootfile: "smoke/rerun.ipxe".into() };
        let wiring = Wiring { timeline: Path::new("/t"), logs: Path::new("/l"), qmp: Path::new("/q") };
        let direct = shell_line(QEMU, &arguments(&boot(Via::Kernel), Some(wiring), &tftp, 0));
        assert!(direct.contains("-kernel '/out dir/worker/vmlinuz' -initrd '/out dir/worker/initrd.img'"), "{direct}");
        assert!(direct.contains("file,id=timeline,path=/t") && direct.contains("unix:/q,"), "{direct}");
        assert!(direct.contains("socket,id=logs,path=/l,server=on,wait=off -serial chardev:logs"), "{direct}");
        assert!(!direct.contains("tftp="), "{direct}");
        let ipxe = shell_line(QEMU, &arguments(&boot(Via::Ipxe), None, &tftp, 2222));
        assert!(ipxe.contains("127.0.0.1:2222-:22,tftp=/o,,ut,bootfile=smoke/rerun.ipxe"), "{ipxe}");
        assert!(!ipxe.contains("-kernel") && !ipxe.contains("-append"), "{ipxe}");
    }
}
