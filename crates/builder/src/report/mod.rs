//! `report.html` beside an image: one page without anything from elsewhere, for people.
//!
//! `build` writes it, `smoke` renews it. All that is drawn is worked out here: without a script the page still shows everything but
//! what a tile says when it is chosen.

mod boot;
mod changes;
#[cfg(test)]
mod tests;
mod tiles;
mod view;

pub use boot::{RamSample, SAMPLES};

use crate::budget::BudgetReport;
use crate::diff::{Diff, Side, compare};
use crate::emit::manifest::{MANIFEST, Manifest, load_manifest};
use crate::error::{Exit, Failure};
use base64::Engine;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Its name in an image's folder.
pub const REPORT: &str = "report.html";
/// What it is made from beside the manifest.
const INPUTS: &str = ".report.json";
const TEMPLATE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("page.js");
const STYLE: &str = include_str!("page.css");

/// Exit code 1.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    #[error("cannot {action} `{}`: {cause}", path.display())]
    Io { action: &'static str, path: PathBuf, cause: std::io::Error },
    #[error("cannot fill in `{REPORT}`: {0}")]
    Template(minijinja::Error),
}

impl ReportError {
    /// What to do.
    pub const HELP: &str = "check the image's folder, its permissions and the free space";
}

impl From<ReportError> for Failure {
    fn from(e: ReportError) -> Self {
        Self { exit: Exit::Other, message: e.to_string(), help: Some(ReportError::HELP.into()) }
    }
}

/// Kept beside the page, for when it is renewed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Inputs {
    budget: BudgetReport,
    /// To what the folder held before.
    difference: Option<Diff>,
}

/// Writes the page of an image that was just built.
pub fn write_report(
    dir: &Path,
    manifest: &Manifest,
    earlier: Option<&Manifest>,
    budget: &BudgetReport,
) -> Result<(), ReportError> {
    let difference = earlier.map(|earlier| compare(&Side::of_image(earlier), &Side::of_image(manifest)));
    let inputs = Inputs { budget: budget.clone(), difference };
    let json = serde_json::to_vec(&inputs).expect("inputs are plain data");
    put(&dir.join(INPUTS), &json)?;
    put(&dir.join(REPORT), page(manifest, &inputs, &dir.join("smoke"))?.as_bytes())
}

/// Writes the page of an image anew; nothing where no build has written one.
pub fn renew_report(dir: &Path) -> Result<(), ReportError> {
    let Ok(bytes) = std::fs::read(dir.join(INPUTS)) else { return Ok(()) };
    let (Ok(inputs), Ok(manifest)) = (serde_json::from_slice::<Inputs>(&bytes), load_manifest(&dir.join(MANIFEST)))
    else {
        // Of another version of this tool: the next build writes it.
        return Ok(());
    };
    put(&dir.join(REPORT), page(&manifest, &inputs, &dir.join("smoke"))?.as_bytes())
}

fn page(manifest: &Manifest, inputs: &Inputs, smoke: &Path) -> Result<String, ReportError> {
    let view = view::View::new(manifest, inputs, boot::load(smoke, &manifest.image_id));
    let mut templates = minijinja::Environment::new();
    // The name decides that what is filled in is escaped.
    templates.add_template(REPORT, TEMPLATE).map_err(ReportError::Template)?;
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(SCRIPT.as_bytes()));
    let view = minijinja::Value::from(minijinja::value::Serde(&view));
    let parts = minijinja::context! { view, script => SCRIPT, script_hash => hash, style => STYLE };
    templates.get_template(REPORT).and_then(|page| page.render(parts)).map_err(ReportError::Template)
}

/// Whole, or as it was; not synced, as it can be made again.
fn put(path: &Path, bytes: &[u8]) -> Result<(), ReportError> {
    let failed = |cause| ReportError::Io { action: "write", path: path.into(), cause };
    let dir = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644)).map_err(failed)?;
    file.persist(path).map_err(|e| failed(e.error))?;
    Ok(())
}
