//! What a package says of itself in its control file.

use crate::source::{PackageFacts, SourcePackage};
use deb822_fast::Deb822;

/// The fields of a control file that we use (deb-control(5)).
#[derive(Debug, Clone, PartialEq)]
pub struct Control {
    pub package: String,
    pub version: String,
    pub architecture: String,
    pub maintainer: Option<String>,
    /// The names in `Depends` and `Pre-Depends`, alternatives too.
    pub depends: Vec<String>,
    /// `Source`, and `Built-Using` and `Static-Built-Using` (Debian policy 5.6.1 and 7.8).
    pub built_from: Vec<SourcePackage>,
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
    let (package, version) = (field("Package")?, field("Version")?);
    let own = source_package(paragraph.get("Source").unwrap_or(&package), &version);
    let others = ["Built-Using", "Static-Built-Using"].iter().filter_map(|name| paragraph.get(name));
    let others = others.flat_map(|field| field.split(',')).map(|one| source_package(one, ""));
    Ok(Control {
        built_from: std::iter::once(own).chain(others).filter(|source| !source.name.is_empty()).collect(),
        package,
        version,
        architecture: field("Architecture")?,
        maintainer: field("Maintainer").ok(),
        depends: ["Depends", "Pre-Depends"].iter().filter_map(|name| paragraph.get(name)).flat_map(names).collect(),
    })
}

/// `NAME`, `NAME (VERSION)` or `NAME (= VERSION)`; without a version it is `default`.
fn source_package(text: &str, default: &str) -> SourcePackage {
    let (name, version) = text.split_once('(').unwrap_or((text, default));
    let version = version.trim_matches(|c: char| c.is_whitespace() || c == '=' || c == ')');
    SourcePackage { name: name.trim().into(), version: version.into() }
}

/// The packages of a relationship field (Debian policy 7.1), without versions and architectures.
fn names(field: &str) -> impl Iterator<Item = String> {
    let names = field.split([',', '|']).map(|item| item.split(['(', '[', ':', '<']).next().unwrap_or(item).trim());
    names.filter(|name| !name.is_empty()).map(String::from)
}

/// What the SBOM says: purl as in the purl specification, type `deb`.
pub fn facts_of(control: &Control, suite: &str) -> PackageFacts {
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
        supplier: maintainer.clone(),
        built_from: control.built_from.clone(),
        purl: Some(format!("pkg:deb/debian/{name}@{release}?arch={architecture}&distro={suite}")),
        ..PackageFacts::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_files() {
        let text = "Package: crun\nVersion: 1:1.21-1+b1\nArchitecture: amd64\nMaintainer: A B <a@b>\nDescription: x\n more\n .\n text\n";
        let control = parse_control(text).unwrap();
        assert_eq!((control.package.as_str(), control.version.as_str()), ("crun", "1:1.21-1+b1"));
        let facts = facts_of(&control, "trixie");
        assert_eq!(facts.purl.as_deref(), Some("pkg:deb/debian/crun@1:1.21-1%2Bb1?arch=amd64&distro=trixie"));
        assert_eq!(facts.supplier.as_deref(), Some("A B <a@b>"));
    }

    #[test]
    fn source_packages_are_named_with_their_versions() {
        let built_from = |fields: &str| {
            let text = format!("Package: a\nVersion: 1-2+b3\nArchitecture: amd64\n{fields}");
            let found = parse_control(&text).unwrap().built_from;
            found.into_iter().map(|s| format!("{} {}", s.name, s.version)).collect::<Vec<_>>()
        };
        assert_eq!(built_from(""), ["a 1-2+b3"]);
        assert_eq!(built_from("Source: src\n"), ["src 1-2+b3"]);
        assert_eq!(built_from("Source: src (1-2)\n"), ["src 1-2"]);
        let using = "Source: src (1-2)\nBuilt-Using: glibc (= 2.41-12), x (= 1:3)\nStatic-Built-Using: rust-y (= 4)\n";
        assert_eq!(built_from(using), ["src 1-2", "glibc 2.41-12", "x 1:3", "rust-y 4"]);
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
}
