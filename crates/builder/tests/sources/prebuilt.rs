//! `worker-prebuilt` from a server on loopback that serves upstream's paths. The programs stand in for upstream's: they are
//! the worker's own, which act as what they are called, so that the image really boots.

use bootwright::emit::manifest::load_manifest;
use bootwright::entry::Sha256;
use bootwright::lock::load_lock;
use bootwright::recipe::SegmentName;
use serde_json::Value;
use std::path::Path;
use testkit::http::{PageServer, Step};
use testkit::shipped::Shipped;
use testkit::worker::programs_of;

const RECIPE: &str = "worker-prebuilt";
const KUBELET: &str = "/kubernetes/v1.35.7/bin/linux/amd64/kubelet";
const CONTAINERD: &str = "/containerd/v2.2.1/containerd-static-2.2.1-linux-amd64.tar.gz";
/// What kubelet's pods need at `/opt/cni/bin`.
const PLUGINS: [&str; 5] = ["bridge", "host-local", "loopback", "portmap", "ptp"];

#[test]
fn the_workers_own_programs_served_as_releases_are_pinned_packed_and_boot() {
    if !testkit::need::have(&["mksquashfs", "unsquashfs", "qemu-system-x86_64"]) {
        return;
    }
    let project = Shipped::copy_below(&testkit::folders::work_folder());
    let upstream = Upstream::start(&project);

    let lock = project.path().join("recipes/worker-prebuilt.lock");
    run(&project, &upstream, "lock", &[]);
    check_pins(&lock, &upstream);
    assert!(upstream.server.asked().is_empty(), "the recipe names size and hash of what it takes by URL");

    run(&project, &upstream, "build", &["--locked"]);
    check_files(&project.path().join("out").join(RECIPE), &upstream);

    let report = run(&project, &upstream, "smoke", &["--json", "--until", "service:kubelet", "--deadline-s", "300"]);
    let report: Value = serde_json::from_slice(&report).expect("a smoke boot prints its report");
    assert_eq!(report["passed"], true, "{report:#}");
}

#[test]
fn the_shipped_lock_pins_the_release_binaries() {
    let project = Shipped::copy_below(&testkit::folders::work_folder());
    let lock = project.path().join("recipes/worker-prebuilt.lock");
    let names = |lock: &bootwright::lock::Lock| {
        let urls = lock.components.iter().filter(|c| matches!(c.spec, bootwright::recipe::SourceSpec::Url(_)));
        urls.map(|c| (c.name.clone(), c.pins[0].size)).collect::<Vec<_>>()
    };
    let shipped = load_lock(&lock).expect("it can be read").expect("it ships");
    assert_eq!(names(&shipped), [("containerd".into(), 33_645_699), ("kubelet".into(), 58_089_764)]);
    // Where upstream is out of reach, every address answered with 404: what is missing is said, and nothing is built.
    let upstream = Upstream { server: PageServer::start(), kubelet: b"-".to_vec(), containerd: b"-".to_vec() };
    project.tool().args(["lock", "--recipe", RECIPE]).args(upstream.place()).assert().success();
    let output = project
        .tool()
        .args(["build", "--recipe", RECIPE, "--locked"])
        .args(upstream.place())
        .output()
        .expect("it runs");
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{message}");
    assert!(message.contains("component `containerd` (") && message.contains("worker-prebuilt.toml:"), "{message}");
    assert!(!project.path().join("out").join(RECIPE).exists());
}

/// Serves what the recipe names.
struct Upstream {
    server: PageServer,
    kubelet: Vec<u8>,
    containerd: Vec<u8>,
}

impl Upstream {
    fn start(project: &Shipped) -> Self {
        let dir = testkit::folders::new_folder();
        let programs = programs_of(&project.build("worker", None, &[]), dir.path(), &["kubelet", "containerd", "pod"]);
        let read = |at: usize| std::fs::read(&programs[at]).expect("it was unpacked");
        let [kubelet, containerd, pod] = [0, 1, 2].map(read);
        let containerd =
            archive(&[("bin/containerd", &containerd), ("bin/containerd-shim-runc-v2", &pod), ("bin/ctr", &pod)]);
        let upstream = Self { server: PageServer::start(), kubelet, containerd };
        upstream.server.page(KUBELET, &upstream.kubelet, &[Step::Serve]);
        upstream.server.page(CONTAINERD, &upstream.containerd, &[Step::Serve]);
        upstream
    }

    /// `--set` of the recipe's variables to this server.
    fn place(&self) -> Vec<String> {
        let place = self.server.page("/unused", b"", &[]).replace("/unused", "");
        let set = [format!("kubernetes_url={place}/kubernetes"), format!("containerd_url={place}/containerd")];
        set.into_iter().flat_map(|set| ["--set".to_string(), set]).collect()
    }

    /// The same, and of what it serves.
    fn settings(&self) -> Vec<String> {
        let set = [
            format!("kubelet_sha256={}", Sha256::of(&self.kubelet)),
            format!("kubelet_size={}", self.kubelet.len()),
            format!("containerd_sha256={}", Sha256::of(&self.containerd)),
            format!("containerd_size={}", self.containerd.len()),
        ];
        let set = set.into_iter().flat_map(|set| ["--set".to_string(), set]);
        self.place().into_iter().chain(set).collect()
    }
}

/// Runs one command of the tool on the recipe; what it printed.
fn run(project: &Shipped, upstream: &Upstream, command: &str, args: &[&str]) -> Vec<u8> {
    let run = project.tool().args([command, "--recipe", RECIPE]).args(upstream.settings()).args(args).assert();
    run.success().get_output().stdout.clone()
}

/// A `.tar.gz` of programs.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let mut tar = tar::Builder::new(gzip);
    for (path, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        tar.append_data(&mut header, path, *bytes).expect("memory takes it");
    }
    tar.into_inner().and_then(|gzip| gzip.finish()).expect("memory takes it")
}

/// Sizes and hashes are the recipe's.
fn check_pins(lock: &Path, upstream: &Upstream) {
    let lock = load_lock(lock).expect("it can be read").expect("it was written");
    for (component, body) in [("kubelet", &upstream.kubelet), ("containerd", &upstream.containerd)] {
        let locked = lock.components.iter().find(|c| c.name == component).expect("every component is pinned");
        let pins: Vec<(u64, Sha256)> = locked.pins.iter().map(|p| (p.size, p.sha256)).collect();
        assert_eq!(pins, [(body.len() as u64, Sha256::of(body))], "{component}");
    }
}

/// Programs are where services and kubelet look for them, and nothing else of the archive is.
fn check_files(image: &Path, upstream: &Upstream) {
    let manifest = load_manifest(&image.join("manifest.json")).expect("a finished image has a manifest");
    let find = |path: &str| manifest.files.iter().find(|f| f.segment == SegmentName::Root && f.path == path);
    let file = |path: &str| find(path).unwrap_or_else(|| panic!("no `{path}` in the image"));
    let kubelet = file("usr/bin/kubelet");
    assert_eq!((kubelet.sha256, kubelet.mode.as_str()), (Some(Sha256::of(&upstream.kubelet)), "0755"));
    for name in ["usr/bin/containerd", "usr/bin/containerd-shim-runc-v2"] {
        assert_eq!(file(name).component, "containerd");
    }
    for absent in ["usr/bin/ctr", "usr/bin/pod"] {
        assert!(find(absent).is_none(), "`{absent}` is in the image");
    }
    for plugin in PLUGINS {
        let link = file(&format!("opt/cni/bin/{plugin}"));
        let target = link.target.as_deref().expect("it is a link").trim_start_matches('/');
        assert!(file(target).size.is_some_and(|size| size > 0), "{plugin}: {target} is no program");
    }
}
