//! Pods do on a worker what add-ons of clusters do, with the programs that add-ons bring.

use crate::static_pods;
use serde_json::{Value, json};
use testkit::folders::project_root;
use testkit::ssh::ssh_ok;
use testkit::vm::Running;
use testkit::{QEMU, need::have};

/// Where drivers of volumes have their sockets and mounts.
const PLUGINS: &str = "/var/lib/kubelet/plugins";

/// As in the images of CNI and CSI add-ons: the node's modules by Debian's modprobe, and its kernel's configuration.
const MODULES: &str = r#"
for name in vxlan xt_conntrack ip_set_hash_ip overlay loop squashfs crypto-sha256 no_such_module; do
    /usr/sbin/modprobe $name; echo "$name $?"
done
grep CONFIG_OVERLAY_FS= /boot/config-$(uname -r)
"#;
/// What a profile of AppArmor forbids to a container that may do it otherwise.
const MOUNT: &str = "cat /proc/self/attr/current; mkdir /m; mount -t tmpfs m /m && echo mounted || echo refused";
const USERS: &str =
    "cat /proc/self/uid_map; echo kept > /scratch/file; cat /scratch/file; grep -c localhost /etc/hosts";
/// As a CSI driver's node plugin: what it mounts is there for the node and for pods that run already. And as Cilium's installer: a program
/// that it leaves on the node runs among the node's mounts.
const MOUNTER: &str = r#"
mkdir -p /var/lib/kubelet/plugins/lab/volume
mount -t tmpfs lab /var/lib/kubelet/plugins/lab/volume
echo a volume > /var/lib/kubelet/plugins/lab/volume/file
cp /bin/sh /opt/cni/bin/sh
nsenter -t 1 -m /opt/cni/bin/sh -c 'grep ^ID= /etc/os-release'
[ -r /sys/kernel/btf/vmlinux ] && echo types
"#;
const READER: &str =
    "cd /var/lib/kubelet/plugins; echo waiting; until [ -e lab/volume/file ]; do sleep 0.2; done; cat lab/volume/file";
const IMAGE: &str = "[ -x /image/usr/bin/nri-plugin ] && touch /image/x || echo an image, not to be written";
const DEVICE: &str = "echo device $LAB_DEVICE; head -c 4 /dev/lab | wc -c";

/// A pod network for pods that have their own, and a device as its vendor describes it.
const NODE: &str = r#"
mkdir -p /etc/cni/net.d /var/run/cdi
echo '{"cniVersion":"1.0.0","name":"lab","plugins":[{"type":"bridge","bridge":"cni0","isGateway":true,
    "ipam":{"type":"host-local","ranges":[[{"subnet":"10.9.0.0/24"}]]}}]}' > /run/lab.conflist
mv /run/lab.conflist /etc/cni/net.d/10-lab.conflist
echo '{"cdiVersion":"0.6.0","kind":"lab.example/device","devices":[{"name":"one","containerEdits":{
    "env":["LAB_DEVICE=one"],"deviceNodes":[{"path":"/dev/lab","hostPath":"/dev/zero"}]}}]}' > /var/run/cdi/lab.json
"#;

#[test]
fn pods_load_modules_mount_volumes_are_confined_have_users_of_their_own_and_get_devices() {
    if !have(&[QEMU, "go", "ssh", "ssh-keygen"]) {
        return;
    }
    let machine = Running::start(&static_pods::worker(), &["--ram-mib", "1024"]);
    static_pods::import_image(&machine);
    ssh_ok(&machine, NODE);
    assert!(!["vxlan", "ip_set_hash_ip"].into_iter().any(|name| is_loaded(&machine, name)), "they come by the pod");
    // They start beside each other, which takes a slow machine half as long.
    start_pods(&machine);
    modules_are_loaded(&machine);
    what_confines_is_enforced(&machine);
    volumes_are_mounted(&machine);
    devices_are_given(&machine);
    devices_are_allocated(&machine);
    figures_are_exported(&machine);

    let sysctls = "cd /proc/sys; cat vm/max_map_count net/ipv6/conf/all/forwarding net/ipv4/conf/all/rp_filter";
    let values: Vec<u32> = ssh_ok(&machine, sysctls).split_whitespace().flat_map(str::parse).collect();
    assert!(matches!(values[..], [262_144..=u32::MAX, 1, 0]), "{values:?}");
    ssh_ok(&machine, "touch /etc/sysctl.d/99-zzz-override_cilium.conf");
}

fn is_loaded(machine: &Running, module: &str) -> bool {
    ssh_ok(machine, &format!("grep -c '^{module} ' /proc/modules; true")).trim() == "1"
}

/// A folder of the node, made when it is missing.
fn folder(path: &str) -> Value {
    json!({ "hostPath": { "path": path, "type": "DirectoryOrCreate" } })
}

fn start_pods(machine: &Running) {
    static_pods::start(machine, "modules", MODULES, |pod| {
        pod["spec"]["hostNetwork"] = json!(true);
        pod["spec"]["containers"][0]["securityContext"] = json!({ "privileged": true });
        static_pods::mount(pod, "modules", "/lib/modules", folder("/lib/modules"));
        static_pods::mount(pod, "boot", "/boot", folder("/boot"));
    });
    static_pods::start(machine, "plugin", "exec nri-plugin", |pod| {
        static_pods::mount(pod, "nri", "/var/run/nri", folder("/var/run/nri"));
    });
    for (name, profile) in [("confined", "RuntimeDefault"), ("free", "Unconfined")] {
        static_pods::start(machine, name, MOUNT, |pod| {
            pod["spec"]["securityContext"] = json!({ "appArmorProfile": { "type": profile } });
            pod["spec"]["containers"][0]["securityContext"] = json!({ "capabilities": { "add": ["SYS_ADMIN"] } });
        });
    }
    static_pods::start(machine, "users", USERS, |pod| {
        pod["spec"]["hostUsers"] = json!(false);
        static_pods::mount(pod, "scratch", "/scratch", json!({ "emptyDir": {} }));
    });
    static_pods::start(machine, "reader", READER, |pod| {
        static_pods::mount(pod, "plugins", PLUGINS, folder(PLUGINS));
        pod["spec"]["containers"][0]["volumeMounts"][1]["mountPropagation"] = json!("HostToContainer");
    });
    static_pods::start(machine, "image", IMAGE, |pod| {
        let image = json!({ "image": { "reference": "registry.internal/lab/pod:1", "pullPolicy": "Never" } });
        static_pods::mount(pod, "image", "/image", image);
    });
}

fn modules_are_loaded(machine: &Running) {
    let said = static_pods::said(machine, "modules");
    let present = ["vxlan", "xt_conntrack", "ip_set_hash_ip", "overlay", "loop", "squashfs", "crypto-sha256"];
    let expected = present.map(|name| format!("{name} 0"));
    for line in expected.iter().map(String::as_str).chain(["no_such_module 1", "CONFIG_OVERLAY_FS=m"]) {
        assert!(said.lines().any(|said| said == line), "{line}: {said}");
    }
    assert!(said.contains("FATAL: Module no_such_module not found"), "it is kmod: {said}");
    assert!(present[..3].iter().all(|name| is_loaded(machine, name)), "{said}");
}

fn what_confines_is_enforced(machine: &Running) {
    let said = static_pods::said(machine, "confined");
    assert!(said.starts_with("cri-containerd.apparmor.d (enforce)\n") && said.ends_with("refused\n"), "{said}");
    let said = static_pods::said(machine, "free");
    assert!(said.starts_with("unconfined\n") && said.ends_with("mounted\n"), "{said}");

    let said = static_pods::said(machine, "users");
    let map: Vec<u32> = said.lines().next().unwrap_or_default().split_whitespace().flat_map(str::parse).collect();
    assert!(matches!(map[..], [0, 65_536..=u32::MAX, 65_536]), "root is nobody on the node: {said}");
    assert!(said.contains("\nkept\n") && !said.ends_with("\n0\n"), "{said}");
}

fn volumes_are_mounted(machine: &Running) {
    let said = static_pods::said(machine, "image");
    assert!(said.ends_with("an image, not to be written\n") && said.contains("Read-only"), "{said}");

    static_pods::said_with(machine, "reader", "waiting");
    static_pods::start(machine, "mounter", MOUNTER, |pod| {
        pod["spec"]["hostPID"] = json!(true);
        pod["spec"]["containers"][0]["securityContext"] = json!({ "privileged": true });
        static_pods::mount(pod, "plugins", PLUGINS, folder(PLUGINS));
        static_pods::mount(pod, "cni", "/opt/cni/bin", folder("/opt/cni/bin"));
        let mounts = &mut pod["spec"]["containers"][0]["volumeMounts"];
        mounts[1]["mountPropagation"] = json!("Bidirectional");
        (mounts[1]["readOnly"], mounts[2]["readOnly"]) = (json!(false), json!(false));
    });
    assert_eq!(static_pods::said(machine, "mounter"), "ID=bootwright\ntypes\n");
    assert_eq!(ssh_ok(machine, &format!("cat {PLUGINS}/lab/volume/file")), "a volume\n");
    assert_eq!(static_pods::said(machine, "reader"), "waiting\na volume\n");
}

/// By a plugin of containerd, as vendors of devices have one.
fn devices_are_given(machine: &Running) {
    static_pods::said_with(machine, "plugin", "connected");
    static_pods::start(machine, "device", DEVICE, |pod| {
        pod["metadata"]["annotations"] = json!({ "lab/device": "lab.example/device=one" });
    });
    assert_eq!(static_pods::said(machine, "device"), "device one\n4\n");
    let seen = static_pods::said_with(machine, "plugin", "connected");
    assert!(seen.lines().any(|line| line.starts_with("device-") && line.ends_with(" main")), "{seen}");
}

/// By kubelet, which a device plugin has registered with: each once.
fn devices_are_allocated(machine: &Running) {
    let at = "/var/lib/kubelet/device-plugins";
    static_pods::start(machine, "devices", "exec devices plugin", |pod| {
        // As upstream's manifests have it: the folder has to be there.
        static_pods::mount(pod, "plugins", at, json!({ "hostPath": { "path": at, "type": "Directory" } }));
        pod["spec"]["containers"][0]["volumeMounts"][1]["readOnly"] = json!(false);
    });
    static_pods::said_with(machine, "devices", "listed");
    let wants = |name: &str, count: &str| {
        static_pods::start(machine, name, DEVICE, |pod| {
            pod["spec"]["containers"][0]["resources"] = json!({ "limits": { "lab.example/device": count } });
        });
    };
    wants("both", "2");
    assert_eq!(static_pods::said(machine, "both"), "device one,two\n4\n");
    let seen = static_pods::said_with(machine, "devices", "allocated one,two");
    assert!(seen.starts_with("registered\n") || seen.contains("\nregistered\n"), "{seen}");
    wants("third", "1");
    let refused = "for i in $(seq 300); do bootwright-ctl logs kubelet | grep third | grep -m 1 'Requested: 1, Available: 0' && exit; \
                   sleep 0.2; done; bootwright-ctl logs kubelet; exit 1";
    ssh_ok(machine, refused);
}

/// With the lines of docs/addons.md, beside what node-exporter reads, in its namespaces.
fn figures_are_exported(machine: &Running) {
    let docs = std::fs::read_to_string(project_root().join("docs/addons.md")).expect("the project has it");
    let block = docs.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).expect("it has one block of sh");
    let script = format!("{block}cat /textfile/bootwright.prom\ncat /proc/1/comm");
    static_pods::start(machine, "exporter", &script, |pod| {
        (pod["spec"]["hostNetwork"], pod["spec"]["hostPID"]) = (json!(true), json!(true));
        static_pods::mount(pod, "root", "/host", json!({ "hostPath": { "path": "/" } }));
        pod["spec"]["containers"][0]["volumeMounts"][1]["mountPropagation"] = json!("HostToContainer");
        static_pods::mount(pod, "textfile", "/textfile", json!({ "emptyDir": {} }));
    });
    let said = static_pods::said(machine, "exporter");
    for figure in ["phase_end_seconds{phase=\"root\"}", "service_ready_seconds{service=\"kubelet\"}"] {
        let line = said.lines().find_map(|line| line.strip_prefix("bootwright_")?.strip_prefix(figure));
        let seconds = line.and_then(|rest| rest.trim().parse::<f64>().ok());
        assert!(seconds.is_some_and(|seconds| seconds > 0.0), "{figure}: {said}");
    }
    assert!(said.lines().any(|line| line == "bootwright_service_restarts{service=\"kubelet\"} 0"), "{said}");
    assert!(said.ends_with("\ninit\n"), "the node's first process: {said}");
}
