//! The one reader of consoles: puts together again what the kernel's lines have cut, and drops what loaders draw.
//!
//! A serial port takes what programs write a few bytes at a time, and the kernel sends a line of its own whole, in between
//! (Linux, `serial8250_console_write` in drivers/tty/serial/8250/8250_port.c):
//!
//! ```text
//! bootwright: 5.771 phases do[    5.771320] sd 0:0:0:1: Attached SCSI disk
//! ne
//! ```

use super::PREFIX;
use super::plain::plain_text;

/// Takes a console's lines one by one; gives each that is whole.
#[derive(Debug, Default)]
pub struct Untangler {
    /// The beginning of a line whose rest comes after the kernel's lines.
    head: String,
}

impl Untangler {
    /// The lines that are whole with this one, plain and without their ends.
    pub fn feed(&mut self, line: &str) -> Vec<String> {
        let line = plain_text(line);
        match find_stamp(&line) {
            Some(at) => {
                self.head.push_str(&line[..at]);
                vec![line[at..].into()]
            }
            // It was whole, but for its end.
            None if line.starts_with(PREFIX) => self.end().into_iter().chain([line]).collect(),
            None => vec![std::mem::take(&mut self.head) + &line],
        }
    }

    /// The beginning of a line whose rest never came.
    pub fn end(&mut self) -> Option<String> {
        Some(std::mem::take(&mut self.head)).filter(|head| !head.is_empty())
    }
}

/// The same for all that a console has said so far.
pub fn untangle(text: &str) -> String {
    let mut untangler = Untangler::default();
    let mut lines: Vec<String> = text.lines().flat_map(|line| untangler.feed(line)).collect();
    lines.extend(untangler.end());
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}

/// Where a kernel line's time stamp begins: `[    5.771320] ` (`print_time` in kernel/printk/printk.c).
fn find_stamp(line: &str) -> Option<usize> {
    let mut brackets = line.match_indices('[').map(|(at, _)| at);
    brackets.find(|at| line[at + 1..].split_once("] ").is_some_and(|(stamp, _)| is_stamp(stamp)))
}

/// Seconds, right-aligned in five places, and six digits of microseconds.
fn is_stamp(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.split_once('.').is_some_and(|(seconds, micros)| {
        seconds.len() >= 5 && digits(seconds.trim_start_matches(' ')) && micros.len() == 6 && digits(micros)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each place where a line can be cut, by one kernel line and by two, and cut twice.
    #[test]
    fn a_line_is_whole_wherever_the_kernel_cut_it() {
        let (said, next) = ("bootwright: 5.771 phases done", "bootwright: 5.800 service [x] is [ 1.5] up");
        let (one, two) = ("[    5.771320] sd 0:0:0:1: [sda] Attached", "[12345.000001] EXT4-fs (sda): mounted");
        for at in 0..=said.len() {
            let (head, rest) = said.split_at(at);
            for kernel in [vec![one], vec![one, two]] {
                let text = format!("Booting\r\n{head}{}\r\n{rest}\r\n{next}\r\n", kernel.join("\r\n"));
                let expected = [&["Booting"], &kernel[..], &[said, next]].concat().join("\n") + "\n";
                // Before the first byte nothing is cut, after the last only the line's end.
                assert_eq!(untangle(&text).replace("\n\n", "\n"), expected, "cut at {at}");
            }
            let (second, last) = rest.split_at(rest.len() / 2);
            let text = format!("{head}{one}\n{second}{two}\n{last}\n{next}\n");
            assert_eq!(untangle(&text).replace("\n\n", "\n"), format!("{one}\n{two}\n{said}\n{next}\n"), "cut at {at}");
        }
    }

    /// A loader that sets its cursor does so anywhere: within PID1's words, within the kernel's stamp, before a rest.
    #[test]
    fn a_line_is_whole_wherever_a_loader_set_its_cursor() {
        let (one, said) = ("[    2.120000] EXT4-fs (sda): mounted", "bootwright: 2.120 this is n1");
        let text = format!("{said}\r\nbootwright: 2.1{one}\r\n30 root is done\r\n");
        let plain = format!("{said}\n{one}\nbootwright: 2.130 root is done\n");
        for at in 0..text.len() {
            let (head, rest) = text.split_at(at);
            assert_eq!(untangle(&format!("{head}\x1b[25;02H{rest}")), plain, "at {at}");
        }
    }

    #[test]
    fn what_is_never_completed_is_given_too() {
        let kernel = "[    6.100000] Kernel panic - not syncing: x";
        let mut untangler = Untangler::default();
        assert_eq!(untangler.feed(&format!("bootwright: 6.1 fat{kernel}")), [kernel]);
        assert_eq!(untangler.feed("bootwright: 6.2 down"), ["bootwright: 6.1 fat", "bootwright: 6.2 down"]);
        assert_eq!(untangle(&format!("oc{kernel}")), format!("{kernel}\noc\n"));
    }

    #[test]
    fn only_the_kernels_stamps_count() {
        for line in [
            "a [1.5] b",
            "a [    1.23456] b",
            "a [ 1.234567] b",
            "a [    1.234567]b",
            "[é    1.234567] b",
            "[",
            "[    .123456] ",
        ] {
            assert_eq!(find_stamp(line), None, "{line}");
        }
        assert_eq!(find_stamp("a [x] [    1.234567] b"), Some(6));
        assert_eq!(find_stamp("[[    1.234567] b"), Some(1));
    }
}
