//! The table of the places where PID1 panics, from the names and lines that its compiler wrote.

use addr2line::Loader;
use addr2line::fallible_iterator::FallibleIterator;
use bootwright_contract::panic_sites::{self, Site};
use goblin::elf::Elf;
use std::error::Error;
use std::path::Path;

/// `ud2` (Intel SDM, volume 2B): what a panic is compiled to.
const PANIC: [u8; 2] = [0x0f, 0x0b];

/// What went wrong when this function of the standard library panicked, the innermost one that the list knows.
const MESSAGES: [(&str, &str); 15] = [
    ("panic_bounds_check", "index out of bounds"),
    ("index", "index out of bounds"),
    ("index_mut", "index out of bounds"),
    ("slice_error_fail", "index out of bounds, or within a character"),
    ("split_at", "index out of bounds"),
    ("split_at_mut", "index out of bounds"),
    ("len_mismatch_fail", "slices of different lengths are copied"),
    ("unwrap_failed", "`unwrap` or `expect` of nothing or of an error"),
    ("expect_failed", "`unwrap` or `expect` of nothing or of an error"),
    ("handle_alloc_error", "out of memory"),
    ("capacity_overflow", "more elements than memory has addresses"),
    ("assert_failed", "an assertion does not hold"),
    ("panic_access_error", "a thread's own value is used after the thread's end"),
    ("panic_already_borrowed", "a value is borrowed twice"),
    ("panic_already_mutably_borrowed", "a value is borrowed twice"),
];

struct Frame {
    function: String,
    file: String,
    line: u64,
}

/// The bytes that a linked PID1 with its names and lines gets behind its end.
///
/// What looks like a panic inside another instruction is in the table as well: no processor ever stops there.
pub fn of(program: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    let bytes = std::fs::read(program)?;
    let elf = Elf::parse(&bytes)?;
    let text = elf
        .section_headers
        .iter()
        .find(|section| elf.shdr_strtab.get_at(section.sh_name) == Some(".text"))
        .ok_or("PID1 has no section .text")?;
    let code = text.file_range().and_then(|range| bytes.get(range)).ok_or("PID1's section .text is cut off")?;
    let loader = Loader::new(program).map_err(|e| e.to_string())?;
    let mut places = Vec::new();
    for (offset, _) in code.windows(PANIC.len()).enumerate().filter(|(_, bytes)| *bytes == PANIC) {
        let address = text.sh_addr + offset as u64;
        places.extend(place(&frames(&loader, address)?).map(|place| (address, place)));
    }
    let sites: Vec<Site<'_>> = places
        .iter()
        .map(|(address, (file, line, message))| Site { address: *address, file, line: *line, message })
        .collect();
    Ok(panic_sites::encode(&sites))
}

/// The functions at an address that have a line, the innermost first.
fn frames(loader: &Loader, address: u64) -> Result<Vec<Frame>, String> {
    let found = loader.find_frames(address).map_err(|e| e.to_string())?;
    let frames = found.filter_map(|frame| {
        let function = frame.function.as_ref().and_then(|name| name.demangle().ok()).map(|name| last_name(&name));
        let place = frame.location.and_then(|place| Some((place.file?.to_string(), u64::from(place.line?))));
        Ok(place.filter(|(_, line)| *line > 0).map(|(file, line)| Frame {
            function: function.unwrap_or_default(),
            file,
            line,
        }))
    });
    frames.collect().map_err(|e| e.to_string())
}

/// File, line and message: the first place outside of the standard library, as std's own messages have it.
fn place(frames: &[Frame]) -> Option<(String, u64, String)> {
    let std = frames.iter().take_while(|frame| frame.file.starts_with("/rustc/")).count();
    let at = frames.get(std).or(frames.last())?;
    let inner = frames.get(..std)?;
    let known = |frame: &Frame| MESSAGES.iter().find(|(name, _)| *name == frame.function).map(|(_, message)| *message);
    let message = match (inner.iter().find_map(known), inner.last()) {
        (Some(message), _) => message.to_string(),
        (None, Some(outermost)) if !outermost.function.starts_with("panic") => {
            format!("`{}` panicked", outermost.function)
        }
        _ => "panicked".to_string(),
    };
    Some((short(&at.file), at.line, message))
}

/// `crates/pid1/src/main.rs`, `nix-0.31.3/src/errno.rs`, `library/core/src/str/mod.rs`: what is left without the folders
/// that the compiler puts in place of this machine's.
fn short(file: &str) -> String {
    let file = file.strip_prefix("./").unwrap_or(file);
    let (first, rest) = file.split_once('/').unwrap_or(("", file));
    let short = match first {
        // /rustc/HASH/library/...
        "" => rest.splitn(3, '/').nth(2).unwrap_or(rest),
        registry if registry.starts_with("index.crates.io") => rest,
        _ => file,
    };
    short.to_string()
}

/// `core::slice::index::index<u8>` is `index`.
fn last_name(function: &str) -> String {
    let plain = function.split('<').next().unwrap_or_default();
    plain.rsplit("::").next().unwrap_or(plain).to_string()
}
