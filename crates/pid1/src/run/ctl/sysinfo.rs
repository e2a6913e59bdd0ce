//! `bootwright-ctl sysinfo`: has this node what add-ons of a cluster need? What they need is a table that the build wrote.

use bootwright_contract::modalias::module_name;
use bootwright_contract::mountinfo::{ListedMount, parse_mounts};
use bootwright_contract::paths;
use bootwright_contract::sysctl::{SysctlNeed, file_of};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What a node says of itself. Files that are not there are empty: nothing is taken for granted.
struct NodeFacts<'a> {
    root: &'a Path,
    /// `modules.dep` and `modules.builtin`.
    modules: String,
    /// The kernel's configuration.
    config: String,
    mounts: Vec<ListedMount>,
}

/// The text for standard output, and whether all that was asked for is there. `wanted`: names of add-ons; all without any.
///
/// # Errors
/// The image carries no table.
pub fn sysinfo(root: &Path, release: &str, wanted: &[&str]) -> io::Result<(String, bool)> {
    let table = fs::read_to_string(below(root, paths::ADDONS))?;
    let node = NodeFacts::read(root, release);
    let (mut text, mut last, mut fits) = (String::new(), "", true);
    for line in table.lines() {
        let mut fields = line.split('\t');
        let mut field = || fields.next().unwrap_or_default();
        let (addon, kind, name, why) = (field(), field(), field(), field());
        if !wanted.is_empty() && !wanted.contains(&addon) {
            continue;
        }
        if last != addon {
            text.push_str(addon);
            text.push('\n');
            last = addon;
        }
        if !name.split('|').any(|name| node.has(kind, name)) {
            text.push_str(&["  lacks ", kind, " ", name, ": ", why, "\n"].concat());
            fits = false;
        }
    }
    Ok((text, fits && !last.is_empty()))
}

impl NodeFacts<'_> {
    fn read<'a>(root: &'a Path, release: &str) -> NodeFacts<'a> {
        let text = |path: &str| fs::read_to_string(below(root, path)).unwrap_or_default();
        let list = |name: &str| text(&[paths::MODULES, "/", release, "/", name].concat());
        let config = Some(text(&["/boot/config-", release].concat())).filter(|text| !text.is_empty());
        NodeFacts {
            root,
            modules: list("modules.dep") + &list("modules.builtin"),
            config: config.unwrap_or_else(|| list("config")),
            mounts: parse_mounts(&fs::read(below(root, "/proc/self/mountinfo")).unwrap_or_default()),
        }
    }

    fn has(&self, kind: &str, name: &str) -> bool {
        match kind {
            "module" => {
                self.modules.lines().any(|line| module_name(line.split(':').next().unwrap_or_default()) == name)
            }
            "program" if name.starts_with('/') => self.is_program(name),
            "program" => paths::PROGRAM_FOLDERS.iter().any(|folder| self.is_program(&[folder, "/", name].concat())),
            "path" => below(self.root, name).exists(),
            "sysctl" => self.sysctl(name),
            "option" => self.config.lines().any(|line| {
                line.strip_prefix("CONFIG_")
                    .and_then(|line| line.strip_prefix(name))
                    .is_some_and(|rest| rest.starts_with('='))
            }),
            "mount" => self.mounts.iter().any(|mount| mount.point == Path::new(name)),
            "shared" => self.is_shared(name),
            _ => false,
        }
    }

    fn is_program(&self, path: &str) -> bool {
        let found = fs::metadata(below(self.root, path));
        found.is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    }

    fn sysctl(&self, need: &str) -> bool {
        SysctlNeed::parse(need).is_some_and(|need| {
            let found = fs::read_to_string(below(self.root, &file_of(need.key)));
            need.is_met_by(&found.unwrap_or_default())
        })
    }

    /// Of the mounts above a path the one that counts is the deepest, and of those at one point the last.
    fn is_shared(&self, path: &str) -> bool {
        let above = self.mounts.iter().filter(|mount| Path::new(path).starts_with(&mount.point));
        above.max_by_key(|mount| mount.point.as_os_str().len()).is_some_and(|mount| mount.is_shared)
    }
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "a\tmodule\tip_vs\tbalancing\na\tmodule\tfuse\tfiles\na\tprogram\tnft\trules\na\tprogram\t/sbin/x|/sbin/y\teither\n\
        a\tpath\t/etc/cni\tsettings\na\tsysctl\tvm.max_map_count >= 5\tmaps\na\tsysctl\tnet.ipv4.ip_forward = 1\troutes\n\
        a\toption\tBTF\ttypes\na\tmount\t/sys/fs/bpf\tmaps\na\tshared\t/run/x\tnamespaces\nb\tpath\t/never\tnothing\n";

    fn write(root: &Path, path: &str, text: &str, mode: u32) {
        let path = below(root, path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn node() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        write(root, paths::ADDONS, TABLE, 0o644);
        write(root, "lib/modules/6.1/modules.dep", "kernel/net/ip-vs.ko: kernel/lib/x.ko\n", 0o644);
        write(root, "lib/modules/6.1/modules.builtin", "kernel/fs/fuse.ko\n", 0o644);
        write(root, "boot/config-6.1", "CONFIG_BTF=y\n# CONFIG_BT is not set\n", 0o644);
        write(root, "usr/sbin/nft", "x", 0o755);
        write(root, "sbin/y", "x", 0o755);
        write(root, "etc/cni/x", "x", 0o644);
        write(root, "proc/sys/vm/max_map_count", "5\n", 0o644);
        write(root, "proc/sys/net/ipv4/ip_forward", "1\n", 0o644);
        write(
            root,
            "proc/self/mountinfo",
            "1 0 0:1 / / rw shared:1 - x x x\n2 1 0:2 / /sys/fs/bpf rw - bpf bpf rw\n",
            0o644,
        );
        dir
    }

    fn ask(root: &Path, wanted: &[&str]) -> (String, bool) {
        sysinfo(root, "6.1", wanted).unwrap()
    }

    #[test]
    fn every_need_that_is_dropped_is_told() {
        let dir = node();
        assert_eq!(ask(dir.path(), &["a"]), ("a\n".into(), true));
        assert_eq!(ask(dir.path(), &[]), ("a\nb\n  lacks path /never: nothing\n".into(), false));
        assert_eq!(ask(dir.path(), &["c"]), (String::new(), false));
        for (path, text, lacking) in [
            ("lib/modules/6.1/modules.dep", "kernel/net/ip_vs_rr.ko:\n", "module ip_vs: balancing"),
            ("lib/modules/6.1/modules.builtin", "", "module fuse: files"),
            ("usr/sbin/nft", "", "program nft: rules"),
            ("sbin/y", "", "program /sbin/x|/sbin/y: either"),
            ("proc/sys/vm/max_map_count", "4\n", "sysctl vm.max_map_count >= 5: maps"),
            ("proc/sys/net/ipv4/ip_forward", "10\n", "sysctl net.ipv4.ip_forward = 1: routes"),
            ("boot/config-6.1", "CONFIG_BTF2=y\n# CONFIG_BTF is not set\n", "option BTF: types"),
            ("proc/self/mountinfo", "1 0 0:1 / / rw shared:1 - x x x\n", "mount /sys/fs/bpf: maps"),
            (
                "proc/self/mountinfo",
                "1 0 0:1 / / rw - x shared:1 x\n2 1 0:2 / /sys/fs/bpf rw - bpf bpf rw\n",
                "shared /run/x: namespaces",
            ),
            (
                "proc/self/mountinfo",
                "1 0 0:1 / / rw shared:1 - x x x\n2 1 0:2 / /sys/fs/bpf rw - x x x\n3 1 0:3 / /run rw - x x x\n",
                "shared /run/x: namespaces",
            ),
        ] {
            let dir = node();
            write(dir.path(), path, text, 0o644);
            assert_eq!(ask(dir.path(), &["a"]), (["a\n  lacks ", lacking, "\n"].concat(), false), "{path}");
        }
        let dir = node();
        fs::remove_dir_all(dir.path().join("etc/cni")).unwrap();
        assert!(ask(dir.path(), &["a"]).0.contains("lacks path /etc/cni: settings"));
    }

    #[test]
    fn an_image_without_the_table_says_so() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(sysinfo(dir.path(), "6.1", &[]).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
