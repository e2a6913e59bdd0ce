//! The state of roots and volumes: in `/run/bootwright/roots.json`, as a console line at each change, and with the
//! policy for a server that stays lost.

use bootwright_base::background;
use bootwright_base::files::replace_file;
use bootwright_base::sys::{self, RebootCommand, Sys};
use bootwright_contract::{Lost, paths};
use serde::Serialize;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Takes lines for people.
pub trait Journal: Send + Sync {
    /// Writes a line for people.
    fn note(&self, text: &str);
    /// Records that the machine goes down now; `how` is `poweroff`, `reboot` or `halt`.
    fn down(&self, how: &str);
}

/// The state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ConnectionState {
    Up,
    /// The server does not answer. What needs it waits.
    Lost,
    /// A server answers again, and the connection is being repaired.
    Repairing,
    /// Detached.
    Gone,
}

impl ConnectionState {
    /// The word in the JSON.
    pub fn word(self) -> &'static str {
        match self {
            ConnectionState::Up => "up",
            ConnectionState::Lost => "lost",
            ConnectionState::Repairing => "repairing",
            ConnectionState::Gone => "gone",
        }
    }
}

/// The state of one root or volume.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RootStatus {
    pub source: String,
    pub state: ConnectionState,
    /// When the state began, in seconds since the kernel started. A repair counts as part of the loss.
    pub since_s: f64,
    /// Number of losses so far.
    pub losses: u32,
}

/// The state of all roots and volumes.
pub struct RootStatuses {
    journal: Arc<dyn Journal>,
    entries: Mutex<Vec<RootStatus>>,
}

/// An attachment reports its state through this.
#[derive(Clone)]
pub struct StatusHandle {
    statuses: Arc<RootStatuses>,
    at: usize,
}

impl RootStatuses {
    pub fn new(journal: Arc<dyn Journal>) -> RootStatuses {
        RootStatuses { journal, entries: Mutex::default() }
    }

    /// A copy of all entries.
    pub fn entries(&self) -> Vec<RootStatus> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<RootStatus>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// With `lost = reboot`, starts a thread that reboots when a root or volume has been lost for too long.
    pub fn enforce(self: &Arc<RootStatuses>, lost: Lost, sys: &'static dyn Sys) -> std::io::Result<()> {
        let Lost::Reboot { after_s } = lost else { return Ok(()) };
        let statuses = self.clone();
        let work = move || {
            loop {
                thread::sleep(Duration::from_secs(1));
                let entries = statuses.entries();
                let Some(entry) = overdue(&entries, uptime_s(), after_s) else { continue };
                statuses.journal.note(&["`", &entry.source, "` stays lost; rebooting"].concat());
                statuses.journal.down("reboot");
                // Without sync(2): what is not written cannot be written any more, and sync would hang.
                let errno = sys.reboot(RebootCommand::Restart);
                statuses.journal.note(&["the kernel refused to reboot: ", errno.desc()].concat());
            }
        };
        background::spawn_small("patience", 64 << 10, Box::new(work))
    }
}

/// An entry that has been lost for `after_s` seconds.
fn overdue(entries: &[RootStatus], now_s: f64, after_s: u32) -> Option<&RootStatus> {
    let lost = |entry: &&RootStatus| matches!(entry.state, ConnectionState::Lost | ConnectionState::Repairing);
    entries.iter().filter(lost).find(|entry| now_s - entry.since_s >= f64::from(after_s))
}

impl StatusHandle {
    /// Makes an entry for a source, or takes over one of the same source that was detached.
    pub fn new(statuses: &Arc<RootStatuses>, source: &str) -> StatusHandle {
        let mut entries = statuses.lock();
        let fresh = RootStatus { source: source.into(), state: ConnectionState::Gone, since_s: uptime_s(), losses: 0 };
        let at =
            entries.iter().position(|e| e.source == source && e.state == ConnectionState::Gone).unwrap_or_else(|| {
                entries.push(fresh);
                entries.len() - 1
            });
        StatusHandle { statuses: statuses.clone(), at }
    }

    /// Sets the state. `why` is added to the console line; it may be empty. Setting the same state again does nothing.
    #[expect(clippy::cast_possible_truncation, reason = "a float that is too large becomes the largest number")]
    pub fn set(&self, state: ConnectionState, why: &str) {
        let now_s = uptime_s();
        let mut entries = self.statuses.lock();
        let Some(entry) = entries.get_mut(self.at) else { return };
        let before = entry.state;
        if before == state {
            return;
        }
        let away_s = now_s - entry.since_s;
        entry.state = state;
        entry.losses += u32::from(state == ConnectionState::Lost && before == ConnectionState::Up);
        if !matches!(
            (before, state),
            (ConnectionState::Lost, ConnectionState::Repairing) | (ConnectionState::Repairing, ConnectionState::Lost)
        ) {
            entry.since_s = now_s;
        }
        let said = match (before, state) {
            (ConnectionState::Lost | ConnectionState::Repairing, ConnectionState::Up) => {
                let tenths = (away_s * 10.0) as u64;
                [" is back after ", &(tenths / 10).to_string(), ".", &(tenths % 10).to_string(), " s"].concat()
            }
            (_, ConnectionState::Up) => " is attached".into(),
            (_, ConnectionState::Lost) => " is lost".into(),
            (_, ConnectionState::Repairing) => " answers again".into(),
            (_, ConnectionState::Gone) => " is detached".into(),
        };
        let colon = if why.is_empty() { "" } else { ": " };
        let line = ["`", &entry.source, "`", &said, colon, why].concat();
        write(&entries);
        drop(entries);
        self.statuses.journal.note(&line);
    }

    /// Writes a line for people about this connection.
    pub fn note(&self, text: &str) {
        let source = self.statuses.lock().get(self.at).map(|entry| entry.source.clone()).unwrap_or_default();
        self.statuses.journal.note(&["`", &source, "`: ", text].concat());
    }
}

/// Writes the file. A failure is ignored: `/run` may be full, and the connection matters more.
fn write(entries: &[RootStatus]) {
    if let Ok(mut json) = serde_json::to_vec(entries) {
        json.push(b'\n');
        let _ = replace_file(Path::new(paths::ROOTS), &json);
    }
}

fn uptime_s() -> f64 {
    sys::uptime().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statuses() -> Arc<RootStatuses> {
        Arc::new(RootStatuses::new(Arc::new(crate::fake::Silent)))
    }

    #[test]
    fn losses_are_counted_and_repair_is_part_of_a_loss() {
        let statuses = statuses();
        let status = StatusHandle::new(&statuses, "nbd://a/x");
        for (state, losses) in [
            (ConnectionState::Up, 0),
            (ConnectionState::Lost, 1),
            (ConnectionState::Lost, 1),
            (ConnectionState::Repairing, 1),
            (ConnectionState::Lost, 1),
            (ConnectionState::Up, 1),
            (ConnectionState::Lost, 2),
            (ConnectionState::Gone, 2),
        ] {
            let before = statuses.entries()[0].clone();
            status.set(state, "");
            let entry = &statuses.entries()[0];
            assert_eq!((entry.state, entry.losses), (state, losses));
            let repairing = before.state == ConnectionState::Repairing && state == ConnectionState::Lost;
            assert!(!repairing || entry.since_s == before.since_s, "the loss goes on");
        }
        StatusHandle::new(&statuses, "nbd://a/x").set(ConnectionState::Up, "");
        StatusHandle::new(&statuses, "nbd://b/x").set(ConnectionState::Up, "");
        assert_eq!(statuses.entries().len(), 2, "one that has gone is used again");
    }

    #[test]
    fn patience_ends() {
        let entry = |state, since_s| RootStatus { source: "x".into(), state, since_s, losses: 1 };
        assert_eq!(overdue(&[entry(ConnectionState::Up, 0.0), entry(ConnectionState::Gone, 0.0)], 100.0, 10), None);
        assert_eq!(overdue(&[entry(ConnectionState::Lost, 91.0)], 100.0, 10), None);
        assert!(
            overdue(&[entry(ConnectionState::Up, 0.0), entry(ConnectionState::Repairing, 90.0)], 100.0, 10).is_some()
        );
    }
}
