//! Sizes as tmpfs reads them.

/// Whether a text is a value of tmpfs's `size=` that sets a limit (Documentation/filesystems/tmpfs.rst): a number above 0,
/// as bytes, with `k`, `m` or `g`, or as a percentage of the RAM. The kernel takes `0` as "no limit", and so it takes what is
/// more than 64 bits hold. A fourth of an exbibyte is the most.
pub fn is_tmpfs_size(text: &str) -> bool {
    let digits = text.strip_suffix(['k', 'm', 'g', 'K', 'M', 'G', '%']).unwrap_or(text);
    let most = if digits.len() == text.len() { 1 << 58 } else { 1 << 28 };
    digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u64>().is_ok_and(|size| size > 0 && size <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_numbers_with_one_unit() {
        for good in ["1", "64M", "25%", "3g", "100K"] {
            assert!(is_tmpfs_size(good), "{good}");
        }
        for bad in [
            "",
            "0",
            "0%",
            "M",
            "64MM",
            "64 M",
            "-1",
            "+1",
            "64T",
            "25%%",
            "1,mode=777",
            "99999999999999999999",
            "17179869184G",
            "36893488147419103232%",
        ] {
            assert!(!is_tmpfs_size(bad), "{bad}");
        }
    }
}
