//! Follows the serial console of a booting image: what was reached, what is running, what went wrong. Pure.

use crate::recipe::Expectation;
use bootwright_contract::console::{Event, parse_line};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Lines kept for the report of a failure.
const TAIL_LINES: usize = 30;
/// An awaited service that failed this often does not become ready any more: each further try waits longer.
const SERVICE_TRIES: u32 = 5;

/// A phase as the console told it, seconds of guest uptime.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct SeenPhase {
    pub name: String,
    pub end_s: Option<f64>,
    pub took_s: Option<f64>,
    /// `ok`, or the reason of the failure; absent while it runs.
    pub outcome: Option<String>,
}

/// Why a boot cannot reach its expectations any more.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Trouble {
    #[error("PID1 stopped in phase `{phase}`: {reason}")]
    Fatal { phase: String, reason: String },
    #[error("phase `{phase}` failed: {reason}")]
    Phase { phase: String, reason: String },
    #[error("service `{service}` failed {times} times, the last time: {reason}")]
    Service { service: String, reason: String, times: u32 },
    #[error("the kernel could not unpack the initramfs: {reason}")]
    Unpack { reason: String },
    #[error("the kernel ran out of memory: {line}")]
    OutOfMemory { line: String },
    #[error("the kernel panicked: {line}")]
    Panic { line: String },
    #[error("the network loader gave up: {line}")]
    Loader { line: String },
    #[error("the machine went down before it got there: {how}")]
    Down { how: String },
}

/// What one console line brought.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// Nothing that the runner acts on.
    None,
    /// A phase ended well, for people.
    Phase {
        name: String,
        took_s: f64,
    },
    /// Reached at that guest uptime in seconds.
    Reached(Expectation, f64),
    Trouble(Trouble),
}

/// State of one boot, fed line by line.
#[derive(Debug, Default)]
pub struct BootProgress {
    pub phases: Vec<SeenPhase>,
    tail: VecDeque<String>,
    /// Of services that are not ready, since they were.
    failures: BTreeMap<String, u32>,
    /// Services that have failed, ready since or not.
    failed: BTreeSet<String>,
    kernel_started: bool,
    phases_done: bool,
}

impl BootProgress {
    /// Takes the next console line, plain and whole.
    pub fn feed(&mut self, line: &str) -> News {
        if line.is_empty() {
            return News::None;
        }
        if self.tail.len() == TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line.into());
        if let Some(told) = parse_line(line) {
            return self.feed_event(told.event, told.uptime_s);
        }
        self.kernel_started |= line.contains("Linux version ");
        match parse_kernel_trouble(line).or_else(|| self.parse_loader_trouble(line)) {
            Some(trouble) => News::Trouble(trouble),
            None => News::None,
        }
    }

    fn feed_event(&mut self, event: Event, uptime_s: f64) -> News {
        self.kernel_started = true;
        match event {
            Event::PhaseStart { phase } => {
                self.phases.push(SeenPhase { name: phase, end_s: None, took_s: None, outcome: None });
                News::None
            }
            Event::PhaseOk { phase, took_s } => {
                self.end_phase(&phase, uptime_s, took_s, "ok".into());
                News::Phase { name: phase, took_s }
            }
            Event::PhaseFailed { phase, took_s, reason } => {
                self.end_phase(&phase, uptime_s, took_s, reason);
                News::None
            }
            Event::PhasesDone => self.end_phases(uptime_s),
            Event::ServiceReady { service, .. } => {
                self.failures.remove(&service);
                News::Reached(Expectation::Service(service), uptime_s)
            }
            Event::ServiceFailed { service, reason } => self.fail_service(service, reason),
            Event::Fatal { phase, reason } => News::Trouble(Trouble::Fatal { phase, reason }),
            Event::Down { how } => News::Trouble(Trouble::Down { how }),
            Event::Note { .. } => News::None,
        }
    }

    fn end_phase(&mut self, name: &str, uptime_s: f64, took_s: f64, outcome: String) {
        let open = self.phases.iter_mut().rev().find(|p| p.name == name && p.outcome.is_none());
        let done = SeenPhase { name: name.into(), end_s: Some(uptime_s), took_s: Some(took_s), outcome: Some(outcome) };
        match open {
            Some(phase) => *phase = done,
            None => self.phases.push(done),
        }
    }

    /// A phase may fail, be retried and end well; one whose last end was a failure spoils the boot.
    fn end_phases(&mut self, uptime_s: f64) -> News {
        self.phases_done = true;
        for (i, phase) in self.phases.iter().enumerate() {
            let last = self.phases[i + 1..].iter().all(|p| p.name != phase.name);
            match &phase.outcome {
                Some(reason) if last && reason != "ok" => {
                    return News::Trouble(Trouble::Phase { phase: phase.name.clone(), reason: reason.clone() });
                }
                _ => {}
            }
        }
        News::Reached(Expectation::PhasesDone, uptime_s)
    }

    fn fail_service(&mut self, service: String, reason: String) -> News {
        self.failed.insert(service.clone());
        let times = self.failures.entry(service.clone()).or_default();
        *times += 1;
        match *times {
            SERVICE_TRIES => News::Trouble(Trouble::Service { service, reason, times: SERVICE_TRIES }),
            _ => News::None,
        }
    }

    /// What SeaBIOS, iPXE and our own `boot.ipxe` say when they have nothing left to try.
    fn parse_loader_trouble(&self, line: &str) -> Option<Trouble> {
        let last_words = ["No bootable device", "No more network devices", " could not be booted"];
        let over = !self.kernel_started && last_words.iter().any(|words| line.contains(words));
        over.then(|| Trouble::Loader { line: line.into() })
    }

    /// Where the boot is, in words: the phase that runs, or what comes before and after the phases.
    pub fn stage(&self) -> String {
        if !self.kernel_started {
            return "firmware or network loader".into();
        }
        if let Some(phase) = self.phases.iter().rev().find(|p| p.outcome.is_none()) {
            return format!("phase {}", phase.name);
        }
        match self.phases.last() {
            None => "kernel, before PID1".into(),
            Some(_) if self.phases_done => match self.failures.iter().next_back() {
                Some((service, times)) => format!("services, `{service}` failed {times} times"),
                None => "services".into(),
            },
            Some(last) => format!("after phase {}", last.name),
        }
    }

    /// Services that have failed, also those that became ready since.
    pub fn failed_services(&self) -> impl Iterator<Item = &String> {
        self.failed.iter()
    }

    /// The last console lines, oldest first.
    pub fn tail(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }
}

/// Kernel messages after which nothing good comes (init/initramfs.c, kernel/panic.c, mm/oom_kill.c).
fn parse_kernel_trouble(line: &str) -> Option<Trouble> {
    let after = |mark: &str| line.find(mark).map(|at| line[at + mark.len()..].trim().to_string());
    if let Some(reason) = after("Initramfs unpacking failed:") {
        return Some(Trouble::Unpack { reason });
    }
    if line.contains("System is deadlocked on memory") {
        return Some(Trouble::OutOfMemory { line: line.into() });
    }
    after("Kernel panic - not syncing:").map(|line| Trouble::Panic { line })
}

#[cfg(test)]
mod tests;
