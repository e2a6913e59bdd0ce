//! Tries a phase again and again, as its policy says.

use crate::base::shell::run_shell;
use crate::base::timeline::Timeline;
use crate::base::watchdog::WATCHDOG;
use crate::boot::policy::{NextStep, next_step};
use crate::run::power;
use bootwright_base::Failure;
use bootwright_base::sys::Sys;
use bootwright_contract::{PhaseId, Policy};
use std::sync::Arc;
use std::time::Duration;

/// The attempts at a phase: its id and policy.
pub struct Attempts {
    pub phase: PhaseId,
    pub policy: Policy,
    pub sys: &'static dyn Sys,
    pub timeline: Arc<Timeline>,
}

impl Attempts {
    /// Tries until the phase is over. Returns true when an attempt succeeded, false when the boot goes on without the
    /// phase. Does not return when the policy ends the boot.
    pub fn run(&self, attempt: &mut dyn FnMut() -> Result<(), Failure>) -> bool {
        let (timeline, name) = (&self.timeline, self.phase.name());
        for failures in 1.. {
            timeline.phase_begins(name);
            let outcome = attempt().map_err(|error| error.to_string());
            timeline.phase_end(name, outcome.as_ref().map(|_| ()).map_err(|reason| reason.as_str()));
            let Err(reason) = outcome else { break };
            match next_step(&self.policy, failures) {
                NextStep::Again { after_s } => WATCHDOG.sleep(Duration::from_secs(after_s)),
                NextStep::GoOn => {
                    timeline.phase_over(name);
                    return false;
                }
                NextStep::Shell => {
                    timeline.fatal(name, &reason);
                    if !run_shell() {
                        power::keep_explaining(timeline, name, &reason);
                    }
                }
                NextStep::Reboot { after_s } => {
                    timeline.fatal(name, &reason);
                    power::reboot_after(self.sys, timeline, after_s);
                }
            }
        }
        timeline.phase_over(name);
        true
    }

    /// Ends the phase as failed, because there is no thread for it.
    pub fn fail(&self, error: &std::io::Error) {
        let name = self.phase.name();
        self.timeline.phase_start(name);
        self.timeline.phase_end(name, Err(&error.to_string()));
        self.timeline.phase_over(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_base::sys::fake::FakeSys;
    use std::io::Write;
    use std::sync::Mutex;

    /// What is written can be read by the test.
    #[derive(Clone, Default)]
    struct TestScreen(Arc<Mutex<Vec<u8>>>);

    impl Write for TestScreen {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct WatchWord(&'static str);

    fn run(policy: Policy, outcomes: &[Result<(), &'static str>]) -> (bool, Vec<String>) {
        let screen = TestScreen::default();
        let timeline = Arc::new(Timeline::new(&["clock"], Box::new(screen.clone())));
        let attempts =
            Attempts { phase: PhaseId::Clock, policy, sys: Box::leak(Box::new(FakeSys::default())), timeline };
        let mut outcomes = outcomes.iter();
        let mut attempt = || Ok(outcomes.next().expect("as many attempts as outcomes").map_err(WatchWord)?);
        let done = attempts.run(&mut attempt);
        assert!(outcomes.next().is_none(), "an attempt is missing");
        let text = String::from_utf8(screen.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().map(|l| l.splitn(3, ' ').nth(2).unwrap_or_default());
        (done, lines.map(|l| l.split(" in ").next().unwrap_or_default().to_string()).collect())
    }

    #[test]
    fn a_phase_ends_once_and_says_so() {
        assert_eq!(run(Policy::Degrade, &[Ok(())]), (true, vec!["phase clock ok".into(), "phases done".into()]));
        assert_eq!(run(Policy::Degrade, &[Err("x")]), (false, vec!["phase clock failed".into(), "phases done".into()]));
        let twice = vec!["phase clock failed".into(), "phase clock ok".into(), "phases done".into()];
        let retry = Policy::Retry { times: 1, then: Box::new(Policy::Shell) };
        assert_eq!(run(retry, &[Err("x"), Ok(())]), (true, twice));
    }
}
