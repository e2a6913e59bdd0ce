//! How much RAM a machine needs to unpack an initramfs, and to live with what it unpacked.
//!
//! The kernel's rules, each with its source:
//! - The compressed initrd stays reserved until all of it is unpacked (`init/initramfs.c`, `do_populate_rootfs`).
//! - The rootfs is a tmpfs. Its limit is half of the pages that are free to use when it is made, and the initrd is
//!   not among them (`mm/shmem.c`, `shmem_default_max_blocks`; `init/do_mounts.c`, `init_rootfs`). The parameter
//!   `initramfs_options=size=N%` sets another part. `rootfstype=ramfs` has no limit.
//! - A file occupies whole pages of 4096 bytes.
//!
//! The kernel's own share was measured with Debian 13's generic kernel 6.12 in QEMU at 256 MiB; the tests hold the
//! model against boots of other images that failed and that went well.

use crate::recipe::Compression;
use serde::{Deserialize, Serialize};

const MIB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;

/// `Memory: .../262144K available (... 54068K reserved)` at 256 MiB: what the kernel withholds before it unpacks, less
/// the page structures, which grow with RAM.
pub const KERNEL_AT_UNPACK: u64 = 54_068 * KIB - 256 * MIB / PAGE_STRUCTURES;
/// MemTotal 215,292 kB at 256 MiB once it runs, less the page structures.
pub const KERNEL_RUNNING: u64 = (262_144 - 215_292) * KIB - 256 * MIB / PAGE_STRUCTURES;
/// What the kernel takes for its drivers, which start while it unpacks: between 9.8 and 12.8 MiB, says the test of the model by
/// boots of network roots.
pub const KERNEL_STARTING: u64 = 12 * MIB;
/// `struct page` is 64 bytes for each page of 4096 (`include/linux/mm_types.h`).
pub const PAGE_STRUCTURES: u64 = 4096 / 64;

/// One part of a need.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RamTerm {
    pub name: String,
    pub bytes: u64,
    /// The rule or measurement that it comes from.
    pub source: String,
}

/// A sum of terms, and the smallest RAM that holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RamNeed {
    pub terms: Vec<RamTerm>,
    /// MiB, rounded up.
    pub ram_mib: u64,
}

/// What the initrd is, as far as the kernel's unpacking is concerned. Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Initrd {
    /// Of the file, as it lies in RAM.
    pub packed: u64,
    /// Pages of the unpacked files.
    pub content: u64,
    /// The largest window (dictionary) of its decoders.
    pub window: u64,
    pub limit: RootfsLimit,
}

/// How large the rootfs may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootfsLimit {
    /// Percent of the RAM that is usable then.
    Percent(u64),
    /// ramfs.
    None,
}

/// Reads `initramfs_options=size=N%` and `rootfstype=` (Documentation/admin-guide/kernel-parameters.txt).
/// `root=` alone makes the kernel choose ramfs (`init/do_mounts.c`, `init_rootfs`).
pub fn parse_rootfs_limit(cmdline: &[String]) -> RootfsLimit {
    let mut words = cmdline.iter().flat_map(|part| part.split_ascii_whitespace());
    let value = |key: &str| words.clone().rev().find_map(|word| word.strip_prefix(key));
    match value("rootfstype=") {
        Some(kinds) if kinds.contains("tmpfs") => {}
        Some(_) => return RootfsLimit::None,
        None if value("root=").is_some() => return RootfsLimit::None,
        None => {}
    }
    let options = words.find_map(|word| word.strip_prefix("initramfs_options="));
    let percent = options
        .and_then(|options| options.split(',').find_map(|o| o.strip_prefix("size=")?.strip_suffix('%')))
        .and_then(|percent| percent.parse().ok())
        .filter(|percent| (1..=100).contains(percent));
    RootfsLimit::Percent(percent.unwrap_or(50))
}

/// What the kernel's zstd decoder takes beside the window: a block each for input and output, its buffer of output (128 KiB
/// each, lib/decompress_unzstd.c), and its tables (`ZSTD_DCtx`, about as much).
const ZSTD_BESIDE: u64 = 4 * 128 * KIB;

/// What decoding takes: dictionary sizes of xz's presets (xz(1)), window logs of zstd's levels (zstd/lib/compress/clevels.h), each
/// bounded as the packer bounds it.
pub fn decoder_window(how: Compression, unpacked: u64) -> u64 {
    match how {
        Compression::None => 0,
        Compression::Gzip(_) => 32 * KIB,
        // Allocated as declared, however small the content is.
        Compression::Xz { level, .. } => match level {
            0 => 256 * KIB,
            1 | 2 => u64::from(level) * MIB,
            3 | 4 => 4 * MIB,
            5 | 6 => 8 * MIB,
            7 => 16 * MIB,
            _ => 32 * MIB,
        },
        // A frame whose content fits the window says its size in the window's place (RFC 8878, 3.1.1.1.2).
        Compression::Zstd(level) => {
            let window = match level {
                ..=19 => 8 * MIB,
                20 => 32 * MIB,
                21 => 64 * MIB,
                _ => 128 * MIB,
            };
            window.min(unpacked) + ZSTD_BESIDE
        }
    }
}

/// RAM at the peak of unpacking.
pub fn unpack_need(initrd: Initrd) -> RamNeed {
    let Initrd { packed, content, window, limit } = initrd;
    let mut terms = vec![
        term("kernel while unpacking", KERNEL_AT_UNPACK, "measured: 54068K reserved at 256 MiB, Debian 13 kernel 6.12"),
        term("initrd as loaded", pages(packed), "kept until all of it is unpacked (init/initramfs.c)"),
        term("unpacked content", content, "tmpfs pages, each file rounded up to 4096 bytes"),
    ];
    let beyond_limit = match limit {
        RootfsLimit::Percent(percent) => content * (100 - percent) / percent,
        RootfsLimit::None => 0,
    };
    match limit {
        RootfsLimit::Percent(percent) if beyond_limit >= window + KERNEL_STARTING => terms.push(term(
            "what the rootfs may not fill",
            beyond_limit,
            &format!("tmpfs limit of {percent} % of the RAM without kernel and initrd (mm/shmem.c)"),
        )),
        _ => terms.extend([
            term(
                "decoder's window",
                window,
                "of the compressor's level, or as large as the content (lib/decompress_*.c)",
            ),
            term("drivers that start meanwhile", KERNEL_STARTING, "measured: boots of two initrds of a network root"),
        ]),
    }
    sum(terms)
}

/// What of the root is in memory. Bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RootInRam {
    /// Pages of the root segment.
    Segment(u64),
    /// An image that PID1 has fetched into a tmpfs.
    Fetched(u64),
    /// Nothing that could not be read again: it is on a server.
    Elsewhere,
}

/// RAM once the root is mounted. `config`: resident bytes that stay; `boot`: of the boot segment, whose modules
/// are then loaded; `images`: of container images that are in memory; `workload`: what the recipe states.
pub fn steady_need(boot: u64, root: RootInRam, images: u64, config: u64, workload_mib: Option<u64>) -> RamNeed {
    let source = match workload_mib {
        Some(_) => "[budget] workload_mib of the recipe: processes and their page cache, measured",
        None => "not stated: set [budget] workload_mib from a measurement",
    };
    let mut terms = vec![
        term("kernel", KERNEL_RUNNING, "measured: MemTotal 215292 kB at 256 MiB, Debian 13 kernel 6.12"),
        term(
            "PID1 and early modules",
            boot,
            "pages of the boot segment; loaded modules occupy about what their files do",
        ),
        match root {
            RootInRam::Segment(bytes) => term("root", bytes, "pages of the root segment: the image stays in RAM"),
            RootInRam::Fetched(bytes) => term("root", pages(bytes), "pages of the image: it is fetched into a tmpfs"),
            RootInRam::Elsewhere => term("root", 0, "on its server; what is read of it is page cache"),
        },
        term("configs and overlays", config, "pages of the config segment, copied over the root"),
        term("workload", workload_mib.unwrap_or(0) * MIB, source),
    ];
    if images > 0 {
        terms.insert(3, term("container images", images, "pages of the baked images, packed: they stay in RAM"));
    }
    sum(terms)
}

fn term(name: &str, bytes: u64, source: &str) -> RamTerm {
    RamTerm { name: name.into(), bytes, source: source.into() }
}

/// Adds the page structures, which are a part of the RAM that is looked for: RAM = terms + RAM / 64.
fn sum(mut terms: Vec<RamTerm>) -> RamNeed {
    let fixed: u64 = terms.iter().map(|term| term.bytes).sum();
    let ram_mib = (fixed * PAGE_STRUCTURES).div_ceil((PAGE_STRUCTURES - 1) * MIB);
    terms.insert(1, term("page structures", ram_mib * MIB / PAGE_STRUCTURES, "64 bytes for each page (mm_types.h)"));
    RamNeed { terms, ram_mib }
}

fn pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(4096)
}
