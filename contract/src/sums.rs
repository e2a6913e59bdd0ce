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
