//! Licences of Debian packages, from `usr/share/doc/PACKAGE/copyright` (Debian policy 12.5).

use crate::entry::{Entry, Kind};
use crate::licence::Licence;
use deb822_fast::{Deb822, Paragraph};
use std::collections::BTreeMap;

/// Where a package's copyright file is.
#[derive(Debug, PartialEq)]
pub enum Copyright<'a> {
    Here(&'a Entry),
    /// In the package of this name, whose folder of documents both share.
    Of(String),
    Absent,
}

/// Looks for the copyright file among the entries of a package, which are sorted by path.
pub fn find<'a>(entries: &'a [Entry], package: &str) -> Copyright<'a> {
    let at = |path: &str| entries.binary_search_by(|e| e.path.as_str().cmp(path)).ok().map(|at| &entries[at]);
    let folder = format!("usr/share/doc/{package}");
    for (path, below) in [(format!("{folder}/copyright"), "/copyright"), (folder, "")] {
        match at(&path).map(|entry| (entry, &entry.kind)) {
            Some((entry, Kind::File(_))) => return Copyright::Here(entry),
            // `../OTHER/copyright`, or `OTHER` for the whole folder.
            Some((_, Kind::Symlink(target))) => {
                let folder = target.strip_suffix(below).unwrap_or(target).trim_end_matches('/');
                return Copyright::Of(folder.rsplit('/').next().unwrap_or(folder).into());
            }
            _ => {}
        }
    }
    Copyright::Absent
}

/// The licence that a copyright file tells of: of a machine-readable one (DEP-5) the licences of all `Files` paragraphs, each of
/// them with its own text where SPDX has no identifier; of any other one its whole text.
pub fn licence_of(package: &str, copyright: &str) -> Licence {
    machine_readable(copyright).unwrap_or_else(|| Licence::of_text(package, copyright))
}

/// `None` also where a licence has neither an identifier nor a text.
fn machine_readable(copyright: &str) -> Option<Licence> {
    let document: Deb822 = copyright.parse().ok()?;
    let mut paragraphs = document.iter();
    if !paragraphs.next()?.get("Format")?.contains("copyright-format/1.0") {
        return None;
    }
    let paragraphs: Vec<&Paragraph> = paragraphs.collect();
    let texts: BTreeMap<&str, String> = paragraphs.iter().filter_map(|p| named_text(p)).collect();
    let of_files = paragraphs.iter().filter(|p| p.get("Files").is_some() && !is_packaging(p));
    let found: Option<Vec<Licence>> = of_files
        .map(|paragraph| {
            let own = named_text(paragraph);
            let text = |name: &str| match &own {
                Some((names, text)) if *names == name => Some(text.clone()),
                _ => texts.get(name).cloned(),
            };
            either(paragraph.get("License")?.lines().next()?.trim(), &text)
        })
        .collect();
    Licence::all(found?)
}

/// The first line of a paragraph's `License` field, and what stands below it: a line of `.` is an empty one.
fn named_text(paragraph: &Paragraph) -> Option<(&str, String)> {
    let (names, text) = paragraph.get("License")?.split_once('\n')?;
    let line = |line: &str| if line.trim() == "." { String::new() } else { line.to_string() };
    Some((names.trim(), text.lines().map(line).collect::<Vec<_>>().join("\n")))
}

/// A paragraph about nothing but the packaging, which no image holds.
fn is_packaging(paragraph: &Paragraph) -> bool {
    let mut files = paragraph.get("Files").unwrap_or_default().split_whitespace();
    files.clone().next().is_some() && files.all(|file| file.starts_with("debian/"))
}

/// `GPL-2+ or BSD-3-clause` to `BSD-3-Clause OR GPL-2.0-or-later`. A comma binds looser than `and` and `or` (DEP-5): such a line
/// is refused, unless all of it has a text. `text` has those that stand in the file, by name.
fn either(names: &str, text: &impl Fn(&str) -> Option<String>) -> Option<Licence> {
    let choices: Option<Vec<Licence>> = names
        .split(" or ")
        .map(|names| Licence::all(names.split(" and ").map(|name| one(name.trim(), text)).collect::<Option<Vec<_>>>()?))
        .collect();
    match choices {
        Some(mut choices) => {
            choices.sort();
            choices.dedup();
            let expressions: Vec<&str> = choices.iter().map(|choice| choice.expression.as_str()).collect();
            let expression = expressions.join(" OR ");
            let texts = choices.into_iter().flat_map(|choice| choice.texts).collect();
            Some(Licence { texts, ..Licence::known(expression) })
        }
        None => Some(Licence::of_text(names, &text(names)?)),
    }
}

fn one(name: &str, text: &impl Fn(&str) -> Option<String>) -> Option<Licence> {
    match spdx_name(name) {
        Some(id) => Some(Licence::known(id)),
        None => Some(Licence::of_text(name, &text(name)?)),
    }
}

/// DEP-5 short name to SPDX identifier (spdx.org/licenses).
fn spdx_name(name: &str) -> Option<&'static str> {
    const NAMES: &[(&str, &str)] = &[
        ("apache-2", "Apache-2.0"),
        ("apache-2.0", "Apache-2.0"),
        ("artistic", "Artistic-1.0-Perl"),
        ("bsd-2-clause", "BSD-2-Clause"),
        ("bsd-3-clause", "BSD-3-Clause"),
        ("bsd-4-clause", "BSD-4-Clause"),
        ("cc0-1.0", "CC0-1.0"),
        ("expat", "MIT"),
        ("gpl-1+", "GPL-1.0-or-later"),
        ("gpl-2", "GPL-2.0-only"),
        ("gpl-2+", "GPL-2.0-or-later"),
        ("gpl-2.0", "GPL-2.0-only"),
        ("gpl-2.0+", "GPL-2.0-or-later"),
        ("gpl-3", "GPL-3.0-only"),
        ("gpl-3+", "GPL-3.0-or-later"),
        ("isc", "ISC"),
        ("lgpl-2", "LGPL-2.0-only"),
        ("lgpl-2+", "LGPL-2.0-or-later"),
        ("lgpl-2.0+", "LGPL-2.0-or-later"),
        ("lgpl-2.1", "LGPL-2.1-only"),
        ("lgpl-2.1+", "LGPL-2.1-or-later"),
        ("lgpl-3", "LGPL-3.0-only"),
        ("lgpl-3+", "LGPL-3.0-or-later"),
        ("mit", "MIT"),
        ("mpl-2.0", "MPL-2.0"),
        ("unlicense", "Unlicense"),
        ("zlib", "Zlib"),
    ];
    let listed = NAMES.iter().find(|(dep5, _)| dep5.eq_ignore_ascii_case(name)).map(|(_, spdx)| *spdx);
    // Other names of DEP-5 are those of SPDX.
    listed.or_else(|| spdx::license_id(name).map(|id| id.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Body;

    const FORMAT: &str = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n";

    fn dep5(rest: &str) -> Licence {
        licence_of("pkg", &format!("{FORMAT}{rest}"))
    }

    #[test]
    fn machine_readable_files_name_their_licences() {
        let two = "Files: *\nLicense: Expat or GPL-2\n\nFiles: a b\nLicense: zlib\n\nLicense: zlib\n text\n";
        let packaging = "Files: *\nLicense: ISC\n\nFiles: debian/* debian/x\nLicense: strange\n";
        for (rest, expected) in [
            ("Files: *\nCopyright: x\nLicense: GPL-2+\n text\n", "GPL-2.0-or-later"),
            (two, "(GPL-2.0-only OR MIT) AND Zlib"),
            (packaging, "ISC"),
            ("Files: *\nLicense: BSL-1.0\n text\n", "BSL-1.0"),
        ] {
            assert_eq!(dep5(rest), Licence::known(expected));
        }
    }

    #[test]
    fn what_spdx_does_not_know_keeps_its_text() {
        let standalone = "Files: *\nLicense: strange and GPL-2\n\nLicense: strange\n Do as\n .\n you like.\n";
        let found = dep5(standalone);
        let (name, text) = found.texts.first_key_value().unwrap();
        assert_eq!(text, "Do as\n\nyou like.");
        assert!(name.starts_with("LicenseRef-strange-"), "{name}");
        assert_eq!(found.expression, format!("GPL-2.0-only AND {name}"));

        let own = dep5(
            "Files: *\nLicense: GPL-2+ with exception\n GPL, but\n\nFiles: b\nLicense: MIT or GPL-2+ with exception\n",
        );
        let (name, text) = own.texts.first_key_value().unwrap();
        assert_eq!(text, "GPL, but");
        assert_eq!(own.expression, format!("{name} AND ({name} OR MIT)"));
    }

    #[test]
    fn any_other_file_is_kept_whole() {
        let unknown = ["Files: *\nLicense: strange\n", "Files: *\n", ""].map(|rest| format!("{FORMAT}{rest}"));
        for text in unknown.iter().map(String::as_str).chain(["This is free software\n", "no: deb822\nat all\n"]) {
            assert_eq!(licence_of("pkg", text), Licence::of_text("pkg", text), "{text}");
        }
    }

    #[test]
    fn folders_of_documents_may_be_shared() {
        let link = |path: &str, to: &str| Entry::of_root(path, Kind::Symlink(to.into()), 0o777);
        let file = Entry::of_root("usr/share/doc/a/copyright", Kind::File(Body::from_bytes(*b"x")), 0o644);
        assert_eq!(find(std::slice::from_ref(&file), "a"), Copyright::Here(&file));
        assert_eq!(find(std::slice::from_ref(&file), "b"), Copyright::Absent);
        for (path, target) in [
            ("usr/share/doc/a", "base"),
            ("usr/share/doc/a", "../doc/base/"),
            ("usr/share/doc/a/copyright", "../base/copyright"),
        ] {
            assert_eq!(find(&[link(path, target)], "a"), Copyright::Of("base".into()), "{path} {target}");
        }
    }
}
