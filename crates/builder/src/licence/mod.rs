//! Licences of packages, as expressions of SPDX identifiers.
//!
//! What SPDX has no identifier for keeps its text, under a `LicenseRef-` name of our own. Nothing is guessed.

mod text;

pub use text::recognise;

use crate::entry::Sha256;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of a package's licence.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Licence {
    /// SPDX licence expression (SPDX 2.3 annex D).
    pub expression: String,
    /// Texts of the `LicenseRef-`s in it, by name.
    pub texts: BTreeMap<String, String>,
    /// `NOTICE` files: what has to be passed on with the package, as the Apache licence has it (section 4 d).
    pub notices: BTreeSet<String>,
}

impl Licence {
    /// A licence that SPDX defines.
    pub fn known(expression: impl Into<String>) -> Self {
        Self { expression: expression.into(), ..Self::default() }
    }

    /// A text that SPDX has no identifier for. The same text has the same name wherever it is found under `hint`.
    pub fn of_text(hint: &str, text: &str) -> Self {
        let hint: String = hint.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
        let name = format!("LicenseRef-{hint}-{}", &Sha256::of(text.as_bytes()).to_string()[..8]);
        Self { texts: BTreeMap::from([(name.clone(), text.to_string())]), ..Self::known(name) }
    }

    /// All of these licences hold, each for a part of the package. `None` without any.
    pub fn all(licences: impl IntoIterator<Item = Self>) -> Option<Self> {
        let (mut parts, mut out) = (BTreeSet::new(), Self::default());
        for licence in licences {
            match licence.expression.contains(" OR ") {
                true => drop(parts.insert(licence.expression)),
                false => parts.extend(licence.expression.split(" AND ").map(String::from)),
            }
            out.texts.extend(licence.texts);
            out.notices.extend(licence.notices);
        }
        let several = parts.len() > 1;
        let part = |one: String| if several && one.contains(" OR ") { format!("({one})") } else { one };
        out.expression = parts.into_iter().map(part).collect::<Vec<_>>().join(" AND ");
        (!out.expression.is_empty()).then_some(out)
    }
}

/// A valid SPDX expression in its usual spelling; `None` for anything else. Older crates write `MIT/Apache-2.0`.
pub fn canonical(expression: &str) -> Option<String> {
    let slashes_are_or = expression.replace('/', " OR ");
    spdx::Expression::parse(&slashes_are_or).ok()?;
    Some(slashes_are_or.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Whether who gives programs away under this licence may owe their source: it is a copyleft one in any of its parts, or not
/// known.
pub fn may_ask_for_source(expression: Option<&str>) -> bool {
    let Some(Ok(parsed)) = expression.map(spdx::Expression::parse) else { return true };
    parsed.requirements().any(|requirement| match requirement.req.license.id() {
        Some(id) => id.is_copyleft(),
        None => true,
    })
}

/// The copyleft licences of an expression, with their texts.
pub fn copyleft_texts(expression: &str) -> Vec<(&'static str, &'static str)> {
    let Ok(parsed) = spdx::Expression::parse(expression) else { return Vec::new() };
    let ids = parsed.requirements().filter_map(|requirement| requirement.req.license.id());
    ids.filter(|id| id.is_copyleft()).map(|id| (id.name, id.text())).collect()
}

/// The copyleft licences that a Debian copyright file refers to by their place on a Debian system, `common-licenses/GPL-2`
/// (Debian policy 12.5), with their texts.
pub fn referred_texts(copyright: &str) -> Vec<(&'static str, &'static str)> {
    let names = copyright.split("common-licenses/").skip(1);
    let names = names.map(|rest| rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '.').next());
    let found = names.flatten().filter_map(|name| {
        let (base, version) = name.trim_end_matches('.').rsplit_once('-')?;
        let version = if version.contains('.') { version.to_string() } else { format!("{version}.0") };
        ["-only", ""].iter().find_map(|end| spdx::license_id(&format!("{base}-{version}{end}")))
    });
    let found: BTreeMap<&str, &str> = found.filter(|id| id.is_copyleft()).map(|id| (id.name, id.text())).collect();
    found.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_joined_once_each() {
        let own = Licence::of_text("a/b", "do as you like");
        let (name, text) = own.texts.first_key_value().unwrap();
        assert_eq!((name.as_str(), text.as_str()), ("LicenseRef-a-b-f185d895", "do as you like"));
        let parts = ["MIT OR ISC", "Zlib", "Zlib", "Unlicense AND Zlib"].map(Licence::known);
        let all = Licence::all(parts.into_iter().chain([own.clone()])).unwrap();
        assert_eq!(all.expression, format!("{name} AND (MIT OR ISC) AND Unlicense AND Zlib"));
        assert_eq!(all.texts, own.texts);
        assert!(canonical(&all.expression).is_some());
        assert_eq!(Licence::all([Licence::known("MIT OR ISC")]).unwrap().expression, "MIT OR ISC");
        assert_eq!(Licence::all([]), None);
    }

    #[test]
    fn copyleft_and_unknown_licences_may_ask_for_source() {
        for (expression, expected) in [
            (Some("MIT AND (Apache-2.0 OR BSD-3-Clause)"), false),
            (Some("GPL-2.0-only"), true),
            (Some("MIT AND LGPL-2.1-or-later"), true),
            (Some("MPL-2.0"), true),
            (Some("LicenseRef-x-1"), true),
            (Some("GPL, see copyright"), true),
            (None, true),
        ] {
            assert_eq!(may_ask_for_source(expression), expected, "{expression:?}");
        }
        let texts = copyleft_texts("MIT AND GPL-2.0-only AND LGPL-2.1-or-later");
        let names: Vec<_> = texts.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["GPL-2.0-only", "LGPL-2.1-or-later"]);
        assert!(texts[0].1.contains("GNU GENERAL PUBLIC LICENSE"));
    }

    #[test]
    fn licences_of_a_debian_system_are_known_by_their_places() {
        let text = "On Debian systems see `/usr/share/common-licenses/GPL-2'.\nAlso /usr/share/common-licenses/LGPL-2.1, and\n\
            /usr/share/common-licenses/Apache-2.0, /usr/share/common-licenses/MPL-2.0. Or /usr/share/common-licenses/GPL.\n";
        let found = referred_texts(text);
        assert_eq!(
            found.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
            ["GPL-2.0-only", "LGPL-2.1-only", "MPL-2.0"]
        );
        assert!(found[0].1.contains("GNU GENERAL PUBLIC LICENSE"));
        assert_eq!(referred_texts("no licence"), []);
    }

    #[test]
    fn expressions_are_those_of_spdx() {
        for (given, expected) in [
            ("MIT", Some("MIT")),
            ("MIT/Apache-2.0", Some("MIT OR Apache-2.0")),
            (
                "MIT AND Apache-2.0 WITH LLVM-exception AND (MIT OR Apache-2.0)",
                Some("MIT AND Apache-2.0 WITH LLVM-exception AND (MIT OR Apache-2.0)"),
            ),
            ("LicenseRef-x-1", Some("LicenseRef-x-1")),
            ("Made-Up-1.0", None),
            ("GPL, see copyright", None),
            ("MIT Apache-2.0", None),
            ("MIT AND", None),
            ("", None),
        ] {
            assert_eq!(canonical(given).as_deref(), expected, "{given}");
        }
    }
}
