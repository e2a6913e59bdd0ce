//! Headers of EFI programs, and the hash by which firmware knows one: "PE Format" (learn.microsoft.com/windows/win32/debug/pe-format)
//! and "Windows Authenticode Portable Executable Signature Format", section "Calculating the PE Image Hash".

use crate::entry::Sha256;
use sha2::{Digest, Sha256 as Hasher};
use std::ops::Range;

/// Offset of the PE header's own offset in the DOS header (`e_lfanew`).
const PE_OFFSET: usize = 0x3c;
/// Bytes of the signature `PE\0\0` and the COFF header behind it: there the optional header begins.
const COFF_END: usize = 24;
/// Of the optional header, PE32+.
const MAGIC: u16 = 0x20b;
const SIZE_OF_HEADERS: usize = 60;
const CHECKSUM: usize = 64;
const NUMBER_OF_DIRECTORIES: usize = 108;
const DIRECTORIES: usize = 112;
/// The fifth data directory, which says where the signatures are.
const CERTIFICATES: usize = 4;
const DIRECTORY_BYTES: usize = 8;
pub const SECTION_HEADER_BYTES: usize = 40;

/// What is no 64-bit EFI program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PeError {
    #[error("it has no PE header of a 64-bit program")]
    NotPe,
    #[error("it ends before byte {0}, which its headers speak of")]
    Short(usize),
}

/// Where a section lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section {
    pub name: [u8; 8],
    pub virtual_size: u32,
    pub virtual_address: u32,
    pub raw_size: u32,
    pub raw_offset: u32,
}

/// The headers of an EFI program; offsets are the file's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers {
    /// Of the signature `PE\0\0`.
    pub pe: usize,
    /// Of the optional header.
    pub optional: usize,
    /// Of the table of sections.
    pub table: usize,
    pub size_of_headers: usize,
    /// Of the entry that says where the signatures are; none where the header has fewer.
    certificates_entry: Option<usize>,
    /// Bytes of signatures, which are the last ones of the file.
    certificates: usize,
    pub sections: Vec<Section>,
}

impl Headers {
    /// # Errors
    /// [`PeError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, PeError> {
        let pe = u32_at(bytes, PE_OFFSET).map_err(|_| PeError::NotPe)? as usize;
        if !bytes.starts_with(b"MZ") || !bytes.get(pe..).is_some_and(|rest| rest.starts_with(b"PE\0\0")) {
            return Err(PeError::NotPe);
        }
        let optional = pe + COFF_END;
        if u16_at(bytes, optional)? != MAGIC {
            return Err(PeError::NotPe);
        }
        let (count, optional_bytes) = (u16_at(bytes, pe + 6)?, u16_at(bytes, pe + 20)?);
        let table = optional + usize::from(optional_bytes);
        let has_entry = u32_at(bytes, optional + NUMBER_OF_DIRECTORIES)? as usize > CERTIFICATES;
        let certificates_entry = has_entry.then_some(optional + DIRECTORIES + CERTIFICATES * DIRECTORY_BYTES);
        let certificates = certificates_entry.map_or(Ok(0), |at| u32_at(bytes, at + 4))? as usize;
        let size_of_headers = u32_at(bytes, optional + SIZE_OF_HEADERS)? as usize;
        let sections = (0..usize::from(count)).map(|i| section(bytes, table + i * SECTION_HEADER_BYTES));
        let sections = sections.collect::<Result<_, _>>()?;
        Ok(Self { pe, optional, table, size_of_headers, certificates_entry, certificates, sections })
    }
}

/// The Authenticode hash of an EFI program, signed or not: what firmware looks up in `db` and extends PCR 4 with. Bytes are
/// hashed as firmware does it (EDK II, `MeasurePeImageAndExtend`), which adds no zeros to a file whose size is no multiple of 8.
///
/// # Errors
/// [`PeError`].
pub fn authenticode(bytes: &[u8]) -> Result<Sha256, PeError> {
    let headers = Headers::parse(bytes)?;
    let mut hasher = Hasher::new();
    let mut add = |range: Range<usize>| {
        let end = range.end;
        bytes.get(range).map(|part| hasher.update(part)).ok_or(PeError::Short(end))
    };
    let checksum = headers.optional + CHECKSUM;
    add(0..checksum)?;
    match headers.certificates_entry {
        Some(at) => {
            add(checksum + 4..at)?;
            add(at + DIRECTORY_BYTES..headers.size_of_headers)?;
        }
        None => add(checksum + 4..headers.size_of_headers)?,
    }
    let mut sections: Vec<&Section> = headers.sections.iter().filter(|s| s.raw_size > 0).collect();
    sections.sort_by_key(|s| s.raw_offset);
    let mut hashed = headers.size_of_headers;
    for section in sections {
        let (start, size) = (section.raw_offset as usize, section.raw_size as usize);
        add(start..start + size)?;
        hashed += size;
    }
    // What belongs to no section, before the signatures.
    let end = bytes.len().checked_sub(headers.certificates).ok_or(PeError::Short(headers.certificates))?;
    if end > hashed {
        add(hashed..end)?;
    }
    Ok(Sha256(hasher.finalize().into()))
}

fn section(bytes: &[u8], at: usize) -> Result<Section, PeError> {
    let name = bytes.get(at..at + 8).and_then(|name| name.try_into().ok());
    Ok(Section {
        name: name.ok_or(PeError::Short(at + 8))?,
        virtual_size: u32_at(bytes, at + 8)?,
        virtual_address: u32_at(bytes, at + 12)?,
        raw_size: u32_at(bytes, at + 16)?,
        raw_offset: u32_at(bytes, at + 20)?,
    })
}

/// A little-endian number.
pub fn u16_at(bytes: &[u8], at: usize) -> Result<u16, PeError> {
    let found = bytes.get(at..at + 2).and_then(|part| part.try_into().ok());
    found.map(u16::from_le_bytes).ok_or(PeError::Short(at + 2))
}

/// A little-endian number.
pub fn u32_at(bytes: &[u8], at: usize) -> Result<u32, PeError> {
    let found = bytes.get(at..at + 4).and_then(|part| part.try_into().ok());
    found.map(u32::from_le_bytes).ok_or(PeError::Short(at + 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Headers of 512 bytes, two sections whose headers are not in the order of the file, four bytes behind them.
    fn program() -> Vec<u8> {
        let mut bytes = vec![0; 0x200];
        bytes[..2].copy_from_slice(b"MZ");
        bytes[PE_OFFSET] = 0x40;
        bytes[0x40..0x44].copy_from_slice(b"PE\0\0");
        bytes[0x46] = 2;
        bytes[0x54] = 0xf0;
        let optional = 0x58;
        bytes[optional..optional + 2].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[optional + SIZE_OF_HEADERS..optional + SIZE_OF_HEADERS + 4].copy_from_slice(&0x200u32.to_le_bytes());
        bytes[optional + NUMBER_OF_DIRECTORIES] = 16;
        let table = optional + 0xf0;
        for (i, offset) in [0x220u32, 0x200].into_iter().enumerate() {
            let at = table + i * SECTION_HEADER_BYTES;
            bytes[at + 16..at + 20].copy_from_slice(&0x20u32.to_le_bytes());
            bytes[at + 20..at + 24].copy_from_slice(&offset.to_le_bytes());
        }
        bytes.extend([1; 0x20]);
        bytes.extend([2; 0x20]);
        bytes.extend(b"rest");
        bytes
    }

    #[test]
    fn checksum_and_signatures_do_not_count_and_all_else_does() {
        let plain = program();
        let hash = authenticode(&plain).unwrap();
        let optional = 0x58;
        let mut signed = plain.clone();
        signed[optional + CHECKSUM] = 7;
        let entry = optional + DIRECTORIES + CERTIFICATES * DIRECTORY_BYTES;
        signed[entry..entry + 4].copy_from_slice(&(plain.len() as u32).to_le_bytes());
        signed[entry + 4] = 16;
        signed.extend([9; 16]);
        assert_eq!(authenticode(&signed).unwrap(), hash);
        let skipped: Vec<usize> = (optional + CHECKSUM..optional + CHECKSUM + 4).chain(entry..entry + 8).collect();
        let parsed = Headers::parse(&plain).unwrap();
        // All that a change does not make another program of.
        let plain_bytes = (parsed.table + 40 * 2..plain.len()).chain(2..PE_OFFSET).filter(|at| !skipped.contains(at));
        for at in plain_bytes {
            let mut other = plain.clone();
            other[at] ^= 1;
            assert_ne!(authenticode(&other).unwrap(), hash, "byte {at:#x}");
        }
    }

    #[test]
    fn what_is_cut_short_or_no_program_is_an_error() {
        let plain = program();
        for end in 0..plain.len() - 4 {
            assert!(authenticode(&plain[..end]).is_err(), "{end:#x}");
        }
        assert_eq!(authenticode(&[b"ELF", &plain[3..]].concat()), Err(PeError::NotPe));
        let mut greedy = plain;
        greedy[0x58 + DIRECTORIES + CERTIFICATES * DIRECTORY_BYTES + 6] = 0xff;
        assert!(matches!(authenticode(&greedy), Err(PeError::Short(_))));
    }
}
