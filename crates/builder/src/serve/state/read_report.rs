//! What is kept of a report: so much as is shown, whatever a stranger sends.

use super::view::{PhaseView, ServiceView};
use crate::nodes::{Mac, parse_mac, parse_uuid};
use crate::serve::text::shown;
use bootwright_contract::console::{PhaseRecord, ServiceRecord, TimelineRecord};
use bootwright_contract::report::{BootReport, REPORT_VERSION};

/// Phases of a node: PID1 has less than half as many.
const MOST_PHASES: usize = 32;
/// Services of a node whose names are shown; the others are counted.
const MOST_SERVICES: usize = 64;
/// Bytes of all that is kept of a node.
const MOST_BYTES: usize = 8 << 10;
/// Characters of a name.
const NAME: usize = 64;
/// Characters of a reason.
const REASON: usize = 200;
/// Characters of a service's note; PID1 takes no more bytes of one.
const NOTE: usize = 256;
/// Seconds since the kernel started that a phase may have taken: 30 years.
const LONGEST_S: f64 = 1e9;

/// Why a report is not taken.
#[derive(Debug, thiserror::Error)]
pub enum BadReport {
    #[error("not a report: {0}")]
    Json(#[from] serde_json::Error),
    #[error("version {found}, this server reads {REPORT_VERSION}")]
    Version { found: u32 },
    #[error("node `{name}` reports from another address")]
    NotItsAddress { name: String },
}

/// A report that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadReport {
    pub mac: Option<Mac>,
    pub uuid: Option<String>,
    pub hostname: Option<String>,
    pub recipe: String,
    /// The last record of each phase: one that was tried again has several.
    pub phases: Vec<PhaseView>,
    pub services: Vec<ServiceView>,
    /// Of all services, also of those that are not kept.
    pub services_ready: usize,
    pub services_all: usize,
    /// What it takes, roughly.
    pub bytes: usize,
}

impl ReadReport {
    /// Reads a report. Texts are cut and made fit to be shown.
    ///
    /// # Errors
    /// What is no report of this version.
    pub fn parse(body: &[u8]) -> Result<Self, BadReport> {
        let report: BootReport = serde_json::from_slice(body)?;
        if report.version != REPORT_VERSION {
            return Err(BadReport::Version { found: report.version });
        }
        let network = report.network.as_ref();
        let services = &report.timeline.services;
        let mut told = Self {
            mac: network.and_then(|network| parse_mac(network.mac.as_deref()?)),
            uuid: report.uuid.as_deref().and_then(parse_uuid),
            hostname: network.map(|network| shown(&network.hostname, NAME).into_owned()),
            recipe: shown(&report.timeline.recipe, NAME).into_owned(),
            phases: phases(&report.timeline),
            services_ready: services.iter().filter(|service| service.ready_s.is_some()).count(),
            services_all: services.len(),
            services: services.iter().take(MOST_SERVICES).map(service).collect(),
            bytes: 0,
        };
        told.bytes = told.count();
        while told.bytes > MOST_BYTES && (told.services.pop().is_some() || told.phases.pop().is_some()) {
            told.bytes = told.count();
        }
        Ok(told)
    }

    fn count(&self) -> usize {
        let phase = |p: &PhaseView| size_of::<PhaseView>() + p.name.len() + p.outcome.as_ref().map_or(0, String::len);
        let service = |service: &ServiceView| {
            size_of::<ServiceView>() + service.name.len() + service.note.as_ref().map_or(0, String::len)
        };
        size_of::<Self>()
            + self.hostname.as_ref().map_or(0, String::len)
            + self.recipe.len()
            + self.phases.iter().map(phase).sum::<usize>()
            + self.services.iter().map(service).sum::<usize>()
    }
}

fn phases(timeline: &TimelineRecord) -> Vec<PhaseView> {
    let mut views: Vec<PhaseView> = Vec::new();
    for record in &timeline.phases {
        let view = phase(record);
        match views.iter().position(|known| known.name == view.name) {
            Some(at) => views[at] = view,
            None if views.len() < MOST_PHASES => views.push(view),
            None => {}
        }
    }
    views
}

fn phase(record: &PhaseRecord) -> PhaseView {
    let took = |end: f64| ((end - record.start_s).clamp(0.0, LONGEST_S) * 1000.0).round() / 1000.0;
    PhaseView {
        name: shown(&record.name, NAME).into_owned(),
        outcome: record.outcome.as_deref().map(|outcome| shown(outcome, REASON).into_owned()),
        took_s: record.end_s.map(took),
    }
}

fn service(record: &ServiceRecord) -> ServiceView {
    ServiceView {
        name: shown(&record.name, NAME).into_owned(),
        ready: record.ready_s.is_some(),
        restarts: record.restarts,
        note: record.note.as_deref().map(|note| shown(note, NOTE).into_owned()),
    }
}
