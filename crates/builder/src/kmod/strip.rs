//! Makes a module smaller by what the kernel loads it without: type information (BTF), unwinding tables, the places where
//! the function tracer hooks in, the lists of its trace events and debug messages, the names of its own symbols, and what
//! `.modinfo` tells modinfo(8) only. What is left is put into an order that compresses well. Layout as in the ELF
//! specification (gABI, chapters 4 and 5; System V ABI for x86-64, RELA only).
//!
//! A module so changed has no valid signature any more: it is left off, and the kernel notes an unsigned module.
//! With Secure Boot's lockdown the kernel refuses it. The module's functions have no names in the kernel's traces, its
//! tracepoints cannot be traced, and its debug messages cannot be switched on (`dyndbg`).

mod order;
mod switches;
mod symbols;

use std::collections::BTreeMap;

const HEADER: usize = 64;
const SECTION: usize = 64;

const SHT_SYMTAB: u32 = 2;
const SHT_RELA: u32 = 4;
const SHT_NOBITS: u32 = 8;
const SHT_GROUP: u32 = 17;
const SHT_SYMTAB_SHNDX: u32 = 18;

/// Sections that go, with their relocations:
/// - BTF: `kernel/bpf/btf.c` takes a module without;
/// - tables of the ORC unwinder: `arch/x86/kernel/module.c` takes a module without; traces through it are guessed then;
/// - `__patchable_function_entries`: read by objtool when the kernel is built, on x86 by nobody later;
/// - `__mcount_loc`: where the function tracer hooks in (`kernel/trace/ftrace.c`); its calls go too, see `symbols.rs`;
/// - `.smp_locks`: prefixes that are of no use with one processor (`arch/x86/kernel/alternative.c`); they stay then;
/// - notes: `kernel/module/sysfs.c` shows those that there are;
/// - lists of trace events (`kernel/trace/trace_events.c`), of the enums in their texts (`kernel/trace/trace.c`), and of
///   tracepoints (`kernel/tracepoint.c`, `kernel/trace/bpf_trace.c`): as a module comes, the kernel looks for each enum in the
///   text of each event, most of the time that NFS takes to load;
/// - `.static_call_sites`: calls that the kernel makes direct as a module comes (`kernel/static_call_inline.c`), one after another
///   and with an interrupt of all processors for each, half of the time that modules take to load; without the list they
///   go through the trampoline that they were built to, a jump more;
/// - `.call_sites`: what `retbleed=stuff` counts calls by (`arch/x86/kernel/callthunks.c`); without them it refills the return
///   stack more often than it had to, never less.
const DROPPED: [&str; 17] = [
    ".BTF",
    ".call_sites",
    ".comment",
    ".note.Linux",
    ".note.gnu.build-id",
    ".note.gnu.property",
    ".orc_header",
    ".orc_unwind",
    ".orc_unwind_ip",
    ".smp_locks",
    CALL_SITES,
    "__bpf_raw_tp_map",
    "__mcount_loc",
    "__patchable_function_entries",
    "__tracepoints_ptrs",
    "_ftrace_eval_map",
    "_ftrace_events",
];

const CALL_SITES: &str = ".static_call_sites";

const MODINFO: &str = ".modinfo";

/// What the kernel looks up in `.modinfo`, as it loads a module or for sysfs (`get_modinfo`, `for_each_modinfo_entry` and
/// `MODINFO_ATTR` of kernel/module/main.c). Aliases, dependencies, firmware and the texts on parameters are read by
/// programs, and by us before.
const LOOKED_UP: [&str; 11] = [
    "import_ns",
    "intree",
    "license",
    "livepatch",
    "name",
    "retpoline",
    "srcversion",
    "staging",
    "test",
    "vermagic",
    "version",
];

/// In modules that offer functions to eBPF programs (`resolve_btfids` of the kernel's build): those are found by name and
/// by their types, so such a module keeps all but its [`CALL_SITES`].
const KFUNCS: &str = ".BTF_ids";

/// A module without what it can be loaded without; one of an unusual layout is an error that says what is wrong.
pub fn strip_module(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut elf = Elf::parse(bytes)?;
    if elf.sections.iter().any(|section| section.name == KFUNCS) {
        elf.empty_call_sites();
        return Ok(elf.write());
    }
    elf.drop_switches()?;
    elf.drop_sections();
    elf.filter_modinfo();
    elf.drop_symbols()?;
    elf.sort();
    Ok(elf.write())
}

#[derive(Clone)]
struct Section {
    name: String,
    kind: u32,
    flags: u64,
    address: u64,
    link: u32,
    info: u32,
    align: u64,
    entry_size: u64,
    /// Of what has no bytes in the file.
    size: u64,
    body: Vec<u8>,
    /// Index in the input.
    was: u32,
}

#[cfg_attr(test, derive(Clone))]
struct Elf {
    header: [u8; HEADER],
    sections: Vec<Section>,
    names: u32,
}

impl Elf {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let header: [u8; HEADER] = bytes.first_chunk().copied().ok_or("it is too short for an ELF file")?;
        // 64 bits, little-endian, relocatable, x86-64.
        if !header.starts_with(b"\x7fELF\x02\x01") || header[16..20] != [1, 0, 62, 0] {
            return Err("it is no relocatable ELF file for x86-64".into());
        }
        let table = u64_at(&header, 40) as usize;
        let (count, names) = (u16_at(&header, 60) as usize, u16_at(&header, 62));
        let end = count.checked_mul(SECTION).and_then(|n| n.checked_add(table));
        let rows = end.and_then(|end| bytes.get(table..end)).ok_or("its section table lies outside of it")?;
        let rows: Vec<&[u8]> = rows.chunks_exact(SECTION).collect();
        let body = |row: &[u8]| match u32_at(row, 4) {
            0 | SHT_NOBITS => Ok(Vec::new()),
            _ => {
                let (at, size) = (u64_at(row, 24) as usize, u64_at(row, 32) as usize);
                let end = at.checked_add(size).ok_or("a section lies outside of it")?;
                bytes.get(at..end).map(<[u8]>::to_vec).ok_or("a section lies outside of it")
            }
        };
        let strings = body(rows.get(names as usize).ok_or("it has no section names")?)?;
        let mut sections = Vec::new();
        for (was, row) in rows.iter().enumerate() {
            sections.push(Section {
                name: string_at(&strings, u32_at(row, 0))?,
                kind: u32_at(row, 4),
                flags: u64_at(row, 8),
                address: u64_at(row, 16),
                size: u64_at(row, 32),
                link: u32_at(row, 40),
                info: u32_at(row, 44),
                align: u64_at(row, 48),
                entry_size: u64_at(row, 56),
                body: body(row)?,
                was: was as u32,
            });
        }
        match sections.iter().find(|s| [SHT_GROUP, SHT_SYMTAB_SHNDX].contains(&s.kind)) {
            Some(section) => Err(format!("its section `{}` is of a kind that modules do not have", section.name)),
            None => Ok(Self { header, sections, names: names.into() }),
        }
    }

    fn drop_sections(&mut self) {
        let dropped: Vec<u32> =
            self.sections.iter().filter(|s| DROPPED.contains(&s.name.as_str())).map(|s| s.was).collect();
        self.sections.retain(|s| !(dropped.contains(&s.was) || s.kind == SHT_RELA && dropped.contains(&s.info)));
    }

    /// Leaves the section in its place, and with it the numbers of the others, which symbols name.
    fn empty_call_sites(&mut self) {
        let Some(was) = self.sections.iter().find(|s| s.name == CALL_SITES).map(|s| s.was) else { return };
        let theirs = |s: &&mut Section| s.was == was || s.kind == SHT_RELA && s.info == was;
        self.sections.iter_mut().filter(theirs).for_each(|s| s.body.clear());
    }

    /// `KEY=VALUE` strings, each with a zero after it.
    fn filter_modinfo(&mut self) {
        for section in self.sections.iter_mut().filter(|s| s.name == MODINFO) {
            let looked_up = |field: &&[u8]| LOOKED_UP.iter().any(|key| field.starts_with(format!("{key}=").as_bytes()));
            let kept = section.body.split(|b| *b == 0).filter(looked_up);
            section.body = kept.flat_map(|field| field.iter().copied().chain([0])).collect();
        }
    }

    /// Where the input's section of that index is now.
    fn position(&self, was: u32) -> Option<usize> {
        self.sections.iter().position(|s| s.was == was)
    }

    fn write(mut self) -> Vec<u8> {
        let mut names = Names::default();
        let at: Vec<u32> = self.sections.iter().map(|s| names.add(&s.name)).collect();
        let place = self.position(self.names).expect("section names are never dropped");
        self.sections[place].body = names.bytes;
        let mut out = self.header.to_vec();
        let mut rows = Vec::new();
        for (section, name) in self.sections.iter().zip(at) {
            let bytes = !matches!(section.kind, 0 | SHT_NOBITS);
            if bytes {
                out.resize(out.len().next_multiple_of(section.align.clamp(1, 4096) as usize), 0);
            }
            let size = if bytes { section.body.len() as u64 } else { section.size };
            let moved = |was: u32| self.position(was).map_or(0, |place| place as u32);
            // `sh_info` names a section of relocations only; of the symbol table it is a count.
            let info = if section.kind == SHT_RELA { moved(section.info) } else { section.info };
            let offset = if section.kind == 0 { 0 } else { out.len() as u64 };
            rows.extend(name.to_le_bytes());
            rows.extend(section.kind.to_le_bytes());
            [section.flags, section.address, offset, size].iter().for_each(|word| rows.extend(word.to_le_bytes()));
            [moved(section.link), info].iter().for_each(|word| rows.extend(word.to_le_bytes()));
            [section.align, section.entry_size].iter().for_each(|word| rows.extend(word.to_le_bytes()));
            out.extend(&section.body);
        }
        out.resize(out.len().next_multiple_of(8), 0);
        let table = out.len() as u64;
        out.extend(rows);
        out[40..48].copy_from_slice(&table.to_le_bytes());
        out[60..62].copy_from_slice(&(self.sections.len() as u16).to_le_bytes());
        out[62..64].copy_from_slice(&(place as u16).to_le_bytes());
        out
    }
}

/// A string table: each name once.
struct Names {
    bytes: Vec<u8>,
    at: BTreeMap<String, u32>,
}

impl Default for Names {
    fn default() -> Self {
        Self { bytes: vec![0], at: [(String::new(), 0)].into() }
    }
}

impl Names {
    fn add(&mut self, name: &str) -> u32 {
        if let Some(at) = self.at.get(name) {
            return *at;
        }
        let at = self.bytes.len() as u32;
        self.bytes.extend(name.bytes().chain([0]));
        self.at.insert(name.into(), at);
        at
    }
}

fn string_at(strings: &[u8], at: u32) -> Result<String, String> {
    let rest = strings.get(at as usize..).ok_or("a name lies outside of its table")?;
    let end = rest.iter().position(|b| *b == 0).ok_or("a name has no end")?;
    String::from_utf8(rest[..end].to_vec()).map_err(|_| "a name is not UTF-8".into())
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests;
