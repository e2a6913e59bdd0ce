//! Copies a service's output to the console, in whole lines with the service's name.

use crate::base::timeline::Timeline;
use std::sync::Arc;

/// Longer lines are split after so many bytes.
const LONGEST_LINE: usize = 1024;

/// Copies the output of one service.
pub struct ConsoleCopy {
    prefix: Vec<u8>,
    /// The beginning of an unfinished line.
    line: Vec<u8>,
    timeline: Arc<Timeline>,
}

impl ConsoleCopy {
    pub fn new(service: &str, timeline: Arc<Timeline>) -> ConsoleCopy {
        ConsoleCopy { prefix: [service, ": "].concat().into(), line: Vec::new(), timeline }
    }

    /// Adds output. Lines that the console does not take in time are lost.
    pub fn write(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|b| *b == b'\n') {
            for piece in part.chunks(LONGEST_LINE) {
                self.line.extend_from_slice(piece);
                if piece.ends_with(b"\n") || self.line.len() >= LONGEST_LINE {
                    self.end_line();
                }
            }
        }
    }

    fn end_line(&mut self) {
        let mut whole = self.prefix.clone();
        whole.append(&mut self.line);
        if !whole.ends_with(b"\n") {
            whole.push(b'\n');
        }
        self.timeline.copy(&whole);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Lines;
    use super::*;

    #[test]
    fn the_console_gets_whole_lines_with_the_name() {
        let lines = Lines::default();
        let mut copy = ConsoleCopy::new("s", Arc::new(Timeline::new(&[], Box::new(lines.clone()))));
        for part in ["a", "b\nc", "d\n"] {
            copy.write(part.as_bytes());
        }
        assert_eq!(lines.text(), "s: ab\ns: cd\n");
        copy.write(&[b'x'; 3000]);
        copy.write(b"\n");
        let lengths: Vec<usize> = lines.text().lines().skip(2).map(str::len).collect();
        assert_eq!(lengths, [1027, 1027, 955], "a long line comes in pieces");
    }
}
