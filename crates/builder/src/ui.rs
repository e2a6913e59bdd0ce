//! What a person sees while work goes on: progress bars on a terminal, plain lines elsewhere, on standard error.

use std::borrow::Cow;
use std::fmt::Write as _;
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
            bar.set_message(printable(name).into_owned());
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
pub(crate) fn print(text: impl std::fmt::Display) {
    let _ = writeln!(anstream::stderr(), "{}", printable(&text.to_string()));
}

/// Text without anything that a terminal would obey: names from archives, answers of servers and lines of consoles are in
/// what we print, and may hold escape sequences. Control characters (Unicode's class Cc) but newline and tab are written as
/// JSON writes them, `\u001b`: a JSON document stays one.
pub fn printable(text: &str) -> Cow<'_, str> {
    let obeyed = |c: char| c.is_control() && c != '\n' && c != '\t';
    if !text.contains(obeyed) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        // A `String` takes everything.
        let _ = if obeyed(c) { write!(shown, "\\u{:04x}", u32::from(c)) } else { write!(shown, "{c}") };
    }
    Cow::Owned(shown)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_given_nothing_to_obey() {
        for (text, shown) in [
            ("`a` of b:\n\tcä", "`a` of b:\n\tcä"),
            ("\u{1b}]0;title\u{7}", r"\u001b]0;title\u0007"),
            ("\u{1b}[31mred\r\0\u{7f}", r"\u001b[31mred\u000d\u0000\u007f"),
            ("\u{9b}31m", r"\u009b31m"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }
}
