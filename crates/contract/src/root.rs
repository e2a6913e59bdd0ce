//! The part of the boot config about the root: where it comes from, how it is proven, what is laid over it.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    pub mode: RootMode,
    /// URLs of the root, tried in turn: `nbd://10.0.0.1/worker`. An empty host is the boot server (DHCP). Empty with
    /// [`RootMode::Ram`]; else empty means that the command line or DHCP option 17 names the root.
    pub sources: Vec<String>,
    /// What the root is. Over NFS it is always the files themselves.
    pub image: RootImage,
    /// Size of the root image in bytes; absent when it comes with the initramfs, where the segment's sums hold it.
    pub size: Option<u64>,
    /// SHA-256 of the root image, hex; absent when it comes with the initramfs.
    pub sha256: Option<String>,
    /// How the root image is proven where it is a disk of a server; absent when it comes with the initramfs.
    pub verity: Option<Verity>,
    /// XXH64 (seed 0, 16 hex digits) of a root that may come over NFS: of all files of the exported tree but kernel modules, one
    /// after another in the order of its sums. The server can give out other bytes whenever they are read again, so that only
    /// accidents have to be found. Not used with `trust`.
    pub tree_xxh64: Option<String>,
    /// SHA-256 (hex) of the sums file that the exported tree of an NFS root holds, [`crate::paths::SUMS`]`/root`.
    pub tree_sums_sha256: Option<String>,
    /// Seconds that the server of the root may stay lost before the machine reboots; absent: it is tried for ever, and what needs the
    /// root waits.
    pub lost_reboot_s: Option<u32>,
    /// Seconds from the first block that a server gives out otherwise than it was packed to a reboot; absent: it is refused and told,
    /// no more.
    pub corrupted_reboot_s: Option<u32>,
    /// Who may give out root images that this initrd does not know; absent: only the one of `sha256` is taken.
    pub trust: Option<Trust>,
    /// Size of the tmpfs that takes writes to `/` (the overlay's upper), as tmpfs's `size=` reads it: `32M`, `20%`; or a
    /// share ([`MemoryPlan::share`](crate::MemoryPlan::share)).
    pub overlay_size: String,
    /// Read-ahead of the image's loop device in KiB; absent: the kernel's own.
    pub read_ahead_kb: Option<u32>,
    /// More tmpfs mounts, made after the switch.
    pub tmpfs: Vec<Tmpfs>,
}

/// Container images that are baked into an image file of their own beside the root, [`crate::paths::IMAGES_FILE`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Images {
    /// SHA-256 of the file, hex: names this set of images, and what a web server sends is compared with it.
    pub sha256: String,
    /// Size of the file in bytes, with its hash tree.
    pub size: u64,
    /// How a file that stays on a server is proven while it is read; absent when it comes with the initramfs, where the segment's
    /// sums hold it.
    pub verity: Option<Verity>,
    /// containerd's `root`, which gets a copy of the folder [`crate::paths::IMAGES_SEED`] when it holds another set of images or none.
    pub store: String,
}

/// A device whose blocks are compared with a tree of hashes whenever they are read (Documentation/admin-guide/device-mapper/verity.rst):
/// hash type 1, SHA-256 without salt, blocks of 4096 bytes. The tree follows the data, without a superblock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verity {
    /// Blocks of data.
    pub blocks: u64,
    /// Hash of the top of the tree, 64 hex digits.
    pub root_hash: String,
}

macro_rules! root_modes {
    ($($(#[doc = $doc:literal])* $mode:ident => $word:literal,)*) => {
        /// Where the root is when the machine runs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum RootMode {
            $($(#[doc = $doc])* #[serde(rename = $word)] $mode,)*
        }

        impl RootMode {
            /// All modes.
            pub const ALL: &[RootMode] = &[$(RootMode::$mode),*];
            /// Their words, in that order.
            pub const WORDS: &[&'static str] = &[$($word),*];

            /// The word in recipes, boot configs and messages.
            pub const fn word(self) -> &'static str {
                match self {
                    $(RootMode::$mode => $word,)*
                }
            }
        }
    };
}

root_modes! {
    /// The root comes with the initramfs.
    Ram => "ram",
    /// The root image is fetched into memory.
    Http => "http",
    /// The root's files are mounted.
    Nfs => "nfs",
    /// The root image is a disk of an iSCSI target.
    Iscsi => "iscsi",
    /// The root image is an export of an NBD server.
    Nbd => "nbd",
}

/// Whose signed [`crate::manifest::RootManifest`] is believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// Ed25519 public key (RFC 8032), hex.
    pub key: String,
    /// Serial of the image that was built with this initrd.
    pub serial: u64,
    /// Refuse images with a lower one.
    pub refuse_downgrade: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RootImage {
    /// [`crate::paths::ROOT_IMAGE`] is a squashfs, mounted by loop below an overlay.
    Squashfs,
    /// The same with erofs.
    Erofs,
    /// [`crate::paths::ROOT_TREE`] holds the files.
    Cpio,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tmpfs {
    /// Absolute path on the node, made when it is missing.
    pub path: String,
    /// `size=` of tmpfs(5), or a share ([`MemoryPlan::share`](crate::MemoryPlan::share)).
    pub size: String,
    /// Octal mode of its root folder, such as `0755`.
    pub mode: String,
    /// It grows a little while it is full, up to 1 MiB and 256 files, so that what has to clear it can write.
    pub reserve: bool,
}
