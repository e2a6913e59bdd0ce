//! What each emitter writes for a small lab.

use super::*;
use crate::nodes::parse_nodes_text;

const UUID: &str = "0e3c1a5b-0000-4000-8000-0123456789ab";

fn image(name: &str, root_from_us: bool) -> BootImage {
    BootImage {
        name: name.into(),
        recipe: name.into(),
        summary: String::new(),
        image_id: "0123456789abcdef".into(),
        boot_bytes: 1,
        cmdline: vec!["console=tty0".into(), "panic=30".into()],
        root_from_us,
        asks_for_manifest: name == "worker-nbd",
        kubelet: None,
    }
}

fn lab() -> Nodes {
    let text = format!(
        r#"
[server]
url = "http://192.0.2.1:8080"
report = true
[menu]
timeout_s = 3
[defaults]
recipe = "worker"
[[node]]
name = "n1"
mac = ["52:54:00:00:00:01", "52:54:00:00:00:02"]
address = "192.0.2.11/24"
gateway = "192.0.2.1"
dns = ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
root = ["nbd://192.0.2.1/a", "nbd://192.0.2.2/a"]
[[node]]
name = "n2"
uuid = "{UUID}"
address = "2001:db8::7/64"
root = "iscsi://u:s@192.0.2.1/iqn.x"
secrets = "allowed"
secrets_reason = "a lab behind a door"
ibft = true
[[node]]
name = "n3"
mac = "52:54:00:00:00:03"
root = "http"
cmdline = ["bw.debug"]
"#
    );
    parse_nodes_text(&text).unwrap()
}

fn images() -> Vec<BootImage> {
    ["worker", "worker-nbd", "worker-iscsi"]
        .map(|name| image(name, false))
        .into_iter()
        .chain([image("worker-http", true)])
        .collect()
}

#[test]
fn a_nodes_words() {
    let (nodes, images) = (lab(), images());
    let plan = Plan::new(&nodes, &images, None, false).unwrap();
    let words: Vec<String> = plan.nodes.iter().map(|entry| plan.node_words(entry).join(" ")).collect();
    let manifest = "bw.manifest=http://192.0.2.1:8080/worker-nbd/root.json";
    let common = format!("console=tty0 panic=30 {manifest} bw.report=http://192.0.2.1:8080/report");
    assert_eq!(
        words[0],
        format!(
            "{common} bw.root=nbd://192.0.2.1/a bw.root=nbd://192.0.2.2/a bw.hostname=n1 \
             ip=192.0.2.11::192.0.2.1:255.255.255.0:n1::none:192.0.2.1:192.0.2.2"
        )
    );
    assert!(words[1].ends_with("bw.hostname=n2 ip=[2001:db8::7]:::64:n2::none"), "{}", words[1]);
    let http = "bw.root=http://192.0.2.1:8080/worker-http/root.img bw.report=http://192.0.2.1:8080/report";
    assert_eq!(words[2], format!("console=tty0 panic=30 {http} bw.hostname=n3 bw.debug"));
}

#[test]
fn ipxe_scripts() {
    let (nodes, images) = (lab(), images());
    let plan = Plan::new(&nodes, &images, None, false).unwrap();
    let entry = ipxe::entry_script(&plan);
    let uuid = entry.find(&format!("iseq ${{uuid}} {UUID} && set bw-node n2 ||\n")).unwrap();
    let mac = entry.find("iseq ${netX/mac} 52:54:00:00:00:02 && set bw-node n1 ||\n").unwrap();
    assert!(uuid < mac, "the later line wins, and a MAC shall");
    let n1 = ipxe::node_script(&plan, &plan.nodes[0]);
    for line in [
        "set bw-root bw.root=nbd://192.0.2.1/a",
        "set bw-url http://192.0.2.1:8080/worker-nbd/",
        "chain --autofree ../../worker-nbd/boot.ipxe ||",
    ] {
        assert!(n1.lines().any(|l| l == line), "{line}\n{n1}");
    }
    assert!(n1.contains(" bw.root=nbd://192.0.2.2/a bw.report=http://192.0.2.1:8080/report ${bw-args}\n"), "{n1}");
    let n2 = ipxe::node_script(&plan, &plan.nodes[1]);
    assert!(
        n2.contains("set bw-root bw.root=iscsi:ibft\nset bw-san iscsi:192.0.2.1::::iqn.x\nset username u\n"),
        "{n2}"
    );
    assert_eq!(ipxe::link_script(&plan.nodes[0]).lines().nth(2), Some(":load"));
    let menu = ipxe::menu_script(&plan);
    assert!(menu.contains("choose --default image-worker --timeout 3000 "), "{menu}");
    for script in [&entry, &n1, &n2, &menu] {
        labels_are_there(script);
        assert!(!script.contains("bw-signatures"), "{script}");
    }
}

fn labels_are_there(script: &str) {
    for label in script.lines().filter_map(|line| line.split("goto ").nth(1)) {
        let label = label.split(' ').next().unwrap();
        assert!(label.starts_with("${") || script.lines().any(|line| line == format!(":{label}")), "{label}\n{script}");
    }
    for item in script.lines().filter_map(|line| line.strip_prefix("item ")).filter(|item| !item.starts_with("--")) {
        let label = item.split(' ').next().unwrap();
        assert!(script.lines().any(|line| line == format!(":{label}")), "{label}\n{script}");
    }
}

#[test]
fn signed_chains_name_their_signatures() {
    let (nodes, images) = (lab(), images());
    let plan = Plan::new(&nodes, &images, None, true).unwrap();
    let line = "set bw-signatures ../boot/signatures/worker-nbd/\n";
    assert!(ipxe::node_script(&plan, &plan.nodes[0]).contains(line));
    assert!(ipxe::menu_script(&plan).contains(line));
}

#[test]
fn other_loaders() {
    let (nodes, images) = (lab(), images());
    let plan = Plan::new(&nodes, &images, None, false).unwrap();
    let pxe = pxelinux::node_config(&plan, &plan.nodes[0]);
    assert!(pxe.starts_with("DEFAULT n1\nPROMPT 0\n"), "{pxe}");
    assert!(pxe.contains("KERNEL ::worker-nbd/vmlinuz\n  INITRD ::worker-nbd/initrd.img\n"), "{pxe}");
    assert!(pxelinux::default_config(&plan).starts_with("DEFAULT worker\nPROMPT 1\nTIMEOUT 30\n"));
    let grub = grub::config(&plan);
    assert!(grub.find(UUID).unwrap() < grub.find("52:54:00:00:00:01").unwrap(), "{grub}");
    let dnsmasq = dnsmasq::config(&plan).unwrap();
    assert!(dnsmasq.contains("dhcp-host=52:54:00:00:00:01,52:54:00:00:00:02,192.0.2.11,n1\n"), "{dnsmasq}");
    assert!(dnsmasq.ends_with("dhcp-boot=tag:ipxe,http://192.0.2.1:8080/boot/boot.ipxe\n"), "{dnsmasq}");
    let groups = matchbox::groups(&plan);
    let selectors: Vec<_> = groups.iter().map(|group| group.selector.clone()).collect();
    assert_eq!(selectors[2], [("uuid", UUID.to_string())].into());
    assert!(selectors.last().unwrap().is_empty(), "everybody else");
}

#[test]
fn what_cannot_be_is_told() {
    let images = images();
    let told = |text: &str| Plan::new(&parse_nodes_text(text).unwrap(), &images, None, false).unwrap_err().to_string();
    let node = "[[node]]\nname = \"n1\"\nmac = \"52:54:00:00:00:01\"\nrecipe = \"worker\"\n";
    let missing = told(&format!("{node}root = \"nfs\"\n"));
    assert_eq!(missing, "nodes.toml:1: node `n1` boots the image `worker-nfs`, which is not there");
    assert!(told("[menu]\ndefault = \"wrker\"\n").starts_with("the menu's default `wrker` is no image"));
    let long = told(&format!("{node}cmdline = [\"a={}\"]\n", "x".repeat(2000)));
    assert!(long.starts_with("the kernel command line of `n1` is too long"), "{long}");
}

#[test]
fn a_nodes_files_are_rendered_and_secrets_are_refused_or_told() {
    let dir = tempfile::tempdir().unwrap();
    let overlay = dir.path().join("files/etc/lab");
    std::fs::create_dir_all(&overlay).unwrap();
    std::fs::write(overlay.join("who.j2"), "{{ name }} {{ address }}/{{ prefix }} {{ zone }}\n").unwrap();
    std::fs::write(overlay.join("kubeconfig"), "user:\n  token: abc\n").unwrap();
    let node = "[[node]]\nname = \"n1\"\nmac = \"52:54:00:00:00:01\"\nrecipe = \"worker\"\naddress = \"192.0.2.7/24\"\n\
                overlay = \"files\"\nvars = { zone = \"z\" }\n";
    let path = dir.path().join("nodes.toml");
    std::fs::write(&path, node).unwrap();
    let (nodes, images) = (crate::nodes::load_nodes(&path).unwrap(), images());
    let error = Plan::new(&nodes, &images, None, false).unwrap_err();
    assert!(error.to_string().contains("`etc/lab/kubeconfig` line 2: a password or token"), "{error}");
    std::fs::write(&path, format!("{node}secrets = \"allowed\"\nsecrets_reason = \"a lab\"\n")).unwrap();
    let nodes = crate::nodes::load_nodes(&path).unwrap();
    assert!(nodes.hold_secrets());
    let plan = Plan::new(&nodes, &images, None, false).unwrap();
    let entry = &plan.nodes[0];
    let told = entry.secrets().unwrap();
    assert!(told.ends_with(": a lab; found `etc/lab/kubeconfig` line 2: a password or token"), "{told}");
    let segment = entry.segment.as_ref().unwrap();
    let sums = format!("bw.node={}", segment.sums_sha256);
    assert!(plan.node_words(entry).contains(&sums));
    assert_eq!(entry.initrds(), ["worker/initrd.img", "boot/nodes/n1.cpio.gz"]);
    let mut archive = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&segment.bytes[..]), &mut archive).unwrap();
    let text = String::from_utf8_lossy(&archive);
    assert!(text.contains("bootwright/node/etc/lab/who\0") && text.contains("n1 192.0.2.7/24 z\n"), "{text}");
    std::fs::write(overlay.join("bad.j2"), "{{ typo }}").unwrap();
    let error = Plan::new(&nodes, &images, None, false).unwrap_err();
    assert!(matches!(error, ChainError::Files { .. }), "{error}");
}
