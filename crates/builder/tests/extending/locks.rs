//! An extending recipe inherits the lock of what it extends: only what is its own is pinned, and apt is asked only for that.

use testkit::project::{Project, Run};

/// A component that is switched off, so that its package is pinned and never fetched.
const LATE: &str = "[[component]]\nname = \"late\"\nwhen = \"false\"\ndeb = { suite = \"trixie\", package = \"hello\", depends = false }\n";

/// Its entry in a lock. Nobody's apt would answer with that version.
const PINNED: &str = "[[component]]\nname = \"late\"\n[component.spec.deb]\nsuite = \"trixie\"\npackages = [\"hello\"]\nwithout = []\n\
    areas = [\"main\"]\nsecurity = true\ndepends = false\n[[component.pin]]\nname = \"hello\"\nversion = \"2.10-0tested\"\nsize = 7\n\
    sha256 = \"00000000000000000000000000000000000000000000000000000000000000aa\"\n[component.pin.detail]\n\
    archive = \"debian\"\nfilename = \"pool/main/h/hello/hello_2.10-0tested_amd64.deb\"\n";

/// `tiny` with a package, pinned; `lab` extends it.
fn pinned(lab: &str) -> Project {
    let project = Project::new();
    project.good_build();
    project.add(LATE);
    project.write("recipes/tiny.lock", project.read("recipes/tiny.lock") + PINNED);
    project.write("recipes/lab.toml", format!("extends = \"tiny\"\n{lab}"));
    project.write("more", "more");
    project.build(&["--locked"]).succeeds();
    project
}

/// On a machine without apt: no program is found at all.
fn run(project: &Project, args: &[&str]) -> Run {
    Run::of(project.command(args).env("PATH", "/nowhere").output().unwrap())
}

fn lock(project: &Project, path: &str) -> toml::Table {
    project.read(path).parse().unwrap()
}

/// The pins of a component.
fn pins(lock: &toml::Table, component: &str) -> Option<toml::Value> {
    let found = lock["component"].as_array().unwrap().iter().find(|c| c["name"].as_str() == Some(component))?;
    found.get("pin").cloned()
}

const MORE: &str = "[[component]]\nname = \"more\"\npath = { path = \"../more\", to = \"opt/more\" }\n";

#[test]
fn what_is_not_changed_keeps_its_pins_and_needs_no_apt() {
    let project = pinned(MORE);
    let base = lock(&project, "recipes/tiny.lock");
    for command in ["lock", "build"] {
        let run = run(&project, &[command, "--recipe", "lab"]);
        run.succeeds().says(&["late: added, its pin inherited", "more/../more: added, 4 B"]);
        let own = lock(&project, "recipes/lab.lock");
        for component in ["kernel", "tool", "late"] {
            assert_eq!(pins(&own, component), pins(&base, component), "{component}");
        }
        assert!(pins(&own, "more").is_some() && pins(&base, "more").is_none());
        std::fs::remove_file(project.path("recipes/lab.lock")).unwrap();
    }
    // What is said of pins that are not the recipe's own.
    let said = "`recipes/tiny.lock` pins `kernel`, `late`, `tool`: renew those with `bootwright lock --recipe recipes/tiny.toml`";
    run(&project, &["lock", "--recipe", "lab"]).succeeds().says(&[said]);
    run(&project, &["build", "--locked", "--recipe", "lab"]).succeeds();
    // The test can fail: without the inherited lock the package has to be resolved.
    std::fs::remove_file(project.path("recipes/lab.lock")).unwrap();
    std::fs::remove_file(project.path("recipes/tiny.lock")).unwrap();
    run(&project, &["lock", "--recipe", "lab"]).fails(3, &["component `late` (recipes/tiny.toml:"]);
}

#[test]
fn only_what_the_recipe_changes_is_resolved() {
    let project = pinned("[[component]]\nname = \"tool\"\npath = { to = \"opt/moved\" }\n");
    run(&project, &["build", "--recipe", "lab"]).succeeds();
    let own = lock(&project, "recipes/lab.lock");
    assert_eq!(pins(&own, "late"), pins(&lock(&project, "recipes/tiny.lock"), "late"));
    // What of a component is no matter of its source leaves the pins alone; its source does not.
    project
        .write("recipes/lab.toml", "extends = \"tiny\"\n[[component]]\nname = \"late\"\nexclude = [\"usr/share\"]\n");
    run(&project, &["build", "--recipe", "lab"]).succeeds();
    project
        .write("recipes/lab.toml", "extends = \"tiny\"\n[[component]]\nname = \"late\"\ndeb = { suite = \"sid\" }\n");
    run(&project, &["build", "--recipe", "lab"]).fails(3, &["component `late` (recipes/lab.toml:2)"]);
}

#[test]
fn pins_follow_those_of_the_extended_recipe_and_say_so() {
    let project = pinned(MORE);
    run(&project, &["build", "--recipe", "lab"]).succeeds();
    run(&project, &["build", "--locked", "--recipe", "lab"]).succeeds();
    let newer = project.read("recipes/tiny.lock").replace("0tested", "1tested");
    project.write("recipes/tiny.lock", newer);
    let said = ["recipes/lab.lock` does not fit", "component `late` is pinned differently in `recipes/tiny.lock`"];
    run(&project, &["build", "--locked", "--recipe", "lab"]).fails(2, &said);
    let said =
        ["component `late` is pinned differently in `recipes/tiny.lock`", "late/hello: 2.10-0tested -> 2.10-1tested"];
    run(&project, &["build", "--recipe", "lab"]).succeeds().says(&said);
    run(&project, &["build", "--locked", "--recipe", "lab"]).succeeds();
}

#[test]
fn a_recipe_in_another_folder_inherits_too() {
    let project = pinned("");
    project.write("sites/north/lab.toml", "extends = \"../../recipes/tiny.toml\"\n");
    run(&project, &["build", "--recipe", "sites/north/lab.toml"]).succeeds();
    let own = lock(&project, "sites/north/lab.lock");
    assert_eq!(pins(&own, "late"), pins(&lock(&project, "recipes/tiny.lock"), "late"));
    run(&project, &["build", "--locked", "--recipe", "sites/north/lab.toml"]).succeeds();
}

#[test]
fn a_recipe_that_pins_nothing_of_its_own_needs_no_lock() {
    let project = pinned("[[file]]\npath = \"/etc/motd\"\ncontent = \"lab\"\n");
    run(&project, &["build", "--locked", "--recipe", "lab"]).succeeds();
    assert!(!project.path("recipes/lab.lock").exists(), "`--locked` writes no lock");
}

#[test]
fn what_a_local_file_adds_is_in_no_lock_that_ships() {
    let project = pinned("");
    let shipped = project.read("recipes/tiny.lock");
    project.write("recipes/tiny.local.toml", MORE);
    run(&project, &["build", "--recipe", "tiny"]).succeeds();
    run(&project, &["build", "--recipe", "lab"]).succeeds();
    assert_eq!(project.read("recipes/tiny.lock"), shipped);
    assert!(!project.path("recipes/lab.lock").exists());
    for name in ["tiny", "lab"] {
        let local = lock(&project, &format!("recipes/{name}.local.lock"));
        assert!(pins(&local, "more").is_some() && pins(&local, "late").is_some(), "{name}");
    }
    // git leaves both alone, as the project's own list of ignored files says.
    let ignored = std::fs::read_to_string(testkit::folders::project_root().join(".gitignore")).unwrap();
    assert!(["*.local.toml", "*.local.lock"].iter().all(|glob| ignored.lines().any(|line| line == *glob)));
}
