//! Good and bad `nodes.toml`.

use super::*;
use crate::recipe::render::render_problems;
use proptest::prelude::*;

fn problems(text: &str) -> String {
    match parse_nodes_text(text) {
        Err(NodesError::Problems { sources, problems, .. }) => {
            render_problems(&sources, &problems, miette::GraphicalTheme::none())
        }
        other => panic!("no problems: {other:?}"),
    }
}

const LAB: &str = r#"
[server]
url = "http://192.0.2.1:8080/"
proxy = "192.0.2.0"
report = true

[menu]
default = "local"
timeout_s = 3

[defaults]
recipe = "worker"
gateway = "192.0.2.1"
dns = ["192.0.2.1"]
vars = { zone = "a", rack = 1 }

[[node]]
name = "n1"
mac = ["52:54:00:12:34:56", "52-54-00-12-34-57"]
address = "192.0.2.11/24"
root = ["nbd://192.0.2.1/worker", "nbd://192.0.2.2/worker"]
vars = { zone = "b" }

[[node]]
name = "n2"
hostname = "n2.lab.example"
uuid = "0E3C1A5B-0000-4000-8000-0123456789AB"
recipe = "rescue"
cmdline = ["bw.debug"]
"#;

#[test]
fn a_whole_file() {
    let lab = parse_nodes_text(LAB).unwrap();
    assert_eq!(lab.server.url.as_deref(), Some("http://192.0.2.1:8080"));
    assert_eq!(lab.server.dhcp, Dhcp::Proxy("192.0.2.0".parse().unwrap()));
    assert_eq!((lab.menu.default.as_deref(), lab.menu.timeout_s), (Some("local"), 3));
    assert_eq!(lab.image.as_deref(), Some("worker"));
    let [n1, n2] = &lab.nodes[..] else { panic!("{lab:#?}") };
    assert_eq!((n1.image.as_str(), n1.roots.len(), n1.macs.len()), ("worker-nbd", 2, 2));
    assert_eq!((n1.hostname.as_str(), n1.dns.len()), ("n1", 1));
    assert_eq!(n1.vars["zone"], VarValue::Text("b".into()), "a node's own value wins");
    assert_eq!(n1.vars["rack"], VarValue::Int(1), "the others stay");
    assert_eq!((n2.image.as_str(), n2.address), ("rescue", None));
    assert_eq!(n2.uuid.as_deref(), Some("0e3c1a5b-0000-4000-8000-0123456789ab"));
    assert_eq!(n2.origin.to_string(), "nodes.toml:24");
}

#[test]
fn an_empty_file_is_a_menu() {
    let nothing = parse_nodes_text("").unwrap();
    assert_eq!(nothing, Nodes::default());
    assert_eq!(nothing.menu.timeout_s, 10);
}

#[test]
fn all_problems_are_told_at_once_and_where() {
    let text = r#"
[server]
url = "https://192.0.2.1"
dhcp_range = "192.0.2.9,192.0.2.1"

[[node]]
name = "n1"
mac = "52:54:00:12:34:5g"
uuid = "ffffffff-ffff-ffff-ffff-ffffffffffff"
address = "192.0.2.11"
root = "ftp://192.0.2.1/x"
cmdline = ["a b", "x=$y"]
vars = { hostname = "x", "a-b" = 1 }

[[node]]
name = "n1"
mac = "52:54:00:00:00:01"
recipe = "worker"
gateway = "192.0.2.1"
ibft = true

[[node]]
name = "n_3"
recipe = "worker"
mac = "52:54:00:00:00:01"
colour = "red"

[[node]]
name = "n4"
recipe = "../worker"

[[node]]
name = "n5"
recipe = "worker"
mac = "52:54:00:00:00:05"
address = "192.0.2.15/24"
gateway = "2001:db8::1"
"#;
    let said = problems(text);
    for expected in [
        "`https://192.0.2.1` is not an address of an HTTP server; loaders know no TLS",
        "`192.0.2.9,192.0.2.1` is not a range of addresses",
        "`52:54:00:12:34:5g` is not the MAC address of a network card",
        "`ffffffff-ffff-ffff-ffff-ffffffffffff` is not a UUID that tells a machine",
        "`192.0.2.11` is not an address with its prefix",
        "`ftp://192.0.2.1/x` is not `ram`",
        "`a b` is not a word of printable ASCII",
        "`x=$y` is not a word",
        "`hostname` is not the name of a variable of yours",
        "`a-b` is not the name of a variable",
        "missing key `recipe`",
        "node `n1` is written twice: first at nodes.toml:7",
        "`gateway` is not used: the node has no `address`",
        "`ibft` is not used",
        "`n_3` is not a host name",
        "MAC address `52:54:00:00:00:01` is written twice: first at nodes.toml:15",
        "unknown key `colour`",
        "node `n4` has none of `mac`, `uuid`",
        "`../worker` is not the name of a recipe",
        "`2001:db8::1` is not an IPv4 address, as `address` is",
        "nodes.toml:8:7",
    ] {
        assert!(said.contains(expected), "no {expected:?} in:\n{said}");
    }
}

#[test]
fn no_toml_and_wrong_types() {
    assert!(problems("[node\n").contains("not TOML"));
    assert!(problems("node = 1\n").contains("wrong type: expected a list"));
    assert!(problems("[menu]\ntimeout_s = -1\n").contains("out of range"));
    let both = problems("[server]\nproxy = \"192.0.2.0\"\ndhcp_range = \"192.0.2.5,192.0.2.9\"\nreport = true\n");
    assert!(both.contains("`proxy` is not used") && both.contains("`report` is not used"), "{both}");
    let error = load_nodes(std::path::Path::new("/nowhere/nodes.toml")).unwrap_err();
    assert!(error.to_string().starts_with("cannot read `/nowhere/nodes.toml`"), "{error}");
}

const CLUSTER: &str = r#"
[cluster]
name = "lab"
servers = ["https://192.0.2.1:6443", "https://192.0.2.2:6443"]
dns = ["10.96.0.10"]
credentials = "secrets/lab.kubeconfig"
signing_key = "secrets/lab.key"
ca = """
-----BEGIN CERTIFICATE-----
AAAA
-----END CERTIFICATE-----
"""
"#;

#[test]
fn a_cluster_and_its_nodes() {
    let lab = parse_nodes_text(&format!("{LAB}{CLUSTER}")).unwrap();
    let cluster = lab.cluster.unwrap();
    assert_eq!((cluster.name.as_str(), cluster.servers.len(), cluster.dns.len()), ("lab", 2, 1));
    assert_eq!(cluster.domain, "cluster.local");
    let bad =
        CLUSTER.replace("https://192.0.2.2", "http://192.0.2.2").replace("10.96.0.10", "dns").replace("BEGIN", "X");
    let said = problems(&format!("{LAB}{bad}").replace("n2.lab.example", "N1"));
    for expected in [
        "`http://192.0.2.2:6443` is not an API server",
        "`dns` is not an address",
        "`ca` is not a certificate in PEM",
        "host name `n1` is written twice",
    ] {
        assert!(said.contains(expected), "no {expected:?} in:\n{said}");
    }
    assert!(problems("[cluster]\nname = \"lab\"\n").contains("servers"));
}

#[test]
fn folders_must_be_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nodes.toml");
    let text =
        "[[node]]\nname = \"n1\"\nmac = \"52:54:00:00:00:01\"\nrecipe = \"worker\"\noverlay = [\"here\", \"gone\"]\n";
    std::fs::create_dir(dir.path().join("here")).unwrap();
    std::fs::write(&path, text).unwrap();
    let Err(NodesError::Problems { problems, .. }) = load_nodes(&path) else { panic!("a folder is missing") };
    assert_eq!(problems.len(), 1, "{problems:?}");
    std::fs::create_dir(dir.path().join("gone")).unwrap();
    assert_eq!(load_nodes(&path).unwrap().nodes[0].overlays, ["here", "gone"].map(|name| dir.path().join(name)));
}

proptest! {
    /// Lines of a good file, some of them cut, doubled or mixed up: read or refused, and every problem can be shown.
    #[test]
    fn any_mixture_of_lines_is_read_or_refused(picks in prop::collection::vec((0usize..28, 0usize..60), 0..30)) {
        let lines: Vec<&str> = LAB.lines().collect();
        let cut = |(line, length): &(usize, usize)| {
            let line = lines.get(*line).copied().unwrap_or_default();
            line.chars().take(*length).collect::<String>() + "\n"
        };
        let text: String = picks.iter().map(cut).collect();
        if let Err(NodesError::Problems { sources, problems, .. }) = parse_nodes_text(&text) {
            prop_assert!(!render_problems(&sources, &problems, miette::GraphicalTheme::none()).is_empty());
        }
    }

    #[test]
    fn macs_survive(mac: [u8; 6]) {
        let mac = Mac(mac);
        let wanted = (mac.0 != [0; 6] && mac.0[0] & 1 == 0).then_some(mac);
        prop_assert_eq!(parse_mac(&mac.to_string()), wanted);
        prop_assert_eq!(parse_mac(&mac.hyphens()), wanted);
    }
}
