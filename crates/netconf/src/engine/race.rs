//! Chooses between several links: a pure function, so that the outcome is the same at each boot.

pub use bootwright_base::sys::Millis;

/// How long a ready link waits for links of a better rank.
const SETTLE_MS: Millis = 2_000;

/// A link to choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Runner {
    /// Smaller is better. No two are equal.
    pub rank: (usize, [u8; 6]),
    /// The time from which the link can be used; `None` while nobody has answered on it.
    pub ready_at: Option<Millis>,
}

/// The outcome of [`decide`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// No choice yet: decide again at this time, or when something happens.
    Wait(Option<Millis>),
    /// Index of the chosen link in the list.
    Choose(usize),
}

/// Chooses the ready link of the best rank: at once when no link has a better rank, else after [`SETTLE_MS`].
pub fn decide(runners: &[Runner], now: Millis) -> Verdict {
    let ready = |runner: &Runner| runner.ready_at.is_some_and(|at| at <= now);
    let best = runners.iter().enumerate().filter(|(_, runner)| ready(runner)).min_by_key(|(_, runner)| runner.rank);
    let Some((at, runner)) = best else {
        return Verdict::Wait(runners.iter().filter_map(|runner| runner.ready_at).min());
    };
    let first_ready = runners.iter().filter_map(|runner| runner.ready_at).min().unwrap_or(now);
    let better = runners.iter().any(|other| other.rank < runner.rank);
    if better && now < first_ready + SETTLE_MS {
        Verdict::Wait(Some(first_ready + SETTLE_MS))
    } else {
        Verdict::Choose(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runner(place: usize, ready_at: Option<Millis>) -> Runner {
        Runner { rank: (place, [0; 6]), ready_at }
    }

    #[test]
    fn the_order_decides_and_not_the_speed() {
        let (first, second) = (runner(0, Some(1500)), runner(1, Some(1000)));
        for (runners, now, expected) in [
            (vec![], 0, Verdict::Wait(None)),
            (vec![runner(0, None)], 0, Verdict::Wait(None)),
            (vec![runner(0, Some(9))], 9, Verdict::Choose(0)),
            (vec![runner(0, Some(9))], 8, Verdict::Wait(Some(9))),
            // The second one has an answer first; the first one is given its moment, and then comes.
            (vec![runner(0, None), second], 1000, Verdict::Wait(Some(3000))),
            (vec![first, second], 1500, Verdict::Choose(0)),
            (vec![second, first], 2000, Verdict::Choose(1)),
            // It does not come.
            (vec![runner(0, None), second], 3000, Verdict::Choose(1)),
            (vec![runner(2, None), second], 1000, Verdict::Choose(1)),
        ] {
            assert_eq!(decide(&runners, now), expected, "{runners:?} at {now}");
        }
    }
}
