use super::*;

#[test]
fn until_cuts_the_list() {
    use Expectation::*;
    let web = || Service("web".into());
    let all = [PhasesDone, web(), Service("db".into())];
    let cases = [(PhasesDone, vec![PhasesDone]), (web(), vec![PhasesDone, web()]), (SshAnswers, vec![SshAnswers])];
    for (until, expected) in cases {
        assert_eq!(expect_until(&all, &until), expected, "{until}");
    }
}

/// A boot that reached its first expectation and failed in the network phase.
fn failed_boot(why: Why) -> FailedBoot {
    let reached = |expectation, wall_s| Reached { expectation, uptime_s: None, wall_s };
    let phase = |name: &str, outcome: Option<&str>| SeenPhase {
        name: name.into(),
        end_s: None,
        took_s: Some(0.5),
        outcome: outcome.map(Into::into),
    };
    let report = SmokeReport {
        version: 1,
        recipe: "worker".into(),
        passed: false,
        failure: None,
        engine: Engine::Tcg,
        via: Via::Kernel,
        firmware: Firmware::Bios,
        ram_mib: 512,
        smp: 2,
        wall_s: 61.5,
        expectations: vec![reached(Expectation::PhasesDone, Some(3.0)), reached(Expectation::SshAnswers, None)],
        phases: vec![phase("mounts", Some("ok")), phase("network", None)],
        powerdown_s: None,
        console_log: "out/worker/smoke/console.log".into(),
        kernel_log: None,
        service_logs: BTreeMap::new(),
        command: "qemu-system-x86_64 -m 512".into(),
        ssh_port: None,
        qmp_socket: None,
        qemu_pid: None,
        kept: None,
    };
    let tail = vec!["line <one>".into(), "line two".into()];
    let service = |service: &str, lines: &[&str], path: Option<&str>| ServiceTail {
        service: service.into(),
        path: path.map(PathBuf::from),
        lines: lines.iter().map(|line| line.to_string()).collect(),
    };
    let services =
        vec![service("web", &["cannot bind"], Some("out/worker/smoke/services/web.log")), service("db", &[], None)];
    let (stage, missing) = ("phase network".into(), vec![Expectation::SshAnswers]);
    FailedBoot { why, stage, missing, tail, services, logs_problem: Some(LogsError::NoPid1), report }
}

#[test]
fn a_failure_says_where_why_and_how_to_go_on() {
    let failure = crate::error::Failure::from(SmokeError::Failed(Box::new(failed_boot(Why::Deadline { after_s: 60 }))));
    assert_eq!(failure.exit, crate::error::Exit::SmokeFailed);
    let text = failure.to_string();
    for part in [
        "smoke boot of `worker` failed in phase network: not reached within 60 s\n",
        "not reached: `ssh-answers`\n",
        "\n    line two\n",
        "last lines of `web` (out/worker/smoke/services/web.log):\n    cannot bind\n",
        "`db` failed; its log is not there or empty\n",
        "logs of services and of the kernel are missing: PID1 had not begun\n",
        "console log: out/worker/smoke/console.log\n",
        ": qemu-system-x86_64 -m 512\n",
        "help: raise --deadline-s",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}

#[test]
fn each_cause_has_its_own_help() {
    let help = |trouble| failed_boot(Why::Trouble(trouble)).help();
    assert!(help(Trouble::Unpack { reason: "write error".into() }).contains("--ram-mib"));
    assert!(help(Trouble::Unpack { reason: "invalid magic".into() }).contains("build the image again"));
    assert!(help(Trouble::OutOfMemory { line: String::new() }).contains("--min-ram"));
    assert!(help(Trouble::Panic { line: String::new() }).contains("--smp 1"));
}

#[test]
fn junit_has_a_case_an_expectation_and_one_a_phase() {
    let boot = failed_boot(Why::Deadline { after_s: 60 });
    let failed = junit::Failed { why: &boot.why, stage: &boot.stage, tail: &boot.tail };
    let xml = junit::render(&boot.report, Some(failed)).unwrap();
    for part in [
        r#"tests="4""#,
        r#"failures="2""#,
        r#"<testcase name="phases-done" classname="smoke.worker.expectation" time="3.000"/>"#,
        r#"<failure message="phase network: not reached within 60 s"/>"#,
        r#"<failure message="did not end"/>"#,
        "line &lt;one&gt;\nline two",
    ] {
        assert!(xml.contains(part), "no {part} in {xml}");
    }
}
