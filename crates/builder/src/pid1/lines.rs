//! Names and lines for addresses of PID1, from the file that was split off when it was linked.

use super::{FOR_RAM_DEBUG, WHOLE_DEBUG};
use crate::emit::PID1_DEBUG;
use crate::error::{Exit, Failure};
use addr2line::Loader;
use goblin::elf::Elf;
use serde::Serialize;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// No program has addresses from here on (mm.rst of Linux's x86_64 documentation).
const USER_SPACE: u64 = 1 << 47;
/// So many hex digits tell builds apart.
const LEAST_DIGITS: usize = 8;

/// The first digits of a build id, lower case (ld(1), `--build-id`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildId(String);

/// A function that an address lies in; the innermost first where functions were inlined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Frame {
    pub function: Option<String>,
    /// Below the project's folder, or of a library.
    pub file: Option<String>,
    pub line: Option<u32>,
}

/// Names and lines of one build.
pub struct DebugFile {
    /// All digits of its id.
    pub build: String,
    loader: Loader,
    /// Keeps what was embedded on the disk while it is read.
    _copy: Option<tempfile::NamedTempFile>,
}

#[derive(Debug, thiserror::Error)]
pub enum LinesError {
    #[error("`{text}` is no build id: it has at least {LEAST_DIGITS} hex digits, such as 5d0c7a19")]
    BuildId { text: String },
    #[error("`{text}` is no address: it is a hex number, such as 0x3f21c")]
    Address { text: String },
    #[error("no PID1 of build `{build}` is known here: neither this bootwright's own nor one of {}", out.display())]
    Unknown { build: String, out: PathBuf },
    #[error("cannot read names and lines from `{place}`: {cause}")]
    Read { place: String, cause: String },
}

impl From<LinesError> for Failure {
    fn from(e: LinesError) -> Self {
        let (exit, help) = match &e {
            LinesError::BuildId { .. } | LinesError::Address { .. } => (
                Exit::Usage,
                "take both from the console's line `bug in PID1: ... at ADDRESS, build BUILD`".to_string(),
            ),
            LinesError::Unknown { .. } => (
                Exit::Other,
                format!(
                    "name the folder of the image that the machine booted with --out: `{PID1_DEBUG}` lies beside its initrd"
                ),
            ),
            LinesError::Read { .. } => (Exit::Other, "build the image again with the same bootwright".to_string()),
        };
        Failure { exit, message: e.to_string(), help: Some(help) }
    }
}

impl FromStr for BuildId {
    type Err = LinesError;

    fn from_str(text: &str) -> Result<Self, LinesError> {
        if text.len() < LEAST_DIGITS || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(LinesError::BuildId { text: text.into() });
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for Frame {
    /// `netconf::dhcp::parse at crates/netconf/src/dhcp.rs:12`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.function.as_deref().unwrap_or("a function without a name"))?;
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, " at {file}:{line}"),
            (Some(file), None) => write!(f, " in {file}"),
            (None, _) => Ok(()),
        }
    }
}

/// Reads `0x3f21c` or `3f21c`.
///
/// # Errors
/// [`LinesError::Address`]
pub fn parse_address(text: &str) -> Result<u64, LinesError> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u64::from_str_radix(digits, 16).map_err(|_| LinesError::Address { text: text.into() })
}

/// Names and lines of a build: one of the two embedded, or that of an image in `out` or of the image that `out` is.
///
/// # Errors
/// [`LinesError::Unknown`], [`LinesError::Read`]
pub fn find(build: &BuildId, out: &Path) -> Result<DebugFile, LinesError> {
    for embedded in [WHOLE_DEBUG, FOR_RAM_DEBUG] {
        if let Some(id) = build_id(embedded).filter(|id| id.starts_with(&build.0)) {
            return open_embedded(id, embedded);
        }
    }
    // A folder that cannot be read holds no image.
    let images = std::fs::read_dir(out).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path());
    for path in images.chain([out.to_path_buf()]).map(|dir| dir.join(PID1_DEBUG)) {
        let Ok(bytes) = std::fs::read(&path) else { continue };
        if let Some(id) = build_id(&bytes).filter(|id| id.starts_with(&build.0)) {
            return Ok(DebugFile { build: id, loader: load(&path)?, _copy: None });
        }
    }
    Err(LinesError::Unknown { build: build.0.clone(), out: out.into() })
}

fn open_embedded(build: String, bytes: &[u8]) -> Result<DebugFile, LinesError> {
    let failed =
        |cause: std::io::Error| LinesError::Read { place: "the embedded PID1".into(), cause: cause.to_string() };
    let mut copy = tempfile::NamedTempFile::new().map_err(failed)?;
    copy.write_all(bytes).map_err(failed)?;
    Ok(DebugFile { build, loader: load(copy.path())?, _copy: Some(copy) })
}

fn load(path: &Path) -> Result<Loader, LinesError> {
    Loader::new(path).map_err(|cause| LinesError::Read { place: path.display().to_string(), cause: cause.to_string() })
}

/// The note `NT_GNU_BUILD_ID` (elf(5)), in hex.
fn build_id(bytes: &[u8]) -> Option<String> {
    const NT_GNU_BUILD_ID: u32 = 3;
    let elf = Elf::parse(bytes).ok()?;
    let mut notes = elf.iter_note_sections(bytes, None)?.filter_map(Result::ok);
    notes.find(|note| note.name == "GNU" && note.n_type == NT_GNU_BUILD_ID).map(|note| hex::encode(note.desc))
}

impl DebugFile {
    /// The functions at an address that counts from the start of the file, the innermost first; none where there is no code.
    ///
    /// # Errors
    /// [`LinesError::Read`]
    pub fn frames(&self, address: u64) -> Result<Vec<Frame>, LinesError> {
        let failed = |cause: String| LinesError::Read { place: format!("build {}", self.build), cause };
        if address >= USER_SPACE {
            return Ok(Vec::new());
        }
        let mut frames = self.loader.find_frames(address).map_err(|e| failed(e.to_string()))?;
        let mut found = Vec::new();
        while let Some(frame) = frames.next().map_err(|e| failed(e.to_string()))? {
            let name = frame.function.as_ref().and_then(|name| name.demangle().ok()).map(|name| name.into_owned());
            let (file, line) = frame.location.map_or((None, None), |place| (place.file.map(below_project), place.line));
            found.push(Frame { function: name, file, line });
        }
        if found.is_empty()
            && let Some(symbol) = self.loader.find_symbol(address)
        {
            let function = addr2line::demangle_auto(symbol.into(), None).into_owned();
            found.push(Frame { function: Some(function), file: None, line: None });
        }
        Ok(found)
    }
}

/// The compiler writes `./crates/pid1/src/main.rs`.
fn below_project(file: &str) -> String {
    file.strip_prefix("./").unwrap_or(file).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_builds_as_a_console_shows_them() {
        assert_eq!(parse_address("0x3f21c").ok(), parse_address("3f21c").ok());
        for text in ["", "0x", "main", "-1"] {
            assert!(parse_address(text).is_err(), "{text}");
        }
        assert_eq!("5D0C7A19".parse::<BuildId>().ok(), Some(BuildId("5d0c7a19".into())));
        for text in ["", "5d0c7a1", "5d0c7a1z", "worker"] {
            assert!(text.parse::<BuildId>().is_err(), "{text}");
        }
    }

    /// C's `main`, which has no line, has its name, and functions of ours have their files.
    #[test]
    fn both_shapes_of_pid1_name_their_lines() {
        for bytes in [WHOLE_DEBUG, FOR_RAM_DEBUG] {
            let id = build_id(bytes).expect("the linker made an id");
            let debug = find(&id[..LEAST_DIGITS].parse().unwrap(), Path::new("/nowhere")).unwrap();
            assert_eq!(debug.build, id);
            let elf = Elf::parse(bytes).unwrap();
            let named = |symbol: &goblin::elf::Sym| elf.strtab.get_at(symbol.st_name).unwrap_or_default();
            let main = elf.syms.iter().find(|s| s.is_function() && named(s) == "main").expect("C's main");
            assert_eq!(
                debug.frames(main.st_value).unwrap().last().and_then(|f| f.function.clone()).as_deref(),
                Some("main")
            );
            let ours = elf.syms.iter().filter(|s| s.is_function()).flat_map(|s| debug.frames(s.st_value).unwrap());
            let placed = ours.filter(|f| f.line.is_some_and(|line| line > 0)).filter_map(|f| f.file);
            assert!(placed.into_iter().any(|file| file.contains("crates/pid1/src/")));
            assert_eq!(debug.frames(u64::MAX).unwrap(), []);
        }
    }

    #[test]
    fn an_image_beside_names_the_lines_of_another_build() {
        let out = tempfile::tempdir().unwrap();
        let build: BuildId = "0123456789".parse().unwrap();
        let refused = find(&build, out.path()).err().expect("nobody knows it").to_string();
        assert!(refused.contains("no PID1 of build `0123456789`"), "{refused}");
        // The same file under another id: the note holds the id's bytes as they are.
        let own = hex::decode(build_id(WHOLE_DEBUG).unwrap()).unwrap();
        let at = WHOLE_DEBUG.windows(own.len()).position(|window| window == own).unwrap();
        let mut other = WHOLE_DEBUG.to_vec();
        other[at..at + 5].copy_from_slice(&[0x01, 0x23, 0x45, 0x67, 0x89]);
        let image = out.path().join("worker");
        std::fs::create_dir(&image).unwrap();
        std::fs::write(image.join(PID1_DEBUG), other).unwrap();
        for place in [out.path(), &image] {
            assert!(find(&build, place).unwrap().build.starts_with("0123456789"));
        }
    }
}
