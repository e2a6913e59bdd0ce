use super::*;
use crate::entry::Sha256;
use crate::recipe::{CheckedRecipe, parse_recipe_text};

const RECIPE: &str = r#"
[kernel]
component = "kernel"

[[component]]
name = "kernel"
deb = { suite = "trixie", package = "linux-image-amd64" }

[[component]]
name = "tool"
when = "false"
go = { module = "example.org/tool", version = "v1.0.0", packages = { "example.org/tool" = "usr/bin/tool" } }
"#;

fn recipe(text: &str) -> CheckedRecipe {
    parse_recipe_text("r", text).unwrap()
}

fn pin(name: &str, version: &str, size: u64) -> Pin {
    let sha256 = Sha256::of(format!("{name}{version}{size}").as_bytes());
    let detail = [("filename".to_string(), format!("pool/{name}.deb"))].into();
    Pin { name: name.into(), version: version.into(), size, sha256, detail }
}

fn lock(recipe: &CheckedRecipe) -> Lock {
    let components = recipe.components.iter().map(|c| LockedComponent {
        name: c.name.clone(),
        spec: c.source.clone(),
        pins: vec![pin("b", "1", 10), pin("a", "2", 20)],
    });
    Lock { version: LOCK_VERSION, time: 1_700_000_000, components: components.rev().collect() }
}

#[test]
fn a_lock_survives_the_disk_and_is_written_the_same_each_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r.lock");
    assert_eq!(load_lock(&path).unwrap(), None);
    let lock = lock(&recipe(RECIPE));
    save_lock(&path, &lock).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let read = load_lock(&path).unwrap().unwrap();
    let names: Vec<&str> = read.components.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["kernel", "tool"], "sorted");
    assert_eq!(read.components[0].pins, [pin("a", "2", 20), pin("b", "1", 10)], "sorted");
    assert_eq!(read.components[1].spec, lock.components[0].spec);
    save_lock(&path, &read).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn every_kind_of_source_survives() {
    let text = format!(
        r#"{RECIPE}
[[component]]
name = "u"
url = {{ url = "https://example.org/x.tar.gz", sha256 = "{}", size = 5 }}
[[component]]
name = "o"
oci = {{ image = "example.org/x:1" }}
[[component]]
name = "p"
path = {{ path = "dir", to = "opt" }}
[[component]]
name = "d"
go = {{ dir = "main", packages = {{ "." = "usr/bin/d" }}, patches = ["p"] }}
"#,
        "0".repeat(64)
    );
    let recipe = recipe(&text);
    let mut lock = lock(&recipe);
    lock.components[0].pins.clear();
    let mut read = parse_lock(Path::new("r.lock"), &format_lock(&lock).unwrap()).unwrap();
    assert_eq!(compare(&recipe, &read), []);
    read.components.retain(|c| c.name == "d");
    assert_eq!(read.components[0].pins, []);
}

#[test]
fn bad_locks_say_where() {
    let good = format_lock(&lock(&recipe(RECIPE))).unwrap();
    let twice = format!("{good}{}", &good[good.find("[[component]]").unwrap()..]);
    let cases = [
        ("version = 1\ntime = \"x\"\n", "lock `r.lock`, line 2: invalid type"),
        ("version = 1\ntime = 0\ncolour = 1\n", "lock `r.lock`, line 3: unknown field `colour`"),
        ("version = 1\n<<<<<<< HEAD\n", "lock `r.lock`, line 2:"),
        ("version = 2\ntime = 0\nnew = 1\n", "lock `r.lock` has layout 2, expected 1"),
        ("", "lock `r.lock`, line 1: missing field"),
        (&twice, "lock `r.lock` holds component `kernel` twice"),
        (&good.replacen("sha256 = \"", "sha256 = \"zz", 1), "64 hex digits"),
    ];
    for (text, expected) in cases {
        let error = parse_lock(Path::new("r.lock"), text).unwrap_err();
        assert!(error.to_string().contains(expected), "{error} for {text:.80}");
        let failure = Failure::from(error);
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.help.is_some());
    }
}

#[test]
fn a_lock_that_cannot_be_written_leaves_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("missing/r.lock");
    let error = save_lock(&path, &lock(&recipe(RECIPE))).unwrap_err();
    assert_eq!(Failure::from(error).exit, Exit::Other);
    let unreadable = load_lock(dir.path()).unwrap_err();
    assert!(matches!(unreadable, LockError::Read { .. }));
}

#[test]
fn a_stale_lock_names_the_key() {
    let lock = lock(&recipe(RECIPE));
    let stale = |from: &str, to: &str| -> Vec<String> {
        assert!(RECIPE.contains(from));
        compare(&recipe(&RECIPE.replace(from, to)), &lock).iter().map(Stale::to_string).collect()
    };
    assert_eq!(stale("trixie", "trixie"), [""; 0]);
    assert_eq!(
        stale("\"trixie\"", "\"bookworm\""),
        ["component `kernel`: `deb.suite` changed from \"trixie\" to \"bookworm\""]
    );
    assert_eq!(
        stale("\"linux-image-amd64\"", "\"linux-image-cloud-amd64\", security = false"),
        [
            "component `kernel`: `deb.packages` changed from [\"linux-image-amd64\"] to [\"linux-image-cloud-amd64\"]",
            "component `kernel`: `deb.security` changed from true to false",
        ]
    );
    assert_eq!(
        stale("usr/bin/tool", "usr/bin/other"),
        ["component `tool`: `go.packages.example.org/tool` changed from \"usr/bin/tool\" to \"usr/bin/other\""]
    );
    assert_eq!(
        stale("deb = { suite = \"trixie\", package = \"linux-image-amd64\" }", "oci = { image = \"x/y:1\" }"),
        ["component `kernel`: `source` changed from `deb` to `oci`"]
    );
    assert_eq!(
        stale("name = \"tool\"", "name = \"tule\""),
        ["component `tule` is new in the recipe", "component `tool` is gone from the recipe"]
    );
    assert_eq!(stale("when = \"false\"", "when = \"true\""), [""; 0], "a condition is no reason to pin anew");
}

#[test]
fn a_diff_reads_like_a_change_log() {
    let recipe = recipe(RECIPE);
    let old = lock(&recipe);
    let mut new = old.clone();
    new.components[0].pins = vec![pin("a", "2", 20), pin("b", "1.1", 12_810), pin("tool", "", 3_450_000)];
    new.components[1].pins[0].detail.clear();
    let lines: Vec<String> = diff_locks(Some(&old), &new).to_string().lines().map(String::from).collect();
    assert_eq!(lines, ["kernel/b: 1, found elsewhere", "tool/b: 1 -> 1.1 (+13 kB)", "tool: added, 3.4 MB"]);
    let back = diff_locks(Some(&new), &old).to_string();
    assert!(back.contains("tool/b: 1.1 -> 1 (-13 kB)\ntool: removed, 3.4 MB"), "{back}");
    assert!(diff_locks(Some(&old), &old).is_empty());
    assert_eq!(diff_locks(None, &old).changes.len(), 4);
    let mut asked = old.clone();
    asked.components[0].spec = old.components[1].spec.clone();
    assert_eq!(diff_locks(Some(&old), &asked).to_string(), "tool: asked for differently, pins unchanged");
}

#[test]
fn a_long_value_that_changed_is_told_in_a_line() {
    let with = |flags: &str| {
        let flags = format!("ldflags = \"\"\"{flags}\"\"\" }}");
        recipe(&RECIPE.replace("usr/bin/tool\" } }", &format!("usr/bin/tool\" }}, {flags}")))
    };
    let long = "line of a program\n".repeat(400);
    let lock = lock(&with(&long));
    let stale: Vec<String> =
        compare(&with(&long.replacen("of a", "of the", 1)), &lock).iter().map(Stale::to_string).collect();
    let [line] = &stale[..] else { panic!("{stale:?}") };
    assert!(line.chars().count() < 260 && !line.contains('\n'), "{line}");
    assert!(line.starts_with("component `tool`: `go.ldflags` changed from ") && line.contains("characters)"), "{line}");
    assert!(
        line.contains("line of a program") && line.contains("line of the program"),
        "what differs is shown: {line}"
    );
    // The place is shown, wherever it is; and a value that went whole.
    let end = compare(&with(&format!("{long}the end")), &lock).remove(0).to_string();
    assert!(end.contains("the end") && end.chars().count() < 260, "{end}");
    let gone = compare(&recipe(RECIPE), &lock).remove(0).to_string();
    assert!(gone.contains(" to \"-s -w -buildid=\"") && gone.chars().count() < 260, "{gone}");
}
