//! `bootwright budget`

use super::{OutArgs, RecipeArgs, print_json, print_out, usage};
use crate::budget::ram::{RamNeed, RamTerm};
use crate::budget::{ComponentLine, mb, node_terms};
use crate::emit::SbomFormats;
use crate::error::Failure;
use crate::pipeline::{self, BuildRequest, Options};
use crate::recipe::RootMode;
use bootwright_contract::MemoryPlan;
use clap::Args;
use serde::Serialize;

/// What most machines of a lab have at least.
const RAM_MIB: u64 = 512;

#[derive(Debug, Args)]
pub struct BudgetArgs {
    #[command(flatten)]
    pub recipe: RecipeArgs,
    #[command(flatten)]
    pub out: OutArgs,
    /// RAM of the machine in MiB
    #[arg(long, value_name = "MIB", default_value_t = RAM_MIB, value_parser = clap::value_parser!(u64).range(32..=1 << 24))]
    pub ram: u64,
    /// Machine-readable result
    #[arg(long)]
    pub json: bool,
}

/// The result for scripts.
#[derive(Serialize)]
struct BudgetDocument<'a> {
    /// Layout of this document; 1.
    version: u32,
    recipe: &'a str,
    root: RootMode,
    ram_mib: u64,
    /// All of the RAM by what it is for; bytes.
    terms: Vec<RamTerm>,
    /// As PID1 shares out what the kernel leaves; KiB.
    plan: MemoryPlan,
    /// The least RAM that holds it.
    unpack: &'a RamNeed,
    /// What of the image is in memory, packed, by component; empty where the root is on a server.
    components: &'a [ComponentLine],
}

/// Builds the image unless that is done, and shows how a machine's memory is shared with it.
///
/// # Errors
/// Those of a build; and a recipe without `[memory]` shares nothing out.
pub fn run(args: &BudgetArgs, options: &Options) -> Result<(), Failure> {
    let request = BuildRequest {
        out: args.out.out.clone(),
        locked: false,
        sbom: SbomFormats::Spdx,
        pid1: None,
        sign: None,
        serial: None,
    };
    let outcome = pipeline::build(options, &request)?;
    let budget = &outcome.budget;
    let Some(node) = &budget.node else {
        let message =
            format!("`{}` has no `[memory]`, so nothing of a node's memory is kept for anybody", outcome.recipe);
        return Err(usage(&message, "add `[memory]` to the recipe (docs/memory.md)"));
    };
    if args.ram < budget.unpack.ram_mib {
        let message = format!("{} MiB of RAM are not enough to unpack `{}`", args.ram, outcome.recipe);
        return Err(usage(&message, &format!("name at least {} MiB with --ram", budget.unpack.ram_mib)));
    }
    let in_memory = matches!(outcome.root, RootMode::Ram | RootMode::Http);
    let components = if in_memory { &budget.components[..] } else { &[] };
    if args.json {
        return print_json(&BudgetDocument {
            version: 1,
            recipe: &outcome.recipe,
            root: outcome.root,
            ram_mib: args.ram,
            terms: node.terms(args.ram),
            plan: node.at(args.ram),
            unpack: &budget.unpack,
            components,
        });
    }
    let mut text = node_terms(node, args.ram);
    if in_memory {
        text.push_str("the image by component, packed:\n");
    }
    for line in components {
        text.push_str(&format!("  {} {}\n", mb(line.packed), line.name));
    }
    print_out(&text)
}
