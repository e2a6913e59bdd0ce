//! Does a lock fit its recipe? Each difference names the component and the key.

use super::Lock;
use crate::recipe::{CheckedRecipe, SourceSpec};
use serde_json::Value as Json;
use std::fmt;

/// One reason why a lock does not fit.
#[derive(Debug, Clone, PartialEq)]
pub enum Stale {
    /// The recipe has it, the lock has not.
    Added { component: String },
    /// The lock has it, the recipe has not.
    Removed { component: String },
    /// `key` is dotted (`deb.suite`); the values are written as in JSON, `nothing` for none. One that is too long for a line
    /// is told by its size and the place where the two part.
    Changed { component: String, key: String, old: String, new: String },
    /// A lock that the recipe inherits from, by its path, pins it differently by now.
    Inherited { component: String, lock: String },
}

impl Stale {
    pub fn component(&self) -> &str {
        match self {
            Self::Added { component }
            | Self::Removed { component }
            | Self::Changed { component, .. }
            | Self::Inherited { component, .. } => component,
        }
    }
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added { component } => write!(f, "component `{component}` is new in the recipe"),
            Self::Removed { component } => write!(f, "component `{component}` is gone from the recipe"),
            Self::Changed { component, key, old, new } => {
                write!(f, "component `{component}`: `{key}` changed from {old} to {new}")
            }
            Self::Inherited { component, lock } => {
                write!(f, "component `{component}` is pinned differently in `{lock}`")
            }
        }
    }
}

/// Compares all components of the recipe, those that are switched off included, with the lock. Empty: it fits.
pub fn compare(recipe: &CheckedRecipe, lock: &Lock) -> Vec<Stale> {
    let mut out = Vec::new();
    for component in &recipe.components {
        match lock.components.iter().find(|l| l.name == component.name) {
            None => out.push(Stale::Added { component: component.name.clone() }),
            Some(locked) => compare_specs(&component.name, &locked.spec, &component.source, &mut out),
        }
    }
    for locked in &lock.components {
        if !recipe.components.iter().any(|c| c.name == locked.name) {
            out.push(Stale::Removed { component: locked.name.clone() });
        }
    }
    out
}

fn compare_specs(component: &str, old: &SourceSpec, new: &SourceSpec, out: &mut Vec<Stale>) {
    if old == new {
        return;
    }
    let (old, new) = (to_json(old), to_json(new));
    let kind = |spec: &Json| spec.as_object().and_then(|o| o.keys().next().cloned()).unwrap_or_default();
    if kind(&old) != kind(&new) {
        let (key, old, new) = ("source".to_string(), format!("`{}`", kind(&old)), format!("`{}`", kind(&new)));
        return out.push(Stale::Changed { component: component.into(), key, old, new });
    }
    compare_values(component, "", &old, &new, out);
}

fn compare_values(component: &str, key: &str, old: &Json, new: &Json, out: &mut Vec<Stale>) {
    if old == new {
        return;
    }
    let (Json::Object(a), Json::Object(b)) = (old, new) else {
        let (old, new) = shown(old, new);
        let key = key.to_string();
        return out.push(Stale::Changed { component: component.into(), key, old, new });
    };
    let mut keys: Vec<&String> = a.keys().chain(b.keys().filter(|k| !a.contains_key(*k))).collect();
    keys.sort();
    for below in keys {
        let dotted = if key.is_empty() { below.clone() } else { format!("{key}.{below}") };
        compare_values(
            component,
            &dotted,
            a.get(below).unwrap_or(&Json::Null),
            b.get(below).unwrap_or(&Json::Null),
            out,
        );
    }
}

/// Characters of a value that are shown in a message.
const SHOWN: usize = 60;

/// Both values for one line: whole where they are short, else a piece of each from a little before the place where they part.
fn shown(old: &Json, new: &Json) -> (String, String) {
    let text = |value: &Json| match value {
        Json::Null => "nothing".to_string(),
        value => value.to_string(),
    };
    let (old, new): (Vec<char>, Vec<char>) = (text(old).chars().collect(), text(new).chars().collect());
    let common = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
    let piece = |text: &[char]| {
        if text.len() <= SHOWN {
            return text.iter().collect::<String>();
        }
        let start = common.saturating_sub(SHOWN / 3).min(text.len() - SHOWN / 2);
        let end = (start + SHOWN).min(text.len());
        let (before, after) = (if start > 0 { "..." } else { "" }, if end < text.len() { "..." } else { "" });
        format!("{before}{}{after} ({} characters)", text[start..end].iter().collect::<String>(), text.len())
    };
    (piece(&old), piece(&new))
}

/// Specs are maps with string keys and plain values: they always have a JSON form.
fn to_json(spec: &SourceSpec) -> Json {
    serde_json::to_value(spec).expect("a spec has a JSON form")
}
