//! What `worker` promises: upstream's own programs. Read from what was built, not from the recipe.

use bootwright::emit::manifest::load_manifest;
use bootwright::recipe::{SourceSpec, load_recipe};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use testkit::cluster::kubernetes_version;
use testkit::folders::{new_folder, project_root};
use testkit::need::{have, pinned_go, user_namespaces};
use testkit::shipped::Shipped;
use testkit::worker::programs_of;

const CONTAINERD: &str = "github.com/containerd/containerd/v2";
const PLUGINS_MODULE: &str = "github.com/containernetworking/plugins";

/// The one patch of `worker`, and all that it may change.
#[test]
fn the_worker_is_patched_in_the_clauses_of_the_cni_plugins_alone() {
    if !have(&["mksquashfs"]) || pinned_go().is_none() {
        return;
    }
    let project = Shipped::copy_below(&testkit::folders::work_folder());
    let image = project.build("worker", None, &[]);
    let manifest = load_manifest(&image.join("manifest.json")).expect("a finished image has a manifest");
    let patches: Vec<_> = manifest.sources.iter().flat_map(|source| &source.patches).collect();
    let names: Vec<&str> = patches.iter().map(|patch| patch.module.as_str()).collect();
    assert_eq!(names, [PLUGINS_MODULE]);

    let patch = std::fs::read_to_string(project_root().join("patches").join(PLUGINS_MODULE).join(&patches[0].name));
    let patch = patch.expect("the manifest names it");
    let changed =
        |sign: char| patch.lines().filter(move |l| l.starts_with(sign) && !l.starts_with(&sign.to_string().repeat(3)));
    let removed: BTreeSet<&str> = changed('-').collect();
    assert_eq!(removed, BTreeSet::from(["-package main", "-func main() {"]));
    let other = changed('+').find(|line| *line != "+func Main() {" && !line.starts_with("+package "));
    assert_eq!(other, None);
    assert_eq!(changed('+').count(), changed('-').count());
}

/// The worker's programs that Go built, in the order of [`NAMES`].
struct Built {
    go: PathBuf,
    project: Shipped,
    programs: Vec<PathBuf>,
    /// Holds the programs.
    _folder: tempfile::TempDir,
}

const NAMES: [&str; 3] = ["kubelet", "containerd", "pod"];

fn built_worker() -> Option<Built> {
    if !have(&["mksquashfs", "unsquashfs"]) {
        return None;
    }
    let go = pinned_go()?;
    let project = Shipped::copy_below(&testkit::folders::work_folder());
    let folder = new_folder();
    let programs = programs_of(&project.build("worker", None, &[]), folder.path(), &NAMES);
    Some(Built { go, project, programs, _folder: folder })
}

/// What `go version -m` says is what scanners for known faults read.
#[test]
fn the_workers_programs_name_upstreams_modules_and_versions() {
    let Some(Built { go, programs, _folder, .. }) = built_worker() else { return };
    let info = |program: &Path| output(Command::new(&go).args(["version", "-m"]).arg(program));

    let [kubelet, containerd, pod] = [&programs[0], &programs[1], &programs[2]].map(|program| info(program));
    let version = kubernetes_version();
    assert!(kubelet.contains("\tpath\tk8s.io/kubernetes/cmd/kubelet\n"), "{kubelet}");
    assert!(kubelet.contains(&format!("\tmod\tk8s.io/kubernetes\tv{version}\th1:")), "{kubelet}");
    assert!(containerd.contains(&format!("\tpath\t{CONTAINERD}/cmd/containerd\n")), "{containerd}");
    for text in [&kubelet, &containerd] {
        assert!(!text.contains("(devel)"), "{text}");
    }
    // The module itself is ours; of its dependencies only the one is a folder that a patch is for.
    let lines: Vec<&str> = pod.lines().collect();
    let devel = lines.windows(2).filter(|two| two[1].starts_with("\t=>") && two[1].contains("(devel)"));
    let devel: Vec<&str> = devel.filter_map(|two| two[0].split('\t').nth(2)).collect();
    assert_eq!(devel, [PLUGINS_MODULE], "{pod}");
    for text in [&kubelet, &containerd, &pod] {
        let inlined = text.lines().all(|line| !line.contains("-gcflags"));
        assert!(inlined, "compiler flags of ours: {text}");
    }

    assert_eq!(output(Command::new(&programs[0]).arg("--version")), format!("Kubernetes v{version}\n"));
    let pinned = manifest_version(&containerd);
    assert_eq!(output(Command::new(&programs[1]).arg("--version")), format!("containerd {CONTAINERD} {pinned} \n"));
}

/// Where a tag is from: the module and a folder of it, or Go itself.
const TAGS: [(&str, &str, &str); 11] = [
    ("netgo", "std", "net"),
    ("osusergo", "std", "os/user"),
    ("grpcnotrace", "google.golang.org/grpc", "."),
    ("notest", "k8s.io/apimachinery", "pkg/util/intstr"),
    ("static_build", "github.com/containerd/plugin", "dynamic"),
    ("nri_no_wasm", "github.com/containerd/nri", "pkg/adaptation"),
    ("no_btrfs", CONTAINERD, "cmd/containerd/builtins"),
    ("no_devmapper", CONTAINERD, "cmd/containerd/builtins"),
    ("no_zfs", CONTAINERD, "cmd/containerd/builtins"),
    ("no_rdt", CONTAINERD, "internal/cri/server"),
    ("no_tracing", CONTAINERD, "cmd/containerd/builtins"),
];
const SHIM_TAG: (&str, &str, &str) = ("no_grpc", "github.com/containerd/containerd/api", "runtime/task/v3");

/// A tag that no file asks for would be one of ours, or one that upstream has given up.
#[test]
fn build_tags_of_the_worker_are_asked_for_by_upstreams_files() {
    let Some(Built { go, project, programs, _folder }) = built_worker() else { return };
    let recipe = project.path().join("recipes/worker.toml").display().to_string();
    let recipe = load_recipe(&recipe, &[], None).expect("it ships");
    for (component, program) in NAMES.iter().zip(&programs) {
        let spec = recipe.components.iter().find(|c| c.name == *component).map(|c| &c.source);
        let Some(SourceSpec::Go(spec)) = spec else { panic!("{component} is built by Go") };
        let info = output(Command::new(&go).args(["version", "-m"]).arg(program));
        for tag in &spec.tags {
            let known = TAGS.iter().chain([&SHIM_TAG]).find(|(name, ..)| name == tag);
            let (_, module, place) =
                known.unwrap_or_else(|| panic!("`{tag}` of {component} is in no list of this test"));
            let dir = module_dir(&go, module, &info).join(place);
            let files = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
            let asks = files.filter_map(Result::ok).any(|file| asks_for(&file.path(), tag));
            assert!(asks, "no file in {} has `//go:build` with `{tag}`", dir.display());
        }
    }
}

/// Whether a file is built or left out by a tag (go/build/constraint).
fn asks_for(file: &Path, tag: &str) -> bool {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("//go:build "));
    lines.any(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == tag))
}

/// Where the source of a module lies, in the version that a program says it was built with.
fn module_dir(go: &Path, module: &str, info: &str) -> PathBuf {
    if module == "std" {
        return Path::new(output(Command::new(go).args(["env", "GOROOT"])).trim()).join("src");
    }
    let lines: Vec<Vec<&str>> = info.lines().map(|line| line.trim_start().split('\t').collect()).collect();
    let at = lines.iter().position(|line| line.get(1) == Some(&module) && ["dep", "mod"].contains(&line[0]));
    let at = at.unwrap_or_else(|| panic!("{module} is not in\n{info}"));
    let line = lines.get(at + 1).filter(|next| next[0] == "=>").unwrap_or(&lines[at]);
    let outside = new_folder();
    let mut download = Command::new(go);
    download.args(["mod", "download", "-json", &format!("{module}@{}", line[2])]).current_dir(outside.path());
    let found: serde_json::Value = serde_json::from_str(&output(&mut download)).expect("JSON");
    PathBuf::from(found["Dir"].as_str().expect("it was downloaded"))
}

/// The version of the program's own module.
fn manifest_version(info: &str) -> &str {
    let line = info.lines().find_map(|line| line.strip_prefix("\tmod\t")).expect("each program has a module");
    line.split('\t').nth(1).expect("a version")
}

#[track_caller]
fn output(command: &mut Command) -> String {
    let output = command.env("GOTOOLCHAIN", "local").output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// So does its Node, whose version is that of kubelet.
#[test]
fn patched_programs_say_so_in_their_versions_and_unpatched_ones_do_not() {
    if !have(&["mksquashfs", "unsquashfs"]) || pinned_go().is_none() {
        return;
    }
    let project = Shipped::copy_below(&testkit::folders::work_folder());
    for (recipe, addition) in [("worker", ""), ("worker-small", "+bootwright.1")] {
        let folder = new_folder();
        let programs = programs_of(&project.build(recipe, None, &[]), folder.path(), &["kubelet", "containerd"]);
        let said: Vec<String> = programs.iter().map(|program| output(Command::new(program).arg("--version"))).collect();
        assert_eq!(said[0], format!("Kubernetes v{}{addition}\n", kubernetes_version()));
        assert!(said[1].contains(&format!(" v2.4.2{addition} ")), "{said:?}");
    }
}

/// The names that `pod` acts by, and upstream's packages of them.
const PLUGINS: [(&str, &str); 5] = [
    ("bridge", "main/bridge"),
    ("host-local", "ipam/host-local"),
    ("loopback", "main/loopback"),
    ("portmap", "meta/portmap"),
    ("ptp", "main/ptp"),
];

/// Each plugin of `pod` answers as the one that is built apart of unpatched source: output, errors and exit code.
#[test]
fn cni_plugins_of_one_program_answer_as_those_that_are_built_apart() {
    if !have(&["mksquashfs", "unsquashfs", "unshare", "ip"]) || !user_namespaces() {
        return;
    }
    let Some(go) = pinned_go() else { return };
    let project = Shipped::copy_below(&testkit::folders::work_folder());
    let folder = new_folder();
    let pod = programs_of(&project.build("worker", None, &[]), folder.path(), &["pod"]).remove(0);
    let (together, apart) = (folder.path().join("together"), folder.path().join("apart"));
    std::fs::create_dir(&together).and_then(|()| std::fs::create_dir(&apart)).expect("new folders");
    for (name, package) in PLUGINS {
        std::os::unix::fs::symlink(&pod, together.join(name)).expect("a new link");
        let mut build = Command::new(&go);
        build.args(["build", "-mod=readonly", "-trimpath", "-o"]).arg(apart.join(name));
        build.arg(format!("{PLUGINS_MODULE}/plugins/{package}")).env("CGO_ENABLED", "0");
        output(build.current_dir(project.path().join("programs/pod")));
    }
    let mut succeeded = BTreeSet::new();
    for (name, _) in PLUGINS {
        for (case, script) in CASES {
            let answers = [&together, &apart].map(|plugins| answer(plugins, name, script));
            assert_eq!(answers[0], answers[1], "{name}, {case}");
            assert!(!answers[0].is_empty(), "{name}, {case}: nothing was said");
            if answers[0].contains("status 0") {
                succeeded.insert((name, case));
            }
        }
    }
    // The cases are not all refusals.
    for expected in [("host-local", "a whole life"), ("loopback", "a whole life"), ("bridge", "its versions")] {
        assert!(succeeded.contains(&expected), "{expected:?} in {succeeded:?}");
    }
}

/// What is asked of each plugin, in a new network namespace with another one for the pod at `$pod`. `plugin COMMAND CONFIG` calls it.
const CASES: [(&str, &str); 7] = [
    ("its versions", r#"plugin VERSION '{"cniVersion":"1.0.0"}'"#),
    ("no command", r#"plugin '' '{}'"#),
    ("an unknown command", r#"plugin NONE '{"cniVersion":"1.0.0","name":"n","type":"t"}'"#),
    ("no JSON", "plugin ADD 'not JSON'"),
    ("no version that it has", r#"plugin ADD '{"cniVersion":"9.9.9","name":"n","type":"t"}'"#),
    ("no namespace", r#"pod=/nowhere; plugin ADD "$config"; plugin CHECK "$config"; plugin DEL "$config""#),
    (
        "a whole life",
        r#"plugin STATUS "$config"; plugin ADD "$config"; plugin CHECK "$config"; plugin DEL "$config"; plugin DEL "$config""#,
    ),
];

/// Runs a case; each call's standard output, standard error and exit code. Names and addresses that are drawn by lot are taken out.
fn answer(plugins: &Path, name: &str, case: &str) -> String {
    let state = new_folder();
    let script = format!(
        r#"ip link set lo up
unshare --net sleep 60 & sleeper=$!
until [ "$(readlink /proc/$sleeper/ns/net)" != "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
pod=/proc/$sleeper/ns/net
config='{{"cniVersion":"1.0.0","name":"n","type":"{name}","bridge":"cni0","isGateway":true,"backend":"nftables",
    "runtimeConfig":{{"portMappings":[{{"hostPort":8080,"containerPort":80,"protocol":"tcp"}}]}},
    "ipam":{{"type":"host-local","dataDir":"{state}","ranges":[[{{"subnet":"10.9.0.0/24"}}]],"routes":[{{"dst":"0.0.0.0/0"}}]}}}}'
plugin() {{
    printf %s "$2" | CNI_COMMAND=$1 CNI_CONTAINERID=c1 CNI_NETNS=$pod CNI_IFNAME=eth0 CNI_PATH={plugins} {plugins}/{name} 2>&1
    echo "status $?"
}}
{case}
kill $sleeper
"#,
        state = state.path().display(),
        plugins = plugins.display(),
    );
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "sh", "-c", &script])
        .output()
        .expect("unshare runs");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).replace(&*state.path().to_string_lossy(), "STATE");
    let text = text.replace(&*plugins.to_string_lossy(), "PLUGINS");
    stable_words(&text).join(" ")
}

/// The words of a text. Of what differs from run to run only the kind is kept: hardware addresses, names of `veth` links, and process
/// ids in `/proc/`.
fn stable_words(text: &str) -> Vec<String> {
    let is_word = |c: char| c.is_alphanumeric() || c == ':';
    let words = text.split(|c: char| !is_word(c)).filter(|word| !word.is_empty());
    let hex = |text: &str| text.chars().all(|c| c.is_ascii_hexdigit());
    let plain = |word: &str| match word {
        _ if word.len() == 17 && word.split(':').count() == 6 && word.split(':').all(hex) => "MAC".to_string(),
        _ if word.strip_prefix("veth").is_some_and(|rest| rest.len() == 8 && hex(rest)) => "VETH".to_string(),
        _ => word.to_string(),
    };
    let mut words: Vec<String> = words.map(plain).collect();
    for at in 1..words.len() {
        if words[at - 1] == "proc" {
            words[at] = "PID".into();
        }
    }
    words
}
