//! Which nodes were seen, and how far each is: from what they fetch, and from what they report.
//!
//! Anybody on the network may fetch and report. Nodes of nodes.toml always have their place; what strangers take is bounded, and who
//! sends much makes room for who sends little.

mod read_report;
mod view;

pub use read_report::{BadReport, ReadReport};
pub use view::{NodeStage, NodeView, PhaseView, ServiceView};

use super::http::{Client, Fetch};
use super::text::shown;
use crate::chain::{FOLDER, Index, IndexNode};
use crate::cluster::node_name;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// PID1 reports at least every 30 s.
const MISSED_AFTER: Duration = Duration::from_secs(45);
/// Strangers that are remembered.
const MOST_STRANGERS: usize = 1000;
/// Bytes of all that strangers told.
const MOST_BYTES: usize = 2 << 20;
/// Characters of a path.
const PATH: usize = 100;

/// All nodes.
#[derive(Debug, Default)]
pub struct NodeStates {
    known: Vec<KnownNode>,
    /// By their MAC or address.
    strangers: BTreeMap<String, SeenNode>,
    version: u64,
}

#[derive(Debug)]
struct KnownNode {
    node: IndexNode,
    seen: Option<SeenNode>,
}

/// What is known of a node that was seen.
#[derive(Debug, Clone)]
struct SeenNode {
    at: Instant,
    ip: IpAddr,
    /// Last file of the boot chain or of an image that it fetched.
    fetched: Option<String>,
    told: Option<ReadReport>,
    /// Another address that reported in its name.
    rival: Option<IpAddr>,
}

/// Why a machine may not join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadJoin {
    /// nodes.toml does not have it.
    Stranger,
    /// A known node reports from another address.
    NotItsAddress { name: String },
}

impl KnownNode {
    /// Whether what comes from that address may be this node. An address of its own in nodes.toml always is. Otherwise it is where it
    /// reports from, until it misses a report: then it may have booted again elsewhere.
    fn may_be_at(&self, ip: IpAddr, now: Instant) -> bool {
        let is_fresh = |seen: &&SeenNode| seen.told.is_some() && now.saturating_duration_since(seen.at) <= MISSED_AFTER;
        let reports_from = self.seen.as_ref().filter(is_fresh);
        self.node.address == Some(ip) || reports_from.is_none_or(|seen| seen.ip == ip)
    }
}

impl NodeStates {
    pub fn new(index: &Index) -> Self {
        let known = index.nodes.iter().map(|node| KnownNode { node: node.clone(), seen: None });
        Self { known: known.collect(), ..Self::default() }
    }

    /// Another one each time that something has changed.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Where known nodes are: by nodes.toml, and by what was heard of them.
    pub fn clients(&self) -> HashSet<Client> {
        let of = |known: &KnownNode| [known.node.address, known.seen.as_ref().map(|seen| seen.ip)];
        self.known.iter().flat_map(of).flatten().map(Client::of).collect()
    }

    /// Notes a fetch, and says whether it was a known node's. Only what a booting machine fetches counts.
    pub fn fetched(&mut self, fetch: &Fetch, now: Instant) -> bool {
        let path = fetch.path.trim_start_matches('/');
        let by_loader = path.starts_with(&format!("{FOLDER}/"))
            || ["vmlinuz", "initrd.img", "root.img", "images.img", "boot.ipxe"]
                .contains(&path.rsplit('/').next().unwrap_or(path));
        if !by_loader || fetch.status >= 400 {
            return false;
        }
        self.version += 1;
        let ip = fetch.client;
        let own = path.strip_prefix("boot/nodes/").and_then(|file| file.strip_suffix(".ipxe"));
        let own = own.and_then(|name| self.known.iter_mut().find(|known| known.node.name == name));
        let seen = || SeenNode { at: now, ip, fetched: Some(shown(path, PATH).into_owned()), told: None, rival: None };
        if let Some(known) = own {
            // Anybody may look at a script: while the node reports from elsewhere, that says nothing.
            if known.may_be_at(ip, now) {
                known.seen = Some(seen());
            }
            // Until it told who it is, it was a stranger.
            self.strangers.remove(&ip.to_string());
            true
        } else if let Some(known) = self.known.iter_mut().find(|k| k.seen.as_ref().is_some_and(|seen| seen.ip == ip)) {
            known.seen = Some(seen());
            true
        } else {
            let name = self.strangers.iter().find(|(_, seen)| seen.ip == ip).map(|(name, _)| name.clone());
            self.add_stranger(name.unwrap_or_else(|| ip.to_string()), seen());
            false
        }
    }

    /// Takes a report.
    ///
    /// # Errors
    /// One in the name of a node that is known to be elsewhere.
    pub fn reported(&mut self, told: ReadReport, from: IpAddr, now: Instant) -> Result<(), BadReport> {
        self.version += 1;
        let mac = told.mac.map(|mac| mac.to_string());
        let at = self.find(mac.as_deref(), told.uuid.as_deref());
        // What it fetched before it told who it is.
        self.strangers.retain(|_, seen| seen.ip != from || seen.told.is_some());
        let Some(known) = at.and_then(|at| self.known.get_mut(at)) else {
            let name = mac.unwrap_or_else(|| from.to_string());
            self.add_stranger(name, SeenNode { at: now, ip: from, fetched: None, told: Some(told), rival: None });
            return Ok(());
        };
        if !known.may_be_at(from, now) {
            if let Some(seen) = &mut known.seen {
                seen.rival = Some(from);
            }
            return Err(BadReport::NotItsAddress { name: known.node.name.clone() });
        }
        let rival = known.seen.as_ref().and_then(|seen| seen.rival).filter(|rival| *rival != from);
        known.seen = Some(SeenNode { at: now, ip: from, fetched: None, told: Some(told), rival });
        Ok(())
    }

    /// The place of a node that has that MAC, or that UUID: a MAC comes first, as some boards all have the same UUID.
    fn find(&self, mac: Option<&str>, uuid: Option<&str>) -> Option<usize> {
        let by_mac = |known: &KnownNode| mac.is_some_and(|mac| known.node.macs.iter().any(|own| own == mac));
        let by_uuid = |known: &KnownNode| uuid.is_some() && known.node.uuid.as_deref() == uuid;
        self.known.iter().position(by_mac).or_else(|| self.known.iter().position(by_uuid))
    }

    /// The node of nodes.toml that a machine is which asks from that address.
    ///
    /// # Errors
    /// One that is not in nodes.toml, or that is known to be elsewhere.
    pub fn machine(
        &self,
        mac: Option<&str>,
        uuid: Option<&str>,
        from: IpAddr,
        now: Instant,
    ) -> Result<IndexNode, BadJoin> {
        let known = self.find(mac, uuid).and_then(|at| self.known.get(at)).ok_or(BadJoin::Stranger)?;
        match known.may_be_at(from, now) {
            true => Ok(known.node.clone()),
            false => Err(BadJoin::NotItsAddress { name: known.node.name.clone() }),
        }
    }

    /// Where the node of that name in the cluster is: by nodes.toml, and by what was heard of it.
    pub fn addresses_of(&self, node: &str) -> Option<Vec<IpAddr>> {
        let known = self.known.iter().find(|known| node_name(&known.node.hostname) == node)?;
        Some([known.node.address, known.seen.as_ref().map(|seen| seen.ip)].into_iter().flatten().collect())
    }

    /// Remembers one, and forgets others where there is no room: of the client that takes most, who was not heard of for longest.
    fn add_stranger(&mut self, name: String, seen: SeenNode) {
        self.strangers.insert(name, seen);
        let mut bytes: usize = self.strangers.values().map(bytes_of).sum();
        while self.strangers.len() > MOST_STRANGERS || bytes > MOST_BYTES {
            let mut taken: HashMap<Client, usize> = HashMap::new();
            for seen in self.strangers.values() {
                *taken.entry(Client::of(seen.ip)).or_default() += bytes_of(seen);
            }
            let key = |seen: &SeenNode| (taken.get(&Client::of(seen.ip)).copied(), std::cmp::Reverse(seen.at));
            let Some(name) = self.strangers.iter().max_by_key(|(_, seen)| key(seen)).map(|(name, _)| name.clone())
            else {
                return;
            };
            bytes -= self.strangers.remove(&name).map_or(0, |seen| bytes_of(&seen));
        }
    }

    /// All nodes of nodes.toml in its order, then strangers.
    pub fn views(&self, now: Instant) -> Vec<NodeView> {
        let known = self.known.iter().map(|k| NodeView::new(&k.node.name, Some(&k.node), k.seen.as_ref(), now));
        let strangers = self.strangers.iter().map(|(name, seen)| NodeView::new(name, None, Some(seen), now));
        known.chain(strangers).collect()
    }
}

/// Roughly.
fn bytes_of(seen: &SeenNode) -> usize {
    size_of::<SeenNode>() + PATH + seen.told.as_ref().map_or(0, |told| told.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::SCHEMA;
    use serde_json::json;

    const IP: &str = "192.0.2.11";

    fn state() -> NodeStates {
        let node = IndexNode {
            name: "n1".into(),
            hostname: "n1.lab".into(),
            macs: vec!["52:54:00:00:00:01".into()],
            uuid: Some("0e3c1a5b-0000-4000-8000-0123456789ab".into()),
            image: "worker".into(),
            address: None,
        };
        NodeStates::new(&Index { schema: SCHEMA, nodes: vec![node], report: None })
    }

    fn fetch(path: &str) -> Fetch {
        Fetch {
            client: IP.parse().unwrap(),
            method: "GET".into(),
            path: path.into(),
            range: None,
            status: 200,
            bytes: None,
        }
    }

    fn report(mac: &str, phases: serde_json::Value, services: serde_json::Value) -> ReadReport {
        let report = json!({
            "version": 1, "uuid": null,
            "network": { "hostname": "h", "mac": mac, "ip": IP, "more": 1 },
            "timeline": { "version": 1, "recipe": "worker", "image_id": "x", "phases": phases, "services": services },
        });
        ReadReport::parse(report.to_string().as_bytes()).unwrap()
    }

    fn phase(name: &str, outcome: Option<&str>) -> serde_json::Value {
        json!({ "name": name, "start_s": 1.0, "end_s": outcome.map(|_| 1.5), "outcome": outcome })
    }

    #[test]
    fn a_node_from_its_loader_to_its_services() {
        let (mut state, begin) = (state(), Instant::now());
        let told = |state: &NodeStates, after_s| {
            let views = state.views(begin + Duration::from_secs(after_s));
            assert_eq!(views.len(), 1, "{views:?}");
            (views[0].name.clone(), views[0].stage, views[0].detail.clone())
        };
        assert_eq!(told(&state, 0), ("n1".into(), NodeStage::Unseen, "not seen yet".into()));
        for path in ["/boot/boot.ipxe", "/boot/nodes/n1.ipxe", "/worker/vmlinuz"] {
            state.fetched(&fetch(path), begin);
        }
        assert_eq!(told(&state, 1), ("n1".into(), NodeStage::Loading, "loading worker/vmlinuz".into()));
        let mac = "52:54:00:00:00:01";
        let mut take = |phases: serde_json::Value, services| {
            state.reported(report(mac, phases, services), IP.parse().unwrap(), begin).unwrap();
            told(&state, 1).1
        };
        assert_eq!(take(json!([phase("mounts", Some("ok")), phase("root", None)]), json!([])), NodeStage::Booting);
        assert_eq!(take(json!([phase("root", Some("no luck"))]), json!([])), NodeStage::Failed);
        let retried = json!([phase("root", Some("no luck")), phase("root", Some("ok")), phase("services", None)]);
        let service =
            |ready: Option<f64>| json!([{ "name": "kubelet", "start_s": 2.0, "ready_s": ready, "restarts": 0 }]);
        assert_eq!(take(retried.clone(), service(None)), NodeStage::Starting);
        assert_eq!(take(retried, service(Some(3.0))), NodeStage::Up);
        assert_eq!(told(&state, 91).1, NodeStage::Silent);
        state.fetched(&fetch("/worker/boot.ipxe"), begin);
        assert_eq!(told(&state, 0).1, NodeStage::Loading, "it boots again");
    }

    #[test]
    fn strangers_and_noise() {
        let (mut state, now) = (state(), Instant::now());
        for path in ["/", "/status.json", "/favicon.ico"] {
            state.fetched(&fetch(path), now);
        }
        assert_eq!(state.views(now).len(), 1, "a browser is no node");
        state.fetched(&fetch("/boot/boot.ipxe"), now);
        let views = state.views(now);
        assert_eq!((views.len(), views[1].name.as_str(), views[1].known), (2, IP, false));
        state.reported(report("52:54:00:00:00:99", json!([]), json!([])), IP.parse().unwrap(), now).unwrap();
        let views = state.views(now);
        assert_eq!((views.len(), views[1].name.as_str()), (2, "52:54:00:00:00:99"));
        for bad in [&b"{"[..], b"[]", b"{\"version\":2,\"uuid\":null,\"network\":null,\"timeline\":{\"version\":1,\"recipe\":\"\",\"image_id\":\"\",\"phases\":[],\"services\":[]}}"] {
            assert!(ReadReport::parse(bad).is_err());
        }
        for i in 0..2000u32 {
            let client = std::net::Ipv4Addr::from(i).into();
            state.fetched(&Fetch { client, ..fetch("/boot/boot.ipxe") }, now);
        }
        assert!(state.views(now).len() <= MOST_STRANGERS + 1);
    }

    #[test]
    fn the_note_of_a_service_is_shown_and_steers_nothing() {
        let (mut state, now) = (state(), Instant::now());
        let long = "x".repeat(1000);
        let services = json!([
            { "name": "ssh-host-key", "start_s": 2.0, "ready_s": 3.0, "restarts": 0, "note": "host key SHA256:QkZ1" },
            { "name": "odd", "start_s": 2.0, "ready_s": null, "restarts": 0, "note": format!("a\u{202e}b{long}") },
            { "name": "kubelet", "start_s": 2.0, "ready_s": null, "restarts": 0 },
        ]);
        state.reported(report("52:54:00:00:00:01", json!([]), services), IP.parse().unwrap(), now).unwrap();
        let shown = serde_json::to_value(&state.views(now)[0].services).unwrap();
        assert_eq!(shown[0]["note"], "host key SHA256:QkZ1");
        let odd = shown[1]["note"].as_str().unwrap();
        assert!(odd.starts_with("a\u{fffd}bx") && odd.chars().count() == 257, "{odd}");
        assert_eq!(shown[2]["note"], serde_json::Value::Null);
    }

    fn told(mac: &str) -> ReadReport {
        report(mac, json!([]), json!([]))
    }

    #[test]
    fn a_node_is_where_it_reports_from_until_it_misses_a_report() {
        let (mut state, begin) = (state(), Instant::now());
        let ip = |n: u8| IpAddr::from([192, 0, 2, n]);
        let mac = "52:54:00:00:00:01";
        let at = |s| begin + Duration::from_secs(s);
        let shown = |state: &NodeStates, s| {
            let view = state.views(at(s)).remove(0);
            (view.ip.unwrap_or_default(), view.rival, view.stage)
        };
        state.reported(told(mac), ip(11), begin).unwrap();
        // Somebody looks at its script, and reports in its name.
        state.fetched(&Fetch { client: ip(66), ..fetch("/boot/nodes/n1.ipxe") }, at(1));
        assert_eq!(shown(&state, 1), ("192.0.2.11".into(), None, NodeStage::Booting));
        assert!(matches!(state.reported(told(mac), ip(66), at(2)), Err(BadReport::NotItsAddress { .. })));
        assert_eq!(shown(&state, 2), ("192.0.2.11".into(), Some("192.0.2.66".into()), NodeStage::Booting));
        state.reported(told(mac), ip(11), at(30)).unwrap();
        assert!(state.reported(told(mac), ip(66), at(60)).is_err());
        // It got another address when it booted again.
        state.reported(told(mac), ip(12), at(76)).unwrap();
        assert_eq!(shown(&state, 76).0, "192.0.2.12");
        assert_eq!(state.clients(), [Client::of(ip(12))].into());
    }

    #[test]
    fn a_node_with_an_address_of_its_own_is_believed_there() {
        let (mut state, now) = (state(), Instant::now());
        let (own, other) = (IpAddr::from([192, 0, 2, 7]), IpAddr::from([192, 0, 2, 66]));
        state.known[0].node.address = Some(own);
        assert_eq!(state.clients(), [Client::of(own)].into(), "before it was seen");
        state.reported(told("52:54:00:00:00:01"), other, now).unwrap();
        state.reported(told("52:54:00:00:00:01"), own, now).unwrap();
        assert!(state.reported(told("52:54:00:00:00:01"), other, now).is_err());
    }

    #[test]
    fn a_machine_joins_as_the_node_that_it_is_and_from_where_it_is() {
        let (mut state, now) = (state(), Instant::now());
        let ip = |n: u8| IpAddr::from([192, 0, 2, n]);
        let (mac, uuid) = ("52:54:00:00:00:01", "0e3c1a5b-0000-4000-8000-0123456789ab");
        for (mac, uuid) in [(Some(mac), None), (None, Some(uuid)), (Some("52:54:00:00:00:99"), Some(uuid))] {
            assert_eq!(state.machine(mac, uuid, ip(11), now).unwrap().hostname, "n1.lab");
        }
        assert_eq!(state.machine(Some("52:54:00:00:00:99"), None, ip(11), now), Err(BadJoin::Stranger));
        assert_eq!(state.machine(None, None, ip(11), now), Err(BadJoin::Stranger));
        assert_eq!((state.addresses_of("n1.lab"), state.addresses_of("n1")), (Some(vec![]), None));
        state.reported(told(mac), ip(11), now).unwrap();
        assert_eq!(state.addresses_of("n1.lab"), Some(vec![ip(11)]));
        assert_eq!(state.machine(Some(mac), None, ip(66), now), Err(BadJoin::NotItsAddress { name: "n1".into() }));
        state.known[0].node.address = Some(ip(7));
        assert_eq!(state.addresses_of("n1.lab"), Some(vec![ip(7), ip(11)]));
    }

    #[test]
    fn a_mac_comes_before_a_uuid_that_several_have() {
        let (mut state, now) = (state(), Instant::now());
        let mut second = state.known[0].node.clone();
        (second.name, second.macs) = ("n2".into(), vec!["52:54:00:00:00:02".into()]);
        state.known.push(KnownNode { node: second, seen: None });
        let uuid = state.known[0].node.uuid.clone();
        state.reported(ReadReport { uuid, ..told("52:54:00:00:00:02") }, IP.parse().unwrap(), now).unwrap();
        let stages: Vec<NodeStage> = state.views(now).iter().map(|view| view.stage).collect();
        assert_eq!(stages, [NodeStage::Unseen, NodeStage::Booting]);
    }

    /// A report with as much as is kept of one.
    fn large(mac: &str) -> ReadReport {
        let phases: Vec<_> = (0..40).map(|i| phase(&format!("{i}"), Some(&"ß".repeat(300)))).collect();
        let services: Vec<_> =
            (0..500).map(|i| json!({ "name": format!("s{i}"), "start_s": 1, "ready_s": 2, "restarts": 0 })).collect();
        report(mac, json!(phases), json!(services))
    }

    #[test]
    fn what_is_kept_of_a_report_is_bounded_and_says_what_is_left_out() {
        let kept = large("52:54:00:00:00:01");
        assert!(kept.bytes <= 8 << 10, "{}", kept.bytes);
        assert_eq!((kept.services_ready, kept.services_all), (500, 500));
        let (mut state, now) = (state(), Instant::now());
        let listed = kept.services.len();
        state.reported(kept, IP.parse().unwrap(), now).unwrap();
        assert_eq!(state.views(now)[0].more_services, 500 - listed);
    }

    #[test]
    fn strangers_that_send_much_make_room_for_those_that_send_little() {
        let (mut state, now) = (state(), Instant::now());
        let from = |n: u32| IpAddr::V4(std::net::Ipv4Addr::from_bits(0xc000_0200 + n));
        state.reported(told("52:54:00:00:01:00"), from(1), now).unwrap();
        for n in 0..2000u32 {
            state
                .reported(
                    large(&format!("52:54:01:00:{:02x}:{:02x}", n >> 8, n & 255)),
                    from(2),
                    now + Duration::from_millis(n.into()),
                )
                .unwrap();
        }
        state.reported(told("52:54:00:00:01:01"), from(3), now).unwrap();
        let bytes: usize = state.strangers.values().map(bytes_of).sum();
        assert!(bytes <= MOST_BYTES && state.strangers.len() > 100, "{bytes} of {}", state.strangers.len());
        for small in ["52:54:00:00:01:00", "52:54:00:00:01:01", "52:54:01:00:07:cf"] {
            assert!(state.strangers.contains_key(small), "{small}");
        }
    }

    proptest::proptest! {
        /// Whatever is posted, the page can be shown.
        #[test]
        fn any_report_is_taken_or_refused(body in "\\PC{0,80}", start in -1e308f64..1e308, name in "\\PC{0,8}") {
            let (mut state, now) = (state(), Instant::now());
            let from = IP.parse().unwrap();
            let _ = ReadReport::parse(body.as_bytes());
            let phases = json!([{ "name": name, "start_s": start, "end_s": -start, "outcome": body }]);
            state.reported(report(&body, phases, json!([])), from, now).unwrap();
            serde_json::to_string(&state.views(now)).unwrap();
        }
    }
}
