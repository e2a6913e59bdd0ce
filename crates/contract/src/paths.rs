//! Places inside the initramfs and on the running node that both sides rely on.

/// Everything that PID1 reads before the root is mounted lies below this folder of the initramfs.
pub const STAGE: &str = "/bootwright";
/// The [`crate::BootConfig`] as JSON, in the last (volatile) segment.
pub const BOOT_CONFIG: &str = "/bootwright/boot.json";
/// One [`crate::sums`] file a segment: `<SUMS>/<segment>`.
pub const SUMS: &str = "/bootwright/sums";
/// The root as a compressed image (`[root] image = "squashfs" | "erofs"`).
pub const ROOT_IMAGE: &str = "/bootwright/root.img";
/// The root as unpacked files (`[root] image = "cpio"`).
pub const ROOT_TREE: &str = "/bootwright/root";
/// Container images that are baked in: a squashfs, in the initramfs and in the tree of an NFS root.
pub const IMAGES_FILE: &str = "/bootwright/images.img";
/// Where PID1 mounts it, read-only.
pub const IMAGES: &str = "/run/images";
/// Below [`IMAGES`]: what containerd's root is filled with.
pub const IMAGES_SEED: &str = "/run/images/seed";
/// Files of the config segment, laid over the root with their modes and owners.
pub const CONFIG_TREE: &str = "/bootwright/config";
/// Files of one node, from a segment of its own that the boot loader loads after the image's; laid over those of the config
/// segment. Its sums are [`NODE_SUMS`] of [`SUMS`], and `bw.node=` on the kernel command line holds their SHA-256.
pub const NODE_TREE: &str = "/bootwright/node";
/// The node segment's name below [`SUMS`].
pub const NODE_SUMS: &str = "node";
/// PID1 inside the initramfs.
pub const INIT: &str = "/init";
/// PID1's binary inside the root; its other names are links to it.
pub const INIT_IN_ROOT: &str = "/sbin/init";
/// What the image is made from, SPDX 2.3 in JSON, inside the root.
pub const SBOM: &str = "/usr/share/bootwright/sbom.spdx.json";
/// What add-ons of a cluster need of a node, in images that run kubelet: `<add-on> <kind> <name> <why>` a line, tabs between. Of names
/// with `|` between them one is enough. Kinds: `module`, `program`, `path`, `sysctl`, `option`, `mount`, `shared`.
pub const ADDONS: &str = "/usr/share/bootwright/addons.tsv";
/// Kernel modules, `<MODULES>/<release>/...` with `modules.dep`, `modules.alias`, `modules.softdep`, `modules.builtin`.
pub const MODULES: &str = "/lib/modules";
/// Beside `modules.dep`: `<XXH64, seed 0, 16 hex digits> <file>` a line, for each file that modules.dep names. Whoever loads
/// a module compares it first.
pub const MODULE_SUMS: &str = "modules.sums";
/// The TLS tunnel for roots over https, in initramfs that have it.
pub const HTTPS: &str = "/usr/lib/bootwright/https";
/// Folder of PEM files: certificates that sign those of web servers.
pub const HTTPS_CAS: &str = "/usr/lib/bootwright/ca";
/// Where programs are looked for: the `PATH` of services, and of `nsenter` and `chroot` in images of add-ons, less what links there.
pub const PROGRAM_FOLDERS: [&str; 4] = ["usr/sbin", "usr/bin", "usr/local/sbin", "usr/local/bin"];
/// What PID1 runs to format a volume.
pub const MKE2FS: &str = "/usr/sbin/mke2fs";
/// State that PID1 leaves for commands on the node: `timeline.json`, `lease.json`.
pub const RUN: &str = "/run/bootwright";
/// Boot timeline, JSON: [`crate::console::TimelineRecord`].
pub const TIMELINE: &str = "/run/bootwright/timeline.json";
/// State of the network root and the volumes, JSON.
pub const ROOTS: &str = "/run/bootwright/roots.json";
/// What services leave to be shown and reported: a line in a file of the service's name, written before the service is ready.
pub const NOTES: &str = "/run/bootwright/notes";
/// Unix stream socket on which PID1 answers the control commands.
pub const CONTROL_SOCKET: &str = "/run/bootwright/control.sock";
