//! Does an image give add-ons of a cluster what they need of a node? Needs come from profiles of pinned versions and from rendered
//! manifests; what the image has comes from its tree, its recipe and its kernel package.

pub mod contents;
pub mod manifest;
mod mounts;
pub mod remedy;
pub mod report;
#[cfg(test)]
mod tests;

pub use crate::profiles::{Need, NeedKind};
pub use contents::{Contents, Standing};
pub use report::{AddonAnswer, AddonReport, Verdict};

use crate::error::{Exit, Failure};
use crate::kmod::load_config;
use crate::pipeline::Planned;
use crate::profiles;
use crate::tree::Supply;
use manifest::{Manifest, load_manifest};
use std::path::Path;

/// An add-on whose needs are known.
#[derive(Debug, Clone, PartialEq)]
pub struct AskedAddon {
    /// As it was asked for: a profile, or a file.
    pub name: String,
    /// Of the add-on, for a profile.
    pub version: Option<String>,
    /// Where a profile was read.
    pub source: Option<String>,
    pub needs: Vec<Need>,
    pub notes: Vec<String>,
}

/// Exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("no profile is called `{name}`, and there is no such file")]
pub struct UnknownAddon {
    name: String,
    near: Option<&'static str>,
}

impl From<UnknownAddon> for Failure {
    fn from(e: UnknownAddon) -> Self {
        let help = match e.near {
            Some(name) => format!("did you mean `{name}`?"),
            None => "`bootwright addons` lists the profiles".into(),
        };
        Self { exit: Exit::Usage, message: e.to_string(), help: Some(help) }
    }
}

/// Finds a profile by its name, else reads a file of manifests.
pub fn load_addon(name: &str) -> Result<AskedAddon, Failure> {
    if let Some(profile) = profiles::find(name) {
        let (version, source) = (Some(profile.version.clone()), Some(profile.source.clone()));
        return Ok(AskedAddon { name: name.into(), version, source, needs: profile.needs.clone(), notes: Vec::new() });
    }
    let is_file = name == manifest::STDIN || name.contains(['/', '.']) || Path::new(name).exists();
    if !is_file {
        let near = profiles::PROFILES.iter().map(|profile| (strsim::jaro_winkler(name, profile.name), profile.name));
        let near = near.filter(|(likeness, _)| *likeness > 0.8).max_by(|a, b| a.0.total_cmp(&b.0));
        return Err(UnknownAddon { name: name.into(), near: near.map(|(_, name)| name) }.into());
    }
    let Manifest { needs, notes } = load_manifest(Path::new(name))?;
    Ok(AskedAddon { name: name.into(), version: None, source: None, needs, notes })
}

/// What a planned image has.
pub fn contents_of(planned: &Planned) -> Result<Contents, Failure> {
    let Planned { recipe, build, pools } = planned;
    let supply = Supply::of(&recipe.components, pools)?;
    let config = load_config(recipe, &supply, &build.kernel.release)?;
    Contents::of(recipe, build, config.as_deref()).map_err(|cause| Failure {
        exit: Exit::Other,
        message: format!("cannot read the list of the kernel's own modules: {cause}"),
        help: Some("check the cache folder (--cache)".into()),
    })
}
