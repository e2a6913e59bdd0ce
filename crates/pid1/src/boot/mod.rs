//! The boot as a table of phases in their order. Each phase has its own file, gets what it needs, and returns what it
//! found. Only this table starts phases.

mod attempts;
mod clock;
mod config;
mod console;
mod devices;
mod early;
mod findings;
mod memory;
mod mounts;
mod network;
mod parameters;
mod policy;
mod root;
pub mod sequence;
mod server_access;
mod state;
mod switch;
mod time;
mod verify;
mod worker;

use attempts::Attempts;
use bootwright_base::Failure;
use bootwright_base::sys::Sys;
use bootwright_contract::{PhaseId, Policy};
use bootwright_roots::RootPlan;
use findings::{AttemptEnd, AttemptWork, Finding, Findings};
use std::sync::Arc;
use std::time::Duration;

/// A row of the table.
struct Phase {
    id: PhaseId,
    runs: Runs,
    deadline: Deadline,
    on_failure: OnFailure,
}

/// Makes the work of one attempt from the findings so far. The given [`Sys`] belongs to the attempt: it is closed when
/// the attempt is given up.
type Begin = fn(&mut Findings, Arc<dyn Sys>) -> Result<AttemptWork, Failure>;

/// How a phase is run.
#[derive(Clone, Copy)]
enum Runs {
    /// To its end, before the next phase starts.
    InOrder(Begin),
    /// In its own thread, which starts after the phase that `after` returns, and runs beside the following ones.
    Beside { after: fn(Option<&RootPlan>) -> PhaseId, start: fn(&mut Findings, Attempts) },
    /// By the main loop, until the machine goes down.
    Supervision,
}

/// The time after which an attempt is given up.
enum Deadline {
    /// In seconds.
    Fixed(u64),
    /// None when the phase waits for a server, because the code for servers has its own limits. Otherwise `else_s`
    /// seconds.
    Server { comes: fn(&RootPlan) -> bool, else_s: u64 },
    /// None: the phase has its own limits.
    Own,
}

/// The policy of the phase, unless recipe or command line set another.
enum OnFailure {
    Reboot,
    Degrade,
    Retry,
    /// With a root on a server, tries for ever: a server comes back, and a damaged image on it is replaced. Each
    /// attempt says why it failed. Otherwise a reboot, because nothing else can help.
    RetryServed,
}

use Deadline::{Fixed, Own, Server};
use OnFailure::{Degrade, Reboot, Retry, RetryServed};
use Runs::{Beside, InOrder, Supervision};

/// All phases in boot order.
const TABLE: &[Phase] = &[
    Phase { id: PhaseId::Mounts, runs: InOrder(mounts), deadline: Fixed(10), on_failure: Reboot },
    Phase { id: PhaseId::Console, runs: InOrder(console), deadline: Fixed(10), on_failure: Degrade },
    Phase { id: PhaseId::Config, runs: InOrder(config), deadline: Fixed(10), on_failure: Reboot },
    Phase { id: PhaseId::Verify, runs: InOrder(verify), deadline: Fixed(120), on_failure: Reboot },
    Phase { id: PhaseId::Clock, runs: InOrder(clock), deadline: Fixed(10), on_failure: Degrade },
    Phase { id: PhaseId::Early, runs: InOrder(early), deadline: Fixed(60), on_failure: Reboot },
    Phase {
        id: PhaseId::Root,
        runs: InOrder(root),
        deadline: Server { comes: root_is_served, else_s: 60 },
        on_failure: RetryServed,
    },
    Phase { id: PhaseId::Switch, runs: InOrder(switch), deadline: Fixed(30), on_failure: Reboot },
    Phase {
        id: PhaseId::Network,
        runs: Beside { after: last_before_network, start: start_network },
        deadline: Own,
        on_failure: Retry,
    },
    Phase {
        id: PhaseId::Time,
        runs: Beside { after: last_before_network, start: start_time },
        deadline: Own,
        on_failure: Degrade,
    },
    Phase { id: PhaseId::Devices, runs: InOrder(devices), deadline: Fixed(120), on_failure: Degrade },
    Phase {
        id: PhaseId::State,
        runs: InOrder(state),
        deadline: Server { comes: |plan| plan.volumes_are_served(), else_s: 60 },
        on_failure: Retry,
    },
    Phase {
        id: PhaseId::Image,
        runs: InOrder(image),
        deadline: Server { comes: root_is_served, else_s: 120 },
        on_failure: Reboot,
    },
    Phase { id: PhaseId::Modules, runs: InOrder(modules), deadline: Fixed(120), on_failure: Degrade },
    Phase { id: PhaseId::Services, runs: Supervision, deadline: Own, on_failure: Degrade },
];

/// Names of all phases in boot order.
pub fn names() -> Vec<&'static str> {
    TABLE.iter().map(|phase| phase.id.name()).collect()
}

impl Deadline {
    fn limit(&self, plan: Option<&RootPlan>) -> Duration {
        /// Longer than any machine runs.
        const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);
        match self {
            Fixed(seconds) => Duration::from_secs(*seconds),
            Server { comes, .. } if plan.is_some_and(comes) => FOR_EVER,
            Server { else_s, .. } => Duration::from_secs(*else_s),
            Own => FOR_EVER,
        }
    }
}

impl OnFailure {
    fn policy(&self, plan: Option<&RootPlan>) -> Policy {
        match self {
            RetryServed if plan.is_some_and(root_is_served) => Retry.policy(plan),
            Reboot | RetryServed => Policy::Reboot { after_s: 60 },
            Degrade => Policy::Degrade,
            Retry => Policy::Retry { times: 0, then: Box::new(Policy::Degrade) },
        }
    }
}

fn root_is_served(plan: &RootPlan) -> bool {
    plan.root_is_served()
}

/// The phase after which the network starts. A root on a server needs the network first; other roots may bring its
/// drivers and `/etc`, so the network starts after them.
fn last_before_network(plan: Option<&RootPlan>) -> PhaseId {
    if plan.is_some_and(root_is_served) { PhaseId::Early } else { PhaseId::Switch }
}

fn mounts(findings: &mut Findings, sys: Arc<dyn Sys>) -> Result<AttemptWork, Failure> {
    let (node_sys, timeline) = (findings.sys, findings.timeline.clone());
    let work = move || mounts::mount_kernel_filesystems(&*sys, node_sys, &timeline);
    Ok(Box::new(move || AttemptEnd::with(work(), Finding::Cmdline)))
}

fn console(findings: &mut Findings, _: Arc<dyn Sys>) -> Result<AttemptWork, Failure> {
    let (cmdline, timeline) = (findings.cmdline.clone(), findings.timeline.clone());
    Ok(Box::new(move || AttemptEnd::of(console::take_console(&cmdline, &timeline))))
}

fn config(findings: &mut Findings, _: Arc<dyn Sys>) -> Result<AttemptWork, Failure> {
    let (cmdline, timeline, sys) = (findings.cmdline.clone(), findings.timeline.clone(), findings.sys);
    let work = move || {
        let node = Arc::new(config::load_boot_config(cmdline, timeline, sys)?);
        crate::run::log_port::spawn(&node);
        Ok(node)
    };
    Ok(Box::new(move || AttemptEnd::with(work(), Finding::Node)))
}

fn verify(findings: &mut Findings, _: Arc<dyn Sys>) -> Result<AttemptWork, Failure> {
    let node = findings.node()?;
    Ok(Box::new(move || AttemptEnd::with(verify::check_segments(&node), Finding::Images)))
}

fn clock(findings: &mut Findings, sys: Arc<dyn Sys>) -> Result<AttemptWork, Failure> {
    let node = findings.node()?;
    Ok(Box::new(move || AttemptEnd::of(clock::raise_to_floor(&*sys, &node))))
}

fn early(findings: &mut Findings, sys: Arc<dyn Sys>) -> Result<AttemptWork, Failure> {
    let (node, over) = (findings.node()?, findings.initramfs_over.clone());
    Ok(Box::new(move || AttemptEnd::with(early::load_modules(&*sys, &node, over), Finding::Early)))
}

fn root(findings: &mut Findings, sys: Arc<dyn Sys>) -> Result<AttemptWork, Failure> {
    let (servers, images) = (findings.servers(PhaseId::Root, sys)?, findings.images.clone());
    Ok(Box::new(move || AttemptEnd::with(root::assemble(&servers, images), Finding::Images)))
}

fn switch(findings: &mut Findings, sys: Arc<dyn Sys>) -> Result<AttemptWork, Failure> {
    let (servers, over) = (findings.servers(PhaseId::Switch, sys)?, findings.initramfs_over.clone());
    Ok(Box::new(move || {
        AttemptEnd::of(switch::switch_root(&*servers.sys, &servers.node, servers.network.as_ref(), &over))
    }))
}

/// Starts the network, and the reports that need it. With a root or volume on a server, PID1 is first made able to
/// repair it.
fn start_network(findings: &mut Findings, attempts: Attempts) {
    let node = findings.node_or_die();
    if node.plan.needs_servers() {
        network::outlive_servers(&node);
    }
    let network = network::start(&node, attempts);
    crate::run::report::spawn(&node, network.watch());
    findings.network = Some(network);
}

fn start_time(findings: &mut Findings, attempts: Attempts) {
    if let Some(network) = &findings.network {
        time::start(&findings.node_or_die(), network.watch(), attempts);
    }
}

fn devices(findings: &mut Findings, _: Arc<dyn Sys>) -> Result<AttemptWork, Failure> {
    let (node, seen) = (findings.node()?, findings.seen.take());
    Ok(Box::new(move || {
        let (loading, outcome) = devices::prepare(&node, seen);
        AttemptEnd { found: loading.map_or(Finding::Nothing, Finding::Loading), outcome }
    }))
}

fn state(findings: &mut Findings, sys: Arc<dyn Sys>) -> Result<AttemptWork, Failure> {
    let servers = findings.servers(PhaseId::State, sys)?;
    Ok(Box::new(move || AttemptEnd::of(state::prepare_state(&servers))))
}

fn image(findings: &mut Findings, _: Arc<dyn Sys>) -> Result<AttemptWork, Failure> {
    let images = findings.images.clone();
    Ok(Box::new(move || AttemptEnd::of(verify::check_images(&images))))
}

fn modules(findings: &mut Findings, sys: Arc<dyn Sys>) -> Result<AttemptWork, Failure> {
    let (node, loading) = (findings.node()?, findings.loading.take());
    Ok(Box::new(move || AttemptEnd::of(devices::finish(&*sys, &node, loading))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_base::cmdline::parse_cmdline;
    use bootwright_contract::PHASES;
    use bootwright_contract::fixture::boot_config;

    #[test]
    fn every_phase_has_one_row_in_its_place() {
        assert_eq!(names(), PHASES.map(PhaseId::name));
    }

    /// What a row says with a root in memory, and on a server.
    fn both(says: impl Fn(Option<&RootPlan>) -> String) -> (String, String) {
        let plan = |line: &str| RootPlan::resolve(&boot_config(), &parse_cmdline(line));
        (says(Some(&plan(""))), says(Some(&plan("bw.root=nbd:///x"))))
    }

    #[test]
    fn a_root_on_a_server_has_the_time_that_its_server_takes() {
        if !bootwright_roots::BUILT_IN {
            return;
        }
        let for_ever = format!("{:?}", Own.limit(None));
        for (id, local, served) in [
            (PhaseId::Root, "60s", &for_ever[..]),
            (PhaseId::Image, "120s", &for_ever),
            (PhaseId::State, "60s", "60s"),
            (PhaseId::Verify, "120s", "120s"),
        ] {
            let row = TABLE.iter().find(|row| row.id == id).expect("a row");
            let limits = both(|plan| format!("{:?}", row.deadline.limit(plan)));
            assert_eq!(limits, (local.into(), served.into()), "{id:?}");
        }
        let policies = both(|plan| format!("{:?}", RetryServed.policy(plan)));
        assert_eq!(policies, (format!("{:?}", Reboot.policy(None)), format!("{:?}", Retry.policy(None))));
        assert_eq!(both(|plan| format!("{:?}", last_before_network(plan))), ("Switch".into(), "Early".into()));
    }
}
