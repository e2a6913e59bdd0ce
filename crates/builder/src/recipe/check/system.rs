//! `[hostname]`, `[sysctls]`, `[zram]`, `[policies]`, `[report]`: settings for PID1.

use super::Check;
use crate::recipe::file::{HostnameFile, PolicyFile, PolicyTable, ReportFile, Scalar, SimplePolicy, ZramFile};
use crate::recipe::node::TomlNode;
use crate::recipe::problem::Problem;
use bootwright_contract::{Hostname, PHASES, PhaseId, Policy, Zram};
use std::collections::BTreeMap;

impl Check<'_> {
    pub(super) fn hostname(&mut self, tree: &TomlNode) -> Option<Hostname> {
        let (node, file) = self.section::<HostnameFile>(tree, "hostname");
        let file = file?;
        if let Some(name) = file.fallback.as_ref().filter(|n| !is_hostname(n)) {
            let expected = "a host name (RFC 1123: letters, digits, `-` and `.`)";
            let problem = Problem::BadValue { found: name.clone(), expected, example: "node-1" };
            self.report(node.at_of("fallback"), problem);
        }
        Some(Hostname { dhcp: file.dhcp, fallback: file.fallback })
    }

    pub(super) fn sysctls(&mut self, tree: &TomlNode) -> BTreeMap<String, String> {
        let (node, file) = self.section::<BTreeMap<String, Scalar>>(tree, "sysctls");
        for entry in node.entries() {
            // Below /proc/sys: no way out of it.
            let good = entry.key.split(['.', '/']).all(|part| !part.is_empty()) && entry.key.contains(['.', '/']);
            if !good || entry.key.contains(char::is_whitespace) {
                let expected = "the dotted name of a kernel parameter, in quotes";
                let problem =
                    Problem::BadValue { found: entry.key.clone(), expected, example: "\"net.ipv4.ip_forward\"" };
                self.report(entry.key_at, problem);
            }
        }
        let text = |value| match value {
            Scalar::Bool(b) => u8::from(b).to_string(),
            Scalar::Int(n) => n.to_string(),
            Scalar::Text(text) => text,
        };
        file.unwrap_or_default().into_iter().map(|(name, value)| (name, text(value))).collect()
    }

    /// PID1 speaks plain HTTP there; an empty host is the boot server.
    pub(super) fn report_url(&mut self, tree: &TomlNode) -> Option<String> {
        let node = tree.get("report")?;
        let file: ReportFile = self.read(Some(node))?;
        let url = self.need(file.url, "url", node, "`[report]`")?;
        let path = url.strip_prefix("http://").and_then(|rest| rest.split_once('/'));
        let good = path.is_some() && url.bytes().all(|b| b.is_ascii_graphic());
        if !good {
            let expected = "the address of an HTTP server that takes reports";
            let problem = Problem::BadValue { found: url.clone(), expected, example: "http://:8080/report" };
            self.report(node.at_of("url"), problem);
        }
        Some(url)
    }

    pub(super) fn zram(&mut self, tree: &TomlNode) -> Option<Zram> {
        let node = tree.get("zram")?;
        let file: ZramFile = self.read(Some(node))?;
        let size_mib = self.need(file.size_mib, "size_mib", node, "`[zram]`")?;
        if size_mib == 0 {
            let problem = Problem::OutOfRange { found: 0, least: 1, most: u32::MAX.into() };
            self.report(node.at_of("size_mib"), problem);
        }
        Some(Zram { size_mib, algorithm: file.algorithm, swappiness: file.swappiness })
    }

    pub(super) fn policies(&mut self, tree: &TomlNode) -> BTreeMap<String, Policy> {
        let mut out = BTreeMap::new();
        for entry in tree.get("policies").map_or(&[][..], TomlNode::entries) {
            if PhaseId::of(&entry.key).is_none() {
                let known = PHASES.map(|phase| phase.name().to_string()).to_vec();
                self.report(entry.key_at, Problem::Unknown { what: "phase", name: entry.key.clone(), known });
            }
            let file: Option<PolicyFile> = self.read(Some(&entry.node));
            if let Some(policy) = file.and_then(|f| self.policy(&entry.node, f)) {
                out.insert(entry.key.clone(), policy);
            }
        }
        out
    }

    fn policy(&mut self, node: &TomlNode, file: PolicyFile) -> Option<Policy> {
        let table = match file {
            PolicyFile::Simple(SimplePolicy::Degrade) => return Some(Policy::Degrade),
            PolicyFile::Simple(SimplePolicy::Shell) => return Some(Policy::Shell),
            PolicyFile::Table(table) => table,
        };
        self.exactly_one(node, &["retry", "reboot_after_s"], "the policy")?;
        match table {
            PolicyTable { retry: Some(times), then, .. } => {
                let then = match (then, node.get("then")) {
                    (Some(file), Some(below)) => self.policy(below, *file)?,
                    _ => Policy::Degrade,
                };
                Some(Policy::Retry { times, then: Box::new(then) })
            }
            PolicyTable { reboot_after_s: Some(after_s), then, .. } => {
                if then.is_some() {
                    let reason = "nothing comes after a reboot";
                    self.report(node.at_of("then"), Problem::NotUsed { key: "then", reason });
                }
                Some(Policy::Reboot { after_s })
            }
            _ => None,
        }
    }
}

/// RFC 1123 section 2.1.
pub(super) fn is_hostname(name: &str) -> bool {
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}
