//! Phase `network`: a thread that finds links, sets them up, and keeps them up as long as the machine runs.

use crate::base::network::{NetHandle, NetWatch, places};
use crate::base::node::Node;
use crate::boot::attempts::Attempts;
use crate::modules;
use bootwright_base::Failure;
use bootwright_base::background;
use bootwright_base::channel::{Sender, channel};
use bootwright_base::identity;
use bootwright_base::wake;
use bootwright_iscsi::ibft;
use bootwright_netconf::dhcp::DhcpClient;
use bootwright_netconf::engine::{Engine, EngineReport, Millis, NetworkOutcome};
use bootwright_netconf::plan::Plan;
use bootwright_netconf::setup::NetworkFacts;
use bootwright_netconf::{files, plan, setup};
use bootwright_roots::{iscsi, survival};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Pause between attempts when the kernel does not even allow a netlink socket.
const PAUSE: std::time::Duration = std::time::Duration::from_secs(5);

/// dracut's word: configure the card as the firmware's iSCSI table says.
const IP_OF_FIRMWARE: &str = "ibft";

/// For a root or volume on a server: makes PID1 able to repair it, and starts the thread that reboots when it stays
/// lost. Called by the first thread before it starts others.
pub fn outlive_servers(node: &Node) {
    survival::prepare(node.sys, &*node.timeline);
    if let Err(error) = node.statuses.enforce(&node.config.root, node.sys) {
        node.timeline.note(&["nobody will reboot when a server stays lost: ", &error.to_string()].concat());
    }
}

/// Phase `network`, in its own thread.
pub fn start(node: &Arc<Node>, attempts: Attempts) -> NetHandle {
    let pair = wake::pair();
    if let Err(error) = &pair {
        node.timeline.note(&["network: no socket pair: ", &error.to_string()].concat());
    }
    let network = NetHandle::new(pair.ok());
    let attempts = Arc::new(attempts);
    let reporter = Reporter {
        node: node.clone(),
        network: network.watch(),
        attempts: attempts.clone(),
        plan: Mutex::new(None),
        writer: OnceLock::new(),
    };
    if let Err(error) = background::spawn("network", Box::new(move || reporter.run())) {
        attempts.fail(&error);
        network.watch().update(|state| state.over = true);
    }
    network
}

/// Writes the state of the network to the timeline, the main loop's state, and the files.
struct Reporter {
    node: Arc<Node>,
    network: NetWatch,
    attempts: Arc<Attempts>,
    plan: Mutex<Option<Plan>>,
    /// The thread that writes the files when `/etc` is on a server, where a write may take as long as the server is
    /// away.
    writer: OnceLock<Sender<NetworkFacts>>,
}

impl Reporter {
    fn run(&self) {
        let mut engine = None;
        self.attempts.run(&mut || {
            if engine.is_none() {
                engine = Some(self.start()?);
            }
            engine.as_mut().map_or(Ok(()), Engine::wait_until_up)?;
            Ok(())
        });
        self.network.update(|state| state.over = true);
        let Some(mut engine) = engine else { return };
        loop {
            if let Err(error) = engine.step(None) {
                self.note(&error.to_string());
                std::thread::sleep(PAUSE);
            }
        }
    }

    /// Makes the plan, gives the node a first name, and looks for links.
    fn start(&self) -> Result<Engine<'_>, Failure> {
        let mut cmdline = self.node.cmdline.clone();
        if cmdline.values("ip").any(|value| value == IP_OF_FIRMWARE) {
            match self.ip_of_firmware() {
                Ok(ip) => {
                    self.note(&["the boot firmware had ip=", &ip].concat());
                    cmdline.replace("ip", IP_OF_FIRMWARE, &ip);
                }
                // The plan leaves the word out then, as other words that are not understood.
                Err(error) => self.note(&error.to_string()),
            }
        }
        let mut plan = plan::plan(&self.node.config.network, &cmdline)?;
        plan.keep = self.node.plan.needs_servers();
        plan.need_v6 = self.node.plan.needs_ipv6();
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = Some(plan.clone());
        for note in &plan.notes {
            self.note(note);
        }
        let uuid = identity::firmware_uuid(Path::new("/sys"));
        let hostname = self.node.cmdline.value("bw.hostname").map(String::from);
        let hostname = hostname.or_else(|| self.node.config.hostname.fallback.clone());
        let client = DhcpClient { mac: [0; 6], uuid: uuid.map(|uuid| uuid.wire()), hostname };
        let engine = Engine::new(plan.clone(), client, self, now)?;
        self.publish(
            &NetworkOutcome { link: None, setups: vec![], own: 0, up: false },
            engine.any_mac().as_ref(),
            &plan,
        );
        Ok(engine)
    }

    /// The configuration of the card in the firmware's iSCSI table, as an `ip=`.
    fn ip_of_firmware(&self) -> Result<String, Failure> {
        modules::load_named(self.node.sys, &self.node, &[iscsi::IBFT_MODULE])?;
        Ok(ibft::ip_param(Path::new(iscsi::IBFT))?)
    }

    /// Sets host name, files and facts. Failures are noted and end nothing.
    fn publish(&self, outcome: &NetworkOutcome<'_>, mac: Option<&[u8; 6]>, plan: &Plan) {
        let config = &self.node.config.hostname;
        let given = self.node.cmdline.value("bw.hostname");
        let from_dhcp = outcome.setups[..outcome.own].iter().find_map(|setup| setup.hostname.as_deref());
        let name = files::choose_hostname(given, plan.hostname.as_deref(), from_dhcp, config, mac);
        if let Err(errno) = nix::unistd::sethostname(&name.text) {
            self.note(&["cannot set the hostname: ", errno.desc()].concat());
        }
        let facts = setup::facts(outcome.link, outcome.own, &outcome.setups, plan, name);
        let news = self.network.state().facts != facts;
        if news && plan.keep {
            self.write_beside(facts.clone());
        } else if news && let Err(error) = setup::write_files(&places(), &facts) {
            self.note(&error.to_string());
        }
        self.network.update(|state| {
            state.up = outcome.up;
            state.facts = facts;
        });
    }

    /// Hands facts to the thread that writes the files. The network thread must go on renewing leases while the root's
    /// server is away.
    fn write_beside(&self, facts: NetworkFacts) {
        let writer = self.writer.get_or_init(|| {
            let (sender, receiver) = channel::<NetworkFacts>();
            let timeline = self.node.timeline.clone();
            let write = move || {
                while let Ok(first) = receiver.recv() {
                    let facts = receiver.try_iter().last().unwrap_or(first);
                    if let Err(error) = setup::write_files(&places(), &facts) {
                        timeline.note(&["network: ", &error.to_string()].concat());
                    }
                }
            };
            if let Err(error) = background::spawn("network files", Box::new(write)) {
                self.note(&["no files will be written: ", &error.to_string()].concat());
            }
            sender
        });
        // The send fails only without the thread, which was noted.
        let _ = writer.send(facts);
    }
}

impl EngineReport for Reporter {
    fn note(&self, text: &str) {
        self.node.timeline.note(&["network: ", text].concat());
    }

    fn changed(&self, outcome: &NetworkOutcome<'_>) {
        let plan = self.plan.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(plan) = plan else { return };
        // Facts stay while there is no address.
        let Some(link) = outcome.link else { return self.network.update(|state| state.up = false) };
        let was = self.network.state().facts;
        self.publish(outcome, Some(&link.mac), &plan);
        let facts = self.network.state().facts;
        if let Some(ip) = facts.ip.filter(|ip| was.ip != Some(*ip)) {
            self.note(&format!("{} has {ip}/{}, hostname {}", link.name, facts.prefix, facts.hostname));
        }
        if let Some(ip) = facts.ip6.filter(|ip| facts.ip != Some(IpAddr::V6(*ip)) && was.ip6 != Some(*ip)) {
            self.note(&format!("{} has {ip}", link.name));
        }
    }

    fn load_module(&self, name: &str, options: &str) -> Result<(), String> {
        modules::load_named(self.node.sys, &self.node, &[(name, options)]).map_err(|error| error.to_string())
    }
}

fn now() -> Millis {
    bootwright_base::sys::uptime_ms()
}
