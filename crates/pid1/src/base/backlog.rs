//! Text that waits for a thread that writes it. Its size is bounded, and lost bytes are counted.

/// Waiting bytes, and the number of bytes that were lost after them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    pub bytes: Vec<u8>,
    pub lost: u64,
}

impl Backlog {
    /// Adds text. It is lost as a whole when more than `most` bytes would wait. After a loss everything is lost until
    /// the backlog is taken, so that the gap has one place.
    pub fn add(&mut self, text: &[u8], most: usize) {
        if self.lost > 0 || self.bytes.len() + text.len() > most {
            self.lost += text.len() as u64;
        } else {
            self.bytes.extend_from_slice(text);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.lost == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_is_at_the_end() {
        let mut backlog = Backlog::default();
        assert!(backlog.is_empty());
        for text in ["abc", "defgh", "i", ""] {
            backlog.add(text.as_bytes(), 6);
        }
        assert_eq!(backlog, Backlog { bytes: b"abc".into(), lost: 6 });
        assert!(!std::mem::take(&mut backlog).is_empty());
        backlog.add(b"i", 6);
        assert_eq!(backlog, Backlog { bytes: b"i".into(), lost: 0 });
    }
}
