//! Which nodes were seen, and how far each is: from what they fetch, and from what they report.

use super::http::Fetch;
use crate::chain::{FOLDER, Index, IndexNode};
use bootwright_contract::console::Timeline;
use bootwright_contract::report::{REPORT_VERSION, Report};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// PID1 reports at least every 30 s.
const SILENT_AFTER: Duration = Duration::from_secs(90);
/// Strangers that are remembered: a scanner must not fill the memory.
const MOST_STRANGERS: usize = 1000;

/// All nodes, by name; strangers by their address or MAC.
#[derive(Debug, Default)]
pub struct State {
    known: Vec<IndexNode>,
    seen: BTreeMap<String, Seen>,
}

/// What is known of a node that was seen.
#[derive(Debug, Clone)]
struct Seen {
    at: Instant,
    ip: Option<IpAddr>,
    /// Last file of the boot chain or of an image that it fetched.
    fetched: Option<String>,
    report: Option<Report>,
}

/// How far a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Nothing was heard of it.
    Unseen,
    /// Its loader fetches.
    Loading,
    /// PID1 goes through its phases.
    Booting,
    /// A phase failed.
    Failed,
    /// All phases are over, some service is not ready.
    Starting,
    Up,
    /// It has not reported for a while.
    Silent,
}

/// A node as the page shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeView {
    pub name: String,
    /// nodes.toml has it.
    pub known: bool,
    pub stage: Stage,
    /// The stage in words.
    pub detail: String,
    pub hostname: Option<String>,
    pub ip: Option<String>,
    pub mac: Option<String>,
    pub image: Option<String>,
    /// Seconds since it was last heard of.
    pub seen_s: Option<u64>,
    pub phases: Vec<PhaseView>,
    pub services: Vec<ServiceView>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PhaseView {
    pub name: String,
    /// Absent while it runs.
    pub outcome: Option<String>,
    pub took_s: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServiceView {
    pub name: String,
    pub ready: bool,
    pub restarts: u32,
}

/// Why a report is not taken.
#[derive(Debug, thiserror::Error)]
pub enum BadReport {
    #[error("not a report: {0}")]
    Json(#[from] serde_json::Error),
    #[error("version {found}, this server reads {REPORT_VERSION}")]
    Version { found: u32 },
}

impl State {
    pub fn new(index: &Index) -> Self {
        Self { known: index.nodes.clone(), seen: BTreeMap::new() }
    }

    /// Notes a fetch. Only what a booting machine fetches counts.
    pub fn fetched(&mut self, fetch: &Fetch, now: Instant) {
        let path = fetch.path.trim_start_matches('/');
        let by_loader = path.starts_with(&format!("{FOLDER}/"))
            || ["vmlinuz", "initrd.img", "root.img", "boot.ipxe"].contains(&path.rsplit('/').next().unwrap_or(path));
        if !by_loader || fetch.status >= 400 {
            return;
        }
        let own = path.strip_prefix("boot/nodes/").and_then(|file| file.strip_suffix(".ipxe"));
        let name = own.filter(|name| self.known.iter().any(|node| node.name == **name));
        let at_address =
            || self.seen.iter().find(|(_, seen)| seen.ip == Some(fetch.client)).map(|(name, _)| name.clone());
        let name = match name {
            Some(name) => {
                // Until it told who it is, it was a stranger.
                self.seen.remove(&fetch.client.to_string());
                name.to_string()
            }
            None => at_address().unwrap_or_else(|| fetch.client.to_string()),
        };
        if let Some(seen) = self.entry(name, now) {
            (seen.ip, seen.fetched, seen.report) = (Some(fetch.client), Some(path.to_string()), None);
        }
    }

    /// Takes a report.
    ///
    /// # Errors
    /// What is no report of this version.
    pub fn reported(&mut self, body: &[u8], from: IpAddr, now: Instant) -> Result<(), BadReport> {
        let report: Report = serde_json::from_slice(body)?;
        if report.version != REPORT_VERSION {
            return Err(BadReport::Version { found: report.version });
        }
        let network = report.network.clone().unwrap_or_default();
        let fits = |node: &&IndexNode| {
            network.mac.as_ref().is_some_and(|mac| node.macs.contains(mac))
                || (report.uuid.is_some() && node.uuid == report.uuid)
        };
        let known = self.known.iter().find(fits).map(|node| node.name.clone());
        let name = known.or(network.mac).unwrap_or_else(|| from.to_string());
        // What it fetched before it told who it is.
        self.seen.retain(|other, seen| *other == name || seen.ip != Some(from) || seen.report.is_some());
        if let Some(seen) = self.entry(name, now) {
            (seen.ip, seen.report) = (Some(from), Some(report));
        }
        Ok(())
    }

    fn entry(&mut self, name: String, now: Instant) -> Option<&mut Seen> {
        if self.seen.len() >= MOST_STRANGERS && !self.seen.contains_key(&name) {
            return None;
        }
        let seen = self.seen.entry(name).or_insert(Seen { at: now, ip: None, fetched: None, report: None });
        seen.at = now;
        Some(seen)
    }

    /// All nodes of nodes.toml in its order, then strangers.
    pub fn views(&self, now: Instant) -> Vec<NodeView> {
        let known = self.known.iter().map(|node| (node.name.as_str(), Some(node)));
        let strange = self.seen.keys().filter(|name| !self.known.iter().any(|node| node.name == **name));
        known
            .chain(strange.map(|name| (name.as_str(), None)))
            .map(|(name, node)| view(name, node, self.seen.get(name), now))
            .collect()
    }
}

fn view(name: &str, node: Option<&IndexNode>, seen: Option<&Seen>, now: Instant) -> NodeView {
    let report = seen.and_then(|seen| seen.report.as_ref());
    let network = report.and_then(|report| report.network.as_ref());
    let (stage, detail) = match seen {
        None => (Stage::Unseen, "not seen yet".into()),
        Some(seen) => stage(seen, now),
    };
    let timeline = report.map(|report| report.timeline.clone()).unwrap_or_default();
    NodeView {
        name: name.into(),
        known: node.is_some(),
        stage,
        detail,
        hostname: network.map(|n| n.hostname.clone()).or_else(|| node.map(|n| n.hostname.clone())),
        ip: seen.and_then(|seen| seen.ip).map(|ip| ip.to_string()),
        mac: network.and_then(|n| n.mac.clone()).or_else(|| node.and_then(|n| n.macs.first().cloned())),
        image: report.map(|r| r.timeline.recipe.clone()).or_else(|| node.map(|n| n.image.clone())),
        seen_s: seen.map(|seen| now.saturating_duration_since(seen.at).as_secs()),
        phases: phases(&timeline),
        services: timeline
            .services
            .iter()
            .map(|s| ServiceView { name: s.name.clone(), ready: s.ready_s.is_some(), restarts: s.restarts })
            .collect(),
    }
}

/// The last record of each phase: one that was tried again has several.
fn phases(timeline: &Timeline) -> Vec<PhaseView> {
    let mut views: Vec<PhaseView> = Vec::new();
    for record in &timeline.phases {
        let took_s = record.end_s.map(|end| ((end - record.start_s) * 1000.0).round() / 1000.0);
        let view = PhaseView { name: record.name.clone(), outcome: record.outcome.clone(), took_s };
        match views.iter_mut().find(|known| known.name == record.name) {
            Some(known) => *known = view,
            None => views.push(view),
        }
    }
    views
}

fn stage(seen: &Seen, now: Instant) -> (Stage, String) {
    let silence = now.saturating_duration_since(seen.at);
    let Some(report) = &seen.report else {
        return (Stage::Loading, format!("loading {}", seen.fetched.as_deref().unwrap_or("its boot files")));
    };
    if silence > SILENT_AFTER {
        return (Stage::Silent, format!("no report for {} s", silence.as_secs()));
    }
    let phases = phases(&report.timeline);
    if let Some(failed) = phases.iter().find(|p| p.outcome.as_deref().is_some_and(|outcome| outcome != "ok")) {
        return (
            Stage::Failed,
            format!("phase {} failed: {}", failed.name, failed.outcome.as_deref().unwrap_or_default()),
        );
    }
    // Supervision of the services is a phase that never ends; the network may still be awaited then.
    let running: Vec<&str> =
        phases.iter().filter(|p| p.outcome.is_none() && p.name != "services").map(|p| p.name.as_str()).collect();
    if !running.is_empty() || !phases.iter().any(|p| p.name == "services") {
        let phase = running.first().copied().or(phases.last().map(|p| p.name.as_str())).unwrap_or("start");
        return (Stage::Booting, format!("phase {phase}"));
    }
    let services = &report.timeline.services;
    let ready = services.iter().filter(|s| s.ready_s.is_some()).count();
    match ready == services.len() {
        true => (Stage::Up, format!("{ready} services ready")),
        false => (Stage::Starting, format!("{ready} of {} services ready", services.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::SCHEMA;
    use serde_json::json;

    const IP: &str = "192.0.2.11";

    fn state() -> State {
        let node = IndexNode {
            name: "n1".into(),
            hostname: "n1.lab".into(),
            macs: vec!["52:54:00:00:00:01".into()],
            uuid: Some("0e3c1a5b-0000-4000-8000-0123456789ab".into()),
            image: "worker".into(),
        };
        State::new(&Index { schema: SCHEMA, nodes: vec![node], report: None })
    }

    fn fetch(path: &str) -> Fetch {
        Fetch {
            client: IP.parse().unwrap(),
            method: "GET".into(),
            path: path.into(),
            range: None,
            status: 200,
            bytes: None,
        }
    }

    fn report(mac: &str, phases: serde_json::Value, services: serde_json::Value) -> Vec<u8> {
        json!({
            "version": 1, "uuid": null,
            "network": { "hostname": "h", "mac": mac, "ip": IP, "more": 1 },
            "timeline": { "version": 1, "recipe": "worker", "image_id": "x", "phases": phases, "services": services },
        })
        .to_string()
        .into_bytes()
    }

    fn phase(name: &str, outcome: Option<&str>) -> serde_json::Value {
        json!({ "name": name, "start_s": 1.0, "end_s": outcome.map(|_| 1.5), "outcome": outcome })
    }

    #[test]
    fn a_node_from_its_loader_to_its_services() {
        let (mut state, begin) = (state(), Instant::now());
        let told = |state: &State, after_s| {
            let views = state.views(begin + Duration::from_secs(after_s));
            assert_eq!(views.len(), 1, "{views:?}");
            (views[0].name.clone(), views[0].stage, views[0].detail.clone())
        };
        assert_eq!(told(&state, 0), ("n1".into(), Stage::Unseen, "not seen yet".into()));
        for path in ["/boot/boot.ipxe", "/boot/nodes/n1.ipxe", "/worker/vmlinuz"] {
            state.fetched(&fetch(path), begin);
        }
        assert_eq!(told(&state, 1), ("n1".into(), Stage::Loading, "loading worker/vmlinuz".into()));
        let mac = "52:54:00:00:00:01";
        let mut take = |phases: serde_json::Value, services| {
            state.reported(&report(mac, phases, services), IP.parse().unwrap(), begin).unwrap();
            told(&state, 1).1
        };
        assert_eq!(take(json!([phase("mounts", Some("ok")), phase("root", None)]), json!([])), Stage::Booting);
        assert_eq!(take(json!([phase("root", Some("no luck"))]), json!([])), Stage::Failed);
        let retried = json!([phase("root", Some("no luck")), phase("root", Some("ok")), phase("services", None)]);
        let service =
            |ready: Option<f64>| json!([{ "name": "kubelet", "start_s": 2.0, "ready_s": ready, "restarts": 0 }]);
        assert_eq!(take(retried.clone(), service(None)), Stage::Starting);
        assert_eq!(take(retried, service(Some(3.0))), Stage::Up);
        assert_eq!(told(&state, 91).1, Stage::Silent);
        state.fetched(&fetch("/worker/boot.ipxe"), begin);
        assert_eq!(told(&state, 0).1, Stage::Loading, "it boots again");
    }

    #[test]
    fn strangers_and_noise() {
        let (mut state, now) = (state(), Instant::now());
        for path in ["/", "/status.json", "/favicon.ico"] {
            state.fetched(&fetch(path), now);
        }
        assert_eq!(state.views(now).len(), 1, "a browser is no node");
        state.fetched(&fetch("/boot/boot.ipxe"), now);
        let views = state.views(now);
        assert_eq!((views.len(), views[1].name.as_str(), views[1].known), (2, IP, false));
        state.reported(&report("52:54:00:00:00:99", json!([]), json!([])), IP.parse().unwrap(), now).unwrap();
        let views = state.views(now);
        assert_eq!((views.len(), views[1].name.as_str()), (2, "52:54:00:00:00:99"));
        for bad in [&b"{"[..], b"[]", b"{\"version\":2,\"uuid\":null,\"network\":null,\"timeline\":{\"version\":1,\"recipe\":\"\",\"image_id\":\"\",\"phases\":[],\"services\":[]}}"] {
            assert!(state.reported(bad, IP.parse().unwrap(), now).is_err());
        }
        for i in 0..2000u32 {
            let client = std::net::Ipv4Addr::from(i).into();
            state.fetched(&Fetch { client, ..fetch("/boot/boot.ipxe") }, now);
        }
        assert!(state.views(now).len() <= MOST_STRANGERS + 1);
    }

    proptest::proptest! {
        /// Whatever is posted, the page can be shown.
        #[test]
        fn any_report_is_taken_or_refused(body in "\\PC{0,80}", start in -1e308f64..1e308, name in "\\PC{0,8}") {
            let (mut state, now) = (state(), Instant::now());
            let from = IP.parse().unwrap();
            let _ = state.reported(body.as_bytes(), from, now);
            let phases = json!([{ "name": name, "start_s": start, "end_s": -start, "outcome": body }]);
            state.reported(&report(&body, phases, json!([])), from, now).unwrap();
            serde_json::to_string(&state.views(now)).unwrap();
        }
    }
}
