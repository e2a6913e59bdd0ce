//! The files of an image: what gives a secret away, and whether the recipe allows it.

use crate::baked::Baked;
use crate::entry::{Entry, Kind};
use crate::error::{Exit, Failure};
use crate::parallel;
use crate::recipe::{Allowance, CheckedRecipe, Component, Origin, SegmentName};
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
    /// With the place in the recipe, for messages.
    owner: String,
    origin: &'a Origin,
    segment: SegmentName,
    author: Author,
    allowed: Option<&'a str>,
}

/// Looks at every file of an image, and of the container images in it, but those that are written in the recipe, which the recipe's
/// own check has judged.
///
/// # Errors
/// [`SecretError::Refused`] with all that is not allowed.
pub fn check_files(
    recipe: &CheckedRecipe,
    tree: &Tree,
    baked: Option<&Baked>,
    jobs: usize,
) -> Result<Vec<Allowance>, SecretError> {
    let mut allowances = allowed_places(recipe);
    let of_tree = tree.entries.values().filter_map(|entry| Some((&entry.entry, source_of(recipe, entry)?)));
    let of_images = baked.iter().flat_map(|baked| &baked.entries);
    let of_images = of_images.filter_map(|baked| Some((&baked.entry, source_of_image(recipe, &baked.image)?)));
    let files: Vec<(&Entry, Source<'_>)> = of_tree.chain(of_images).collect();
    let found = parallel::map(&files, jobs, |(entry, source)| look_at(entry, source.author));
    let mut refused = Vec::new();
    for ((entry, source), found) in files.iter().zip(found) {
        let Source { place, owner, origin, segment, allowed, .. } = source;
        for secret in found? {
            let line = format!("{} {secret}", entry.path);
            match allowed {
                Some(reason) => {
                    let key = ((*origin).clone(), place.clone(), *segment);
                    let new = || allowance(origin, place, *segment, reason);
                    allowances.entry(key).or_insert_with(new).found.push(line);
                }
                None => refused.push(format!("`{}` {secret}, in {owner}", entry.path)),
            }
        }
    }
    match refused.is_empty() {
        true => Ok(recipe.secrets.iter().cloned().chain(allowances.into_values()).collect()),
        false => Err(SecretError::Refused { found: refused }),
    }
}

fn look_at(entry: &Entry, author: Author) -> Result<Vec<Secret>, SecretError> {
    let Kind::File(body) = &entry.kind else { return Ok(Vec::new()) };
    let failed = |cause| SecretError::Read { path: body.place(), cause };
    // Programs of others are not looked into.
    if author == Author::Others && body.read_start(4).map_err(failed)? == b"\x7fELF" {
        return Ok(Vec::new());
    }
    Ok(in_file(&entry.path, &body.read_start(LOOKED_AT).map_err(failed)?, author))
}

type Places = BTreeMap<(Origin, String, SegmentName), Allowance>;

/// What the recipe allows, found or not: secrets have many forms.
fn allowed_places(recipe: &CheckedRecipe) -> Places {
    let overlays = recipe.overlays.iter().filter_map(|overlay| {
        let place = overlay_place(&overlay.dir);
        Some((&overlay.origin, place, overlay.segment, overlay.secrets.as_ref()?))
    });
    let components = recipe.components.iter().filter(|component| component.enabled).filter_map(|component| {
        let place = component_place(component);
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
fn source_of<'a>(recipe: &'a CheckedRecipe, entry: &'a TreeEntry) -> Option<Source<'a>> {
    let owner = Owner::of(entry).to_string();
    if let Some(name) = entry.component.strip_prefix("overlay:") {
        let overlay = recipe.overlays.iter().find(|overlay| overlay.origin == entry.origin);
        let allowed = overlay.and_then(|overlay| overlay.secrets.as_deref());
        let (place, author) = (format!("overlay `{name}`"), Author::Own);
        return Some(Source { place, owner, origin: &entry.origin, segment: entry.segment, author, allowed });
    }
    let component = recipe.components.iter().find(|component| component.name == entry.component)?;
    let (place, author) = (component_place(component), component.source.author());
    let allowed = component.secrets.as_deref();
    Some(Source { place, owner, origin: &entry.origin, segment: entry.segment, author, allowed })
}

/// Of a file of a container image; `None` for what this program writes.
fn source_of_image<'a>(recipe: &'a CheckedRecipe, image: &str) -> Option<Source<'a>> {
    let component = recipe.components.iter().find(|component| component.name == image)?;
    let (place, author, segment) = (component_place(component), component.source.author(), component.segment);
    let (origin, allowed) = (&component.origin, component.secrets.as_deref());
    Some(Source { owner: format!("{place} ({origin})"), place, origin, segment, author, allowed })
}

/// A component that is a container image is called so.
fn component_place(component: &Component) -> String {
    let kind = if component.segment == SegmentName::Images { "image" } else { "component" };
    format!("{kind} `{}`", component.name)
}
