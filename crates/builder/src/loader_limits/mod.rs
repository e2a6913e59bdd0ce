//! What the loaders that `bootwright boot` writes for can take of an image: sizes, addresses, and the length of the kernel
//! command line. Pure; each limit has its source.
//!
//! No limit of ours: iPXE's commands for archives (`imgextract`), which not every iPXE has, as no script of ours unpacks anything;
//! the size of files on FAT, as nothing is written there; UEFI's HTTP boot, which loads nothing but the loader.

mod setup_header;
#[cfg(test)]
mod tests;
mod zstd_window;

pub use setup_header::SetupHeader;
pub use zstd_window::zstd_window;

use crate::budget::mb;
use crate::error::{Exit, Failure};
use serde::{Deserialize, Serialize};

/// `COMMAND_LINE_SIZE` of x86 (arch/x86/include/asm/setup.h) without the NUL: the kernel drops the rest.
pub const COMMAND_LINE: usize = 2047;
/// Room for what iPXE and the other loaders add: initrds, the card, and where root and manifest are.
pub const LOADERS_WORDS: usize = 256;

/// GRUB puts an initrd below this address, whatever the kernel says (`GRUB_LINUX_INITRD_MAX_ADDRESS`, include/grub/i386/linux.h),
/// and leaves the last 64 KiB free (grub-core/loader/i386/linux.c, `grub_cmd_initrd`). Since 2.12 not where UEFI hands over the initrd.
const GRUB_HIGHEST: u64 = 0x37ff_ffff - 0x1_0000;
/// Block numbers of TFTP have 16 bits, and the first one is 1 (RFC 1350, section 5).
const TFTP_BLOCKS: u64 = 65_535;
/// Loaders that fetch by TFTP, with the bytes of the blocks that they ask for (RFC 2348): GRUB (grub-core/net/tftp.c), PXELINUX
/// (core/pxelinux.asm, `TFTP_LARGEBLK`: 1440 less headers), iPXE (src/include/ipxe/tftp.h, `TFTP_MAX_BLKSIZE`).
const TFTP_LOADERS: [(&str, u64); 3] = [("GRUB", 1024), ("PXELINUX", 1408), ("iPXE", 1432)];
/// The kernel's decoder takes no larger window (lib/decompress_unzstd.c, `ZSTD_WINDOWSIZE_MAX`).
const ZSTD_WINDOW: u64 = 1 << 27;

/// What is looked at.
#[derive(Debug, Clone, Default)]
pub struct BootFiles {
    /// Absent: the kernel has none, so that only its size is known.
    pub header: Option<SetupHeader>,
    /// Bytes.
    pub kernel: u64,
    pub initrd: u64,
    /// Characters of the image's own kernel command line.
    pub command_line: usize,
    /// Declared windows in bytes, by segment.
    pub zstd_windows: Vec<(String, u64)>,
    /// RAM of the smallest machine that the recipe is for.
    pub ram_mib: Option<u64>,
}

/// Something that a loader cannot take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lint {
    pub severity: Severity,
    pub message: String,
    pub help: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// No machine boots it.
    Error,
    /// Some loader does not boot it; others do.
    Warning,
}

/// Compares an image with all limits.
pub fn check_limits(files: &BootFiles) -> Vec<Lint> {
    let mut lints = Vec::new();
    lints.extend(check_command_line(files));
    lints.extend(files.header.iter().flat_map(|header| check_addresses(files, header)));
    lints.extend(check_tftp(files));
    lints.extend(files.zstd_windows.iter().filter_map(|(segment, window)| check_window(segment, *window)));
    lints
}

/// An error of those that were found, all in one.
///
/// # Errors
/// A [`Failure`] with [`Exit::Usage`] when a machine could not boot the image.
pub fn refuse(recipe: &str, lints: &[Lint]) -> Result<(), Failure> {
    let errors: Vec<&Lint> = lints.iter().filter(|lint| lint.severity == Severity::Error).collect();
    let Some(first) = errors.first() else { return Ok(()) };
    let reasons: String = errors.iter().map(|lint| format!("\n  {}", lint.message)).collect();
    let message = format!("no machine could boot `{recipe}`{reasons}");
    Err(Failure { exit: Exit::Usage, message, help: Some(first.help.clone()) })
}

fn check_command_line(files: &BootFiles) -> Option<Lint> {
    let length = files.command_line;
    let limit = files.header.map_or(COMMAND_LINE, |header| header.cmdline_size as usize).min(COMMAND_LINE);
    let help = "take words out of `[kernel] cmdline`; services and their settings belong into files".into();
    match length {
        _ if length > limit => {
            let message = format!("the kernel command line has {length} characters, and the kernel reads {limit}");
            Some(Lint { severity: Severity::Error, message, help })
        }
        _ if length > limit - LOADERS_WORDS.min(limit) => {
            let message = format!(
                "the kernel command line has {length} characters of {limit}: less than {LOADERS_WORDS} are left for what loaders add"
            );
            Some(Lint { severity: Severity::Warning, message, help })
        }
        _ => None,
    }
}

/// The kernel unpacks itself to `pref_address` and takes `init_size` bytes there; the initrd lies above (Documentation/arch/x86/boot.rst).
fn check_addresses(files: &BootFiles, header: &SetupHeader) -> Vec<Lint> {
    let kernel_end = header.pref_address.saturating_add(header.init_size.into());
    let initrd = files.initrd.next_multiple_of(4096);
    let room = |highest: u64| (highest + 1).saturating_sub(kernel_end);
    let help = "leave the root on a server (`--root http`, `nbd`, ...), or take something out of the image";
    let warning = |message| Lint { severity: Severity::Warning, message, help: help.into() };
    let mut lints = Vec::new();
    if let Some(ram_mib) = files.ram_mib
        && kernel_end + initrd > ram_mib << 20
    {
        let message = format!(
            "kernel and initrd end at {} of memory where a loader puts one above the other: more than the {ram_mib} MiB of `ram_mib`",
            mb(kernel_end + initrd)
        );
        // That it is too large for the budget is the budget's to say.
        lints.push(warning(message));
    }
    let bios = room(header.initrd_addr_max.into());
    if initrd > bios {
        lints.push(warning(format!(
            "an initrd of {} does not fit below the address {:#x}, the highest that this kernel takes of a BIOS loader: iPXE and PXELINUX have {} for it",
            mb(files.initrd),
            header.initrd_addr_max,
            mb(bios)
        )));
    }
    let grub = room(GRUB_HIGHEST.min(header.initrd_addr_max.into()));
    if initrd > grub {
        lints.push(warning(format!(
            "an initrd of {} is too large for GRUB before 2.12, which has {} for it",
            mb(files.initrd),
            mb(grub)
        )));
    }
    lints
}

/// A file of N bytes takes a block more than go into N: the last one is shorter than the others, and may be empty.
fn check_tftp(files: &BootFiles) -> Option<Lint> {
    let largest = files.kernel.max(files.initrd);
    let too_long = TFTP_LOADERS.iter().filter(|(_, block)| largest / block + 1 > TFTP_BLOCKS);
    let loaders: Vec<String> =
        too_long.map(|(loader, block)| format!("{} blocks of {loader}'s {block} bytes", largest / block + 1)).collect();
    if loaders.is_empty() {
        return None;
    }
    let message = format!(
        "a file of {} takes {} over TFTP, and block numbers end at {TFTP_BLOCKS}: it depends on loader and server whether they begin again",
        mb(largest),
        loaders.join(", ")
    );
    Some(Lint { severity: Severity::Warning, message, help: "let loaders fetch it over HTTP".into() })
}

fn check_window(segment: &str, window: u64) -> Option<Lint> {
    let message = || {
        format!(
            "the zstd window of segment `{segment}` is {} MiB, and the kernel's decoder takes {} MiB",
            window >> 20,
            ZSTD_WINDOW >> 20
        )
    };
    let help = || "lower the level in `[pack]`".into();
    (window > ZSTD_WINDOW).then(|| Lint { severity: Severity::Error, message: message(), help: help() })
}

/// GRUB before 2.12 knows HTTP on port 80 only (grub-core/net/http.c, `HTTP_PORT`; NEWS of 2.12). `url`: of the boot server.
pub fn check_grub_server(url: &str) -> Option<Lint> {
    let authority = url.split_once("://").map_or(url, |(_, rest)| rest).split('/').next().unwrap_or_default();
    let (_, port) = authority.rsplit_once(':')?;
    // The end of an IPv6 address is no port.
    let port: u16 = port.parse().ok().filter(|_| !authority.ends_with(']'))?;
    let message = format!("GRUB before 2.12 fetches over HTTP from port 80 only, and the server is at port {port}");
    let help = "serve on port 80, or load GRUB and its files by TFTP".into();
    (port != 80).then_some(Lint { severity: Severity::Warning, message, help })
}
