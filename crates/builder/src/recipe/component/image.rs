//! `[[image]]`: a container image that is baked in. Its sources are pinned and fetched as those of a component are.

use super::{Component, OciSpec, Reference, SourceSpec, parse_reference};
use crate::recipe::SegmentName;
use crate::recipe::check::Check;
use crate::recipe::file::SecretsWord;
use crate::recipe::node::TomlNode;
use crate::recipe::problem::Problem;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What nodes are: containerd takes no other image of an index.
const PLATFORM: &str = "linux/amd64";

/// A container image that is there without a pull.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageFile {
    /// What pods call it: `registry/repository:tag`, or `registry/repository@sha256:...`.
    #[serde(rename = "ref")]
    pub reference: String,
    /// Condition: `debug`, `!debug`, `name == value`, `name != value`.
    pub when: Option<String>,
    /// Take out the image of this name that an extended recipe has.
    #[serde(default)]
    pub remove: bool,
    /// Take the place of the one of this name that an extended recipe has: none of its keys stay.
    #[serde(default)]
    pub replace: bool,
    /// OCI layout folder relative to this file, with an optional `:ref`. Absent: the registry that `ref` names.
    pub layout: Option<String>,
    /// An image that the tool makes itself, in place of one from elsewhere.
    pub builtin: Option<BuiltinImage>,
    /// Speak plain HTTP to the registry (loopback, lab).
    #[serde(default)]
    pub plain_http: bool,
    /// `allowed`: secrets may be in it, which whoever can fetch the image can read. With `secrets_reason`.
    pub secrets: Option<SecretsWord>,
    /// Why they are there.
    pub secrets_reason: Option<String>,
}

/// Images that come with the tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BuiltinImage {
    /// What pods' sandboxes run.
    Pause,
}

/// Where a baked image comes from, and what it is called on the node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageSpec {
    /// What pods call it: [`parse_image_name`] takes it.
    #[serde(rename = "ref")]
    pub name: String,
    /// An OCI layout directory, relative to the recipe, with an optional `:ref`; else it comes from the registry of its name.
    pub layout: Option<PathBuf>,
    /// An image that the tool makes itself; from nowhere else then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builtin: Option<BuiltinImage>,
    /// Speak plain HTTP to the registry (loopback, lab).
    pub plain_http: bool,
}

impl ImageSpec {
    /// The same source as that of a component.
    pub fn as_oci(&self) -> OciSpec {
        let image = self.layout.is_none().then(|| self.name.clone());
        let (layout, plain_http) = (self.layout.clone(), self.plain_http);
        OciSpec { image, layout, platform: PLATFORM.into(), plain_http }
    }
}

/// Parses the name of an image as kubelet hands it to containerd: written out, since containerd's own short forms would make
/// another name of it. An error is what is wrong with it.
pub fn parse_image_name(name: &str) -> Result<Reference, &'static str> {
    let reference = parse_reference(name)?;
    if reference.tag.is_none() && reference.digest.is_none() {
        return Err("it has neither a tag nor a digest");
    }
    if reference.registry == "docker.io" && !reference.repository.contains('/') {
        return Err("containerd calls it `docker.io/library/...`");
    }
    Ok(reference)
}

impl Check<'_> {
    /// Images, as components that have no files in the root.
    pub(in crate::recipe) fn images(&mut self, tree: &TomlNode) -> Vec<Component> {
        let items = tree.get("image").map_or(&[][..], TomlNode::items);
        items.iter().filter_map(|node| self.image(node)).collect()
    }

    fn image(&mut self, node: &TomlNode) -> Option<Component> {
        let enabled = self.condition(node);
        let file: ImageFile = self.read(Some(node))?;
        if let Err(problem) = parse_image_name(&file.reference) {
            let cause = format!("`{}` is no name of an image: {problem}", file.reference);
            self.report(node.at_of("ref"), Problem::Unfit { cause });
        }
        if file.builtin.is_some() && file.layout.is_some() {
            let (key, reason) = ("layout", "the image is one that the tool makes itself");
            self.report(node.at_of(key), Problem::NotUsed { key, reason });
        }
        let layout = file.layout.map(|layout| self.layout(node, &layout));
        let ImageFile { reference: name, builtin, plain_http, .. } = file;
        Some(Component {
            name: name.clone(),
            origin: self.origin(node.at),
            enabled,
            source: SourceSpec::Image(ImageSpec { name, layout, builtin, plain_http }),
            paths: Vec::new(),
            only_needed: true,
            exclude: Vec::new(),
            libraries: Vec::new(),
            rename: BTreeMap::new(),
            join: None,
            segment: SegmentName::Images,
            secrets: file.secrets.and(file.secrets_reason),
        })
    }

    /// Images are for containerd.
    pub(in crate::recipe) fn check_images(&mut self, tree: &TomlNode, services: &[bootwright_contract::Service]) {
        let is_containerd = |program: &String| Path::new(program).file_name().is_some_and(|name| name == "containerd");
        if services.iter().any(|service| service.exec.first().is_some_and(is_containerd)) {
            return;
        }
        let items = tree.get("image").map_or(&[][..], TomlNode::items);
        if let Some(first) = items.iter().find(|item| self.condition(item)) {
            let cause = "no service starts containerd, which images are baked for".into();
            self.report(first.at, Problem::Unfit { cause });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{RecipeErrors, parse_recipe_text};

    #[test]
    fn names_are_those_that_containerd_keeps() {
        for (name, problem) in [
            ("registry.k8s.io/pause:3.10.1", None),
            ("docker.io/library/busybox:1.36", None),
            ("localhost/a:1", None),
            ("r.example:5000/a/b:1@sha256:0000000000000000000000000000000000000000000000000000000000000000", None),
            ("docker.io/busybox:1.36", Some("containerd calls it `docker.io/library/...`")),
            ("busybox:1.36", Some("it names no registry")),
            ("r.example/a", Some("it has neither a tag nor a digest")),
        ] {
            assert_eq!(parse_image_name(name).err(), problem, "{name}");
        }
    }

    #[test]
    fn problems_of_images_are_told_with_the_recipes() {
        let said = |image: &str, service: &str| {
            let text = format!(
                "[kernel]\ncomponent = \"k\"\n[[component]]\nname = \"k\"\npath = {{ path = \"x\" }}\n{service}\n[[image]]\n{image}\n"
            );
            match parse_recipe_text("r", &text) {
                Err(RecipeErrors::Problems { problems, .. }) => {
                    problems.iter().map(|found| found.problem.to_string()).collect::<Vec<_>>().join("\n")
                }
                other => other.map(|_| String::new()).expect("it is TOML"),
            }
        };
        let containerd = "[[service]]\nname = \"c\"\nexec = [\"/usr/bin/containerd\"]";
        assert_eq!(said("ref = \"r.example/a:1\"", containerd), "");
        for (image, problem) in [
            ("ref = \"a:1\"", "`a:1` is no name of an image: it names no registry"),
            ("layout = \"x\"", "missing key `ref`"),
            ("ref = \"r.example/a:1\"\nbuiltin = \"init\"", "`init` is no value of this key"),
            ("ref = \"r.example/a:1\"\nbuiltin = \"pause\"\nlayout = \"x\"", "`layout` is not used"),
            ("ref = \"r.example/a:1\"\nremove = true", "image `r.example/a:1` cannot be removed"),
            ("ref = \"r.example/a:1\"\n[[image]]\nref = \"r.example/a:1\"", "image `r.example/a:1` is written twice"),
            ("ref = \"r.example/a:1\"\nsegment = \"root\"", "unknown key `segment`"),
        ] {
            let said = said(image, containerd);
            assert!(said.contains(problem), "{image}: {said}");
        }
        assert!(said("ref = \"r.example/a:1\"", "").contains("no service starts containerd"));
        assert!(said("ref = \"r.example/a:1\"\nwhen = \"false\"", "").is_empty());
    }
}
