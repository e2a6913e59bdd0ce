//! The state of roots and volumes: in `/run/bootwright/roots.json`, as a console line at each change, and with the
//! policy for a server that stays lost.

use bootwright_base::background;
use bootwright_base::files::replace_file;
use bootwright_base::sys::{self, RebootCommand, Sys};
use bootwright_contract::{Root, paths};
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
    /// Reads of blocks that differed from what was packed, which were refused. The kernel tells of the first hundred.
    pub refused: u32,
    /// When the first of them was read, in seconds since the kernel started.
    pub refused_since_s: Option<f64>,
    /// The last of them, in blocks of 4096 bytes from the image's start.
    pub refused_block: Option<u64>,
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

    /// Where the recipe says so, starts a thread that reboots when a root or volume has been lost for too long, or some time after
    /// a block was refused.
    pub fn enforce(self: &Arc<RootStatuses>, root: &Root, sys: &'static dyn Sys) -> std::io::Result<()> {
        let patience = Patience { lost_s: root.lost_reboot_s, refused_s: root.corrupted_reboot_s };
        if patience == Patience::default() {
            return Ok(());
        }
        let statuses = self.clone();
        let work = move || {
            loop {
                thread::sleep(Duration::from_secs(1));
                let entries = statuses.entries();
                let Some((entry, why)) = patience.overdue(&entries, uptime_s()) else { continue };
                statuses.journal.note(&["`", &entry.source, why, "; rebooting"].concat());
                statuses.journal.down("reboot");
                // Without sync(2): what is not written cannot be written any more, and sync would hang.
                let errno = sys.reboot(RebootCommand::Restart);
                statuses.journal.note(&["the kernel refused to reboot: ", errno.desc()].concat());
            }
        };
        background::spawn_small("patience", 64 << 10, Box::new(work))
    }
}

/// After how many seconds the machine reboots; `None`: never.
#[derive(Default, PartialEq)]
struct Patience {
    lost_s: Option<u32>,
    refused_s: Option<u32>,
}

impl Patience {
    /// An entry for which it is over, and what it has done.
    fn overdue<'a>(&self, entries: &'a [RootStatus], now_s: f64) -> Option<(&'a RootStatus, &'static str)> {
        let over = |since_s: f64, limit: Option<u32>| limit.is_some_and(|limit| now_s - since_s >= f64::from(limit));
        entries.iter().find_map(|entry| match entry.state {
            _ if entry.refused_since_s.is_some_and(|since_s| over(since_s, self.refused_s)) => {
                Some((entry, "` has given out other blocks than were packed"))
            }
            ConnectionState::Lost | ConnectionState::Repairing if over(entry.since_s, self.lost_s) => {
                Some((entry, "` stays lost"))
            }
            _ => None,
        })
    }
}

impl StatusHandle {
    /// Makes an entry for a source, or takes over one of the same source that was detached.
    pub fn new(statuses: &Arc<RootStatuses>, source: &str) -> StatusHandle {
        let mut entries = statuses.lock();
        let fresh = RootStatus {
            source: source.into(),
            state: ConnectionState::Gone,
            since_s: uptime_s(),
            losses: 0,
            refused: 0,
            refused_since_s: None,
            refused_block: None,
        };
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

    /// The last entry of a source.
    pub fn last_of(statuses: &Arc<RootStatuses>, source: &str) -> Option<StatusHandle> {
        let at = statuses.lock().iter().rposition(|entry| entry.source == source)?;
        Some(StatusHandle { statuses: statuses.clone(), at })
    }

    /// A block differed from what was packed. `what`: `data`, or `hash tree`. `file`: a blank and the name of the file that the device
    /// is, where it is not the root's.
    pub fn refused(&self, what: &str, block: u64, file: &str) {
        let mut entries = self.statuses.lock();
        let Some(entry) = entries.get_mut(self.at) else { return };
        entry.refused += 1;
        entry.refused_since_s.get_or_insert_with(uptime_s);
        let again = entry.refused_block.replace(block) == Some(block);
        write(&entries);
        drop(entries);
        // Whoever needs it tries it again and again.
        if again {
            return;
        }
        let block = block.to_string();
        let refused = ") is not that of this build and is refused: `bootwright explain --block ";
        self.note(&["block ", &block, " (", what, refused, &block, file, "` names the file"].concat());
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
        let statuses = statuses();
        StatusHandle::new(&statuses, "x").set(ConnectionState::Up, "");
        let entry = |state, since_s, refused_since_s| {
            vec![RootStatus { state, since_s, refused_since_s, ..statuses.entries().remove(0) }]
        };
        let why = |entries: &[RootStatus], lost_s, refused_s| {
            Patience { lost_s, refused_s }.overdue(entries, 100.0).map(|(_, why)| why)
        };
        for (state, since_s, refused_s, expected) in [
            (ConnectionState::Up, 0.0, None, None),
            (ConnectionState::Gone, 0.0, None, None),
            (ConnectionState::Lost, 91.0, None, None),
            (ConnectionState::Repairing, 90.0, None, Some("` stays lost")),
            (ConnectionState::Up, 0.0, Some(96.0), None),
            (ConnectionState::Up, 0.0, Some(95.0), Some("` has given out other blocks than were packed")),
        ] {
            let entries = entry(state, since_s, refused_s);
            assert_eq!(why(&entries, Some(10), Some(5)), expected, "{entries:?}");
            assert_eq!(why(&entries, None, None), None, "{entries:?}");
        }
    }

    #[test]
    fn blocks_that_were_refused_are_counted() {
        let statuses = statuses();
        StatusHandle::new(&statuses, "nbd://a/x").set(ConnectionState::Up, "");
        let status = StatusHandle::last_of(&statuses, "nbd://a/x").expect("it is attached");
        status.refused("data", 7, "");
        let first = statuses.entries().remove(0);
        status.refused("hash tree", 9, " images.img");
        let entry = statuses.entries().remove(0);
        assert_eq!((entry.refused, entry.refused_block, entry.state), (2, Some(9), ConnectionState::Up));
        assert!(first.refused_since_s.is_some() && entry.refused_since_s == first.refused_since_s);
        assert!(StatusHandle::last_of(&statuses, "nbd://b/x").is_none());
    }
}
