//! The patches of `patches/` against what they say of upstream.

use std::path::{Path, PathBuf};
use std::process::Command;
use testkit::cluster::kubernetes_version;
use testkit::folders::project_root;
use testkit::need::pinned_go;

fn patch_files() -> Vec<PathBuf> {
    let found = walkdir::WalkDir::new(project_root().join("patches")).into_iter().map(|entry| entry.expect("readable"));
    found.filter(|entry| entry.file_type().is_file()).map(|entry| entry.into_path()).collect()
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
