//! A budget as text.

use super::memory::{NodeMemory, SHOWN_MIB};
use super::ram::RamNeed;
use super::{BudgetReport, mb};
use bootwright_contract::MemoryPlan;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

/// The tables that `build` prints.
pub fn render(report: &BudgetReport) -> String {
    let mut text = boot_files(report);
    text.push_str(&components(report));
    text.push_str(&ram("RAM to unpack", &report.unpack, report.ram_limit_mib));
    text.push_str(&ram("RAM to run", &report.steady, report.ram_limit_mib));
    text.push_str(&nodes(report));
    text.push_str(&grown(report));
    text
}

fn boot_files(report: &BudgetReport) -> String {
    let mut table = new_table(&["boot files", "size", "limit"]);
    for part in &report.boot_files {
        table.add_row([part.name.clone(), mb(part.bytes), String::new()]);
    }
    let limit = report.boot_files_limit.map(mb).unwrap_or_default();
    if let Some(limit) = report.initrd_limit {
        table.add_row(["initrd of the network root".into(), mb(report.initrd_bytes), mb(limit)]);
    }
    table.add_row(["total".into(), mb(report.boot_files_bytes), limit]);
    finish(table, &[1, 2])
}

fn components(report: &BudgetReport) -> String {
    let mut table = new_table(&["component", "packed", "unpacked", "files", "limit"]);
    for line in &report.components {
        let limit = line.limit.map(mb).unwrap_or_default();
        table.add_row([line.name.clone(), mb(line.packed), mb(line.raw), line.files.to_string(), limit]);
    }
    finish(table, &[1, 2, 3, 4])
}

fn ram(title: &str, need: &RamNeed, limit_mib: Option<u64>) -> String {
    let mut table = new_table(&[title, "MiB", "from"]);
    for term in &need.terms {
        table.add_row([term.name.clone(), format!("{:.1}", term.bytes as f64 / 1048576.0), term.source.clone()]);
    }
    let limit = limit_mib.map(|limit| format!("limit {limit}")).unwrap_or_default();
    table.add_row(["total".into(), need.ram_mib.to_string(), limit]);
    finish(table, &[1])
}

/// What machines of each size have for pods.
fn nodes(report: &BudgetReport) -> String {
    let Some(node) = &report.node else { return String::new() };
    let header =
        ["MiB of RAM", "kernel and image", "system", "containerd", "kubelet", "pulled images", "for pods", "pods"];
    let mut table = new_table(&header);
    let least = report.unpack.ram_mib.max(report.steady.ram_mib);
    for ram_mib in SHOWN_MIB.into_iter().filter(|ram_mib| *ram_mib >= least) {
        let plan = node.at(ram_mib);
        let kib =
            [plan.held + plan.kernel, plan.system, plan.containerd + plan.shims, plan.kubelet, plan.images, plan.pods];
        let mut row = vec![ram_mib.to_string()];
        row.extend(kib.map(|kib| (kib >> 10).to_string()));
        row.push(plan.max_pods.to_string());
        table.add_row(row);
    }
    finish(table, &[0, 1, 2, 3, 4, 5, 6, 7])
}

/// How the memory of one machine is shared, term by term.
pub fn node_terms(node: &NodeMemory, ram_mib: u64) -> String {
    let title = format!("{ram_mib} MiB of RAM");
    let mut table = new_table(&[&title, "MiB", "from"]);
    for term in node.terms(ram_mib) {
        table.add_row([term.name, format!("{:.1}", term.bytes as f64 / 1048576.0), term.source]);
    }
    let MemoryPlan { eviction, max_pods, .. } = node.at(ram_mib);
    let pods =
        format!("{max_pods} pods; kubelet evicts where less than {:.1} MiB of it are free", eviction as f64 / 1024.0);
    table.add_row(["".into(), "".into(), pods]);
    finish(table, &[1])
}

fn grown(report: &BudgetReport) -> String {
    if report.grown.is_empty() {
        return String::new();
    }
    let mut table = new_table(&["grown since the last build", "before", "now", "by"]);
    for line in &report.grown {
        table.add_row([line.what.clone(), mb(line.before), mb(line.now), mb(line.now - line.before)]);
    }
    finish(table, &[1, 2, 3])
}

fn new_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header.to_vec());
    table
}

/// Aligns the columns of figures to the right.
fn finish(mut table: Table, figures: &[usize]) -> String {
    for &i in figures {
        if let Some(column) = table.column_mut(i) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("{}\n\n", table.trim_fmt())
}
