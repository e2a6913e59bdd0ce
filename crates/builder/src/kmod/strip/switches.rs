//! Branches that are switched in the code while it runs (linux/jump_label.h), for tracepoints and debug messages: nothing can
//! switch those on in a stripped module.

use super::symbols::RELA;
use super::{Elf, SHT_RELA, u32_at, u64_at};
use std::collections::BTreeSet;

/// `struct jump_entry`: where the branch is, where it leads to (4 bytes each), and its key (8), all by relocations.
const TABLE: &str = "__jump_table";
const ENTRY: u64 = 16;
const KEY: u64 = 8;

const TRACEPOINTS: &str = "__tracepoints";
/// Debug messages (`struct _ddebug` of linux/dynamic_debug.h). The kernel lists them by this section's name
/// (`find_module_sections` of kernel/module/main.c).
const MESSAGES: &str = "__dyndbg";
/// The code still passes them on where a file is compiled with DEBUG. It reads no more than their flags then
/// (`__dynamic_pr_debug` of lib/dynamic_debug.c): what they point to, names and places in the source, is not needed.
const UNLISTED: &str = ".data.dyndbg";

impl Elf {
    /// Takes the entries out of the kernel's sight. The code does already what it does when they are not switched: objtool
    /// wrote it so (`handle_jump_alt` of tools/objtool/check.c).
    pub(super) fn drop_switches(&mut self) -> Result<(), String> {
        self.drop_entries()?;
        if let Some(messages) = self.sections.iter().position(|s| s.name == MESSAGES) {
            let was = self.sections[messages].was;
            self.sections[messages].name = UNLISTED.into();
            self.sections.retain(|s| s.kind != SHT_RELA || s.info != was);
        }
        Ok(())
    }

    fn drop_entries(&mut self) -> Result<(), String> {
        let Some(table) = self.sections.iter().position(|s| s.name == TABLE) else { return Ok(()) };
        let was = self.sections[table].was;
        let rows = self.sections.iter().position(|s| s.kind == SHT_RELA && s.info == was);
        let rows = rows.ok_or("its branches have no places")?;
        let mut gone = BTreeSet::new();
        for rela in self.sections[rows].body.chunks_exact(RELA).filter(|rela| u64_at(rela, 0) % ENTRY == KEY) {
            let section = self.section_of(u32_at(rela, 12))?;
            if section.is_some_and(|name| [TRACEPOINTS, MESSAGES].contains(&name)) {
                gone.insert(u64_at(rela, 0) / ENTRY);
            }
        }
        let entries = self.sections[table].body.chunks(ENTRY as usize).zip(0..);
        self.sections[table].body =
            entries.filter(|(_, number)| !gone.contains(number)).flat_map(|(entry, _)| entry).copied().collect();
        let mut kept = Vec::new();
        for rela in self.sections[rows].body.chunks_exact(RELA) {
            let number = u64_at(rela, 0) / ENTRY;
            if !gone.contains(&number) {
                let moved = u64_at(rela, 0) - gone.range(..number).count() as u64 * ENTRY;
                kept.extend(moved.to_le_bytes());
                kept.extend(&rela[8..]);
            }
        }
        self.sections[rows].body = kept;
        Ok(())
    }
}
