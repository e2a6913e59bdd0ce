//! Which licence a text is.
//!
//! The texts of the SPDX licence list are compared with the file piece by piece. A file is taken for those that were found only
//! when nothing else stands in it but who holds the copyright: a sentence more may say anything.

use super::{Licence, canonical};
use spdx::detection::scan::Scanner;
use spdx::detection::{Store, TextData};
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// How like each other a text and the list's must be, 1.0 being equal: names of holders in a BSD licence are 0.953.
const THRESHOLD: f32 = 0.95;
/// Licences in one file, at most.
const PASSES: u16 = 6;

static STORE: LazyLock<Store> = LazyLock::new(|| Store::load_inline().expect("the list is part of this program"));

/// The licences in a file. `hint` names what it belongs to, for texts that SPDX has no identifier for.
pub fn recognise(hint: &str, text: &str) -> Licence {
    declared(text).or_else(|| found(hint, text)).unwrap_or_else(|| Licence::of_text(hint, text))
}

/// The expression of a line `SPDX-License-Identifier: EXPRESSION` (SPDX 2.3 annex E), if there is one of them.
fn declared(text: &str) -> Option<Licence> {
    let mut lines = text.lines().filter_map(|line| line.split_once("SPDX-License-Identifier:"));
    match (lines.next(), lines.next()) {
        (Some((_, expression)), None) => canonical(expression.trim_end_matches(['`', ' '])).map(Licence::known),
        _ => None,
    }
}

fn found(hint: &str, text: &str) -> Option<Licence> {
    let data = TextData::new(text);
    let scanner = Scanner::new(&STORE).confidence_threshold(THRESHOLD).shallow_limit(1.1).optimize(true);
    let scanner = scanner.max_passes(PASSES);
    let found = scanner.scan(&data).containing;
    let ids: Option<Vec<_>> = found.iter().map(|f| spdx::license_id(f.license.name)).collect();
    let ids = ids?;
    let names: Vec<&str> = ids.iter().flat_map(|id| [id.name, id.full_name]).chain([hint]).collect();
    let names: BTreeSet<String> = names.into_iter().flat_map(words).collect();
    let is_covered = |number: usize| found.iter().any(|f| (f.line_range.0..f.line_range.1).contains(&number));
    let mut rest = data.lines().iter().enumerate().filter(|(number, _)| !is_covered(*number));
    if !rest.all(|(_, line)| says_nothing_more(line, &names)) {
        return None;
    }
    Licence::all(ids.into_iter().map(|id| Licence::known(id.name)))
}

fn words(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect()
}

/// Whether a line beside a licence's text only tells who holds the copyright, or has no other words than the names of licence and
/// package.
fn says_nothing_more(line: &str, names: &BTreeSet<String>) -> bool {
    let words = words(line);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let is_name = |word: &&str| names.contains(*word) || ["the", "license", "licence", "version"].contains(word);
    words.iter().all(is_name)
        || matches!(words[..], ["copyright" | "c" | "portions", ..])
        || words.ends_with(&["all", "rights", "reserved"])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISC: &str = "ISC License\n\nCopyright (c) 2012 A. B. and others\nPortions Copyright 2013 C\n\n\
        Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby \
        granted, provided that the above copyright notice and this permission notice appear in all copies.\n\n\
        THE SOFTWARE IS PROVIDED \"AS IS\" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING \
        ALL IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, \
        DIRECT, INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, \
        WHETHER IN AN ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE \
        OR PERFORMANCE OF THIS SOFTWARE.\n";

    const MIT: &str = "Permission is hereby granted, free of charge, to any person obtaining a copy of this software and \
        associated documentation files (the \"Software\"), to deal in the Software without restriction, including without \
        limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the \
        Software, and to permit persons to whom the Software is furnished to do so, subject to the following \
        conditions:\n\nThe above copyright notice and this permission notice shall be included in all copies or substantial \
        portions of the Software.\n\nTHE SOFTWARE IS PROVIDED \"AS IS\", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, \
        INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. \
        IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN \
        ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER \
        DEALINGS IN THE SOFTWARE.\n";

    #[test]
    fn texts_of_the_list_are_recognised_whoever_holds_the_copyright() {
        assert_eq!(recognise("x", ISC), Licence::known("ISC"));
        assert_eq!(
            recognise("x", &format!("The MIT License (MIT)\n\nCopyright (c) 2001 D\n\n{MIT}")),
            Licence::known("MIT")
        );
        assert_eq!(recognise("x", &format!("{ISC}\n-----\n\n{MIT}")), Licence::known("ISC AND MIT"));
    }

    #[test]
    fn a_sentence_more_makes_it_a_text_of_its_own() {
        for text in [
            format!("{ISC}\nThe Software shall be used for Good, not Evil, and by nobody who works on Sundays.\n"),
            format!("This project is covered by two licences.\n\nThese files were ported from C:\n\n    a.go\n\n{MIT}"),
            "Do as you like.\n".to_string(),
            String::new(),
        ] {
            let found = recognise("x", &text);
            assert!(found.expression.starts_with("LicenseRef-x-"), "{}", found.expression);
            assert_eq!(found.texts.values().collect::<Vec<_>>(), [&text]);
        }
    }

    #[test]
    fn what_a_file_declares_counts() {
        let text =
            "SPDX-License-Identifier: BSD-3-Clause AND MPL-2.0\n\nWhich of them you follow depends on what you use.\n";
        assert_eq!(recognise("x", text), Licence::known("BSD-3-Clause AND MPL-2.0"));
        let of_nobody = "SPDX-License-Identifier: Made-Up-1.0\n";
        assert!(recognise("x", of_nobody).expression.starts_with("LicenseRef-"));
    }
}
