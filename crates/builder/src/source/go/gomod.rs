//! Reads and writes `go.mod` files (https://go.dev/ref/mod, "go.mod files").

use super::super::SourceError;

/// What a build needs of a `go.mod`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GoMod {
    pub module: String,
    /// Least Go version, `1.26.0`; empty where there is no `go` line.
    pub go: String,
    /// `key=value` of `godebug` lines: they decide defaults of the built program.
    pub godebug: Vec<String>,
    pub requires: Vec<Require>,
    pub replaces: Vec<Replace>,
    /// `path version` of `exclude` lines.
    pub excludes: Vec<(String, String)>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Require {
    pub path: String,
    pub version: String,
    /// Marked `// indirect`: no package of the module imports it.
    pub indirect: bool,
}

/// `from [from_version] => to [version]`; `to` is a folder when it has no version.
#[derive(Debug, Clone, PartialEq)]
pub struct Replace {
    pub from: String,
    pub from_version: Option<String>,
    pub to: String,
    pub version: Option<String>,
}

/// Parses the text of a `go.mod`. Directives that do not change a build of its packages are skipped (`toolchain`,
/// `retract`, `tool`, `ignore`).
///
/// # Errors
/// The number (1-based) and text of the first line that is malformed.
pub fn parse_go_mod(text: &str) -> Result<GoMod, (usize, String)> {
    let mut found = GoMod::default();
    let mut block: Option<String> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let bad = || (number, line.trim().to_string());
        let (code, comment) = line.split_once("//").unwrap_or((line, ""));
        let words = words(code).ok_or_else(bad)?;
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let indirect = comment.trim_start().starts_with("indirect");
        match (&block, words.as_slice()) {
            (_, []) => {}
            (Some(_), [")"]) => block = None,
            (Some(directive), rest) => add(&mut found, directive, rest, indirect).ok_or_else(bad)?,
            (None, [directive, "("]) => block = Some((*directive).into()),
            (None, [directive, rest @ ..]) => add(&mut found, directive, rest, indirect).ok_or_else(bad)?,
        }
    }
    match block {
        Some(directive) => Err((text.lines().count(), format!("{directive} ( without an end"))),
        None => Ok(found),
    }
}

/// Parses `text`, naming `subject` in errors.
pub fn read_go_mod(subject: &str, text: &str) -> Result<GoMod, SourceError> {
    parse_go_mod(text).map_err(|(line, found)| SourceError::BadInput {
        subject: subject.into(),
        problem: format!("go.mod line {line} is malformed: {found}"),
        help: "correct the line; `go mod verify` and `go mod tidy` check the rest".into(),
    })
}

fn add(found: &mut GoMod, directive: &str, words: &[&str], indirect: bool) -> Option<()> {
    match (directive, words) {
        ("module", [path]) => found.module = (*path).into(),
        ("go", [version]) => found.go = (*version).into(),
        ("godebug", [setting]) => found.godebug.push((*setting).into()),
        ("require", [path, version]) => {
            found.requires.push(Require { path: (*path).into(), version: (*version).into(), indirect });
        }
        ("exclude", [path, version]) => found.excludes.push(((*path).into(), (*version).into())),
        ("replace", [from, "=>", to]) => found.replaces.push(replace(from, None, to, None)),
        ("replace", [from, version, "=>", to]) => found.replaces.push(replace(from, Some(version), to, None)),
        ("replace", [from, "=>", to, version]) => found.replaces.push(replace(from, None, to, Some(version))),
        ("replace", [from, old, "=>", to, new]) => found.replaces.push(replace(from, Some(old), to, Some(new))),
        ("toolchain" | "retract" | "tool" | "ignore", _) => {}
        _ => return None,
    }
    Some(())
}

fn replace(from: &str, from_version: Option<&&str>, to: &str, version: Option<&&str>) -> Replace {
    let owned = |text: Option<&&str>| text.map(ToString::to_string);
    Replace { from: from.into(), from_version: owned(from_version), to: to.into(), version: owned(version) }
}

/// Splits at blanks; `"..."` and `` `...` `` may hold blanks. `None` for a quote that does not end.
fn words(code: &str) -> Option<Vec<String>> {
    let mut out = Vec::new();
    let mut rest = code.trim();
    while let Some(first) = rest.chars().next() {
        let (word, tail) = match first {
            '"' | '`' => rest[1..].split_once(first)?,
            '(' | ')' => rest.split_at(1),
            _ => rest.split_at(rest.find([' ', '\t', '(', ')']).unwrap_or(rest.len())),
        };
        out.push(word.to_string());
        rest = tail.trim_start();
    }
    Some(out)
}

/// The text of a `go.mod`.
pub fn write_go_mod(module: &GoMod) -> String {
    let mut out = format!("module {}\n\n", module.module);
    if !module.go.is_empty() {
        out += &format!("go {}\n\n", module.go);
    }
    for setting in &module.godebug {
        out += &format!("godebug {setting}\n");
    }
    for Require { path, version, .. } in &module.requires {
        out += &format!("require {path} {version}\n");
    }
    for (path, version) in &module.excludes {
        out += &format!("exclude {path} {version}\n");
    }
    for replace in &module.replaces {
        let with = |version: &Option<String>| version.as_ref().map(|v| format!(" {v}")).unwrap_or_default();
        out += &format!(
            "replace {}{} => {}{}\n",
            replace.from,
            with(&replace.from_version),
            replace.to,
            with(&replace.version)
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
// A comment.
module k8s.io/kubernetes

go 1.26.0

toolchain go1.26.3

godebug default=go1.26

godebug (
	panicnil=1
)

require github.com/a/b v1.2.3 // indirect
require (
	k8s.io/api v0.0.0
	\"k8s.io/x\" v0.1.0 //indirect
)

retract [v1.0.0, v1.1.0] // bad
exclude github.com/a/b v1.2.4

replace (
	k8s.io/api => ./staging/src/k8s.io/api
	old v1.0.0 => new v1.0.1
)
";

    #[test]
    fn what_a_build_needs_is_read() {
        let found = parse_go_mod(TEXT).unwrap();
        assert_eq!((found.module.as_str(), found.go.as_str()), ("k8s.io/kubernetes", "1.26.0"));
        assert_eq!(found.godebug, ["default=go1.26", "panicnil=1"]);
        let requires: Vec<_> =
            found.requires.iter().map(|r| (r.path.as_str(), r.version.as_str(), r.indirect)).collect();
        let expected =
            [("github.com/a/b", "v1.2.3", true), ("k8s.io/api", "v0.0.0", false), ("k8s.io/x", "v0.1.0", true)];
        assert_eq!(requires, expected);
        assert_eq!(found.replaces[0].version, None);
        assert_eq!(found.replaces[1], replace("old", Some(&"v1.0.0"), "new", Some(&"v1.0.1")));
        assert_eq!(found.excludes, [("github.com/a/b".to_string(), "v1.2.4".to_string())]);
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let mut found = parse_go_mod(TEXT).unwrap();
        found.requires.iter_mut().for_each(|r| r.indirect = false);
        assert_eq!(parse_go_mod(&write_go_mod(&found)).unwrap(), found);
    }

    #[test]
    fn malformed_lines_are_named() {
        for (text, line) in [
            ("module a\nrequire b\n", 2),
            ("module \"a\n", 1),
            ("nonsense x\n", 1),
            ("module a\nrequire (\n\tb v1\n", 3),
            ("replace a b c d e f\n", 1),
        ] {
            assert_eq!(parse_go_mod(text).unwrap_err().0, line, "{text}");
        }
    }
}
