//! Size and SHA-256 of every regular file of a segment, one line a file, sorted by path:
//! `<64 hex digits> <size in bytes> <absolute path>\n`. Paths hold no newline (the tree refuses them).

/// One line of a sums file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    /// Lower-case hex SHA-256 of the file's bytes.
    pub sha256: String,
    /// Size in bytes.
    pub size: u64,
    /// Absolute path in the initramfs.
    pub path: String,
}

/// Writes the lines in the order given.
pub fn format_sums(sums: &[Sum]) -> String {
    sums.iter().map(|s| format!("{} {} {}\n", s.sha256, s.size, s.path)).collect()
}

/// Reads what [`format_sums`] wrote. The error is the 1-based number of the first bad line.
pub fn parse_sums(text: &str) -> Result<Vec<Sum>, usize> {
    text.lines().enumerate().map(|(i, line)| parse_line(line).ok_or(i + 1)).collect()
}

/// Whether a path is of a kernel module that [`crate::paths::MODULE_SUMS`] lists: an XXH64 over all files leaves those out.
pub fn is_module(path: &str) -> bool {
    let path = path.trim_start_matches('/');
    let inside = path.strip_prefix("usr/").unwrap_or(path).strip_prefix("lib/modules/");
    inside.and_then(|inside| inside.rsplit('/').next()).is_some_and(|file| file.contains(".ko"))
}

fn parse_line(line: &str) -> Option<Sum> {
    let (sha256, rest) = line.split_once(' ')?;
    let (size, path) = rest.split_once(' ')?;
    let hex = sha256.len() == 64 && sha256.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (hex && path.starts_with('/'))
        .then(|| Some(Sum { sha256: sha256.into(), size: size.parse().ok()?, path: path.into() }))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_by_their_paths() {
        for path in ["/lib/modules/6.1/kernel/a.ko", "usr/lib/modules/6.1/kernel/b/c.ko.xz"] {
            assert!(is_module(path), "{path}");
        }
        for path in
            ["/lib/modules/6.1/modules.dep", "/opt/lib/modules/6.1/a.ko", "/lib/modules/6.ko/x", "/usr/lib/a.ko"]
        {
            assert!(!is_module(path), "{path}");
        }
    }

    #[test]
    fn round_trip_and_bad_lines() {
        let sums = vec![Sum { sha256: "ab".repeat(32), size: 7, path: "/a b".into() }];
        assert_eq!(parse_sums(&format_sums(&sums)), Ok(sums.clone()));
        let good = format_sums(&sums);
        assert_eq!(parse_sums(&format!("{good}xyz")), Err(2));
        assert_eq!(parse_sums(&good.replace("ab", "AB")), Err(1));
        assert_eq!(parse_sums(&good.replace("/a b", "a b")), Err(1));
        assert_eq!(parse_sums(&good[..good.len() - 5]).map(|_| ()), Err(1));
    }
}
