//! Finds the smallest RAM with which an image reaches its expectations, by bisection.

use super::error::{FailedBoot, SmokeError};
use super::{Prepared, SmokeOptions, boot};
use crate::ui::Ui;
use serde::Serialize;
use std::path::Path;

/// RAM below which no such kernel starts.
const LEAST_MIB: u32 = 64;

/// One boot of the search.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Try {
    pub ram_mib: u32,
    pub passed: bool,
    /// Seconds since QEMU was started.
    pub wall_s: f64,
    /// Guest uptime of the last expectation that PID1 reported, seconds.
    pub uptime_s: Option<f64>,
    /// Why it did not pass.
    pub reason: Option<String>,
}

/// The result; serialised it is the document of `--min-ram --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MinRam {
    /// Layout of this document; 1.
    pub version: u32,
    pub recipe: String,
    /// The least that passed, in steps of `step_mib`.
    pub min_ram_mib: u32,
    pub step_mib: u32,
    pub tries: Vec<Try>,
}

/// Boots with less and less RAM, from `options.ram_mib` on. Each try's logs are in `smoke/min-ram/<MiB>/`.
pub fn find_min_ram(image_dir: &Path, options: &SmokeOptions, step_mib: u32, ui: &Ui) -> Result<MinRam, SmokeError> {
    let prepared = Prepared::new(image_dir, options, ui)?;
    let logs = prepared.image_dir.join("smoke/min-ram");
    let mut tries = Vec::new();
    let mut last_failure = None;
    let steps = options.ram_mib / step_mib;
    let found = bisect(LEAST_MIB / step_mib, steps, |step| {
        let ram_mib = step * step_mib;
        let dir = logs.join(ram_mib.to_string());
        let result = boot::boot_once(&prepared.boot(ram_mib), options, &dir, &prepared.interrupts, ui);
        let (done, failed) = judge(ram_mib, result)?;
        ui.say(format!("{ram_mib} MiB: {}", done.reason.as_deref().unwrap_or("passed")));
        let passed = done.passed;
        tries.push(done);
        last_failure = failed.or(last_failure.take());
        Ok::<bool, SmokeError>(passed)
    })?;
    match (found, last_failure) {
        (Some(step), _) => {
            let (version, recipe) = (1, options.recipe.clone());
            Ok(MinRam { version, recipe, min_ram_mib: step * step_mib, step_mib, tries })
        }
        (None, Some(last)) => {
            Err(SmokeError::NotEvenWithMost { recipe: options.recipe.clone(), ram_mib: steps * step_mib, last })
        }
        (None, None) => Err(SmokeError::NothingToTry { ram_mib: options.ram_mib, least_mib: LEAST_MIB }),
    }
}

/// What a boot means for the search; an error other than a failed boot ends it.
fn judge(
    ram_mib: u32,
    result: Result<super::SmokeReport, SmokeError>,
) -> Result<(Try, Option<Box<FailedBoot>>), SmokeError> {
    let (report, failed) = match result {
        Ok(report) => (report, None),
        Err(SmokeError::Failed(failed)) => {
            let reason = format!("{}: {}", failed.stage, failed.why);
            let (wall_s, uptime_s) = (failed.report.wall_s, None);
            return Ok((Try { ram_mib, passed: false, wall_s, uptime_s, reason: Some(reason) }, Some(failed)));
        }
        Err(e) => return Err(e),
    };
    let uptime_s = report.expectations.iter().filter_map(|r| r.uptime_s).reduce(f64::max);
    Ok((Try { ram_mib, passed: true, wall_s: report.wall_s, uptime_s, reason: None }, failed))
}

/// The smallest number in `low..=high` that passes, given that all above a passing one pass. `high` is tried first.
fn bisect<E>(low: u32, high: u32, mut passes: impl FnMut(u32) -> Result<bool, E>) -> Result<Option<u32>, E> {
    if high < low || !passes(high)? {
        return Ok(None);
    }
    let (mut low, mut best) = (low, high);
    while low < best {
        let middle = low + (best - low) / 2;
        match passes(middle)? {
            true => best = middle,
            false => low = middle + 1,
        }
    }
    Ok(Some(best))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bisection_finds_the_edge() {
        for edge in 8..=40 {
            let mut tried = Vec::new();
            let found = bisect(8, 40, |n| {
                tried.push(n);
                Ok::<bool, ()>(n >= edge)
            });
            assert_eq!(found, Ok(Some(edge)));
            assert!(tried.len() <= 7 && tried[0] == 40, "{tried:?}");
        }
        assert_eq!(bisect(8, 40, |_| Ok::<bool, ()>(false)), Ok(None));
        assert_eq!(bisect(8, 40, |_| Err(())), Err(()));
    }
}
