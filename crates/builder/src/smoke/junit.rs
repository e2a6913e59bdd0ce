//! The JUnit report: a test case an expectation, and one a phase.

use super::{SmokeError, SmokeReport, Why};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use std::time::Duration;

/// What ended the boot early: the reason and the console's last lines.
#[derive(Debug, Clone, Copy)]
pub struct Failed<'a> {
    pub why: &'a Why,
    pub stage: &'a str,
    pub tail: &'a [String],
}

/// Renders the report. What was not reached is a failure if the boot failed.
pub fn render(report: &SmokeReport, failed: Option<Failed<'_>>) -> Result<String, SmokeError> {
    let mut suite = TestSuite::new(format!("smoke.{}", report.recipe));
    suite.set_time(seconds(report.wall_s));
    for (name, value) in [
        ("engine", format!("{:?}", report.engine).to_lowercase()),
        ("ram_mib", report.ram_mib.to_string()),
        ("smp", report.smp.to_string()),
    ] {
        suite.add_property((name.to_string(), value));
    }
    for reached in &report.expectations {
        let mut case = TestCase::new(reached.expectation.to_string(), status(reached.wall_s.is_some(), failed));
        case.set_classname(format!("smoke.{}.expectation", report.recipe));
        case.set_time(seconds(reached.wall_s.unwrap_or(report.wall_s)));
        suite.add_test_case(case);
    }
    for phase in &report.phases {
        let mut case = TestCase::new(phase.name.clone(), phase_status(phase.outcome.as_deref()));
        case.set_classname(format!("smoke.{}.phase", report.recipe));
        case.set_time(seconds(phase.took_s.unwrap_or(0.0)));
        suite.add_test_case(case);
    }
    if let Some(failed) = failed {
        suite.set_system_out(failed.tail.join("\n"));
    }
    let mut document = Report::new("bootwright smoke");
    document.set_time(seconds(report.wall_s));
    document.add_test_suite(suite);
    document.to_string().map_err(|e| SmokeError::Junit { problem: e.to_string() })
}

fn seconds(s: f64) -> Duration {
    Duration::try_from_secs_f64(s).unwrap_or_default()
}

fn status(reached: bool, failed: Option<Failed<'_>>) -> TestCaseStatus {
    match failed {
        Some(failed) if !reached => failure(format!("{}: {}", failed.stage, failed.why)),
        _ => TestCaseStatus::success(),
    }
}

fn phase_status(outcome: Option<&str>) -> TestCaseStatus {
    match outcome {
        Some("ok") => TestCaseStatus::success(),
        Some(reason) => failure(reason.to_string()),
        None => failure("did not end".to_string()),
    }
}

fn failure(message: String) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    status.set_message(message);
    status
}
