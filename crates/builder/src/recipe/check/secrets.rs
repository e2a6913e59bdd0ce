//! Secrets in values of a recipe, and what the recipe allows.

use super::Check;
use crate::recipe::node::{TomlNode, Value};
use crate::recipe::place::At;
use crate::recipe::problem::Problem;
use crate::recipe::{Allowance, SegmentName};
use crate::secrets::{Author, in_file, in_value, is_secret_pair, secret_words};

/// Sections that no image holds.
const NOT_IN_IMAGES: [&str; 5] = ["vars", "smoke", "budget", "extends", "summary"];
/// Keys whose values are words for people, or code of others.
const NOT_JUDGED: [&str; 4] = ["secrets_reason", "help", "find", "replace"];

/// A secret in a value, and how it is described among what was allowed.
struct FoundSecret {
    at: At,
    what: &'static str,
    line: u32,
}

impl Check<'_> {
    /// Judges every value that an image holds, with its variables filled in. Returns what is allowed outside of overlays and
    /// components, whose files are judged when they are read.
    pub(super) fn secrets(&mut self, tree: &TomlNode) -> Vec<Allowance> {
        let mut allowed = Vec::new();
        for section in tree.entries().iter().filter(|section| !NOT_IN_IMAGES.contains(&&*section.key)) {
            let key = section.key.as_str();
            match &section.node.value {
                Value::List(items) => {
                    for item in items {
                        if !self.condition(item) {
                            continue;
                        }
                        let name = ["name", "path", "dir", "ref"].iter().find_map(|key| item.text_of(key));
                        let found = self.judge(item, format!("{key} `{}`", name.unwrap_or_default()));
                        allowed.extend(found.filter(|_| !["component", "image", "overlay"].contains(&key)));
                    }
                }
                Value::Table(entries) if key == "state" => {
                    let states = entries.iter();
                    allowed.extend(states.filter_map(|e| self.judge(&e.node, format!("the state of `{}`", e.key))));
                }
                _ => allowed.extend(self.judge(&section.node, format!("`[{key}]`"))),
            }
        }
        allowed
    }

    /// The reason of `secrets = "allowed"`. One without the other is a problem.
    pub(super) fn secrets_reason(&mut self, node: &TomlNode, place: &str) -> Option<String> {
        let reason = node.text_of("secrets_reason").map(str::trim);
        match (node.get("secrets").is_some(), reason) {
            (true, Some(reason)) if !reason.is_empty() => return Some(reason.into()),
            (true, _) => drop(self.need(None::<()>, "secrets_reason", node, place)),
            (false, Some(_)) => drop(self.need(None::<()>, "secrets", node, place)),
            (false, None) => {}
        }
        None
    }

    fn judge(&mut self, node: &TomlNode, place: String) -> Option<Allowance> {
        let mut found = Vec::new();
        self.collect(node, "", &mut found);
        if let Some(reason) = self.secrets_reason(node, &place) {
            let segment = match node.text_of("segment") {
                Some("boot") => SegmentName::Boot,
                Some("root") => SegmentName::Root,
                _ => SegmentName::Config,
            };
            let found = found.iter().map(|f| match f.line {
                0 => f.what.to_string(),
                line => format!("line {line}: {}", f.what),
            });
            let origin = self.origin(node.at).to_string();
            return Some(Allowance { place, origin, reason, segment, found: found.collect() });
        }
        for FoundSecret { at, what, .. } in found {
            self.report(at, Problem::Secret { what, place: place.clone() });
        }
        None
    }

    fn collect(&self, node: &TomlNode, key: &str, found: &mut Vec<FoundSecret>) {
        match &node.value {
            _ if NOT_JUDGED.contains(&key) => {}
            Value::Text(text) if key == "content" => {
                for secret in in_file("", text.as_bytes(), Author::Own) {
                    let line = (secret.line as usize).checked_sub(1).and_then(|i| text.lines().nth(i));
                    let at = line.map_or(node.at, |line| self.sources.inside(node.at, line.trim()));
                    found.push(FoundSecret { at, what: secret.what, line: secret.line });
                }
            }
            Value::Text(text) => found.extend(in_value(text).map(|what| FoundSecret { at: node.at, what, line: 0 })),
            Value::List(items) if ["exec", "cmdline"].contains(&key) => {
                let words = secret_words(items.iter().map(|item| item.text().unwrap_or_default()));
                found.extend(words.into_iter().map(|word| FoundSecret {
                    at: items[word.at].at,
                    what: word.what,
                    line: 0,
                }));
            }
            Value::List(items) => items.iter().for_each(|item| self.collect(item, key, found)),
            Value::Table(entries) => {
                for entry in entries {
                    let by_name = key == "env" && is_secret_pair(&entry.key, entry.node.text().unwrap_or_default());
                    match by_name {
                        true => found.push(FoundSecret { at: entry.node.at, what: "a password or token", line: 0 }),
                        false => self.collect(&entry.node, &entry.key, found),
                    }
                }
            }
            _ => {}
        }
    }
}
