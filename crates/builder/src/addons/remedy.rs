//! Recipe lines that bring what is lacking, and what they cost.

use super::Contents;
use crate::budget::mb;
use crate::cache::Cache;
use crate::error::Failure;
use crate::kmod::{ModuleCost, module_cost};
use crate::pipeline::Planned;
use crate::profiles::{Need, NeedKind};
use crate::recipe::Kernel;
use crate::tree::Supply;
use bootwright_contract::modalias::kernel_name;
use bootwright_contract::sysctl::SysctlNeed;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Programs, the Debian packages that hold them, and their places there.
const PACKAGES: &[(&str, &str, &str)] = &[
    ("apparmor_parser", "apparmor", "usr/sbin/apparmor_parser"),
    ("bash", "bash", "usr/bin/bash"),
    ("blkid", "util-linux", "usr/sbin/blkid"),
    ("cryptsetup", "cryptsetup-bin", "usr/sbin/cryptsetup"),
    ("curl", "curl", "usr/bin/curl"),
    ("findmnt", "util-linux", "usr/bin/findmnt"),
    ("fstrim", "util-linux", "usr/sbin/fstrim"),
    ("grep", "grep", "usr/bin/grep"),
    ("iscsiadm", "open-iscsi", "usr/sbin/iscsiadm"),
    ("iscsid", "open-iscsi", "usr/sbin/iscsid"),
    ("lsblk", "util-linux", "usr/bin/lsblk"),
    ("mount.nfs", "nfs-common", "usr/sbin/mount.nfs"),
    ("multipathd", "multipath-tools", "usr/sbin/multipathd"),
    ("nft", "nftables", "usr/sbin/nft"),
];

/// Folders that a recipe can bring empty.
const FOLDERS: [&str; 4] = ["/etc/", "/opt/", "/var/", "/usr/local/"];

/// A set of modules that holds all that are lacking.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SetOffer {
    pub name: String,
    /// Bytes that the set would add, packed.
    pub packed: u64,
}

/// What brings what is lacking.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Remedies {
    /// Lines of a recipe that extends the image's.
    pub lines: Vec<String>,
    /// Modules that those lines bring, and what they cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modules: Option<ModuleCost>,
    /// The smallest set that has them too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<SetOffer>,
    /// Components among the lines: what they take is known when they are built.
    pub unmeasured: Vec<String>,
    /// What no line brings, and why not.
    pub beyond: Vec<String>,
}

/// Finds them. `lacking` may name a thing more than once.
pub fn find_remedies(
    planned: &Planned,
    contents: &Contents,
    lacking: &[&Need],
    cache: &Cache,
    jobs: usize,
) -> Result<Remedies, Failure> {
    let mut found = Remedies::default();
    let modules = modules_of(lacking.iter().copied());
    if !modules.is_empty() {
        let supply = Supply::of(&planned.recipe.components, &planned.pools)?;
        let cost = |wanted: &[String]| module_cost(&planned.recipe, &supply, wanted, &contents.modules, cache, jobs);
        let of_names = cost(&modules)?;
        let brought: Vec<&String> = modules.iter().filter(|name| !of_names.absent.contains(name)).collect();
        let set = smallest_set(&planned.recipe.kernel, &brought);
        found.set = match set {
            Some((name, members)) => Some(SetOffer { name: name.clone(), packed: cost(members)?.packed }),
            None => None,
        };
        if !brought.is_empty() {
            let names: Vec<String> = brought.iter().map(|name| format!("\"{name}\"")).collect();
            found.lines.extend(["[kernel]".into(), format!("modules = [{}]", names.join(", ")), String::new()]);
        }
        let release = &contents.release;
        found.beyond.extend(
            of_names.absent.iter().map(|name| format!("module {name}: kernel {release} has none of that name")),
        );
        found.modules = Some(of_names);
    }
    add_sysctls(lacking, &mut found);
    add_components(lacking, &mut found);
    add_folders(lacking, &mut found);
    add_rest(lacking, &mut found);
    Ok(found)
}

/// Modules among needs, with `_` for `-`; the first of several that would do.
fn modules_of<'n>(needs: impl Iterator<Item = &'n Need>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for need in needs.filter(|need| need.kind == NeedKind::Module) {
        let name = kernel_name(need.names().next().unwrap_or_default());
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// A set that holds all these modules.
fn smallest_set<'k>(kernel: &'k Kernel, modules: &[&String]) -> Option<(&'k String, &'k Vec<String>)> {
    let holds = |members: &[String]| {
        let members: BTreeSet<String> = members.iter().map(|name| kernel_name(name)).collect();
        modules.iter().all(|name| members.contains(*name))
    };
    let holding = kernel.sets.iter().filter(|(_, members)| !modules.is_empty() && holds(members));
    holding.min_by_key(|(_, members)| members.len())
}

fn of_kind<'n>(lacking: &[&'n Need], kind: NeedKind) -> impl Iterator<Item = &'n str> {
    let mut seen = BTreeSet::new();
    let first = |need: &&'n Need| need.names().next().unwrap_or_default();
    let names: Vec<&str> =
        lacking.iter().filter(|need| need.kind == kind).map(first).filter(|name| seen.insert(*name)).collect();
    names.into_iter()
}

fn add_sysctls(lacking: &[&Need], found: &mut Remedies) {
    let mut values: BTreeMap<&str, &str> = BTreeMap::new();
    for need in of_kind(lacking, NeedKind::Sysctl).filter_map(SysctlNeed::parse) {
        let larger = |old: &&str| old.parse::<i64>().ok() >= need.value.parse::<i64>().ok();
        if !values.get(need.key).is_some_and(larger) {
            values.insert(need.key, need.value);
        }
    }
    if !values.is_empty() {
        found.lines.push("[sysctls]".into());
        found.lines.extend(values.into_iter().map(|(key, value)| format!("\"{key}\" = \"{value}\"")));
        found.lines.push(String::new());
    }
}

fn add_components(lacking: &[&Need], found: &mut Remedies) {
    let mut packages: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for program in of_kind(lacking, NeedKind::Program) {
        let name = program.rsplit('/').next().unwrap_or_default();
        match PACKAGES.iter().find(|(known, ..)| *known == name) {
            Some((_, package, path)) => packages.entry(package).or_default().push(path),
            None => found.beyond.push(format!("program {program}: a component that you name has to bring it")),
        }
    }
    for (package, paths) in packages {
        let paths: BTreeSet<String> = paths.into_iter().map(|path| format!("\"{path}\"")).collect();
        let paths = paths.into_iter().collect::<Vec<_>>().join(", ");
        found.lines.extend([
            "[[component]]".into(),
            format!("name = \"{package}\""),
            format!("deb = {{ suite = \"${{suite}}\", packages = [\"{package}\"] }}"),
            format!("paths = [{paths}]"),
            String::new(),
        ]);
        found.unmeasured.push(package.into());
    }
}

fn add_folders(lacking: &[&Need], found: &mut Remedies) {
    for path in of_kind(lacking, NeedKind::Path) {
        match FOLDERS.iter().any(|folder| path.starts_with(folder)) && !is_a_file(lacking, path) {
            true => found.lines.extend([
                "[[file]]".into(),
                format!("path = \"{path}\""),
                "dir = true".into(),
                String::new(),
            ]),
            false => found.beyond.push(format!("path {path}: an overlay or a component that you name has to bring it")),
        }
    }
    for path in of_kind(lacking, NeedKind::Mount).filter(|path| FOLDERS.iter().any(|folder| path.starts_with(folder))) {
        found.lines.extend([
            "[[root.tmpfs]]".into(),
            format!("path = \"{path}\""),
            "size = \"20%\"".into(),
            "mode = \"0755\"".into(),
            String::new(),
        ]);
    }
}

/// A folder in the place of a file would be of no use.
fn is_a_file(lacking: &[&Need], path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let said = |need: &&&Need| need.kind == NeedKind::Path && need.names().any(|named| named == path);
    name.contains('.') && !name.ends_with(".d")
        || lacking.iter().filter(said).any(|need| !need.why.contains("(Directory"))
}

fn add_rest(lacking: &[&Need], found: &mut Remedies) {
    for option in of_kind(lacking, NeedKind::Option) {
        found.beyond.push(format!("option {option}: another kernel has to be built with it"));
    }
    for path in of_kind(lacking, NeedKind::Mount).filter(|path| !FOLDERS.iter().any(|folder| path.starts_with(folder)))
    {
        found.beyond.push(format!("mount {path}: PID1 does not mount it"));
    }
    for path in of_kind(lacking, NeedKind::Shared) {
        found.beyond.push(format!("shared {path}: the mounts of the node are private"));
    }
}

impl Remedies {
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        if !self.lines.is_empty() {
            text += "\nrecipe lines that bring what is lacking:\n";
            for line in self.lines.split_last().map_or(&[][..], |(_, lines)| lines) {
                text += &if line.is_empty() { "\n".to_string() } else { format!("    {line}\n") };
            }
        }
        if let Some(cost) = self.modules.as_ref().filter(|cost| !cost.modules.is_empty()) {
            text += &format!("\n{} modules with all that they need: {} packed\n", cost.modules.len(), mb(cost.packed));
        }
        if let Some(set) = &self.set {
            text += &format!("the set `@{}` has them too: {} packed\n", set.name, mb(set.packed));
        }
        if !self.unmeasured.is_empty() {
            let names = self.unmeasured.join(", ");
            text += &format!("unknown before they are built: what the components take ({names})\n");
        }
        if !self.beyond.is_empty() {
            text += "\nno line of these brings:\n";
            self.beyond.iter().for_each(|line| text += &format!("  {line}\n"));
        }
        text
    }
}
