//! The worker joins a real control plane in the way that the README shows: `cluster add`, `serve`, and a boot by its own MAC.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use testkit::QEMU;
use testkit::cluster::{Cluster, GUEST_HOST};
use testkit::folders::work_folder;
use testkit::lab_worker::fenced_block;
use testkit::need::{have, pinned_go};
use testkit::node_proxy::NodeProxy;
use testkit::running::{Running, free_port, wait_until};
use testkit::serve::Serve;
use testkit::shipped::Shipped;
use testkit::ssh::{key, ssh_ok};

const RECIPE: &str = "lab-worker";
const MAC: &str = "52:54:00:00:00:31";
const ADDRESS: &str = "10.0.2.15";
/// QEMU's user networking is a NAT: `serve` cannot see where the node is. The second machine is this test's own.
const NODES: &str = r#"# our lab
[defaults]
recipe = "lab-worker"
cmdline = ["console=ttyS0", "panic=-1", "bw.timeline=/dev/ttyS1"]

[[node]]
name = "lab1"
mac = "52:54:00:00:00:31"
address = "10.0.2.15/24"
gateway = "10.0.2.2"
dns = ["10.0.2.3"]

[[node]]
name = "lab2"
mac = "52:54:00:00:00:32"
"#;

/// A project with the README's worker, built, and a nodes.toml whose cluster was added as the README says.
pub struct Lab {
    pub cluster: Cluster,
    pub project: Shipped,
    /// That `serve` is to listen at.
    port: u16,
}

impl Lab {
    /// `None` where a program is missing.
    pub fn new() -> Option<Self> {
        if !have(&["mksquashfs", "unsquashfs", "ssh", "ssh-keygen"]) || pinned_go().is_none() {
            return None;
        }
        let (cluster, project, port) = (Cluster::start(), Shipped::copy_below(&work_folder()), free_port());
        project
            .write(&format!("recipes/{RECIPE}.toml"), &fenced_block("README.md", "toml", "# recipes/lab-worker.toml"));
        project.write("nodes.toml", NODES);
        project.build(RECIPE, None, &["--set", &ssh_key()]);
        add_cluster(&cluster, &project);
        Some(Self { cluster, project, port })
    }

    pub fn serve(&self) -> Serve {
        Serve::start_at(self.port, self.project.path(), &["--out", "out"])
    }

    /// The folder of the image.
    pub fn image(&self) -> PathBuf {
        self.project.path().join("out").join(RECIPE)
    }
}

fn ssh_key() -> String {
    format!("ssh_key={}", key().public)
}

#[test]
fn a_machine_of_nodes_toml_is_a_node_after_its_boot_as_the_readme_says() {
    if !have(&[QEMU]) {
        return;
    }
    let Some(lab) = Lab::new() else { return };
    let (cluster, project) = (&lab.cluster, &lab.project);
    let built = project.path().join("out");
    let serve = lab.serve();
    let ssh_key = ssh_key();
    let recipe = project.path().join(format!("recipes/{RECIPE}.toml")).display().to_string();
    let (out, bootfile) = (built.display().to_string(), format!("http://{GUEST_HOST}:{}/boot/boot.ipxe", lab.port));
    let arguments = ["--recipe", &recipe, "--out", &out, "--set", &ssh_key, "--via", "ipxe", "--bootfile", &bootfile];
    let arguments = [&arguments[..], &["--mac", MAC, "--deadline-s", "300"]].concat();
    let machine = Running::boot(&arguments.iter().map(|word| word.to_string()).collect::<Vec<_>>(), Stdio::inherit());

    wait_until("the node is Ready", Duration::from_secs(120), || cluster.is_ready("lab1"));
    check_certificates(cluster, &serve);
    // kubelet lets nobody in whom the cluster does not, and shows a certificate for its own address.
    let kubelet = format!("https://{ADDRESS}:10250/pods");
    assert_eq!(NodeProxy::start(&machine).get_verified(&kubelet, cluster.authority()).0, 401);
    // The worker's login shell is PID1's control client.
    let status = ssh_ok(&machine, "status");
    let is = |name: &str, state: &str| status.lines().any(|line| line.starts_with(name) && line.contains(state));
    assert!(is("kubelet ", "ready") && is("join ", "done"), "{status}");
    assert!(testkit::console::read(&lab.image().join("smoke/console.log")).contains("certificate for lab as lab1"));
}

/// Adds the cluster as its administrator does, and checks what was shown and kept.
fn add_cluster(cluster: &Cluster, project: &Shipped) {
    let (admin, server) = (cluster.admin_kubeconfig(), format!("https://{GUEST_HOST}:{}", cluster.port()));
    let add = |more: &[&str]| {
        let mut tool = project.tool();
        tool.args(["cluster", "add", "lab", "--kubeconfig"]).arg(&admin).args(more);
        tool.output().expect("the tool runs")
    };
    let said = |output: &std::process::Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let local = add(&["--yes"]);
    assert!(local.status.code() == Some(2) && said(&local).contains("which no node reaches"), "{}", said(&local));
    let asked = add(&["--server", &server]);
    assert!(asked.status.code() == Some(2) && said(&asked).contains("agree to it with --yes"), "{}", said(&asked));
    assert_eq!(cluster.admin.get("/api/v1/namespaces/bootwright").status, 404, "nothing is made before");
    let added = add(&["--server", &server, "--dns", "10.96.0.10", "--yes"]);
    assert!(added.status.success(), "{}", said(&added));
    for shown in
        ["kind: ServiceAccount", "resourceNames: [kubernetes.io/kube-apiserver-client-kubelet", ".bootwright/lab.key"]
    {
        assert!(said(&added).contains(shown), "{}", said(&added));
    }
    // The test's cluster approves what comes with a bootstrap token.
    assert!(
        said(&added).contains("any bootstrap token of this cluster may become any of its nodes"),
        "{}",
        said(&added)
    );
    let nodes = std::fs::read_to_string(project.path().join("nodes.toml")).expect("it is there");
    assert!(nodes.starts_with(NODES) && nodes.contains(&server) && !nodes.contains("token"), "{nodes}");
}

/// The node's certificates are the cluster's, and no request is left behind but kubelet's own one, which was approved.
fn check_certificates(cluster: &Cluster, serve: &Serve) {
    let requests = || {
        let list = cluster.admin.get("/apis/certificates.k8s.io/v1/certificatesigningrequests").body;
        list["items"].as_array().cloned().unwrap_or_default()
    };
    wait_until("kubelet has a certificate to serve with", Duration::from_secs(60), || {
        requests().iter().any(|request| request["status"]["certificate"].is_string())
    });
    for request in requests() {
        assert_eq!(request["spec"]["username"], "system:node:lab1", "{request:#}");
        assert_eq!(request["spec"]["signerName"], "kubernetes.io/kubelet-serving", "{request:#}");
    }
    let log = serve.log();
    assert!(log.contains(" joins as lab1") && log.contains("system:node:lab1: certificate approved"), "{log}");
}
