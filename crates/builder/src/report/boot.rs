//! What the last smoke boot of an image left: PID1's account of phases and services, and the machine's memory at each of them.

use bootwright_contract::console::TimelineRecord;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Memory of the machine when something was reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RamSample {
    /// `phase root`, `service:kubelet`.
    pub event: String,
    /// Of the guest, seconds.
    pub uptime_s: f64,
    /// Memory that the machine has touched up to then, whether it still uses it or not: what of it the host holds.
    pub touched_bytes: u64,
}

/// Name of the samples' file in the folder of a smoke boot.
pub const SAMPLES: &str = "ram.json";

/// What is drawn of a boot.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BootView {
    /// Seconds from the kernel's start.
    pub length_s: f64,
    pub bars: Vec<Bar>,
    pub ram: Vec<RamRow>,
    /// Points of a line for SVG, in a box of 100 by 100.
    pub ram_line: String,
    pub ram_most: String,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Bar {
    pub name: String,
    /// `phase` or `service`.
    pub kind: &'static str,
    pub from_s: String,
    pub took_s: String,
    /// `ok`, `ready`, or what went wrong.
    pub outcome: String,
    /// Percent of the length.
    pub left: f64,
    pub width: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RamRow {
    pub event: String,
    pub uptime_s: String,
    pub touched: String,
}

/// The last boot of that image in the folder `smoke`, if it was one of this image.
pub fn load(smoke: &Path, image_id: &str) -> Option<BootView> {
    let timeline: TimelineRecord = serde_json::from_slice(&std::fs::read(smoke.join("timeline.json")).ok()?).ok()?;
    let samples = std::fs::read(smoke.join(SAMPLES)).ok();
    let samples = samples.and_then(|bytes| serde_json::from_slice::<Vec<RamSample>>(&bytes).ok()).unwrap_or_default();
    (timeline.image_id == image_id).then(|| view(&timeline, &samples))
}

pub fn view(timeline: &TimelineRecord, samples: &[RamSample]) -> BootView {
    let phase_end = |phase: &bootwright_contract::console::PhaseRecord| phase.end_s.unwrap_or(phase.start_s);
    let service_end =
        |service: &bootwright_contract::console::ServiceRecord| service.ready_s.unwrap_or(service.start_s);
    let ends = timeline.phases.iter().map(phase_end).chain(timeline.services.iter().map(service_end));
    let ends = ends.chain(samples.iter().map(|sample| sample.uptime_s));
    let length_s = ends.fold(0.001, f64::max);
    let percent = |seconds: f64| (seconds / length_s * 100_000.0).round() / 1000.0;
    let bar = |name: &str, kind, start_s: f64, end_s: f64, outcome: String| Bar {
        name: name.into(),
        kind,
        from_s: format!("{start_s:.2}"),
        took_s: format!("{:.2}", end_s - start_s),
        outcome,
        left: percent(start_s),
        width: percent(end_s - start_s).max(0.2),
    };
    let phases = timeline.phases.iter().map(|phase| {
        let outcome = phase.outcome.clone().unwrap_or_else(|| "running".into());
        bar(&phase.name, "phase", phase.start_s, phase_end(phase), outcome)
    });
    let services = timeline.services.iter().map(|service| {
        let outcome = if service.ready_s.is_some() { "ready" } else { "not ready" };
        bar(&service.name, "service", service.start_s, service_end(service), outcome.into())
    });
    let most = samples.iter().map(|sample| sample.touched_bytes).max().unwrap_or(0);
    let mib = |bytes: u64| format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20));
    let line = samples.iter().map(|sample| {
        let height = sample.touched_bytes as f64 / most.max(1) as f64;
        format!("{},{}", percent(sample.uptime_s), ((1.0 - height) * 100_000.0).round() / 1000.0)
    });
    BootView {
        length_s,
        ram_line: line.collect::<Vec<_>>().join(" "),
        ram_most: mib(most),
        bars: phases.chain(services).collect(),
        ram: samples
            .iter()
            .map(|sample| RamRow {
                event: sample.event.clone(),
                uptime_s: format!("{:.2}", sample.uptime_s),
                touched: mib(sample.touched_bytes),
            })
            .collect(),
    }
}
