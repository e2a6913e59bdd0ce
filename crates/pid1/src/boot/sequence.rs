//! Goes through the boot table.

use crate::base::node::Node;
use crate::base::shell::run_shell;
use crate::base::timeline::Timeline;
use crate::base::watchdog::WATCHDOG;
use crate::boot::attempts::Attempts;
use crate::boot::findings::Findings;
use crate::boot::policy::policy_for;
use crate::boot::worker::{PhaseAttempts, Worker};
use crate::boot::{Begin, Phase, Runs, TABLE};
use crate::run::{main_loop, power};
use bootwright_base::Failure;
use bootwright_base::cmdline::Cmdline;
use bootwright_base::sys::Sys;
use bootwright_contract::PhaseId;
use std::sync::Arc;

/// The last phase. `bw.shell` is short for `bw.stop=` with its name.
const LAST: PhaseId = PhaseId::Services;

/// Runs all phases. Returns when the machine is to go down.
pub fn run_table(sys: &'static dyn Sys, timeline: Arc<Timeline>) -> (Arc<Node>, power::Shutdown) {
    let mut sequence = Sequence { findings: Findings::new(sys, timeline), worker: None };
    for phase in TABLE {
        match phase.runs {
            Runs::InOrder(begin) => {
                sequence.stop_here_if_asked(phase.id);
                sequence.run_in_order(phase, begin);
                sequence.start_beside(phase.id);
            }
            // Started by `start_beside` when the phase before it is over.
            Runs::Beside { .. } => {}
            Runs::Supervision => sequence.stop_here_if_asked(phase.id),
        }
    }
    sequence.supervise()
}

struct Sequence {
    findings: Findings,
    worker: Option<Worker>,
}

impl Sequence {
    fn attempts(&self, phase: &Phase) -> Attempts {
        let Findings { node, cmdline, sys, timeline, .. } = &self.findings;
        let plan = node.as_ref().map(|node| &node.plan);
        let policy = policy_for(phase.id, phase.on_failure.policy(plan), node.as_ref().map(|n| &n.config), cmdline);
        Attempts { phase: phase.id, policy, sys: *sys, timeline: timeline.clone() }
    }

    /// Runs a phase to its end.
    fn run_in_order(&mut self, phase: &Phase, begin: Begin) {
        let attempts = self.attempts(phase);
        let deadline = phase.deadline.limit(self.findings.node.as_ref().map(|node| &node.plan));
        let (findings, timeline) = (&mut self.findings, attempts.timeline.clone());
        let slow = || timeline.phase_is_slow(phase.id.name());
        let mut bench = PhaseAttempts { sys: attempts.sys, worker: &mut self.worker, deadline, given_up: None };
        attempts.run(&mut || {
            let ended = bench.attempt::<Failure>(&mut |sys| begin(findings, sys), &slow)?;
            findings.keep(ended.found);
            ended.outcome
        });
        if let Some(watchdog) = self.findings.node.as_ref().and_then(|node| node.config.watchdog.as_ref()) {
            WATCHDOG.configure(watchdog, &self.findings.timeline);
        }
    }

    /// Starts the phases that run beside others and come after the phase `over`. The first thread does that, because
    /// threads that are started later, and the next worker, inherit properties that it sets for itself.
    fn start_beside(&mut self, over: PhaseId) {
        for phase in TABLE {
            let Runs::Beside { after, start } = phase.runs else { continue };
            let plan = self.findings.node.as_ref().map(|node| &node.plan);
            if after(plan) == over {
                self.stop_here_if_asked(phase.id);
                let attempts = self.attempts(phase);
                start(&mut self.findings, attempts);
                self.worker = None;
            }
        }
    }

    /// `bw.stop=<phase>`: runs a shell before that phase, or halts when the image has none.
    fn stop_here_if_asked(&self, phase: PhaseId) {
        let (timeline, name) = (&self.findings.timeline, phase.name());
        if !stops_before(&self.findings.cmdline, phase) {
            return;
        }
        timeline.note(&["stopped before phase ", name].concat());
        if !run_shell() {
            power::halt_and_explain(timeline, name, "stopped here as asked; there is no shell in this image");
        }
    }

    /// Runs the main loop, until the machine is to go down.
    fn supervise(self) -> (Arc<Node>, power::Shutdown) {
        let node = self.findings.node_or_die();
        if let Some(after_s) = node.cmdline.value("bw.poweroff_after_s").and_then(|s| s.parse().ok()) {
            power::power_off_later(after_s);
        }
        let network = self.findings.network.unwrap_or_default();
        node.timeline.phase_start(LAST.name());
        let ending = main_loop::run(node.clone(), network, LAST);
        (node, ending)
    }
}

fn stops_before(cmdline: &Cmdline, phase: PhaseId) -> bool {
    let shell = cmdline.flag("bw.shell").then_some(LAST.name());
    cmdline.value("bw.stop").into_iter().chain(shell).any(|asked| asked == phase.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_base::cmdline::parse_cmdline;

    #[test]
    fn the_boot_stops_where_it_was_asked_to() {
        for (line, phase, stops) in [
            ("bw.stop=root", PhaseId::Root, true),
            ("bw.stop=root", PhaseId::Services, false),
            ("bw.shell", PhaseId::Services, true),
            ("bw.shell=0", PhaseId::Services, false),
            ("", PhaseId::Root, false),
        ] {
            assert_eq!(stops_before(&parse_cmdline(line), phase), stops, "{line}");
        }
    }
}
