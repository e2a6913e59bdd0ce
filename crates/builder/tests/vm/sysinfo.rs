//! What the lint of add-ons says of an image, the node itself says too; and what is hidden from a node is noticed.

use crate::static_pods;
use serde_json::Value;
use std::collections::BTreeSet;
use testkit::ssh::{ssh, ssh_ok};
use testkit::tool::tool;
use testkit::vm::{Running, wait_until};
use testkit::{QEMU, need::have};

/// Hides each need once in a mount namespace of its own, and asks for an add-on that has it: a line for each that lacks already, that
/// cannot be hidden, and that was hidden and not noticed.
const HIDE: &str = r#"
R=$(uname -r); D=/usr/lib/modules/$R; N=/run/hidden; mkdir -p $N
cat > $N/hide <<'EOF'
kind=$1; R=$(uname -r); D=/usr/lib/modules/$R; N=/run/hidden
cover() { busybox mount --bind $1 $2; }
busybox mount --make-rprivate /
echo "$2" | tr '|' '\n' > $N/names
while read -r name; do
    case $kind in
    module)
        p=$(echo $name | sed 's/_/[-_]/g')
        sed "/^[^:]*\/$p\.ko[^:]*:/d" $D/modules.dep > $N/dep; sed "/\/$p\.ko/d" $D/modules.builtin > $N/builtin
        cover $N/dep $D/modules.dep; cover $N/builtin $D/modules.builtin;;
    program) for f in $name /usr/sbin/$name /usr/bin/$name; do [ -f $f ] && cover /dev/null $f; done;;
    path) [ -e $name ] && busybox mount -t tmpfs hidden $(dirname $name);;
    sysctl) echo -7 > $N/value; cover $N/value /proc/sys/$(echo ${name%% *} | tr . /);;
    option) sed "/^CONFIG_$name=/d" /boot/config-$R > $N/config; cover $N/config /boot/config-$R;;
    mount) busybox umount -l $name;;
    esac
done < $N/names
bootwright-ctl sysinfo $3
EOF
awk -F'\t' '!seen[$2,$3]++' /usr/share/bootwright/addons.tsv > $N/table
while IFS="$(printf '\t')" read -r addon kind name why; do
    if bootwright-ctl sysinfo $addon | grep -qF "  lacks $kind $name: "; then echo "lacks $kind $name"; continue; fi
    case $kind:$(dirname ${name%%|*}) in path:/) echo "cannot hide $kind $name"; continue;; esac
    busybox unshare -m sh $N/hide $kind "$name" $addon < /dev/null | grep -qF "  lacks $kind $name: " && echo "noticed" || echo "not noticed $kind $name"
done < $N/table > $N/result 2> $N/errors
echo end >> $N/result
"#;

#[test]
fn a_node_agrees_with_the_lint_and_notices_each_need_that_is_hidden() {
    if !have(&[QEMU, "go", "ssh", "ssh-keygen"]) {
        return;
    }
    let image = static_pods::worker();
    let machine = Running::start(&image, &["--ram-mib", "1024"]);
    assert_eq!(of_node(&machine), of_lint(&image), "what lacks, by the node and by the lint");

    ssh_ok(
        &machine,
        &format!("cat > /run/probe <<'END'\n{HIDE}\nEND\nsetsid sh /run/probe > /dev/null 2>&1 < /dev/null &"),
    );
    let result = || String::from_utf8_lossy(&ssh(&machine, "cat /run/hidden/result").stdout).into_owned();
    wait_until("each need was hidden", std::time::Duration::from_secs(400), || result().ends_with("end\n"));
    let result = result();
    let unnoticed: Vec<&str> = result.lines().filter(|line| line.starts_with("not noticed")).collect();
    assert!(unnoticed.is_empty(), "{unnoticed:#?}\n{}", ssh_ok(&machine, "cat /run/hidden/errors"));
    let noticed = result.lines().filter(|line| *line == "noticed").count();
    assert!(noticed > 80, "{result}");
}

/// `add-on kind name` of all that lacks.
fn of_node(machine: &Running) -> BTreeSet<String> {
    let output = ssh(machine, "bootwright-ctl sysinfo");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (mut addon, mut lacking) = ("", BTreeSet::new());
    for line in text.lines() {
        match line.strip_prefix("  lacks ").and_then(|line| line.split_once(": ")) {
            Some((need, _)) => drop(lacking.insert(format!("{addon} {need}"))),
            None => addon = line,
        }
    }
    assert_eq!(output.status.code(), Some(1), "{text}");
    lacking
}

fn of_lint(image: &testkit::image::Image) -> BTreeSet<String> {
    let sets = image.sets.iter().flat_map(|set| ["--set".to_string(), set.clone()]);
    let names = bootwright::profiles::PROFILES.iter().map(|profile| profile.name.to_string());
    let output = tool().args(["addons", "--json", "--recipe", &image.recipe]).args(sets).args(names).output();
    let document: Value = serde_json::from_slice(&output.expect("the tool was built").stdout).expect("it prints JSON");
    let mut lacking = BTreeSet::new();
    for addon in document["addons"].as_array().expect("a list") {
        for need in addon["needs"].as_array().expect("a list") {
            if need["standing"] != "has" && need["only"].is_null() {
                let text = |value: &Value| {
                    value
                        .as_str()
                        .expect("a text")
                        .replace("${release}", document["kernel_release"].as_str().expect("a text"))
                };
                lacking.insert(format!("{} {} {}", text(&addon["name"]), text(&need["kind"]), text(&need["name"])));
            }
        }
    }
    lacking
}
