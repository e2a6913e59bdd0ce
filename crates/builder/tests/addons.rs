//! `bootwright addons` as a user runs it: what lacks, which lines bring it, and that they do.

use serde_json::Value;
use testkit::project::Project;

/// Loads a module, mounts a folder that has to be there, and is of an image that a profile knows.
const MANIFEST: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: { name: search }
spec:
  template:
    spec:
      initContainers:
      - { name: load, image: own.example/load, command: [sh, -c, "modprobe second"] }
      containers:
      - { name: search, image: "docker.elastic.co/elasticsearch/elasticsearch:9.0.0" }
      volumes:
      - { name: data, hostPath: { path: /var/lib/data, type: Directory } }
"#;

/// A project whose image lacks the module `second`, with a manifest.
fn project() -> Project {
    let project = Project::new();
    project.edit("modules = [\"second\"]\n", "");
    project.write("kernel/boot/config-1.0", "CONFIG_BPF_SYSCALL=y\n# CONFIG_DEBUG_INFO_BTF is not set\n");
    project.write("search.yaml", MANIFEST);
    project
}

fn ask(project: &Project, more: &[&str]) -> testkit::project::Run {
    project.run(&[&["addons", "--recipe", "tiny"], more].concat())
}

fn verdict(document: &Value, addon: usize) -> &str {
    document["addons"][addon]["verdict"].as_str().expect("each add-on has a verdict")
}

#[test]
fn an_image_fits_once_the_lines_that_are_named_are_in_its_recipe() {
    let project = project();
    ask(&project, &["search.yaml"]).fails(2, &["does not fit the recipe", "bootwright lock --recipe tiny"]);
    project.run(&["lock", "--recipe", "tiny"]).succeeds();
    let before = std::fs::read(project.path("recipes/tiny.lock")).unwrap();

    let run = ask(&project, &["search.yaml", "--json"]);
    run.fails(1, &["image `tiny` is not enough for `search.yaml`"]);
    let document = run.json();
    assert_eq!((verdict(&document, 0), &document["version"]), ("lacks", &1.into()));
    let lacking: Vec<&Value> =
        document["addons"][0]["needs"].as_array().unwrap().iter().filter(|need| need["standing"] == "lacks").collect();
    let names: Vec<&str> = lacking.iter().filter_map(|need| need["name"].as_str()).collect();
    assert_eq!(names, ["/var/lib/data", "second", "vm.max_map_count >= 262144"]);
    let remedies = &document["remedies"];
    assert_eq!(remedies["modules"]["modules"], serde_json::json!(["second"]), "`first` is there already");
    assert!(remedies["modules"]["packed"].as_u64().unwrap() > 0 && remedies["beyond"] == serde_json::json!([]));

    let text = ask(&project, &["search.yaml"]).out;
    for said in
        ["search.yaml: lacks 3 of 3", "DaemonSet `search`: a command loads it", "[sysctls]", "1 modules with all"]
    {
        assert!(text.contains(said), "no {said:?} in:\n{text}");
    }
    let lines: Vec<&str> = remedies["lines"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    project.write("recipes/search.toml", format!("extends = \"tiny\"\n{}\n", lines.join("\n")));
    let run = project.run(&["addons", "--recipe", "search", "search.yaml", "--json"]);
    assert_eq!(verdict(&run.succeeds().json(), 0), "fits");
    assert_eq!(std::fs::read(project.path("recipes/tiny.lock")).unwrap(), before, "asking changes no lock");
    project.run(&["build", "--recipe", "search"]).succeeds();
}

#[test]
fn options_that_the_kernel_is_built_without_are_brought_by_no_line() {
    let project = project();
    project.run(&["lock", "--recipe", "tiny"]).succeeds();
    let document = ask(&project, &["falco", "--json"]).fails(1, &["is not enough for `falco`"]).json();
    let beyond = document["remedies"]["beyond"].to_string();
    assert!(beyond.contains("option DEBUG_INFO_BTF: another kernel"), "{beyond}");
    assert!(!beyond.contains("BPF_SYSCALL"), "{beyond}");
    // Without a config nothing is known of options, and nothing is taken for granted.
    std::fs::remove_file(project.path("kernel/boot/config-1.0")).unwrap();
    project.run(&["lock", "--recipe", "tiny"]).succeeds();
    let pod = "apiVersion: v1\nkind: Pod\nspec:\n  securityContext: { seccompProfile: { type: RuntimeDefault } }\n  containers: [ { image: x } ]\n";
    project.write("pod.yaml", pod);
    let run = ask(&project, &["pod.yaml", "--json"]);
    assert_eq!(verdict(&run.fails(1, &["only the running node tells"]).json(), 0), "undecided");
}

#[test]
fn profiles_are_listed_without_a_recipe_and_odd_manifests_are_errors() {
    let project = project();
    std::fs::remove_file(project.path("recipes/tiny.toml")).unwrap();
    let list = project.run(&["addons"]);
    let names = ["calico-ebpf", "cilium", "csi-driver-nfs", "kube-proxy-nftables", "longhorn", "nvidia-device-plugin"];
    list.succeeds().says(&names);
    let document = project.run(&["addons", "--json"]).succeeds().json();
    let listed: Vec<&str> =
        document["profiles"].as_array().unwrap().iter().filter_map(|p| p["name"].as_str()).collect();
    assert!(names.iter().all(|name| listed.contains(name)), "{listed:?}");
    for (text, said) in [
        ("", "holds no Kubernetes object"),
        ("a: [", "is no YAML"),
        ("image: {{ .Values.image }}: x\n", "`helm template"),
        ("- a\n", "document 1 is no Kubernetes object"),
    ] {
        project.write("odd.yaml", text);
        ask(&project, &["odd.yaml"]).fails(2, &[said]);
    }
    ask(&project, &["no/such.yaml"]).fails(2, &["cannot read `no/such.yaml`"]);
    ask(&project, &["recipes"]).fails(2, &["it is a folder"]);
    ask(&project, &["celium"]).fails(2, &["did you mean `cilium`?"]);
}
