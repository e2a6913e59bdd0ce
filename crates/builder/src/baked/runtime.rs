//! The containerd of an image: whether it is one that finds baked images, and where.

use super::databases::SNAPSHOTTER;
use super::store::snapshotter_root;
use crate::entry::Kind;
use crate::error::{Exit, Failure};
use crate::recipe::{CheckedRecipe, Component, SegmentName, SourceSpec};
use crate::source::Pin;
use crate::tree::{Tree, TreeEntry};
use globset::Glob;
use std::path::Path;

/// Releases whose databases are laid out as `databases.rs` does, by the source of 2.2.1, 2.3.7 and 2.4.2.
const KNOWN: [&str; 3] = ["2.2", "2.3", "2.4"];
const MODULE: &str = "github.com/containerd/containerd/v2";
/// containerd's own defaults (cmd/containerd/server/config, defaults/defaults_unix.go).
const ROOT: &str = "/var/lib/containerd";
const CONFIG: &str = "/etc/containerd/config.toml";

/// Where containerd looks for what it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Runtime {
    /// Its root.
    pub root: String,
    /// The folder of its overlay snapshotter below that.
    pub snapshotter: String,
}

/// Why baked images would not be found.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    #[error("images are baked in, but no service starts containerd")]
    NoContainerd,
    #[error("images are baked in, but `{program}` is no file of a component, so that its version is not known")]
    NoProgram { program: String },
    #[error("component `{component}` does not say which containerd it is")]
    NoVersion { component: String },
    #[error("images are baked in for containerd {}, and component `{component}` has {version}", KNOWN.join(", "))]
    Version { component: String, version: String },
    #[error("images are baked in, and `{path}`, containerd's configuration, is not in the image")]
    NoConfig { path: String },
    #[error("`{path}` is no configuration of containerd: {cause}")]
    BadConfig { path: String, cause: String },
    #[error("`{path}`: `{key}` is \"{found}\", and images are baked in for the snapshotter \"{SNAPSHOTTER}\"")]
    Snapshotter { path: String, key: String, found: String },
    #[error("`{path}` switches `{plugin}` off, which baked images need")]
    Disabled { path: String, plugin: String },
    #[error("`{path}`: `{key}` is \"{found}\", which is not below containerd's root \"{root}\"")]
    Outside { path: String, key: &'static str, found: String, root: String },
    #[error("`{path}` does not say which image sandboxes have")]
    NoSandbox { path: String },
    #[error("pods need `{image}` for their sandboxes (`{path}`), and it is not among the baked images")]
    SandboxNotBaked { path: String, image: String },
}

impl From<RuntimeError> for Failure {
    fn from(e: RuntimeError) -> Self {
        let help = match &e {
            RuntimeError::NoContainerd => "take `[[image]]` out, or extend a recipe with containerd".to_string(),
            RuntimeError::NoProgram { .. } | RuntimeError::NoVersion { .. } => {
                format!("take it from a Go module, a package or a URL that names its version: {}", KNOWN.join(", "))
            }
            RuntimeError::Version { .. } => {
                "take one of those releases, or take `[[image]]` out: other databases it may read wrongly".into()
            }
            RuntimeError::NoConfig { .. } | RuntimeError::BadConfig { .. } => {
                "an overlay or `[[file]]` has to bring it, as TOML".into()
            }
            RuntimeError::Snapshotter { .. } => format!("take that line out, or write \"{SNAPSHOTTER}\""),
            RuntimeError::Disabled { .. } => "take it out of `disabled_plugins`".into(),
            RuntimeError::Outside { .. } => "take that line out, or name a folder below the root".into(),
            RuntimeError::NoSandbox { .. } => {
                "write `sandbox = \"...\"` in `[plugins.'io.containerd.cri.v1.images'.pinned_images]`".into()
            }
            RuntimeError::SandboxNotBaked { image, .. } => {
                format!(
                    "add `[[image]]` with `ref = \"{image}\"`, or name one of the baked images in the configuration"
                )
            }
        };
        Self { exit: Exit::Usage, message: e.to_string(), help: Some(help) }
    }
}

/// Finds the containerd that the image's services start. `pins`: of a component; `images`: names of what is baked.
///
/// # Errors
/// [`RuntimeError`] for one that would not find the images.
pub fn find_runtime<'p>(
    recipe: &CheckedRecipe,
    tree: &Tree,
    pins: impl Fn(&Component) -> &'p [Pin],
    images: &[&str],
) -> Result<Runtime, RuntimeError> {
    let is_containerd =
        |exec: &[String]| exec.first().is_some_and(|program| Path::new(program).ends_with("containerd"));
    let service = recipe.services.iter().find(|service| is_containerd(&service.exec));
    let exec = &service.ok_or(RuntimeError::NoContainerd)?.exec;
    check_version(recipe, tree, pins, &exec[0])?;
    let path = option(exec, &["--config", "-c"]).unwrap_or(CONFIG).to_string();
    let mut configs = vec![read_config(tree, &path)?];
    configs.extend(imports(tree, &path, &configs[0])?);
    configs.iter().try_for_each(|(path, config)| check_plugins(path, config))?;
    let sandbox = configs.iter().rev().find_map(|(_, config)| find_sandbox(config));
    let image = sandbox.ok_or_else(|| RuntimeError::NoSandbox { path: path.clone() })?;
    if !images.contains(&&*image) {
        return Err(RuntimeError::SandboxNotBaked { path, image });
    }
    let of_configs = |keys: &[&str]| configs.iter().rev().find_map(|(_, config)| text_at(config, keys));
    let root = option(exec, &["--root"]).map(String::from).or_else(|| of_configs(&["root"]));
    let root = root.unwrap_or_else(|| ROOT.into());
    let plugin = snapshotter_root();
    let place = of_configs(&["plugins", &plugin, "root_path"]).filter(|place| !place.is_empty());
    let snapshotter = match place {
        None => plugin,
        Some(place) => match place.strip_prefix(root.trim_end_matches('/')).map(|below| below.trim_matches('/')) {
            Some(below) if !below.is_empty() && below.split('/').all(|part| !["", ".", ".."].contains(&part)) => {
                below.into()
            }
            _ => return Err(RuntimeError::Outside { path, key: "root_path", found: place, root }),
        },
    };
    Ok(Runtime { root, snapshotter })
}

/// The value of an option: `--config PATH` or `--config=PATH`.
fn option<'a>(exec: &'a [String], names: &[&str]) -> Option<&'a str> {
    exec.iter().enumerate().skip(1).find_map(|(i, word)| match word.split_once('=') {
        Some((name, value)) if names.contains(&name) => Some(value),
        _ if names.contains(&word.as_str()) => exec.get(i + 1).map(String::as_str),
        _ => None,
    })
}

type Config = (String, toml::Table);

/// What is at that path on the node.
fn on_node<'t>(tree: &'t Tree, path: &str) -> Option<&'t TreeEntry> {
    let path = path.trim_start_matches('/');
    tree.find(path).filter(|entry| entry.segment != SegmentName::Boot).last()
}

fn read_config(tree: &Tree, path: &str) -> Result<Config, RuntimeError> {
    let Some(Kind::File(body)) = on_node(tree, path).map(|found| &found.entry.kind) else {
        return Err(RuntimeError::NoConfig { path: path.into() });
    };
    let bad = |cause: String| RuntimeError::BadConfig { path: path.into(), cause };
    let bytes = body.read_start(1 << 20).map_err(|e| bad(e.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|e| bad(e.to_string()))?;
    let table = text.parse().map_err(|e: toml::de::Error| bad(e.message().into()))?;
    Ok((path.into(), table))
}

/// The files that the configuration imports, in the order of their names: later ones win.
fn imports(tree: &Tree, path: &str, (_, config): &Config) -> Result<Vec<Config>, RuntimeError> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut all = Vec::new();
    for pattern in config.get("imports").and_then(toml::Value::as_array).into_iter().flatten() {
        let pattern = pattern.as_str().unwrap_or_default();
        let pattern = if pattern.starts_with('/') { pattern.to_string() } else { format!("{folder}/{pattern}") };
        let bad = |e: globset::Error| RuntimeError::BadConfig { path: path.into(), cause: e.to_string() };
        let glob = Glob::new(&pattern).map_err(bad)?.compile_matcher();
        let of_root = tree.entries.keys().filter(|(segment, _)| *segment != SegmentName::Boot);
        let mut names: Vec<String> = of_root.map(|(_, name)| format!("/{name}")).filter(|n| glob.is_match(n)).collect();
        names.sort();
        names.dedup();
        for name in names {
            all.push(read_config(tree, &name)?);
        }
    }
    Ok(all)
}

fn text_at(config: &toml::Table, keys: &[&str]) -> Option<String> {
    let (last, tables) = keys.split_last()?;
    let table = tables.iter().try_fold(config, |table, key| table.get(*key)?.as_table())?;
    table.get(*last)?.as_str().map(String::from)
}

/// `sandbox_image` before version 3 of the configuration.
fn find_sandbox(config: &toml::Table) -> Option<String> {
    let now = text_at(config, &["plugins", "io.containerd.cri.v1.images", "pinned_images", "sandbox"]);
    now.or_else(|| text_at(config, &["plugins", "io.containerd.grpc.v1.cri", "sandbox_image"]))
}

/// Refuses another snapshotter, wherever in the configuration it is named, and one that is switched off.
fn check_plugins(path: &str, config: &toml::Table) -> Result<(), RuntimeError> {
    let off = config.get("disabled_plugins").and_then(toml::Value::as_array).into_iter().flatten();
    let own = snapshotter_root();
    let needed = [own.as_str(), "io.containerd.cri.v1.images", "io.containerd.grpc.v1.cri", "cri", SNAPSHOTTER];
    if let Some(plugin) = off.filter_map(toml::Value::as_str).find(|plugin| needed.contains(plugin)) {
        return Err(RuntimeError::Disabled { path: path.into(), plugin: plugin.into() });
    }
    let plugins = config.get("plugins").and_then(toml::Value::as_table);
    match plugins.and_then(|plugins| other_snapshotter(plugins, "plugins")) {
        Some((key, found)) => Err(RuntimeError::Snapshotter { path: path.into(), key, found }),
        None => Ok(()),
    }
}

/// The first key `snapshotter` with another value, with the tables above it.
fn other_snapshotter(table: &toml::Table, within: &str) -> Option<(String, String)> {
    table.iter().find_map(|(key, value)| {
        let dotted = format!("{within}.{key}");
        match value {
            toml::Value::String(found) if key == "snapshotter" && ![SNAPSHOTTER, ""].contains(&&**found) => {
                Some((dotted, found.clone()))
            }
            toml::Value::Table(inner) => other_snapshotter(inner, &dotted),
            toml::Value::Array(items) => {
                items.iter().filter_map(toml::Value::as_table).find_map(|inner| other_snapshotter(inner, &dotted))
            }
            _ => None,
        }
    })
}

fn check_version<'p>(
    recipe: &CheckedRecipe,
    tree: &Tree,
    pins: impl Fn(&Component) -> &'p [Pin],
    program: &str,
) -> Result<(), RuntimeError> {
    let found = on_node(tree, program).map(|found| found.component.as_str());
    let component = recipe.components.iter().find(|component| Some(component.name.as_str()) == found);
    let component = component.ok_or_else(|| RuntimeError::NoProgram { program: program.into() })?;
    let name = || component.name.clone();
    let version = version_of(&component.source, pins(component));
    let version = version.ok_or_else(|| RuntimeError::NoVersion { component: name() })?;
    match KNOWN.iter().any(|known| version.strip_prefix(known).is_some_and(|rest| rest.starts_with('.'))) {
        true => Ok(()),
        false => Err(RuntimeError::Version { component: name(), version }),
    }
}

/// Of a Go module the one that is pinned; else the first number of a pin or an address that looks like a release: `2.4.2`.
fn version_of(source: &SourceSpec, pins: &[Pin]) -> Option<String> {
    if let SourceSpec::Go(spec) = source {
        let own = Some(spec.version.as_str()).filter(|_| spec.module == MODULE);
        let pinned = pins.iter().find(|pin| pin.name == MODULE).map(|pin| pin.version.as_str());
        return own.or(pinned).and_then(release_in);
    }
    let named = pins.iter().filter(|pin| pin.name.contains("containerd")).map(|pin| pin.version.as_str());
    let places: Vec<&str> = match source {
        SourceSpec::Url(spec) => spec.urls.iter().map(String::as_str).collect(),
        SourceSpec::Oci(spec) => spec.image.as_deref().into_iter().collect(),
        _ => Vec::new(),
    };
    named.chain(places).find_map(release_in)
}

/// `2.4.2` of `https://.../v2.4.2/containerd-static-2.4.2-linux-amd64.tar.gz` or `2.4.2~ds1-3`.
fn release_in(text: &str) -> Option<String> {
    let of_number = |c: char| c.is_ascii_digit() || c == '.';
    text.split(|c| !of_number(c))
        .map(|word| word.trim_matches('.'))
        .find(|word| word.split('.').count() == 3 && word.split('.').all(|part| !part.is_empty()))
        .map(String::from)
}

#[cfg(test)]
mod tests;
