use crate::recipe::problem::{Problem, RecipeErrors};
use crate::recipe::{
    CheckedRecipe, Compression, Expectation, InlineBody, SegmentName, SourceSpec, VarValue, load_recipe,
    parse_recipe_text, recipe_schema, render_template,
};
use bootwright_contract::{Policy, Ready};
use proptest::prelude::*;
use std::path::Path;

const GOOD: &str = r#"
summary = "all sections"
shutdown_timeout_s = 30

[vars]
debug = { type = "bool", default = false, help = "more" }
suite = { type = "text", default = "trixie" }
port = { type = "int", default = 80 }

[kernel]
component = "kernel"
cmdline = ["console=ttyS0"]
early = ["loop", "@net", "loop"]
modules = ["pci:v00008086d*"]
load = ["button"]
firmware = "declared"
firmware_skip = ["i915/**"]
[kernel.sets]
net = ["virtio_net", "@more"]
more = ["e1000e"]

[[component]]
name = "kernel"
deb = { suite = "${suite}", package = "linux-image-amd64", without = ["initramfs-*"] }
paths = ["boot/vmlinuz-*"]

[[component]]
name = "tool"
when = "debug"
url = { url = "https://example.org/v${port}/tool", sha256 = "0000000000000000000000000000000000000000000000000000000000000000", size = 7 }
rename = { "tool" = "/usr/bin/tool" }
paths = []

[[overlay]]
dir = "etc"
when = "port == 80"

[[file]]
path = "/etc/motd"
content = "on ${suite}, $${literal}\n"
[[file]]
path = "usr/bin/mount"
init = true
segment = "root"
[[file]]
path = "/tmp"
dir = true
mode = "1777"
[[file]]
path = "/var/run"
link = "/run"

[[service]]
name = "web"
exec = ["/usr/bin/web", "--ip=${ip}", "--port=${port}"]
after = ["network", "shell"]
ready = { http = "http://127.0.0.1:${port}/" }
[[service]]
name = "shell"
when = "debug"
exec = ["/bin/sh"]
ready = "exited"

[network]
mode = "static"
addresses = ["192.0.2.7/24"]
dns = ["2001:db8::1"]
[hostname]
fallback = "node-1"
[sysctls]
"net.ipv4.ip_forward" = 1
[zram]
size_mib = 256
[policies]
network = { retry = 3, then = { reboot_after_s = 10 } }
verify = "shell"
[root]
image = "erofs"
level = 9
[[root.tmpfs]]
path = "/var/lib/x"
size = "60%"
[pack]
stable = "xz:6+x86"
volatile = "none"
[budget]
boot_files_mb = 40
[budget.components]
tool = 1.5
[smoke]
expect = ["phases-done", "ssh-answers"]
"#;

fn good() -> CheckedRecipe {
    parse_recipe_text("good", GOOD).unwrap()
}

#[test]
fn every_section_arrives() {
    let r = good();
    assert_eq!((r.name.as_str(), r.shutdown_timeout_s), ("good", 30));
    let early: Vec<&str> = r.kernel.early.iter().map(|m| m.text.as_str()).collect();
    assert_eq!(early, ["loop", "virtio_net", "e1000e"]);
    assert_eq!(r.kernel.early[1].origin.to_string(), "good.toml:19");
    let SourceSpec::Deb(deb) = &r.components[0].source else { panic!("{:?}", r.components[0]) };
    assert_eq!((deb.suite.as_str(), deb.packages.len(), deb.security), ("trixie", 1, true));
    assert_eq!(r.components[0].origin.to_string(), "good.toml:22");
    let tool = &r.components[1];
    assert!(!tool.enabled && tool.only_needed && !r.components[0].only_needed);
    let SourceSpec::Url(url) = &tool.source else { panic!("{tool:?}") };
    assert_eq!((url.urls[0].as_str(), url.name.as_str(), url.unpack), ("https://example.org/v80/tool", "tool", false));
    assert_eq!(tool.rename["tool"], "usr/bin/tool");
    assert_eq!((r.overlays.len(), r.overlays[0].segment), (1, SegmentName::Config));
    assert_eq!(r.files[0].body, InlineBody::Text("on trixie, ${literal}\n".into()));
    assert_eq!((r.files[0].mode, r.files[1].mode, r.files[2].mode), (0o644, 0o755, 0o1777));
    assert_eq!(r.files[3].path, "var/run");
    assert_eq!(r.services.len(), 1, "a service that is switched off is not there");
    assert_eq!(r.services[0].after, ["network"], "nor is it waited for");
    assert_eq!(r.services[0].exec, ["/usr/bin/web", "--ip=${ip}", "--port=80"]);
    assert_eq!(r.services[0].ready, Ready::Http { url: "http://127.0.0.1:80/".into() });
    assert_eq!(r.sysctls["net.ipv4.ip_forward"], "1");
    let retry = Policy::Retry { times: 3, then: Box::new(Policy::Reboot { after_s: 10 }) };
    assert_eq!((&r.policies["network"], &r.policies["verify"]), (&retry, &Policy::Shell));
    assert_eq!(r.root.tmpfs[0].mode, "0755");
    assert_eq!((r.pack.stable, r.pack.volatile), (Compression::Xz { level: 6, x86: true }, Compression::None));
    assert_eq!(r.smoke.expect, [Expectation::PhasesDone, Expectation::SshAnswers]);
    assert_eq!(r.budget.components_mb["tool"], 1.5);
}

/// Problems of `GOOD` with one edit, as `line: message`.
fn problems_of(from: &str, to: &str) -> Vec<String> {
    assert!(GOOD.contains(from), "{from}");
    problems(&GOOD.replacen(from, to, 1))
}

fn problems(text: &str) -> Vec<String> {
    match parse_recipe_text("bad", text) {
        Ok(_) => Vec::new(),
        Err(RecipeErrors::Problems { sources, problems, .. }) => {
            assert!(problems.iter().all(|f| !f.problem.help().is_empty()));
            problems.iter().map(|f| format!("{}: {}", sources.line(f.at), f.problem)).collect()
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn each_problem_is_found_where_it_is() {
    let cases: &[(&str, &str, &str)] = &[
        ("[zram]", "[zrma]", "72: unknown key `zrma`"),
        ("load = [", "loads = [", "15: unknown key `loads`"),
        ("default = 80", "default = \"80\"", "8: variable `port` is an integer, but its default is a string"),
        ("type = \"int\", ", "", "8: missing key `type`"),
        ("debug = {", "ip = {", "6: `ip` is filled in on the node"),
        ("shutdown_timeout_s = 30", "shutdown_timeout_s = -1", "3: -1 is out of range: expected 0 to 4294967295"),
        (
            "shutdown_timeout_s = 30",
            "shutdown_timeout_s = 1979-05-27",
            "3: wrong type: expected an integer, found a date",
        ),
        ("cmdline = [\"console=ttyS0\"]", "cmdline = \"x\"", "12: wrong type: expected a list, found a string"),
        ("\"declared\"", "\"all\"", "16: `all` is no value of this key"),
        ("i915/**", "i915/[", "17: bad glob `i915/[`"),
        ("\"@net\"", "\"@nett\"", "13: module set `nett` does not exist"),
        ("more = [\"e1000e\"]", "more = [\"@net\"]", "20: module sets hold each other in a circle: net -> more -> net"),
        ("\"button\"", "\"but ton\"", "15: `but ton` is not a module name"),
        ("component = \"kernel\"", "component = \"kernl\"", "11: component `kernl` does not exist"),
        ("component = \"kernel\"", "", "10: missing key `component`"),
        ("suite = \"${suite}\", ", "", "24: missing key `suite`"),
        ("${suite}\", package", "${suit}\", package", "24: variable `suit` does not exist"),
        ("\"linux-image-amd64\"", "\"Linux Image\"", "24: `Linux Image` is not a Debian package name"),
        ("deb = {", "go = {", "24: unknown key `suite`"),
        ("paths = [\"boot/vmlinuz-*\"]", "oci = { image = \"x/y\" }", "22: component `kernel` has `deb`, `oci` of"),
        ("name = \"tool\"", "name = \"kernel\"", "28: component `kernel` is written twice: first at bad.toml:22"),
        ("name = \"tool\"", "name = \"recipe\"", "28: `recipe` is not free as a component's name"),
        ("name = \"tool\"", "nam = \"tool\"", "28: unknown key `nam`"),
        ("when = \"debug\"", "when = \"debgu\"", "29: variable of `when` `debgu` does not exist"),
        ("when = \"debug\"", "when = \"suite\"", "29: bad condition `suite`"),
        ("000000\"", "00000\"", "30: `000"),
        ("size = 7", "size = \"7\"", "30: wrong type: expected an integer, found a string"),
        ("size = 7", "mode = \"0755\"", "30: missing key `size`"),
        ("size = 7", "size = 7, strip = 1", "30: `strip` is not used: the file is not unpacked"),
        ("https://", "ftp://", "30: `ftp://example.org/v80/tool` is not an http or https URL"),
        ("\"/usr/bin/tool\"", "\"../tool\"", "31: bad path `../tool`: a path with `..`"),
        ("dir = \"etc\"\n", "", "34: missing key `dir`"),
        ("path = \"/etc/motd\"", "path = \"/\"", "39: `/` is not the path of a file in the image"),
        (
            "path = \"usr/bin/mount\"",
            "path = \"etc/motd\"",
            "42: file `etc/motd` is written twice: first at bad.toml:38",
        ),
        ("path = \"/tmp\"\ndir = true", "path = \"/tmp\"\ndir = false", "45: file `/tmp` has none of"),
        ("link = \"/run\"", "link = \"/run\"\ncontent = \"\"", "49: file `/var/run` has `content`, `link` of"),
        ("\"1777\"", "\"1787\"", "48: `1787` is not octal permissions"),
        ("$${literal}", "${literal", "40: `${literal"),
        ("\"/usr/bin/web\"", "\"web\"", "55: `web` is not an absolute path"),
        ("\"network\", \"shell\"", "\"netwrok\"", "56: service `netwrok` does not exist"),
        (
            "exec = [\"/bin/sh\"]",
            "exec = [\"/bin/sh\"]\nafter = [\"web\"]",
            "56: services wait for each other in a circle: web -> shell -> web",
        ),
        ("exec = [\"/bin/sh\"]", "exec = []", "58: missing key `exec`"),
        ("{ http = \"http://127.0.0.1:${port}/\" }", "{}", "57: `ready` of service `web` has none of"),
        ("ready = \"exited\"", "ready = \"done\"", "62: `done` is no value of this key"),
        ("ready = \"exited\"", "stop_signal = \"SIGTERM\"", "62: `SIGTERM` is no value of this key"),
        ("192.0.2.7/24", "192.0.2.7", "66: `192.0.2.7` is not an address with its prefix length"),
        ("mode = \"static\"", "mode = \"dhcp\"", "66: `addresses` is not used"),
        ("addresses = [\"192.0.2.7/24\"]\n", "", "64: missing key `addresses`"),
        ("2001:db8::1", "dns.example", "67: `dns.example` is not an IP address"),
        ("\"node-1\"", "\"node_1\"", "69: `node_1` is not a host name"),
        ("\"net.ipv4.ip_forward\" = 1", "forward = 1", "71: `forward` is not the dotted name"),
        ("size_mib = 256", "swappiness = 300", "73: 300 is out of range: expected 0 to 200"),
        ("verify = \"shell\"", "verfy = \"shell\"", "76: phase `verfy` does not exist"),
        ("{ retry = 3, then = { reboot_after_s = 10 } }", "{ then = \"shell\" }", "75: the policy has none of `retry`"),
        ("level = 9", "level = 90", "79: 90 is out of range: expected 1 to 22"),
        ("level = 9", "block_kib = 100", "79: `100` is not a power of two"),
        ("\"60%\"", "\"60 %\"", "82: `60 %` is not a size of a tmpfs"),
        ("\"xz:6+x86\"", "\"xz:10\"", "84: `xz:10` is not a compression"),
        ("tool = 1.5", "tol = 1.5", "89: component `tol` does not exist"),
        (
            "boot_files_mb = 40",
            "boot_files_mb = nan",
            "87: wrong type: expected a number, found a float that is no number",
        ),
        ("boot_files_mb = 40", "boot_files_mb = 0", "87: `0` is not a size in MB above 0"),
        ("\"ssh-answers\"", "\"ssh\"", "91: `ssh` is no value of this key"),
        ("[kernel]", "[kernel", "10: not TOML:"),
    ];
    let mut missed = Vec::new();
    for (from, to, expected) in cases {
        let found = problems_of(from, to);
        if !found.iter().any(|p| p.starts_with(expected)) {
            missed.push(format!("{from} -> {to}: wanted {expected}, found {found:#?}"));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

#[test]
fn all_problems_are_reported_in_one_run_in_order() {
    let text = GOOD
        .replace("[zram]", "[zrma]")
        .replace("0000\"", "000\"")
        .replace("\"1777\"", "\"1787\"")
        .replace("\"@net\"", "\"@nett\"")
        .replace("\"xz:6+x86\"", "6")
        .replace("@more", "@most");
    let found: Vec<String> =
        problems(&text).iter().map(|p| p.split(['`', ' ']).take(4).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(found.len(), 6, "{found:#?}");
    let lines: Vec<u32> = problems(&text).iter().map(|p| p.split(':').next().unwrap().parse().unwrap()).collect();
    assert!(lines.is_sorted(), "{lines:?}");
}

#[test]
fn a_typing_error_gets_a_suggestion() {
    let Err(RecipeErrors::Problems { problems, .. }) = parse_recipe_text("bad", &GOOD.replace("[zram]", "[zrma]"))
    else {
        panic!("it is bad")
    };
    assert_eq!(problems[0].problem.help(), "did you mean `zram`?");
    assert!(matches!(&problems[0].problem, Problem::UnknownKey { known, .. } if known.contains(&"kernel".to_string())));
}

#[test]
fn a_minimal_recipe_has_defaults_and_an_empty_one_says_what_is_missing() {
    let r = parse_recipe_text(
        "small",
        "[kernel]\ncomponent = \"k\"\n[[component]]\nname = \"k\"\ndeb = { suite = \"trixie\", package = \"linux\" }\n",
    )
    .unwrap();
    assert_eq!((r.pack.stable, r.root.overlay_size.as_str()), (Compression::Zstd(19), "25%"));
    assert_eq!((r.smoke.ram_mib, r.smoke.expect.as_slice()), (512, &[Expectation::PhasesDone][..]));
    assert!(r.hostname.dhcp);
    assert_eq!(problems(""), ["1: missing key `kernel`"]);
}

fn load(files: &[(&str, &str)], sets: &[(&str, &str)]) -> Result<CheckedRecipe, String> {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let sets: Vec<_> = sets.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
    let name = dir.path().join(files[0].0).display().to_string();
    load_recipe(&name, &sets).map_err(|e| {
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
remove = false
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
    // A symlink has no mode: the child must not inherit one. Found by name and key.
    let files = [("recipes/child.toml", child), ("lib/base.toml", BASE), ("lib/tree/x", ""), ("recipes/bb/x", "")];
    let error = load(&files, &[]).unwrap_err();
    assert!(error.contains("`mode` is not used: a symlink has none"), "{error}");
    let child = child.replace("link = \"b\"", "content = \"child\"");
    let files = [("recipes/child.toml", child.as_str()), files[1], files[2], files[3]];
    let r = load(&files, &[]).unwrap();
    assert_eq!(r.name, "child");
    assert_eq!(r.vars["debug"], VarValue::Bool(true));
    assert_eq!(r.kernel.cmdline, ["a", "b"]);
    assert_eq!(r.kernel.early.iter().map(|m| m.text.as_str()).collect::<Vec<_>>(), ["loop", "e1000e"]);
    let busybox = &r.components[1];
    assert!(busybox.enabled && busybox.paths == ["usr/bin/busybox"]);
    assert!(busybox.origin.to_string().ends_with("recipes/child.toml:8"), "{}", busybox.origin);
    assert!(matches!(&busybox.source, SourceSpec::Path(p) if p.path == Path::new("bb")));
    assert!(r.overlays[0].dir.ends_with("lib/tree"), "relative to where it is written");
    assert_eq!((&r.files[0].body, r.files[0].mode), (&InlineBody::Text("child".into()), 0o600));
    assert_eq!(r.services[0].exec, ["/s2"]);
    assert_eq!(r.services[0].env.len(), 2);
    assert_eq!(r.services[0].ready, Ready::File { path: "/f".into() });
    assert_eq!((r.root.tmpfs.len(), r.root.tmpfs[0].size.as_str()), (1, "2M"));
    assert_eq!(r.smoke.expect, [Expectation::PhasesDone, Expectation::SshAnswers]);
    assert_eq!(r.files_read.len(), 2);
    assert!(r.lock_path.ends_with("recipes/child.lock"));
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
    assert!(matches!(load_recipe("no/such.toml", &[]), Err(RecipeErrors::NotFound { .. })));
}

#[test]
fn templates_know_the_variables_and_nothing_else() {
    let vars = good().vars;
    let text = "{% if debug %}\nloud\n{% endif %}\nport {{ port }} of {{ suite }}\n";
    assert_eq!(render_template("x.j2", text, &vars).unwrap(), "port 80 of trixie\n");
    let error = render_template("x.j2", "a\n{{ nope }}\n", &vars).unwrap_err();
    assert!(error.to_string().contains("x.j2") && error.to_string().contains('2'), "{error}");
    assert!(render_template("x.j2", "{% if %}", &vars).is_err());
}

#[test]
fn the_reference_names_every_key() {
    let docs = include_str!("../../../docs/recipes.md");
    let schema = recipe_schema();
    let mut missing = Vec::new();
    let tables = schema["$defs"].as_object().unwrap().values().chain([&schema]);
    for key in tables.filter_map(|t| t["properties"].as_object()).flat_map(|p| p.keys()) {
        if !docs.contains(&format!("`{key}`")) {
            missing.push(key);
        }
    }
    assert!(missing.is_empty(), "docs/recipes.md does not mention {missing:?}");
}

fn mutated() -> impl Strategy<Value = String> {
    let edit = (
        0..GOOD.len(),
        0..40_usize,
        prop_oneof!["[ -~\n]{0,8}", "\\PC{0,3}", Just("[[".to_string()), Just("\"\"\"".into()), Just("${".into())],
    );
    prop::collection::vec(edit, 1..6).prop_map(|edits| {
        let mut text: Vec<char> = GOOD.chars().collect();
        for (at, remove, insert) in edits {
            let at = at.min(text.len());
            let end = (at + remove).min(text.len());
            text.splice(at..end, insert.chars());
        }
        text.into_iter().collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_text_makes_it_panic(text in mutated()) {
        if let Err(e) = parse_recipe_text("x", &text) {
            prop_assert!(crate::error::Failure::from(e).message.contains("problem"));
        }
    }

    #[test]
    fn no_noise_makes_it_panic(text in "\\PC{0,80}") {
        let _ = parse_recipe_text("x", &text).map_err(crate::error::Failure::from);
    }
}
