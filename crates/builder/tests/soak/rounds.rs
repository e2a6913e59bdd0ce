//! A machine whose servers come and go.

use crate::Tally;
use crate::lab::Lab;
use crate::random::Random;
use crate::writer;
use serde_json::Value;
use std::thread;
use std::time::{Duration, Instant};
use testkit::running::wait_until;
use testkit::ssh::{power_off, ssh_ok};

/// Several machines share the processors; a quiet machine takes less than 2 s.
const RECOVERY_LIMIT: Duration = Duration::from_secs(60);
/// What the machine or the kernel must never have said.
const BAD: [&str; 6] = ["I/O error", "SQUASHFS error", "EXT4-fs error", "EXT4-fs warning", "Call Trace", "is gone"];

pub fn soak(mut lab: Lab, mut random: Random, time: Duration) -> Tally {
    let machine = lab.boot();
    lab.start_load(&machine);
    writer::start(&machine, &lab);
    let (mut kills, mut recoveries) = (0, Vec::new());
    let until = Instant::now() + time;
    while Instant::now() < until {
        thread::sleep(random.millis(1_000, 12_000));
        lab.kill();
        kills += 1;
        thread::sleep(away(&mut random));
        // Sometimes it only looks as if they were back.
        if random.below(4) == 0 {
            lab.restore();
            thread::sleep(random.millis(0, 1_500));
            lab.kill();
            kills += 1;
            thread::sleep(random.millis(100, 3_000));
        }
        let told = lab.image.console().len();
        lab.restore();
        let since = Instant::now();
        let mut halves = [None; 2];
        wait_until("bytes are read and written again", RECOVERY_LIMIT, || {
            let went_on = writer::went_on(lab.image.console().get(told..).unwrap_or_default());
            for (half, _) in halves.iter_mut().zip(went_on).filter(|(half, went_on)| half.is_none() && *went_on) {
                *half = Some(since.elapsed());
            }
            halves.iter().all(Option::is_some)
        });
        let [read, written] = halves.map(Option::unwrap_or_default);
        recoveries.push(read.max(written));
        if read.max(written) > Duration::from_secs(2) {
            let name = thread::current().name().unwrap_or_default().to_string();
            let [read, written] = [read, written].map(|time| time.as_secs_f64());
            println!("{name}: recovery {kills} took {read:.1} s until a read, {written:.1} s until a write");
        }
    }
    lab.check_load(&machine);
    let blocks = writer::stop(&machine);
    let rounds = ssh_ok(&machine, "grep -c '^read ' /run/load.log").trim().to_string();
    let repaired = losses(&ssh_ok(&machine, "cat /run/bootwright/roots.json"));
    power_off(machine);
    let console = lab.image.console();
    for bad in BAD.iter().chain(&["did not end in order", "stays mounted"]) {
        assert!(!console.contains(bad), "{bad} in {console}");
    }
    writer::check(&lab, blocks);
    let checked = format!("the root {rounds} times, {blocks} blocks of 64 KiB on the volume");
    Tally { kills, repaired, recoveries, checked }
}

/// How long servers are away: mostly some seconds, sometimes a moment, sometimes long.
fn away(random: &mut Random) -> Duration {
    match random.below(4) {
        0 => random.millis(50, 1_000),
        1 => random.millis(8_000, 25_000),
        _ => random.millis(1_000, 8_000),
    }
}

/// The sum over root and volume; all are up.
fn losses(roots: &str) -> u64 {
    let roots: Value = serde_json::from_str(roots).expect("PID1 writes JSON");
    let roots = roots.as_array().expect("a list").clone();
    assert!(roots.iter().all(|root| root["state"] == "up"), "{roots:#?}");
    roots.iter().filter_map(|root| root["losses"].as_u64()).sum()
}
