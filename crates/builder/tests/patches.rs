//! The patches of `patches/` against what they say of upstream.

use diffy::patch_set::{FileOperation, ParseOptions, PatchSet};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use testkit::cluster::kubernetes_version;
use testkit::folders::project_root;
use testkit::need::pinned_go;

fn patch_files() -> Vec<PathBuf> {
    let found = walkdir::WalkDir::new(project_root().join("patches")).into_iter().map(|entry| entry.expect("readable"));
    found
        .filter(|entry| entry.path().extension().is_some_and(|e| e == "patch"))
        .map(|entry| entry.into_path())
        .collect()
}

/// What a recipe never names would rot unseen.
#[test]
fn each_patch_belongs_to_a_recipe_that_ships() {
    let recipes: Vec<String> = std::fs::read_dir(project_root().join("recipes"))
        .expect("it is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .map(|path| std::fs::read_to_string(path).expect("text"))
        .collect();
    let files = patch_files();
    assert!(!files.is_empty());
    for file in files {
        let folder = file.parent().expect("it lies in patches/").strip_prefix(project_root()).expect("below");
        let named = format!("\"../{}\"", folder.display());
        assert!(recipes.iter().any(|text| text.contains(&named)), "no recipe names {named}");
    }
}

/// kubelet's patches 1 and 3 have values that upstream takes from packages which they leave out.
#[test]
fn the_values_in_patches_are_those_of_upstream() {
    let Some(go) = pinned_go() else { return };
    let text = |module: &str, file: &str| {
        std::fs::read_to_string(module_dir(&go, module).join(file)).expect("upstream's file")
    };
    let options = text("k8s.io/cloud-provider", "options/webhook.go");
    assert!(options.contains("CloudControllerManagerWebhookPort = 10260\n"), "{options}");
    let patch = |name: &str| {
        std::fs::read_to_string(project_root().join("patches/k8s.io/kubernetes").join(name)).expect("ours")
    };
    assert!(patch("1-port-without-cloud-provider.patch").contains("CloudControllerManagerWebhookPort = 10260\n"));

    let options = text("k8s.io/apiserver", "pkg/server/options/authentication.go");
    let body = options.split_once("func DefaultAuthWebhookRetryBackoff() *wait.Backoff {").expect("the function").1;
    let body = body.split_once("\n}").expect("its end").0;
    let ours = patch("3-backoff-without-apiserver.patch");
    let ours = ours.lines().find_map(|line| line.split_once("&wait.Backoff{")).expect("the value").1;
    let fields = |text: &str| -> Vec<String> {
        let plain: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let inner = plain.split_once("&wait.Backoff{").map_or(plain.as_str(), |(_, inner)| inner);
        let inner = inner.split('}').next().unwrap_or_default();
        inner.split(',').filter(|field| !field.is_empty()).map(String::from).collect()
    };
    assert_eq!(fields(ours), fields(body));
    assert_eq!(fields(ours).len(), 4, "{ours}");
}

/// What the clients of kubelet know no longer is gone from their types too: a client whose types are gone could send nothing.
#[test]
fn clients_and_types_of_the_same_groups_are_taken_out_and_nothing_else_is_changed() {
    let patch = std::fs::read_to_string(project_root().join("patches/k8s.io/client-go/groups-of-kubelet.patch"));
    let patch = patch.expect("ours");
    let diff = &patch[patch.find("\n--- ").expect("a header, then a diff") + 1..];
    assert!(!diff.lines().any(|line| line.starts_with('+') && !line.starts_with("+++ b/")), "a line is added");
    // Imports such as `-\tappsv1beta1 "k8s.io/api/apps/v1beta1"`, of each file.
    let groups = |file: &str, from: &str| -> BTreeSet<String> {
        let of_file = diff.split("--- a/").find(|part| part.starts_with(file)).expect("the patch changes the file");
        let imports = of_file.lines().filter_map(|line| line.strip_prefix("-\t")?.split_once(from));
        imports.map(|(_, group)| group.trim_end_matches('"').into()).collect()
    };
    let clients = groups("kubernetes/clientset.go", "\"k8s.io/client-go/kubernetes/typed/");
    assert!(clients.len() > 20 && !clients.contains("core/v1"), "{clients:?}");
    assert_eq!(groups("kubernetes/scheme/register.go", "\"k8s.io/api/"), clients);
}

/// Pods and nodes of one table are put before the admission of both kubelets: same verdict, reason and message. The program is
/// `programs/admission`.
#[test]
fn admission_of_pods_is_the_same_with_kubelets_patches_as_without() {
    let Some(go) = pinned_go() else { return };
    let folder = tempfile::tempdir_in(testkit::folders::work_folder()).expect("the folder for tests is writable");
    let copy = |from: &str, name: &str| {
        std::fs::copy(project_root().join(from), folder.path().join(name)).expect("the folder is the test's own");
    };
    copy("crates/builder/tests/programs/admission/main.go", "main.go");
    copy("crates/testkit/programs/cluster/go.mod", "go.mod");
    copy("crates/testkit/programs/cluster/go.sum", "go.sum");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(&go);
        command.args(arguments).current_dir(folder.path());
        command.envs([("CGO_ENABLED", "0"), ("GOTOOLCHAIN", "local"), ("GOFLAGS", "-buildvcs=false -mod=mod")]);
        let output = command.output().expect("go runs");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let build = ["run", "-trimpath", "-tags=netgo,osusergo,grpcnotrace", "."];
    let upstream = run(&build);
    let kubernetes = run(&["list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes"]);
    patched_copy(Path::new(kubernetes.trim()), &folder.path().join("patched"));
    run(&["mod", "edit", "-replace=k8s.io/kubernetes=./patched"]);
    let patched = run(&build);

    // Some are admitted, and each reason that the patch names again is among the refusals.
    for expected in [": true", ": false OutOfcpu", ": false NodeAffinity", ": false NodeName", ": false NodePorts"] {
        assert!(upstream.contains(expected), "no `{expected}` in\n{upstream}");
    }
    assert_eq!(patched, upstream);
    assert!(!run(&["list", "-deps", "."]).contains("k8s.io/kubernetes/pkg/scheduler\n"), "the patch was not there");
}

/// A copy of Kubernetes' module with kubelet's patches, without tests.
fn patched_copy(module: &Path, copy: &Path) {
    for entry in walkdir::WalkDir::new(module) {
        let entry = entry.expect("Go's cache can be read");
        let target = copy.join(entry.path().strip_prefix(module).expect("it was walked"));
        if entry.file_type().is_dir() {
            std::fs::create_dir_all(&target).expect("a new folder");
        } else if !entry.path().to_string_lossy().ends_with("_test.go") {
            let bytes = std::fs::read(entry.path()).expect("Go's cache can be read");
            std::fs::write(target, bytes).expect("the folder is the test's own");
        }
    }
    let mut patches: Vec<PathBuf> = patch_files();
    patches.retain(|patch| patch.starts_with(project_root().join("patches/k8s.io/kubernetes")));
    patches.sort();
    for patch in patches {
        let text = std::fs::read_to_string(&patch).expect("ours");
        let diff = &text[text.find("\n--- ").expect("a header, then a diff") + 1..];
        for file in PatchSet::parse(diff, ParseOptions::unidiff()) {
            let file = file.expect("a unified diff");
            let FileOperation::Modify { original, .. } = file.operation().strip_prefix(1) else { panic!("{patch:?}") };
            let path = copy.join(&*original);
            let text = std::fs::read_to_string(&path).expect("upstream has the file");
            let text = diffy::apply(&text, file.patch().as_text().expect("text")).expect("the patch fits");
            std::fs::write(path, text).expect("the folder is the test's own");
        }
    }
}

/// Where Go's cache holds one of the modules that Kubernetes publishes beside its own, of the worker's release.
fn module_dir(go: &Path, module: &str) -> PathBuf {
    let version = kubernetes_version().strip_prefix("1.").expect("Kubernetes 1");
    let outside = tempfile::tempdir().expect("tests may write to the temporary folder");
    let output = Command::new(go)
        .args(["mod", "download", "-json", &format!("{module}@v0.{version}")])
        .current_dir(outside.path())
        .env("GOTOOLCHAIN", "local")
        .output()
        .expect("go runs");
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let dir = found["Dir"].as_str().unwrap_or_else(|| panic!("{module}: {}", String::from_utf8_lossy(&output.stderr)));
    Path::new(dir).to_path_buf()
}
