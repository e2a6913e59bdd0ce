//! The order of what the kernel takes in any order, so that alike rows follow each other and compress better: a thirtieth of a
//! boot segment with zstd.

use super::symbols::RELA;
use super::{Elf, SHT_RELA, u64_at};

/// Checksums of what other modules and the kernel offer (`struct modversion_info` of linux/module.h): 8 bytes, then 56 of a name.
const VERSIONS: &str = "__versions";
const VERSION: usize = 64;

impl Elf {
    /// - Relocations by symbol and kind, then by what is added: each is applied alone, and no two change the same place
    ///   (`apply_relocate_add` of arch/x86/kernel/module.c).
    /// - Checksums by name: they are looked up by it, from the first on (`check_version` of kernel/module/version.c).
    pub(super) fn sort(&mut self) {
        for section in &mut self.sections {
            let body = &section.body;
            if section.kind == SHT_RELA {
                section.body = sorted(body, RELA, |rela| (u64_at(rela, 8), u64_at(rela, 16) as i64, u64_at(rela, 0)));
            } else if section.name == VERSIONS && body.len().is_multiple_of(VERSION) {
                section.body = sorted(body, VERSION, |version| version[8..].to_vec());
            }
        }
    }
}

fn sorted<K: Ord>(body: &[u8], size: usize, key: impl Fn(&[u8]) -> K) -> Vec<u8> {
    let mut rows: Vec<&[u8]> = body.chunks_exact(size).collect();
    rows.sort_by_cached_key(|row| key(row));
    rows.concat()
}
