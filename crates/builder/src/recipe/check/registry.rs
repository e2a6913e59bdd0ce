//! `[registry]`: mirrors, as files that containerd reads (its docs/hosts.md), and the service that fills in what only the node
//! knows.

use super::Check;
use crate::recipe::file::RegistryFile;
use crate::recipe::node::{TomlEntry, TomlNode};
use crate::recipe::place::At;
use crate::recipe::problem::Problem;
use crate::recipe::vars::ON_NODE;
use crate::recipe::{InlineBody, InlineFile, SegmentName};
use bootwright_contract::{Limits, Ready, Restart, Service};

/// For every registry that has no entry of its own.
const DEFAULT: &str = "_default";
/// Where containerd looks, and where that lies which is filled in at boot.
const PLACE: &str = "etc/containerd/certs.d";
const AT_BOOT: &str = "etc/containerd/certs.d.boot";
/// The name of the service that fills it in, and of its program.
const FILLS_IN: &str = "registry-mirrors";
/// It is there once files are filled in with what is known.
const FILLED_IN: &str = "/run/registry-mirrors.ready";
/// Whose clients wait for that.
const RUNTIME: &str = "containerd";

impl Check<'_> {
    /// The files, in the order of the registries.
    pub(super) fn registries(&mut self, tree: &TomlNode) -> Vec<InlineFile> {
        let entries = tree.get("registry").map_or(&[][..], TomlNode::entries);
        entries.iter().filter_map(|entry| self.registry(entry)).collect()
    }

    fn registry(&mut self, entry: &TomlEntry) -> Option<InlineFile> {
        let (host, node) = (&entry.key, &entry.node);
        if host != DEFAULT && !is_host(host) {
            let expected = "the host of a registry, maybe with a port, or `_default`";
            self.report(entry.key_at, Problem::BadValue { found: host.clone(), expected, example: "registry.k8s.io" });
        }
        let file: RegistryFile = self.read(Some(node))?;
        if file.mirrors.is_empty() && file.ca.is_none() {
            self.need(None::<()>, "mirrors", node, &format!("registry `{host}`"))?;
        }
        let ca =
            file.ca.map(|ca| format!("ca = \"/{}\"\n", self.image_file(node.at_of("ca"), &ca))).unwrap_or_default();
        let mut text = format!("# From `[registry]` of the recipe.\n{ca}");
        for (i, mirror) in file.mirrors.iter().enumerate() {
            let url = self.mirror(node.at_item("mirrors", i), mirror)?;
            // With a certificate authority containerd tries TLS, whatever the URL says.
            let ca = if url.starts_with("https:") { &ca } else { "" };
            // containerd would have `/v2` follow such a path too.
            let path = if url.splitn(4, '/').nth(3).is_some_and(|path| path.starts_with("v2/")) {
                "override_path = true\n"
            } else {
                ""
            };
            text.push_str(&format!("\n[host.\"{url}\"]\ncapabilities = [\"pull\", \"resolve\"]\n{path}{ca}"));
        }
        let place = if text.contains("${") { AT_BOOT } else { PLACE };
        Some(InlineFile {
            origin: self.origin(entry.key_at),
            changes: self.earlier_origins(entry.key_at),
            path: format!("{place}/{host}/hosts.toml"),
            body: InlineBody::Text(text),
            mode: 0o644,
            uid: 0,
            gid: 0,
            segment: SegmentName::Config,
        })
    }

    /// The URL of a mirror, with `${boot_server}` for an empty host.
    fn mirror(&mut self, at: At, text: &str) -> Option<String> {
        let url = parse_mirror(text);
        if url.is_none() {
            let expected = "the URL of a registry, without a login";
            self.report(at, Problem::BadValue { found: text.into(), expected, example: "http://:8080" });
        }
        url
    }
}

fn parse_mirror(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://").filter(|(scheme, _)| ["http", "https"].contains(scheme))?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let name = host.rsplit_once(':').filter(|(_, port)| !port.contains(']')).map_or(host, |(name, _)| name);
    let known = ON_NODE.iter().find(|known| name == format!("${{{known}}}"));
    let plain = known.map_or(host.to_string(), |known| host.replacen(&format!("${{{known}}}"), "node", 1));
    let plain_path = path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-~%:".contains(&b));
    let good = plain_path && (name.is_empty() && is_host(&format!("node{host}")) || is_host(&plain));
    let boot_server = if name.is_empty() { "${boot_server}" } else { "" };
    good.then(|| format!("{scheme}://{boot_server}{host}{path}"))
}

/// A name or an address, maybe with a port (RFC 3986 section 3.2.2).
fn is_host(text: &str) -> bool {
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (text, None),
    };
    let ip6 = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let good = match ip6 {
        Some(ip6) => ip6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => super::system::is_hostname(name),
    };
    good && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// Adds the service that fills in the mirrors of the node, and follows what the network says later, if there are such; and has those
/// wait for it that have images pulled.
pub fn add_service(files: &[InlineFile], services: &mut Vec<Service>) {
    let none_at_boot = files.iter().all(|file| !file.path.starts_with(AT_BOOT));
    if none_at_boot || services.iter().any(|service| service.name == FILLS_IN) {
        return;
    }
    for service in services.iter_mut().filter(|service| service.after.iter().any(|name| name == RUNTIME)) {
        service.after.push(FILLS_IN.into());
    }
    let (program, from, to) = (format!("/usr/bin/{FILLS_IN}"), format!("/{AT_BOOT}"), format!("/{PLACE}"));
    let exec = [&program, "/run/bootwright/lease.json", &from, &to, FILLED_IN];
    services.push(Service {
        name: FILLS_IN.into(),
        exec: exec.map(String::from).into(),
        env: Default::default(),
        after: vec!["network".into()],
        ready: Ready::File { path: FILLED_IN.into() },
        ready_timeout_s: 60,
        restart: Restart::Always,
        backoff_ms: 1000,
        stop_signal: "TERM".into(),
        stop_timeout_s: 10,
        stop_cgroups: Vec::new(),
        log_kib: 64,
        // It says which mirrors the node goes without.
        console: true,
        oom_score_adj: 0,
        limits: Limits { memory_min_mib: 0, memory_max_mib: 0, tasks_max: None, cpu_weight: 100 },
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_are_urls_whose_host_may_be_known_on_the_node_alone() {
        for (text, expected) in [
            ("http://:8080", Some("http://${boot_server}:8080")),
            ("http:///mirror", Some("http://${boot_server}/mirror")),
            ("https://", Some("https://${boot_server}")),
            ("http://${gateway}:5000/k8s", Some("http://${gateway}:5000/k8s")),
            ("https://mirror.lab.example", Some("https://mirror.lab.example")),
            ("http://192.0.2.1:80/v2/x", Some("http://192.0.2.1:80/v2/x")),
            ("http://[2001:db8::1]:5000", Some("http://[2001:db8::1]:5000")),
            ("http://[2001:db8::1]", Some("http://[2001:db8::1]")),
            ("mirror.lab.example", None),
            ("ftp://mirror.lab.example", None),
            ("http://user:password@mirror.lab.example", None),
            ("http://mirror.lab.example?x=1", None),
            ("http://mirror lab", None),
            ("http://a\"]\nserver = \"b", None),
            ("http://a/\"", None),
            ("http://a:0", None),
            ("http://a:port", None),
            ("http://:port", None),
            ("http://${gateway", None),
            ("http://x${gateway}", None),
            ("http://[gateway]", None),
        ] {
            assert_eq!(parse_mirror(text).as_deref(), expected, "{text}");
        }
    }
}
