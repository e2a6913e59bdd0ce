//! Pods that take one thing of a node without end, and what has to hold meanwhile: kubelet answers, the node stays Ready, a Guaranteed pod
//! beside them lives on, the culprit is named, and what it had comes back.

mod animals;

pub use animals::{ALL, Animal, HOG, LAYER_FILLER, add_animals, add_large_images};

use crate::cluster::Cluster;
use crate::running::wait_until;
use animals::{KEEPER, SLEEPER};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const PODS: &str = "/api/v1/namespaces/default/pods";
/// For which kubelet may be silent, or its node not Ready.
const SILENCE: Duration = Duration::from_secs(30);
const LIMIT: Duration = Duration::from_secs(240);
/// What a culprit may leave behind for a while.
const NOT_BACK_BYTES: i64 = 16 << 20;

/// How a container or its pod was ended, or why it was never begun.
const ENDS: [&str; 5] = ["OOMKilled", "Error", "Evicted", "ErrImagePull", "ImagePullBackOff"];

/// A node with a Guaranteed pod on it, on which animals are let loose.
pub struct Zoo<'a> {
    cluster: &'a Cluster,
    node: &'a str,
    boot_id: Value,
}

/// What one animal did, in words and figures.
#[derive(Debug)]
pub struct Visit {
    /// How it was ended.
    pub ended: String,
    /// The warning that names it.
    pub named: String,
    /// Kubelet's longest silence.
    pub silence: Duration,
    /// From its start to its memory being back.
    pub took: Duration,
}

impl<'a> Zoo<'a> {
    /// Starts the Guaranteed pod, and returns when it runs.
    pub fn open(cluster: &'a Cluster, node: &'a str) -> Self {
        let mut zoo = Self { cluster, node, boot_id: Value::Null };
        zoo.boot_id = zoo.node()["status"]["nodeInfo"]["bootID"].clone();
        let mut pod = KEEPER.pod(node);
        let amounts = json!({ "cpu": "50m", "memory": "32Mi" });
        pod["spec"]["containers"][0]["resources"] = json!({ "limits": amounts, "requests": amounts });
        // It is asked about PID1.
        pod["spec"]["hostPID"] = json!(true);
        cluster.admin.create(PODS, &pod);
        cluster.kubectl(180, &["wait", "--for=condition=Ready", "--timeout=170s", "pod/keeper"]);
        zoo
    }

    fn node(&self) -> Value {
        self.cluster.admin.get(&format!("/api/v1/nodes/{}", self.node)).body
    }

    /// Memory of PID1 that is its own, KiB.
    pub fn pid1_kib(&self) -> u64 {
        let said = self.cluster.kubectl(60, &["exec", KEEPER.name, "--", "/zoo", "pid1"]);
        said.trim().parse().unwrap_or_else(|_| panic!("PID1's memory: {said}"))
    }

    /// Lets an animal loose until it was ended and named for it, takes it away, and waits until its memory is back.
    pub fn let_loose(&self, animal: Animal) -> Visit {
        let before = self.taken();
        let pod = self.cluster.admin.create(PODS, &animal.pod(self.node));
        let uid = pod["metadata"]["uid"].as_str().expect("what was created has one");
        let begun = Instant::now();
        let mut watch = Watch::start(self, animal.name);
        let (mut ended, mut named) = (None, None);
        // A while longer than to the first end: it is started again.
        while ended.is_none() || named.is_none() || begun.elapsed() < SILENCE {
            watch.look();
            assert!(begun.elapsed() < LIMIT, "`{}`: ended: {ended:?}, named: {named:?}", animal.name);
            ended = ended.or_else(|| self.end_of(animal.name));
            named = named.or_else(|| self.warning_about(uid));
            std::thread::sleep(Duration::from_millis(500));
        }
        self.check_keeper();
        self.cluster.kubectl(120, &["delete", "pod", animal.name, "--timeout=110s"]);
        let back = || {
            watch.look();
            self.taken() < before + NOT_BACK_BYTES && self.is_calm()
        };
        wait_until("its memory is back", Duration::from_secs(90), back);
        self.check_keeper();
        let (ended, named) = (ended.unwrap_or_default(), named.unwrap_or_default());
        Visit { ended, named, silence: watch.longest, took: begun.elapsed() }
    }

    /// Starts as many pods at once as the node takes, and two more: those are refused, all others run. Returns how many ran.
    pub fn fill_up(&self) -> usize {
        let most = self.node()["status"]["allocatable"]["pods"].as_str().and_then(|pods| pods.parse::<usize>().ok());
        let free = most.expect("a node says how many pods it takes") - self.pods().len();
        let before = self.taken();
        let names: Vec<String> = (0..free + 2).map(|number| format!("{}-{number}", SLEEPER.name)).collect();
        for name in &names {
            let mut pod = SLEEPER.pod(self.node);
            pod["metadata"]["name"] = json!(name);
            self.cluster.admin.create(PODS, &pod);
        }
        let mut watch = Watch::start(self, "all of them");
        let begun = Instant::now();
        loop {
            watch.look();
            let phases: Vec<_> = self.pods().iter().map(|pod| pod["status"]["phase"].clone()).collect();
            let count = |phase: &str| phases.iter().filter(|found| *found == phase).count();
            if count("Running") == free + 1 && count("Failed") == 2 {
                break;
            }
            assert!(begun.elapsed() < LIMIT, "{} pods at once: {phases:?}", names.len());
            std::thread::sleep(Duration::from_millis(500));
        }
        let delete = ["delete", "pod", "--timeout=170s"].into_iter().chain(names.iter().map(String::as_str));
        self.cluster.kubectl(180, &delete.collect::<Vec<_>>());
        let back = || self.taken() < before + NOT_BACK_BYTES && self.is_calm();
        wait_until("their memory is back", Duration::from_secs(90), back);
        self.check_keeper();
        free
    }

    fn pods(&self) -> Vec<Value> {
        let all = self.cluster.admin.get(&format!("{PODS}?fieldSelector=spec.nodeName={}", self.node)).body;
        all["items"].as_array().cloned().unwrap_or_default()
    }

    /// Whether kubelet answers the API server.
    fn answers(&self) -> bool {
        let path = format!("/api/v1/nodes/{}/proxy/healthz", self.node);
        self.cluster.admin.try_get(&path).is_some_and(|answer| answer.status == 200)
    }

    /// Whether the node would take another pod: it is short of nothing.
    fn is_calm(&self) -> bool {
        self.cluster
            .conditions(self.node)
            .iter()
            .all(|condition| (condition["type"] == "Ready") == (condition["status"] == "True"))
    }

    fn end_of(&self, name: &str) -> Option<String> {
        let status = self.cluster.admin.get(&format!("{PODS}/{name}")).body["status"].clone();
        let container = &status["containerStatuses"][0];
        let reasons = [
            &status["reason"],
            &container["state"]["terminated"]["reason"],
            &container["lastState"]["terminated"]["reason"],
            &container["state"]["waiting"]["reason"],
        ];
        reasons.into_iter().filter_map(Value::as_str).find(|reason| ENDS.contains(reason)).map(String::from)
    }

    /// A warning whose object is that pod: this one, not an earlier one of the same name.
    fn warning_about(&self, uid: &str) -> Option<String> {
        let path = format!("/api/v1/namespaces/default/events?fieldSelector=involvedObject.uid={uid},type=Warning");
        let events = self.cluster.admin.get(&path).body;
        let event = events["items"].as_array()?.last()?;
        Some(format!("{}: {}", event["reason"], event["message"]))
    }

    /// Bytes of memory that pods have in use, as kubelet sees it: files in memory too, caches that nobody reads not.
    fn taken(&self) -> i64 {
        let path = format!("/api/v1/nodes/{}/proxy/stats/summary", self.node);
        let summary = self.cluster.admin.get(&path).body;
        let groups = summary["node"]["systemContainers"].as_array().cloned().unwrap_or_default();
        let pods = groups.iter().find(|group| group["name"] == "pods");
        let taken = pods.and_then(|pods| pods["memory"]["workingSetBytes"].as_i64());
        taken.unwrap_or_else(|| panic!("pods have no memory in {summary:#}"))
    }

    fn check_keeper(&self) {
        let status = self.cluster.admin.get(&format!("{PODS}/{}", KEEPER.name)).body["status"].clone();
        assert_eq!(status["phase"], "Running", "the Guaranteed pod: {status:#}");
        assert_eq!(status["containerStatuses"][0]["restartCount"], 0, "the Guaranteed pod: {status:#}");
        let node = self.node();
        assert_eq!(node["status"]["nodeInfo"]["bootID"], self.boot_id, "the machine was reset");
    }
}

/// Looks whether kubelet answers and its node is Ready, and fails when not for too long.
struct Watch<'a> {
    zoo: &'a Zoo<'a>,
    /// Who is loose meanwhile.
    who: &'a str,
    answered: Instant,
    ready: Instant,
    longest: Duration,
}

impl<'a> Watch<'a> {
    fn start(zoo: &'a Zoo<'a>, who: &'a str) -> Self {
        let now = Instant::now();
        Self { zoo, who, answered: now, ready: now, longest: Duration::ZERO }
    }

    fn look(&mut self) {
        if self.zoo.answers() {
            self.longest = self.longest.max(self.answered.elapsed());
            self.answered = Instant::now();
        }
        if self.zoo.cluster.is_ready(self.zoo.node) {
            self.ready = Instant::now();
        }
        assert!(self.answered.elapsed() < SILENCE, "kubelet is silent while `{}` is loose", self.who);
        assert!(self.ready.elapsed() < SILENCE, "the node is not Ready while `{}` is loose", self.who);
    }
}
