//! `[[service]]`.

use super::Check;
use crate::recipe::file::{ReadyFile, ReadyProbe, ServiceFile, SimpleReady};
use crate::recipe::node::TomlNode;
use crate::recipe::problem::Problem;
use bootwright_contract::{Limits, Ready, Service};

/// What services may wait for beside other services.
const TARGETS: [&str; 2] = ["network", "time"];
/// signal(7), those that end or notify a program.
const SIGNALS: [&str; 9] = ["TERM", "INT", "QUIT", "HUP", "KILL", "USR1", "USR2", "PWR", "WINCH"];

/// A guarded service is ended after what takes more memory, but before a program that takes half of it all: whoever logs in by a
/// guarded sshd starts programs that have the same value.
const GUARDED_OOM_SCORE_ADJ: i32 = -500;
/// Enough for sshd with its libraries. Only what is in use is kept.
const GUARDED_MEMORY_MIB: u32 = 16;

impl Check<'_> {
    /// Services that are switched on. What they wait for and is switched off needs no waiting.
    pub(super) fn services(&mut self, tree: &TomlNode) -> Vec<Service> {
        let items = tree.get("service").map_or(&[][..], TomlNode::items);
        let mut known: Vec<String> = TARGETS.map(String::from).to_vec();
        known.extend(items.iter().filter_map(|n| n.text_of("name")).map(String::from));
        let mut services = Vec::new();
        for node in items {
            let enabled = self.condition(node);
            if let Some(service) = self.service(node, &known) {
                services.push((service, node, enabled));
            }
        }
        self.check_order(&services);
        let off: Vec<String> = services.iter().filter(|(.., on)| !on).map(|(s, ..)| s.name.clone()).collect();
        let mut services: Vec<Service> = services.into_iter().filter(|(.., on)| *on).map(|(s, ..)| s).collect();
        for service in &mut services {
            service.after.retain(|name| !off.contains(name));
        }
        services
    }

    fn service(&mut self, node: &TomlNode, known: &[String]) -> Option<Service> {
        for after in node.get("after").map_or(&[][..], TomlNode::items) {
            let Some(name) = after.text() else { continue };
            if !known.iter().any(|k| k == name) {
                let problem = Problem::Unknown { what: "service", name: name.into(), known: known.to_vec() };
                self.report(after.at, problem);
            }
        }
        let file: ServiceFile = self.read(Some(node))?;
        let place = format!("service `{}`", file.name);
        self.check_name(node.at_of("name"), &file.name);
        if TARGETS.contains(&file.name.as_str()) {
            let expected = "free as a service's name";
            let problem = Problem::BadValue { found: file.name.clone(), expected, example: "my-network" };
            self.report(node.at_of("name"), problem);
        }
        match file.exec.first() {
            Some(program) => self.check_program(node.at_item("exec", 0), program),
            None => drop(self.need(None::<()>, "exec", node, &place)),
        }
        if !SIGNALS.contains(&file.stop_signal.as_str()) {
            let choices = SIGNALS.map(String::from).to_vec();
            let problem = Problem::NotAChoice { found: file.stop_signal.clone(), choices };
            self.report(node.at_of("stop_signal"), problem);
        }
        for (i, cgroup) in file.stop_cgroups.iter().enumerate() {
            self.image_file(node.at_item("stop_cgroups", i), cgroup);
        }
        let ready = self.ready(node, file.ready, &place)?;
        Some(Service {
            name: file.name,
            exec: file.exec,
            env: file.env.into(),
            after: file.after,
            ready,
            ready_timeout_s: file.ready_timeout_s,
            restart: file.restart,
            backoff_ms: file.backoff_ms,
            stop_signal: file.stop_signal,
            stop_timeout_s: file.stop_timeout_s,
            stop_cgroups: file.stop_cgroups,
            log_kib: file.log_kib,
            console: file.console,
            oom_score_adj: file.oom_score_adj.unwrap_or(if file.guarded { GUARDED_OOM_SCORE_ADJ } else { 0 }),
            limits: Limits {
                memory_min_mib: if file.guarded { GUARDED_MEMORY_MIB } else { 0 },
                memory_max_mib: file.memory_max_mib,
                tasks_max: file.tasks_max,
                cpu_weight: file.cpu_weight,
            },
        })
    }

    fn check_program(&mut self, at: crate::recipe::place::At, program: &str) {
        if !program.starts_with('/') {
            let expected = "an absolute path";
            self.report(at, Problem::BadValue { found: program.into(), expected, example: "/usr/bin/program" });
        }
    }

    fn ready(&mut self, node: &TomlNode, file: Option<ReadyFile>, place: &str) -> Option<Ready> {
        let probe = match file {
            None | Some(ReadyFile::Simple(SimpleReady::Started)) => return Some(Ready::Started),
            Some(ReadyFile::Simple(SimpleReady::Exited)) => return Some(Ready::Exited),
            Some(ReadyFile::Probe(probe)) => probe,
        };
        let table = node.get("ready")?;
        let place = format!("`ready` of {place}");
        self.exactly_one(table, &["unix", "http", "exec", "file"], &place)?;
        match probe {
            ReadyProbe { unix: Some(path), .. } => {
                self.check_program(table.at_of("unix"), &path);
                Some(Ready::Unix { path })
            }
            ReadyProbe { http: Some(url), .. } => {
                if !url.starts_with("http://") {
                    let expected = "an http URL";
                    let example = "http://127.0.0.1:10248/healthz";
                    self.report(table.at_of("http"), Problem::BadValue { found: url.clone(), expected, example });
                }
                Some(Ready::Http { url })
            }
            ReadyProbe { exec: Some(argv), .. } => {
                self.check_program(table.at_item("exec", 0), argv.first().map_or("", String::as_str));
                Some(Ready::Exec { argv })
            }
            ReadyProbe { file: Some(path), .. } => {
                self.check_program(table.at_of("file"), &path);
                Some(Ready::File { path })
            }
            _ => None,
        }
    }

    /// No service may wait for itself, in however many steps.
    fn check_order(&mut self, services: &[(Service, &TomlNode, bool)]) {
        let mut reported: Vec<String> = Vec::new();
        for (service, node, _) in services {
            if reported.contains(&service.name) {
                continue;
            }
            if let Some(chain) = circle(&service.name, services) {
                reported.extend(chain.iter().cloned());
                self.report(node.at_of("after"), Problem::ServiceCycle { chain });
            }
        }
    }
}

/// The way from a service back to itself, over `after`.
fn circle(start: &str, services: &[(Service, &TomlNode, bool)]) -> Option<Vec<String>> {
    let after = |name: &str| services.iter().find(|(s, ..)| s.name == name).map_or(&[][..], |(s, ..)| &s.after);
    let mut seen: Vec<&str> = Vec::new();
    let mut ways: Vec<Vec<&str>> = vec![vec![start]];
    while let Some(way) = ways.pop() {
        for next in after(way[way.len() - 1]) {
            let longer: Vec<&str> = way.iter().copied().chain([next.as_str()]).collect();
            if next == start {
                return Some(longer.into_iter().map(String::from).collect());
            }
            if !seen.contains(&next.as_str()) {
                seen.push(next);
                ways.push(longer);
            }
        }
    }
    None
}
