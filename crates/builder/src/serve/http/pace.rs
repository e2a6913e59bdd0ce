//! How many requests a second a client may make.

use super::client::Client;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Clients that are remembered at the same time.
const MOST: usize = 4096;

/// So many requests a second by client, and so many at a stroke: the generic cell rate algorithm (ITU-T I.371, annex A), which needs
/// one time a client.
#[derive(Debug)]
pub struct Pace {
    /// What a request costs.
    each: Duration,
    /// How far ahead of the clock a client may be.
    ahead: Duration,
    /// When each client's requests are paid for; who is not in here owes nothing.
    paid: HashMap<Client, Instant>,
}

impl Pace {
    pub fn new(per_s: u32, at_a_stroke: u32) -> Self {
        let each = Duration::from_secs(1) / per_s;
        Self { each, ahead: each * (at_a_stroke - 1), paid: HashMap::new() }
    }

    /// Whether this request may be answered; it counts if so.
    pub fn allows(&mut self, client: Client, now: Instant) -> bool {
        if self.paid.len() >= MOST && !self.paid.contains_key(&client) {
            self.paid.retain(|_, paid| *paid > now);
            if self.paid.len() >= MOST {
                // So many clients are bounded by their number of connections; a new one must not pay for them.
                return true;
            }
        }
        let paid = self.paid.entry(client).or_insert(now);
        if paid.saturating_duration_since(now) > self.ahead {
            return false;
        }
        *paid = now.max(*paid) + self.each;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn client(n: u32) -> Client {
        Client::of(IpAddr::V4(Ipv4Addr::from_bits(n)))
    }

    #[test]
    fn a_client_gets_a_stroke_and_then_its_pace_and_others_their_own() {
        let (mut pace, begin) = (Pace::new(10, 5), Instant::now());
        let mut taken = |client, after_ms, tries: u32| {
            let now = begin + Duration::from_millis(after_ms);
            (0..tries).filter(|_| pace.allows(client, now)).count()
        };
        assert_eq!(taken(client(1), 0, 20), 5);
        assert_eq!(taken(client(2), 0, 20), 5);
        assert_eq!(taken(client(1), 100, 20), 1);
        assert_eq!(taken(client(1), 1000, 20), 5, "a stroke is not more for having waited");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_new_clients_are_answered() {
        let (mut pace, now) = (Pace::new(1, 1), Instant::now());
        for n in 0..20_000 {
            assert!(pace.allows(client(n), now));
        }
        assert!(pace.paid.len() <= MOST);
        assert!(!pace.allows(client(0), now), "those that are remembered stay bounded");
    }
}
