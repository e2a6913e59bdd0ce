//! What a renewal changed, readable.

use super::{Lock, LockedComponent};
use crate::source::Pin;
use std::fmt;

/// One pin that differs between two locks.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    Added {
        component: String,
        pin: Pin,
    },
    Removed {
        component: String,
        pin: Pin,
    },
    Renewed {
        component: String,
        old: Pin,
        new: Pin,
    },
    /// The pins are the same, what the recipe asks for is not.
    SpecOnly {
        component: String,
    },
    /// Pinned now, as an extended recipe pins it: the pins are many, and told there.
    Inherited {
        component: String,
        pins: usize,
    },
}

/// All differences, by component and pin. Displays as one line each.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LockDiff {
    pub changes: Vec<Change>,
}

impl LockDiff {
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// What `new` changes. Without an `old` lock everything is added.
pub fn diff_locks(old: Option<&Lock>, new: &Lock) -> LockDiff {
    let before: &[LockedComponent] = old.map_or(&[], |l| &l.components);
    let mut names: Vec<&str> = before.iter().chain(&new.components).map(|c| c.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let find = |list: &'_ [LockedComponent], name: &str| list.iter().find(|c| c.name == name).cloned();
    let mut changes = Vec::new();
    for name in names {
        diff_component(name, find(before, name), find(&new.components, name), &mut changes);
    }
    LockDiff { changes }
}

fn diff_component(name: &str, old: Option<LockedComponent>, new: Option<LockedComponent>, out: &mut Vec<Change>) {
    let same_pins = |a: &LockedComponent, b: &LockedComponent| a.pins == b.pins && a.spec != b.spec;
    if let (Some(a), Some(b)) = (&old, &new)
        && same_pins(a, b)
    {
        return out.push(Change::SpecOnly { component: name.into() });
    }
    let (before, after) = (old.map_or(Vec::new(), |c| c.pins), new.map_or(Vec::new(), |c| c.pins));
    let mut pins: Vec<&str> = before.iter().chain(&after).map(|p| p.name.as_str()).collect();
    pins.sort_unstable();
    pins.dedup();
    for pin in pins {
        let find = |list: &[Pin]| list.iter().find(|p| p.name == pin).cloned();
        let component = name.to_string();
        match (find(&before), find(&after)) {
            (None, Some(pin)) => out.push(Change::Added { component, pin }),
            (Some(pin), None) => out.push(Change::Removed { component, pin }),
            (Some(old), Some(new)) if old != new => out.push(Change::Renewed { component, old, new }),
            _ => {}
        }
    }
}

impl LockDiff {
    /// Tells components that are new and inherited in a line each.
    pub fn fold_inherited<'n>(&mut self, inherited: impl Iterator<Item = &'n String>) {
        let is_new =
            |change: &Change, name: &str| matches!(change, Change::Added { component, .. } if component == name);
        for name in inherited {
            let Some(first) = self.changes.iter().position(|change| is_new(change, name)) else { continue };
            let pins = self.changes.iter().filter(|change| is_new(change, name)).count();
            self.changes.insert(first, Change::Inherited { component: name.clone(), pins });
            self.changes.retain(|change| !is_new(change, name));
        }
    }
}

impl fmt::Display for LockDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, change) in self.changes.iter().enumerate() {
            let end = if i == 0 { "" } else { "\n" };
            write!(f, "{end}{change}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added { component, pin } => write!(f, "{}: added, {}", label(component, pin), facts(pin)),
            Self::Removed { component, pin } => write!(f, "{}: removed, {}", label(component, pin), facts(pin)),
            Self::Inherited { component, pins: 1 } => write!(f, "{component}: added, its pin inherited"),
            Self::Inherited { component, pins } => write!(f, "{component}: added, its {pins} pins inherited"),
            Self::SpecOnly { component } => write!(f, "{component}: asked for differently, pins unchanged"),
            Self::Renewed { component, old, new } => {
                write!(f, "{}: ", label(component, new))?;
                if old.version != new.version {
                    write!(f, "{} -> {}", version(old), version(new))?;
                } else if old.sha256 != new.sha256 {
                    write!(f, "{}new content", prefix(new))?;
                } else {
                    write!(f, "{}found elsewhere", prefix(new))?;
                }
                match growth(old.size, new.size) {
                    Some(growth) => write!(f, " ({growth})"),
                    None => Ok(()),
                }
            }
        }
    }
}

/// `component/pin`, or just the component when the pin has its name.
fn label(component: &str, pin: &Pin) -> String {
    if pin.name == component { component.into() } else { format!("{component}/{}", pin.name) }
}

fn version(pin: &Pin) -> &str {
    if pin.version.is_empty() { "unversioned" } else { &pin.version }
}

fn prefix(pin: &Pin) -> String {
    if pin.version.is_empty() { String::new() } else { format!("{}, ", pin.version) }
}

fn facts(pin: &Pin) -> String {
    format!("{}{}", prefix(pin), bytes(pin.size))
}

fn growth(old: u64, new: u64) -> Option<String> {
    match new.cmp(&old) {
        std::cmp::Ordering::Greater => Some(format!("+{}", bytes(new - old))),
        std::cmp::Ordering::Less => Some(format!("-{}", bytes(old - new))),
        std::cmp::Ordering::Equal => None,
    }
}

/// B below 1 kB, then kB (10^3), then MB (10^6) with one digit, rounded.
fn bytes(n: u64) -> String {
    match n {
        0..1_000 => format!("{n} B"),
        1_000..1_000_000 => format!("{} kB", (n + 500) / 1_000),
        _ => format!("{}.{} MB", n / 1_000_000, n % 1_000_000 / 100_000),
    }
}
