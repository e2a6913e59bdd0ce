//! A node as the page shows it.

use super::{ReadReport, SeenNode};
use crate::chain::IndexNode;
use serde::Serialize;
use std::time::{Duration, Instant};

/// PID1 reports at least every 30 s.
pub(super) const SILENT_AFTER: Duration = Duration::from_secs(90);

/// How far a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeStage {
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
    pub stage: NodeStage,
    /// The stage in words.
    pub detail: String,
    pub hostname: Option<String>,
    pub ip: Option<String>,
    /// Another address that claims to be this node, and is not believed.
    pub rival: Option<String>,
    pub mac: Option<String>,
    pub image: Option<String>,
    /// Seconds since it was last heard of.
    pub seen_s: Option<u64>,
    pub phases: Vec<PhaseView>,
    pub services: Vec<ServiceView>,
    /// Services that are not in that list: it is cut.
    pub more_services: usize,
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
    /// The line that the service left for people, such as the fingerprint of sshd's host key.
    pub note: Option<String>,
}

impl NodeView {
    pub(super) fn new(name: &str, node: Option<&IndexNode>, seen: Option<&SeenNode>, now: Instant) -> Self {
        let told = seen.and_then(|seen| seen.told.as_ref());
        let (stage, detail) = match seen {
            None => (NodeStage::Unseen, "not seen yet".into()),
            Some(seen) => stage(seen, now),
        };
        let mac = told.and_then(|told| told.mac).map(|mac| mac.to_string());
        Self {
            name: name.into(),
            known: node.is_some(),
            stage,
            detail,
            hostname: told.and_then(|told| told.hostname.clone()).or_else(|| node.map(|n| n.hostname.clone())),
            ip: seen.map(|seen| seen.ip.to_string()),
            rival: seen.and_then(|seen| seen.rival).map(|ip| ip.to_string()),
            mac: mac.or_else(|| node.and_then(|n| n.macs.first().cloned())),
            image: told.map(|told| told.recipe.clone()).or_else(|| node.map(|n| n.image.clone())),
            seen_s: seen.map(|seen| now.saturating_duration_since(seen.at).as_secs()),
            phases: told.map(|told| told.phases.clone()).unwrap_or_default(),
            services: told.map(|told| told.services.clone()).unwrap_or_default(),
            more_services: told.map_or(0, |told| told.services_all - told.services.len()),
        }
    }
}

fn stage(seen: &SeenNode, now: Instant) -> (NodeStage, String) {
    let Some(told) = &seen.told else {
        return (NodeStage::Loading, format!("loading {}", seen.fetched.as_deref().unwrap_or("its boot files")));
    };
    let silence = now.saturating_duration_since(seen.at);
    if silence > SILENT_AFTER {
        return (NodeStage::Silent, format!("no report for {} s", silence.as_secs()));
    }
    stage_of(told)
}

fn stage_of(told: &ReadReport) -> (NodeStage, String) {
    let phases = &told.phases;
    if let Some(failed) = phases.iter().find(|p| p.outcome.as_deref().is_some_and(|outcome| outcome != "ok")) {
        let reason = failed.outcome.as_deref().unwrap_or_default();
        return (NodeStage::Failed, format!("phase {} failed: {reason}", failed.name));
    }
    // Supervision of the services is a phase that never ends; the network may still be awaited then.
    let running: Vec<&str> =
        phases.iter().filter(|p| p.outcome.is_none() && p.name != "services").map(|p| p.name.as_str()).collect();
    if !running.is_empty() || !phases.iter().any(|p| p.name == "services") {
        let phase = running.first().copied().or(phases.last().map(|p| p.name.as_str())).unwrap_or("start");
        return (NodeStage::Booting, format!("phase {phase}"));
    }
    let (ready, all) = (told.services_ready, told.services_all);
    match ready == all {
        true => (NodeStage::Up, format!("{ready} services ready")),
        false => (NodeStage::Starting, format!("{ready} of {all} services ready")),
    }
}
