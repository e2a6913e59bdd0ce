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
    /// `key` is dotted (`deb.suite`); the values are written as in JSON, `nothing` for none.
    Changed { component: String, key: String, old: String, new: String },
}

impl Stale {
    pub fn component(&self) -> &str {
        match self {
            Self::Added { component } | Self::Removed { component } | Self::Changed { component, .. } => component,
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
        let (key, old, new) = (key.to_string(), shown(old), shown(new));
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

fn shown(value: &Json) -> String {
    match value {
        Json::Null => "nothing".into(),
        value => value.to_string(),
    }
}

/// Specs are maps with string keys and plain values: they always have a JSON form.
fn to_json(spec: &SourceSpec) -> Json {
    serde_json::to_value(spec).expect("a spec has a JSON form")
}
