//! Reads and checks `nodes.toml`. Every problem is reported at once, with line and column.

use super::file::{ClusterFile, DefaultsFile, MenuFile, NodeFile, NodesFile, ServerFile};
use super::values::{
    is_api_server, is_dhcp_range, is_hostname, is_interface, is_kernel_word, parse_address, parse_mac,
    parse_server_url, parse_uuid, root_mode,
};
use super::{Address, BootServer, Cluster, Dhcp, Mac, Menu, Node, Nodes, NodesError};
use crate::local::{Modes, is_in_overlay, parse_stated};
use crate::recipe::file::{OneOrMany, Scalar};
use crate::recipe::node::{TomlNode, Value, parse_node};
use crate::recipe::place::At;
use crate::recipe::problem::{FoundProblem, Problem};
use crate::recipe::sources::{SourceFile, Sources};
use crate::recipe::{Origin, RootMode, VarValue, check_schema, image_name};
use crate::secrets::{SecretWord, in_value, secret_words};
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Names that templates have for every node.
const OWN_VARS: [&str; 8] = ["name", "hostname", "address", "prefix", "gateway", "mac", "uuid", "recipe"];

/// JSON schema (2020-12) of `nodes.toml`.
pub fn nodes_schema() -> serde_json::Value {
    schemars::schema_for!(NodesFile).to_value()
}

/// Loads `nodes.toml`. Overlays that it names must be there.
///
/// # Errors
/// Every problem at once.
pub fn load_nodes(path: &Path) -> Result<Nodes, NodesError> {
    let read = |cause| NodesError::Read { path: path.into(), cause };
    let text = crate::input_file::read_text(path).map_err(read)?;
    let whole = std::path::absolute(path).map_err(read)?;
    parse(path, whole, text, true)
}

/// The same for a text that is no file: pure, so nothing that it names is looked for on disk.
pub fn parse_nodes_text(text: &str) -> Result<Nodes, NodesError> {
    parse(Path::new("nodes.toml"), "nodes.toml".into(), text.into(), false)
}

fn parse(shown: &Path, path: PathBuf, text: String, on_disk: bool) -> Result<Nodes, NodesError> {
    let (tree, mut problems) = parse_node(0, &text);
    let file = SourceFile { path, shown: shown.display().to_string().into(), text };
    let sources = Sources { files: vec![file] };
    let mut nodes = None;
    if problems.is_empty() {
        check_schema(&tree, &nodes_schema(), &mut problems);
        let flawed = problems.iter().map(|found| found.at).collect();
        let mut check =
            NodesCheck { sources: &sources, problems: &mut problems, on_disk, flawed, taken: HashMap::new() };
        nodes = Some(check.nodes(&tree));
    }
    match nodes {
        Some(nodes) if problems.is_empty() => Ok(nodes),
        _ => {
            problems.sort_by_key(|found| found.at);
            problems.dedup();
            Err(NodesError::Problems { path: shown.into(), sources, problems })
        }
    }
}

struct NodesCheck<'a> {
    sources: &'a Sources,
    problems: &'a mut Vec<FoundProblem>,
    on_disk: bool,
    /// Places of problems that are known before the checks.
    flawed: HashSet<At>,
    /// What only one node may have, and who has it.
    taken: HashMap<(&'static str, String), Origin>,
}

/// A node as it is written, with what `[defaults]` says where it says nothing.
struct CompleteNode<'a> {
    own: &'a TomlNode,
    defaults: &'a TomlNode,
    file: NodeFile,
}

impl CompleteNode<'_> {
    /// The table that a key's value comes from.
    fn of(&self, key: &str) -> &TomlNode {
        if self.own.get(key).is_some() { self.own } else { self.defaults }
    }
}

fn with_defaults(file: NodeFile, defaults: &DefaultsFile) -> NodeFile {
    NodeFile {
        recipe: file.recipe.or_else(|| defaults.recipe.clone()),
        root: file.root.or_else(|| defaults.root.clone()),
        ibft: file.ibft.or(defaults.ibft),
        gateway: file.gateway.or_else(|| defaults.gateway.clone()),
        dns: file.dns.or_else(|| defaults.dns.clone()),
        cmdline: file.cmdline.or_else(|| defaults.cmdline.clone()),
        overlay: file.overlay.or_else(|| defaults.overlay.clone()),
        secrets: file.secrets.or(defaults.secrets),
        secrets_reason: file.secrets_reason.or_else(|| defaults.secrets_reason.clone()),
        ..file
    }
}

impl NodesCheck<'_> {
    fn nodes(&mut self, tree: &TomlNode) -> Nodes {
        let nothing = TomlNode { at: tree.at, value: Value::Table(Vec::new()) };
        let defaults_at = tree.get("defaults").unwrap_or(&nothing).clone();
        let defaults: DefaultsFile = self.read(tree.get("defaults")).unwrap_or_default();
        let image = defaults.recipe.as_ref().map(|recipe| {
            self.recipe(defaults_at.at_of("recipe"), recipe);
            let (mode, _) = self.root(&defaults_at, defaults.root.as_ref());
            image_name(recipe, mode)
        });
        let nodes = tree.get("node").map_or(&[][..], TomlNode::items);
        let cluster = tree.get("cluster").and_then(|node| self.cluster(node));
        Nodes {
            server: self.server(tree.get("server").unwrap_or(&nothing)),
            menu: self.menu(tree.get("menu")),
            image,
            nodes: nodes
                .iter()
                .filter_map(|node| self.node(node, &defaults_at, &defaults, cluster.is_some()))
                .collect(),
            cluster,
        }
    }

    fn cluster(&mut self, node: &TomlNode) -> Option<Cluster> {
        let file: ClusterFile = self.read(Some(node))?;
        let good = is_hostname(&file.name).then_some(());
        self.value(node.at_of("name"), &file.name, good, "a name: letters, digits, `.` and `-`", "lab");
        if file.servers.is_empty() {
            let place = "`[cluster]`".to_string();
            self.report(node.at_of("servers"), Problem::NoneOf { place, choices: vec!["servers".into()] });
        }
        for (i, text) in file.servers.iter().enumerate() {
            let good = is_api_server(text).then_some(());
            self.value(node.at_item("servers", i), text, good, "an API server", "https://192.0.2.1:6443");
        }
        let dns = file.dns.iter().enumerate();
        let dns = dns.filter_map(|(i, text)| self.ip(node.at_item("dns", i), text)).collect();
        let good = is_hostname(&file.domain).then_some(());
        self.value(node.at_of("domain"), &file.domain, good, "a DNS domain", "cluster.local");
        let good = file.ca.contains("-----BEGIN CERTIFICATE-----").then_some(());
        self.value(node.at_of("ca"), "ca", good, "a certificate in PEM", "-----BEGIN CERTIFICATE-----...");
        let dir = self.sources.dir(node.at);
        Some(Cluster {
            credentials: dir.join(&file.credentials),
            signing_key: dir.join(&file.signing_key),
            name: file.name,
            servers: file.servers,
            ca: file.ca,
            dns,
            domain: file.domain,
        })
    }

    fn server(&mut self, node: &TomlNode) -> BootServer {
        let file: ServerFile = self.read(Some(node)).unwrap_or_default();
        let url = file.url.as_ref().and_then(|text| {
            let expected = "an address of an HTTP server; loaders know no TLS";
            self.value(node.at_of("url"), text, parse_server_url(text), expected, "http://192.0.2.1:8080")
        });
        if let Some(name) = &file.interface {
            let good = is_interface(name).then_some(());
            self.value(node.at_of("interface"), name, good, "a network interface", "eth0");
        }
        let proxy = file.proxy.as_ref().and_then(|text| {
            self.value(node.at_of("proxy"), text, text.parse::<Ipv4Addr>().ok(), "an IPv4 address", "192.0.2.0")
        });
        let range = file.dhcp_range.filter(|text| {
            let good = is_dhcp_range(text).then_some(());
            self.value(node.at_of("dhcp_range"), text, good, "a range of addresses", "192.0.2.100,192.0.2.199,12h")
                .is_some()
        });
        if file.report && file.url.is_none() {
            self.report(
                node.at_of("report"),
                Problem::NotUsed { key: "report", reason: "`url` does not say where to" },
            );
        }
        if let (Some(_), Some(_)) = (proxy, &range) {
            let reason = "a server hands out addresses, or stands beside one that does";
            self.report(node.at_of("proxy"), Problem::NotUsed { key: "proxy", reason });
        }
        let dhcp = range.map_or(proxy.map_or(Dhcp::None, Dhcp::Proxy), Dhcp::Range);
        BootServer { url, interface: file.interface, dhcp, report: file.report }
    }

    fn menu(&mut self, node: Option<&TomlNode>) -> Menu {
        match self.read::<MenuFile>(node) {
            Some(file) => Menu { default: file.default, timeout_s: file.timeout_s },
            None => Menu::default(),
        }
    }

    fn node(&mut self, node: &TomlNode, defaults_at: &TomlNode, defaults: &DefaultsFile, joins: bool) -> Option<Node> {
        let file: NodeFile = self.read(Some(node))?;
        let origin = self.sources.origin(node.at);
        let name = self.name(node, file.name.clone())?;
        if node.get("mac").is_none() && node.get("uuid").is_none() {
            let choices = vec!["mac".into(), "uuid".into()];
            self.report(node.at, Problem::NoneOf { place: format!("node `{name}`"), choices });
        }
        let hostname = file.hostname.clone().unwrap_or_else(|| name.clone());
        let at = if node.get("hostname").is_some() { node.at_of("hostname") } else { node.at_of("name") };
        self.value(at, &hostname, is_hostname(&hostname).then_some(()), "a host name", "node-1");
        if joins {
            // Two would be one node of the cluster. kubelet takes it in lower case.
            self.once("host name", at, &hostname.to_ascii_lowercase(), &origin);
        }
        let vars = self.vars(node, defaults_at, &defaults.vars, &file.vars);
        let written = CompleteNode { own: node, defaults: defaults_at, file: with_defaults(file, defaults) };
        let (recipe, mode, roots, ibft) = self.boots(&written, &name);
        let (address, gateway, dns) = self.addresses(&written);
        let overlays = self.overlays(written.of("overlay"), written.file.overlay.as_ref());
        Some(Node {
            macs: self.macs(node, written.file.mac.as_ref(), &origin),
            uuid: self.uuid(node, written.file.uuid.as_deref(), &origin),
            cmdline: self.cmdline(&written),
            modes: self.modes(node, defaults_at, &overlays),
            secrets: self.secrets(&written, &roots, &name),
            overlays,
            image: image_name(&recipe, mode),
            vars,
            origin,
            name,
            hostname,
            address,
            gateway,
            dns,
            recipe,
            ibft,
            roots,
        })
    }

    /// Recipe, kind of root, addresses of the root, and whether iPXE hands its connection over.
    fn boots(&mut self, written: &CompleteNode<'_>, name: &str) -> (String, RootMode, Vec<String>, bool) {
        let (node, file) = (written.own, &written.file);
        if file.recipe.is_none() && !node.has_flaw(&self.flawed) {
            self.report(node.at, Problem::MissingKey { key: "recipe".into(), place: format!("node `{name}`") });
        }
        let recipe = file.recipe.clone().unwrap_or_default();
        if node.get("recipe").is_some() {
            self.recipe(node.at_of("recipe"), &recipe);
        }
        let (mode, roots) = self.root(written.of("root"), file.root.as_ref());
        let ibft = file.ibft.unwrap_or_default();
        let possible = mode == RootMode::Iscsi && roots.len() == 1;
        if ibft && !possible && node.get("ibft").is_some() {
            let reason = "`root` is no single `iscsi://` address";
            self.report(node.at_of("ibft"), Problem::NotUsed { key: "ibft", reason });
        }
        (recipe, mode, roots, ibft && possible)
    }

    /// The static network.
    fn addresses(&mut self, written: &CompleteNode<'_>) -> (Option<Address>, Option<IpAddr>, Vec<IpAddr>) {
        let (node, file) = (written.own, &written.file);
        let address = file.address.as_deref().and_then(|text| {
            self.value(node.at_of("address"), text, parse_address(text), "an address with its prefix", "192.0.2.7/24")
        });
        if node.get("address").is_none() {
            for key in ["gateway", "dns"].into_iter().filter(|key| node.get(key).is_some()) {
                let reason = "the node has no `address`: DHCP tells it";
                self.report(node.at_of(key), Problem::NotUsed { key, reason });
            }
        }
        let at = written.of("gateway").at_of("gateway");
        let gateway = file.gateway.as_ref().and_then(|text| self.ip(at, text));
        if let (Some(address), Some(gateway)) = (&address, gateway) {
            let same = gateway.is_ipv4() == address.ip.is_ipv4();
            let (expected, example) = match address.ip {
                IpAddr::V4(_) => ("an IPv4 address, as `address` is", "192.0.2.1"),
                IpAddr::V6(_) => ("an IPv6 address, as `address` is", "2001:db8::1"),
            };
            self.value(at, &gateway.to_string(), same.then_some(()), expected, example);
        }
        let dns = file.dns.iter().flatten().enumerate();
        let dns = dns.filter_map(|(i, text)| self.ip(written.of("dns").at_item("dns", i), text)).collect();
        (address, gateway, dns)
    }

    fn cmdline(&mut self, written: &CompleteNode<'_>) -> Vec<String> {
        let words = written.file.cmdline.clone().unwrap_or_default();
        for (i, word) in words.iter().enumerate() {
            let at = written.of("cmdline").at_item("cmdline", i);
            let expected = "a word of printable ASCII that every boot loader passes on";
            self.value(at, word, is_kernel_word(word).then_some(()), expected, "panic=30");
        }
        words
    }

    fn name(&mut self, node: &TomlNode, name: Option<String>) -> Option<String> {
        let Some(name) = name else {
            if !node.has_flaw(&self.flawed) {
                self.report(node.at, Problem::MissingKey { key: "name".into(), place: "the node".into() });
            }
            return None;
        };
        let good = name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        let expected = "a name: letters, digits, `.`, `_` and `-`, a letter or digit first";
        self.value(node.at_of("name"), &name, good.then_some(()), expected, "rack1-n1");
        let origin = self.sources.origin(node.at_of("name"));
        self.once("node", node.at_of("name"), &name, &origin);
        Some(name)
    }

    /// Names a folder below `out/`.
    fn recipe(&mut self, at: At, recipe: &str) {
        let good = recipe.starts_with(|c: char| c.is_ascii_alphanumeric())
            && recipe.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b));
        self.value(at, recipe, good.then_some(()), "the name of a recipe", "worker");
    }

    /// The kind of root, and its addresses if there are any.
    fn root(&mut self, node: &TomlNode, root: Option<&OneOrMany>) -> (RootMode, Vec<String>) {
        static EXPECTED: LazyLock<String> = LazyLock::new(|| {
            let words = RootMode::all().iter().map(|mode| format!("`{mode}`")).collect::<Vec<_>>().join(", ");
            format!("{words}, or the address of a root on a server")
        });
        let expected: &'static str = &EXPECTED;
        match root {
            None => (RootMode::Ram, Vec::new()),
            Some(OneOrMany::One(text)) => {
                if let Some(mode) = RootMode::all().iter().find(|mode| mode.as_str() == text) {
                    return (*mode, Vec::new());
                }
                let mode = self.value(node.at_of("root"), text, root_mode(text), expected, "nbd://192.0.2.1/worker");
                (mode.unwrap_or(RootMode::Ram), vec![text.clone()])
            }
            Some(OneOrMany::Many(list)) => {
                let mut modes = Vec::new();
                for (i, text) in list.iter().enumerate() {
                    let at = node.at_item("root", i);
                    modes.extend(self.value(at, text, root_mode(text), expected, "nbd://192.0.2.1/worker"));
                }
                (modes.first().copied().unwrap_or(RootMode::Ram), list.clone())
            }
        }
    }

    fn macs(&mut self, node: &TomlNode, macs: Option<&OneOrMany>, origin: &Origin) -> Vec<Mac> {
        let mut found = Vec::new();
        for (at, text) in each(node, "mac", macs) {
            let expected = "the MAC address of a network card";
            if let Some(mac) = self.value(at, &text, parse_mac(&text), expected, "52:54:00:12:34:56") {
                self.once("MAC address", at, &mac.to_string(), origin);
                found.push(mac);
            }
        }
        found
    }

    fn uuid(&mut self, node: &TomlNode, uuid: Option<&str>, origin: &Origin) -> Option<String> {
        let (at, example) = (node.at_of("uuid"), "0e3c1a5b-0000-4000-8000-0123456789ab");
        let uuid =
            uuid.and_then(|text| self.value(at, text, parse_uuid(text), "a UUID that tells a machine", example))?;
        self.once("UUID", at, &uuid, origin);
        Some(uuid)
    }

    fn ip(&mut self, at: At, text: &str) -> Option<IpAddr> {
        self.value(at, text, text.parse().ok(), "an address", "192.0.2.1")
    }

    fn overlays(&mut self, node: &TomlNode, overlays: Option<&OneOrMany>) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for (at, text) in each(node, "overlay", overlays) {
            let dir = self.sources.dir(at).join(&text);
            if self.on_disk && !dir.is_dir() {
                self.report(at, Problem::MissingPath { what: "folder", path: dir.clone() });
            }
            found.push(dir);
        }
        found
    }

    /// Why secrets are allowed; without it, those in the node's roots and words are problems.
    fn secrets(&mut self, written: &CompleteNode<'_>, roots: &[String], name: &str) -> Option<String> {
        let at = written.of("secrets");
        match (written.file.secrets, &written.file.secrets_reason) {
            (Some(_), Some(reason)) if !reason.trim().is_empty() => return Some(reason.trim().into()),
            (Some(_), _) => {
                let place = format!("node `{name}`");
                self.report(at.at_of("secrets"), Problem::MissingKey { key: "secrets_reason".into(), place });
            }
            (None, _) => {}
        }
        let place = || format!("node `{name}`");
        for (i, what) in roots.iter().enumerate().filter_map(|(i, root)| Some((i, in_value(root)?))) {
            self.report(written.of("root").at_item("root", i), Problem::Secret { what, place: place() });
        }
        let words = written.file.cmdline.iter().flatten().map(String::as_str);
        for SecretWord { at, what } in secret_words(words) {
            self.report(written.of("cmdline").at_item("cmdline", at), Problem::Secret { what, place: place() });
        }
        None
    }

    /// Those of the defaults, and over them the node's own; each of these must be in one of its overlays.
    fn modes(&mut self, node: &TomlNode, defaults_at: &TomlNode, overlays: &[PathBuf]) -> Modes {
        let mut modes = Modes::new();
        for table in [defaults_at, node] {
            for entry in table.get("modes").map_or(&[][..], TomlNode::entries) {
                let (text, inner) = (entry.node.text().unwrap_or_default(), entry.key.trim_start_matches('/'));
                let expected = "octal permissions, perhaps with an owner";
                let stated = self.value(entry.node.at, text, parse_stated(text), expected, "0640 0:42");
                modes.extend(stated.map(|stated| (inner.to_string(), stated)));
                let there = overlays.iter().any(|dir| is_in_overlay(dir, inner));
                if self.on_disk && table.at == node.at && !there {
                    self.report(entry.key_at, Problem::MissingPath { what: "file of an overlay", path: inner.into() });
                }
            }
        }
        modes
    }

    fn vars(
        &mut self,
        node: &TomlNode,
        defaults_at: &TomlNode,
        defaults: &BTreeMap<String, Scalar>,
        own: &BTreeMap<String, Scalar>,
    ) -> BTreeMap<String, VarValue> {
        for table in [defaults_at.get("vars"), node.get("vars")].into_iter().flatten() {
            for entry in table.entries() {
                let name = &entry.key;
                let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                    && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                let good = plain && !OWN_VARS.contains(&name.as_str());
                let expected = "the name of a variable of yours: a letter, then letters, digits and `_`";
                self.value(entry.key_at, name, good.then_some(()), expected, "zone");
            }
        }
        let all = defaults.iter().chain(own).map(|(name, value)| {
            let value = match value {
                Scalar::Bool(b) => VarValue::Bool(*b),
                Scalar::Int(n) => VarValue::Int(*n),
                Scalar::Text(text) => VarValue::Text(text.clone()),
            };
            (name.clone(), value)
        });
        all.collect()
    }

    /// Reports a value that could not be read.
    fn value<T>(
        &mut self,
        at: At,
        found: &str,
        value: Option<T>,
        expected: &'static str,
        example: &'static str,
    ) -> Option<T> {
        if value.is_none() {
            self.report(at, Problem::BadValue { found: found.into(), expected, example });
        }
        value
    }

    /// Only one node has it.
    fn once(&mut self, what: &'static str, at: At, name: &str, origin: &Origin) {
        match self.taken.get(&(what, name.to_string())) {
            Some(first) => {
                let first = first.clone();
                self.report(at, Problem::Duplicate { what, name: name.into(), first });
            }
            None => drop(self.taken.insert((what, name.into()), origin.clone())),
        }
    }

    fn report(&mut self, at: At, problem: Problem) {
        self.problems.push(FoundProblem { at, problem });
    }

    /// The typed form; `None` when there is none, or its problems are known already.
    fn read<T: DeserializeOwned>(&mut self, node: Option<&TomlNode>) -> Option<T> {
        node?.to_typed(&self.flawed).unwrap_or_else(|found| {
            self.problems.push(found);
            None
        })
    }
}

/// Each text of a key that holds one or many, with its place.
fn each(node: &TomlNode, key: &str, value: Option<&OneOrMany>) -> Vec<(At, String)> {
    match value {
        None => Vec::new(),
        Some(OneOrMany::One(text)) => vec![(node.at_of(key), text.clone())],
        Some(OneOrMany::Many(list)) => {
            list.iter().enumerate().map(|(i, text)| (node.at_item(key, i), text.clone())).collect()
        }
    }
}
