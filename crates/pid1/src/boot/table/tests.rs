use super::*;
use bootwright_base::cmdline::parse_cmdline;
use bootwright_base::sys::fake::Fake;
use bootwright_contract::fixture::boot_config;
use std::io::Write;
use std::sync::Mutex;

fn retry(times: u32, then: Policy) -> Policy {
    Policy::Retry { times, then: Box::new(then) }
}

#[test]
fn recipes_know_the_phases() {
    assert_eq!(names(), bootwright_contract::PHASES);
}

#[test]
fn policies_are_read() {
    let cases = [
        ("degrade", Some(Policy::Degrade)),
        ("shell", Some(Policy::Shell)),
        ("reboot:5", Some(Policy::Reboot { after_s: 5 })),
        ("retry:3:reboot:5", Some(retry(3, Policy::Reboot { after_s: 5 }))),
        ("retry:0:degrade", Some(retry(0, Policy::Degrade))),
        ("reboot", None),
        ("reboot:soon", None),
        ("retry:3", None),
        ("retry:3:explode", None),
        ("", None),
    ];
    for (text, expected) in cases {
        assert_eq!(parse_policy(text), expected, "{text}");
    }
}

#[test]
fn command_line_before_config_before_table() {
    let mut config = boot_config();
    let empty = Cmdline::default();
    assert_eq!(policy_for("clock", Some(&config), &empty), Policy::Degrade);
    assert_eq!(policy_for("network", None, &empty), retry(0, Policy::Degrade));
    config.policies.insert("clock".into(), Policy::Shell);
    assert_eq!(policy_for("clock", Some(&config), &empty), Policy::Shell);
    let line = parse_cmdline("bw.policy.clock=reboot:1");
    assert_eq!(policy_for("clock", Some(&config), &line), Policy::Reboot { after_s: 1 });
    let line = parse_cmdline("bw.policy.clock=nonsense");
    assert_eq!(policy_for("clock", Some(&config), &line), Policy::Shell);
}

#[test]
fn steps_follow_the_policy() {
    let thrice = retry(2, retry(1, Policy::Reboot { after_s: 9 }));
    let cases = [
        (Policy::Degrade, 1, Step::GoOn),
        (Policy::Shell, 4, Step::Shell),
        (thrice.clone(), 1, Step::Again { after_s: 1 }),
        (thrice.clone(), 2, Step::Again { after_s: 2 }),
        (thrice.clone(), 3, Step::Again { after_s: 1 }),
        (thrice, 4, Step::Reboot { after_s: 9 }),
        (retry(0, Policy::Degrade), 1000, Step::Again { after_s: 10 }),
    ];
    for (policy, failures, expected) in cases {
        assert_eq!(next_step(&policy, failures), expected, "{policy:?} after {failures}");
    }
}

/// What is written can be read by the test.
#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn run(policy: Policy, outcomes: &[Result<(), &'static str>]) -> (bool, Vec<String>) {
    let screen = Screen::default();
    let timeline = Arc::new(Timeline::new(&["clock"], Box::new(screen.clone())));
    let sys: &'static dyn Sys = Box::leak(Box::new(Fake::default()));
    let mut outcomes = outcomes.iter();
    let mut body = || Ok(outcomes.next().expect("as many attempts as outcomes").map_err(WatchWord)?);
    let done = run_phase(sys, &timeline, "clock", &policy, &mut body);
    assert!(outcomes.next().is_none(), "an attempt is missing");
    let text = String::from_utf8(screen.0.lock().unwrap().clone()).unwrap();
    let lines = text.lines().map(|l| l.splitn(3, ' ').nth(2).unwrap_or_default());
    (done, lines.map(|l| l.split(" in ").next().unwrap_or_default().to_string()).collect())
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct WatchWord(&'static str);

#[test]
fn a_phase_ends_once_and_says_so() {
    assert_eq!(run(Policy::Degrade, &[Ok(())]), (true, vec!["phase clock ok".into(), "phases done".into()]));
    assert_eq!(run(Policy::Degrade, &[Err("x")]), (false, vec!["phase clock failed".into(), "phases done".into()]));
    let twice = vec!["phase clock failed".into(), "phase clock ok".into(), "phases done".into()];
    assert_eq!(run(retry(1, Policy::Shell), &[Err("x"), Ok(())]), (true, twice));
}

#[test]
fn a_phase_that_hangs_is_left_behind() {
    let timeline = Arc::new(Timeline::new(&[], Box::new(std::io::sink())));
    let machine = Arc::new(Machine::new(Box::leak(Box::new(Fake::default())), timeline));
    fn hang(_: &Machine) -> Result<(), PhaseError> {
        loop {
            thread::park();
        }
    }
    let phase = Phase { name: "hang", deadline_s: 0, policy: degrade, run: Run::Inline(hang) };
    let mut worker = None;
    assert_eq!(watched(&machine, &phase, hang, &mut worker).unwrap_err().to_string(), "not done after 0 s");
    assert!(worker.is_none(), "its thread hangs");
    let next = Phase { name: "next", deadline_s: 60, policy: degrade, run: Run::Inline(|_| Ok(())) };
    assert!(watched(&machine, &next, |_| Ok(()), &mut worker).is_ok());
    assert!(worker.is_some(), "it runs the next phase too");
    assert!(watched(&machine, &next, |_| Ok(()), &mut worker).is_ok());
}
