//! Files on disk: `extends`, `--set`, and paths that recipes name.

use crate::recipe::problem::RecipeErrors;
use crate::recipe::{CheckedRecipe, Expectation, InlineBody, SourceSpec, VarValue, load_recipe};
use bootwright_contract::{Limits, Ready};
use std::path::Path;

fn load(files: &[(&str, &str)], sets: &[(&str, &str)]) -> Result<CheckedRecipe, String> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let sets: Vec<_> = sets.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
    let name = dir.path().join(files[0].0).display().to_string();
    load_recipe(&name, &sets, None).map_err(|e| {
        let root = std::fs::canonicalize(dir.path()).unwrap().display().to_string();
        crate::error::Failure::from(e).message.replace(&format!("{root}/"), "")
    })
}

const BASE: &str = r#"
[vars]
debug = { type = "bool", default = false, help = "x" }
[kernel]
component = "kernel"
cmdline = ["a"]
early = ["loop"]
[kernel.sets]
nic = ["e1000e"]
[[component]]
name = "kernel"
deb = { suite = "trixie", packages = ["linux"], without = ["x"] }
[[component]]
name = "busybox"
deb = { suite = "trixie", package = "busybox-static" }
paths = ["usr/bin/busybox"]
when = "debug"
[[overlay]]
dir = "tree"
[[file]]
path = "/etc/a"
content = "base"
mode = "0600"
[[service]]
name = "s"
exec = ["/s", "one"]
env = { A = "1" }
ready = { unix = "/s.sock" }
[[root.tmpfs]]
path = "/t"
size = "1M"
[smoke]
expect = ["phases-done"]
"#;

#[test]
fn a_child_is_laid_over_what_it_extends() {
    let child = r#"
extends = "../lib/base.toml"
[vars]
debug = { default = true }
[kernel]
cmdline = ["b"]
early = ["@nic"]
[[component]]
name = "busybox"
path = { path = "bb", to = "usr/bin" }
[[file]]
path = "etc/a"
link = "b"
[[service]]
name = "s"
exec = ["/s2"]
env = { B = "2" }
ready = { file = "/f" }
[[root.tmpfs]]
path = "/t"
size = "2M"
[smoke]
ram_mib = 300
expect = ["ssh-answers"]
"#;
    let files = [("recipes/child.toml", child), ("lib/base.toml", BASE), ("lib/tree/x", ""), ("recipes/bb/x", "")];
    let r = load(&files, &[]).unwrap();
    assert_eq!(r.name, "child");
    assert_eq!(r.vars["debug"], VarValue::Bool(true));
    assert_eq!(r.kernel.cmdline, ["a", "b"]);
    assert_eq!(r.kernel.early.iter().map(|m| m.text.as_str()).collect::<Vec<_>>(), ["loop", "e1000e", "squashfs"]);
    let busybox = &r.components[1];
    assert!(busybox.enabled && busybox.paths == ["usr/bin/busybox"]);
    assert!(busybox.origin.to_string().ends_with("recipes/child.toml:8"), "{}", busybox.origin);
    assert!(matches!(&busybox.source, SourceSpec::Path(p) if p.path == Path::new("bb")));
    assert!(r.overlays[0].dir.ends_with("lib/tree"), "relative to where it is written");
    assert_eq!(
        (&r.files[0].body, r.files[0].mode),
        (&InlineBody::Symlink("b".into()), 0o777),
        "its mode went with its text"
    );
    assert_eq!(r.services[0].exec, ["/s2"]);
    assert_eq!(r.services[0].env.iter().len(), 2);
    assert_eq!(r.services[0].ready, Ready::File { path: "/f".into() });
    assert_eq!((r.root.tmpfs.len(), r.root.tmpfs[0].size.as_str()), (1, "2M"));
    assert_eq!(r.smoke.expect, [Expectation::PhasesDone, Expectation::SshAnswers]);
    assert_eq!(r.files_read.len(), 2);
    assert!(r.lock_path.ends_with("recipes/child.lock"));
}

#[test]
fn limits_of_a_service_are_its_own_or_those_that_it_extends() {
    let limited = "exec = [\"/s\", \"one\"]\nguarded = true\nmemory_max_mib = 64\ntasks_max = 9\ncpu_weight = 7";
    let base = BASE.replace("exec = [\"/s\", \"one\"]", limited);
    let limits = |base: &str, child: &str| {
        let child = format!("extends = \"base\"\n[[service]]\nname = \"s\"\n{child}\n");
        let service = load(&[("c.toml", &child), ("base.toml", base), ("tree/x", "")], &[]).unwrap().services.remove(0);
        (service.oom_score_adj, service.limits)
    };
    let of = |memory_min_mib, memory_max_mib, tasks_max, cpu_weight| Limits {
        memory_min_mib,
        memory_max_mib,
        tasks_max,
        cpu_weight,
    };
    assert_eq!(limits(BASE, ""), (0, of(0, 0, None, 100)), "the default");
    assert_eq!(limits(&base, ""), (-500, of(16, 64, Some(9), 7)));
    assert_eq!(limits(&base, "guarded = false\ntasks_max = 0"), (0, of(0, 64, Some(0), 7)));
    assert_eq!(limits(&base, "oom_score_adj = 3\nmemory_max_mib = 0"), (3, of(16, 0, Some(9), 7)));
}

#[test]
fn paths_of_an_extended_recipe_are_relative_to_the_recipe_that_is_built() {
    let base = BASE.replace(
        "deb = { suite = \"trixie\", package = \"busybox-static\" }",
        "path = { path = \"bb\", to = \"usr\" }",
    );
    let files = [
        ("a/b/child.toml", "extends = \"../../lib/base.toml\""),
        ("lib/base.toml", base.as_str()),
        ("lib/tree/x", ""),
        ("lib/bb/x", ""),
    ];
    let r = load(&files, &[]).unwrap();
    let SourceSpec::Path(spec) = &r.components[1].source else { panic!() };
    assert_eq!(spec.path, Path::new("../../lib/bb"), "no path of this machine");
}

#[test]
fn removing_and_bad_extends() {
    let base = ("base.toml", BASE);
    let tree = ("tree/x", "");
    let remove = "extends = \"base\"\n[[component]]\nname = \"busybox\"\nremove = true\n[[service]]\nname = \"s\"\nremove = true\n[[file]]\npath = \"/etc/a\"\nremove = true\n";
    let r = load(&[("c.toml", remove), base, tree], &[]).unwrap();
    assert_eq!((r.components.len(), r.services.len(), r.files.len()), (1, 0, 0));

    let cases = [
        ("extends = \"base\"\n[[file]]\npath = \"/no\"\nremove = true\n", "file `no` cannot be removed"),
        ("extends = \"bse\"\n", "recipe `bse.toml` is not there"),
        ("extends = [\"base\", \"c\"]\n", "`extends` goes in a circle: c.toml -> c.toml"),
        ("extends = 3\n", "wrong type: expected a string or a list, found an integer"),
        ("extends = \"tree\"\n", "tree.toml` is not there"),
    ];
    for (text, expected) in cases {
        let error = load(&[("c.toml", text), base, tree], &[]).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let ring = [("a.toml", "extends = \"b\"\n"), ("b.toml", "extends = \"d\"\n"), ("d.toml", "extends = \"b\"\n")];
    let error = load(&ring, &[]).unwrap_err();
    assert!(error.contains("`extends` goes in a circle: b.toml -> d.toml -> b.toml"), "{error}");
    let both = [("c.toml", "extends = \"base\"\nsummry = 1\n"), ("base.toml", "[kernle]\n")];
    let error = load(&both, &[]).unwrap_err();
    assert!(error.contains("c.toml:2:1") && error.contains("base.toml:1:2"), "{error}");
}

#[test]
fn the_same_base_by_two_ways_is_laid_once() {
    let files = [
        ("c.toml", "extends = [\"l\", \"r\"]\n"),
        ("l.toml", "extends = \"base\"\n[kernel]\ncmdline = [\"l\"]\n"),
        ("r.toml", "extends = \"base\"\n[kernel]\ncmdline = [\"r\"]\n"),
        ("base.toml", BASE),
        ("tree/x", ""),
    ];
    assert_eq!(load(&files, &[]).unwrap().kernel.cmdline, ["a", "l", "r"]);
}

#[test]
fn sets_are_typed_and_point_at_themselves() {
    let files = [("base.toml", BASE), ("tree/x", "")];
    assert!(load(&files, &[("debug", "true")]).unwrap().components[1].enabled);
    let error = load(&files, &[("debug", "maybe"), ("debgu", "true")]).unwrap_err();
    assert!(error.contains("the value of --set is `maybe`") && error.contains("--set:2:1"), "{error}");
    assert!(error.contains("did you mean `debug`?"), "{error}");
}

#[test]
fn a_text_with_choices_is_one_of_them() {
    let base = format!("{BASE}\n[vars.pods]\ntype = \"text\"\ndefault = \"a\"\nchoices = [\"a\", \"bridge\"]\n");
    let files = [
        ("r.toml", "extends = \"base\"\n[vars]\npods = { default = \"bridge\" }\n"),
        ("base.toml", base.as_str()),
        ("tree/x", ""),
    ];
    let value = |sets: &[(&str, &str)]| load(&files, sets).map(|recipe| recipe.vars["pods"].to_string());
    assert_eq!(value(&[]).unwrap(), "bridge", "a recipe that extends another names just the value");
    assert_eq!(value(&[("pods", "a")]).unwrap(), "a");
    let error = value(&[("pods", "bridg")]).unwrap_err();
    assert!(error.contains("`bridg` is no value") && error.contains("--set:1:1"), "{error}");
    assert!(error.contains("did you mean `bridge`?"), "{error}");
    for (condition, good) in
        [("pods == bridge", true), ("pods != a", true), ("pods == bridg", false), ("pods != b", false)]
    {
        let file = format!("{base}[[file]]\npath = \"/x\"\ncontent = \"\"\nwhen = \"{condition}\"\n");
        let loaded = load(&[("base.toml", &file), ("tree/x", "")], &[]);
        assert_eq!(loaded.is_ok(), good, "{condition}: {:?}", loaded.err());
    }
}

#[test]
fn missing_files_are_problems() {
    let error = load(&[("base.toml", BASE)], &[]).unwrap_err();
    assert!(error.contains("folder `tree` is not there"), "{error}");
    let recipe = |source: &str| format!("[kernel]\ncomponent = \"k\"\n[[component]]\nname = \"k\"\n{source}\n");
    for (source, expected) in [
        ("path = { path = \"no\" }", "file or folder `no` is not there"),
        ("path = { path = \"r.toml\" }", "missing key `to`"),
        ("go = { dir = \".\", packages = { \".\" = \"x\" } }", "Go module `go.mod` is not there"),
        ("oci = { layout = \"no:latest\" }", "OCI layout `no/oci-layout` is not there"),
    ] {
        let error = load(&[("r.toml", &recipe(source))], &[]).unwrap_err();
        assert!(error.contains(expected), "{source}: {error}");
    }
    assert!(matches!(load_recipe("no/such.toml", &[], None), Err(RecipeErrors::NotFound { .. })));
}

#[test]
fn files_of_modaliases_are_read_and_their_faults_named() {
    let recipe = format!("{BASE}\n").replace("early = [\"loop\"]", "early = [\"loop\"]\nmodaliases = \"fleet/*.txt\"");
    let tree = ("tree/x", "");
    let with = |files: &[(&str, &str)]| load(&[&[("r.toml", recipe.as_str()), tree], files].concat(), &[]);
    let r = with(&[("fleet/b.txt", "usb:v1\npci:v2\n"), ("fleet/a.txt", "# node 1\npci:v2\n")]).unwrap();
    let found: Vec<(&str, u32)> = r.kernel.modaliases.iter().map(|m| (m.text.as_str(), m.origin.line)).collect();
    assert_eq!(found, [("pci:v2", 2), ("usb:v1", 1)], "each once, by file");
    assert_eq!(r.files_read.len(), 3, "a build is not fresh when they change");
    let error = with(&[("fleet/a.txt", "pci:v2\ne1000e\n")]).unwrap_err();
    assert!(error.contains("line 2 of `fleet/a.txt` is no modalias: `e1000e`"), "{error}");
    let error = with(&[]).unwrap_err();
    assert!(error.contains("a file of modaliases `fleet/*.txt` is not there"), "{error}");
}

#[test]
fn a_command_line_that_the_kernel_would_cut_off_is_refused() {
    let long = format!("[\"a\", \"{}\"]", "x".repeat(1600));
    let error = load(&[("r.toml", &BASE.replace("[\"a\"]", &long)), ("tree/x", "")], &[]).unwrap_err();
    assert!(error.contains("the kernel command line has 1602 bytes"), "{error}");
}

/// Each overlay as `name folder to exclude modes`.
fn overlays(r: &CheckedRecipe) -> Vec<String> {
    let dir = |o: &crate::recipe::Overlay| o.dir.file_name().unwrap().to_string_lossy().into_owned();
    let modes = |o: &crate::recipe::Overlay| o.modes.keys().cloned().collect::<Vec<_>>().join("+");
    let name = |o: &crate::recipe::Overlay| o.name.clone().unwrap_or_default();
    let one = |o| format!("{}|{}|{}|{}|{}", name(o), dir(o), o.to, o.exclude.join("+"), modes(o));
    r.overlays.iter().map(one).collect()
}

#[test]
fn overlays_are_changed_taken_out_and_replaced() {
    let base = format!(
        "{BASE}exclude = [\"a\"]\nmodes = {{ \"x\" = \"0600\" }}\n[[overlay]]\nname = \"more\"\ndir = \"more\"\nto = \"opt\"\n",
    )
    .replace("[smoke]\nexpect = [\"phases-done\"]\n", "");
    // The keys above belong to the overlay of BASE, so it comes last.
    let base = base
        .replacen("[[overlay]]\ndir = \"tree\"\n", "", 1)
        .replace("exclude = [\"a\"]", "[[overlay]]\ndir = \"tree\"\nexclude = [\"a\"]");
    let cases = [
        ("", vec!["|tree||a|x", "more|more|opt||"]),
        // By folder and place, wherever the path is written, or by name.
        (
            "[[overlay]]\ndir = \"../lib/tree/\"\nexclude = [\"b\"]\nmodes = { \"y\" = \"0600\" }\n",
            vec!["|tree||a+b|x+y", "more|more|opt||"],
        ),
        ("[[overlay]]\nname = \"more\"\nto = \"srv\"\nexclude = [\"c\"]\n", vec!["|tree||a|x", "more|more|srv|c|"]),
        ("[[overlay]]\ndir = \"../lib/more\"\nto = \"/opt/\"\nremove = true\n", vec!["|tree||a|x"]),
        ("[[overlay]]\nname = \"more\"\nremove = true\n", vec!["|tree||a|x"]),
        ("[[overlay]]\ndir = \"../lib/tree\"\nreplace = true\n", vec!["|tree|||", "more|more|opt||"]),
        ("[[overlay]]\nname = \"more\"\ndir = \"own\"\nreplace = true\n", vec!["|tree||a|x", "more|own|||"]),
        // The same folder elsewhere, and one of one's own.
        (
            "[[overlay]]\ndir = \"../lib/tree\"\nto = \"srv\"\n[[overlay]]\ndir = \"own\"\n",
            vec!["|tree||a|x", "more|more|opt||", "|tree|srv||", "|own|||"],
        ),
    ];
    let load_child = |child: &str| {
        let folders = [("lib/tree/x", ""), ("lib/more/x", ""), ("r/own/x", "")];
        load(&[&[("r/c.toml", child), ("lib/base.toml", base.as_str())], &folders[..]].concat(), &[])
    };
    for (child, expected) in cases {
        let child = format!("extends = \"../lib/base\"\n{child}");
        let r = load_child(&child).unwrap_or_else(|e| panic!("{child}: {e}"));
        assert_eq!(overlays(&r), expected, "{child}");
        let of_base = r.overlays[0].origin.file.ends_with("base.toml");
        assert_eq!(of_base, !child.contains("replace = true\n") || child.contains("\"own\""), "{child}");
    }
    for (child, said) in [
        (
            "[[overlay]]\nname = \"no\"\nremove = true\n",
            "overlay `no` cannot be removed: nothing that this file extends",
        ),
        (
            "[[overlay]]\ndir = \"own\"\nreplace = true\n",
            "overlay `own` cannot be replaced: nothing that this file extends",
        ),
        ("[[overlay]]\nname = \"mroe\"\n", "missing key `dir`"),
        ("[[overlay]]\ndir = \"own\"\n[[overlay]]\ndir = \"./own\"\n", "overlay `./own` is written twice"),
        ("[[overlay]]\nname = \"a b\"\ndir = \"own\"\n", "`a b` is not a name"),
        ("[[overlay]]\ndir = \"own\"\nexclude = [\"[\"]\n", "bad glob `[`"),
    ] {
        let child = format!("extends = \"../lib/base\"\n{child}");
        let error = load_child(&child).unwrap_err();
        assert!(error.contains(said), "{child}: {error}");
    }
}

#[test]
fn two_overlays_of_one_folder_have_names() {
    let two =
        "[[overlay]]\nname = \"a\"\ndir = \"tree\"\nwhen = \"debug\"\n[[overlay]]\nname = \"b\"\ndir = \"tree\"\n";
    let base = BASE.replace("[[overlay]]\ndir = \"tree\"\n", two);
    let r = load(&[("base.toml", &base), ("tree/x", "")], &[("debug", "true")]).unwrap();
    assert_eq!(overlays(&r), ["a|tree|||", "b|tree|||"]);
}

#[test]
fn components_services_and_files_are_replaced_and_what_is_excluded_stays_out_until_it_is_taken_back() {
    let base = BASE.replace("paths = [\"usr/bin/busybox\"]", "paths = [\"usr/bin/busybox\"]\nexclude = [\"a\"]");
    let busybox = "name = \"busybox\"\n";
    let load = |child: &str| {
        let child = format!("extends = \"base\"\n{child}\n");
        load(&[("c.toml", &child), ("base.toml", &base), ("tree/x", "")], &[("debug", "true")])
    };
    let r = load(&format!("[[component]]\n{busybox}exclude = [\"b\"]")).unwrap();
    assert_eq!((&r.components[1].exclude[..], r.components[1].paths.len()), (&["a".to_string(), "b".into()][..], 1));
    let r = load(&format!("[[component]]\n{busybox}exclude = [\"!a\", \"b\"]")).unwrap();
    assert_eq!(r.components[1].exclude, ["b"]);
    let error = load(&format!("[[component]]\n{busybox}exclude = [\"b\", \"!c\"]")).unwrap_err();
    assert!(error.contains("`c` cannot be taken back: nothing that this file extends excludes it"), "{error}");
    let deb = "deb = { suite = \"sid\", package = \"busybox\" }";
    let r = load(&format!("[[component]]\n{busybox}replace = true\n{deb}")).unwrap();
    let component = &r.components[1];
    assert!(component.exclude.is_empty() && component.paths.is_empty() && component.enabled, "{component:?}");
    let r = load("[[service]]\nname = \"s\"\nreplace = true\nexec = [\"/new\"]").unwrap();
    assert_eq!((r.services[0].env.iter().len(), &r.services[0].ready), (0, &Ready::Started));
    let r = load("[[file]]\npath = \"/etc/a\"\nreplace = true\ncontent = \"new\"").unwrap();
    assert_eq!(r.files[0].mode, 0o644);
    let error = load("[[service]]\nname = \"t\"\nreplace = true\nexec = [\"/t\"]").unwrap_err();
    assert!(error.contains("service `t` cannot be replaced"), "{error}");
    let error = load(&format!("[[component]]\n{busybox}replace = true\npaths = []")).unwrap_err();
    assert!(error.contains("has none of `deb`"), "nothing of the earlier one is left: {error}");
}

#[test]
fn drop_ins_are_laid_in_order_and_the_local_one_last() {
    let word = |word: &str| format!("[kernel]\ncmdline = [\"{word}\"]\n[root]\noverlay_size = \"{}%\"\n", word.len());
    let files: Vec<(String, String)> = [
        ("lib/lab.toml", format!("extends = \"base\"\n{}", word("lab"))),
        ("lib/base.toml", BASE.to_string()),
        ("lib/base.d/20-b.toml", format!("extends = \"../piece\"\n{}", word("twenty"))),
        ("lib/base.d/10-a.toml", word("ten")),
        ("lib/base.d/.30.toml", word("hidden")),
        ("lib/base.d/README", "no recipe".into()),
        ("lib/base.local.toml", word("here")),
        ("lib/lab.local.toml", word("labhere")),
        ("lib/piece.toml", word("piece")),
        ("lib/piece.d/1.toml", word("of-piece")),
        ("lib/tree/x", String::new()),
    ]
    .map(|(name, text)| (name.to_string(), text))
    .into();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let r = load(&files, &[]).unwrap();
    assert_eq!(r.kernel.cmdline, ["a", "ten", "piece", "of-piece", "twenty", "here", "lab", "labhere"]);
    assert_eq!((r.name.as_str(), r.root.overlay_size.as_str()), ("lab", "7%"));
    assert_eq!(r.files_read.len(), 8);
    let at = |end: &str| {
        let file = r.files_read.iter().find(|f| f.ends_with(end)).unwrap_or_else(|| panic!("{end}"));
        crate::recipe::Origin { file: crate::recipe::shown(file).into(), line: 1 }
    };
    for (upper, lower, expected) in [
        ("base.d/10-a.toml", "base.toml", true),
        ("base.d/20-b.toml", "base.d/10-a.toml", true),
        ("base.d/20-b.toml", "piece.d/1.toml", true),
        ("base.local.toml", "base.d/20-b.toml", true),
        ("lab.toml", "base.local.toml", true),
        ("lab.local.toml", "piece.toml", true),
        ("piece.toml", "base.toml", false),
        ("base.toml", "base.d/10-a.toml", false),
        ("base.d/10-a.toml", "base.d/10-a.toml", false),
    ] {
        assert_eq!(r.lineage.is_over(&at(upper), &at(lower)), expected, "{upper} over {lower}");
    }
    let error = load(&[&files[..], &[("lib/base.d/5.toml", "extends = \"../lab\"\n")]].concat(), &[]).unwrap_err();
    assert!(error.contains("`extends` goes in a circle: lib/lab.toml -> lib/base.toml -> lib/lab.toml"), "{error}");
    let error = load(&[&files[..], &[("lib/lab.local.toml", "[kernle]\n")]].concat(), &[]).unwrap_err();
    assert!(error.contains("lib/lab.local.toml:1:2"), "{error}");
}

#[test]
fn a_smoke_test_waits_for_any_service_and_not_for_one_that_was_taken_out() {
    let base = BASE.replace("expect = [\"phases-done\"]", "expect = [\"service:s\", \"phases-done\", \"service:s\"]");
    let load = |child: &str| {
        load(&[("c.toml", &format!("extends = \"base\"\n{child}")), ("base.toml", &base), ("tree/x", "")], &[])
    };
    let service = Expectation::Service("s".into());
    assert_eq!(load("").unwrap().smoke.expect, [service, Expectation::PhasesDone]);
    for gone in ["remove = true", "when = \"debug\""] {
        let r = load(&format!("[[service]]\nname = \"s\"\n{gone}\n")).unwrap();
        assert_eq!(r.smoke.expect, [Expectation::PhasesDone], "{gone}");
    }
    let error = load("[smoke]\nexpect = [\"service:t\"]\n").unwrap_err();
    assert!(error.contains("service `t` does not exist"), "{error}");
    let error = load("[smoke]\nexpect = [\"kubelet-healthy\"]\n").unwrap_err();
    assert!(error.contains("service `kubelet` does not exist"), "{error}");
    let error = load("[smoke]\nexpect = [\"phase-done\"]\n").unwrap_err();
    assert!(error.contains("`phase-done` is no value of this key"), "{error}");
}

#[test]
fn a_recipe_does_without_modules_that_it_inherits() {
    let base = BASE.replace(
        "early = [\"loop\"]",
        "early = [\"loop\"]\nmodules = [\"@nic\", \"e1000\", \"tun\"]\nload = [\"tun\"]",
    );
    let child = |exclude: &str| format!("extends = \"base\"\n[kernel]\nmodules = [\"veth\"]\nexclude = {exclude}\n");
    let texts =
        |list: &[crate::recipe::ModuleRequest]| list.iter().map(|module| module.text.clone()).collect::<Vec<_>>();
    // A recipe that extends such a one has what it takes back.
    let lab = child("[\"@nic\", \"tun\"]");
    let again = "extends = \"lab\"\n[kernel]\nexclude = [\"!tun\"]\n";
    let r = load(&[("c.toml", again), ("lab.toml", &lab), ("base.toml", &base), ("tree/x", "")], &[]).unwrap();
    assert_eq!(
        (texts(&r.kernel.modules), texts(&r.kernel.load)),
        (["e1000", "tun", "veth"].map(String::from).into(), vec!["tun".to_string()])
    );
    let load = |exclude: &str| load(&[("lab.toml", &child(exclude)), ("base.toml", &base), ("tree/x", "")], &[]);
    let r = load("[\"@nic\", \"tun\"]").unwrap();
    assert_eq!((texts(&r.kernel.modules), texts(&r.kernel.load)), (vec!["e1000".to_string(), "veth".into()], vec![]));
    // A set is excluded as it is written, not module by module.
    let said = load("[\"e1000e\"]").unwrap_err();
    assert!(said.contains("module of a list") && said.contains("`e1000e`"), "{said}");
}

#[test]
fn a_variant_is_laid_over_the_recipe_and_over_those_that_extend_it() {
    let base = "[vars]\nlean = { type = \"text\", default = \"bytes\", choices = [\"bytes\", \"ram\"] }\nname = { type = \"text\", default = \"x\" }\n\
        [kernel]\ncomponent = \"k\"\n[[component]]\nname = \"k\"\npath = { path = \".\" }\n\
        [root]\nblock_kib = 256\n[[service]]\nname = \"s\"\nexec = [\"/s\"]\n\
        [[variant]]\nwhen = \"lean == ram\"\n[variant.root]\nblock_kib = 16\n[variant.zram]\nsize_mib = 64\n[[variant.service]]\nname = \"s\"\nexec = [\"/s\", \"${name}\", \"${ip}\"]\n";
    let over = ("b.toml", "extends = \"a\"\n[root]\nblock_kib = 128\n");
    let recipe =
        |lean: &str| load(&[over, ("a.toml", base)], &[("lean", lean)]).unwrap_or_else(|error| panic!("{error}"));
    let (bytes, ram) = (recipe("bytes"), recipe("ram"));
    assert_eq!((bytes.root.block_kib, ram.root.block_kib), (128, 16));
    let has_zram = |recipe: &CheckedRecipe| recipe.kernel.modules.iter().any(|module| module.text == "zram");
    assert!(!has_zram(&bytes) && has_zram(&ram), "swap on compressed memory brings its module");
    assert_eq!((bytes.services[0].exec.len(), &ram.services[0].exec[1..]), (1, &["x".to_string(), "${ip}".into()][..]));
    for (from, to, expected) in [
        ("when = \"lean == ram\"\n", "", "this variant"),
        ("lean == ram", "lean == few", "`few` is no value of this key"),
        ("[variant.root]\nblock_kib", "[variant.root]\nblocks", "`blocks`"),
        ("[variant.root]\nblock_kib = 16", "[variant.component]", "`component`"),
    ] {
        let found = load(&[("a.toml", &base.replace(from, to))], &[]).expect_err(from);
        assert!(found.contains(expected), "{from}: {found}");
    }
}
