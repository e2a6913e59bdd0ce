//! The worker joins a real control plane in the way that the README shows, with the README's own files.

use serde_json::json;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use testkit::QEMU;
use testkit::cluster::{Cluster, kubernetes_version};
use testkit::folders::{project_root, work_folder};
use testkit::layout::add_shell_images;
use testkit::need::{have, pinned_go};
use testkit::node_proxy::NodeProxy;
use testkit::running::{Running, free_port, wait_until};
use testkit::serve::Serve;
use testkit::shipped::Shipped;
use testkit::ssh::{key, ssh_ok};
use testkit::zoo::{HOG, LAYER_FILLER, Zoo, add_animals};

const RECIPE: &str = "lab-worker";
const OVERLAY: &str = "overlays/lab/etc/kubernetes";
/// Laid over the README's recipe: a network for pods, this test's mirror for their images, and a shell for them.
const PODS: &str = r#"
[vars]
debug = { default = true }
pod_network = { default = "bridge" }

[registry._default]
mirrors = ["http://10.0.2.2:PORT"]

[budget]
boot_files_mb = 80
ram_mib = 1024
"#;

#[test]
fn the_worker_joins_a_cluster_as_the_readme_says() {
    if !have(&[QEMU, "mksquashfs", "ssh", "ssh-keygen"]) || pinned_go().is_none() {
        return;
    }
    let cluster = Cluster::start();
    let project = Shipped::copy_below(&work_folder());
    let write = |path: String, text: &str| {
        let path = project.path().join(path);
        std::fs::create_dir_all(path.parent().expect("it lies in the project")).expect("the folder is the test's own");
        std::fs::write(path, text).expect("the folder is the test's own");
    };
    write(format!("recipes/{RECIPE}.toml"), &readme_block("toml", "# recipes/lab-worker.toml"));
    let registry = free_port();
    write(format!("recipes/{RECIPE}.d/10-pods.toml"), &PODS.replace("PORT", &registry.to_string()));
    write(format!("{OVERLAY}/kubelet.conf.d/90-lab.conf"), &readme_block("yaml", "# 90-lab.conf"));
    write(format!("{OVERLAY}/ca.crt"), cluster.authority());
    write(format!("{OVERLAY}/bootstrap.kubeconfig"), &cluster.bootstrap_kubeconfig());

    let ssh_key = format!("ssh_key={}", key().public);
    project.build(RECIPE, None, &["--set", &ssh_key]);
    let place = |path: &str| project.path().join(path).display().to_string();
    let recipe = place(&format!("recipes/{RECIPE}.toml"));
    let out = place("out");
    let arguments = ["--recipe", &recipe, "--out", &out, "--set", &ssh_key, "--append", "bw.hostname=lab1"];
    let built = project.path().join("out");
    add_shell_images(&built.join(RECIPE), &built.join("registry/lab"), "registry.lab/web:1", "hello");
    add_animals(&built.join("registry/lab"));
    let _serve = Serve::start_at(registry, project.path(), &["--out", "out"]);
    let machine = Running::boot(&arguments.map(String::from), Stdio::inherit());

    let condition = |name: &str| {
        let node = cluster.admin.get("/api/v1/nodes/lab1").body;
        let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|condition| condition["type"] == name)
    };
    wait_until("the node is Ready", Duration::from_secs(120), || {
        condition("Ready").is_some_and(|ready| ready["status"] == "True")
    });
    let node = cluster.admin.get("/api/v1/nodes/lab1").body;
    let info = &node["status"]["nodeInfo"];
    assert_eq!(info["kubeletVersion"], format!("v{}", kubernetes_version()), "{info:#}");
    assert_eq!(info["containerRuntimeVersion"], "containerd://2.4.2", "{info:#}");
    let manifest = std::fs::read(project.path().join(format!("out/{RECIPE}/manifest.json"))).expect("it was built");
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).expect("it is JSON");
    let image = manifest["image_id"].as_str().unwrap_or_default();
    let system = info["osImage"].as_str().unwrap_or_default();
    assert!(image.len() == 32 && system.ends_with(&format!(", {RECIPE} {}", &image[..12])), "{system}, image {image}");
    assert!(node["spec"]["podCIDR"].is_string(), "the controllers gave it addresses for its pods: {:#}", node["spec"]);
    let proxy = NodeProxy::start(&machine);
    proxy.answer_connect_at(&cluster.node_proxy());
    check_access(&cluster, &proxy);
    check_pod(&cluster);
    check_greed(&cluster, &built.join(RECIPE));
    // The worker's login shell is PID1's control client.
    let status = ssh_ok(&machine, "status");
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
    let zoo = Zoo::open(cluster, "lab1");
    zoo.let_loose(HOG);
    zoo.let_loose(LAYER_FILLER);
    // What the kernel says when it ends a process for the machine's lack of memory, not for that of a cgroup.
    let console = testkit::console::read(&image.join("smoke/console.log"));
    assert!(console.contains("Memory cgroup out of memory: Killed process"), "{console}");
    assert!(!console.contains("Out of memory: Killed process"), "{console}");
}

/// The README's fenced block of that language which starts with that line.
fn readme_block(language: &str, first_line: &str) -> String {
    let readme = std::fs::read_to_string(project_root().join("README.md")).expect("the project has one");
    let fence = format!("```{language}\n");
    let blocks = readme.split(&fence).skip(1).filter_map(|rest| rest.split("```").next());
    let mut found = blocks.filter(|block| block.starts_with(first_line));
    found.next().unwrap_or_else(|| panic!("the README has no {language} block `{first_line}`")).into()
}
