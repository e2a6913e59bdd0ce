//! Phase `clock`. When the battery of the RTC is dead, the clock would make every certificate "not yet valid". The
//! kernel has read the RTC before (CONFIG_RTC_HCTOSYS).

use crate::base::node::Node;
use bootwright_base::Failure;
use bootwright_base::sys::Sys;
use nix::errno::Errno;

/// The kernel refused another time.
#[derive(Debug, thiserror::Error)]
#[error("cannot set the clock: {}", .0.desc())]
pub struct ClockError(pub Errno);

/// Phase `clock`: sets the clock to the time of the image if it is earlier.
pub fn raise_to_floor(sys: &dyn Sys, node: &Node) -> Result<(), Failure> {
    let floor_s = node.config.clock_floor;
    let now_s = sys.clock_s();
    if raise(sys, floor_s).map_err(ClockError)? {
        node.timeline.note(&format!("clock was {} s before the image was made: set forward", floor_s - now_s));
    }
    Ok(())
}

/// Sets the clock if it is earlier than `floor_s` (seconds since 1970). Returns whether it did.
fn raise(sys: &dyn Sys, floor_s: u64) -> Result<bool, Errno> {
    if sys.clock_s() >= floor_s {
        return Ok(false);
    }
    sys.set_clock_s(floor_s).map(|()| true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_base::sys::fake::FakeSys;

    #[test]
    fn only_forward() {
        // The fake's clock stands at 1000.
        for (floor, calls) in [(999, vec![]), (1000, vec![]), (1001, vec!["set_clock 1001"])] {
            let fake = FakeSys::default();
            assert_eq!(raise(&fake, floor), Ok(!calls.is_empty()));
            assert_eq!(fake.calls(), calls);
        }
        assert_eq!(raise(&FakeSys::failing(&["set_clock"]), 2000), Err(Errno::EPERM));
    }
}
