//! How much memory there is (proc_meminfo(5)).

use std::fs;

/// `MemAvailable` in KiB. Without that line (before Linux 3.14) it is the largest number: no limit.
pub fn available_kib() -> u64 {
    value(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "MemAvailable:").unwrap_or(u64::MAX)
}

/// A value of `/proc/meminfo` in KiB; `key` ends with the colon.
pub fn value(meminfo: &str, key: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values() {
        assert_eq!(value("MemTotal: 5 kB\nMemAvailable:     123 kB\n", "MemAvailable:"), Some(123));
        assert_eq!(value("MemAvailable:\n", "MemAvailable:"), None);
        assert_eq!(value("nothing", "MemAvailable:"), None);
    }
}
