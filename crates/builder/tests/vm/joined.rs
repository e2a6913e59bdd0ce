//! What people and vendors of devices do with a node of a cluster: docs/debugging.md, sentence by sentence, on a node that has no shell;
//! and a driver of dynamic resource allocation.

use serde_json::{Value, json};
use std::time::Duration;
use testkit::cluster::Cluster;
use testkit::folders::project_root;
use testkit::running::wait_until;

const PODS: &str = "/api/v1/namespaces/default/pods";
const CLAIMS: &str = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims";
const LIMIT: Duration = Duration::from_secs(120);
/// A shell.
const TOOLS: &str = "registry.lab/web:1";

/// What the node has for these checks: crictl by the lines of docs/debugging.md, and the driver, whose image would take most of what
/// a node of this size has for images.
pub fn recipe() -> String {
    let docs = std::fs::read_to_string(project_root().join("docs/debugging.md")).expect("the project has it");
    let crictl = docs.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("one block of TOML");
    let dir = project_root().join("crates/testkit/programs/devices");
    let packages = "{ \".\" = \"usr/bin/devices\" }";
    format!(
        "{crictl}\n[[component]]\nname = \"devices\"\n\
         go = {{ dir = {dir:?}, packages = {packages}, tags = [\"grpcnotrace\"], ldflags = \"-s -w -buildid=\" }}\n"
    )
}

/// With the profile that kubectl takes by itself: in the node's namespaces, the node's files below /host.
const GENERAL: &str = r#"
grep ^ID= /host/etc/os-release
ls -d /host/var/log/pods/default_node-debugger-*
ps -o args | grep -o '^/usr/bin/kubelet'
chroot /host /bin/sh 2>&1
chroot /host /usr/bin/bootwright-ctl status 2>&1
"#;
/// As root with all of the node.
const SYSADMIN: &str = r#"
nsenter -t 1 -m /usr/bin/bootwright-ctl logs containerd | grep -c level=
chroot /host /usr/bin/bootwright-ctl status | grep -o '^kubelet .*ready'
chroot /host 2>&1 | head -n 1
mkdir /m && mount -t tmpfs x /m && echo mounted
chroot /host /usr/bin/crictl pods --name debugged --output json | grep -o '"SANDBOX_READY"'
chroot /host /usr/bin/crictl images | grep -o '^registry.lab/web '
pod=$(chroot /host /usr/bin/crictl pods --quiet --name debugged)
chroot /host /usr/bin/crictl exec $(chroot /host /usr/bin/crictl ps --quiet --pod $pod) /bin/sh -c 'echo in $(hostname)'
"#;

pub fn check_debug(cluster: &Cluster, node: &str) {
    start(cluster, "debugged", TOOLS, &["/bin/sh", "-c", "exec sleep 100000"], |_| ());
    cluster.kubectl(180, &["wait", "--for=condition=Ready", "--timeout=170s", "pod/debugged"]);

    let general = debug_node(cluster, node, &[], GENERAL);
    let lines: Vec<&str> = general.lines().collect();
    let [id, logs, process, shell, control] = lines[..] else { panic!("{general}") };
    assert_eq!((id, process), ("ID=bootwright", "/usr/bin/kubelet"), "{general}");
    assert!(logs.starts_with("/host/var/log/pods/default_node-debugger-"), "{general}");
    assert_eq!(shell, "chroot: can't execute '/bin/sh': No such file or directory");
    assert_eq!(control, "chroot: can't execute '/usr/bin/bootwright-ctl': Permission denied");

    let sysadmin = debug_node(cluster, node, &["--profile=sysadmin"], SYSADMIN);
    let lines: Vec<&str> = sysadmin.lines().map(str::trim).collect();
    assert!(lines[0].parse::<u32>().is_ok_and(|count| count > 0), "{sysadmin}");
    assert!(lines[1].starts_with("kubelet ") && lines[2].contains("unknown command `-i`"), "{sysadmin}");
    let of_crictl = ["\"SANDBOX_READY\"", "registry.lab/web", "in debugged"];
    assert_eq!((lines[3], &lines[4..]), ("mounted", &of_crictl[..]), "{sysadmin}");

    // A container beside those of a pod, with what it needs to look at them.
    let beside = "ps -o args | grep '^sleep'; cat /proc/1/root/bin/sh | head -c 4 | tail -c 3";
    let image = format!("--image={TOOLS}");
    cluster.kubectl(
        60,
        &["debug", "debugged", &image, "--target=main", "--container=beside", "--", "/bin/sh", "-c", beside],
    );
    wait_until("the container beside has ended", LIMIT, || {
        let pod = cluster.admin.get(&format!("{PODS}/debugged")).body;
        pod["status"]["ephemeralContainerStatuses"][0]["state"].get("terminated").is_some()
    });
    assert_eq!(cluster.kubectl(60, &["logs", "debugged", "-c", "beside"]), "sleep 100000\nELF");
    cluster.kubectl(120, &["delete", "pod", "debugged", "--timeout=110s", "--grace-period=1"]);
}

/// What a script says in a pod of `kubectl debug node/...`.
fn debug_node(cluster: &Cluster, node: &str, more: &[&str], script: &str) -> String {
    let (target, image) = (format!("node/{node}"), format!("--image={TOOLS}"));
    let args = [&["debug", &target, &image][..], more, &["--", "/bin/sh", "-c", script]].concat();
    let said = cluster.kubectl(60, &args);
    let pod =
        said.split(' ').find(|word| word.starts_with("node-debugger-")).expect("it says what it made").to_string();
    wait_until("the pod has ended", LIMIT, || {
        let phase = &cluster.admin.get(&format!("{PODS}/{pod}")).body["status"]["phase"];
        ["Succeeded", "Failed"].iter().any(|over| phase == over)
    });
    let logs = cluster.kubectl(60, &["logs", &pod]);
    cluster.kubectl(120, &["delete", "pod", &pod, "--timeout=110s", "--grace-period=1"]);
    logs
}

/// A driver registers with kubelet, prepares the device of a claim for a pod, and takes it back. The test allocates the claim, as a
/// scheduler would.
pub fn check_claim(cluster: &Cluster) {
    start(cluster, "driver", TOOLS, &["/usr/bin/devices", "driver"], |pod| {
        for path in ["/usr/bin", "/var/lib/kubelet/plugins", "/var/lib/kubelet/plugins_registry", "/var/run/cdi"] {
            mount(pod, path);
        }
    });
    let driver_says = |line: &str| {
        wait_until(&format!("the driver says `{line}`"), LIMIT, || {
            let phase = &cluster.admin.get(&format!("{PODS}/driver")).body["status"]["phase"];
            phase == "Running" && cluster.kubectl(60, &["logs", "driver"]).lines().any(|said| said.trim_end() == line)
        });
    };
    driver_says("registered true");

    let request = json!({ "name": "device", "exactly": { "deviceClassName": "lab.example" } });
    let claim = json!({
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": { "name": "mine" },
        "spec": { "devices": { "requests": [request] } },
    });
    cluster.admin.create(CLAIMS, &claim);
    let script = "echo $LAB_CLAIM; head -c 4 /dev/lab | wc -c";
    let user = start(cluster, "user", TOOLS, &["/bin/sh", "-c", script], |pod| {
        pod["spec"]["restartPolicy"] = json!("Never");
        pod["spec"]["resourceClaims"] = json!([{ "name": "device", "resourceClaimName": "mine" }]);
        pod["spec"]["containers"][0]["resources"] = json!({ "claims": [{ "name": "device" }] });
    });
    let status = json!({ "status": {
        "allocation": { "devices": { "results": [
            { "request": "device", "driver": "lab.example", "pool": "lab", "device": "one" },
        ] } },
        "reservedFor": [{ "resource": "pods", "name": "user", "uid": user["metadata"]["uid"] }],
    } });
    let patch =
        ["patch", "resourceclaim", "mine", "--subresource=status", "--type=merge", "--patch", &status.to_string()];
    cluster.kubectl(60, &patch);
    let over = "--for=jsonpath={.status.phase}=Succeeded";
    cluster.kubectl(180, &["wait", over, "--timeout=170s", "pod/user"]);
    assert_eq!(cluster.kubectl(60, &["logs", "user"]), "mine\n4\n");
    driver_says("prepared mine");
    cluster.kubectl(120, &["delete", "pod", "user", "--timeout=110s"]);
    driver_says("gave back mine");
    cluster.kubectl(120, &["delete", "pod", "driver", "--timeout=110s", "--grace-period=1"]);
}

/// Creates a pod for the node; what became of it.
fn start(cluster: &Cluster, name: &str, image: &str, command: &[&str], change: impl FnOnce(&mut Value)) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name },
        "spec": {
            "nodeName": "lab1", "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1,
            "containers": [{ "name": "main", "image": image, "command": command, "volumeMounts": [] }], "volumes": [],
        },
    });
    change(&mut pod);
    cluster.admin.create(PODS, &pod)
}

/// A folder of the node at its own path.
fn mount(pod: &mut Value, path: &str) {
    let spec = &mut pod["spec"];
    let name = path.rsplit('/').next().unwrap_or_default().replace('_', "-");
    let volume = json!({ "name": name, "hostPath": { "path": path, "type": "DirectoryOrCreate" } });
    spec["volumes"].as_array_mut().expect("a list").push(volume);
    let at = json!({ "name": name, "mountPath": path });
    spec["containers"][0]["volumeMounts"].as_array_mut().expect("a list").push(at);
}
