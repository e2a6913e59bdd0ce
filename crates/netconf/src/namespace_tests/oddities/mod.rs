//! What servers and command lines in the field say that they should not, as tables: what is played at the far end of the
//! cable, and what the machine has afterwards, seen by iproute2 and in its files and console lines.

mod dhcp;
mod dns;
mod router;
mod words;

use super::*;
use crate::files::Name;
use crate::setup::{NetworkFacts, NetworkFiles, facts, write_files};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

/// Rows that are played at the same time.
const AT_ONCE: usize = 16;
/// How long a row may take; one that is told to stay without an address ends as soon as its lines are said.
const ROW_MS: Millis = 20_000;
/// Between two looks at what the machine has.
const LOOK_MS: Millis = 200;
/// What comes a little later than the address, such as IPv6 addresses and a second answer.
const SETTLE_MS: Millis = 300;

/// What the machine has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Has {
    /// With prefix length, global ones only.
    addresses: Vec<String>,
    /// Of both families, without what the kernel makes by itself.
    routes: Vec<String>,
    /// Lines of `resolv.conf`.
    resolv: Vec<String>,
    mtu: u32,
}

/// The machine: it does with what the engine says what PID1 does.
struct Node {
    heard: Heard,
    plan: Plan,
    folder: PathBuf,
    facts: Mutex<NetworkFacts>,
}

impl EngineReport for Node {
    fn note(&self, text: &str) {
        self.heard.note(text);
    }

    fn changed(&self, outcome: &NetworkOutcome<'_>) {
        self.heard.changed(outcome);
        let name = Name { text: "node".into(), given: false };
        let found = facts(outcome.link, outcome.own, &outcome.setups, &self.plan, name);
        write_files(&self.places(), &found).expect("a folder of our own");
        *self.facts.lock().expect("no panic") = found;
    }

    fn load_module(&self, _: &str, _: &str) -> Result<(), String> {
        Ok(())
    }
}

impl Node {
    /// One that says what its plan has to say.
    fn new(plan: Plan) -> Node {
        static NODES: AtomicU32 = AtomicU32::new(0);
        let number = NODES.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("bootwright-oddity-{}-{number}", std::process::id()));
        let node = Node { heard: Heard::default(), plan, folder, facts: Mutex::default() };
        node.plan.notes.iter().for_each(|note| node.note(note));
        node
    }

    fn places(&self) -> NetworkFiles {
        NetworkFiles { etc: self.folder.join("etc"), run: self.folder.join("run") }
    }

    fn engine(&self) -> Engine<'_> {
        Engine::new(self.plan.clone(), client(), self, clock).expect("an engine")
    }

    fn facts(&self) -> NetworkFacts {
        self.facts.lock().expect("no panic").clone()
    }

    /// Steps until `holds`, and a little longer.
    fn run_until(&self, engine: &mut Engine, what: &str, holds: &dyn Fn() -> bool) {
        let until = clock() + ROW_MS;
        while !holds() {
            assert!(clock() < until, "{what}: not reached: {:?} {:#?}", has(), self.heard.all());
            engine.step(Some(clock() + LOOK_MS)).expect("a step");
        }
        let until = clock() + SETTLE_MS;
        while clock() < until {
            engine.step(Some(until)).expect("a step");
        }
    }

    /// Whether each of these was said.
    fn has_said(&self, lines: &[&str]) -> bool {
        let said = self.heard.all();
        lines.iter().all(|line| said.iter().any(|said| said.contains(line)))
    }

    fn resolv(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.join("etc/resolv.conf")).unwrap_or_default();
        text.lines().filter(|line| !line.starts_with('#')).map(String::from).collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // A node that never had an address has no folder.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What iproute2 sees on `veth0` in this thread's namespace.
fn has() -> Has {
    let ip = |args: &[&str]| {
        let output = Command::new("ip").args(args).output().expect("iproute2 is installed");
        String::from_utf8(output.stdout).expect("text")
    };
    let links = ip(&["-o", "link", "show", "dev", "veth0"]);
    let mtu = links.split_whitespace().skip_while(|word| *word != "mtu").nth(1).expect("an MTU");
    let addresses = ip(&["-o", "addr", "show", "dev", "veth0", "scope", "global"]);
    // `2: veth0    inet 10.7.0.9/24 brd ...`
    let address = |line: &str| line.split_whitespace().nth(3).map(String::from);
    let routes = [ip(&["-4", "route", "show", "dev", "veth0"]), ip(&["-6", "route", "show", "dev", "veth0"])].concat();
    let by_kernel = |line: &&str| !line.contains("proto kernel") && !line.starts_with("multicast");
    let route = |line: &str| {
        let detail = |word: &&str| !["proto", "scope", "src", "metric", "expires", "pref"].contains(word);
        line.split_whitespace().take_while(detail).collect::<Vec<_>>().join(" ")
    };
    Has {
        addresses: addresses.lines().filter_map(address).collect(),
        routes: routes.lines().filter(by_kernel).map(route).collect(),
        resolv: vec![],
        mtu: mtu.parse().expect("a number"),
    }
}

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(|text| text.to_string()).collect()
}

/// Plays all rows, several at a time; names those that failed.
fn play<R: Send + Copy + 'static>(rows: &[R], name: fn(&R) -> &'static str, row: fn(R, Cable)) {
    if !have("ip") {
        return;
    }
    let mut failed = Vec::new();
    for part in rows.chunks(AT_ONCE) {
        let start = |row_of: &R| {
            let row_of = *row_of;
            (name(&row_of), thread::spawn(move || with_cable(move |cable| row(row_of, cable))))
        };
        let started: Vec<_> = part.iter().map(start).collect();
        failed.extend(started.into_iter().filter_map(|(name, thread)| thread.join().err().map(|_| name)));
    }
    assert!(failed.is_empty(), "failed (see above): {failed:?}");
}
