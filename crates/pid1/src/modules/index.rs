//! The files of `/lib/modules/<release>`: modules.dep, modules.alias, modules.softdep, modules.builtin (modules.dep(5),
//! modprobe.d(5)) and modules.sums. Names are written with `_` in place of `-`, as in the kernel.

use bootwright_contract::modalias::{kernel_name, may_serve, module_name, serves};
use bootwright_contract::paths::MODULE_SUMS;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The parsed files.
#[derive(Debug, Default, PartialEq)]
pub struct ModuleIndex {
    folder: PathBuf,
    /// Name to file below the folder, and names of the modules that it needs.
    modules: HashMap<String, (String, Vec<String>)>,
    aliases: AliasTable,
    /// Name to names before (pre) and after (post).
    soft: HashMap<String, (Vec<String>, Vec<String>)>,
    /// The text of modules.builtin: one file a line.
    builtin: String,
    /// The text of modules.sums: `<XXH64> <file>` a line.
    sums: String,
}

#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error("cannot read `{path}`: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("line {line} of `{path}` cannot be read")]
    Line { path: PathBuf, line: usize },
}

impl ModuleIndex {
    /// Reads the files of a folder. Only modules.dep must exist.
    ///
    /// # Errors
    /// [`IndexError`]
    pub fn load(folder: &Path) -> Result<ModuleIndex, IndexError> {
        let path = |name: &str| folder.join(name);
        let dep = fs::read_to_string(path("modules.dep"))
            .map_err(|source| IndexError::Read { path: path("modules.dep"), source })?;
        let line = |name: &'static str| move |line| IndexError::Line { path: path(name), line };
        let optional = |name| fs::read_to_string(path(name)).unwrap_or_default();
        Ok(ModuleIndex {
            folder: folder.into(),
            modules: parse_dep(&dep).map_err(line("modules.dep"))?,
            aliases: AliasTable { text: optional("modules.alias"), by_start: OnceLock::new() },
            soft: parse_softdep(&optional("modules.softdep")),
            builtin: kernel_name(&optional("modules.builtin")),
            sums: optional(MODULE_SUMS),
        })
    }

    /// The file of a module.
    pub fn file(&self, name: &str) -> Option<PathBuf> {
        self.modules.get(name).map(|(file, _)| self.folder.join(file))
    }

    /// XXH64 of a module's file, 16 hex digits.
    pub fn xxh64(&self, name: &str) -> Option<&str> {
        let (file, _) = self.modules.get(name)?;
        self.sums.lines().find_map(|line| line.strip_suffix(file.as_str())?.strip_suffix(' '))
    }

    /// Names of the modules that a module needs, in the order of modules.dep.
    pub fn needs(&self, name: &str) -> &[String] {
        self.modules.get(name).map_or(&[], |(_, needs)| needs)
    }

    /// Names of modules to be loaded before and after a module, if they exist.
    pub fn soft(&self, name: &str) -> (&[String], &[String]) {
        self.soft.get(name).map_or((&[], &[]), |(pre, post)| (pre, post))
    }

    pub fn is_builtin(&self, name: &str) -> bool {
        let at_start_of_line = |rest: &str| rest.strip_prefix(name).is_some_and(|rest| rest.starts_with(".ko"));
        self.builtin.split('/').any(at_start_of_line)
    }

    /// Modules that serve a modalias or have an alias. In the order of the file, without duplicates.
    pub fn serving(&self, alias: &str) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for (pattern, name) in self.aliases.possible(alias).filter_map(parse_alias) {
            if serves(pattern, alias) && !found.contains(&kernel_name(name)) {
                found.push(kernel_name(name));
            }
        }
        found
    }
}

/// The lines `alias PATTERN NAME`. There are thousands, of which few are ever parsed.
#[derive(Debug, Default, PartialEq)]
struct AliasTable {
    text: String,
    /// Ranges of the lines by the start of their pattern. Made when the first alias is looked up.
    by_start: OnceLock<HashMap<AliasStart, Vec<Range<usize>>>>,
}

/// The first three bytes of a pattern, which tell buses apart: `pci`, `acpi`, `usb`. Blanks for patterns that begin
/// with a wildcard.
type AliasStart = [u8; 3];
const ANY: AliasStart = *b"   ";

impl AliasTable {
    /// Lines whose pattern may match. In the order of the file, but those that begin with a wildcard come last.
    fn possible(&self, alias: &str) -> impl Iterator<Item = &str> {
        let by_start = self.by_start.get_or_init(|| group_by_start(&self.text));
        let groups = [by_start.get(&start_of(alias)), by_start.get(&ANY)];
        let lines = groups.into_iter().flatten().flatten().filter_map(|at| self.text.get(at.clone()));
        lines.filter(move |line| may_serve(line.get(ALIAS.len()..).unwrap_or(""), alias))
    }
}

fn group_by_start(text: &str) -> HashMap<AliasStart, Vec<Range<usize>>> {
    let mut groups: HashMap<AliasStart, Vec<Range<usize>>> = HashMap::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let at = start..start + line.trim_end().len();
        start += line.len();
        if let Some(pattern) = line.strip_prefix(ALIAS) {
            groups.entry(start_of(pattern)).or_default().push(at);
        }
    }
    groups
}

fn start_of(pattern: &str) -> AliasStart {
    let Some(start) = pattern.as_bytes().first_chunk() else { return ANY };
    match start.iter().any(|b| b" *?[".contains(b)) {
        true => ANY,
        false => start.map(|b| if b == b'-' { b'_' } else { b }),
    }
}

/// Parses lines `FILE: FILE...`. The error is the number of the first bad line, counted from 1.
fn parse_dep(text: &str) -> Result<HashMap<String, (String, Vec<String>)>, usize> {
    let parse = |line: &str| {
        let (file, needs) = line.split_once(':')?;
        Some((module_name(file), (file.trim().to_string(), needs.split_whitespace().map(module_name).collect())))
    };
    lines(text).map(|(number, line)| parse(line).ok_or(number)).collect()
}

/// Parses a line `alias PATTERN NAME`. `None` for other lines.
fn parse_alias(line: &str) -> Option<(&str, &str)> {
    let (pattern, name) = line.strip_prefix(ALIAS)?.rsplit_once(' ')?;
    Some((pattern.trim(), name))
}

const ALIAS: &str = "alias ";

/// Parses lines `softdep NAME pre: A B post: C`. Others are skipped.
fn parse_softdep(text: &str) -> HashMap<String, (Vec<String>, Vec<String>)> {
    let mut all: HashMap<String, (Vec<String>, Vec<String>)> = HashMap::new();
    for (_, line) in lines(text) {
        let mut words = line.split_whitespace();
        let (Some("softdep"), Some(name)) = (words.next(), words.next()) else { continue };
        let (pre, post) = all.entry(kernel_name(name)).or_default();
        let mut list = None;
        for word in words {
            match (word, &mut list) {
                ("pre:", _) => list = Some(&mut *pre),
                ("post:", _) => list = Some(&mut *post),
                (name, Some(list)) => list.push(kernel_name(name)),
                (_, None) => {}
            }
        }
    }
    all
}

/// Lines with their numbers, counted from 1, without blank lines and comments.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(i, line)| (i + 1, line.trim()));
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An index as if read from `/m`.
    pub fn index(dep: &str, alias: &str, softdep: &str, builtin: &str) -> ModuleIndex {
        ModuleIndex {
            folder: "/m".into(),
            modules: parse_dep(dep).unwrap(),
            aliases: AliasTable { text: alias.into(), by_start: OnceLock::new() },
            soft: parse_softdep(softdep),
            builtin: kernel_name(builtin),
            sums: String::new(),
        }
    }

    #[test]
    fn the_four_files() {
        let index = index(
            "kernel/a-b.ko.xz: kernel/c.ko\n\nkernel/c.ko:\n",
            "# made by nobody\nalias virtio:d1v* a-b\nalias virtio:d1v* c\nalias fs-x c\n",
            "softdep c pre: a-b d post: e\nsoftdep c pre: f\n",
            "kernel/fs/ext4/ext4.ko\n",
        );
        assert_eq!(index.file("a_b"), Some("/m/kernel/a-b.ko.xz".into()));
        assert_eq!(index.needs("a_b"), ["c"]);
        assert!(index.needs("c").is_empty() && index.file("nothing").is_none());
        assert_eq!(index.serving("virtio:d1v2"), ["a_b", "c"]);
        assert_eq!(index.serving("fs_x"), ["c"]);
        let strings = |list: &[&str]| list.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        assert_eq!(index.soft("c"), (&strings(&["a_b", "d", "f"])[..], &strings(&["e"])[..]));
        assert!(index.is_builtin("ext4") && !index.is_builtin("c") && !index.is_builtin("ext"));
        for line in ["alias one", "nonsense a b", ""] {
            assert_eq!(parse_alias(line), None);
        }
    }

    #[test]
    fn aliases_are_found_however_they_begin() {
        let text = "alias acpi*:PNP1:* button\nalias *:x y\nalias p?i:* z\nalias a b\nalias net-pf-10 ipv6\n";
        let index = index("", text, "", "");
        for (alias, expected) in
            [("acpi:PNP1:", "button"), ("abc:x", "y"), ("pci:1", "z"), ("a", "b"), ("net_pf_10", "ipv6")]
        {
            assert_eq!(index.serving(alias), [expected], "{alias}");
        }
        assert!(index.serving("acpi:PNP2:").is_empty() && index.serving("").is_empty());
    }

    #[test]
    fn hashes_are_by_file() {
        let mut index = index("kernel/a.ko:\nkernel/b/a-b.ko.xz:\n", "", "", "");
        index.sums = "0123456789abcdef kernel/a.ko\n00000000000000ff kernel/b/a-b.ko.xz\n".into();
        assert_eq!(index.xxh64("a"), Some("0123456789abcdef"));
        assert_eq!(index.xxh64("a_b"), Some("00000000000000ff"));
        assert_eq!(index.xxh64("c"), None);
    }

    #[test]
    fn bad_lines_are_numbered() {
        assert_eq!(parse_dep("a.ko:\nno colon\n"), Err(2));
    }

    proptest! {
        #[test]
        fn no_input_panics(text in "[a-z:. \\n#-]{0,60}") {
            let _ = (parse_dep(&text), parse_softdep(&text), index("", &text, "", &text).serving("a"));
        }
    }
}
