//! Zoo: pods that take all of one thing, on a worker that has joined a cluster, for each of `ZOO_ROOTS` (`ram,nbd`) and of `ZOO_RAM_MIB`
//! (`512,1024`). Each is let loose once, then as many pods as the node takes start at once; what is left of `ZOO_MINUTES` (10) goes to all of
//! them again. A node that is silent or not Ready for 30 s, a Guaranteed pod that is ended, a culprit that nobody names, memory that does not
//! come back, or a PID1 that has grown fails it. `ZOO_ANIMALS` names some of them only. Prints the table of docs/memory.md.

use std::process::ExitCode;
use std::time::{Duration, Instant};
use testkit::QEMU;
use testkit::cluster::Cluster;
use testkit::lab_worker::{LabWorker, NODE};
use testkit::nbd::QEMU_NBD;
use testkit::need::{have, pinned_go};
use testkit::ssh::ssh_ok;
use testkit::zoo::{ALL, Animal, Visit, Zoo, add_animals, add_large_images};

/// By which PID1's own memory may differ: what it keeps of the ends of services.
const PID1_GROWTH_KIB: u64 = 64;

fn main() -> ExitCode {
    let setting = |name: &str, default: &str| {
        std::env::var(name).ok().filter(|value| !value.is_empty()).unwrap_or_else(|| default.into())
    };
    let minutes: f64 = setting("ZOO_MINUTES", "10").parse().expect("ZOO_MINUTES is a number");
    let (roots, sizes) = (setting("ZOO_ROOTS", "ram,nbd"), setting("ZOO_RAM_MIB", "512,1024"));
    let wanted = setting("ZOO_ANIMALS", "");
    let animals: Vec<Animal> = ALL
        .into_iter()
        .filter(|animal| wanted.is_empty() || wanted.split(',').any(|name| name == animal.name))
        .collect();
    if animals.is_empty() || !have(&[QEMU, QEMU_NBD, "mksquashfs", "ssh", "ssh-keygen"]) || pinned_go().is_none() {
        return ExitCode::FAILURE;
    }
    println!("| RAM | root | pod | ended | named by | kubelet silent | until all was back |");
    println!("|---|---|---|---|---|---|---|");
    for root in roots.split(',') {
        for ram in sizes.split(',') {
            let ram_mib = ram.parse().expect("ZOO_RAM_MIB is a list of numbers");
            visit(root, ram_mib, &animals, Duration::from_secs_f64(minutes * 60.0), wanted.is_empty());
        }
    }
    ExitCode::SUCCESS
}

fn visit(root: &str, ram_mib: u32, animals: &[Animal], time: Duration, fill_up: bool) {
    let cluster = Cluster::start();
    let add_images = |layout: &std::path::Path| {
        add_animals(layout);
        add_large_images(layout);
    };
    let worker = LabWorker::join(&cluster, "", (root != "ram").then_some(root), ram_mib, add_images);
    worker.proxy.answer_connect_at(&cluster.node_proxy());
    let zoo = Zoo::open(&cluster, NODE);
    let (begun, before) = (Instant::now(), zoo.pid1_kib());
    let mut rounds = 0;
    while rounds == 0 || begun.elapsed() < time {
        for animal in animals {
            let Visit { ended, named, silence, took } = zoo.let_loose(*animal);
            let (silence, took) = (silence.as_secs_f64(), took.as_secs_f64());
            println!("| {ram_mib} | {root} | {} | {ended} | {named} | {silence:.1} s | {took:.0} s |", animal.name);
        }
        if fill_up {
            println!("| {ram_mib} | {root} | {} pods at once | | | | |", zoo.fill_up());
        }
        rounds += 1;
    }
    let after = zoo.pid1_kib();
    println!(
        "\n{root}, {ram_mib} MiB: {rounds} rounds in {:.0} s; PID1 {before} KiB before, {after} KiB after\n",
        begun.elapsed().as_secs_f64()
    );
    assert!(after <= before + PID1_GROWTH_KIB, "PID1 had {before} KiB, and has {after} KiB");
    let status = ssh_ok(&worker.machine, "status");
    assert!(status.lines().any(|line| line.starts_with("kubelet ") && line.contains("ready")), "{status}");
}
