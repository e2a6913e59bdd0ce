//! Pods that take one thing of a node without end, and what has to hold meanwhile: kubelet answers, a Guaranteed pod beside them lives on,
//! the culprit is named, and what it had comes back.

use crate::cluster::Cluster;
use crate::folders::project_root;
use crate::layout::add_image;
use crate::need::pinned_go;
use crate::running::wait_until;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// The name of the animals' image.
pub const IMAGE: &str = "registry.lab/zoo:1";
const PODS: &str = "/api/v1/namespaces/default/pods";
/// The Guaranteed pod.
const KEEPER: &str = "keeper";
/// For which kubelet may be silent.
const SILENCE: Duration = Duration::from_secs(30);
const LIMIT: Duration = Duration::from_secs(240);
/// What a culprit may leave behind for a while.
const NOT_BACK_BYTES: i64 = 16 << 20;

/// A pod that takes one thing without end.
#[derive(Debug, Clone, Copy)]
pub struct Animal {
    pub name: &'static str,
    /// Of the program.
    pub args: &'static [&'static str],
}

/// Takes memory until it is ended.
pub const HOG: Animal = Animal { name: "hog", args: &["memory"] };
/// Fills its container's own layer.
pub const LAYER_FILLER: Animal = Animal { name: "layer-filler", args: &["fill", "/"] };

/// Builds the animals and adds their image to a layout.
pub fn add_animals(layout: &Path) {
    let folder = crate::folders::new_folder();
    let program = folder.path().join("zoo");
    let mut build = Command::new(pinned_go().expect("the caller has looked"));
    build.args(["build", "-trimpath", "-ldflags", "-s -w", "-o"]).arg(&program).arg(".");
    build.current_dir(project_root().join("crates/testkit/programs/zoo")).env("CGO_ENABLED", "0");
    let status = build.env("GOFLAGS", "-mod=mod").status().expect("go runs");
    assert!(status.success(), "the animals cannot be built");
    let program = std::fs::read(program).expect("it was built");
    add_image(layout, ("org.opencontainers.image.ref.name", IMAGE), &[("zoo", &program)], &["/zoo"]);
}

/// A node with a Guaranteed pod on it, on which animals are let loose.
pub struct Zoo<'a> {
    cluster: &'a Cluster,
    node: &'a str,
    boot_id: Value,
}

impl<'a> Zoo<'a> {
    /// Starts the Guaranteed pod, and returns when it runs.
    pub fn open(cluster: &'a Cluster, node: &'a str) -> Self {
        let mut zoo = Self { cluster, node, boot_id: Value::Null };
        zoo.boot_id = zoo.node()["status"]["nodeInfo"]["bootID"].clone();
        let keeper = Animal { name: KEEPER, args: &["keep"] };
        let mut pod = zoo.pod(keeper);
        let amounts = json!({ "cpu": "50m", "memory": "32Mi" });
        pod["spec"]["containers"][0]["resources"] = json!({ "limits": amounts, "requests": amounts });
        cluster.admin.create(PODS, &pod);
        cluster.kubectl(180, &["wait", "--for=condition=Ready", "--timeout=170s", "pod/keeper"]);
        zoo
    }

    fn node(&self) -> Value {
        self.cluster.admin.get(&format!("/api/v1/nodes/{}", self.node)).body
    }

    /// An animal's pod, without any limits.
    fn pod(&self, animal: Animal) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": { "name": animal.name },
            "spec": {
                "nodeName": self.node, "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1,
                "containers": [{ "name": "main", "image": IMAGE, "args": animal.args }],
            },
        })
    }

    /// Lets an animal loose until it was ended and named for it, takes it away, and waits until its memory is back.
    pub fn let_loose(&self, animal: Animal) {
        let before = self.taken();
        self.cluster.admin.create(PODS, &self.pod(animal));
        let (begun, mut answered) = (Instant::now(), Instant::now());
        let (mut ended, mut named, mut longest) = (None, None, Duration::ZERO);
        // A while longer than to the first end: it is started again.
        while ended.is_none() || named.is_none() || begun.elapsed() < SILENCE {
            if self.answers() {
                longest = longest.max(answered.elapsed());
                answered = Instant::now();
            }
            assert!(answered.elapsed() < SILENCE, "kubelet is silent while `{}` is loose", animal.name);
            assert!(begun.elapsed() < LIMIT, "`{}`: ended: {ended:?}, named: {named:?}", animal.name);
            ended = ended.or_else(|| self.end_of(animal.name));
            named = named.or_else(|| self.warning_about(animal.name));
            std::thread::sleep(Duration::from_millis(500));
        }
        eprintln!("{}: {ended:?}; {named:?}; kubelet's longest silence {longest:?}", animal.name);
        self.check_keeper();
        self.cluster.kubectl(120, &["delete", "pod", animal.name, "--timeout=110s"]);
        let back = || self.taken() < before + NOT_BACK_BYTES;
        wait_until("its memory is back", Duration::from_secs(90), back);
        self.check_keeper();
    }

    /// Whether kubelet answers the API server.
    fn answers(&self) -> bool {
        let path = format!("/api/v1/nodes/{}/proxy/healthz", self.node);
        self.cluster.admin.try_get(&path).is_some_and(|answer| answer.status == 200)
    }

    /// How a pod was ended: the reason of its container's end, or of its own.
    fn end_of(&self, name: &str) -> Option<String> {
        let status = self.cluster.admin.get(&format!("{PODS}/{name}")).body["status"].clone();
        let container = &status["containerStatuses"][0];
        let reasons = [
            &status["reason"],
            &container["state"]["terminated"]["reason"],
            &container["lastState"]["terminated"]["reason"],
        ];
        reasons.into_iter().find_map(|reason| reason.as_str()).map(String::from)
    }

    /// A warning whose object is that pod.
    fn warning_about(&self, name: &str) -> Option<String> {
        let path = format!("/api/v1/namespaces/default/events?fieldSelector=involvedObject.name={name},type=Warning");
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
        let status = self.cluster.admin.get(&format!("{PODS}/{KEEPER}")).body["status"].clone();
        assert_eq!(status["phase"], "Running", "the Guaranteed pod: {status:#}");
        assert_eq!(status["containerStatuses"][0]["restartCount"], 0, "the Guaranteed pod: {status:#}");
        let node = self.node();
        assert_eq!(node["status"]["nodeInfo"]["bootID"], self.boot_id, "the machine was reset");
    }
}
