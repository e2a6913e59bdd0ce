//! What a package says of itself: its control file, and its licence for the SBOM.

use crate::source::PackageFacts;
use deb822_fast::{Deb822, Paragraph};
use std::collections::BTreeSet;

/// The fields of a control file that we use (deb-control(5)).
#[derive(Debug, Clone, PartialEq)]
pub struct Control {
    pub package: String,
    pub version: String,
    pub architecture: String,
    pub maintainer: Option<String>,
    /// The names in `Depends` and `Pre-Depends`, alternatives too.
    pub depends: Vec<String>,
}

/// Parses the `control` file of a binary package; the error says what is wrong with it.
pub fn parse_control(text: &str) -> Result<Control, String> {
    let document: Deb822 = text.parse().map_err(|e: deb822_fast::Error| format!("no deb822: {e}"))?;
    let mut paragraphs = document.iter();
    let (Some(paragraph), None) = (paragraphs.next(), paragraphs.next()) else {
        return Err("expected one paragraph".into());
    };
    let field = |name: &str| match paragraph.get(name).map(str::trim) {
        Some(value) if !value.is_empty() && !value.contains('\n') => Ok(value.to_string()),
        Some(_) => Err(format!("field `{name}` is empty or has several lines")),
        None => Err(format!("field `{name}` is missing")),
    };
    Ok(Control {
        package: field("Package")?,
        version: field("Version")?,
        architecture: field("Architecture")?,
        maintainer: field("Maintainer").ok(),
        depends: ["Depends", "Pre-Depends"].iter().filter_map(|name| paragraph.get(name)).flat_map(names).collect(),
    })
}

/// The packages of a relationship field (Debian policy 7.1), without versions and architectures.
fn names(field: &str) -> impl Iterator<Item = String> {
    let names = field.split([',', '|']).map(|item| item.split(['(', '[', ':', '<']).next().unwrap_or(item).trim());
    names.filter(|name| !name.is_empty()).map(String::from)
}

/// What the SBOM says: purl as in the purl specification, type `deb`.
pub fn facts_of(control: &Control, suite: &str, copyright: Option<&str>) -> PackageFacts {
    let Control { package, version, architecture, maintainer, .. } = control;
    let encode = |text: &str| -> String {
        text.bytes()
            .map(|b| match b {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' | b':' => char::from(b).to_string(),
                other => format!("%{other:02X}"),
            })
            .collect()
    };
    let (name, release, suite) = (encode(package), encode(version), encode(suite));
    PackageFacts {
        name: package.clone(),
        version: version.clone(),
        license: copyright.and_then(parse_license),
        supplier: maintainer.clone(),
        purl: Some(format!("pkg:deb/debian/{name}@{release}?arch={architecture}&distro={suite}")),
    }
}

/// The SPDX expression of a machine-readable copyright file (DEP-5): the licences of all `Files` paragraphs joined by `AND`.
/// `None` when the file is not machine-readable or names a licence that SPDX has no identifier for.
pub fn parse_license(copyright: &str) -> Option<String> {
    let document: Deb822 = copyright.parse().ok()?;
    let mut paragraphs = document.iter();
    let format = paragraphs.next()?.get("Format")?;
    if !format.contains("copyright-format/1.0") {
        return None;
    }
    let mut found = BTreeSet::new();
    for paragraph in paragraphs.filter(|p| p.get("Files").is_some() && !is_packaging(p)) {
        let names = paragraph.get("License")?.lines().next()?.trim();
        found.insert(spdx_expression(names)?);
    }
    match found.len() {
        0 => None,
        1 => found.pop_first(),
        _ => Some(
            found
                .into_iter()
                .map(|one| if one.contains(" OR ") { format!("({one})") } else { one })
                .collect::<Vec<_>>()
                .join(" AND "),
        ),
    }
}

/// A paragraph about nothing but the packaging, which no image holds.
fn is_packaging(paragraph: &Paragraph) -> bool {
    let mut files = paragraph.get("Files").unwrap_or_default().split_whitespace();
    files.clone().next().is_some() && files.all(|file| file.starts_with("debian/"))
}

/// `GPL-2+ or BSD-3-clause` to `BSD-3-Clause OR GPL-2.0-or-later`; a comma binds looser than `and` and `or` (DEP-5): refused.
fn spdx_expression(names: &str) -> Option<String> {
    let either: Option<BTreeSet<String>> = names
        .split(" or ")
        .map(|all| {
            let all: Option<BTreeSet<&str>> = all.split(" and ").map(|one| spdx_name(one.trim())).collect();
            all.map(|all| Vec::from_iter(all).join(" AND "))
        })
        .collect();
    Some(Vec::from_iter(either?).join(" OR "))
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
    NAMES.iter().find(|(dep5, _)| dep5.eq_ignore_ascii_case(name)).map(|(_, spdx)| *spdx)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_files() {
        let text = "Package: crun\nVersion: 1:1.21-1+b1\nArchitecture: amd64\nMaintainer: A B <a@b>\nDescription: x\n more\n .\n text\n";
        let control = parse_control(text).unwrap();
        assert_eq!((control.package.as_str(), control.version.as_str()), ("crun", "1:1.21-1+b1"));
        let facts = facts_of(&control, "trixie", None);
        assert_eq!(facts.purl.as_deref(), Some("pkg:deb/debian/crun@1:1.21-1%2Bb1?arch=amd64&distro=trixie"));
        assert_eq!(facts.supplier.as_deref(), Some("A B <a@b>"));
        assert_eq!(facts.license, None);
    }

    #[test]
    fn bad_control_files_say_why() {
        for (text, problem) in [
            ("", "expected one paragraph"),
            ("Package: a\n\nPackage: b\n", "expected one paragraph"),
            ("Version: 1\nArchitecture: all\n", "field `Package` is missing"),
            ("Package:\nVersion: 1\nArchitecture: all\n", "field `Package` is empty or has several lines"),
            ("Package: a\nVersion: 1\n 2\nArchitecture: all\n", "field `Version` is empty or has several lines"),
        ] {
            assert_eq!(parse_control(text), Err(problem.into()), "{text:?}");
        }
        assert!(parse_control("no colon here\n").unwrap_err().starts_with("no deb822: "));
    }

    #[test]
    fn licences() {
        let dep5 = |rest: &str| {
            parse_license(&format!(
                "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n{rest}"
            ))
        };
        assert_eq!(dep5("Files: *\nCopyright: x\nLicense: GPL-2+\n text\n").as_deref(), Some("GPL-2.0-or-later"));
        let two = "Files: *\nLicense: Expat or GPL-2\n\nFiles: a b\nLicense: zlib\n\nLicense: zlib\n text\n";
        assert_eq!(dep5(two).as_deref(), Some("(GPL-2.0-only OR MIT) AND Zlib"));
        let packaging = "Files: *\nLicense: ISC\n\nFiles: debian/* debian/x\nLicense: strange\n";
        assert_eq!(dep5(packaging).as_deref(), Some("ISC"));
        for unknown in ["Files: *\nLicense: strange\n", "Files: *\nLicense: GPL-2+ with exception\n", "Files: *\n", ""]
        {
            assert_eq!(dep5(unknown), None, "{unknown}");
        }
        assert_eq!(parse_license("This is free software\n"), None);
    }
}
