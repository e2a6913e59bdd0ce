//! Mount options as mount(8) takes them. Some are flags of mount(2), the others are passed to the file system as data.

use nix::mount::MsFlags;

/// The flags that an option list stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MountFlags {
    pub set: MsFlags,
    /// MS_SHARED and its like, which need a mount(2) of their own.
    pub propagation: MsFlags,
}

/// Options that set flags, those that clear them, and propagation (mount(8), "FILESYSTEM-INDEPENDENT MOUNT OPTIONS").
const SET: &[(&str, MsFlags)] = &[
    ("bind", MsFlags::MS_BIND),
    ("rbind", MsFlags::MS_BIND.union(MsFlags::MS_REC)),
    ("remount", MsFlags::MS_REMOUNT),
    ("move", MsFlags::MS_MOVE),
    ("ro", MsFlags::MS_RDONLY),
    ("nosuid", MsFlags::MS_NOSUID),
    ("nodev", MsFlags::MS_NODEV),
    ("noexec", MsFlags::MS_NOEXEC),
    ("sync", MsFlags::MS_SYNCHRONOUS),
    ("dirsync", MsFlags::MS_DIRSYNC),
    ("mand", MsFlags::MS_MANDLOCK),
    ("noatime", MsFlags::MS_NOATIME),
    ("nodiratime", MsFlags::MS_NODIRATIME),
    ("relatime", MsFlags::MS_RELATIME),
    ("strictatime", MsFlags::MS_STRICTATIME),
    ("lazytime", MsFlags::MS_LAZYTIME),
    ("silent", MsFlags::MS_SILENT),
];
const CLEAR: &[(&str, MsFlags)] = &[
    ("rw", MsFlags::MS_RDONLY),
    ("suid", MsFlags::MS_NOSUID),
    ("dev", MsFlags::MS_NODEV),
    ("exec", MsFlags::MS_NOEXEC),
    ("async", MsFlags::MS_SYNCHRONOUS),
    ("nomand", MsFlags::MS_MANDLOCK),
    ("atime", MsFlags::MS_NOATIME),
    ("diratime", MsFlags::MS_NODIRATIME),
    ("norelatime", MsFlags::MS_RELATIME),
    ("nostrictatime", MsFlags::MS_STRICTATIME),
    ("nolazytime", MsFlags::MS_LAZYTIME),
    ("loud", MsFlags::MS_SILENT),
];
const PROPAGATION: &[(&str, MsFlags)] = &[
    ("shared", MsFlags::MS_SHARED),
    ("slave", MsFlags::MS_SLAVE),
    ("private", MsFlags::MS_PRIVATE),
    ("unbindable", MsFlags::MS_UNBINDABLE),
];
/// Words that only fstab(5) and mount(8) use.
const IGNORED: &[&str] =
    &["defaults", "auto", "noauto", "user", "nouser", "users", "owner", "group", "nofail", "_netdev"];

/// Sorts comma-separated options into flags and the data string for the file system.
pub fn parse_options(lists: &[String]) -> (MountFlags, String) {
    let mut flags = MountFlags { set: MsFlags::empty(), propagation: MsFlags::empty() };
    let mut data: Vec<&str> = Vec::new();
    for option in lists.iter().flat_map(|list| split_list(list)).filter(|o| !o.is_empty()) {
        if let Some(flag) = find(SET, option) {
            flags.set |= flag;
        } else if let Some(flag) = find(CLEAR, option) {
            flags.set &= !flag;
        } else if let Some(flag) = propagation(option) {
            flags.propagation |= flag;
        } else if !IGNORED.contains(&option) && !option.starts_with("x-") && !option.starts_with("X-") {
            data.push(option);
        }
    }
    (flags, data.join(","))
}

/// The propagation flag of an option; `rshared` is `shared` for all mounts below too.
pub fn propagation(option: &str) -> Option<MsFlags> {
    let recursive = option.strip_prefix('r').and_then(|o| find(PROPAGATION, o)).map(|f| f | MsFlags::MS_REC);
    find(PROPAGATION, option).or(recursive)
}

fn find(table: &[(&str, MsFlags)], option: &str) -> Option<MsFlags> {
    table.iter().find(|(name, _)| *name == option).map(|(_, flag)| *flag)
}

/// Splits at commas that are not inside double quotes (SELinux contexts contain commas).
fn split_list(list: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut quoted) = (0, false);
    for (i, byte) in list.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                parts.push(&list[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&list[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(list: &str) -> (MsFlags, MsFlags, String) {
        let (flags, data) = parse_options(&[list.to_string()]);
        (flags.set, flags.propagation, data)
    }

    #[test]
    fn table() {
        let none = MsFlags::empty();
        let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let rbind = MsFlags::MS_BIND | MsFlags::MS_REC;
        let cases = [
            ("size=65536,noswap", none, none, "size=65536,noswap"),
            ("nosuid,nodev,noexec,mode=0700", quiet, none, "mode=0700"),
            ("rbind,ro", rbind | MsFlags::MS_RDONLY, none, ""),
            ("ro,rw", none, none, ""),
            ("rw,ro", MsFlags::MS_RDONLY, none, ""),
            ("bind,remount,ro", MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none, ""),
            ("rshared", none, MsFlags::MS_SHARED | MsFlags::MS_REC, ""),
            ("rslave,private", none, MsFlags::MS_SLAVE | MsFlags::MS_REC | MsFlags::MS_PRIVATE, ""),
            ("defaults,_netdev,x-systemd.automount", none, none, ""),
            ("context=\"a,b\",ro", MsFlags::MS_RDONLY, none, "context=\"a,b\""),
            (",,", none, none, ""),
        ];
        for (list, set, propagation, data) in cases {
            assert_eq!(parse(list), (set, propagation, data.to_string()), "{list}");
        }
    }

    proptest! {
        #[test]
        fn data_keeps_what_is_not_a_flag(words in proptest::collection::vec("[a-z]{1,4}=[a-z0-9]{0,4}", 0..6)) {
            let (set, propagation, data) = parse(&words.join(","));
            prop_assert_eq!((set, propagation), (MsFlags::empty(), MsFlags::empty()));
            prop_assert_eq!(data, words.join(","));
        }

        #[test]
        fn no_input_panics(list in "[ro,\"a-z=]{0,30}") {
            parse(&list);
        }
    }
}
