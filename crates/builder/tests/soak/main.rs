//! Soak: every server of a root is killed and restored at random under a load that reads and writes, all at the same time,
//! for `SOAK_MINUTES` (20). Every byte is checked; one error, one lost byte or one machine that does not come back fails it.
//! `SOAK_SEED` repeats a run's times, `SOAK_ROOTS` names some roots only.

mod image;
mod lab;
mod random;
mod rounds;
mod web;
mod writer;

use random::Random;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, SystemTime};
use testkit::{ganesha, nbd, need};

/// What one root went through.
struct Tally {
    /// Kills of its server.
    kills: u32,
    /// Losses that PID1 repaired, of the root and the volume; for http: boots.
    repaired: u64,
    /// From a server that takes connections again to bytes that were read from the root and written to the volume.
    recoveries: Vec<Duration>,
    /// What was checked, in words.
    checked: String,
}

fn main() -> ExitCode {
    let setting = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let minutes: f64 = setting("SOAK_MINUTES").map_or(20.0, |m| m.parse().expect("SOAK_MINUTES is a number"));
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let seed: u64 = setting("SOAK_SEED").map_or_else(now, |seed| seed.parse().expect("SOAK_SEED is a number"));
    let roots = setting("SOAK_ROOTS").unwrap_or("nbd,iscsi,nfs,http".into());
    let tools = [
        "qemu-system-x86_64",
        nbd::QEMU_NBD,
        nbd::NBD_SERVER,
        "tgtd",
        ganesha::GANESHA,
        "ssh",
        "ssh-keygen",
        "debugfs",
        "e2fsck",
    ];
    if !need::have(&tools) || !ganesha::is_root() {
        return ExitCode::FAILURE;
    }
    println!("soak: {roots} for {minutes} minutes; SOAK_SEED={seed} repeats it");
    // One image after the other, before the time starts.
    let labs: Vec<(String, Option<lab::Lab>)> =
        roots.split(',').map(|root| (root.to_string(), (root != "http").then(|| lab::Lab::prepare(root)))).collect();
    let web = labs.iter().any(|(root, _)| root == "http").then(web::image);
    let time = Duration::from_secs_f64(minutes * 60.0);
    let threads: Vec<_> = (1..)
        .zip(labs)
        .map(|(number, (root, lab))| {
            let (random, web) = (Random::new(seed.wrapping_add(number)), web.clone());
            let soak = move || match lab {
                Some(lab) => rounds::soak(lab, random, time),
                None => web::soak(&web.expect("it was built for this root"), random, time),
            };
            let thread = thread::Builder::new().name(root.clone()).spawn(soak).expect("a thread");
            (root, thread)
        })
        .collect();
    // A thread that panics has said why; the others go on to their end.
    let outcomes: Vec<_> = threads.into_iter().map(|(root, thread)| (root, thread.join().ok())).collect();
    println!("\nsoak: {minutes} minutes, seed {seed}");
    println!("{:<8}{:>8}{:>10}{:>10}{:>18}  checked", "root", "kills", "repaired", "median", "longest recovery");
    for (root, outcome) in &outcomes {
        match outcome {
            Some(Tally { kills, repaired, recoveries, checked }) => {
                let mut times: Vec<f64> = recoveries.iter().map(Duration::as_secs_f64).collect();
                times.sort_by(f64::total_cmp);
                let (median, longest) = (times.get(times.len() / 2), times.last());
                let [median, longest] = [median, longest].map(|time| time.copied().unwrap_or_default());
                println!("{root:<8}{kills:>8}{repaired:>10}{median:>8.1} s{longest:>16.1} s  {checked}");
            }
            None => println!("{root:<8}  FAILED: see above"),
        }
    }
    let failed = outcomes.iter().filter(|(_, outcome)| outcome.is_none()).count();
    println!("{}", if failed == 0 { "soak: passed, no error".into() } else { format!("soak: {failed} failed") });
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
