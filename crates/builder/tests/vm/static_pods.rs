//! Pods without a registry and without an API server: a worker with a shell, an image that the machine makes of itself, and static
//! pods that run a script.

use serde_json::{Value, json};
use testkit::folders::project_root;
use testkit::image::Image;
use testkit::ssh::{key, ssh_ok};
use testkit::vm::Running;

/// For a recipe: a pod range as a kubelet without a cluster is given it.
pub const POD_RANGE: &str = r#"
[[file]]
path = "/etc/kubernetes/kubelet.conf.d/90-pods.conf"
content = """
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
podCIDR: 10.244.7.0/24
"""
"#;

/// A worker with a shell and `ctr`, a pod range, and what goes into the pods' image: Debian's
/// kmod, a plugin of containerd and a device plugin.
pub fn worker() -> Image {
    let programs = project_root().join("crates/testkit/programs");
    let (plugin, devices) = (programs.join("nri"), programs.join("devices"));
    // They are more than the worker's budget allows.
    let recipe = format!(
        r#"
        [budget]
        boot_files_mb = 80
        ram_mib = 1024
        [[component]]
        name = "kmod"
        deb = {{ suite = "${{suite}}", packages = ["kmod"] }}
        paths = ["usr/bin/kmod"]
        [[component]]
        name = "nri-plugin"
        go = {{ dir = {plugin:?}, packages = {{ "." = "usr/bin/nri-plugin" }}, tags = ["nri_no_wasm"], ldflags = "-s -w -buildid=" }}
        [[component]]
        name = "devices"
        go = {{ dir = {devices:?}, packages = {{ "." = "usr/bin/devices" }}, ldflags = "-s -w -buildid=" }}
        "#
    );
    let key = format!("ssh_key={}", key().public);
    Image::build_variant("worker-debug", "worker", &(recipe + POD_RANGE), &["debug=true", "login_shell=/bin/sh", &key])
}

/// Imports an image for sandboxes and containers: one layer with a shell, kmod as `modprobe` and the plugins, with a merged `/usr`
/// as Debian's images have it.
const IMAGE: &str = r#"
set -e
mkdir -p /srv/layer/usr/bin /srv/layer/usr/sbin /srv/layer/usr/lib /srv/image/blobs/sha256 /etc/kubernetes/manifests
cp /usr/bin/busybox /srv/layer/usr/bin/sh
cp /usr/bin/kmod /usr/bin/nri-plugin /usr/bin/devices /srv/layer/usr/bin/
ln -s ../bin/kmod /srv/layer/usr/sbin/modprobe
cp -a /usr/lib64 /srv/layer/usr/
cp -a /usr/lib/x86_64-linux-gnu /srv/layer/usr/lib/
for folder in bin sbin lib lib64; do ln -s usr/$folder /srv/layer/$folder; done
blob() {
    hash=$(sha256sum < $1 | cut -d' ' -f1)
    echo "\"digest\":\"sha256:$hash\",\"size\":$(stat -c %s $1)"
    mv $1 /srv/image/blobs/sha256/$hash
}
kind='"mediaType":"application/vnd.oci.image'
tar -C /srv/layer -cf /srv/layer.tar .
rm -r /srv/layer
layer=$(blob /srv/layer.tar)
diff=$(echo "$layer" | cut -d'"' -f4)
echo '{"os":"linux","architecture":"amd64","config":{"Entrypoint":["/bin/sh","-c","sleep 100000"]},' \
    '"rootfs":{"type":"layers","diff_ids":["'$diff'"]}}' > /srv/config
config=$(blob /srv/config)
echo '{"schemaVersion":2,'$kind'.manifest.v1+json","config":{'$kind'.config.v1+json",'$config'},' \
    '"layers":[{'$kind'.layer.v1.tar",'$layer'}]}' > /srv/manifest
manifest=$(blob /srv/manifest)
cd /srv/image
echo '{"imageLayoutVersion":"1.0.0"}' > oci-layout
echo '{"schemaVersion":2,"manifests":[{'$kind'.manifest.v1+json",'$manifest',' \
    '"annotations":{"io.containerd.image.name":"registry.k8s.io/pause:3.10.1"}}]}' > index.json
tar -cf - . | ctr -n k8s.io images import -
ctr -n k8s.io images tag registry.k8s.io/pause:3.10.1 registry.internal/lab/pod:1
rm -r /srv/image
"#;

pub fn import_image(machine: &Running) {
    ssh_ok(machine, IMAGE);
}

/// Starts a static pod whose container runs a script; `change` has the last word on the pod. [`said`] gives what the script says.
pub fn start(machine: &Running, name: &str, script: &str, change: impl FnOnce(&mut Value)) {
    let run = format!("{{ {script}\n}} > /out/said 2>&1; echo > /out/over; exec sleep 100000");
    let mut pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name },
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "main",
                "image": "registry.internal/lab/pod:1",
                "imagePullPolicy": "Never",
                "command": ["/bin/sh", "-c", run],
                "volumeMounts": [{ "name": "out", "mountPath": "/out" }],
            }],
            "volumes": [{ "name": "out", "hostPath": { "path": format!("/run/pods/{name}"), "type": "DirectoryOrCreate" } }],
        },
    });
    change(&mut pod);
    let moved = format!("mv /run/{name}.json /etc/kubernetes/manifests/");
    ssh_ok(machine, &format!("cat > /run/{name}.json <<'POD'\n{pod}\nPOD\n{moved}"));
}

/// Mounts a volume into the pod's container, a folder of the node read-only.
pub fn mount(pod: &mut Value, name: &str, at: &str, source: Value) {
    let spec = &mut pod["spec"];
    let mount = json!({ "name": name, "mountPath": at, "readOnly": source.get("hostPath").is_some() });
    let mut volume = source;
    volume["name"] = name.into();
    spec["volumes"].as_array_mut().expect("a list").push(volume);
    spec["containers"][0]["volumeMounts"].as_array_mut().expect("a list").push(mount);
}

/// What a pod's script has said when it is over.
#[track_caller]
pub fn said(machine: &Running, name: &str) -> String {
    said_once(machine, name, "[ -e over ]")
}

/// What a pod's script has said once it has said that line.
#[track_caller]
pub fn said_with(machine: &Running, name: &str, line: &str) -> String {
    said_once(machine, name, &format!("grep -qx '{line}' said 2>/dev/null"))
}

#[track_caller]
fn said_once(machine: &Running, name: &str, condition: &str) -> String {
    let logs = "for of in kubelet containerd; do bootwright-ctl logs $of | tail -n 20; done";
    let wait = format!(
        "for i in $(seq 600); do if {condition}; then cat said; exit; fi; sleep 0.2; done; cat said; {logs}; exit 1"
    );
    ssh_ok(machine, &format!("mkdir -p /run/pods/{name}; cd /run/pods/{name}; {wait}"))
}
