//! The pause before a service is started again.

use super::Millis;

const LONGEST_MS: Millis = 30_000;
/// After a run of this length the next failure counts as the first one.
const RESET_AFTER_MS: Millis = 60_000;

/// Delays that double, from `backoff_ms` of the service to 30 s.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Millis,
    next: Millis,
}

impl Backoff {
    /// The first delay is `first` milliseconds.
    pub fn new(first: Millis) -> Self {
        Backoff { first, next: first }
    }

    /// The delay after a run of `ran` milliseconds.
    pub fn delay(&mut self, ran: Millis) -> Millis {
        if ran >= RESET_AFTER_MS {
            self.next = self.first;
        }
        let delay = self.next.min(LONGEST_MS);
        // A first delay of 0 would stay 0, so the second delay is at least 100 ms.
        self.next = (delay * 2).clamp(100, LONGEST_MS);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_thirty_seconds_and_resets_after_a_minute() {
        let mut backoff = Backoff::new(500);
        let delays: Vec<_> = (0..8).map(|_| backoff.delay(59_999)).collect();
        assert_eq!(delays, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        assert_eq!(backoff.delay(60_000), 500);
        assert_eq!(backoff.delay(1), 1000);
        let mut none = Backoff::new(0);
        assert_eq!([none.delay(0), none.delay(0), none.delay(0)], [0, 100, 200]);
        assert_eq!(Backoff::new(90_000).delay(0), 30_000);
    }
}
