//! What PID1 says on the console and what the smoke runner reads there.
//!
//! One line an event, `bootwright: <seconds since kernel start> <event>`, for people first:
//!
//! ```text
//! bootwright: 1.204 phase mounts ok in 0.003
//! bootwright: 9.480 phase network failed in 60.000: no carrier on eth0
//! bootwright: 3.310 phases done
//! bootwright: 8.912 service kubelet ready in 4.100
//! bootwright: 8.912 service kubelet failed: exit status 1
//! bootwright: 1.300 fatal verify: `/bootwright/root.img` is truncated: found 100 of 31000000 bytes
//! bootwright: 40.100 down poweroff
//! ```

mod plain;
pub mod untangle;

use serde::{Deserialize, Serialize};
use std::fmt;

/// Every line of PID1 on the console starts with this.
pub const PREFIX: &str = "bootwright: ";

/// One event with the guest's uptime in seconds (CLOCK_BOOTTIME).
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub uptime_s: f64,
    pub event: Event,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    PhaseStart {
        phase: String,
    },
    PhaseOk {
        phase: String,
        took_s: f64,
    },
    PhaseFailed {
        phase: String,
        took_s: f64,
        reason: String,
    },
    /// All phases are over and the services are being supervised.
    PhasesDone,
    ServiceReady {
        service: String,
        took_s: f64,
    },
    ServiceFailed {
        service: String,
        reason: String,
    },
    /// The boot cannot go on.
    Fatal {
        phase: String,
        reason: String,
    },
    /// The last line before the machine goes down.
    Down {
        how: String,
    },
    /// Anything else, for people.
    Note {
        text: String,
    },
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{} ", Seconds(self.uptime_s))?;
        let seconds = |value: &f64| Seconds(*value);
        match &self.event {
            Event::PhaseStart { phase } => write!(f, "phase {phase} starts"),
            Event::PhaseOk { phase, took_s } => write!(f, "phase {phase} ok in {}", seconds(took_s)),
            Event::PhaseFailed { phase, took_s, reason } => {
                write!(f, "phase {phase} failed in {}: {reason}", seconds(took_s))
            }
            Event::PhasesDone => write!(f, "phases done"),
            Event::ServiceReady { service, took_s } => {
                write!(f, "service {service} ready in {}", seconds(took_s))
            }
            Event::ServiceFailed { service, reason } => {
                write!(f, "service {service} failed: {reason}")
            }
            Event::Fatal { phase, reason } => write!(f, "fatal {phase}: {reason}"),
            Event::Down { how } => write!(f, "down {how}"),
            Event::Note { text } => write!(f, "{text}"),
        }
    }
}

/// Seconds with three digits, negative ones as 0. Written from whole milliseconds: the formatting of floats would be
/// 15 kB of PID1.
struct Seconds(f64);

impl fmt::Display for Seconds {
    #[expect(clippy::cast_possible_truncation, reason = "a float that is too large becomes the largest number")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = (self.0 * 1000.0).round() as u64;
        write!(f, "{}.{:03}", millis / 1000, millis % 1000)
    }
}

/// Parses one console line; `None` when it is not PID1's. Text before the prefix (a kernel time stamp) is passed over.
pub fn parse_line(line: &str) -> Option<Line> {
    let rest = &line[line.find(PREFIX)? + PREFIX.len()..];
    let (uptime, rest) = rest.trim_end().split_once(' ')?;
    Some(Line { uptime_s: uptime.parse().ok()?, event: parse_event(rest) })
}

fn parse_event(text: &str) -> Event {
    parse_known_event(text).unwrap_or_else(|| Event::Note { text: text.into() })
}

fn parse_known_event(text: &str) -> Option<Event> {
    if text == "phases done" {
        return Some(Event::PhasesDone);
    }
    let (kind, rest) = text.split_once(' ')?;
    match kind {
        "phase" => parse_phase(rest),
        "service" => parse_service(rest),
        "fatal" => {
            let (phase, reason) = rest.split_once(": ")?;
            Some(Event::Fatal { phase: phase.into(), reason: reason.into() })
        }
        "down" => Some(Event::Down { how: rest.into() }),
        _ => None,
    }
}

fn parse_phase(rest: &str) -> Option<Event> {
    let (phase, rest) = rest.split_once(' ')?;
    let phase = phase.to_string();
    if rest == "starts" {
        return Some(Event::PhaseStart { phase });
    }
    if let Some(took) = rest.strip_prefix("ok in ") {
        return Some(Event::PhaseOk { phase, took_s: took.parse().ok()? });
    }
    let (took, reason) = rest.strip_prefix("failed in ")?.split_once(": ")?;
    Some(Event::PhaseFailed { phase, took_s: took.parse().ok()?, reason: reason.into() })
}

fn parse_service(rest: &str) -> Option<Event> {
    let (service, rest) = rest.split_once(' ')?;
    let service = service.to_string();
    if let Some(took) = rest.strip_prefix("ready in ") {
        return Some(Event::ServiceReady { service, took_s: took.parse().ok()? });
    }
    Some(Event::ServiceFailed { service, reason: rest.strip_prefix("failed: ")?.into() })
}

/// The timeline as JSON: what happened since the kernel started.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TimelineRecord {
    /// Layout of this document; 1.
    pub version: u32,
    pub recipe: String,
    pub image_id: String,
    pub phases: Vec<PhaseRecord>,
    pub services: Vec<ServiceRecord>,
    /// Modaliases of devices that no driver has taken and no module of the image serves, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unserved: Vec<String>,
    /// How many more there are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unserved_more: u32,
}

/// serde's `skip_serializing_if` wants a reference.
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseRecord {
    pub name: String,
    /// Seconds since kernel start.
    pub start_s: f64,
    /// Which try this one is. Of a phase that was tried more than twice only the first and the last try are here; 0 and
    /// absent: the first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tries: u32,
    /// Absent while it runs.
    pub end_s: Option<f64>,
    /// Seconds of it in which it waited for the network and for servers.
    #[serde(default)]
    pub waited_s: f64,
    /// `ok`, or the reason of the failure; absent while it runs.
    pub outcome: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceRecord {
    pub name: String,
    /// Seconds since kernel start.
    pub start_s: f64,
    pub ready_s: Option<f64>,
    pub restarts: u32,
    /// What it left in [`crate::paths::NOTES`] when it became ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rounded_to_milliseconds() {
        for (value, text) in [(0.0, "0.000"), (1.2345, "1.235"), (0.9996, "1.000"), (61.05, "61.050"), (-1.0, "0.000")]
        {
            assert_eq!(Seconds(value).to_string(), text);
        }
    }

    #[test]
    fn every_event_survives_the_console() {
        let s = |t: &str| t.to_string();
        let events = [
            Event::PhaseStart { phase: s("root") },
            Event::PhaseOk { phase: s("root"), took_s: 0.25 },
            Event::PhaseFailed { phase: s("network"), took_s: 60.0, reason: s("no carrier: eth0") },
            Event::PhasesDone,
            Event::ServiceReady { service: s("kubelet"), took_s: 4.5 },
            Event::ServiceFailed { service: s("kubelet"), reason: s("exit status 1") },
            Event::Fatal { phase: s("verify"), reason: s("`/x` is truncated: found 1 of 2 bytes") },
            Event::Down { how: s("poweroff") },
            Event::Note { text: s("phase of the moon") },
        ];
        for event in events {
            let line = Line { uptime_s: 1.5, event };
            assert_eq!(parse_line(&format!("[    1.5] {line}\r")), Some(line.clone()), "{line}");
        }
        assert_eq!(parse_line("Run /init as init process"), None);
    }
}
