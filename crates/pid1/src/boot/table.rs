//! The boot as a table of phases: name, deadline, what to do on failure, and the function. Read it as boot order.

use crate::base::console::run_shell;
use crate::base::timeline::Timeline;
use crate::boot::machine::{Boot, Machine};
use crate::boot::{clock, config, console, devices, early, mounts, root, state, switch, verify};
use crate::run::power;
use bootwright_base::background;
use bootwright_base::cmdline::Cmdline;
use bootwright_base::sys::Sys;
use bootwright_contract::{BootConfig, Policy};
use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// Why a phase failed.
pub use bootwright_base::Failure as PhaseError;

/// Of those who have limits of their own.
const FOR_EVER: Duration = Duration::from_secs(u32::MAX as u64);

/// A row of the table.
pub struct Phase {
    pub name: &'static str,
    /// Counts as failed when it has not ended by then. `network` and `services` keep their own time, and so does what
    /// comes over the network.
    pub deadline_s: u64,
    policy: fn() -> Policy,
    pub run: Run,
}

/// How a phase is run.
pub enum Run {
    /// By PID1, before the next phase starts.
    Inline(fn(&Machine) -> Result<(), PhaseError>),
    /// In a thread of its own, while the next phases go on.
    Network,
    /// Was started together with the network, and waits for it by itself.
    Time,
    /// Hands over to supervision, for good.
    Services,
}

/// All phases in boot order.
pub const TABLE: &[Phase] = &[
    Phase { name: "mounts", deadline_s: 10, policy: reboot, run: Run::Inline(mounts::mount_kernel_filesystems) },
    Phase { name: "console", deadline_s: 10, policy: degrade, run: Run::Inline(console::take_console) },
    Phase { name: "config", deadline_s: 10, policy: reboot, run: Run::Inline(config::load_boot_config) },
    Phase { name: "verify", deadline_s: 120, policy: reboot, run: Run::Inline(verify::check_segments) },
    Phase { name: "clock", deadline_s: 10, policy: degrade, run: Run::Inline(clock::raise_to_floor) },
    Phase { name: "early", deadline_s: 60, policy: reboot, run: Run::Inline(early::load_modules) },
    Phase { name: "root", deadline_s: 60, policy: reboot, run: Run::Inline(root::assemble) },
    Phase { name: "switch", deadline_s: 30, policy: reboot, run: Run::Inline(switch::switch_root) },
    Phase { name: "network", deadline_s: 0, policy: retry, run: Run::Network },
    Phase { name: "time", deadline_s: 0, policy: degrade, run: Run::Time },
    Phase { name: "devices", deadline_s: 120, policy: degrade, run: Run::Inline(devices::prepare) },
    Phase { name: "state", deadline_s: 60, policy: retry, run: Run::Inline(state::mount_all) },
    Phase { name: "image", deadline_s: 120, policy: reboot, run: Run::Inline(verify::check_root) },
    Phase { name: "modules", deadline_s: 120, policy: degrade, run: Run::Inline(devices::finish) },
    Phase { name: "services", deadline_s: 0, policy: degrade, run: Run::Services },
];

fn degrade() -> Policy {
    Policy::Degrade
}

fn retry() -> Policy {
    Policy::Retry { times: 0, then: Box::new(Policy::Degrade) }
}

fn reboot() -> Policy {
    Policy::Reboot { after_s: 60 }
}

/// Names of all phases in boot order.
pub fn names() -> Vec<&'static str> {
    TABLE.iter().map(|p| p.name).collect()
}

/// What to do when the phase fails: `bw.policy.<phase>=`, then the boot config, then the table's default.
pub fn policy_for(phase: &str, config: Option<&BootConfig>, cmdline: &Cmdline) -> Policy {
    let asked = cmdline.value(&format!("bw.policy.{phase}")).and_then(parse_policy);
    let baked = || config.and_then(|c| c.policies.get(phase)).cloned();
    let over_network = phase == "root" && config.is_some_and(|c| bootwright_roots::wants_network(c, cmdline));
    if over_network && asked.is_none() && baked().is_none() {
        // A server that is away comes back, and an image that is damaged is replaced: each attempt says why it failed.
        return retry();
    }
    let default = || TABLE.iter().find(|p| p.name == phase).map_or(Policy::Degrade, |p| (p.policy)());
    asked.or_else(baked).unwrap_or_else(default)
}

/// Reads `degrade`, `shell`, `reboot:SECONDS` or `retry:TIMES:<policy>`.
pub fn parse_policy(text: &str) -> Option<Policy> {
    match text.split_once(':') {
        None if text == "degrade" => Some(Policy::Degrade),
        None if text == "shell" => Some(Policy::Shell),
        Some(("reboot", seconds)) => Some(Policy::Reboot { after_s: seconds.parse().ok()? }),
        Some(("retry", rest)) => {
            let (times, then) = rest.split_once(':')?;
            Some(Policy::Retry { times: times.parse().ok()?, then: Box::new(parse_policy(then)?) })
        }
        _ => None,
    }
}

/// What comes after a failure.
#[derive(Debug, PartialEq)]
enum Step {
    Again { after_s: u64 },
    GoOn,
    Shell,
    Reboot { after_s: u32 },
}

/// Decides from the policy and the number of failures so far (at least 1).
fn next_step(policy: &Policy, failures: u32) -> Step {
    match policy {
        Policy::Degrade => Step::GoOn,
        Policy::Shell => Step::Shell,
        Policy::Reboot { after_s } => Step::Reboot { after_s: *after_s },
        Policy::Retry { times, .. } if *times == 0 || failures <= *times => {
            Step::Again { after_s: u64::from(failures.min(10)) }
        }
        Policy::Retry { times, then } => next_step(then, failures - times),
    }
}

/// Runs the whole table; comes back when the machine is to go down.
pub fn run_table(machine: &Arc<Machine>) -> (Arc<Boot>, power::Ending) {
    let mut network = None;
    let mut worker = None;
    for phase in TABLE {
        stop_here_if_asked(machine, phase.name);
        if phase.name == "root" && needs_servers(machine) {
            bootwright_roots::survival::prepare(machine.sys, &*machine.timeline);
        }
        if phase.name == "root" && machine.wants_network() {
            network = Some(start_network_early(machine));
        }
        match phase.run {
            Run::Inline(body) => {
                let policy = policy_for(phase.name, machine.config(), &machine.cmdline());
                let mut body = || watched(machine, phase, body, &mut worker);
                run_phase(machine.sys, &machine.timeline, phase.name, &policy, &mut body);
            }
            Run::Network => match &network {
                Some(handle) => handle.watch().write_files_again(&machine.boot_or_die()),
                None => {
                    let handle = start_network(&machine.boot_or_die());
                    machine.set_network(handle.watch());
                    network = Some(handle);
                }
            },
            Run::Time => {}
            Run::Services => break,
        }
    }
    let boot = machine.boot_or_die();
    if let Some(after_s) = boot.cmdline.value("bw.poweroff_after_s").and_then(|s| s.parse().ok()) {
        power::power_off_later(after_s);
    }
    let network = network.unwrap_or_else(|| start_network(&boot));
    boot.timeline.phase_start("services");
    let ending = crate::run::main_loop::run(boot.clone(), network);
    (boot, ending)
}

/// The network, and the reports that need it.
fn start_network(boot: &Arc<Boot>) -> crate::boot::network::NetHandle {
    let handle = crate::boot::network::spawn(boot);
    crate::run::report::spawn(boot, handle.watch());
    handle
}

/// The root comes over the network: that has to be there first, and somebody has to watch the root's server.
fn start_network_early(machine: &Machine) -> crate::boot::network::NetHandle {
    let boot = machine.boot_or_die();
    if let Err(error) = boot.board.enforce(boot.config.root.lost, boot.sys) {
        boot.timeline.note(&["nobody will reboot when the root stays lost: ", &error.to_string()].concat());
    }
    let handle = start_network(&boot);
    machine.set_network(handle.watch());
    handle
}

/// Whether the root or a volume is on a server: PID1 then has to repair what the machine's memory may hang on.
fn needs_servers(machine: &Machine) -> bool {
    machine.wants_network() || machine.config().is_some_and(|config| state::wants_network(&config.state))
}

/// What comes from a server takes as long as the server does; those who reach for it have their own limits.
fn waits_for_server(machine: &Machine, phase: &Phase) -> bool {
    let volumes = || machine.config().is_some_and(|config| state::wants_network(&config.state));
    ["root", "image"].contains(&phase.name) && machine.wants_network() || phase.name == "state" && volumes()
}

/// `bw.stop=<phase>`: a shell (or a halt) before that phase, to look around. `bw.shell` is short for `bw.stop=services`.
fn stop_here_if_asked(machine: &Machine, phase: &str) {
    let cmdline = machine.cmdline();
    let shell = cmdline.flag("bw.shell") && phase == "services";
    if cmdline.value("bw.stop") != Some(phase) && !shell {
        return;
    }
    machine.timeline.note(&format!("stopped before phase {phase}"));
    if !run_shell() {
        power::halt_and_explain(&machine.timeline, phase, "stopped here as asked; there is no shell in this image");
    }
}

/// Runs a phase until it is over. True when it succeeded, false when the boot goes on without it.
/// Policies that end the boot do not come back.
pub fn run_phase(
    sys: &'static dyn Sys,
    timeline: &Arc<Timeline>,
    name: &'static str,
    policy: &Policy,
    body: &mut dyn FnMut() -> Result<(), PhaseError>,
) -> bool {
    for failures in 1.. {
        timeline.phase_begins(name);
        let outcome = body().map_err(|e| e.to_string());
        timeline.phase_end(name, outcome.as_ref().map(|_| ()).map_err(|e| e.as_str()));
        let Err(reason) = outcome else { break };
        match next_step(policy, failures) {
            Step::Again { after_s } => thread::sleep(Duration::from_secs(after_s)),
            Step::GoOn => {
                timeline.phase_over(name);
                return false;
            }
            Step::Shell => {
                timeline.fatal(name, &reason);
                if !run_shell() {
                    power::keep_explaining(timeline, name, &reason);
                }
            }
            Step::Reboot { after_s } => {
                timeline.fatal(name, &reason);
                power::reboot_after(sys, timeline, after_s);
            }
        }
    }
    timeline.phase_over(name);
    true
}

#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error("not done after {deadline_s} s")]
    Deadline { deadline_s: u64 },
    #[error("no thread: {0}")]
    Thread(#[source] io::Error),
}

/// A thread that runs one phase after another, while all goes well.
struct Worker(mpsc::Sender<background::Work>);

impl Worker {
    fn start() -> io::Result<Worker> {
        let (phases, wait) = mpsc::channel::<background::Work>();
        background::spawn("phases", Box::new(move || wait.iter().for_each(|phase| phase())))?;
        Ok(Worker(phases))
    }
}

/// Runs the phase in a thread: a system call that hangs cannot be interrupted, only left behind, and its thread with it.
/// After a second, says that the phase has started, so that a console shows what hangs.
fn watched(
    machine: &Arc<Machine>,
    phase: &Phase,
    body: fn(&Machine) -> Result<(), PhaseError>,
    worker: &mut Option<Worker>,
) -> Result<(), PhaseError> {
    let (done, wait) = mpsc::channel();
    let theirs = machine.clone();
    // The receiver is gone when the deadline is over: nobody wants the result then.
    let work = move || drop(done.send(body(&theirs)));
    let current = match worker.take() {
        Some(worker) => worker,
        None => Worker::start().map_err(WatchError::Thread)?,
    };
    // It waits for work, or PID1 has died with it.
    let _ = current.0.send(Box::new(work));
    let deadline_s = phase.deadline_s;
    let deadline = if waits_for_server(machine, phase) { FOR_EVER } else { Duration::from_secs(deadline_s) };
    let soon = deadline.min(Duration::from_secs(1));
    let mut outcome = wait.recv_timeout(soon);
    if outcome.is_err() {
        machine.timeline.phase_is_slow(phase.name);
        outcome = wait.recv_timeout(deadline - soon);
    }
    if outcome.is_ok() {
        *worker = Some(current);
    }
    outcome.map_err(|_| WatchError::Deadline { deadline_s })?
}
