//! Symbols, and the relocations that name them. The kernel's loader wants names of what other modules and the kernel have
//! (`simplify_symbols` of kernel/module/main.c); what the module has itself is a place in one of its sections.

use super::{Elf, MODINFO, Names, SHT_RELA, SHT_SYMTAB, string_at, u16_at, u32_at, u64_at};
use std::collections::BTreeMap;

pub(super) const SYMBOL: usize = 24;
pub(super) const RELA: usize = 24;

/// Indexes from here on are no sections (`SHN_ABS`, `SHN_COMMON`).
const SHN_LORESERVE: u16 = 0xff00;
const STT_SECTION: u8 = 3;
const R_X86_64_PC32: u32 = 2;
const R_X86_64_PLT32: u32 = 4;

/// What a compiler calls at the start of functions (`-mfentry`), for the function tracer.
const TRACER: &str = "__fentry__";
/// The call before it is relocated, and what the kernel puts there when it loads the module (`ftrace_nop_replace` of
/// arch/x86/kernel/ftrace.c).
const CALL: [u8; 5] = [0xe8, 0, 0, 0, 0];
const NO_CALL: [u8; 5] = [0x0f, 0x1f, 0x44, 0, 0];

struct Symbol {
    name: String,
    /// Binding and type.
    info: u8,
    other: u8,
    /// Index in the input, or what is no section.
    section: u16,
    value: u64,
    size: u64,
}

impl Symbol {
    fn parse(row: &[u8], strings: &[u8]) -> Result<Self, String> {
        Ok(Self {
            name: string_at(strings, u32_at(row, 0))?,
            info: row[4],
            other: row[5],
            section: u16_at(row, 6),
            value: u64_at(row, 8),
            size: u64_at(row, 16),
        })
    }

    fn is_of_section(&self) -> bool {
        self.info & 15 == STT_SECTION
    }

    /// Binding `STB_LOCAL`: such symbols come first in a table.
    fn is_local(&self) -> bool {
        self.info >> 4 == 0
    }

    fn is_defined_here(&self) -> bool {
        self.section != 0 && self.section < SHN_LORESERVE
    }
}

impl Elf {
    /// Takes the tracer's calls out, lets relocations name sections in place of the module's own symbols, and keeps those
    /// symbols only that are named then.
    pub(super) fn drop_symbols(&mut self) -> Result<(), String> {
        let Some(table) = self.sections.iter().position(|s| s.kind == SHT_SYMTAB) else { return Ok(()) };
        let strings = self.position(self.sections[table].link).ok_or("its symbols have no names")?;
        let rows = self.sections[table].body.chunks_exact(SYMBOL);
        let mut symbols: Vec<Symbol> =
            rows.map(|row| Symbol::parse(row, &self.sections[strings].body)).collect::<Result<_, _>>()?;
        let relocations: Vec<usize> = (0..self.sections.len()).filter(|i| self.sections[*i].kind == SHT_RELA).collect();
        for at in &relocations {
            self.rewrite(*at, &mut symbols)?;
        }
        let order = self.named(&relocations, &symbols);
        let mut numbers: BTreeMap<u32, u32> = BTreeMap::new();
        let (mut body, mut names, mut locals) = (vec![0; SYMBOL], Names::default(), 1);
        for old in order {
            let symbol = &symbols[old as usize];
            numbers.insert(old, (body.len() / SYMBOL) as u32);
            locals += u32::from(symbol.is_local());
            body.extend(self.row(symbol, &mut names)?);
        }
        for at in relocations {
            for rela in self.sections[at].body.chunks_exact_mut(RELA) {
                // The first symbol has no name and no place: a relocation without symbol names it.
                let number = numbers.get(&u32_at(rela, 12)).copied().unwrap_or(0);
                rela[12..16].copy_from_slice(&number.to_le_bytes());
            }
        }
        self.sections[strings].body = names.bytes;
        self.sections[table].body = body;
        self.sections[table].info = locals;
        Ok(())
    }

    /// Name of the section that a symbol is in; none for what is in no section of the module.
    pub(super) fn section_of(&self, symbol: u32) -> Result<Option<&str>, String> {
        let table = self.sections.iter().find(|s| s.kind == SHT_SYMTAB).ok_or("it has no symbols")?;
        let row = table.body.chunks_exact(SYMBOL).nth(symbol as usize).ok_or("a relocation names no symbol")?;
        let section = self.position(u16_at(row, 6).into()).map(|at| self.sections[at].name.as_str());
        Ok(section.filter(|name| !name.is_empty()))
    }

    /// One section of relocations: without those of the tracer's calls, and by sections where it can be.
    fn rewrite(&mut self, at: usize, symbols: &mut Vec<Symbol>) -> Result<(), String> {
        let target = self.position(self.sections[at].info).ok_or("relocations are for no section")?;
        let mut kept = Vec::new();
        for rela in std::mem::take(&mut self.sections[at].body).chunks_exact(RELA) {
            let named = symbols.get(u32_at(rela, 12) as usize).ok_or("a relocation names no symbol")?;
            if named.name == TRACER && [R_X86_64_PC32, R_X86_64_PLT32].contains(&u32_at(rela, 8)) {
                let call = (u64_at(rela, 0) as usize).checked_sub(1).and_then(|start| {
                    self.sections[target].body.get_mut(start..)?.first_chunk_mut().filter(|call| **call == CALL)
                });
                *call.ok_or("the tracer's place is not a call")? = NO_CALL;
                continue;
            }
            let mut rela = rela.to_vec();
            if named.is_defined_here() && !named.is_of_section() {
                let place = u64_at(&rela, 16).wrapping_add(named.value);
                let section = section_symbol(symbols, named.section);
                rela[12..16].copy_from_slice(&section.to_le_bytes());
                rela[16..].copy_from_slice(&place.to_le_bytes());
            }
            kept.extend(rela);
        }
        self.sections[at].body = kept;
        Ok(())
    }

    /// Numbers of the symbols that relocations name, local ones first, without the empty first one. Others' by name: modules name
    /// the same ones one after another then, which compresses better.
    fn named(&self, relocations: &[usize], symbols: &[Symbol]) -> Vec<u32> {
        let rows = relocations.iter().flat_map(|at| self.sections[*at].body.chunks_exact(RELA));
        let mut order: Vec<u32> = rows.map(|rela| u32_at(rela, 12)).filter(|number| *number != 0).collect();
        let key = |number: &u32| {
            let symbol = &symbols[*number as usize];
            (!symbol.is_local(), if symbol.is_local() { "" } else { &symbol.name }, *number)
        };
        order.sort_by(|a, b| key(a).cmp(&key(b)));
        order.dedup();
        order
    }

    fn row(&self, symbol: &Symbol, names: &mut Names) -> Result<Vec<u8>, String> {
        let name = if symbol.is_of_section() { "" } else { &symbol.name };
        let section = match symbol.is_defined_here() {
            true => {
                let place = self.position(symbol.section.into());
                let place = place.filter(|at| self.sections[*at].name != MODINFO);
                place.ok_or("a relocation names a symbol of a section that goes")? as u16
            }
            false => symbol.section,
        };
        let mut row = names.add(name).to_le_bytes().to_vec();
        row.extend([symbol.info, symbol.other]);
        row.extend(section.to_le_bytes());
        row.extend(symbol.value.to_le_bytes());
        row.extend(symbol.size.to_le_bytes());
        Ok(row)
    }
}

/// Number of the symbol that stands for the start of a section; a new one where there is none.
fn section_symbol(symbols: &mut Vec<Symbol>, section: u16) -> u32 {
    let stands = |s: &Symbol| s.is_of_section() && s.section == section && s.value == 0;
    let found = symbols.iter().position(stands).unwrap_or_else(|| {
        symbols.push(Symbol { name: String::new(), info: STT_SECTION, other: 0, section, value: 0, size: 0 });
        symbols.len() - 1
    });
    found as u32
}
