//! The worker joins a real control plane by a bootstrap token, with the files that docs/joining.md shows.

use crate::joined;
use serde_json::json;
use std::path::Path;
use std::time::Duration;
use testkit::QEMU;
use testkit::cluster::{Cluster, kubernetes_version};
use testkit::lab_worker::{LabWorker, NODE, RECIPE};
use testkit::need::{have, pinned_go};
use testkit::node_proxy::NodeProxy;
use testkit::running::wait_until;
use testkit::ssh::ssh_ok;
use testkit::zoo::{HOG, LAYER_FILLER, Zoo, add_animals};

#[test]
fn the_worker_joins_a_cluster_by_a_token_as_the_docs_say() {
    if !have(&[QEMU, "mksquashfs", "ssh", "ssh-keygen"]) || pinned_go().is_none() {
        return;
    }
    let cluster = Cluster::start();
    let LabWorker { machine, image, proxy, .. } = &LabWorker::join(&cluster, &joined::recipe(), None, 512, add_animals);
    let node = cluster.admin.get("/api/v1/nodes/lab1").body;
    let info = &node["status"]["nodeInfo"];
    assert_eq!(info["kubeletVersion"], format!("v{}", kubernetes_version()), "{info:#}");
    assert_eq!(info["containerRuntimeVersion"], "containerd://2.4.2", "{info:#}");
    let manifest = std::fs::read(image.join("manifest.json")).expect("it was built");
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("it is JSON");
    let id = manifest["image_id"].as_str().unwrap_or_default();
    let system = info["osImage"].as_str().unwrap_or_default();
    assert!(id.len() == 32 && system.ends_with(&format!(", {RECIPE} {}", &id[..12])), "{system}, image {id}");
    assert!(node["spec"]["podCIDR"].is_string(), "the controllers gave it addresses for its pods: {:#}", node["spec"]);
    proxy.answer_connect_at(&cluster.node_proxy());
    check_access(&cluster, proxy);
    check_pod(&cluster);
    joined::check_debug(&cluster, NODE);
    joined::check_claim(&cluster);
    check_greed(&cluster, image);
    // The worker's login shell is PID1's control client.
    let status = ssh_ok(machine, "status");
    assert!(status.lines().any(|line| line.starts_with("kubelet ") && line.contains("ready")), "{status}");
}

/// The API server is let in, by its certificate and the webhook, and nobody else.
fn check_access(cluster: &Cluster, proxy: &NodeProxy) {
    let by_api_server = |path: &str| cluster.admin.get(&format!("/api/v1/nodes/lab1/proxy/{path}"));
    let pods = by_api_server("pods");
    assert_eq!((pods.status, &pods.body["kind"]), (200, &json!("PodList")), "{pods:?}");
    let config = &by_api_server("configz").body["kubeletconfig"];
    assert_eq!(config["authentication"]["anonymous"]["enabled"], false, "{config:#}");
    assert_eq!(config["authorization"]["mode"], "Webhook", "{config:#}");
    assert_eq!(config["rotateCertificates"], true, "{config:#}");
    // A hard threshold of a file system would evict by figures that are older than what has filled it.
    for signal in ["nodefs.available", "nodefs.inodesFree", "imagefs.available", "imagefs.inodesFree"] {
        assert_eq!(config["evictionHard"][signal], "0%", "{config:#}");
        assert!(config["evictionSoft"][signal].is_string(), "{config:#}");
    }

    let address = cluster.admin.get("/api/v1/nodes/lab1").body["status"]["addresses"][0]["address"].clone();
    let kubelet = format!("https://{}:10250/pods", address.as_str().expect("the node has an address"));
    assert_eq!(proxy.get_as_stranger(&kubelet).0, 401);
}

/// A pod runs; its logs, a program in it and a port of it come through the API server.
fn check_pod(cluster: &Cluster) {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "web" },
        "spec": {
            "nodeName": "lab1", "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "main", "image": "registry.lab/web:1",
                "command": ["/bin/sh", "-c", "echo said by the pod; httpd -f -p 80 -h /www"],
                "readinessProbe": { "httpGet": { "path": "/index.html", "port": 80 }, "periodSeconds": 1 },
            }],
        },
    });
    // Service accounts are made by the controllers, a moment after the namespace.
    wait_until("a service account", Duration::from_secs(60), || {
        cluster.admin.get("/api/v1/namespaces/default/serviceaccounts/default").status == 200
    });
    cluster.admin.create("/api/v1/namespaces/default/pods", &pod);
    cluster.kubectl(180, &["wait", "--for=condition=Ready", "--timeout=170s", "pod/web"]);
    assert_eq!(cluster.kubectl(60, &["logs", "web"]), "said by the pod\n");
    let answer = cluster.kubectl(60, &["exec", "web", "--", "/bin/sh", "-c", "echo $((6 * 7)) $(hostname)"]);
    assert_eq!(answer, "42 web\n");
    let nodes = cluster.kubectl(60, &["get", "nodes", "--output=wide"]);
    assert!(nodes.contains("lab1") && nodes.contains("containerd://2.4.2"), "{nodes}");
    cluster.kubectl(120, &["delete", "pod", "web", "--timeout=110s"]);
}

/// Pods without limits take all memory, and all of the layers' tmpfs: what they do stays their own affair.
fn check_greed(cluster: &Cluster, image: &Path) {
    let zoo = Zoo::open(cluster, NODE);
    for animal in [HOG, LAYER_FILLER] {
        eprintln!("{}: {:?}", animal.name, zoo.let_loose(animal));
    }
    // What the kernel says when it ends a process for the machine's lack of memory, not for that of a cgroup.
    let console = testkit::console::read(&image.join("smoke/console.log"));
    assert!(console.contains("Memory cgroup out of memory: Killed process"), "{console}");
    assert!(!console.contains("Out of memory: Killed process"), "{console}");
}
