//! The tools of the host that recipes need.

use serde::Serialize;
use std::collections::BTreeSet;

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
    Openssl,
}

impl Tool {
    pub const ALL: [Self; 12] = [
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
        Self::Openssl,
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
            Self::Openssl => "openssl",
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
            Self::Openssl => "build --module-key, boot --codesign-key",
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
            Self::Openssl => Some("openssl"),
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
            Self::Openssl => "install openssl",
        }
    }
}

/// What a recipe, or one of its sources, asks of the host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needs {
    /// Without these it cannot be built.
    pub build: BTreeSet<Tool>,
    /// Without these its image cannot be tried here.
    pub smoke: BTreeSet<Tool>,
    /// The Go that the lock pins: `1.26.8`. An older one cannot build it, a newer one not as it is locked.
    pub go: Option<String>,
}
