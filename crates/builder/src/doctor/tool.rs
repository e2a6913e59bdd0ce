//! The host tools that recipes need, and how each is found.

use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A tool of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tool {
    /// PID1, built with this program; no image without it.
    Pid1,
    AptGet,
    DebianKeyring,
    Go,
    Mksquashfs,
    MkfsErofs,
    Qemu,
    IpxeRom,
    Ovmf,
    Dnsmasq,
    IpxeLoaders,
}

impl Tool {
    pub const ALL: [Self; 11] = [
        Self::Pid1,
        Self::AptGet,
        Self::DebianKeyring,
        Self::Go,
        Self::Mksquashfs,
        Self::MkfsErofs,
        Self::Qemu,
        Self::IpxeRom,
        Self::Ovmf,
        Self::Dnsmasq,
        Self::IpxeLoaders,
    ];

    /// As a person calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pid1 => "PID1 in this binary",
            Self::AptGet => "apt-get",
            Self::DebianKeyring => "Debian's archive keys",
            Self::Go => "go",
            Self::Mksquashfs => "mksquashfs",
            Self::MkfsErofs => "mkfs.erofs",
            Self::Qemu => "qemu-system-x86_64",
            Self::IpxeRom => "iPXE ROM for QEMU",
            Self::Ovmf => "UEFI firmware for QEMU",
            Self::Dnsmasq => "dnsmasq",
            Self::IpxeLoaders => "iPXE for TFTP",
        }
    }

    pub fn purpose(self) -> &'static str {
        match self {
            Self::Pid1 => "every image",
            Self::AptGet => "resolving and verifying Debian packages",
            Self::DebianKeyring => "checking Debian's signatures",
            Self::Go => "building programs from Go modules",
            Self::Mksquashfs => "roots with image = \"squashfs\"",
            Self::MkfsErofs => "roots with image = \"erofs\"",
            Self::Qemu => "bootwright smoke",
            Self::IpxeRom => "bootwright smoke --via ipxe",
            Self::Ovmf => "bootwright smoke --firmware uefi",
            Self::Dnsmasq | Self::IpxeLoaders => "bootwright serve with DHCP",
        }
    }

    /// Debian's and Ubuntu's package, where one command can bring the tool.
    pub fn package(self) -> Option<&'static str> {
        match self {
            // No package: PID1 comes with the build, and a distribution's Go is often older than what a recipe needs.
            Self::Pid1 | Self::Go => None,
            Self::AptGet => Some("apt"),
            Self::DebianKeyring => Some("debian-archive-keyring"),
            Self::Mksquashfs => Some("squashfs-tools"),
            Self::MkfsErofs => Some("erofs-utils"),
            Self::Qemu => Some("qemu-system-x86"),
            Self::IpxeRom => Some("ipxe-qemu"),
            Self::Ovmf => Some("ovmf"),
            Self::Dnsmasq => Some("dnsmasq-base"),
            Self::IpxeLoaders => Some("ipxe"),
        }
    }

    /// What to do where no package manager that we know can bring it.
    pub fn hint(self) -> &'static str {
        match self {
            Self::Pid1 => {
                "run `rustup target add x86_64-unknown-linux-musl` and `rustup component add rust-src`, \
                 and build bootwright again"
            }
            Self::AptGet => {
                "build on Debian or Ubuntu (a container does), or take the lock and the cache from a machine that has apt"
            }
            Self::DebianKeyring => "put Debian's keyring at /usr/share/keyrings/debian-archive-keyring.gpg",
            Self::Go => {
                "run `scripts/setup.sh image` of bootwright's own checkout, or unpack Go's archive (https://go.dev/dl/) to /usr/local/go"
            }
            Self::Mksquashfs => "install squashfs-tools",
            Self::MkfsErofs => "install erofs-utils",
            Self::Qemu => "install QEMU's system emulator for x86",
            Self::IpxeRom => "install iPXE's ROMs for QEMU (often named ipxe-roms-qemu)",
            Self::Ovmf => "install OVMF (often named edk2-ovmf)",
            Self::Dnsmasq => "install dnsmasq",
            Self::IpxeLoaders => "install iPXE's undionly.kpxe and ipxe.efi, and name their folder with --loaders",
        }
    }
}

/// A tool as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    pub path: Option<PathBuf>,
    /// As the tool says it; absent where it says none.
    pub version: Option<String>,
}

/// Looks for tools; the tests have another one.
pub trait Host {
    /// All of them where several versions may stand side by side, as those of Go do; in the order in which they are tried.
    fn find(&self, tool: Tool) -> Vec<Found>;
}

/// The machine that this runs on.
#[derive(Debug)]
pub struct ThisHost {
    /// PID1 was built with this program.
    pub has_pid1: bool,
}

impl Host for ThisHost {
    fn find(&self, tool: Tool) -> Vec<Found> {
        let one = match tool {
            Tool::Go => return find_go(),
            Tool::Pid1 => self.has_pid1.then_some(Found { path: None, version: None }),
            Tool::AptGet => find_program("apt-get", "--version"),
            Tool::DebianKeyring => find_keyring(),
            Tool::Mksquashfs => find_program("mksquashfs", "-version"),
            Tool::MkfsErofs => find_program("mkfs.erofs", "-V"),
            Tool::Qemu => find_program(crate::smoke::QEMU, "--version"),
            Tool::IpxeRom => find_ipxe_rom(),
            Tool::Ovmf => find_ovmf(),
            Tool::Dnsmasq => find_program("dnsmasq", "--version"),
            Tool::IpxeLoaders => find_loaders(),
        };
        one.into_iter().collect()
    }
}

fn find_program(name: &str, version_flag: &str) -> Option<Found> {
    let mut path = std::env::var_os("PATH")?;
    // Debian has daemons in folders that are not on everybody's path.
    path.push(":/usr/sbin:/sbin");
    let path = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|p| is_program(p))?;
    let version = run(&path, &[version_flag]).as_deref().and_then(parse_version);
    Some(Found { path: Some(path), version })
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// Every `go` that the Go source finds, beyond PATH too.
fn find_go() -> Vec<Found> {
    let found = crate::source::go::Toolchain::find_all("doctor", true).unwrap_or_default();
    let found = found.into_iter();
    found.map(|go| Found { path: Some(go.go), version: Some(go.version.trim_start_matches("go").into()) }).collect()
}

fn find_keyring() -> Option<Found> {
    let path = crate::source::deb::apt::KEYRINGS.iter().map(PathBuf::from).find(|path| path.is_file())?;
    Some(Found { path: Some(path), version: None })
}

/// The option ROM of QEMU's virtio network card, in one of the folders where this QEMU looks for firmware (`-L help`).
fn find_ipxe_rom() -> Option<Found> {
    let qemu = find_program(crate::smoke::QEMU, "--version")?.path?;
    let folders = run(&qemu, &["-L", "help"])?;
    let rom = folders.lines().map(|dir| Path::new(dir.trim()).join("efi-virtio.rom")).find(|rom| rom.is_file())?;
    Some(Found { path: Some(rom), version: None })
}

fn find_ovmf() -> Option<Found> {
    let ovmf = crate::smoke::Firmware::Uefi.find().ok()??;
    Some(Found { path: Some(ovmf.code), version: None })
}

fn find_loaders() -> Option<Found> {
    let folder = Path::new(crate::serve::LOADERS_PLACE);
    let all = crate::chain::LOADERS.iter().all(|name| folder.join(name).is_file());
    all.then(|| Found { path: Some(folder.into()), version: None })
}

/// What a program prints, on either stream; mksquashfs ends with status 1 after its version, so that is not looked at.
fn run(program: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).env("LC_ALL", "C").stdin(Stdio::null()).output().ok()?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Some(text)
}

/// The first word with a digit first and a dot in it: `mksquashfs version 4.5.1 (2022/03/17)`, `apt 2.6.1 (amd64)`.
fn parse_version(text: &str) -> Option<String> {
    let first = text.lines().next()?;
    let word =
        first.split([' ', '(', ')', ',']).find(|w| w.starts_with(|c: char| c.is_ascii_digit()) && w.contains('.'))?;
    Some(word.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_as_tools_say_them() {
        let cases = [
            ("apt 2.6.1 (amd64)\n", Some("2.6.1")),
            ("mksquashfs version 4.5.1 (2022/03/17)\n", Some("4.5.1")),
            ("mkfs.erofs 1.5\n", Some("1.5")),
            ("mkfs.erofs (erofs-utils) 1.8.6\n", Some("1.8.6")),
            ("Dnsmasq version 2.90  Copyright (c) 2000-2024 Simon Kelley\n", Some("2.90")),
            ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\n", Some("7.2.22")),
            ("no version here\n1.2\n", None),
        ];
        for (text, version) in cases {
            assert_eq!(parse_version(text).as_deref(), version, "{text}");
        }
    }
}
