//! Records what happens from the start of the kernel on: as console lines for people, and as JSON for programs.
//!
//! All threads share the timeline, and none waits for it: lines go to [`crate::base::console::Console`], which never
//! waits, and another thread writes the JSON. Console lines are [`console::Line`]s. The JSON is a
//! [`console::TimelineRecord`]: in the file [`paths::TIMELINE`] once `/run` is mounted, and on the device of `bw.timeline=`,
//! one line each time.

use crate::base::console::{Screen, Terminal};
use crate::base::printable::{bounded, one_line, printable};
use bootwright_base::background;
use bootwright_base::files::replace_file;
use bootwright_base::sys;
use bootwright_contract::console::{self, Event, Line, PhaseRecord, ServiceRecord};
use bootwright_contract::paths;
use nix::libc;
use std::fs;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Pause between two writes of the JSON. Changes within it are written together.
const BETWEEN_WRITES: Duration = Duration::from_millis(50);
/// Limit for [`Timeline::flush`].
const FLUSH_WAIT: Duration = Duration::from_secs(2);
/// At most so many modaliases without a module are listed.
const MOST_UNSERVED: usize = 200;

/// Records phases and services.
pub struct Timeline {
    shared: Arc<SharedTimeline>,
}

struct SharedTimeline {
    state: Mutex<TimelineState>,
    /// Signals the thread that writes.
    changed: Condvar,
}

struct TimelineState {
    record: console::TimelineRecord,
    /// Phases that are not over yet. When the last one is, the line "phases done" is written.
    pending: Vec<String>,
    screen: Box<dyn Screen>,
    /// The device of `bw.timeline=`. The thread takes it out while it writes to it.
    device: Option<Terminal>,
    /// Whether `/run` is mounted, so that the file can be written.
    run_mounted: bool,
    /// `bw.debug`: also writes a line when a phase starts.
    verbose: bool,
    /// Number of changes of the record.
    changes: u64,
    /// Number of the last change that was written.
    written: u64,
    has_thread: bool,
}

impl Timeline {
    /// Makes a timeline that writes "phases done" when all `phases` are over.
    pub fn new(phases: &[&str], screen: Box<dyn Screen>) -> Timeline {
        let state = TimelineState {
            record: console::TimelineRecord { version: 1, ..Default::default() },
            pending: phases.iter().map(|p| p.to_string()).collect(),
            screen,
            device: None,
            run_mounted: false,
            verbose: false,
            changes: 0,
            written: 0,
            has_thread: false,
        };
        Timeline { shared: Arc::new(SharedTimeline { state: Mutex::new(state), changed: Condvar::new() }) }
    }

    /// Sets the image's name and id in the JSON.
    pub fn set_image(&self, recipe: &str, image_id: &str) {
        let mut state = self.lock();
        state.record.recipe = recipe.into();
        state.record.image_id = image_id.into();
    }

    /// Whether to write a line when a phase starts.
    pub fn set_verbose(&self, verbose: bool) {
        self.lock().verbose = verbose;
    }

    /// Writes the JSON to `/run/bootwright` from now on.
    pub fn run_is_mounted(&self) {
        self.lock().run_mounted = true;
        self.write_from_now_on();
    }

    /// Also writes the JSON to a device such as `/dev/ttyS1`.
    pub fn open_device(&self, path: &Path) -> std::io::Result<()> {
        let device = Terminal::open(path)?;
        self.lock().device = Some(device);
        self.write_from_now_on();
        Ok(())
    }

    /// Starts the thread that writes, unless it runs.
    fn write_from_now_on(&self) {
        self.publish(&mut self.lock());
        if std::mem::replace(&mut self.lock().has_thread, true) {
            return;
        }
        let shared = self.shared.clone();
        if let Err(error) = background::spawn("timeline", Box::new(move || shared.write_changes())) {
            self.note(&["nobody writes the timeline: ", &error.to_string()].concat());
        }
    }

    fn publish(&self, state: &mut TimelineState) {
        state.changes += 1;
        self.shared.changed.notify_one();
    }

    /// An attempt at a phase starts.
    pub fn phase_start(&self, name: &str) {
        self.phase_begins(name);
        self.publish(&mut self.lock());
    }

    /// As [`Timeline::phase_start`], but the JSON is not written before the phase ends or [`Timeline::phase_is_slow`]:
    /// most phases are over at once.
    pub fn phase_begins(&self, name: &str) {
        let now = uptime_s();
        let mut state = self.lock();
        begin_phase(&mut state.record.phases, name, now);
        if state.verbose {
            state.say(now, Event::PhaseStart { phase: name.into() });
        }
    }

    /// The phase takes its time: writes the JSON, and the line about its start.
    pub fn phase_is_slow(&self, name: &str) {
        let mut state = self.lock();
        let start_s = state.record.phases.iter().rev().find(|p| p.name == name && p.end_s.is_none()).map(|p| p.start_s);
        if let Some(start_s) = start_s.filter(|_| !state.verbose) {
            state.say(start_s, Event::PhaseStart { phase: name.into() });
        }
        self.publish(&mut state);
    }

    /// Adds seconds that the running attempt at a phase has waited for the network or a server.
    pub fn waited(&self, phase: &str, seconds: f64) {
        let mut state = self.lock();
        let running = |p: &&mut PhaseRecord| p.end_s.is_none() && p.name == phase;
        if let Some(record) = state.record.phases.iter_mut().rev().find(running) {
            record.waited_s += seconds;
        }
    }

    /// The last attempt at a phase has ended.
    pub fn phase_end(&self, name: &str, outcome: Result<(), &str>) {
        let now = uptime_s();
        let mut state = self.lock();
        let mut took_s = 0.0;
        if let Some(record) = state.record.phases.iter_mut().rev().find(|p| p.name == name) {
            took_s = now - record.start_s;
            record.end_s = Some(now);
            record.outcome = Some(bounded(outcome.err().unwrap_or("ok")));
        }
        let phase = name.to_string();
        let event = match outcome {
            Ok(()) => Event::PhaseOk { phase, took_s },
            Err(reason) => Event::PhaseFailed { phase, took_s, reason: one_line(reason) },
        };
        state.say(now, event);
        self.publish(&mut state);
    }

    /// The phase is not tried again, and the boot goes on. After the last phase the line "phases done" is written.
    pub fn phase_over(&self, name: &str) {
        let mut state = self.lock();
        let before = state.pending.len();
        state.pending.retain(|p| p != name);
        if state.pending.is_empty() && before > 0 {
            state.say(uptime_s(), Event::PhasesDone);
        }
    }

    /// Lists the modaliases for which there is no module, and writes a line with their number.
    pub fn set_unserved(&self, unserved: Vec<String>) {
        let mut state = self.lock();
        if !unserved.is_empty() {
            let text = [&unserved.len().to_string(), " modaliases found no module: the timeline lists them"].concat();
            state.say(uptime_s(), Event::Note { text });
        }
        let more = unserved.len().saturating_sub(MOST_UNSERVED);
        state.record.unserved_more = u32::try_from(more).unwrap_or(u32::MAX);
        state.record.unserved = unserved.into_iter().take(MOST_UNSERVED).map(|alias| bounded(&alias)).collect();
        self.publish(&mut state);
    }

    /// A service is started. The first start makes its record, others count as restarts.
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
        self.publish(&mut state);
    }

    /// A service has become ready. Its note, if there is one, is recorded.
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
        self.publish(&mut state);
    }

    /// A service has ended, or has not become ready in time.
    pub fn service_failed(&self, name: &str, reason: &str) {
        let event = Event::ServiceFailed { service: name.into(), reason: one_line(reason) };
        self.lock().say(uptime_s(), event);
    }

    /// Writes a line for people.
    pub fn note(&self, text: &str) {
        self.lock().say(uptime_s(), Event::Note { text: one_line(text) });
    }

    /// The boot cannot go on.
    pub fn fatal(&self, phase: &str, reason: &str) {
        self.lock().say(uptime_s(), Event::Fatal { phase: phase.into(), reason: one_line(reason) });
    }

    /// The machine goes down now. Waits up to [`FLUSH_WAIT`] for the console.
    pub fn down(&self, how: &str) {
        self.lock().say(uptime_s(), Event::Down { how: how.into() });
        self.flush();
    }

    /// Copies lines of a service's output to the console.
    pub fn copy(&self, lines: &[u8]) {
        self.lock().screen.copy(lines);
    }

    /// Waits until the console has taken all lines, up to [`FLUSH_WAIT`].
    pub fn flush(&self) {
        let until = Instant::now() + FLUSH_WAIT;
        while !self.lock().screen.is_idle() && Instant::now() < until {
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// A number that grows with each change of the record.
    pub fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// A copy of the record.
    pub fn snapshot(&self) -> console::TimelineRecord {
        self.lock().record.clone()
    }

    fn lock(&self) -> MutexGuard<'_, TimelineState> {
        self.shared.lock()
    }
}

impl SharedTimeline {
    fn lock(&self) -> MutexGuard<'_, TimelineState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body of the thread that writes, which never ends.
    fn write_changes(&self) {
        loop {
            let is_written = |state: &mut TimelineState| state.written == state.changes;
            let state = self.changed.wait_while(self.lock(), is_written).unwrap_or_else(PoisonError::into_inner);
            write_record(self, state);
            thread::sleep(BETWEEN_WRITES);
        }
    }
}

/// Writes the record to the file and the device. Failures are ignored: `/run` may be full, and a serial line dead.
fn write_record(shared: &SharedTimeline, mut state: MutexGuard<'_, TimelineState>) {
    state.written = state.changes;
    let Ok(mut json) = serde_json::to_vec(&state.record) else { return };
    let (run_mounted, device) = (state.run_mounted, state.device.take());
    drop(state);
    json.push(b'\n');
    if run_mounted {
        let _ = replace_file(Path::new(paths::TIMELINE), &json);
    }
    if let Some(mut device) = device {
        device.write(&json);
        shared.lock().device.get_or_insert(device);
    }
}

/// Adds an attempt at a phase. Of many attempts at the same phase only the first and the last are kept.
fn begin_phase(phases: &mut Vec<PhaseRecord>, name: &str, now: f64) {
    let mut tries = phases.iter().enumerate().filter(|(_, record)| record.name == name);
    let (first, last) = (tries.next(), tries.next_back());
    let tries = match (first, last) {
        (None, _) => 0,
        (Some(_), None) => 2,
        (Some(_), Some((_, last))) => last.tries.saturating_add(1),
    };
    if let Some((at, _)) = last {
        phases.remove(at);
    }
    let (start_s, name) = (now, name.into());
    phases.push(PhaseRecord { name, start_s, tries, end_s: None, waited_s: 0.0, outcome: None });
}

impl TimelineState {
    fn say(&mut self, uptime_s: f64, event: Event) {
        let line = Line { uptime_s, event };
        self.screen.say([printable(&line.to_string()).as_str(), "\n"].concat().as_bytes());
    }
}

/// The first line of a service's note, at most [`MAX_NOTE`] bytes of it, without control characters. What is not a file
/// is not waited for: a service may have made a fifo or a link to the root there.
fn note_of(notes: &Path, service: &str) -> Option<String> {
    let mut text = Vec::new();
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
    let file = fs::File::options().read(true).custom_flags(flags).open(notes.join(service)).ok()?;
    file.take(MAX_NOTE).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    let line: String = text.lines().next()?.chars().filter(|c| !c.is_control()).collect();
    Some(line.trim().to_string()).filter(|line| !line.is_empty())
}

const MAX_NOTE: u64 = 256;

fn uptime_s() -> f64 {
    sys::uptime().as_secs_f64()
}

#[cfg(test)]
mod tests;
