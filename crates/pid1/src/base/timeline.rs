//! What happened since the kernel started: console lines for people, JSON for programs.
//!
//! Shared by all threads. Console lines are [`console::Line`]s; the JSON is [`console::Timeline`], in
//! [`paths::TIMELINE`] once `/run` is mounted and, one line a change, on the device that `bw.timeline=` names.

use crate::base::console::Terminal;
use bootwright_base::files::replace_file;
use bootwright_base::sys;
use bootwright_contract::console::{self, Event, Line, PhaseRecord, ServiceRecord};
use bootwright_contract::paths;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Recorder of phases and services.
pub struct Timeline {
    state: Mutex<State>,
}

struct State {
    record: console::Timeline,
    /// Phases that must be over before "phases done".
    pending: Vec<String>,
    out: Box<dyn Write + Send>,
    /// `bw.timeline=`: gets the JSON on every change.
    device: Option<Terminal>,
    /// `/run` is mounted: write the JSON file.
    run_mounted: bool,
    /// `bw.debug`: also say when a phase starts.
    verbose: bool,
    /// How often the record has changed.
    changes: u64,
}

impl Timeline {
    /// A timeline that says "phases done" once each of `phases` is over.
    pub fn new(phases: &[&str], out: Box<dyn Write + Send>) -> Timeline {
        let record = console::Timeline { version: 1, ..Default::default() };
        let pending = phases.iter().map(|p| p.to_string()).collect();
        Timeline {
            state: Mutex::new(State {
                record,
                pending,
                out,
                device: None,
                run_mounted: false,
                verbose: false,
                changes: 0,
            }),
        }
    }

    /// Names the image in the JSON.
    pub fn set_image(&self, recipe: &str, image_id: &str) {
        let mut state = self.lock();
        state.record.recipe = recipe.into();
        state.record.image_id = image_id.into();
    }

    /// Also says when a phase starts.
    pub fn set_verbose(&self, verbose: bool) {
        self.lock().verbose = verbose;
    }

    /// From now on the JSON is written to `/run/bootwright`.
    pub fn run_is_mounted(&self) {
        let mut state = self.lock();
        state.run_mounted = true;
        state.publish();
    }

    /// Also writes the JSON to a device such as `/dev/ttyS1`, one line a change.
    pub fn open_device(&self, path: &Path) -> std::io::Result<()> {
        let device = Terminal::open(path)?;
        let mut state = self.lock();
        state.device = Some(device);
        state.publish();
        Ok(())
    }

    /// A phase starts (again, when it is retried).
    pub fn phase_start(&self, name: &str) {
        self.phase_begins(name);
        self.lock().publish();
    }

    /// The same for one that nobody would see: the record is written when it ends, or is slow.
    pub fn phase_begins(&self, name: &str) {
        let now = uptime_s();
        let mut state = self.lock();
        let record = PhaseRecord { name: name.into(), start_s: now, end_s: None, waited_s: 0.0, outcome: None };
        state.record.phases.push(record);
        if state.verbose {
            state.say(now, Event::PhaseStart { phase: name.into() });
        }
    }

    /// Says when the phase started, for one that takes its time; the others are told by their end alone.
    pub fn phase_is_slow(&self, name: &str) {
        let mut state = self.lock();
        let start_s = state.record.phases.iter().rev().find(|p| p.name == name && p.end_s.is_none()).map(|p| p.start_s);
        if let Some(start_s) = start_s.filter(|_| !state.verbose) {
            state.say(start_s, Event::PhaseStart { phase: name.into() });
        }
        state.publish();
    }

    /// The running attempt at that phase spent so many seconds waiting for the network or a server.
    pub fn waited(&self, phase: &str, seconds: f64) {
        let mut state = self.lock();
        let running = |p: &&mut PhaseRecord| p.end_s.is_none() && p.name == phase;
        if let Some(record) = state.record.phases.iter_mut().rev().find(running) {
            record.waited_s += seconds;
        }
    }

    /// The phase that was started last under this name has ended.
    pub fn phase_end(&self, name: &str, outcome: Result<(), &str>) {
        let now = uptime_s();
        let mut state = self.lock();
        let mut took_s = 0.0;
        if let Some(record) = state.record.phases.iter_mut().rev().find(|p| p.name == name) {
            took_s = now - record.start_s;
            record.end_s = Some(now);
            record.outcome = Some(outcome.err().unwrap_or("ok").into());
        }
        let phase = name.to_string();
        let event = match outcome {
            Ok(()) => Event::PhaseOk { phase, took_s },
            Err(reason) => Event::PhaseFailed { phase, took_s, reason: one_line(reason) },
        };
        state.say(now, event);
        state.publish();
    }

    /// The phase will not be tried again and the boot goes on; says "phases done" after the last one.
    pub fn phase_over(&self, name: &str) {
        let mut state = self.lock();
        let before = state.pending.len();
        state.pending.retain(|p| p != name);
        if state.pending.is_empty() && before > 0 {
            state.say(uptime_s(), Event::PhasesDone);
        }
    }

    /// Lists the modaliases that found no module; says how many there are.
    pub fn set_unserved(&self, unserved: Vec<String>) {
        let mut state = self.lock();
        if !unserved.is_empty() {
            let text = [&unserved.len().to_string(), " modaliases found no module: the timeline lists them"].concat();
            state.say(uptime_s(), Event::Note { text });
        }
        state.record.unserved = unserved;
        state.publish();
    }

    /// A service is started: the first time makes its record, further ones count as restarts.
    pub fn service_start(&self, name: &str) {
        let now = uptime_s();
        let mut state = self.lock();
        match state.record.services.iter_mut().find(|s| s.name == name) {
            Some(record) => {
                record.restarts += 1;
                record.start_s = now;
                record.ready_s = None;
            }
            None => state.record.services.push(ServiceRecord {
                name: name.into(),
                start_s: now,
                ready_s: None,
                restarts: 0,
                note: None,
            }),
        }
        state.publish();
    }

    /// The service answers.
    pub fn service_ready(&self, name: &str) {
        let now = uptime_s();
        let note = note_of(Path::new(paths::NOTES), name);
        let mut state = self.lock();
        let mut took_s = 0.0;
        if let Some(record) = state.record.services.iter_mut().find(|s| s.name == name) {
            took_s = now - record.start_s;
            record.ready_s = Some(now);
            record.note.clone_from(&note);
        }
        state.say(now, Event::ServiceReady { service: name.into(), took_s });
        if let Some(note) = note {
            state.say(now, Event::Note { text: [name, ": ", &note].concat() });
        }
        state.publish();
    }

    /// The service ended or did not become ready.
    pub fn service_failed(&self, name: &str, reason: &str) {
        let event = Event::ServiceFailed { service: name.into(), reason: one_line(reason) };
        self.lock().say(uptime_s(), event);
    }

    /// A line for people.
    pub fn note(&self, text: &str) {
        self.lock().say(uptime_s(), Event::Note { text: one_line(text) });
    }

    /// The boot cannot go on.
    pub fn fatal(&self, phase: &str, reason: &str) {
        self.lock().say(uptime_s(), Event::Fatal { phase: phase.into(), reason: one_line(reason) });
    }

    /// The machine goes down now.
    pub fn down(&self, how: &str) {
        self.lock().say(uptime_s(), Event::Down { how: how.into() });
    }

    /// A number that grows with each change of the record.
    pub fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// The record so far.
    pub fn snapshot(&self) -> console::Timeline {
        self.lock().record.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn say(&mut self, uptime_s: f64, event: Event) {
        let line = Line { uptime_s, event };
        // One write a line, so that lines of other writers do not fall into it. A console that is gone stops nothing.
        let _ = self.out.write_all(format!("{line}\n").as_bytes());
    }

    fn publish(&mut self) {
        self.changes += 1;
        if !self.run_mounted && self.device.is_none() {
            return;
        }
        let Ok(mut json) = serde_json::to_vec(&self.record) else { return };
        json.push(b'\n');
        // The record is a convenience: a full /run or a dead serial line must not stop the boot.
        if self.run_mounted {
            let _ = replace_file(Path::new(paths::TIMELINE), &json);
        }
        if let Some(device) = &mut self.device {
            let _ = device.write_all(&json);
        }
    }
}

/// The first line of a service's note, printable and at most [`MAX_NOTE`] bytes of it. `/run` is memory: reading waits for nothing.
fn note_of(notes: &Path, service: &str) -> Option<String> {
    let mut text = Vec::new();
    let file = fs::File::open(notes.join(service)).ok()?;
    file.take(MAX_NOTE).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    let line: String = text.lines().next()?.chars().filter(|c| !c.is_control()).collect();
    Some(line.trim().to_string()).filter(|line| !line.is_empty())
}

const MAX_NOTE: u64 = 256;

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

fn uptime_s() -> f64 {
    sys::uptime().as_secs_f64()
}

#[cfg(test)]
mod tests {
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
        fs::remove_dir_all(notes).unwrap();
    }

    #[test]
    fn the_device_gets_one_line_a_change() {
        let path = std::env::temp_dir().join(format!("bootwright-timeline-{}", std::process::id()));
        fs::write(&path, "").unwrap();
        let timeline = Timeline::new(&["root"], Box::new(std::io::sink()));
        timeline.open_device(&path).unwrap();
        timeline.phase_start("root");
        timeline.phase_end("root", Ok(()));
        let text = fs::read_to_string(&path).unwrap();
        let last: console::Timeline = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(last.phases[0].outcome.as_deref(), Some("ok"));
        assert_eq!(text.lines().count(), 3);
        fs::remove_file(path).unwrap();
        assert!(timeline.open_device(Path::new("/nowhere/x")).is_err());
    }
}
