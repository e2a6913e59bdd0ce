//! A machine that goes on after its smoke boot, for whoever wants to look inside.

use super::machine::{Machine, Output};
use crate::interrupt::Interrupts;
use crate::serve::HttpServer;
use crate::ui::Ui;
use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

/// How often signals are looked at while the console is silent.
const TICK: Duration = Duration::from_millis(50);

/// A machine that goes on after its smoke boot; it ends on drop.
#[derive(Debug)]
pub struct Kept {
    pub(super) machine: Machine,
    pub(super) interrupts: Arc<Interrupts>,
    pub(super) _sockets: tempfile::TempDir,
    pub(super) _server: Option<HttpServer>,
}

impl Kept {
    /// Shows the console, passes standard input on to it, and returns when the machine has ended or the user asked to end.
    pub fn hold(mut self, ui: &Ui) {
        if let Some(mut console) = self.machine.input.take() {
            // It ends with standard input, or with the process.
            std::thread::spawn(move || {
                let mut line = String::new();
                while std::io::stdin().read_line(&mut line).is_ok_and(|n| n > 0) {
                    if console.write_all(line.as_bytes()).is_err() {
                        break;
                    }
                    line.clear();
                }
            });
        }
        while !self.interrupts.asked() {
            match self.machine.output.recv_timeout(TICK) {
                Ok(Output::Line(line)) => ui.say(line),
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Output::End) | Err(RecvTimeoutError::Disconnected) => break,
            }
        }
    }
}
