//! `bootwright check` and `bootwright schema` as a user runs them: exit codes, standard output, messages.

use assert_cmd::Command;
use std::collections::BTreeMap;
use std::path::Path;
use tempfile::TempDir;

const GOOD: &str = "summary = \"small\"\n[vars]\ndebug = { type = \"bool\", default = false }\n[kernel]\ncomponent = \"k\"\n\
    [[component]]\nname = \"k\"\ndeb = { suite = \"trixie\", package = \"linux\" }\n\
    [[component]]\nname = \"sh\"\nwhen = \"debug\"\ndeb = { suite = \"trixie\", package = \"busybox-static\" }\n";

struct Run {
    code: i32,
    out: String,
    err: String,
}

fn run(dir: &Path, args: &[&str], env: &[(&str, &str)]) -> Run {
    let mut command = Command::cargo_bin("bootwright").unwrap();
    command.current_dir(dir).env_remove("BOOTWRIGHT_RECIPES").env("BOOTWRIGHT_CACHE", dir.join("cache"));
    let output = command.args(args).envs(env.iter().copied()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

fn project(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("recipes")).unwrap();
    for (name, bytes) in files {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    dir
}

#[test]
fn a_good_recipe_is_summed_up() {
    let dir = project(&[("recipes/small.toml", GOOD.as_bytes())]);
    let r = run(dir.path(), &["check", "--recipe", "small"], &[]);
    assert_eq!((r.code, r.err.as_str()), (0, ""));
    assert_eq!(r.out, "small: ok\n  small\n  components: k (deb), sh (deb, off)\n  variables: debug=false\n");
    let r = run(dir.path(), &["check", "--recipe", "recipes/small.toml", "--set", "debug=true", "--json"], &[]);
    let json: serde_json::Value = serde_json::from_str(&r.out).unwrap();
    assert_eq!((&json["version"], &json["recipe"]), (&1.into(), &"small".into()));
    assert_eq!(json["components"][1]["enabled"], true);
    assert_eq!(json["components"][1]["origin"], "recipes/small.toml:9");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "checking writes nothing");
}

#[test]
fn all_problems_of_all_files_come_at_once_with_exit_code_2() {
    let bad = "extends = \"base\"\nsumary = \"x\"\n[budget]\nboot_files_mb = \"44\"\n";
    let base =
        GOOD.replace("[kernel]", "[kernel]\nmodules = [\"@nic\"]").replace("package = \"linux\"", "packages = []");
    let dir = project(&[("recipes/bad.toml", bad.as_bytes()), ("recipes/base.toml", base.as_bytes())]);
    for no_color in [&[][..], &[("NO_COLOR", "1")]] {
        let r = run(dir.path(), &["check", "--recipe", "bad"], no_color);
        assert_eq!((r.code, r.out.as_str()), (2, ""));
        assert!(r.err.starts_with("error: recipe `bad` has 4 problems\n"), "{}", r.err);
        assert!(!r.err.contains('\u{1b}'), "no colours where there is no terminal");
        let expected = [
            "unknown key `sumary`",
            "[recipes/bad.toml:2:1]",
            "did you mean `summary`?",
            "wrong type: expected a number, found a string",
            "[recipes/bad.toml:4:17]",
            "4 | boot_files_mb = \"44\"",
            "                ^^^^",
            "module set `nic` does not exist",
            "[recipes/base.toml:5:12]",
            "missing key `packages`",
            "[recipes/base.toml:9:7]",
        ];
        for text in expected {
            assert!(r.err.contains(text), "no {text:?} in:\n{}", r.err);
        }
    }
}

#[test]
fn a_bad_set_is_a_problem_too() {
    let dir = project(&[("recipes/small.toml", GOOD.as_bytes())]);
    let r = run(dir.path(), &["check", "--recipe", "small", "--set", "debgu=true", "--set", "debug=1"], &[]);
    assert_eq!(r.code, 2);
    assert!(r.err.contains("did you mean `debug`?") && r.err.contains("[--set:2:1]"), "{}", r.err);
}

#[test]
fn a_recipe_that_is_not_there_or_no_text() {
    let dir = project(&[("recipes/small.toml", GOOD.as_bytes()), ("recipes/noise.toml", b"name = \"\xff\"\n")]);
    let r = run(dir.path(), &["check", "--recipe", "smal"], &[]);
    assert_eq!(r.code, 2);
    assert!(r.err.contains("`recipes/smal.toml`") && r.err.contains("did you mean `small`?"), "{}", r.err);
    let r = run(dir.path(), &["check", "--recipe", "noise"], &[]);
    assert_eq!(r.code, 2);
    assert!(r.err.contains("cannot read recipe") && r.err.contains("noise.toml"), "{}", r.err);
    let r = run(dir.path(), &["check", "--recipe", "./recipes"], &[]);
    assert_eq!(r.code, 2, "a folder is no recipe: {}", r.err);
}

#[test]
fn recipes_are_found_in_the_folder_that_the_environment_names() {
    let dir = project(&[("recipes/small.toml", GOOD.as_bytes())]);
    let elsewhere = tempfile::tempdir().unwrap();
    let recipes = dir.path().join("recipes");
    let env = [("BOOTWRIGHT_RECIPES", recipes.to_str().unwrap())];
    assert_eq!(run(elsewhere.path(), &["check", "--recipe", "small"], &env).code, 0);
    assert_eq!(run(elsewhere.path(), &["check", "--recipe", "small"], &[]).code, 2);
}

#[test]
fn the_recipes_that_ship_are_right() {
    let root = testkit::folders::project_root();
    let mut checked = 0;
    for entry in std::fs::read_dir(root.join("recipes")).unwrap() {
        let path = entry.unwrap().path();
        let is_local = path.to_string_lossy().ends_with(".local.toml");
        if path.extension().is_some_and(|e| e == "toml") && !is_local {
            for debug in ["debug=false", "debug=true"] {
                let r = run(root, &["check", "--recipe", path.to_str().unwrap(), "--set", debug], &[]);
                assert_eq!(r.code, 0, "{}: {}", path.display(), r.err);
            }
            checked += 1;
        }
    }
    assert!(checked >= 3, "{checked} recipes");
}

#[test]
fn the_locks_that_ship_fit_their_recipes_and_each_other() {
    let root = testkit::folders::project_root();
    for name in ["base", "ext4", "iscsi-tools", "rescue", "worker", "worker-prebuilt", "worker-small"] {
        let path = root.join(format!("recipes/{name}.toml")).display().to_string();
        let recipe = bootwright::recipe::load_recipe(&path, &[], None).unwrap();
        // What one machine changes is no matter of what ships.
        let lock = bootwright::lock::load_lock(&root.join(format!("recipes/{name}.lock"))).unwrap().unwrap();
        assert_eq!(bootwright::lock::compare(&recipe, &lock), [], "{name}");
        let inherited = bootwright::lock::Inherited::load(&recipe).unwrap();
        for component in &recipe.components {
            let own = lock.components.iter().find(|own| own.name == component.name).unwrap();
            if let Some((from, pins)) = inherited.find(&recipe, component) {
                assert_eq!(own.pins, pins.pins, "{name}: `{}` is pinned differently in {}", own.name, from.display());
            }
        }
    }
}

/// Two versions of one library cannot be in one image: `extends = ["worker", "ext4"]` has to build.
#[test]
fn pieces_pin_the_packages_of_the_recipes_that_they_are_laid_beside() {
    let root = testkit::folders::project_root();
    let packages = |name: &str| -> BTreeMap<String, String> {
        let lock = bootwright::lock::load_lock(&root.join(format!("recipes/{name}.lock"))).unwrap().unwrap();
        let pins = lock.components.into_iter().flat_map(|component| component.pins);
        pins.filter(|pin| pin.detail.contains_key("archive")).map(|pin| (pin.name, pin.version)).collect()
    };
    let worker = packages("worker");
    for piece in ["ext4", "iscsi-tools", "rescue"] {
        let shared: Vec<_> = packages(piece).into_iter().filter(|(name, _)| worker.contains_key(name)).collect();
        assert!(shared.iter().any(|(name, _)| name == "libc6"), "{piece}: {shared:?}");
        for (name, version) in shared {
            assert_eq!(version, worker[&name], "{piece}: {name}; help: bootwright lock --recipe {piece}");
        }
    }
}

#[test]
fn the_schema_is_json_and_refuses_unknown_keys() {
    let dir = project(&[]);
    let r = run(dir.path(), &["schema"], &[]);
    let schema: serde_json::Value = serde_json::from_str(&r.out).unwrap();
    assert_eq!((r.code, &schema["additionalProperties"]), (0, &false.into()));
    assert!(schema["properties"]["component"].is_object());
    let r = run(dir.path(), &["schema", "--nodes"], &[]);
    let schema: serde_json::Value = serde_json::from_str(&r.out).unwrap();
    assert!(r.code == 0 && schema["properties"]["node"].is_object(), "{schema:#}");
}

#[test]
fn the_recipes_in_the_readme_are_right() {
    let root = testkit::folders::project_root();
    let dir = tempfile::tempdir().unwrap();
    for folder in ["recipes", "overlays", "patches", "programs"] {
        std::os::unix::fs::symlink(root.join(folder), dir.path().join(folder)).unwrap();
    }
    // Links, so that the example's files lie beside the recipes they extend.
    std::fs::create_dir_all(dir.path().join("mine/lab")).unwrap();
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let examples = fenced(&readme, "");
    let joining = std::fs::read_to_string(root.join("docs/joining.md")).unwrap();
    let own_way = fenced(&joining, "# recipes/token-worker.toml");
    assert_eq!(own_way.len(), 1, "it shows how to join without `serve`");
    let (nodes, examples): (Vec<&str>, Vec<&str>) = examples.into_iter().partition(|e| e.starts_with("# nodes.toml"));
    assert_eq!(examples.len(), 3, "the README shows a small recipe, one that joins a cluster, one that keeps state");
    for example in nodes
        .into_iter()
        .chain(fenced(&std::fs::read_to_string(root.join("docs/boot-chain.md")).unwrap(), "[server]"))
        .chain(fenced(&joining, "[cluster]"))
    {
        bootwright::nodes::parse_nodes_text(example)
            .unwrap_or_else(|e| panic!("{}", bootwright::error::Failure::from(e)));
    }
    for example in examples.into_iter().chain(own_way) {
        let text = example.replace("extends = \"worker\"", "extends = \"../recipes/worker.toml\"");
        let both = "extends = [\"../recipes/worker.toml\", \"../recipes/ext4.toml\"]";
        let text = text.replace("extends = [\"worker\", \"ext4\"]", both).replace("../overlays/lab", "lab");
        std::fs::write(dir.path().join("mine/example.toml"), text).unwrap();
        let r = run(dir.path(), &["check", "--recipe", "mine/example.toml"], &[]);
        assert_eq!(r.code, 0, "{}\n{example}", r.err);
    }
}

/// The sample of `explain` names the line at which the worker's component starts.
#[test]
fn the_line_in_the_readme_is_the_recipes() {
    let read = |name: &str| std::fs::read_to_string(testkit::folders::project_root().join(name)).unwrap();
    let (readme, recipe) = (read("README.md"), read("recipes/worker.toml"));
    let at = recipe.lines().position(|line| line == "name = \"crun\"").expect("the worker has crun");
    // Counted from 1, and the component starts a line earlier.
    assert_eq!(readme.matches(&format!("(recipes/worker.toml:{at})")).count(), 2, "explain says line {at}");
}

/// The TOML blocks of a document that start so.
fn fenced<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
    let blocks = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.filter(|block| block.starts_with(start)).collect()
}
