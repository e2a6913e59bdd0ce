//! What a person sees while work goes on: progress bars on a terminal, plain lines elsewhere, on standard error.

use std::io::Write;

/// How much is said and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verbosity {
    Quiet,
    #[default]
    Normal,
    Verbose,
}

/// Handed to every stage that may take long.
#[derive(Debug, Default)]
pub struct Ui {
    pub verbosity: Verbosity,
    /// Standard error is a terminal: bars may be drawn.
    pub bars: bool,
}

impl Ui {
    /// One line, unless quiet.
    pub fn say(&self, text: impl std::fmt::Display) {
        if self.verbosity != Verbosity::Quiet {
            print(text);
        }
    }

    /// One line, only when verbose.
    pub fn detail(&self, text: impl std::fmt::Display) {
        if self.verbosity == Verbosity::Verbose {
            print(text);
        }
    }

    /// A task with a known (bytes) or unknown length.
    pub fn task(&self, name: &str, total: Option<u64>) -> Task {
        let bar = if self.bars && self.verbosity != Verbosity::Quiet {
            let bar = match total {
                Some(n) => indicatif::ProgressBar::new(n).with_style(
                    indicatif::ProgressStyle::with_template(
                        "{msg:32!} [{bar:24}] {bytes}/{total_bytes} {bytes_per_sec}",
                    )
                    .expect("the template is constant")
                    .progress_chars("=> "),
                ),
                None => indicatif::ProgressBar::new_spinner(),
            };
            bar.set_message(name.to_string());
            bar.enable_steady_tick(std::time::Duration::from_millis(120));
            bar
        } else {
            self.say(name);
            indicatif::ProgressBar::hidden()
        };
        Task { bar }
    }
}

/// A standard error that nobody reads is no reason to end a build.
fn print(text: impl std::fmt::Display) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// A running task; its bar goes away on drop.
#[derive(Debug)]
pub struct Task {
    bar: indicatif::ProgressBar,
}

impl Task {
    pub fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// Runs something that prints, with the bar out of its way.
    pub fn aside(&self, print: impl FnOnce()) {
        self.bar.suspend(print);
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
