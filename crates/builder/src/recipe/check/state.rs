//! `[state]` and `[watchdog]`: what lives where, and what the runtime could not use there.

use super::Check;
use crate::recipe::ModuleRequest;
use crate::recipe::file::{BindFile, StateFile, WatchdogFile};
use crate::recipe::node::{TomlEntry, TomlNode};
use crate::recipe::place::At;
use crate::recipe::problem::Problem;
use crate::recipe::{Root, RootMode};
use bootwright_contract::{RootImage, Service, StateFolder, StatePlace, Tmpfs, Watchdog};

/// Its snapshots are overlays.
const CONTAINERD: &str = "/var/lib/containerd";
/// The image's own settings are in it: they must stay visible.
const ETC: &str = "/etc";
/// What PID1 mounts itself, and what programs run from.
const NOT_STATE: [&str; 10] = ["/bin", "/boot", "/dev", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr"];

/// A checked entry with the places that problems are pointed at.
struct Checked {
    state: StateFolder,
    at: At,
    key_at: At,
    /// How its volume is reached.
    server: Option<RootMode>,
}

impl Check<'_> {
    /// All entries, parents first, and the kernel modules that they need.
    pub(super) fn state(&mut self, tree: &TomlNode) -> (Vec<StateFolder>, Vec<ModuleRequest>) {
        let entries = tree.get("state").map_or(&[][..], TomlNode::entries);
        let mut all: Vec<Checked> = entries.iter().filter_map(|entry| self.state_entry(entry)).collect();
        all.sort_by(|a, b| a.state.path.cmp(&b.state.path));
        for pair in all.windows(2).filter(|pair| pair[0].state.path == pair[1].state.path) {
            let first = self.origin(pair[0].key_at);
            let problem = Problem::Duplicate { what: "state of", name: pair[1].state.path.clone(), first };
            self.report(pair[1].key_at, problem);
        }
        self.check_shared_volumes(&all);
        self.check_nested_overlays(&all);
        let modules = all.iter().flat_map(|one| self.modules_of(one)).collect();
        (all.into_iter().map(|one| one.state).collect(), modules)
    }

    /// `[[root.bind]]`.
    pub(super) fn binds(&mut self, tree: &TomlNode) -> Vec<StateFolder> {
        let list = tree.get("root").and_then(|root| root.get("bind"));
        let mut out = Vec::new();
        for node in list.map_or(&[][..], TomlNode::items) {
            let Some(BindFile { path, source, mode }) = self.read(Some(node)) else { continue };
            let path = format!("/{}", self.image_file(node.at_of("path"), &path));
            let mode = self.mode(node.at_of("mode"), &mode);
            let Some(source) = self.need(source, "source", node, "this bind mount") else { continue };
            let source = format!("/{}", self.image_file(node.at_of("source"), &source));
            if is_at_or_below(&path, &source) || is_at_or_below(&source, &path) {
                let expected = "a folder neither above nor below the one where it is shown";
                let problem =
                    Problem::BadValue { found: source.clone(), expected, example: "/var/lib/kubelet/pod-logs" };
                self.report(node.at_of("source"), problem);
            }
            out.push(StateFolder { path, overlay: false, place: StatePlace::Folder { source, mode } });
        }
        out
    }

    fn state_entry(&mut self, entry: &TomlEntry) -> Option<Checked> {
        let path = format!("/{}", self.image_file(entry.key_at, &entry.key));
        if NOT_STATE.iter().any(|own| is_at_or_below(&path, own)) || !entry.key.starts_with('/') {
            let expected = "the absolute path of a folder that can live elsewhere";
            self.report(
                entry.key_at,
                Problem::BadValue { found: entry.key.clone(), expected, example: "/var/lib/kubelet" },
            );
        }
        let node = &entry.node;
        let kind = self.exactly_one(node, &["tmpfs", "volume"], &format!("state of `{}`", entry.key));
        let file: StateFile = self.read(Some(node))?;
        let overlay = file.overlay.unwrap_or(path == ETC);
        let (place, server) = match kind? {
            "tmpfs" => (self.state_tmpfs(node, &file)?, None),
            _ => self.state_volume(node, &file)?,
        };
        let one = Checked { state: StateFolder { path, overlay, place }, at: node.at, key_at: entry.key_at, server };
        self.check_usable(node, &one);
        Some(one)
    }

    fn state_tmpfs(&mut self, node: &TomlNode, file: &StateFile) -> Option<StatePlace> {
        for key in ["format", "folder"].into_iter().filter(|key| node.get(key).is_some()) {
            self.report(node.at_of(key), Problem::NotUsed { key, reason: "a tmpfs is empty at each boot" });
        }
        let size = file.tmpfs.clone()?;
        self.check_tmpfs_size(node.at_of("tmpfs"), &size);
        self.mode(node.at_of("mode"), &file.mode);
        Some(StatePlace::Tmpfs { size, mode: file.mode.clone() })
    }

    fn state_volume(&mut self, node: &TomlNode, file: &StateFile) -> Option<(StatePlace, Option<RootMode>)> {
        let source = file.volume.clone()?;
        let server = volume_server(&source);
        if server.is_none() {
            let expected = "the URL of a volume: `nfs://HOST/PATH`, `iscsi://HOST/TARGET` or `nbd://HOST/EXPORT`";
            let problem = Problem::BadValue { found: source.clone(), expected, example: "nbd://10.0.0.1/state-${mac}" };
            self.report(node.at_of("volume"), problem);
        }
        if node.get("mode").is_some() {
            let reason = "the volume's own folder has its mode";
            self.report(node.at_of("mode"), Problem::NotUsed { key: "mode", reason });
        }
        if server == Some(RootMode::Nfs) && file.format.is_some() {
            let reason = "the server of an NFS volume has the file system";
            self.report(node.at_of("format"), Problem::NotUsed { key: "format", reason });
        }
        let folder = file.folder.as_deref().map(|raw| self.image_file(node.at_of("folder"), raw));
        let format = file.format.map(|format| format.name().to_string());
        Some((StatePlace::Volume { source, format, folder }, server))
    }

    /// Overlay layers and containerd's snapshots need a file system that the kernel takes as an overlay's upper layer.
    fn check_usable(&mut self, node: &TomlNode, one: &Checked) {
        let (path, on_nfs) = (&one.state.path, one.server == Some(RootMode::Nfs));
        let holds_snapshots = is_at_or_below(CONTAINERD, path) || is_at_or_below(path, CONTAINERD);
        let mut refuse = |at, place, reason, instead| {
            self.report(at, Problem::CannotBe { what: format!("`{path}`"), place, reason, instead });
        };
        if holds_snapshots && on_nfs {
            let reason = "containerd's snapshots are overlays, and the kernel takes no upper layer on NFS";
            refuse(node.at_of("volume"), "on NFS", reason, "take a tmpfs, or an iSCSI or NBD volume");
        } else if one.state.overlay && on_nfs {
            let reason = "the kernel takes no upper layer on NFS";
            let instead = "take an iSCSI or NBD volume, or `overlay = false`, which hides the image's files there";
            refuse(node.at_of("volume"), "an overlay on NFS", reason, instead);
        }
        if holds_snapshots && one.state.overlay {
            let reason = "containerd's snapshots are overlays, and the kernel takes no upper layer on an overlay";
            refuse(node.at_of("overlay"), "an overlay", reason, "take `overlay` out");
        }
    }

    /// Entries of one volume share a mount: each needs a folder of its own, and they must agree on the format.
    fn check_shared_volumes(&mut self, all: &[Checked]) {
        for (i, one) in all.iter().enumerate() {
            let StatePlace::Volume { source, format, folder } = &one.state.place else { continue };
            for earlier in &all[..i] {
                let StatePlace::Volume { source: s, format: f, folder: d } = &earlier.state.place else { continue };
                if s != source {
                    continue;
                }
                let reason = if f != format {
                    "`format` differs between folders of one volume"
                } else if nested(folder.as_deref(), d.as_deref()) {
                    "another folder has the same place on that volume"
                } else {
                    continue;
                };
                let (what, instead) =
                    (format!("`{}`", one.state.path), "give each a `folder` of its own and the same `format`");
                self.report(one.at, Problem::CannotBe { what, place: "on that volume", reason, instead });
            }
        }
    }

    /// Root, entry, entry: the kernel stacks two overlays, not three (`FILESYSTEM_MAX_STACK_DEPTH` of linux/fs.h).
    fn check_nested_overlays(&mut self, all: &[Checked]) {
        for one in all.iter().filter(|one| one.state.overlay) {
            let above = |other: &&Checked| {
                other.state.path != one.state.path && is_at_or_below(&one.state.path, &other.state.path)
            };
            if all.iter().filter(|other| other.state.overlay).any(|other| above(&other)) {
                let reason = "it lies in a folder that is one, and the kernel does not stack a third one on the root's";
                let instead = "take `overlay` out of one of the two";
                let what = format!("`{}`", one.state.path);
                self.report(one.at, Problem::CannotBe { what, place: "an overlay", reason, instead });
            }
        }
    }

    /// The volume's transport and the file system on it.
    fn modules_of(&self, one: &Checked) -> Vec<ModuleRequest> {
        let StatePlace::Volume { source, .. } = &one.state.place else { return Vec::new() };
        let names: &[&str] = match one.server {
            Some(RootMode::Nfs) => nfs_modules(source),
            Some(RootMode::Iscsi) => &["crc32c_generic", "iscsi_tcp", "sd_mod", "ext4"],
            Some(RootMode::Nbd) => &["nbd", "ext4"],
            _ => &[],
        };
        names.iter().map(|name| ModuleRequest { text: name.to_string(), origin: self.origin(one.key_at) }).collect()
    }

    /// containerd on a root that is an overlay (any image, any network root) needs a place of its own.
    pub(super) fn check_containerd(
        &mut self,
        tree: &TomlNode,
        root: &Root,
        state: &[StateFolder],
        services: &[Service],
    ) {
        if root.mode == RootMode::Ram && root.image == RootImage::Cpio {
            return;
        }
        let covers = |path: &str| is_at_or_below(CONTAINERD, path);
        let has_place = state.iter().any(|s| covers(&s.path)) || root.tmpfs.iter().any(|t: &Tmpfs| covers(&t.path));
        if has_place || !services.iter().any(|s| s.name == "containerd") {
            return;
        }
        let reason = "containerd's snapshots are overlays, and the kernel takes no upper layer on an overlay";
        let instead = "give it a place: `\"/var/lib/containerd\" = { tmpfs = \"60%\", mode = \"0711\" }` in `[state]`";
        let at = tree.get("root").map_or(tree.at, |node| node.at);
        self.report(at, Problem::CannotBe { what: format!("`{CONTAINERD}`"), place: "in the root", reason, instead });
    }

    pub(super) fn watchdog(&mut self, tree: &TomlNode) -> Option<Watchdog> {
        let node = tree.get("watchdog")?;
        let file: WatchdogFile = self.read(Some(node))?;
        if !file.device.starts_with("/dev/") {
            let problem =
                Problem::BadValue { found: file.device.clone(), expected: "a device", example: "/dev/watchdog" };
            self.report(node.at_of("device"), problem);
        }
        Some(Watchdog { device: file.device, timeout_s: file.timeout_s, disarm: file.disarm })
    }
}

/// PID1 tries version 4 and then 3, unless the URL's options name one.
fn nfs_modules(url: &str) -> &'static [&'static str] {
    let options = url.split_once('?').map_or("", |(_, options)| options).split(['&', ',']);
    let mut versions = options.filter_map(|o| o.split_once('=').filter(|(key, _)| ["vers", "nfsvers"].contains(key)));
    match versions.next_back() {
        Some((_, "3")) => &["nfsv3"],
        Some(_) => &["nfsv4"],
        None => &["nfsv4", "nfsv3"],
    }
}

pub(super) fn is_at_or_below(path: &str, top: &str) -> bool {
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// One of two folders of a volume lies in the other.
fn nested(a: Option<&str>, b: Option<&str>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => is_at_or_below(a, b) || is_at_or_below(b, a),
        _ => true,
    }
}

/// How the server of a volume's URL is reached. `None` when it cannot hold a volume, or the URL lacks something: a path for NFS,
/// an export for NBD.
fn volume_server(url: &str) -> Option<RootMode> {
    let mode = RootMode::of_source(url)?;
    let (_, rest) = url.split_once("://")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.split('?').next().unwrap_or_default();
    let names_it = match mode {
        RootMode::Nfs | RootMode::Nbd => !path.is_empty(),
        RootMode::Iscsi => !(host.is_empty() && path.is_empty()),
        _ => false,
    };
    (names_it && !url.contains(char::is_whitespace)).then_some(mode)
}
