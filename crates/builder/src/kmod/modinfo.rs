//! What a module says of itself: the `.modinfo` section of its ELF file (linux/module.h, `MODULE_INFO`).

use goblin::container::Ctx;
use goblin::elf::{Elf, SectionHeader};
use serde::{Deserialize, Serialize};
use std::io::Read;

/// No module is larger; a file that unpacks to more is damaged or hostile.
const MAX_MODULE: u64 = 512 << 20;

/// The parts of `.modinfo` that decide what else is needed. Module names are as written there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModInfo {
    pub aliases: Vec<String>,
    /// `depends=`, in order.
    pub depends: Vec<String>,
    /// Each `softdep=` as it is: `pre: a b post: c`.
    pub softdeps: Vec<String>,
    /// Files below `lib/firmware`.
    pub firmware: Vec<String>,
}

impl ModInfo {
    /// The names in `softdep=`, those before and those after the module alike.
    pub fn softdep_names(&self) -> impl Iterator<Item = &str> {
        self.softdeps.iter().flat_map(|line| line.split_ascii_whitespace()).filter(|word| !word.ends_with(':'))
    }
}

/// Unpacks a module file by its name: `.ko`, `.ko.xz`, `.ko.zst`, `.ko.gz`. The error says what is wrong with it.
pub fn unpack_module(path: &str, bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut read = |reader: &mut dyn Read| reader.take(MAX_MODULE + 1).read_to_end(&mut out).map_err(|e| e.to_string());
    match path.rsplit_once('.').map(|(_, suffix)| suffix) {
        Some("xz") => read(&mut liblzma::read::XzDecoder::new(&bytes[..]))?,
        Some("zst") => read(&mut zstd::stream::read::Decoder::new(&bytes[..]).map_err(|e| e.to_string())?)?,
        Some("gz") => read(&mut flate2::read::GzDecoder::new(&bytes[..]))?,
        _ => return Ok(bytes),
    };
    match out.len() as u64 <= MAX_MODULE {
        true => Ok(out),
        false => Err(format!("it unpacks to more than {MAX_MODULE} bytes")),
    }
}

/// Reads `.modinfo` of an unpacked module. Never panics, whatever the bytes; the error says what is wrong with them.
pub fn parse_modinfo(bytes: &[u8]) -> Result<ModInfo, String> {
    let section = modinfo_section(bytes)?;
    let mut info = ModInfo::default();
    for field in section.split(|b| *b == 0) {
        let text = String::from_utf8_lossy(field);
        let Some((key, value)) = text.split_once('=') else { continue };
        match key {
            "alias" => info.aliases.push(value.into()),
            "depends" => info.depends.extend(value.split(',').filter(|name| !name.is_empty()).map(Into::into)),
            "softdep" => info.softdeps.push(value.into()),
            "firmware" => info.firmware.push(value.into()),
            _ => {}
        }
    }
    Ok(info)
}

fn modinfo_section(bytes: &[u8]) -> Result<&[u8], String> {
    let header = Elf::parse_header(bytes).map_err(|e| e.to_string())?;
    let wrong = |e: goblin::error::Error| e.to_string();
    let ctx = Ctx::new(header.container().map_err(wrong)?, header.endianness().map_err(wrong)?);
    let table = usize::try_from(header.e_shoff).map_err(|_| "its section table lies outside of it")?;
    let count = usize::from(header.e_shnum);
    let end = table.checked_add(count * SectionHeader::size(ctx));
    if count == 0 || end.is_none_or(|end| end > bytes.len()) {
        return Err("its section table lies outside of it".into());
    }
    let sections = SectionHeader::parse(bytes, table, count, ctx).map_err(wrong)?;
    let body = |s: &SectionHeader| {
        let at = usize::try_from(s.sh_offset).ok()?;
        bytes.get(at..at.checked_add(usize::try_from(s.sh_size).ok()?)?)
    };
    let names = sections.get(usize::from(header.e_shstrndx)).and_then(body).ok_or("it has no section names")?;
    let is_modinfo = |s: &&SectionHeader| names.get(s.sh_name..).is_some_and(|name| name.starts_with(b".modinfo\0"));
    let section = sections.iter().find(is_modinfo).ok_or("it has no section `.modinfo`")?;
    body(section).ok_or_else(|| "its section `.modinfo` lies outside of it".into())
}
