//! What a module says of itself: the `.modinfo` section of its ELF file (linux/module.h, `MODULE_INFO`).

use goblin::container::Ctx;
use goblin::elf::{Elf, SectionHeader};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::Read;

/// No module is larger; a file that unpacks to more is damaged or hostile.
const MAX_MODULE: u64 = 512 << 20;

/// The parts of `.modinfo` that decide what else is needed. Module names are as written there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModInfo {
    pub aliases: Vec<String>,
    /// `depends=`; of modules that go into an image in depmod's order.
    pub depends: Vec<String>,
    /// Each `softdep=` as it is: `pre: a b post: c`.
    pub softdeps: Vec<String>,
    /// The names in `weakdep=`: modules that this one asks for as it runs (kmod 33 and later).
    #[serde(default)]
    pub weakdeps: Vec<String>,
    /// Files below `lib/firmware`.
    pub firmware: Vec<String>,
}

impl ModInfo {
    /// The names in `softdep=`, those after `pre:` and those after `post:` alike. An alias may end in a colon too.
    pub fn softdep_names<'a>(&'a self) -> impl Iterator<Item = &'a str> {
        fn is_mark(word: &&str) -> bool {
            matches!(*word, "pre:" | "post:")
        }
        let words = |line: &'a String| line.split_ascii_whitespace().skip_while(|word| !is_mark(word));
        self.softdeps.iter().flat_map(words).filter(|word| !is_mark(word))
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
            "weakdep" => info.weakdeps.extend(value.split_ascii_whitespace().map(Into::into)),
            "firmware" => info.firmware.push(value.into()),
            _ => {}
        }
    }
    Ok(info)
}

fn modinfo_section(bytes: &[u8]) -> Result<&[u8], String> {
    find_section(bytes, ".modinfo")?.ok_or_else(|| "it has no section `.modinfo`".into())
}

/// The section of that name; the error says what is wrong with the file.
pub(super) fn find_section<'a>(bytes: &'a [u8], wanted: &str) -> Result<Option<&'a [u8]>, String> {
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
    let name_of = |s: &SectionHeader| names.get(s.sh_name..).and_then(|name| name.split(|b| *b == 0).next());
    let Some(section) = sections.iter().find(|s| name_of(s) == Some(wanted.as_bytes())) else { return Ok(None) };
    let outside = || format!("its section `{wanted}` lies outside of it");
    body(section).map(Some).ok_or_else(outside)
}

/// Symbols that an unpacked module exports: `EXPORT_SYMBOL` puts their names into `__ksymtab_strings` (linux/export.h).
pub fn exported(bytes: &[u8]) -> Result<BTreeSet<String>, String> {
    let names = find_section(bytes, "__ksymtab_strings")?.unwrap_or_default();
    let names = names.split(|b| *b == 0).filter(|name| !name.is_empty());
    Ok(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
}
