mod extends;
mod problems;
mod registry;

use crate::recipe::problem::{Problem, RecipeErrors};
use crate::recipe::{
    CheckedRecipe, Compression, Expectation, InlineBody, SegmentName, SourceSpec, parse_recipe_text, recipe_schema,
    render_template,
};
use bootwright_contract::{Ipv6Mode, Policy, Ready, StatePlace, Watchdog};
use proptest::prelude::*;

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
[state]
"/var/lib/kubelet" = { volume = "nbd://10.0.0.1/state-${mac}", format = "ext4", folder = "kubelet" }
"/var/lib/containerd" = { tmpfs = "60%", mode = "0711" }
"/etc" = { volume = "nbd://10.0.0.1/state-${mac}", format = "ext4", folder = "/etc/" }
"/var/log" = { volume = "nfs:///logs/${hostname}?vers=3" }
[watchdog]
timeout_s = 30
"#;

fn good() -> CheckedRecipe {
    parse_recipe_text("good", GOOD).unwrap()
}

#[test]
fn the_roots_file_system_is_loaded_by_itself() {
    let early = |root: &str, early: &str| {
        let text = GOOD.replace("image = \"erofs\"", root).replace("[\"loop\", \"@net\", \"loop\"]", early);
        let early = parse_recipe_text("good", &text).unwrap().kernel.early;
        early.iter().map(|m| format!("{} {}", m.text, m.origin)).collect::<Vec<_>>()
    };
    let at = GOOD.lines().position(|line| line.starts_with("image = ")).unwrap() + 1;
    assert_eq!(early("image = \"erofs\"", "[]"), [format!("erofs good.toml:{at}")]);
    assert_eq!(early("image = \"squashfs\"", "[]"), [format!("squashfs good.toml:{at}")]);
    assert_eq!(early("block_kib = 64", "[]"), [format!("squashfs good.toml:{}", at - 1)], "the default");
    assert_eq!(early("image = \"cpio\"", "[]"), [""; 0]);
    let named = early("image = \"erofs\"", "[\"erofs\", \"loop\"]");
    assert_eq!(named, ["erofs good.toml:13", "loop good.toml:13"], "in the place where it is named");
}

#[test]
fn every_section_arrives() {
    let r = good();
    assert_eq!((r.name.as_str(), r.shutdown_timeout_s), ("good", 30));
    let early: Vec<&str> = r.kernel.early.iter().map(|m| m.text.as_str()).collect();
    assert_eq!(early, ["loop", "virtio_net", "e1000e", "erofs"]);
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

#[test]
fn links_that_are_made_and_time_servers() {
    let more = r#"dns = ["2001:db8::1"]
bond = [{ name = "bond0", interfaces = ["eth0", "eth1"], mode = "802.3ad", options = { lacp_rate = "fast" } }]
vlan = [{ id = 5, interface = "bond0" }]
extra = [{ interface = "eth2", mode = "dhcp" }]
interface = ["bond0.5", "02:00:00:00:00:01"]
gateway = ["192.0.2.1", "2001:db8::1"]
[time]
servers = ["ntp.lab", "192.0.2.9"]"#;
    let r = parse_recipe_text("good", &GOOD.replace("dns = [\"2001:db8::1\"]", more)).unwrap();
    let (network, bond) = (&r.network, &r.network.bonds[0]);
    assert_eq!((network.ipv6, network.interfaces.len(), network.gateways.len()), (Ipv6Mode::Off, 2, 2));
    assert_eq!((network.vlans[0].name.as_str(), network.vlans[0].id), ("bond0.5", 5));
    let options: Vec<(&str, &str)> = bond.options.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(options, [("lacp_rate", "fast"), ("miimon", "100"), ("mode", "802.3ad")]);
    assert_eq!(network.extra[0].interface, "eth2");
    assert_eq!(r.time.servers, ["ntp.lab", "192.0.2.9"]);
    let plain =
        parse_recipe_text("good", &GOOD.replace("mode = \"static\"\naddresses = [\"192.0.2.7/24\"]", "")).unwrap();
    assert_eq!(plain.network.ipv6, Ipv6Mode::Auto, "with DHCP");
}

#[test]
fn state_is_sorted_and_brings_its_modules() {
    let r = good();
    let paths: Vec<(&str, bool)> = r.state.iter().map(|s| (s.path.as_str(), s.overlay)).collect();
    let expected = [("/etc", true), ("/var/lib/containerd", false), ("/var/lib/kubelet", false), ("/var/log", false)];
    assert_eq!(paths, expected);
    let source = "nbd://10.0.0.1/state-${mac}".to_string();
    let (format, folder) = (Some("ext4".to_string()), Some("etc".to_string()));
    assert_eq!(r.state[0].place, StatePlace::Volume { source, format, folder });
    let modules: Vec<(&str, String)> =
        r.kernel.modules.iter().map(|m| (m.text.as_str(), m.origin.to_string())).collect();
    let ours = |name: &'static str, line: u32| (name, format!("good.toml:{line}"));
    assert_eq!(modules[1..], [ours("nbd", 95), ours("ext4", 95), ours("nfsv3", 96), ours("zram", 72)]);
    let of = |options: &str| -> Vec<String> {
        let recipe = parse_recipe_text("good", &GOOD.replace("?vers=3", options)).unwrap();
        recipe.kernel.modules[3..].iter().filter(|m| m.text != "zram").map(|m| m.text.clone()).collect()
    };
    for (options, names) in [
        ("", &["nfsv4", "nfsv3"][..]),
        ("?rsize=4096", &["nfsv4", "nfsv3"]),
        ("?hard&nfsvers=3", &["nfsv3"]),
        ("?vers=4.1", &["nfsv4"]),
    ] {
        assert_eq!(of(options), names, "{options}");
    }
    let watchdog = Watchdog { device: "/dev/watchdog".into(), timeout_s: 30, disarm: true };
    assert_eq!(r.watchdog, Some(watchdog));
}

#[test]
fn containerd_on_an_overlay_root_needs_a_place() {
    let service = "[[service]]\nname = \"containerd\"\nexec = [\"/usr/bin/containerd\"]\n[network]";
    let text = GOOD.replace("[network]", service).replace("\"/var/lib/containerd\" = ", "\"/var/x\" = ");
    let expected = "80: `/var/lib/containerd` cannot be in the root: containerd's snapshots are overlays";
    assert!(problems(&text)[0].starts_with(expected), "{:?}", problems(&text));
    for place in
        ["\"/var/lib\" = { tmpfs = \"1%\" }\n[watchdog]", "[[root.tmpfs]]\npath = \"/var\"\nsize = \"1%\"\n[watchdog]"]
    {
        assert_eq!(problems(&text.replace("[watchdog]", place)), [""; 0], "{place}");
    }
    assert_eq!(problems(&text.replace("image = \"erofs\"\nlevel = 9", "image = \"cpio\"")), [""; 0]);
}

/// The problems of a text, as `line: message`.
pub(in crate::recipe::check) fn problems(text: &str) -> Vec<String> {
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
    let docs = include_str!("../../../../../../docs/recipes.md");
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
