use super::*;

fn feed_all(lines: &[&str]) -> (BootProgress, Vec<News>) {
    let mut progress = BootProgress::default();
    let news = lines.iter().map(|l| progress.feed(l)).filter(|n| *n != News::None).collect();
    (progress, news)
}

#[test]
fn a_good_boot() {
    let (progress, news) = feed_all(&[
        "[    0.000000] Linux version 6.12",
        "bootwright: 1.000 phase mounts starts",
        "bootwright: 1.100 phase mounts ok in 0.100\r",
        "bootwright: 3.310 phases done",
        "[    3.4] bootwright: 3.400 service containerd ready in 0.100",
        "bootwright: 3.400 service sshd ready in 0.100",
        "bootwright: 8.912 service kubelet ready in 4.100",
    ]);
    assert_eq!(
        news,
        [
            News::Phase { name: "mounts".into(), took_s: 0.1 },
            News::Reached(Expectation::PhasesDone, 3.31),
            News::Reached(Expectation::Service("containerd".into()), 3.4),
            News::Reached(Expectation::Service("sshd".into()), 3.4),
            News::Reached(Expectation::Service("kubelet".into()), 8.912),
        ]
    );
    assert_eq!(progress.stage(), "services");
}

#[test]
fn troubles_end_a_boot_at_once() {
    let cases: [(&str, Trouble); 6] = [
        ("[    1.2] Initramfs unpacking failed: write error", Trouble::Unpack { reason: "write error".into() }),
        (
            "[    2.0] Kernel panic - not syncing: System is deadlocked on memory",
            Trouble::OutOfMemory {
                line: "[    2.0] Kernel panic - not syncing: System is deadlocked on memory".into(),
            },
        ),
        (
            "[    2.0] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100",
            Trouble::Panic { line: "Attempted to kill init! exitcode=0x00000100".into() },
        ),
        (
            "bootwright: 1.300 fatal verify: `/bootwright/root.img` is truncated: found 1 of 2 bytes",
            Trouble::Fatal {
                phase: "verify".into(),
                reason: "`/bootwright/root.img` is truncated: found 1 of 2 bytes".into(),
            },
        ),
        ("bootwright: 40.100 down poweroff", Trouble::Down { how: "poweroff".into() }),
        ("No more network devices", Trouble::Loader { line: "No more network devices".into() }),
    ];
    for (line, trouble) in cases {
        assert_eq!(feed_all(&[line]).1, [News::Trouble(trouble)], "{line}");
    }
}

#[test]
fn a_phase_that_is_retried_may_fail_first() {
    let failed = "bootwright: 9.480 phase network failed in 6.000: no carrier on eth0";
    let ok = "bootwright: 12.480 phase network ok in 3.000";
    let done = "bootwright: 13.000 phases done";
    assert_eq!(feed_all(&[failed, ok, done]).1[1], News::Reached(Expectation::PhasesDone, 13.0));
    let trouble = Trouble::Phase { phase: "network".into(), reason: "no carrier on eth0".into() };
    assert_eq!(feed_all(&[ok, failed, done]).1[1], News::Trouble(trouble));
}

#[test]
fn a_service_that_keeps_failing_is_given_up() {
    let fails = "bootwright: 9.0 service kubelet failed: exit status 1";
    assert_eq!(feed_all(&[fails; 4]).1, []);
    assert_eq!(feed_all(&[fails; 5]).1.len(), 1);
    let ready = "bootwright: 9.0 service kubelet ready in 1.0";
    assert_eq!(feed_all(&[fails, fails, fails, ready, fails, fails]).1.len(), 1, "ready starts the count again");
}

#[test]
fn the_stage_names_what_hangs() {
    let cases: [(&[&str], &str); 5] = [
        (&[], "firmware or network loader"),
        (&["[    0.0] Linux version 6.12"], "kernel, before PID1"),
        (&["bootwright: 1.0 phase network starts"], "phase network"),
        (&["bootwright: 1.0 phase network ok in 0.1"], "after phase network"),
        (
            &[
                "bootwright: 1.0 phases done",
                "bootwright: 1.0 phase x ok in 0.1",
                "bootwright: 2.0 service k failed: x",
            ],
            "services, `k` failed 1 times",
        ),
    ];
    for (lines, stage) in cases {
        assert_eq!(feed_all(lines).0.stage(), stage);
    }
}
