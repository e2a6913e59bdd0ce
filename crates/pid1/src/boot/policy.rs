//! What happens when a phase fails.

use bootwright_base::cmdline::Cmdline;
use bootwright_contract::{BootConfig, PhaseId, Policy};

/// The policy of a phase: from `bw.policy.<phase>=`, else from the boot config, else the default of the table.
pub fn policy_for(phase: PhaseId, default: Policy, config: Option<&BootConfig>, cmdline: &Cmdline) -> Policy {
    let asked = cmdline.value(&["bw.policy.", phase.name()].concat()).and_then(parse_policy);
    let baked = || config.and_then(|config| config.policies.get(phase.name())).cloned();
    asked.or_else(baked).unwrap_or(default)
}

/// Parses `degrade`, `shell`, `reboot:SECONDS` and `retry:TIMES:<policy>`.
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

/// What comes after a failed attempt.
#[derive(Debug, PartialEq)]
pub enum NextStep {
    Again { after_s: u64 },
    GoOn,
    Shell,
    Reboot { after_s: u32 },
}

/// The next step after so many failed attempts (at least 1).
pub fn next_step(policy: &Policy, failures: u32) -> NextStep {
    match policy {
        Policy::Degrade => NextStep::GoOn,
        Policy::Shell => NextStep::Shell,
        Policy::Reboot { after_s } => NextStep::Reboot { after_s: *after_s },
        Policy::Retry { times, .. } if *times == 0 || failures <= *times => {
            NextStep::Again { after_s: u64::from(failures.min(10)) }
        }
        Policy::Retry { times, then } => next_step(then, failures - times),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_base::cmdline::parse_cmdline;
    use bootwright_contract::fixture::boot_config;

    fn retry(times: u32, then: Policy) -> Policy {
        Policy::Retry { times, then: Box::new(then) }
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
        let policy = |config: &BootConfig, line: &str| {
            policy_for(PhaseId::Clock, Policy::Degrade, Some(config), &parse_cmdline(line))
        };
        assert_eq!(policy(&config, ""), Policy::Degrade);
        config.policies.insert("clock".into(), Policy::Shell);
        assert_eq!(policy(&config, ""), Policy::Shell);
        assert_eq!(policy(&config, "bw.policy.clock=reboot:1"), Policy::Reboot { after_s: 1 });
        assert_eq!(policy(&config, "bw.policy.clock=nonsense"), Policy::Shell);
        assert_eq!(policy(&config, "bw.policy.clock="), Policy::Shell);
        let none = policy_for(PhaseId::Clock, Policy::Degrade, None, &Cmdline::default());
        assert_eq!(none, Policy::Degrade);
    }

    #[test]
    fn steps_follow_the_policy() {
        let thrice = retry(2, retry(1, Policy::Reboot { after_s: 9 }));
        let cases = [
            (Policy::Degrade, 1, NextStep::GoOn),
            (Policy::Shell, 4, NextStep::Shell),
            (thrice.clone(), 1, NextStep::Again { after_s: 1 }),
            (thrice.clone(), 2, NextStep::Again { after_s: 2 }),
            (thrice.clone(), 3, NextStep::Again { after_s: 1 }),
            (thrice, 4, NextStep::Reboot { after_s: 9 }),
            (retry(0, Policy::Degrade), 1000, NextStep::Again { after_s: 10 }),
        ];
        for (policy, failures, expected) in cases {
            assert_eq!(next_step(&policy, failures), expected, "{policy:?} after {failures}");
        }
    }
}
