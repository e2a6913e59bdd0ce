//! `/etc/ld.so.cache`, where an image brings one: container images do, and have libraries that are found by nothing else
//! (glibc's elf/cache.c and sysdeps/generic/dl-cache.h).

use std::collections::BTreeMap;

const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
/// `struct cache_file_new` up to the entries.
const HEADER: usize = 48;
/// `struct file_entry_new`: flags, name, path (4 bytes each), OS version (4), hardware capabilities (8).
const ENTRY: usize = 24;
/// `FLAG_ELF_LIBC6 | FLAG_X8664_LIB64`.
const FOR_X86_64: u32 = 0x0303;

/// The paths that the cache has for a library's name, but for those that need more than any x86_64 processor has. A cache
/// that cannot be read is none, as for ld.so.
pub fn parse_ld_cache(bytes: &[u8]) -> BTreeMap<String, Vec<String>> {
    let mut paths: BTreeMap<String, Vec<String>> = BTreeMap::new();
    if !bytes.starts_with(MAGIC) {
        return paths;
    }
    let count = word(bytes, MAGIC.len()).unwrap_or(0) as usize;
    let entries = bytes.get(HEADER..).unwrap_or_default().chunks_exact(ENTRY).take(count);
    for entry in entries {
        let (Some(flags), Some(name), Some(path)) = (word(entry, 0), word(entry, 4), word(entry, 8)) else { continue };
        let any_processor = entry[16..].iter().all(|b| *b == 0);
        if flags == FOR_X86_64
            && any_processor
            && let (Some(name), Some(path)) = (text(bytes, name), text(bytes, path))
        {
            paths.entry(name.into()).or_default().push(path.into());
        }
    }
    paths
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}

fn text(bytes: &[u8], at: u32) -> Option<&str> {
    let rest = bytes.get(at as usize..)?;
    std::str::from_utf8(&rest[..rest.iter().position(|b| *b == 0)?]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cache() -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.resize(HEADER, 0);
        let strings = (HEADER + 3 * ENTRY) as u32;
        for (flags, path, hwcap) in [(FOR_X86_64, 8, 2u64), (FOR_X86_64, 17, 0), (0x0803, 26, 0)] {
            for word in [flags, strings, strings + path, 0] {
                bytes.extend(u32::to_le_bytes(word));
            }
            bytes.extend(hwcap.to_le_bytes());
        }
        bytes.extend(b"libz.so\0/v3/libz\0/opt/liz\0/lib32/z\0");
        bytes
    }

    #[test]
    fn libraries_for_this_machine_are_found() {
        let found = parse_ld_cache(&cache());
        assert_eq!(found, BTreeMap::from([("libz.so".into(), vec!["/opt/liz".into()])]));
        assert!(parse_ld_cache(b"ld.so-1.7.0").is_empty());
    }

    proptest! {
        #[test]
        fn no_damage_panics(at in 0usize..150, byte in any::<u8>(), cut in 0usize..160) {
            let mut bytes = cache();
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(cut);
            parse_ld_cache(&bytes);
        }
    }
}
