//! Reads what the dynamic linker reads of a program: interpreter, needed libraries, search paths (elf(5), ld.so(8)).
//!
//! Only headers and the dynamic section are touched, so that a mapped program of any size costs a few pages.

use goblin::container::Ctx;
use goblin::elf::Elf;
use goblin::elf::dynamic::{
    DF_1_NODEFLIB, DT_FLAGS_1, DT_NEEDED, DT_RPATH, DT_RUNPATH, DT_SONAME, DT_STRSZ, DT_STRTAB, Dynamic,
};
use goblin::elf::header::{EI_CLASS, ELFCLASS64, ELFDATA2LSB, EM_X86_64};
use goblin::elf::program_header::{PT_INTERP, PT_LOAD, ProgramHeader};

/// What the dynamic linker needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ElfInfo {
    /// PT_INTERP.
    pub interpreter: Option<String>,
    /// DT_NEEDED, in order.
    pub needed: Vec<String>,
    /// DT_SONAME.
    pub soname: Option<String>,
    /// DT_RPATH, split at `:`.
    pub rpath: Vec<String>,
    /// DT_RUNPATH, split at `:`. DT_RPATH does not count beside it, even where it is empty.
    pub runpath: Option<Vec<String>>,
    /// DF_1_NODEFLIB (`-z nodefaultlib`).
    pub no_default_folders: bool,
}

/// Why an ELF file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ElfProblem {
    #[error("it is no ELF file")]
    NoElf,
    #[error("it is a 32-bit program")]
    Not64Bit,
    #[error("it is for machine {0} of the ELF list, not for x86_64 (62)")]
    OtherMachine(u16),
    #[error("it is damaged: {0}")]
    Malformed(String),
}

/// Parses an ELF file for x86_64. Never panics, whatever the bytes.
pub fn parse_elf(bytes: &[u8]) -> Result<ElfInfo, ElfProblem> {
    let malformed = |e: goblin::error::Error| ElfProblem::Malformed(e.to_string());
    let header = Elf::parse_header(bytes).map_err(malformed)?;
    if header.e_ident[EI_CLASS] != ELFCLASS64 {
        return Err(ElfProblem::Not64Bit);
    }
    if header.e_machine != EM_X86_64 || header.e_ident[goblin::elf::header::EI_DATA] != ELFDATA2LSB {
        return Err(ElfProblem::OtherMachine(header.e_machine));
    }
    let ctx = Ctx::new(header.container().map_err(malformed)?, header.endianness().map_err(malformed)?);
    let table = usize::try_from(header.e_phoff).map_err(|_| cut_short("the program headers"))?;
    let count = usize::from(header.e_phnum);
    let end = table.checked_add(count * ProgramHeader::size(ctx)).ok_or_else(|| cut_short("the program headers"))?;
    if end > bytes.len() {
        return Err(cut_short("the program headers"));
    }
    let segments = ProgramHeader::parse(bytes, table, count, ctx).map_err(malformed)?;
    let mut info = ElfInfo::default();
    if let Some(segment) = segments.iter().find(|s| s.p_type == PT_INTERP) {
        let text =
            slice(bytes, segment.p_offset, segment.p_filesz).ok_or_else(|| cut_short("the interpreter's name"))?;
        info.interpreter = Some(c_string(text, 0)?);
    }
    if let Some(dynamic) = Dynamic::parse(bytes, &segments, ctx).map_err(malformed)? {
        read_dynamic(bytes, &segments, &dynamic, &mut info)?;
    }
    Ok(info)
}

fn read_dynamic(
    bytes: &[u8],
    segments: &[ProgramHeader],
    dynamic: &Dynamic,
    info: &mut ElfInfo,
) -> Result<(), ElfProblem> {
    let value = |tag| dynamic.dyns.iter().find(|d| d.d_tag == tag).map(|d| d.d_val);
    let strings = match value(DT_STRTAB) {
        Some(address) => {
            let at = file_offset(segments, address).ok_or_else(|| cut_short("the string table"))?;
            let size = value(DT_STRSZ).unwrap_or(0);
            slice(bytes, at, size).ok_or_else(|| cut_short("the string table"))?
        }
        None => &[],
    };
    for entry in &dynamic.dyns {
        match entry.d_tag {
            DT_NEEDED => info.needed.push(c_string(strings, entry.d_val)?),
            DT_RPATH => info.rpath.extend(search_path(&c_string(strings, entry.d_val)?)),
            DT_RUNPATH => {
                let folders = search_path(&c_string(strings, entry.d_val)?);
                info.runpath.get_or_insert_default().extend(folders);
            }
            DT_SONAME => info.soname = Some(c_string(strings, entry.d_val)?),
            DT_FLAGS_1 => info.no_default_folders = entry.d_val & DF_1_NODEFLIB != 0,
            _ => {}
        }
    }
    Ok(())
}

fn search_path(text: &str) -> Vec<String> {
    text.split(':').filter(|dir| !dir.is_empty()).map(Into::into).collect()
}

/// Whether the first 20 bytes of an ELF file are those of one for x86_64. ld.so passes over others when it searches.
pub fn is_for_this_machine(start: &[u8]) -> bool {
    start.get(EI_CLASS) == Some(&ELFCLASS64) && start.get(18..20) == Some(&EM_X86_64.to_le_bytes())
}

fn file_offset(segments: &[ProgramHeader], address: u64) -> Option<u64> {
    let inside = |s: &&ProgramHeader| {
        s.p_type == PT_LOAD && address.checked_sub(s.p_vaddr).is_some_and(|distance| distance < s.p_filesz)
    };
    let segment = segments.iter().find(inside)?;
    segment.p_offset.checked_add(address - segment.p_vaddr)
}

fn slice(bytes: &[u8], at: u64, size: u64) -> Option<&[u8]> {
    let at = usize::try_from(at).ok()?;
    let end = at.checked_add(usize::try_from(size).ok()?)?;
    bytes.get(at..end)
}

fn c_string(table: &[u8], at: u64) -> Result<String, ElfProblem> {
    let rest = usize::try_from(at).ok().and_then(|at| table.get(at..)).ok_or_else(|| cut_short("a name"))?;
    let end = rest.iter().position(|b| *b == 0).ok_or_else(|| cut_short("a name"))?;
    let text = std::str::from_utf8(&rest[..end]).map_err(|_| ElfProblem::Malformed("a name is not UTF-8".into()))?;
    Ok(text.into())
}

fn cut_short(what: &str) -> ElfProblem {
    ElfProblem::Malformed(format!("{what} lies outside of the file"))
}
