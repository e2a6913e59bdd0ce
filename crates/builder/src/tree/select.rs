//! What a component itself wants: its `paths` globs over the files of its source.

use super::supply::{Offered, Part, place};
use super::{Draft, Reason, TreeEntry, TreeError, error::Owner};
use crate::entry::{Body, Entry, Kind};
use crate::recipe::Component;
use crate::source::FlawKind;
use globset::{Glob, GlobBuilder, GlobMatcher, GlobSet, GlobSetBuilder};
use std::collections::{BTreeMap, HashMap};

fn glob(component: &Component, pattern: &str) -> Result<Glob, TreeError> {
    GlobBuilder::new(pattern.trim_end_matches('/')).literal_separator(true).build().map_err(|cause| {
        let (component, origin) = (component.name.clone(), component.origin.clone());
        TreeError::BadPattern { pattern: pattern.into(), component, origin, cause }
    })
}

/// Several globs of a component as one set; a pattern without wildcards that names a folder covers all below it.
pub fn compile(component: &Component, patterns: &[String]) -> Result<GlobSet, TreeError> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(glob(component, pattern)?);
        if is_literal(pattern) {
            set.add(glob(component, &format!("{}/**", pattern.trim_end_matches('/')))?);
        }
    }
    set.build().map_err(|cause| {
        let (component, origin) = (component.name.clone(), component.origin.clone());
        TreeError::BadPattern { pattern: patterns.join(", "), component, origin, cause }
    })
}

fn is_literal(pattern: &str) -> bool {
    !pattern.contains(['*', '?', '[', '{', '\\'])
}

struct Pattern<'a> {
    text: &'a str,
    itself: GlobMatcher,
    below: Option<String>,
}

impl Pattern<'_> {
    fn matches(&self, path: &str) -> bool {
        self.itself.is_match(path) || self.below.as_ref().is_some_and(|folder| path.starts_with(folder.as_str()))
    }
}

/// By path in the image: the file, and the pattern that it matched.
type Wanted<'a> = BTreeMap<&'a str, (&'a Offered, String)>;

/// Puts a component's wanted files into the draft.
pub fn add_wanted(part: &Part<'_>, is_kernel: bool, draft: &mut Draft) -> Result<(), TreeError> {
    let component = part.component;
    let patterns = patterns(component)?;
    let everything = patterns.is_empty() && !component.only_needed && !is_kernel;
    let mut used = vec![false; patterns.len()];
    let mut wanted = Wanted::new();
    for (path, offered) in &part.offers {
        let hit = patterns.iter().position(|p| p.matches(&offered.source_path) || p.matches(path));
        for (pattern, used) in patterns.iter().zip(&mut used) {
            *used |= pattern.matches(&offered.source_path) || pattern.matches(path);
        }
        let pattern = match hit {
            Some(i) => patterns[i].text.to_string(),
            None if everything => "everything".into(),
            None => continue,
        };
        if !(is_kernel && comes_otherwise(path)) {
            wanted.insert(path, (offered, pattern));
        }
    }
    for flaw in &part.flaws {
        let hit = patterns.iter().find(|pattern| pattern.matches(&flaw.path));
        let by_name = hit.is_some_and(|pattern| pattern.text.trim_end_matches('/') == flaw.path);
        match flaw.kind {
            FlawKind::LeftOut if !by_name && (everything || hit.is_some()) => {
                draft.left_out.entry(component.name.clone()).or_default().push(flaw.path.clone());
            }
            _ if everything || hit.is_some() => {
                let (flaw, component) = (Box::new(flaw.clone()), Box::new(Owner::component(component)));
                return Err(TreeError::Unusable { flaw, component });
            }
            _ => {}
        }
    }
    if let Some(i) = used.iter().position(|used| !used) {
        let (component, origin) = (component.name.clone(), component.origin.clone());
        return Err(TreeError::NothingMatches { pattern: patterns[i].text.into(), component, origin });
    }
    match &part.component.join {
        Some(path) => add_joined(part, &wanted, path, draft),
        None => add_all(part, &wanted, draft),
    }
}

/// What no glob puts in of a kernel's files: the kernel lies beside the initrd, modules come by name, and lists of those that came are
/// made. The lists that nobody makes are files like others.
fn comes_otherwise(path: &str) -> bool {
    let unmade = ["/modules.order", "/modules.builtin.modinfo"];
    path.starts_with("boot/vmlinuz-")
        || path.starts_with("usr/lib/modules/") && !unmade.iter().any(|list| path.ends_with(list))
}

/// One file from the contents of many, whose parts a node need not look up one by one.
fn add_joined(part: &Part<'_>, wanted: &Wanted<'_>, path: &str, draft: &mut Draft) -> Result<(), TreeError> {
    let (component, mut joined) = (part.component, Vec::new());
    for (offered, _) in wanted.values() {
        let body = match &offered.entry.kind {
            Kind::Dir => continue,
            Kind::File(body) => body.clone(),
            Kind::Hardlink(target) => body_of_link(part, &offered.entry, target)?,
            _ => {
                let owner = Box::new(Owner::component(component));
                return Err(TreeError::NotJoined { path: offered.source_path.clone(), owner });
            }
        };
        let read = |cause| TreeError::Read { path: body.place(), origin: component.origin.clone(), cause };
        joined.extend(body.read_start(body.size).map_err(read)?);
        if joined.last().is_some_and(|last| *last != b'\n') {
            joined.push(b'\n');
        }
    }
    let kind = Kind::File(Body::from_bytes(joined));
    draft.add(TreeEntry {
        entry: Entry::of_root(place(component, path, false), kind, 0o644),
        component: component.name.clone(),
        origin: component.origin.clone(),
        reason: Reason::Wanted { pattern: component.paths.join(", ") },
        segment: component.segment,
    })
}

fn patterns(component: &Component) -> Result<Vec<Pattern<'_>>, TreeError> {
    let of = |text: &'_ String| -> Result<(GlobMatcher, Option<String>), TreeError> {
        let below = is_literal(text).then(|| format!("{}/", text.trim_end_matches('/')));
        Ok((glob(component, text)?.compile_matcher(), below))
    };
    component.paths.iter().map(|text| of(text).map(|(itself, below)| Pattern { text, itself, below })).collect()
}

fn add_all(part: &Part<'_>, wanted: &Wanted<'_>, draft: &mut Draft) -> Result<(), TreeError> {
    // Hard links whose file is not wanted itself: the first of them becomes the file.
    let mut files: HashMap<&str, &str> = HashMap::new();
    for (path, (offered, pattern)) in wanted {
        let mut entry = offered.entry.clone();
        if let Kind::Hardlink(target) = &offered.entry.kind {
            let first =
                *files.entry(target).or_insert(if wanted.contains_key(target.as_str()) { target } else { path });
            entry.kind = match first == *path {
                true => Kind::File(body_of_link(part, &offered.entry, target)?),
                false => Kind::Hardlink(first.into()),
            };
        }
        draft.add(TreeEntry {
            entry,
            component: part.component.name.clone(),
            origin: part.component.origin.clone(),
            reason: Reason::Wanted { pattern: pattern.clone() },
            segment: part.component.segment,
        })?;
    }
    Ok(())
}

/// The file that a hard link is a name of.
pub fn body_of_link(part: &Part<'_>, link: &Entry, target: &str) -> Result<Body, TreeError> {
    match part.offers.get(target).map(|offered| &offered.entry.kind) {
        Some(Kind::File(body)) => Ok(body.clone()),
        _ => Err(TreeError::LinkToNothing {
            path: link.path.clone(),
            target: target.into(),
            owner: Box::new(Owner::component(part.component)),
        }),
    }
}
