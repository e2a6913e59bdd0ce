//! What the kernel lists of mounts and swap, as bytes: a path may hold any byte but zero.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// A mount.
#[derive(Debug, PartialEq, Eq)]
pub struct ListedMount {
    /// Where it is mounted.
    pub point: PathBuf,
    /// Whether what is mounted there reaches others, and what they mount comes back (mount_namespaces(7)).
    pub is_shared: bool,
}

/// Mounts of `/proc/self/mountinfo` (proc_pid_mountinfo(5)), in its order: the fifth field of each line, and from the seventh
/// up to `-` the optional ones.
pub fn parse_mounts(table: &[u8]) -> Vec<ListedMount> {
    let parse = |line: &[u8]| {
        let mut fields = line.split(|byte| *byte == b' ').skip(4);
        let point = unescape(fields.next()?);
        let is_shared = fields.skip(1).take_while(|field| *field != b"-").any(|field| field.starts_with(b"shared:"));
        Some(ListedMount { point, is_shared })
    };
    lines(table).filter_map(parse).collect()
}

/// Devices of `/proc/swaps` (proc(5)): the first field of each line after the heading.
pub fn parse_swaps(table: &[u8]) -> Vec<PathBuf> {
    let first = |line: &[u8]| line.split(u8::is_ascii_whitespace).next().map(unescape);
    lines(table).skip(1).filter_map(first).collect()
}

fn lines(table: &[u8]) -> impl Iterator<Item = &[u8]> {
    table.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// Undoes the kernel's `\ooo` escapes (`mangle_path` of fs/seq_file.c).
fn unescape(field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [byte, after @ ..] = rest {
        rest = after;
        match (byte, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                path.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => path.push(*byte),
        }
    }
    OsString::from_vec(path).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::path::Path;

    #[test]
    fn mount_points_are_bytes() {
        let table =
            b"22 1 0:20 / / rw - overlay overlay rw\n30 22 0:5 / /mnt/a\\040b\\134c rw shared:1 - tmpfs tmpfs rw\n\
                      31 22 0:6 / /run/b\xff rw - tmpfs tmpfs rw\nbroken line\n";
        let strange = Path::new(OsStr::from_bytes(b"/run/b\xff"));
        let mount = |point: &Path, is_shared| ListedMount { point: point.into(), is_shared };
        let expected = [mount(Path::new("/"), false), mount(Path::new("/mnt/a b\\c"), true), mount(strange, false)];
        assert_eq!(parse_mounts(table), expected);
        assert_eq!(parse_mounts(b""), []);
        // What stands behind `-` is no optional field.
        assert_eq!(parse_mounts(b"1 0 0:1 / / rw - x shared:1 x\n"), [mount(Path::new("/"), false)]);
    }

    #[test]
    fn only_escapes_are_undone() {
        for (field, path) in [("\\9\\04", "\\9\\04"), ("a\\012b", "a\nb"), ("\\777", "\\777"), ("\\", "\\")] {
            assert_eq!(unescape(field.as_bytes()), Path::new(path), "{field}");
        }
    }

    #[test]
    fn swaps_skip_the_heading() {
        let table = b"Filename\tType\tSize\tUsed\tPriority\n/dev/zram0  partition\t65532\t0\t100\n";
        assert_eq!(parse_swaps(table), [Path::new("/dev/zram0")]);
    }
}
