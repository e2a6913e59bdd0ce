//! Container images that are baked in: pods start from them with no registry, whatever the root; servers that hold them may go and come
//! back, and what they change is refused.

use crate::outage::{self, SHELL};
use crate::state;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;
use testkit::ganesha::{GANESHA, Ganesha, is_root};
use testkit::image::Image;
use testkit::layout::{add_image, shell_of};
use testkit::nbd::{STORAGE_DAEMON, storage_daemon};
use testkit::need::have;
use testkit::ssh::{key, power_off, ssh_ok};
use testkit::tgt::{self, Disk, Target, Tgt};
use testkit::vm::{Running, smoke};
use testkit::{QEMU, folders};

const PAGE: &str = "hello from a baked image\n";
/// Large enough that it lies in blocks of its own, and nobody reads it before a test does.
const LARGE: usize = 1 << 20;

/// A pod that answers at port 8081 of its node and is never pulled.
const POD: &str = r#"
[[image]]
ref = "registry.lab:5000/team/web:1"
layout = "LAYOUTS/web"

[[file]]
path = "/etc/kubernetes/manifests/web.yaml"
content = """
apiVersion: v1
kind: Pod
metadata: { name: web }
spec:
  hostNetwork: true
  containers:
  - name: main
    image: registry.lab:5000/team/web:1
    imagePullPolicy: Never
    command: [/bin/sh, -c, "httpd -f -p 8081 -h /www"]
"""
"#;

/// A layout of the pod's image, once for all tests of a run.
fn layouts() -> std::path::PathBuf {
    let folder = folders::work_folder().join("baked");
    static MADE: std::sync::Once = std::sync::Once::new();
    MADE.call_once(|| {
        let _ = fs::remove_dir_all(&folder);
        let rescue = Image::build_variant("rescue-squashfs", "rescue", "[root]\nimage = \"squashfs\"\n", &[]);
        let shell = shell_of(&rescue.dir());
        let large: Vec<u8> =
            (0..LARGE / 8).flat_map(|at| (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect();
        let name = "org.opencontainers.image.ref.name";
        let sleep = ["/bin/sh", "-c", "sleep 100000"];
        let files: [(&str, &[u8]); 3] =
            [("bin/sh", &shell), ("www/index.html", PAGE.as_bytes()), ("www/large", &large)];
        add_image(&folder.join("web"), (name, "web"), &files, &sleep);
    });
    folder
}

/// The smallest worker that ships, with a shell and the pod.
fn worker(root: Option<&str>) -> Image {
    let key = format!("ssh_key={}", key().public);
    Image::build_variant_with_root("small-baked", "worker-small", &recipe(), &["login_shell=/bin/sh", &key], root)
}

fn recipe() -> String {
    let pod = POD.replace("LAYOUTS", &layouts().display().to_string());
    format!("{SHELL}boot_files_mb = 60\nram_mib = 512\n{pod}")
}

#[track_caller]
fn the_pod_answers(machine: &Running) {
    let ask = "for i in $(busybox seq 300); do busybox wget -q -O - http://127.0.0.1:8081/ && exit; busybox sleep 0.2; done; \
               bootwright-ctl logs kubelet; bootwright-ctl logs containerd; exit 1";
    assert_eq!(ssh_ok(machine, ask), PAGE);
}

/// Waits until the pod answers, and looks at what its images cost and that nobody writes to them.
#[track_caller]
fn the_pod_runs(machine: &Running) {
    the_pod_answers(machine);
    let store = ssh_ok(machine, "busybox du -skx /var/lib/containerd");
    let kib: u32 = store.split_whitespace().next().and_then(|kib| kib.parse().ok()).expect("du says a size");
    assert!(kib < 700, "images of 2 MB take {kib} KiB of the store");
    let told =
        ssh_ok(machine, "busybox touch /run/images/x 2>&1; busybox grep -c ' /run/images squashfs ro' /proc/mounts");
    assert!(told.contains("Read-only file system") && told.trim_end().ends_with('1'), "{told}");
}

#[test]
fn a_pod_starts_with_no_registry_from_the_initrd() {
    if !have(&[QEMU, "go", "ssh", "ssh-keygen", "unsquashfs"]) {
        return;
    }
    let image = worker(None);
    let machine = Running::start(&image, &["--ram-mib", "512", "--deadline-s", "240"]);
    the_pod_runs(&machine);
    let console = image.console();
    power_off(machine);
    assert!(!console.contains("it was emptied"), "{console}");
}

#[test]
fn over_nbd_a_server_may_go_and_come_back_and_a_changed_block_is_refused_alone() {
    if !have(&[QEMU, STORAGE_DAEMON, "go", "ssh", "ssh-keygen", "unsquashfs"]) {
        return;
    }
    let image = worker(Some("nbd"));
    let folder = folders::new_folder();
    let images = folder.path().join("images.img");
    fs::copy(image.dir().join("images.img"), &images).expect("the image was built");
    let root = image.dir().join("root.img");
    let mut server = storage_daemon(&[(&root, "worker"), (&images, "worker-images")]);
    let words = format!("bw.root=nbd://10.0.2.2:{}/worker", server.port);
    let machine = Running::start(&image, &["--append", &words, "--ram-mib", "512", "--deadline-s", "240"]);
    the_pod_runs(&machine);
    // The large file is first read after the server is back, with one bit of it changed.
    server.kill();
    flip_a_bit_of_the_large_file(&images);
    std::thread::sleep(Duration::from_secs(5));
    server.restart();
    let large = ssh_ok(
        &machine,
        "busybox wget -O /dev/null http://127.0.0.1:8081/large 2>&1; busybox dmesg | busybox grep verity",
    );
    assert!(large.contains("is corrupted"), "{large}");
    assert!(!large.contains(&format!("100% |{}", "*".repeat(10))), "{large}");
    the_pod_runs(&machine);
    power_off(machine);
    let console = image.console();
    assert!(console.contains(" is back after "), "{console}");
    assert!(console.contains(" images.img` names the file"), "{console}");
    for bad in ["stays mounted", "did not end in order", "did not close"] {
        assert!(!console.contains(bad), "{bad} in {console}");
    }
}

/// In the middle of the longest run of bytes that do not repeat: what does not compress is stored as it is.
fn flip_a_bit_of_the_large_file(images: &Path) {
    let bytes = fs::read(images).expect("it was copied");
    let start: Vec<u8> = (1000..1008u64).flat_map(|at| at.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()).collect();
    let at = bytes.windows(start.len()).position(|window| window == start).expect("the large file is not compressed");
    let file = OpenOptions::new().write(true).open(images).expect("it is ours");
    file.write_all_at(&[bytes[at] ^ 1], at as u64).expect("it is ours");
}

#[test]
fn over_nbd_the_images_of_another_build_are_refused() {
    if !have(&[QEMU, STORAGE_DAEMON, "go", "unsquashfs"]) {
        return;
    }
    let image = worker(Some("nbd"));
    let folder = folders::new_folder();
    let other = folder.path().join("other.img");
    let mut bytes = fs::read(image.dir().join("images.img")).expect("the image was built");
    bytes[0] ^= 1;
    fs::write(&other, bytes).expect("a new file");
    let server = storage_daemon(&[(&image.dir().join("root.img"), "worker"), (&other, "worker-images")]);
    let words = format!("bw.root=nbd://10.0.2.2:{}/worker bw.policy.root=reboot:1", server.port);
    let outcome = smoke(&image, &["--append", &words, "--deadline-s", "120"]);
    assert_eq!(outcome.code, Some(5), "{}", outcome.stderr);
    let expected =
        format!("`nbd://10.0.2.2:{}/worker-images` does not have the container images of this build: ", server.port);
    assert!(outcome.console().contains(&expected), "{}", outcome.console());
}

#[test]
fn over_iscsi_they_are_the_next_disk_of_the_target() {
    if !have(&[QEMU, "tgtd", "go", "ssh", "ssh-keygen", "unsquashfs"]) {
        return;
    }
    let image = worker(Some("iscsi"));
    let disk = |name: &str| Disk { image: image.dir().join(name), writable: false };
    let target = Tgt::start(Target { disks: vec![disk("root.img"), disk("images.img")], ..Target::default() });
    let words = format!("bw.root=iscsi://10.0.2.2:{}/{}", target.port(), tgt::NAME);
    let machine = Running::start(&image, &["--append", &words, "--ram-mib", "512", "--deadline-s", "240"]);
    the_pod_runs(&machine);
    power_off(machine);
    assert!(!image.console().contains("did not"), "{}", image.console());
}

#[test]
fn over_nfs_they_are_a_file_of_the_export() {
    if !is_root() || !have(&[QEMU, GANESHA, "go", "ssh", "ssh-keygen", "unsquashfs"]) {
        return;
    }
    let image = worker(Some("nfs"));
    let tree = image.dir().join("root").canonicalize().expect("the tree was built");
    let server = Ganesha::start("4", &[(&tree, "/root", "RO")]);
    let words = format!("bw.root=nfs://10.0.2.2:{}/root", server.server.port);
    let machine = Running::start(&image, &["--append", &words, "--ram-mib", "512", "--deadline-s", "240"]);
    the_pod_runs(&machine);
}

#[test]
fn over_http_they_are_fetched_beside_the_root() {
    if !have(&[QEMU, "go", "ssh", "ssh-keygen", "unsquashfs"]) {
        return;
    }
    let image = worker(Some("http"));
    let machine = Running::start(&image, &["--ram-mib", "512", "--deadline-s", "240"]);
    the_pod_runs(&machine);
    let _ = outage::Kubelet::of(&machine);
}

/// containerd's root on a volume of the machine's own.
const STORE: &str = r#"
[state]
"/var/lib/containerd" = { volume = "nbd://10.0.2.2:PORT/state-${mac}", format = "ext4" }
"#;
/// Makes the set of images another one.
const ONE_MORE: &str = "[[image]]\nref = \"registry.lab/team/more:1\"\nbuiltin = \"pause\"\n";

#[test]
fn on_a_volume_containerds_root_is_filled_once_for_each_set_of_images() {
    if !have(&[QEMU, state::QEMU_NBD, "go", "ssh", "ssh-keygen", "unsquashfs"]) {
        return;
    }
    let folder = state::folder();
    let server = state::serve(&state::disk(&folder));
    let text = recipe() + &STORE.replace("PORT", &server.port.to_string());
    let key = format!("ssh_key={}", key().public);
    let build =
        |name, text: &str| Image::build_variant(name, "worker-small ext4", text, &["login_shell=/bin/sh", &key]);
    let image = build("small-baked-store", &text);
    let start = |image: &Image| Running::start(image, &["--ram-mib", "512", "--deadline-s", "240"]);
    let emptied = "containerd's root held other container images: it was emptied";
    // What a pull leaves, beside which set the root was filled from and when.
    let blob = "/var/lib/containerd/io.containerd.content.v1.content/blobs/sha256/pulled";
    let marker = "cd /var/lib/containerd; busybox cat bootwright-images; busybox stat -c ' %y' bootwright-images";

    let machine = start(&image);
    the_pod_answers(&machine);
    assert!(ssh_ok(&machine, "busybox cat /proc/mounts").contains(" /var/lib/containerd ext4 rw"));
    ssh_ok(&machine, &format!("echo pulled > {blob}"));
    let filled = ssh_ok(&machine, marker);
    power_off(machine);
    assert!(!image.console().contains(emptied), "{}", image.console());

    let machine = start(&image);
    the_pod_answers(&machine);
    assert_eq!(ssh_ok(&machine, marker), filled, "it was filled again");
    assert_eq!(ssh_ok(&machine, &format!("busybox cat {blob}")), "pulled\n");
    power_off(machine);
    assert!(!image.console().contains(emptied), "{}", image.console());

    let other = build("small-baked-other", &format!("{text}{ONE_MORE}"));
    let machine = start(&other);
    the_pod_answers(&machine);
    let filled_anew = ssh_ok(&machine, marker);
    let set = |filled: &str| filled.split(' ').next().map(String::from);
    assert_ne!(set(&filled_anew), set(&filled));
    assert!(ssh_ok(&machine, &format!("[ -e {blob} ] || echo gone")).starts_with("gone"));
    assert!(other.console().contains(emptied), "{}", other.console());
    power_off(machine);
}

/// The pod's image is the program of sandboxes too, which runs until it is told to end.
const BUILTIN: &str = r#"
[[image]]
ref = "registry.lab/team/app:1"
builtin = "pause"

[[file]]
path = "/etc/kubernetes/manifests/app.yaml"
content = """
apiVersion: v1
kind: Pod
metadata: { name: app }
spec:
  hostNetwork: true
  containers:
  - { name: main, image: "registry.lab/team/app:1", imagePullPolicy: Never }
"""

# The shell is more than the worker's budget allows.
[budget]
boot_files_mb = 80
ram_mib = 1024
"#;

/// The sandbox and its container, by containerd's own list.
const WAIT: &str = "for i in $(seq 800); do \
    [ $(ctr -n k8s.io tasks ls | grep -c RUNNING) = 2 ] && exit; sleep 0.2; done; \
    bootwright-ctl logs kubelet; bootwright-ctl logs containerd; exit 1";

#[test]
fn a_pod_starts_from_baked_images_without_a_registry_and_the_store_takes_no_ram() {
    if !have(&[QEMU, "go", "ssh", "ssh-keygen", "mksquashfs"]) {
        return;
    }
    let ssh_key = format!("ssh_key={}", key().public);
    let sets = ["debug=true", "login_shell=/bin/sh", &ssh_key];
    let image = Image::build_variant("worker-baked", "worker", BUILTIN, &sets);
    let machine = Running::start(&image, &["--ram-mib", "1024"]);
    ssh_ok(&machine, WAIT);
    let listed = ssh_ok(&machine, "ctr -n k8s.io images ls");
    for name in ["localhost/pause:1", "registry.lab/team/app:1"] {
        let line = listed.lines().find(|line| line.starts_with(name)).expect("it is baked in");
        assert!(line.contains("io.cri-containerd.pinned=pinned"), "{line}");
    }
    let kib: u64 = ssh_ok(&machine, "du -skx /var/lib/containerd | cut -f1").trim().parse().expect("a number");
    assert!(kib <= 512, "containerd's root takes {kib} KiB");
}
