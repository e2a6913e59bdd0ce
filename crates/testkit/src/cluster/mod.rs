//! A Kubernetes control plane for a test: etcd, API server and controllers on the loopback address, with keys of their own. A
//! machine of QEMU's user networking finds the API server at [`GUEST_HOST`].

mod api;
mod join;
mod keys;
mod process;

pub use api::{Answer, Api};
pub use join::BOOTSTRAP_TOKEN;
pub use keys::{Authority, Identity, certificate_request};

use crate::programs::cluster_programs;
use crate::running::free_port;
use process::Process;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// The host's loopback address as a machine of QEMU's user networking sees it.
pub const GUEST_HOST: &str = "10.0.2.2";
/// What pods get their addresses from.
const PODS: &str = "10.244.0.0/16";
/// The name of the proxy's socket in the folder of the cluster.
const NODE_PROXY: &str = "nodes.sock";
const SERVICES: &str = "10.96.0.0/16";
/// On a busy machine; on an idle one all of it takes some 3 s.
const START: Duration = Duration::from_secs(180);

/// A running control plane; it ends with its owner, and with the thread that started it.
pub struct Cluster {
    /// As somebody who may do everything.
    pub admin: Api,
    port: u16,
    authority: Authority,
    /// In the order in which they have to end: an API server without etcd would wait for it.
    processes: Vec<Process>,
    folder: TempDir,
}

/// The Kubernetes version of the control plane, without `v`.
pub fn kubernetes_version() -> &'static str {
    let mut lines = include_str!("../../programs/cluster/go.mod").lines();
    let version = lines.find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes v"));
    version.and_then(|rest| rest.split(' ').next()).expect("the programs' go.mod requires kubernetes")
}

impl Cluster {
    /// Builds the programs unless they are there, starts them and waits until the API server is ready. Nodes may then join
    /// with [`BOOTSTRAP_TOKEN`].
    pub fn start() -> Self {
        let programs = cluster_programs(&["etcd", "kube-apiserver", "kube-controller-manager"]);
        // On memory, as etcd writes a lot: what it holds is gone with the test anyway.
        let folder = tempfile::tempdir().expect("tests may write to the temporary folder");
        let authority = Authority::fresh();
        let at = |name: &str| folder.path().join(name);
        let (etcd_port, peer_port, port) = (free_port(), free_port(), free_port());

        let etcd =
            Process::start(&programs.join("etcd"), &etcd_arguments(&at("etcd"), etcd_port, peer_port), folder.path());
        let files = write_keys(&authority, folder.path());
        let egress = at("egress.yaml");
        write(&egress, &egress_selector(&at(NODE_PROXY)));
        let mut arguments = api_server_arguments(&files, port, etcd_port);
        arguments.push(format!("--egress-selector-config-file={}", egress.display()));
        let mut api_server = Process::start(&programs.join("kube-apiserver"), &arguments, folder.path());
        let admin = authority.client("admin", &["system:masters"]);
        let admin = Api::with_certificate(port, authority.certificate(), &admin);
        api_server.wait_until("the API server is ready", START, || {
            admin.try_get("/readyz").is_some_and(|answer| answer.status == 200)
        });

        let controllers = authority.client("system:kube-controller-manager", &[]);
        let config = at("controllers.kubeconfig");
        write(&config, &kubeconfig("127.0.0.1", port, authority.certificate(), &identity_fields(&controllers)));
        let arguments = controller_arguments(&files, &config);
        let controllers = Process::start(&programs.join("kube-controller-manager"), &arguments, folder.path());

        join::allow(&admin);
        Self { admin, port, authority, processes: vec![controllers, api_server, etcd], folder }
    }

    /// The API server's port of the loopback address.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The Unix socket at which the API server looks for a proxy that reaches nodes: [`crate::node_proxy::NodeProxy`].
    pub fn node_proxy(&self) -> PathBuf {
        self.folder.path().join(NODE_PROXY)
    }

    /// The certificate of the authority that the API server's one is signed by, in PEM.
    pub fn authority(&self) -> &str {
        self.authority.certificate()
    }

    /// The API server as somebody with this token sees it.
    pub fn api_with_token(&self, token: &str) -> Api {
        Api::with_token(self.port, self.authority.certificate(), token)
    }

    /// The API server as somebody with this certificate and its key sees it.
    pub fn api_with_certificate(&self, identity: &Identity) -> Api {
        Api::with_certificate(self.port, self.authority.certificate(), identity)
    }

    /// The API server as somebody without any credentials sees it.
    pub fn api_as_stranger(&self) -> Api {
        Api::as_stranger(self.port, self.authority.certificate())
    }

    /// What kubelet's `--bootstrap-kubeconfig` wants, on a machine of QEMU's user networking.
    pub fn bootstrap_kubeconfig(&self) -> String {
        kubeconfig(GUEST_HOST, self.port, self.authority.certificate(), &json!({ "token": BOOTSTRAP_TOKEN }))
    }

    /// The kubeconfig of somebody who may do everything, on this host.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        let config = self.folder.path().join("admin.kubeconfig");
        let admin = self.authority.client("admin", &["system:masters"]);
        write(&config, &kubeconfig("127.0.0.1", self.port, self.authority.certificate(), &identity_fields(&admin)));
        config
    }

    /// Runs `kubectl` as somebody who may do everything, for at most `limit_s`; what it printed on both streams.
    #[track_caller]
    pub fn kubectl(&self, limit_s: u32, args: &[&str]) -> String {
        let config = self.admin_kubeconfig();
        let mut command = Command::new("timeout");
        command.arg(limit_s.to_string()).arg(cluster_programs(&["kubectl"]).join("kubectl"));
        let output = command.arg("--kubeconfig").arg(config).args(args).output().expect("`timeout` runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "kubectl {args:?}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout) + &text(&output.stderr)
    }

    /// The conditions of a node; none of one that is not there.
    pub fn conditions(&self, node: &str) -> Vec<Value> {
        let node = self.admin.get(&format!("/api/v1/nodes/{node}")).body;
        node["status"]["conditions"].as_array().cloned().unwrap_or_default()
    }

    pub fn is_ready(&self, node: &str) -> bool {
        self.conditions(node).iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    }

    /// The process ids of its programs.
    pub fn pids(&self) -> Vec<u32> {
        self.processes.iter().map(Process::pid).collect()
    }
}

/// Files of the folder that programs are told of.
struct ClusterFiles {
    authority: Identity<PathBuf>,
    server: Identity<PathBuf>,
    kubelet_client: Identity<PathBuf>,
    /// The private key that tokens of service accounts are signed with, and the public one.
    service_accounts: [PathBuf; 2],
}

fn write_keys(authority: &Authority, folder: &Path) -> ClusterFiles {
    let store = |name: &str, identity: &Identity| {
        let place = |ending: &str| folder.join(format!("{name}.{ending}"));
        let files = Identity { certificate: place("crt"), key: place("key") };
        write(&files.certificate, &identity.certificate);
        write(&files.key, &identity.key);
        files
    };
    let service_accounts = ["service-accounts.key", "service-accounts.pub"].map(|name| folder.join(name));
    let (private, public) = keys::new_keys();
    write(&service_accounts[0], &private);
    write(&service_accounts[1], &public);
    ClusterFiles {
        authority: store("authority", authority.identity()),
        server: store("server", &authority.server(&["127.0.0.1", GUEST_HOST])),
        kubelet_client: store("kubelet-client", &authority.client("kube-apiserver", &[join::KUBELET_CLIENTS])),
        service_accounts,
    }
}

/// <https://etcd.io/docs/v3.6/op-guide/configuration/>
fn etcd_arguments(data: &Path, port: u16, peer_port: u16) -> Vec<String> {
    vec![
        format!("--data-dir={}", data.display()),
        format!("--listen-client-urls=http://127.0.0.1:{port}"),
        format!("--advertise-client-urls=http://127.0.0.1:{port}"),
        format!("--listen-peer-urls=http://127.0.0.1:{peer_port}"),
        "--unsafe-no-fsync".into(),
    ]
}

/// How the API server reaches nodes, for streams (`exec`) too
/// (<https://kubernetes.io/docs/tasks/extend-kubernetes/setup-konnectivity/>). In JSON, which is YAML too.
fn egress_selector(socket: &Path) -> String {
    let by_proxy = json!({
        "proxyProtocol": "HTTPConnect",
        "transport": { "uds": { "udsName": socket } },
    });
    json!({
        "apiVersion": "apiserver.k8s.io/v1beta1",
        "kind": "EgressSelectorConfiguration",
        "egressSelections": [
            { "name": "cluster", "connection": by_proxy },
            { "name": "controlplane", "connection": { "proxyProtocol": "Direct" } },
            { "name": "etcd", "connection": { "proxyProtocol": "Direct" } },
        ],
    })
    .to_string()
}

/// <https://kubernetes.io/docs/reference/command-line-tools-reference/kube-apiserver/>
fn api_server_arguments(files: &ClusterFiles, port: u16, etcd_port: u16) -> Vec<String> {
    let path = |path: &Path| path.display().to_string();
    vec![
        format!("--etcd-servers=http://127.0.0.1:{etcd_port}"),
        "--bind-address=127.0.0.1".into(),
        // It refuses to tell others of a loopback address.
        format!("--advertise-address={GUEST_HOST}"),
        format!("--secure-port={port}"),
        format!("--tls-cert-file={}", path(&files.server.certificate)),
        format!("--tls-private-key-file={}", path(&files.server.key)),
        format!("--client-ca-file={}", path(&files.authority.certificate)),
        format!("--kubelet-client-certificate={}", path(&files.kubelet_client.certificate)),
        format!("--kubelet-client-key={}", path(&files.kubelet_client.key)),
        "--kubelet-preferred-address-types=InternalIP".into(),
        format!("--service-account-key-file={}", path(&files.service_accounts[1])),
        format!("--service-account-signing-key-file={}", path(&files.service_accounts[0])),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
        "--authorization-mode=Node,RBAC".into(),
        "--enable-admission-plugins=NodeRestriction".into(),
        "--enable-bootstrap-token-auth=true".into(),
        "--allow-privileged=true".into(),
        format!("--service-cluster-ip-range={SERVICES}"),
    ]
}

/// <https://kubernetes.io/docs/reference/command-line-tools-reference/kube-controller-manager/>
fn controller_arguments(files: &ClusterFiles, kubeconfig: &Path) -> Vec<String> {
    let path = |path: &Path| path.display().to_string();
    vec![
        format!("--kubeconfig={}", path(kubeconfig)),
        // Its own port would only say that it is healthy.
        "--secure-port=0".into(),
        format!("--cluster-signing-cert-file={}", path(&files.authority.certificate)),
        format!("--cluster-signing-key-file={}", path(&files.authority.key)),
        format!("--root-ca-file={}", path(&files.authority.certificate)),
        format!("--service-account-private-key-file={}", path(&files.service_accounts[0])),
        "--use-service-account-credentials".into(),
        "--controllers=*,bootstrapsigner,tokencleaner".into(),
        "--allocate-node-cidrs".into(),
        format!("--cluster-cidr={PODS}"),
        format!("--service-cluster-ip-range={SERVICES}"),
        // An election that is lost on a busy machine would end it.
        "--leader-elect=false".into(),
    ]
}

/// A client's configuration in JSON, which is YAML too; `user` says who it is.
fn kubeconfig(host: &str, port: u16, authority: &str, user: &Value) -> String {
    let cluster =
        json!({ "server": format!("https://{host}:{port}"), "certificate-authority-data": keys::base64(authority) });
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "test", "cluster": cluster }],
        "users": [{ "name": "user", "user": user }],
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "user" } }],
        "current-context": "test",
    })
    .to_string()
}

fn identity_fields(identity: &Identity) -> Value {
    json!({
        "client-certificate-data": keys::base64(&identity.certificate),
        "client-key-data": keys::base64(&identity.key),
    })
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("the folder is the test's own");
}
