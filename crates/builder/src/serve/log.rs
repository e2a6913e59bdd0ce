//! Lines for the user, said by a thread of their own: a terminal that was stopped (Ctrl-S), or a pipe that nobody reads, must not hold
//! up machines.

use crate::ui::Ui;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

/// Lines that wait to be said.
const MOST: usize = 1000;

/// Whether a line is said always, or only when asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Weight {
    Line,
    Detail,
}

/// Where lines go.
#[derive(Debug, Clone)]
pub struct Log {
    lines: SyncSender<(Weight, String)>,
    lost: Arc<AtomicU64>,
}

impl Log {
    pub fn start(ui: Arc<Ui>) -> Self {
        let (lines, waiting) = sync_channel::<(Weight, String)>(MOST);
        let lost = Arc::<AtomicU64>::default();
        let counted = lost.clone();
        std::thread::spawn(move || {
            for (weight, line) in waiting {
                match weight {
                    Weight::Line => ui.say(line),
                    Weight::Detail => ui.detail(line),
                }
                let lost = counted.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    ui.say(format_args!("{lost} lines were left out: more came than could be shown"));
                }
            }
        });
        Self { lines, lost }
    }

    /// Never waits: what finds no room is counted.
    pub fn say(&self, weight: Weight, line: String) {
        if self.lines.try_send((weight, line)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}
