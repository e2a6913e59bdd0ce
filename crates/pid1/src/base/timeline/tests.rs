//! What the record holds, and what is written of it.

use super::*;

#[test]
fn what_waits_is_counted_for_the_phase_that_wants_it() {
    let timeline = Timeline::new(&["root"], Box::new(std::io::sink()));
    timeline.phase_start("root");
    timeline.phase_start("network");
    std::thread::sleep(std::time::Duration::from_millis(20));
    timeline.waited("root", 0.02);
    timeline.phase_end("root", Ok(()));
    timeline.waited("root", 0.02);
    let waited: Vec<f64> = timeline.snapshot().phases.iter().map(|p| p.waited_s).collect();
    assert_eq!(waited, [0.02, 0.0]);
    let took = |p: &PhaseRecord| p.end_s.unwrap() - p.start_s;
    assert!(waited[0] <= took(&timeline.snapshot().phases[0]));
}

#[test]
fn the_record_has_retries_and_restarts() {
    let timeline = Timeline::new(&["root"], Box::new(std::io::sink()));
    timeline.set_image("worker", "abc");
    timeline.phase_start("root");
    timeline.phase_end("root", Err("no\nluck"));
    timeline.phase_start("root");
    timeline.service_start("kubelet");
    timeline.service_ready("kubelet");
    timeline.service_start("kubelet");
    let record = timeline.snapshot();
    assert_eq!((record.recipe.as_str(), record.image_id.as_str()), ("worker", "abc"));
    let outcomes: Vec<_> = record.phases.iter().map(|p| (p.outcome.as_deref(), p.end_s.is_some())).collect();
    assert_eq!(outcomes, [(Some("no\nluck"), true), (None, false)]);
    assert_eq!(record.services.len(), 1);
    assert_eq!((record.services[0].restarts, record.services[0].ready_s), (1, None));
}

#[test]
fn a_note_is_one_printable_line() {
    let notes = std::env::temp_dir().join(format!("bootwright-notes-{}", std::process::id()));
    fs::create_dir_all(&notes).unwrap();
    for (text, note) in [
        (&b"host key SHA256:abc\nmore\n"[..], Some("host key SHA256:abc")),
        (b"\x1b[2Jx\xff\n", Some("[2Jx\u{fffd}")),
        (b"\n", None),
        (b"", None),
    ] {
        fs::write(notes.join("sshd"), text).unwrap();
        assert_eq!(note_of(&notes, "sshd").as_deref(), note);
    }
    fs::write(notes.join("sshd"), "x".repeat(100_000)).unwrap();
    assert_eq!(note_of(&notes, "sshd").unwrap().len(), 256);
    assert_eq!(note_of(&notes, "none"), None);
    std::os::unix::fs::symlink("sshd", notes.join("link")).unwrap();
    nix::unistd::mkfifo(&notes.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!((note_of(&notes, "link"), note_of(&notes, "fifo")), (None, None), "nobody waits for a writer");
    fs::remove_dir_all(notes).unwrap();
}

#[test]
fn of_many_tries_the_first_and_the_last_are_kept() {
    let timeline = Timeline::new(&["root"], Box::new(std::io::sink()));
    timeline.phase_start("early");
    for at in 1..=1000 {
        timeline.phase_start("root");
        timeline.phase_end("root", Err(&format!("try {at}: {}", "x".repeat(5000))));
    }
    timeline.phase_start("switch");
    timeline.phase_start("root");
    let phases = timeline.snapshot().phases;
    let names: Vec<(&str, u32)> = phases.iter().map(|p| (&p.name[..], p.tries)).collect();
    assert_eq!(names, [("early", 0), ("root", 0), ("switch", 0), ("root", 1001)]);
    let outcome = phases[1].outcome.as_deref().expect("it ended");
    assert!(outcome.starts_with("try 1: ") && outcome.len() < 1010, "{outcome}");
    assert_eq!(phases[3].outcome, None);
    timeline.phase_end("root", Ok(()));
    assert_eq!(timeline.snapshot().phases[3].outcome.as_deref(), Some("ok"));
}

/// A report is the timeline and little else; the server takes 256 KiB.
#[test]
fn the_largest_record_is_one_that_a_server_takes() {
    let timeline = Timeline::new(&[], Box::new(std::io::sink()));
    for phase in bootwright_contract::PHASES {
        for _ in 0..5 {
            timeline.phase_start(phase.name());
            timeline.phase_end(phase.name(), Err(&"\u{1}".repeat(5000)));
        }
    }
    timeline.set_unserved((0..5000).map(|at| format!("pci:v{at:0200}")).collect());
    let json = serde_json::to_vec(&timeline.snapshot()).expect("JSON");
    assert!(json.len() < 256 << 10, "{} bytes", json.len());
    assert_eq!((timeline.snapshot().unserved.len(), timeline.snapshot().unserved_more), (200, 4800));
}

#[test]
fn the_device_gets_the_last_change_and_many_at_once_are_one() {
    let path = std::env::temp_dir().join(format!("bootwright-timeline-{}", std::process::id()));
    fs::write(&path, "").unwrap();
    let timeline = Timeline::new(&["root"], Box::new(std::io::sink()));
    timeline.open_device(&path).unwrap();
    timeline.phase_start("root");
    for _ in 0..2000 {
        timeline.service_start("s");
    }
    timeline.phase_end("root", Ok(()));
    let until = std::time::Instant::now() + Duration::from_secs(20);
    let text = loop {
        let text = fs::read_to_string(&path).unwrap();
        let last = text.lines().last().and_then(|line| serde_json::from_str::<console::TimelineRecord>(line).ok());
        if last.is_some_and(|last| last.phases.iter().any(|phase| phase.outcome.as_deref() == Some("ok"))) {
            break text;
        }
        assert!(std::time::Instant::now() < until, "{text}");
        thread::sleep(Duration::from_millis(10));
    };
    assert!(text.ends_with('\n') && text.lines().count() < 100, "{} lines", text.lines().count());
    fs::remove_file(path).unwrap();
    assert!(timeline.open_device(Path::new("/nowhere/x")).is_err());
}
