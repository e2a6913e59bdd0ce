//! The files of an image: what gives a secret away, and whether the recipe allows it.

use crate::entry::Kind;
use crate::error::{Exit, Failure};
use crate::parallel;
use crate::recipe::{Allowance, CheckedRecipe, Origin, SegmentName};
use crate::secrets::{Author, LOOKED_AT, Secret, in_file};
use crate::tree::{Owner, Tree, TreeEntry};
use std::collections::BTreeMap;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    #[error("the image would hold secrets, and whoever can fetch an image can read it:\n{}", found.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"))]
    Refused { found: Vec<String> },
    #[error("cannot read `{}`: {cause}", path.display())]
    Read { path: PathBuf, cause: std::io::Error },
}

impl From<SecretError> for Failure {
    fn from(e: SecretError) -> Self {
        let (exit, help) = match &e {
            SecretError::Refused { .. } => (
                Exit::Usage,
                "let the node fetch them once it runs; or write `secrets = \"allowed\"` and `secrets_reason = \"...\"` beside \
                 the overlay or component in the recipe",
            ),
            SecretError::Read { .. } => (Exit::Other, "check the path and its permissions"),
        };
        Self { exit, message: e.to_string(), help: Some(help.into()) }
    }
}

/// Where the entry comes from, who wrote it, and why its secrets are allowed.
struct Source<'a> {
    place: String,
    author: Author,
    allowed: Option<&'a str>,
}

/// Looks at every file of an image but those that are written in the recipe, which the recipe's own check has judged.
///
/// # Errors
/// [`SecretError::Refused`] with all that is not allowed.
pub fn check_tree(recipe: &CheckedRecipe, tree: &Tree, jobs: usize) -> Result<Vec<Allowance>, SecretError> {
    let mut allowances = allowed_places(recipe);
    let files: Vec<(&TreeEntry, Source<'_>)> =
        tree.entries.values().filter_map(|entry| Some((entry, source_of(recipe, entry)?))).collect();
    let found = parallel::map(&files, jobs, |(entry, source)| look_at(entry, source.author));
    let mut refused = Vec::new();
    for ((entry, source), found) in files.iter().zip(found) {
        for secret in found? {
            let line = format!("{} {secret}", entry.entry.path);
            let key = (entry.origin.clone(), source.place.clone(), entry.segment);
            match source.allowed {
                Some(reason) => {
                    let new = || allowance(&entry.origin, &source.place, entry.segment, reason);
                    allowances.entry(key).or_insert_with(new).found.push(line);
                }
                None => refused.push(format!("`{}` {secret}, in {}", entry.entry.path, Owner::of(entry))),
            }
        }
    }
    match refused.is_empty() {
        true => Ok(recipe.secrets.iter().cloned().chain(allowances.into_values()).collect()),
        false => Err(SecretError::Refused { found: refused }),
    }
}

fn look_at(entry: &TreeEntry, author: Author) -> Result<Vec<Secret>, SecretError> {
    let Kind::File(body) = &entry.entry.kind else { return Ok(Vec::new()) };
    let failed = |cause| SecretError::Read { path: body.place(), cause };
    // Programs of others are not looked into.
    if author == Author::Others && body.read_start(4).map_err(failed)? == b"\x7fELF" {
        return Ok(Vec::new());
    }
    Ok(in_file(&entry.entry.path, &body.read_start(LOOKED_AT).map_err(failed)?, author))
}

type Places = BTreeMap<(Origin, String, SegmentName), Allowance>;

/// What the recipe allows, found or not: secrets have many forms.
fn allowed_places(recipe: &CheckedRecipe) -> Places {
    let overlays = recipe.overlays.iter().filter_map(|overlay| {
        let place = overlay_place(&overlay.dir);
        Some((&overlay.origin, place, overlay.segment, overlay.secrets.as_ref()?))
    });
    let components = recipe.components.iter().filter(|component| component.enabled).filter_map(|component| {
        let place = format!("component `{}`", component.name);
        Some((&component.origin, place, component.segment, component.secrets.as_ref()?))
    });
    let all = overlays.chain(components).map(|(origin, place, segment, reason)| {
        let allowed = allowance(origin, &place, segment, reason);
        ((origin.clone(), place, segment), allowed)
    });
    all.collect()
}

fn allowance(origin: &Origin, place: &str, segment: SegmentName, reason: &str) -> Allowance {
    let (place, origin, reason) = (place.into(), origin.to_string(), reason.into());
    Allowance { place, origin, reason, segment, found: Vec::new() }
}

fn overlay_place(dir: &std::path::Path) -> String {
    format!("overlay `{}`", dir.file_name().unwrap_or_default().to_string_lossy())
}

/// `None` for what the recipe or this program writes.
fn source_of<'a>(recipe: &'a CheckedRecipe, entry: &TreeEntry) -> Option<Source<'a>> {
    if let Some(name) = entry.component.strip_prefix("overlay:") {
        let overlay = recipe.overlays.iter().find(|overlay| overlay.origin == entry.origin);
        let allowed = overlay.and_then(|overlay| overlay.secrets.as_deref());
        return Some(Source { place: format!("overlay `{name}`"), author: Author::Own, allowed });
    }
    let component = recipe.components.iter().find(|component| component.name == entry.component)?;
    let (place, author) = (format!("component `{}`", component.name), component.source.author());
    Some(Source { place, author, allowed: component.secrets.as_deref() })
}
