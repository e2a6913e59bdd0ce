//! Where PID1 panics, at the end of its own file: for each instruction that ends one, its source line and what went wrong.
//!
//! PID1 is built so that a panic is one instruction that the processor refuses. The strings and calls that std makes of a
//! panic would be a tenth of the program; this table is a hundredth of it, and lies behind the ELF file's last byte, where no
//! loader looks.
//!
//! Numbers are unsigned LEB128 (DWARF 5, section 7.6). In this order: the count of texts, each text as its length and its
//! bytes; the count of sites, each as the distance of its address from the one before, the index of its file's name among the
//! texts, its line, and the index of its message. Then come the table's size (u32, little-endian) and [`MAGIC`].

/// The last bytes of a program that has such a table.
pub const MAGIC: [u8; 4] = *b"bwps";

/// A place where the program panics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site<'a> {
    /// Counts from the start of the file, as the program is loaded.
    pub address: u64,
    /// `crates/netconf/src/plan.rs`, `nix-0.31.3/src/errno.rs`, `library/alloc/src/str.rs`
    pub file: &'a str,
    pub line: u64,
    /// `index out of bounds`
    pub message: &'a str,
}

/// The bytes to append to a program; `sites` in any order.
pub fn encode(sites: &[Site<'_>]) -> Vec<u8> {
    let mut sorted: Vec<&Site<'_>> = sites.iter().collect();
    sorted.sort_by_key(|site| site.address);
    let mut texts: Vec<&str> = sites.iter().flat_map(|site| [site.file, site.message]).collect();
    texts.sort_unstable();
    texts.dedup();
    let mut table = Vec::new();
    put(&mut table, texts.len() as u64);
    for text in &texts {
        put(&mut table, text.len() as u64);
        table.extend(text.as_bytes());
    }
    let index = |text: &str| texts.partition_point(|other| *other < text) as u64;
    put(&mut table, sorted.len() as u64);
    let mut last = 0;
    for site in sorted {
        for number in [site.address - last, index(site.file), site.line, index(site.message)] {
            put(&mut table, number);
        }
        last = site.address;
    }
    let size = u32::try_from(table.len()).unwrap_or(u32::MAX);
    table.extend(size.to_le_bytes());
    table.extend(MAGIC);
    table
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

/// The place at an address of a program, whose bytes end in a table. It neither allocates nor panics: a program asks it
/// about itself in a signal handler.
pub fn find(program: &[u8], address: u64) -> Option<Site<'_>> {
    let program = program.strip_suffix(&MAGIC)?;
    let (program, size) = program.split_last_chunk::<4>()?;
    let size = usize::try_from(u32::from_le_bytes(*size)).ok()?;
    let (_, table) = program.split_at_checked(program.len().checked_sub(size)?)?;
    let mut rest = table;
    for _ in 0..take(&mut rest)? {
        take_text(&mut rest)?;
    }
    let mut at = 0_u64;
    for _ in 0..take(&mut rest)? {
        at = at.checked_add(take(&mut rest)?)?;
        let (file, line, message) = (take(&mut rest)?, take(&mut rest)?, take(&mut rest)?);
        if at == address {
            return Some(Site { address, file: text(table, file)?, line, message: text(table, message)? });
        }
    }
    None
}

fn text(table: &[u8], index: u64) -> Option<&str> {
    let mut rest = table;
    let count = take(&mut rest)?;
    for _ in 0..index {
        take_text(&mut rest)?;
    }
    let text = take_text(&mut rest)?;
    (index < count).then_some(())?;
    std::str::from_utf8(text).ok()
}

fn take_text<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take(rest)?).ok()?;
    let (text, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(text)
}

fn take(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, behind) = rest.split_first()?;
        *rest = behind;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_site_is_found_behind_a_program(
            program in prop::collection::vec(any::<u8>(), 0..64),
            sites in prop::collection::btree_map(0..u64::from(u32::MAX), ("[a-c]{1,3}", 0..100_000_u64, "[a-c]{1,3}"), 0..40),
        ) {
            let sites: Vec<Site<'_>> = sites
                .iter()
                .map(|(address, (file, line, message))| Site { address: *address, file, line: *line, message })
                .collect();
            let whole = [program, encode(&sites)].concat();
            for site in &sites {
                prop_assert_eq!(find(&whole, site.address), Some(site.clone()));
                let beside = site.address + 1;
                prop_assert_eq!(find(&whole, beside).is_some(), sites.iter().any(|other| other.address == beside));
            }
        }

        #[test]
        fn no_bytes_are_taken_for_more_than_they_are(mut bytes in prop::collection::vec(any::<u8>(), 0..64), size: u32) {
            find(&bytes, 1);
            bytes.extend((size % 80).to_le_bytes());
            bytes.extend(MAGIC);
            find(&bytes, 1);
        }
    }

    #[test]
    fn a_program_without_a_table_has_no_places() {
        assert_eq!(find(b"\x7fELF", 0), None);
        assert_eq!(find(b"", 0), None);
    }
}
