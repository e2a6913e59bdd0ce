//! Phase `time`: asks SNTP servers once the network is up, sets the clock, and keeps it right as long as the machine
//! runs. What needs the right time earlier, such as TLS, waits at a gate of the node.

use super::clock::ClockError;
use crate::base::network::{NetState, NetWatch};
use crate::base::node::Node;
use crate::boot::attempts::Attempts;
use bootwright_base::Failure;
use bootwright_base::background;
use bootwright_base::sys::Sys;
use bootwright_netconf::dns::NameServers;
use bootwright_netconf::sntp::{self, Sample, SntpError, format_offset};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Pause between two looks at the network.
const LOOK: Duration = Duration::from_millis(20);
/// Limit for the servers' answers, and number of questions after which the phase has failed.
const ANSWER: Duration = Duration::from_secs(4);
const ATTEMPTS: u32 = 3;
/// Shortest and longest pause between later questions: 2^6 and 2^10 s, as usual in RFC 5905.
const SHORTEST_S: u64 = 64;
const LONGEST_S: u64 = 1024;
const NANOS: i128 = 1_000_000_000;
/// Larger errors are set at once and not slewed. At the kernel's 500 ppm this one takes five and a half hours; with a
/// larger error certificates would be judged wrongly for long.
const MOST_SLEWED_NS: i128 = 10 * NANOS;

/// Starts phase `time` in its own thread.
pub fn start(node: &Arc<Node>, network: NetWatch, attempts: Attempts) {
    let attempts = Arc::new(attempts);
    let (own, theirs, watch) = (node.clone(), attempts.clone(), network.clone());
    if let Err(error) = background::spawn("time", Box::new(move || run(&own, &watch, &theirs))) {
        attempts.fail(&error);
        end(node, &network);
    }
}

/// Opens the gate, and lets services with `after = ["time"]` start.
fn end(node: &Node, network: &NetWatch) {
    node.time.open();
    network.update(|state| state.time_over = true);
}

fn run(node: &Node, network: &NetWatch, attempts: &Attempts) {
    let state = await_network(network);
    attempts.run(&mut || set_first(node, &state));
    end(node, network);
    let mut wait_s = SHORTEST_S;
    loop {
        thread::sleep(Duration::from_secs(wait_s));
        wait_s = match ask(node, &network.state()) {
            Ok(sample) => {
                follow(node, &sample, wait_s);
                (wait_s * 2).min(LONGEST_S)
            }
            // Silence is normal, for instance without a cable. Servers that refuse must not be flooded.
            Err(SntpError::NoServer | SntpError::NoAnswer(_)) => LONGEST_S.min(wait_s * 2),
            Err(error) => {
                node.timeline.note(&["time: ", &error.to_string()].concat());
                LONGEST_S
            }
        };
    }
}

fn await_network(network: &NetWatch) -> NetState {
    loop {
        let state = network.state();
        if state.up || state.over {
            return state;
        }
        thread::sleep(LOOK);
    }
}

/// Sets the clock. Does nothing when no server is named.
fn set_first(node: &Node, state: &NetState) -> Result<(), Failure> {
    for attempt in 1.. {
        match ask(node, state) {
            Ok(sample) => {
                step(node.sys, sample.offset_ns)?;
                let text = ["time: the clock was ", &format_offset(-sample.offset_ns), " off: set"].concat();
                if sample.offset_ns.abs() >= NANOS / 10 {
                    node.timeline.note(&text);
                }
                break;
            }
            Err(SntpError::NoServer) => break,
            Err(SntpError::NoAnswer(_)) if attempt < ATTEMPTS => thread::sleep(Duration::from_secs(1)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn ask(node: &Node, state: &NetState) -> Result<Sample, SntpError> {
    let servers = servers(node, state);
    sntp::ask(&servers, &NameServers::from_facts(&state.facts), node.config.clock_floor, ANSWER)
}

/// The time servers: of `bw.time=` (divided by commas), else of the recipe, else of DHCP. There is no built-in one: an
/// image asks only servers that its owner has named.
fn servers(node: &Node, state: &NetState) -> Vec<String> {
    let mut servers: Vec<String> = match node.cmdline.stated("bw.time") {
        Some(list) => list.split(',').filter(|name| !name.is_empty()).map(String::from).collect(),
        None => node.config.time.servers.clone(),
    };
    if node.cmdline.stated("bw.time").is_none() {
        servers.extend(state.facts.ntp.iter().map(|ip| ip.to_string()));
    }
    servers
}

/// Corrects the clock while the node runs: by its rate, so that no time comes twice, or at once when it is far off.
fn follow(node: &Node, sample: &Sample, wait_s: u64) {
    let offset_ns = sample.offset_ns;
    let done = match offset_ns.abs() > MOST_SLEWED_NS {
        true => {
            node.timeline.note(&["time: the clock was ", &format_offset(-offset_ns), " off: set"].concat());
            step(node.sys, offset_ns)
        }
        false => node.sys.slew_clock(to_i64(offset_ns), wait_s).map_err(ClockError),
    };
    if let Err(error) = done {
        node.timeline.note(&["time: ", &error.to_string()].concat());
    }
}

fn step(sys: &dyn Sys, offset_ns: i128) -> Result<(), ClockError> {
    let (seconds, nanos) = (offset_ns.div_euclid(NANOS), offset_ns.rem_euclid(NANOS));
    sys.step_clock(to_i64(seconds), to_i64(nanos)).map_err(ClockError)
}

/// The nearest value of the kernel's type.
fn to_i64(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::timeline::Timeline;
    use bootwright_base::cmdline::parse_cmdline;
    use bootwright_base::sys::fake::FakeSys;
    use bootwright_contract::fixture::boot_config;

    fn node(fake: &'static FakeSys, cmdline: &str) -> Node {
        let mut config = boot_config();
        config.time.servers = vec!["ntp.lab".into()];
        let timeline = Arc::new(Timeline::new(&[], Box::new(std::io::sink())));
        Node::new(config, parse_cmdline(cmdline), timeline, fake)
    }

    #[test]
    fn nobody_is_asked_who_was_not_named() {
        let fake: &'static FakeSys = Box::leak(Box::default());
        let mut state = NetState::default();
        state.facts.ntp = vec![[10, 0, 0, 1].into()];
        assert_eq!(servers(&node(fake, ""), &state), ["ntp.lab", "10.0.0.1"]);
        assert_eq!(servers(&node(fake, "bw.time=a,10.0.0.2"), &state), ["a", "10.0.0.2"]);
        assert!(servers(&node(fake, "bw.time="), &state).is_empty());
    }

    #[test]
    fn small_errors_are_slewed_and_large_ones_set() {
        let fake: &'static FakeSys = Box::leak(Box::default());
        let node = node(fake, "");
        for offset_ns in [5_000_000, -9 * NANOS, 11 * NANOS, -11 * NANOS - 1] {
            follow(&node, &Sample { offset_ns, error_ns: 0 }, 64);
        }
        let calls =
            ["slew_clock 5000000 64", "slew_clock -9000000000 64", "step_clock 11 0", "step_clock -12 999999999"];
        assert_eq!(fake.calls(), calls);
    }
}
