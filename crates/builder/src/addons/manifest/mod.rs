//! Rendered Kubernetes manifests: what their pods need of the node that runs them.

mod commands;
mod field;
mod host_path;
mod pod;
#[cfg(test)]
mod tests;

use crate::error::{Exit, Failure};
use crate::input_file::{read_text, read_text_from};
use crate::profiles::{Need, NeedKind};
use field::{Field, FieldProblem};
use pod::add_pod_needs;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Standard input's name.
pub const STDIN: &str = "-";
/// Most nodes (values of all kinds) of a file: a release of an operator with all its definitions has some 100,000.
const MOST_NODES: usize = 2_000_000;
/// API groups of Kubernetes itself; others that end in `.k8s.io` are too.
const OWN_GROUPS: [&str; 6] = ["", "apps", "batch", "autoscaling", "policy", "extensions"];
/// Groups whose objects ask nothing of nodes: they configure other pods.
const HARMLESS_GROUPS: [&str; 2] = ["monitoring.coreos.com", "cert-manager.io"];
/// Kinds whose pods are at `spec.template`.
const WORKLOADS: [&str; 6] = ["DaemonSet", "Deployment", "StatefulSet", "ReplicaSet", "ReplicationController", "Job"];

/// What a manifest asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Manifest {
    pub needs: Vec<Need>,
    /// What a reader has to know beside.
    pub notes: Vec<String>,
}

/// Exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("cannot read `{}`: {cause}", path.display())]
    Read { path: PathBuf, cause: std::io::Error },
    #[error("`{}` is no YAML: {cause}", path.display())]
    Yaml { path: PathBuf, cause: String, templated: bool },
    #[error("`{}` holds no Kubernetes object", path.display())]
    Empty { path: PathBuf },
    #[error("`{}`: document {number} is no Kubernetes object: it has no `kind` and `apiVersion`", path.display())]
    NoObject { path: PathBuf, number: usize },
    #[error("`{}`: {object}: {problem}", path.display())]
    Field { path: PathBuf, object: String, problem: FieldProblem },
}

impl ManifestError {
    /// The `help:` line.
    pub fn help(&self) -> String {
        let rendered = "render it first: `helm template ... | bootwright addons --recipe NAME -`";
        match self {
            Self::Yaml { templated: true, .. } | Self::Field { problem: FieldProblem::Template { .. }, .. } => rendered,
            Self::Read { .. } => {
                "name a file of Kubernetes manifests, `-` for standard input, or a profile: \
                                  `bootwright addons` lists them"
            }
            Self::Yaml { .. } => "write it as YAML or JSON, as `kubectl apply` takes it",
            Self::Empty { .. } | Self::NoObject { .. } => "name a file that `kubectl apply` takes",
            Self::Field { .. } => "write it as the Kubernetes API has it: `kubectl apply --dry-run=server` tells more",
        }
        .into()
    }
}

impl From<ManifestError> for Failure {
    fn from(e: ManifestError) -> Self {
        Self { exit: Exit::Usage, message: e.to_string(), help: Some(e.help()) }
    }
}

/// Reads a file of manifests, or standard input as `-`.
pub fn load_manifest(path: &Path) -> Result<Manifest, ManifestError> {
    let failed = |cause| ManifestError::Read { path: path.into(), cause };
    let is_stdin = path == Path::new(STDIN);
    let text = if is_stdin { read_text_from(std::io::stdin().lock()) } else { read_text(path) };
    parse_manifest(path, &text.map_err(failed)?)
}

/// What the pods of a text need; `path` is for messages.
pub fn parse_manifest(path: &Path, text: &str) -> Result<Manifest, ManifestError> {
    let mut manifest = Manifest::default();
    let (mut objects, mut pods) = (0, 0);
    for (i, document) in parse_yaml(path, text)?.iter().enumerate() {
        for object in flatten(document) {
            objects += 1;
            pods += add_object(path, i + 1, object, &mut manifest)?;
        }
    }
    if objects == 0 {
        return Err(ManifestError::Empty { path: path.into() });
    }
    if pods == 0 {
        manifest.notes.push("it has no pods for this image's nodes".into());
    }
    dedup(&mut manifest);
    Ok(manifest)
}

fn parse_yaml(path: &Path, text: &str) -> Result<Vec<Value>, ManifestError> {
    let budget = serde_saphyr::budget! {
        max_documents: 100_000,
        max_nodes: MOST_NODES,
        max_events: 2 * MOST_NODES,
    };
    let options = serde_saphyr::options! { budget: budget, with_snippet: false };
    let documents = serde_saphyr::from_multiple_with_options::<Value>(text, options);
    documents.map_err(|cause| {
        let cause = cause.render_with_formatter(&serde_saphyr::UserMessageFormatter);
        let cause = cause.lines().next().unwrap_or_default().to_string();
        ManifestError::Yaml { path: path.into(), cause, templated: text.contains("{{") }
    })
}

/// The objects of a document: itself, or the items of a `List`.
fn flatten(document: &Value) -> Vec<&Value> {
    let is_list = document["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
    match document["items"].as_array() {
        Some(items) if is_list => items.iter().flat_map(flatten).collect(),
        _ => vec![document],
    }
}

/// Adds what an object's pods need; returns how many kinds of pods it has.
fn add_object(path: &Path, number: usize, object: &Value, into: &mut Manifest) -> Result<usize, ManifestError> {
    let (Some(kind), Some(version)) = (object["kind"].as_str(), object["apiVersion"].as_str()) else {
        return Err(ManifestError::NoObject { path: path.into(), number });
    };
    let name = object["metadata"]["name"].as_str().or(object["metadata"]["generateName"].as_str()).unwrap_or("?");
    let shown = format!("{kind} `{name}`");
    let failed = |problem| ManifestError::Field { path: path.into(), object: shown.clone(), problem };
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let is_own = OWN_GROUPS.contains(&group) || group.ends_with(".k8s.io");
    if !is_own && !HARMLESS_GROUPS.contains(&group) {
        into.needs.push(Need {
            kind: NeedKind::Other,
            name: format!("{kind} `{name}`"),
            why: format!("what `{group}` makes of it on nodes is not written in the manifest"),
            source: path.display().to_string(),
            only: None,
        });
    }
    if kind == "ConfigMap" {
        add_scripts(&path.display().to_string(), &shown, object, into);
    }
    let Some(template) = template_of(kind, object).map_err(failed)? else { return Ok(0) };
    add_pod_needs(&path.display().to_string(), &shown, template, into).map_err(failed)
}

/// Scripts that pods mount say what they load and run as commands do.
fn add_scripts(source: &str, owner: &str, object: &Value, into: &mut Manifest) {
    let texts = object["data"].as_object().into_iter().flatten().filter_map(|(_, text)| text.as_str());
    for script in texts.filter(|text| text.starts_with("#!")) {
        for (kind, name) in commands::needs_of_script(script) {
            let why = format!("{owner}: a script in it needs that of the node");
            into.needs.push(Need { kind, name, why, source: source.into(), only: None });
        }
    }
}

/// The pod of an object: what has its `spec` and `metadata`.
fn template_of<'v>(kind: &str, object: &'v Value) -> Result<Option<&'v Value>, FieldProblem> {
    let template = match kind {
        "Pod" => object,
        "PodTemplate" => &object["template"],
        "CronJob" => &object["spec"]["jobTemplate"]["spec"]["template"],
        _ => &object["spec"]["template"],
    };
    let has_pods = !template["spec"]["containers"].is_null();
    let must = ["Pod", "PodTemplate", "CronJob"].contains(&kind) || WORKLOADS.contains(&kind);
    match (has_pods, must) {
        (true, _) => Ok(Some(template)),
        (false, true) => Err(FieldProblem::Missing { field: "containers of its pods".into() }),
        (false, false) => Ok(None),
    }
}

/// The same is asked for once, by who asks first.
fn dedup(manifest: &mut Manifest) {
    let mut seen = std::collections::BTreeSet::new();
    manifest.needs.retain(|need| seen.insert((need.kind, need.name.clone(), need.only.clone())));
    let mut seen = std::collections::BTreeSet::new();
    manifest.notes.retain(|note| seen.insert(note.clone()));
}

/// A field of an object by its name.
fn field<'v>(object: &'v Value, name: &'static str) -> Field<'v> {
    Field { name, value: &object[name] }
}
