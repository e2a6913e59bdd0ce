//! The checks on a merged recipe: every reference, path, glob, number and name. One file a part of the recipe.

mod component;
mod files;
mod image;
mod kernel;
mod memory;
mod network;
mod registry;
mod secrets;
mod service;
mod state;
mod system;
#[cfg(test)]
mod tests;

use super::file::VarFile;
use super::merge::merge;
use super::node::{TomlEntry, TomlNode, Value};
use super::place::At;
use super::problem::{FoundProblem, Problem};
use super::sources::{Sources, plain, relative};
use super::vars::{Choices, Fill, Set, Vars, check_vars, parse_condition};
use super::{CheckedRecipe, Kernel, Lineage, ModuleRequest, Origin, RootMode};
use crate::entry::parse_entry_path;
use crate::recipe::lineage::Earlier;
use kernel::image_modules;
use serde::de::DeserializeOwned;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// All files of a recipe, laid over each other.
pub struct Laid {
    pub tree: TomlNode,
    pub earlier: Earlier,
    /// Absolute, in the order in which they were read.
    pub files_read: Vec<PathBuf>,
    pub lineage: Lineage,
    pub lock_path: PathBuf,
    pub inherited_locks: Vec<PathBuf>,
}

/// What all checks share.
pub struct Check<'a> {
    sources: &'a Sources,
    problems: &'a mut Vec<FoundProblem>,
    earlier: Earlier,
    /// The recipe's own file.
    path: PathBuf,
    /// Look for the files and folders that the recipe names.
    pub(super) on_disk: bool,
    /// Asked for instead of the recipe's own.
    root_mode: Option<RootMode>,
    vars: Vars,
    declared: Vec<String>,
    choices: Choices,
    /// Places of problems that are known before the checks: their values are not looked at again.
    pub(super) flawed: HashSet<At>,
    /// Sizes may be shares of `[memory]`.
    has_shares: bool,
}

impl<'a> Check<'a> {
    pub fn new(
        sources: &'a Sources,
        problems: &'a mut Vec<FoundProblem>,
        path: PathBuf,
        on_disk: bool,
        root_mode: Option<RootMode>,
    ) -> Self {
        let flawed = problems.iter().map(|f| f.at).collect();
        let (earlier, vars, declared, choices) = Default::default();
        Self {
            sources,
            problems,
            earlier,
            path,
            on_disk,
            root_mode,
            vars,
            declared,
            choices,
            flawed,
            has_shares: false,
        }
    }

    /// Checks everything. `None`: some part could not be made; the problems say which.
    pub fn recipe(mut self, laid: Laid, stem: &str, sets: &[Set]) -> Option<CheckedRecipe> {
        let Laid { mut tree, earlier, mut files_read, lineage, lock_path, inherited_locks } = laid;
        self.earlier = earlier;
        self.variables(&tree, sets);
        let mut fill =
            Fill { vars: &self.vars, declared: &self.declared, sources: self.sources, problems: self.problems };
        fill.recipe(&mut tree);
        let tree = self.with_variants(tree);
        let name = self.recipe_name(&tree, stem);
        let secrets = self.secrets(&tree);
        let mut components = self.components(&tree);
        components.extend(self.images(&tree));
        self.has_shares = tree.get("memory").is_some();
        let mut root = self.root(&tree, &name);
        let kernel = self.kernel(&tree, root.as_ref(), &mut files_read);
        let overlays = self.overlays(&tree);
        let mut files = self.files(&tree);
        files.extend(self.registries(&tree));
        let mut services = self.services(&tree);
        registry::add_service(&files, &mut services);
        self.check_images(&tree, &services);
        let network = self.network(&tree);
        let time = self.time(&tree);
        let hostname = self.hostname(&tree);
        let sysctls = self.sysctls(&tree);
        let zram = self.zram(&tree);
        let report = self.report_url(&tree);
        let policies = self.policies(&tree);
        let (mut state, state_modules) = self.state(&tree);
        let watchdog = self.watchdog(&tree);
        if let Some(root) = &mut root {
            // The later way to say it wins, and hides what lies below.
            root.tmpfs.retain(|t| state.iter().all(|s| !state::is_at_or_below(&t.path, &s.path)));
            self.check_containerd(&tree, root, &state, &services);
        }
        let binds = self.binds(&tree);
        // Those of `[state]` win over these, too.
        let shown = binds.into_iter().filter(|bind| state.iter().all(|s| !state::is_at_or_below(&bind.path, &s.path)));
        state.extend(shown.collect::<Vec<_>>());
        let memory = self.memory(&tree, &services);
        let zram_module =
            tree.get("zram").map(|node| ModuleRequest { text: "zram".into(), origin: self.origin(node.at) });
        let modules = state_modules.into_iter().chain(zram_module).collect();
        let kernel = kernel.map(|kernel| with_modules(kernel, modules));
        let pack = self.pack(&tree, root.as_ref());
        let budget = self.budget(&tree);
        let smoke = self.smoke(&tree, &services);
        let shutdown_timeout_s =
            self.read(tree.get("shutdown_timeout_s")).unwrap_or_else(super::file::shutdown_timeout_s);
        let mut kernel = kernel?;
        let (network, root) = (network?, root?);
        self.link_modules(&tree, &network, &mut kernel);
        self.root_module(&tree, &root, &mut kernel);
        image_modules(&components, &mut kernel);
        Some(CheckedRecipe {
            name,
            summary: tree.text_of("summary").unwrap_or_default().to_string(),
            lock_path,
            inherited_locks,
            path: self.path,
            files_read,
            lineage,
            vars: self.vars,
            kernel,
            components,
            overlays,
            files,
            root,
            pack: pack?,
            services,
            network,
            time: time?,
            hostname: hostname?,
            sysctls,
            policies,
            zram,
            state,
            watchdog,
            memory,
            report,
            shutdown_timeout_s,
            budget: budget?,
            smoke: smoke?,
            secrets,
        })
    }

    fn variables(&mut self, tree: &TomlNode, sets: &[Set]) {
        let empty = TomlNode { at: tree.at, value: Value::Table(Vec::new()) };
        let table = tree.get("vars").unwrap_or(&empty);
        self.declared = table.entries().iter().map(|e| e.key.clone()).collect();
        let flawed = &self.flawed;
        // What does not fit was reported by the walk against the schema.
        let read = |node: &TomlNode| serde_json::from_value::<VarFile>(node.to_json(flawed)).ok();
        let choices = |entry: &TomlEntry| Some((entry.key.clone(), read(&entry.node)?.choices));
        self.choices = table.entries().iter().filter_map(choices).filter(|(_, all)| !all.is_empty()).collect();
        self.vars = check_vars(table, read, sets, self.problems);
    }

    /// The recipe with those of its variants laid over it whose conditions hold.
    fn with_variants(&mut self, mut tree: TomlNode) -> TomlNode {
        let variants = tree.get("variant").map_or(Vec::new(), |list| list.items().to_vec());
        for mut variant in variants {
            if self.need(variant.text_of("when"), "when", &variant, "this variant").is_some()
                && self.condition(&variant)
            {
                variant.remove("when");
                tree = merge(tree, variant, self.sources, &mut self.earlier, self.problems);
            }
        }
        tree
    }

    fn recipe_name(&mut self, tree: &TomlNode, stem: &str) -> String {
        let name = tree.text_of("name").unwrap_or(stem).to_string();
        self.check_name(tree.at_of("name"), &name);
        name
    }

    /// Names become file names and words of messages.
    fn check_name(&mut self, at: At, name: &str) {
        let good = name.len() <= 128
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b));
        if !good {
            let expected = "a name: at most 128 letters, digits, `.`, `_`, `+` and `-`, a letter or digit first";
            self.report(at, Problem::BadValue { found: name.into(), expected, example: "node-1" });
        }
    }

    pub(super) fn report(&mut self, at: At, problem: Problem) {
        self.problems.push(FoundProblem { at, problem });
    }

    pub(super) fn origin(&self, at: At) -> Origin {
        self.sources.origin(at)
    }

    /// Where earlier files wrote an item that was written there last: the nearest first.
    fn earlier_origins(&self, mut at: At) -> Vec<Origin> {
        let next = move || {
            self.earlier.laid_over.get(&at).inspect(|earlier| at = **earlier).map(|earlier| self.origin(*earlier))
        };
        std::iter::from_fn(next).collect()
    }

    /// The typed form of a part of the recipe; `None` when there is none, or it has problems that are known already.
    pub(super) fn read<T: DeserializeOwned>(&mut self, node: Option<&TomlNode>) -> Option<T> {
        node?.to_typed(&self.flawed).unwrap_or_else(|found| {
            self.problems.push(found);
            None
        })
    }

    /// A whole section; an absent one is read as an empty table, so that its defaults hold.
    fn section<T: DeserializeOwned>(&mut self, tree: &TomlNode, key: &str) -> (TomlNode, Option<T>) {
        let empty = TomlNode { at: tree.at, value: Value::Table(Vec::new()) };
        let node = tree.get(key).cloned().unwrap_or(empty);
        let value = self.read(Some(&node));
        (node, value)
    }

    /// The text of a key that must be there.
    pub(super) fn need<T>(&mut self, value: Option<T>, key: &str, node: &TomlNode, place: &str) -> Option<T> {
        if value.is_none() && !node.has_flaw(&self.flawed) {
            self.report(node.at, Problem::MissingKey { key: key.into(), place: place.into() });
        }
        value
    }

    /// Exactly one of `choices` must be written. Returns it.
    pub(super) fn exactly_one(
        &mut self,
        node: &TomlNode,
        choices: &[&'static str],
        place: &str,
    ) -> Option<&'static str> {
        let off = |n: &TomlNode| n.value == Value::Bool(false);
        let found: Vec<&'static str> =
            choices.iter().copied().filter(|c| node.get(c).is_some_and(|n| !off(n))).collect();
        if let [one] = found[..] {
            return Some(one);
        }
        if !(found.is_empty() && node.has_flaw(&self.flawed)) {
            let owned = |names: &[&str]| names.iter().map(|n| n.to_string()).collect();
            let problem = Problem::NotExactlyOne { place: place.into(), choices: owned(choices), found: owned(&found) };
            self.report(node.at, problem);
        }
        None
    }

    /// The item's `when`; true without one.
    pub(super) fn condition(&mut self, node: &TomlNode) -> bool {
        let Some(text) = node.text_of("when") else { return true };
        match parse_condition(text, &self.vars, &self.declared, &self.choices) {
            Ok(holds) => holds,
            Err(problem) => {
                self.report(node.at_of("when"), problem);
                true
            }
        }
    }

    /// A path inside the image, in plain form; empty when it is bad.
    pub(super) fn image_path(&mut self, at: At, raw: &str) -> String {
        parse_entry_path(raw).unwrap_or_else(|cause| {
            self.report(at, Problem::BadPath { path: raw.into(), cause });
            String::new()
        })
    }

    /// The same for one that may not be the root itself.
    pub(super) fn image_file(&mut self, at: At, raw: &str) -> String {
        let path = self.image_path(at, raw);
        if path.is_empty() && parse_entry_path(raw).is_ok() {
            let expected = "the path of a file in the image";
            self.report(at, Problem::BadValue { found: raw.into(), expected, example: "usr/bin/program" });
        }
        path
    }

    /// Octal permission bits.
    pub(super) fn mode(&mut self, at: At, text: &str) -> u32 {
        let digits = text.len() <= 5 && !text.is_empty() && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
        let mode = u32::from_str_radix(text, 8).ok().filter(|m| digits && *m <= 0o7777);
        mode.unwrap_or_else(|| {
            let expected = "octal permissions";
            self.report(at, Problem::BadValue { found: text.into(), expected, example: "0755" });
            0
        })
    }

    pub(super) fn globs(&mut self, node: &TomlNode, key: &str) {
        for item in node.get(key).map_or(&[][..], TomlNode::items) {
            let Some(pattern) = item.text() else { continue };
            if let Err(e) = globset::GlobBuilder::new(pattern).literal_separator(true).build() {
                self.report(item.at, Problem::BadGlob { pattern: pattern.into(), cause: e.kind().to_string() });
            }
        }
    }

    /// A path of this machine that was written at `at`: absolute, without `.` and `..`.
    pub(super) fn host_path(&self, at: At, raw: &str) -> PathBuf {
        plain(&self.sources.dir(at).join(raw))
    }

    /// The same relative to the recipe's own folder, so that no path of a machine gets into the lock.
    pub(super) fn recipe_path(&self, at: At, raw: &str) -> PathBuf {
        if Path::new(raw).is_absolute() {
            return raw.into();
        }
        let dir = self.path.parent().unwrap_or(Path::new(""));
        relative(&plain(dir), &self.host_path(at, raw))
    }

    pub(super) fn check_there(&mut self, at: At, what: &'static str, path: &Path, there: impl Fn(&Path) -> bool) {
        if self.on_disk && !there(path) {
            self.report(at, Problem::MissingPath { what, path: path.into() });
        }
    }
}

/// Modules of the root that other sections ask for.
fn with_modules(mut kernel: Kernel, more: Vec<ModuleRequest>) -> Kernel {
    for module in more {
        if kernel.modules.iter().all(|m| m.text != module.text) {
            kernel.modules.push(module);
        }
    }
    kernel
}
