//! How much of its memory a guest has touched: what of it QEMU's process holds.

use std::path::PathBuf;

/// Bytes, of the process `pid` of a machine with `ram_mib`. `None` where they cannot be told: QEMU has ended.
pub fn touched_bytes(pid: u32, ram_mib: u32) -> Option<u64> {
    let maps = std::fs::read_to_string(PathBuf::from(format!("/proc/{pid}/smaps"))).ok()?;
    find_resident(&maps, u64::from(ram_mib) << 10).map(|kib| kib << 10)
}

/// `Rss` of the mapping whose `Size` is that of the guest's memory, which QEMU maps as a whole. KiB (proc_pid_smaps(5)).
fn find_resident(maps: &str, size_kib: u64) -> Option<u64> {
    let mut is_memory = false;
    for line in maps.lines() {
        let mut words = line.split_ascii_whitespace();
        match (words.next(), words.next().and_then(|value| value.parse::<u64>().ok())) {
            (Some("Size:"), size) => is_memory = size == Some(size_kib),
            (Some("Rss:"), resident) if is_memory => return resident,
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_memory_is_known_by_its_size() {
        let maps = "7f00-7f10 r--p 0 00:00 0 /lib/x.so\nSize:                 64 kB\nRss:                  60 kB\nPss: 1 kB\n\
                    7f20-7f30 rw-p 0 00:00 0\nSize:             524288 kB\nKernelPageSize: 4 kB\nRss:              113700 kB\n\
                    7f40-7f50 rw-p 0 00:00 0\nSize:                128 kB\nRss:                   4 kB\n";
        assert_eq!(find_resident(maps, 512 << 10), Some(113_700));
        assert_eq!(find_resident(maps, 256 << 10), None);
        assert_eq!(find_resident("", 0), None);
    }
}
