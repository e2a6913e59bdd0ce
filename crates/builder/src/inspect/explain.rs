//! Why a file is in an image: from the file back to the recipe line that asked for it.

use super::InspectError;
use crate::baked::BakedRecord;
use crate::emit::manifest::{FileKind, FileRecord, GaveWay, Manifest};
use crate::recipe::SegmentName;
use crate::tree::Reason;
use serde::Serialize;

/// Links that are followed within one path; the kernel follows 40 (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// One file on the way back.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// No leading `/`.
    pub path: String,
    pub segment: String,
    pub component: String,
    /// Recipe file and line.
    pub origin: String,
    /// In words.
    pub because: String,
    pub reason: Reason,
    /// Whose file of that path it replaced, in recipes that its own extends: the nearest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gave_way: Vec<GaveWay>,
}

/// The answer to `explain`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// Layout of this document; 1.
    pub version: u32,
    pub recipe: String,
    pub image_id: String,
    /// One chain for each segment that holds the path: what asked for it comes last.
    pub chains: Vec<Vec<Step>>,
}

/// Explains the name of a container image, or a path, with or without a leading `/`; symlinks of folders (`/bin`) are followed.
pub fn explain(manifest: &Manifest, path: &str) -> Result<Explanation, InspectError> {
    let wanted = path.trim_start_matches('/').trim_end_matches('/');
    let resolved = resolve_folders(manifest, wanted);
    let found: Vec<&FileRecord> = manifest.files.iter().filter(|f| f.path == resolved || f.path == wanted).collect();
    let images: Vec<Vec<Step>> =
        manifest.images.iter().filter(|image| image.name == path).map(|image| vec![image_step(image)]).collect();
    if found.is_empty() && images.is_empty() {
        let similar = similar(manifest, wanted);
        return Err(InspectError::NoSuchFile { path: path.into(), recipe: manifest.recipe.clone(), similar });
    }
    Ok(Explanation {
        version: 1,
        recipe: manifest.recipe.clone(),
        image_id: manifest.image_id.clone(),
        chains: found.into_iter().map(|file| chain(manifest, file)).chain(images).collect(),
    })
}

fn image_step(image: &BakedRecord) -> Step {
    Step {
        path: image.name.clone(),
        segment: SegmentName::Images.as_str().into(),
        component: image.name.clone(),
        origin: image.origin.clone(),
        because: format!("a container image of the recipe, {}", image.digest),
        reason: Reason::Image { digest: image.digest.clone() },
        gave_way: Vec::new(),
    }
}

fn chain(manifest: &Manifest, file: &FileRecord) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut next = Some(file);
    while let Some(file) = next {
        if steps.iter().any(|s| s.path == file.path && s.segment == file.segment.as_str()) {
            break;
        }
        steps.push(Step {
            path: file.path.clone(),
            segment: file.segment.as_str().into(),
            component: file.component.clone(),
            origin: file.origin.clone(),
            because: because(manifest, file),
            reason: file.reason.clone(),
            gave_way: file.gave_way.clone(),
        });
        next = asked_by(&file.reason).and_then(|by| find_user(manifest, by));
    }
    steps
}

fn because(manifest: &Manifest, file: &FileRecord) -> String {
    match &file.reason {
        Reason::Wanted { pattern } if pattern.is_empty() => format!("all of component `{}` is wanted", file.component),
        Reason::Wanted { pattern } => format!("`{pattern}` of component `{}` asks for it", file.component),
        Reason::Library { by, soname } => format!("`{by}` needs the library `{soname}`"),
        Reason::Module { by, relation } => match relation.as_str() {
            "asked for" => format!("`{by}` asks for this kernel module"),
            "alias" => format!("this kernel module has an alias that `{by}` asks for"),
            "depends" => format!("the kernel module `{by}` depends on it"),
            other => format!("the kernel module `{by}` wants it ({other})"),
        },
        Reason::Firmware { by } => format!("the kernel module `{by}` declares this firmware"),
        Reason::Overlay => "it is part of an overlay".into(),
        Reason::Inline => "it is written in the recipe".into(),
        Reason::Init => "it is PID1, or another name of it".into(),
        Reason::Computed => "the builder computes it".into(),
        Reason::Image { digest } => format!("a container image of the recipe, {digest}"),
        Reason::LinkTarget { by } => format!("the symlink `{by}` points to it"),
        Reason::Parent => match first_below(manifest, file) {
            Some(child) => format!("a folder that `{}` needs", child.path),
            None => "a folder".into(),
        },
    }
}

fn first_below<'a>(manifest: &'a Manifest, folder: &FileRecord) -> Option<&'a FileRecord> {
    let prefix = format!("{}/", folder.path);
    let below = |f: &&FileRecord| f.segment == folder.segment && f.path.starts_with(&prefix);
    manifest.files.iter().filter(below).find(|f| f.kind != FileKind::Dir)
}

fn asked_by(reason: &Reason) -> Option<&str> {
    match reason {
        Reason::Library { by, .. }
        | Reason::Module { by, .. }
        | Reason::Firmware { by }
        | Reason::LinkTarget { by } => Some(by),
        Reason::Wanted { .. }
        | Reason::Overlay
        | Reason::Inline
        | Reason::Init
        | Reason::Computed
        | Reason::Image { .. }
        | Reason::Parent => None,
    }
}

/// The file that `by` names: a path, or a kernel module's name, in which `-` and `_` are alike (modprobe(8)).
fn find_user<'a>(manifest: &'a Manifest, by: &str) -> Option<&'a FileRecord> {
    let path = by.trim_start_matches('/');
    manifest.files.iter().find(|f| f.path == path).or_else(|| {
        manifest.files.iter().find(|f| {
            let name = f.path.rsplit('/').next().unwrap_or_default();
            let module = name.split_once(".ko").map(|(module, _)| module.replace('-', "_"));
            module.is_some_and(|module| module == by.replace('-', "_"))
        })
    })
}

/// Replaces folders of a path that are symlinks in the image.
fn resolve_folders(manifest: &Manifest, path: &str) -> String {
    let mut path = path.to_string();
    for _ in 0..MAX_LINKS {
        let link = path.match_indices('/').find_map(|(end, _)| {
            let link = manifest.files.iter().find(|f| f.path == path[..end] && f.kind == FileKind::Symlink)?;
            Some((end, link.target.clone()?))
        });
        let Some((end, target)) = link else { return path };
        let folder = path[..end].rsplit_once('/').map_or("", |(folder, _)| folder);
        let joined = if target.starts_with('/') { target } else { format!("{folder}/{target}") };
        path = normal(&format!("{joined}{}", &path[end..]));
    }
    path
}

/// Without `.`, `..`, leading, double and trailing `/`; links are not followed.
pub fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Files of the same name, else those with the most similar paths.
fn similar(manifest: &Manifest, path: &str) -> Vec<String> {
    let name = path.rsplit('/').next().unwrap_or_default();
    let same_name = manifest.files.iter().filter(|f| f.path.rsplit('/').next() == Some(name));
    let mut found: Vec<String> = same_name.map(|f| format!("`/{}`", f.path)).collect();
    if found.is_empty() {
        let mut near: Vec<(usize, &str)> =
            manifest.files.iter().map(|f| (strsim::levenshtein(&f.path, path), f.path.as_str())).collect();
        near.retain(|(distance, _)| *distance <= 3);
        near.sort();
        found = near.into_iter().map(|(_, path)| format!("`/{path}`")).collect();
    }
    found.dedup();
    found.truncate(3);
    found
}

impl Explanation {
    /// For people: the file, then, indented, what asked for it.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for chain in &self.chains {
            for (depth, step) in chain.iter().enumerate() {
                let indent = "  ".repeat(depth);
                let root = if matches!(step.reason, Reason::Image { .. }) { "" } else { "/" };
                text += &format!("{indent}{root}{} ({} segment, {})\n", step.path, step.segment, step.component);
                text += &format!("{indent}  {} ({})\n", step.because, step.origin);
                for GaveWay { component, origin } in &step.gave_way {
                    text += &format!("{indent}  it takes the place of the one of {component} ({origin})\n");
                }
            }
        }
        text
    }
}
