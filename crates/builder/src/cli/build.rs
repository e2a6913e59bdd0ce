//! `bootwright build`

use super::lock::{ChangeDocument, documents};
use super::{OutArgs, RecipeArgs};
use crate::budget::{self, BudgetReport, Violation};
use crate::emit::SbomFormats;
use crate::error::Failure;
use crate::kmod::Unserved;
use crate::loader_limits::Lint;
use crate::pipeline::{self, BuildOutcome, BuildRequest, Options};
use crate::recipe::{Allowance, RootMode};
use clap::Args;
use serde::Serialize;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub struct BuildArgs {
    #[command(flatten)]
    pub recipe: RecipeArgs,
    #[command(flatten)]
    pub out: OutArgs,
    /// Fail when the lock does not fit, instead of renewing it
    #[arg(long)]
    pub locked: bool,
    /// Take what the cache lacks from this folder, which `bootwright vendor` has filled, and nothing from a network
    #[arg(long, value_name = "DIR", requires = "locked")]
    pub vendor: Option<PathBuf>,
    /// Machine-readable result
    #[arg(long)]
    pub json: bool,
    /// Write the bill of materials in this format: SPDX always, CycloneDX beside it
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "spdx")]
    pub sbom: SbomFormats,
    /// Another PID1 than the one in this binary
    #[arg(long, value_name = "FILE")]
    pub init: Option<PathBuf>,
    /// Sign the root with this private key, so that initrds of earlier builds take it (roots on servers only)
    #[arg(long, value_name = "KEYFILE")]
    pub sign: Option<PathBuf>,
    /// Serial of the signed root [default: the time of the lock]
    #[arg(long, value_name = "N", requires = "sign")]
    pub serial: Option<u64>,
    /// Sign kernel modules with this private key (PEM, RSA), for kernels that load signed ones only
    #[arg(long, value_name = "KEY", requires = "module_cert")]
    pub module_key: Option<PathBuf>,
    /// Certificate of that key (PEM), which the machines' firmware or kernel trusts
    #[arg(long, value_name = "CERT", requires = "module_key")]
    pub module_cert: Option<PathBuf>,
}

/// The result for scripts.
#[derive(Serialize)]
struct BuildDocument<'a> {
    /// Layout of this document; 1.
    version: u32,
    recipe: &'a str,
    /// Where the root is.
    root: RootMode,
    dir: &'a Path,
    image_id: &'a str,
    unchanged: bool,
    /// Segments that were taken from the cache.
    reused: &'a [String],
    lock_changes: Vec<ChangeDocument>,
    budget: &'a BudgetReport,
    violations: Vec<Violation>,
    /// Modaliases of `[kernel] modaliases` that nothing serves.
    unserved: &'a [Unserved],
    /// Secrets that the recipe allows in the image.
    secrets: &'a [Allowance],
    /// What some loader cannot take of the image.
    lints: &'a [Lint],
}

pub fn run(args: &BuildArgs, options: &Options) -> Result<(), Failure> {
    let request = BuildRequest {
        out: args.out.out.clone(),
        locked: args.locked,
        sbom: args.sbom,
        pid1: args.init.clone(),
        sign: args.sign.clone(),
        serial: args.serial,
    };
    let outcome = pipeline::build(options, &request)?;
    if args.json {
        super::print_json(&document(&outcome))?;
    } else {
        super::print_out(&text(&outcome))?;
    }
    outcome.budget.check(&outcome.recipe)
}

fn document(outcome: &BuildOutcome) -> BuildDocument<'_> {
    BuildDocument {
        version: 1,
        recipe: &outcome.recipe,
        root: outcome.root,
        dir: &outcome.dir,
        image_id: &outcome.image_id,
        unchanged: outcome.unchanged,
        reused: &outcome.reused,
        lock_changes: outcome.renewed.as_ref().map(documents).unwrap_or_default(),
        budget: &outcome.budget,
        violations: outcome.budget.violations(),
        unserved: &outcome.unserved,
        secrets: &outcome.secrets,
        lints: &outcome.lints,
    }
}

fn text(outcome: &BuildOutcome) -> String {
    let lock = match &outcome.renewed {
        Some(diff) => format!("the lock was renewed:\n{diff}\n"),
        None => String::new(),
    };
    let table = budget::render(&outcome.budget);
    let place = outcome.dir.display();
    let last = match (outcome.unchanged, outcome.budget.violations().is_empty()) {
        (true, _) => format!("{place}: nothing changed"),
        (false, true) => format!("{place}: image {}", outcome.image_id),
        (false, false) => format!("{place}: not written"),
    };
    let mut unserved = String::new();
    if !outcome.unserved.is_empty() {
        unserved.push_str("\nno module serves these modaliases:\n");
        outcome.unserved.iter().for_each(|u| unserved.push_str(&format!("  {} ({})\n", u.modalias, u.origin)));
    }
    let secrets: String = outcome.secrets.iter().map(|allowed| format!("\n{allowed}\n")).collect();
    let lint = |lint: &Lint| format!("\nwarning: {}\n  help: {}\n", lint.message, lint.help);
    let lints: String = outcome.lints.iter().map(lint).collect();
    format!("{lock}{table}{unserved}{secrets}{lints}\n{last}\n")
}
