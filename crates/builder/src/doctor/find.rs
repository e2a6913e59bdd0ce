//! How each tool of the host is found.

use crate::tool::Tool;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A tool as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InstalledTool {
    pub path: Option<PathBuf>,
    /// As the tool says it; absent where it says none.
    pub version: Option<String>,
}

/// Looks for tools; the tests have another one.
pub trait ToolFinder {
    /// All of them where several versions may stand side by side, as those of Go do; in the order in which they are tried.
    fn find(&self, tool: Tool) -> Vec<InstalledTool>;
}

/// The machine that this runs on.
#[derive(Debug)]
pub struct ThisHost {
    /// PID1 was built with this program.
    pub has_pid1: bool,
}

impl ToolFinder for ThisHost {
    fn find(&self, tool: Tool) -> Vec<InstalledTool> {
        let one = match tool {
            Tool::Go => return find_go(),
            Tool::Pid1 => self.has_pid1.then_some(InstalledTool { path: None, version: None }),
            Tool::AptGet => find_program("apt-get", "--version"),
            Tool::DebianKeyring => find_keyring(),
            Tool::Mksquashfs => find_program("mksquashfs", "-version"),
            Tool::MkfsErofs => find_program("mkfs.erofs", "-V"),
            Tool::Qemu => find_program(crate::smoke::QEMU, "--version"),
            Tool::IpxeRom => find_ipxe_rom(),
            Tool::Ovmf => find_ovmf(),
            Tool::Dnsmasq => find_program("dnsmasq", "--version"),
            Tool::IpxeLoaders => find_loaders(),
            Tool::Openssl => find_program("openssl", "version"),
        };
        one.into_iter().collect()
    }
}

fn find_program(name: &str, version_flag: &str) -> Option<InstalledTool> {
    let mut path = std::env::var_os("PATH")?;
    // Debian has daemons in folders that are not on everybody's path.
    path.push(":/usr/sbin:/sbin");
    let path = std::env::split_paths(&path).map(|dir| dir.join(name)).find(|p| is_program(p))?;
    let version = run(&path, &[version_flag]).as_deref().and_then(parse_version);
    Some(InstalledTool { path: Some(path), version })
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// Every `go` that the Go source finds, beyond PATH too.
fn find_go() -> Vec<InstalledTool> {
    let found = crate::source::go::Toolchain::find_all("doctor", true).unwrap_or_default();
    let found = found.into_iter();
    found
        .map(|go| InstalledTool { path: Some(go.go), version: Some(go.version.trim_start_matches("go").into()) })
        .collect()
}

fn find_keyring() -> Option<InstalledTool> {
    let path = crate::source::deb::apt::KEYRINGS.iter().map(PathBuf::from).find(|path| path.is_file())?;
    Some(InstalledTool { path: Some(path), version: None })
}

/// The option ROM of QEMU's virtio network card, in one of the folders where this QEMU looks for firmware (`-L help`).
fn find_ipxe_rom() -> Option<InstalledTool> {
    let qemu = find_program(crate::smoke::QEMU, "--version")?.path?;
    let folders = run(&qemu, &["-L", "help"])?;
    let rom = folders.lines().map(|dir| Path::new(dir.trim()).join("efi-virtio.rom")).find(|rom| rom.is_file())?;
    Some(InstalledTool { path: Some(rom), version: None })
}

fn find_ovmf() -> Option<InstalledTool> {
    let ovmf = crate::smoke::Firmware::Uefi.find().ok()??;
    Some(InstalledTool { path: Some(ovmf.code), version: None })
}

fn find_loaders() -> Option<InstalledTool> {
    let folder = Path::new(crate::serve::LOADERS_PLACE);
    let all = crate::chain::LOADERS.iter().all(|name| folder.join(name).is_file());
    all.then(|| InstalledTool { path: Some(folder.into()), version: None })
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
