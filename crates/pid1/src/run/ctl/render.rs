//! Formats answers: tables for people, JSON for programs.

use crate::base::network::NetState;
use crate::base::node::Node;
use crate::run::service::{Millis, ServiceStatus};
use bootwright_base::memory::value;
use bootwright_contract::console::TimelineRecord;
use bootwright_netconf::setup::NetworkFacts;
use bootwright_roots::RootStatus;
use serde::Serialize;

/// The document of `status --json`.
#[derive(Debug, Clone, Serialize)]
pub struct NodeStatus {
    /// Layout of this document; 1.
    version: u32,
    recipe: String,
    image_id: String,
    uptime_s: u64,
    /// KiB, as in `/proc/meminfo`.
    memory_total_kib: u64,
    memory_available_kib: u64,
    network_up: bool,
    network: NetworkFacts,
    /// State of network root and volumes.
    roots: Vec<RootStatus>,
    services: Vec<ServiceStatus>,
}

/// Collects the status of the node.
pub fn status(node: &Node, services: Vec<ServiceStatus>, network: &NetState, now: Millis) -> NodeStatus {
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    NodeStatus {
        version: 1,
        recipe: node.config.recipe.clone(),
        image_id: node.config.image_id.clone(),
        uptime_s: now / 1000,
        memory_total_kib: value(&memory, "MemTotal:").unwrap_or(0),
        memory_available_kib: value(&memory, "MemAvailable:").unwrap_or(0),
        network_up: network.up,
        network: network.facts.clone(),
        roots: node.statuses.entries(),
        services,
    }
}

/// The value as one line of JSON.
pub fn json<T: Serialize>(value: &T) -> String {
    // Serialising cannot fail: the values consist of strings and numbers.
    let mut text = serde_json::to_string(value).unwrap_or_default();
    text.push('\n');
    text
}

/// The status as a table.
pub fn status_table(status: &NodeStatus) -> String {
    let network = &status.network;
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text.push_str(&[name, value, "\n"].concat());
    line("image     ", &[&status.recipe, " ", status.image_id.get(..12).unwrap_or(&status.image_id)].concat());
    line("node      ", &[&network.hostname, ", up ", &duration(status.uptime_s)].concat());
    let (available, total) = (status.memory_available_kib / 1024, status.memory_total_kib / 1024);
    line("memory    ", &[&available.to_string(), " of ", &total.to_string(), " MiB available"].concat());
    line("network   ", &network_line(status.network_up, network));
    for root in &status.roots {
        line("root      ", &root_line(root, status.uptime_s));
    }
    text.push('\n');
    let mut rows = vec![["SERVICE", "STATE", "PID", "RESTARTS", "UP", "TASKS", "MEMORY", ""].map(String::from)];
    rows.extend(status.services.iter().map(service_row));
    text.push_str(&table(&rows));
    text
}

fn network_line(up: bool, network: &NetworkFacts) -> String {
    let (Some(interface), Some(ip)) = (&network.interface, network.ip) else { return "down".into() };
    let mut text = [interface, " ", &ip.to_string(), "/", &network.prefix.to_string()].concat();
    if let Some(gateway) = network.gateway {
        text.push_str(&[" via ", &gateway.to_string()].concat());
    }
    if let Some(mac) = &network.mac {
        text.push_str(&[", mac ", mac].concat());
    }
    text.push_str(if up { "" } else { ", down" });
    text
}

#[expect(clippy::cast_possible_truncation, reason = "a float that is too large becomes the largest number")]
fn root_line(root: &RootStatus, uptime_s: u64) -> String {
    let for_s = uptime_s.saturating_sub(root.since_s as u64);
    let mut text = [&root.source[..], " ", root.state.word(), " for ", &duration(for_s)].concat();
    if root.losses > 0 {
        text.push_str(&[", lost so far: ", &root.losses.to_string()].concat());
    }
    if let Some(block) = root.refused_block {
        let (refused, block) = (root.refused.to_string(), block.to_string());
        text.push_str(&[", refused blocks: ", &refused, ", last ", &block].concat());
    }
    text
}

fn service_row(service: &ServiceStatus) -> [String; 8] {
    let usage = &service.usage;
    let mib = |bytes: Option<u64>| bytes.map(|bytes| bytes >> 20);
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    [
        service.name.clone(),
        service.state.into(),
        or_dash(service.pid.map(|pid| pid.to_string())),
        service.restarts.to_string(),
        or_dash(service.uptime_s.map(duration)),
        or_dash(of_most(usage.tasks, usage.tasks_max)),
        or_dash(of_most(mib(usage.memory), mib(usage.memory_max)).map(|text| text + " MiB")),
        service.detail.clone(),
    ]
}

/// `3/64`; `3` without a limit; `None` when nothing is counted.
fn of_most(used: Option<u64>, most: Option<u64>) -> Option<String> {
    let most = most.map_or(String::new(), |most| ["/", &most.to_string()].concat());
    used.map(|used| used.to_string() + &most)
}

/// The timeline as a table: phases and services in the order in which they started.
pub fn timeline_table(timeline: &TimelineRecord) -> String {
    let mut rows = Vec::new();
    for phase in &timeline.phases {
        let outcome = phase.outcome.as_deref().unwrap_or("runs");
        let outcome = match phase.tries {
            0 => outcome.into(),
            tries => ["try ", &tries.to_string(), ": ", outcome].concat(),
        };
        rows.push((phase.start_s, "phase", &phase.name, phase.end_s, outcome));
    }
    for service in &timeline.services {
        let outcome = if service.ready_s.is_some() { "ready" } else { "not ready" };
        let outcome = match service.restarts {
            0 => outcome.into(),
            restarts => [outcome, ", restarts: ", &restarts.to_string()].concat(),
        };
        let row = (service.start_s, "service", &service.name, service.ready_s, outcome);
        rows.insert(rows.partition_point(|row| row.0 <= service.start_s), row);
    }
    let mut table_rows = vec![["START", "TOOK", "", "NAME", "OUTCOME"].map(String::from)];
    table_rows.extend(rows.into_iter().map(|(start, kind, name, end, outcome)| {
        let took = end.map_or("-".into(), |end| seconds(end - start));
        [seconds(start), took, kind.into(), name.clone(), outcome]
    }));
    let mut text = table(&table_rows);
    if !timeline.unserved.is_empty() {
        text.push_str("\nmodaliases that found no module:\n");
        timeline.unserved.iter().for_each(|alias| text.push_str(&["  ", alias, "\n"].concat()));
        if timeline.unserved_more > 0 {
            text.push_str(&["  and ", &timeline.unserved_more.to_string(), " more\n"].concat());
        }
    }
    text
}

#[expect(clippy::cast_possible_truncation, reason = "a float that is too large becomes the largest number")]
fn seconds(value: f64) -> String {
    let millis = (value.max(0.0) * 1000.0) as u64;
    format!("{}.{:03}", millis / 1000, millis % 1000)
}

/// A duration: `45s`, `3m05s`, `2h07m`, `3d04h`.
fn duration(seconds: u64) -> String {
    let two = |left: u64, left_unit: &str, right: u64, right_unit: &str| {
        let zero = if right < 10 { "0" } else { "" };
        [&left.to_string(), left_unit, zero, &right.to_string(), right_unit].concat()
    };
    match seconds {
        0..60 => [&seconds.to_string(), "s"].concat(),
        60..3600 => two(seconds / 60, "m", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "m"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

/// Pads columns to their widest cell, with two blanks between them and none at the end of a line.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::service::CgroupUsage;
    use bootwright_contract::console::{PhaseRecord, ServiceRecord};
    use bootwright_roots::ConnectionState;

    #[test]
    fn status_for_people_and_programs() {
        let service = |name: &str, state, pid, detail: &str| ServiceStatus {
            name: name.into(),
            state,
            pid,
            restarts: 2,
            uptime_s: pid.map(|_| 185),
            usage: CgroupUsage {
                memory: pid.map(|_| 45 << 20),
                memory_max: pid.map(|_| 64 << 20),
                tasks: pid.map(|_| 12),
                tasks_max: None,
                ..CgroupUsage::default()
            },
            detail: detail.into(),
        };
        let network = NetworkFacts {
            interface: Some("eth0".into()),
            ip: Some([10, 0, 2, 15].into()),
            prefix: 24,
            gateway: Some([10, 0, 2, 2].into()),
            mac: Some("52:54:00:12:34:56".into()),
            hostname: "node-123456".into(),
            ..NetworkFacts::default()
        };
        let status = NodeStatus {
            version: 1,
            recipe: "worker".into(),
            image_id: "0123456789abcdef".into(),
            uptime_s: 7500,
            memory_total_kib: 484_000,
            memory_available_kib: 350_000,
            network_up: true,
            network,
            roots: vec![RootStatus {
                source: "nbd://10.0.2.2/worker".into(),
                state: ConnectionState::Lost,
                since_s: 7489.5,
                losses: 2,
                refused: 3,
                refused_since_s: Some(7000.0),
                refused_block: Some(1234),
            }],
            services: vec![
                service("containerd", "ready", Some(80), ""),
                service("kubelet", "backoff", None, "exit status 1"),
            ],
        };
        let expected = "\
image     worker 0123456789ab
node      node-123456, up 2h05m
memory    341 of 472 MiB available
network   eth0 10.0.2.15/24 via 10.0.2.2, mac 52:54:00:12:34:56
root      nbd://10.0.2.2/worker lost for 11s, lost so far: 2, refused blocks: 3, last 1234

SERVICE     STATE    PID  RESTARTS  UP     TASKS  MEMORY
containerd  ready    80   2         3m05s  12     45/64 MiB
kubelet     backoff  -    2         -      -      -          exit status 1
";
        assert_eq!(status_table(&status), expected);
        let parsed: serde_json::Value = serde_json::from_str(&json(&status)).expect("JSON");
        assert_eq!(parsed["roots"][0]["state"], "lost");
        assert_eq!(parsed["services"][0]["memory_max"], 64 << 20);
        assert_eq!(parsed["services"][1]["state"], "backoff");
        assert_eq!(parsed["network"]["ip"], "10.0.2.15");
    }

    #[test]
    fn timeline_in_order_of_start() {
        let timeline = TimelineRecord {
            version: 1,
            phases: vec![PhaseRecord {
                name: "network".into(),
                start_s: 2.5,
                tries: 0,
                end_s: None,
                waited_s: 0.0,
                outcome: None,
            }],
            services: vec![ServiceRecord {
                name: "sshd".into(),
                start_s: 1.25,
                ready_s: Some(1.5),
                restarts: 1,
                note: None,
            }],
            ..TimelineRecord::default()
        };
        let expected = "\
START  TOOK            NAME     OUTCOME
1.250  0.250  service  sshd     ready, restarts: 1
2.500  -      phase    network  runs
";
        assert_eq!(timeline_table(&timeline), expected);
        let record =
            |tries, start_s| PhaseRecord { start_s, tries, outcome: Some("no".into()), ..timeline.phases[0].clone() };
        let phases = vec![record(0, 1.0), record(12, 40.0)];
        let tried =
            TimelineRecord { phases, unserved: vec!["pci:x".into()], unserved_more: 3, ..TimelineRecord::default() };
        let expected = "\
START   TOOK         NAME     OUTCOME
1.000   -     phase  network  no
40.000  -     phase  network  try 12: no

modaliases that found no module:
  pci:x
  and 3 more
";
        assert_eq!(timeline_table(&tried), expected);
    }

    #[test]
    fn durations() {
        for (seconds, text) in
            [(0, "0s"), (59, "59s"), (60, "1m00s"), (3599, "59m59s"), (7500, "2h05m"), (273_600, "3d04h")]
        {
            assert_eq!(duration(seconds), text);
        }
    }
}
