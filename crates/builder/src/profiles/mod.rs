//! Profiles: what add-ons of pinned versions need, read in their own sources. One TOML file each in `profiles/`.

mod need;

use bootwright_contract::sysctl::SysctlNeed;
pub use need::{Need, NeedKind};
use serde::Deserialize;
use std::sync::LazyLock;

/// An add-on.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    pub name: &'static str,
    pub summary: String,
    pub version: String,
    /// Where its sources were read.
    pub source: String,
    /// Container images by which a manifest is known to be of this add-on: without registry and tag.
    pub images: Vec<String>,
    /// In the order of the file.
    pub needs: Vec<Need>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileFile {
    summary: String,
    version: String,
    source: String,
    #[serde(default)]
    images: Vec<String>,
    need: Vec<NeedFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NeedFile {
    #[serde(default)]
    modules: Vec<String>,
    #[serde(default)]
    programs: Vec<String>,
    #[serde(default)]
    paths: Vec<String>,
    #[serde(default)]
    sysctls: Vec<String>,
    #[serde(default)]
    options: Vec<String>,
    #[serde(default)]
    mounts: Vec<String>,
    #[serde(default)]
    shared: Vec<String>,
    why: String,
    /// In the add-on's source; default: that of the profile.
    source: Option<String>,
    only: Option<String>,
}

macro_rules! profiles {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../../profiles/", $name, ".toml")))),*]
    };
}

const FILES: &[(&str, &str)] = profiles![
    "calico-ebpf",
    "calico-iptables",
    "ceph-csi",
    "cilium",
    "csi-driver-iscsi",
    "csi-driver-nfs",
    "elasticsearch",
    "falco",
    "flannel",
    "istio",
    "kube-proxy-iptables",
    "kube-proxy-ipvs",
    "kube-proxy-nftables",
    "kube-router",
    "longhorn",
    "multus",
    "node-exporter",
    "node-local-dns",
    "nvidia-device-plugin",
    "spegel",
];

/// All of them, sorted by name.
pub static PROFILES: LazyLock<Vec<Profile>> =
    LazyLock::new(|| FILES.iter().map(|(name, text)| parse(name, text).expect("profiles are tested")).collect());

pub fn find(name: &str) -> Option<&'static Profile> {
    PROFILES.iter().find(|profile| profile.name == name)
}

/// Profiles of a container image's repository; several where one image runs in several ways.
pub fn of_image(image: &str) -> impl Iterator<Item = &'static Profile> {
    let repository = repository(image).to_string();
    PROFILES.iter().filter(move |profile| profile.images.contains(&repository))
}

/// What no add-on runs without, as nodes read it ([`bootwright_contract::paths::ADDONS`]). `release`: of the kernel.
pub fn node_table(release: &str) -> String {
    let lines = PROFILES.iter().flat_map(|profile| {
        let must = profile.needs.iter().filter(|need| need.only.is_none());
        must.map(|need| {
            let name: Vec<&str> = need.names().collect();
            let name = name.join("|").replace("${release}", release);
            format!("{}\t{}\t{name}\t{}\n", profile.name, need.kind, need.why)
        })
    });
    lines.collect()
}

/// `quay.io/cilium/cilium:v1@sha256:...` -> `cilium/cilium`. A registry has a dot, a port or is `localhost`
/// (distribution's reference grammar, `reference.go`).
fn repository(image: &str) -> &str {
    let named = image.split('@').next().unwrap_or_default();
    let tag = named.rfind(':').filter(|at| !named[*at..].contains('/'));
    let named = tag.map_or(named, |at| &named[..at]);
    match named.split_once('/') {
        Some((registry, rest)) if registry.contains(['.', ':']) || registry == "localhost" => rest,
        _ => named,
    }
}

fn parse(name: &'static str, text: &str) -> Result<Profile, String> {
    let file: ProfileFile = toml::from_str(text).map_err(|e| format!("{name}: {e}"))?;
    let mut needs = Vec::new();
    for need in file.need {
        let lists = [
            (NeedKind::Module, need.modules),
            (NeedKind::Program, need.programs),
            (NeedKind::Path, need.paths),
            (NeedKind::Sysctl, need.sysctls),
            (NeedKind::Option, need.options),
            (NeedKind::Mount, need.mounts),
            (NeedKind::Shared, need.shared),
        ];
        let source = need.source.unwrap_or_else(|| file.source.clone());
        for (kind, thing) in lists.into_iter().flat_map(|(kind, list)| list.into_iter().map(move |thing| (kind, thing)))
        {
            if kind == NeedKind::Sysctl && SysctlNeed::parse(&thing).is_none() {
                return Err(format!("{name}: `{thing}` is no `key >= number` and no `key = value`"));
            }
            needs.push(Need {
                kind,
                name: thing,
                why: need.why.clone(),
                source: source.clone(),
                only: need.only.clone(),
            });
        }
    }
    let ProfileFile { summary, version, source, images, .. } = file;
    Ok(Profile { name, summary, version, source, images, needs })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_profile_says_what_it_needs_why_and_where_that_was_read() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../profiles");
        let files: BTreeSet<String> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let known: BTreeSet<String> = FILES.iter().map(|(name, _)| format!("{name}.toml")).collect();
        assert_eq!(files, known, "files of `profiles/` and those in the program");
        for (name, text) in FILES {
            let profile = parse(name, text).unwrap();
            let texts = [&profile.summary, &profile.version, &profile.source];
            assert!(texts.iter().all(|text| !text.is_empty()) && profile.source.contains("https://"), "{name}");
            let mut seen = BTreeSet::new();
            for need in &profile.needs {
                assert!(seen.insert((need.kind, need.name.clone())), "{name}: {} {} twice", need.kind, need.name);
                assert!(need.why.len() > 15 && !need.source.is_empty(), "{name}: {} {}", need.kind, need.name);
                let is_path = [NeedKind::Path, NeedKind::Mount, NeedKind::Shared].contains(&need.kind);
                assert!(!is_path || need.names().all(|path| path.starts_with('/')), "{name}: {}", need.name);
                // A line of the table that nodes read holds one need.
                assert!(!format!("{}{}", need.name, need.why).contains(['\t', '\n']), "{name}: {}", need.name);
            }
            assert!(profile.needs.iter().any(|need| need.only.is_none()), "{name} needs nothing");
        }
        assert!(FILES.is_sorted_by_key(|(name, _)| name), "the list is printed as it stands");
    }

    #[test]
    fn the_table_of_nodes_has_what_no_add_on_runs_without() {
        let table = node_table("6.1");
        let needs: usize = PROFILES.iter().map(|p| p.needs.iter().filter(|need| need.only.is_none()).count()).sum();
        assert_eq!(table.lines().count(), needs);
        assert!(table.lines().all(|line| line.split('\t').count() == 4 && !line.contains("${")), "{table}");
        assert!(table.contains("longhorn\tpath\t/boot/config-6.1|/usr/lib/modules/6.1/config\t"), "{table}");
        assert!(!table.contains("\tmodule\twireguard\t"), "{table}");
    }

    #[test]
    fn images_are_known_without_registry_and_tag() {
        for (image, found) in [
            ("quay.io/cilium/cilium:v1.18.2@sha256:00", "cilium/cilium"),
            ("localhost:5000/flannel/flannel", "flannel/flannel"),
            ("calico/node:v3", "calico/node"),
            ("registry.k8s.io/kube-proxy:v1.37.2", "kube-proxy"),
            ("nfsplugin", "nfsplugin"),
            ("", ""),
        ] {
            assert_eq!(repository(image), found);
        }
        let names = |image| of_image(image).map(|profile| profile.name).collect::<Vec<_>>();
        assert_eq!(names("quay.io/cilium/cilium:v1"), ["cilium"]);
        assert_eq!(names("x.example/kube-proxy"), ["kube-proxy-iptables", "kube-proxy-ipvs", "kube-proxy-nftables"]);
        assert!(names("nginx").is_empty());
    }
}
