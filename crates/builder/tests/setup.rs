//! `scripts/setup.sh`: what its package lists bring to an empty Debian, and that the Go which it installs is the one that
//! the locks pin.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// What the lists must bring, by themselves or as dependencies, since recommended packages are not installed: the linker's
/// start files for Rust, C++ for libFuzzer, and certificates for all that is fetched.
const NEEDED: [(&str, &[&str]); 2] =
    [("image", &["libc6-dev", "binutils", "ca-certificates", "curl"]), ("test", &["libc6-dev", "binutils", "g++"])];

fn setup(args: &[&str]) -> Command {
    let mut command = Command::new(testkit::folders::project_root().join("scripts/setup.sh"));
    command.args(args);
    command
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("programs print text")
}

/// The packages that apt would install for a goal where none is installed yet.
fn simulated(goal: &str) -> BTreeSet<String> {
    let list = setup(&[goal, "--list"]).output().expect("the script runs");
    assert!(list.status.success(), "{}", text(list.stderr));
    let list = text(list.stdout);
    let status = tempfile::NamedTempFile::new().expect("a new file");
    let output = Command::new("apt-get")
        .args(["install", "--simulate", "--no-install-recommends", "-o", "Dir::State::extended_states=/dev/null", "-o"])
        .arg(format!("Dir::State::status={}", status.path().display()))
        .args(list.lines())
        .output()
        .expect("apt-get runs");
    assert!(output.status.success(), "{goal}: {}", text(output.stderr));
    let plan = text(output.stdout);
    plan.lines().filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next()).map(String::from).collect()
}

#[test]
fn an_empty_debian_gets_all_that_building_takes() {
    if !testkit::need::have(&["apt-get"]) {
        return;
    }
    for (goal, needed) in NEEDED {
        let planned = simulated(goal);
        for package in needed {
            assert!(planned.contains(*package), "`setup.sh {goal}` does not bring {package}: {planned:?}");
        }
    }
}

#[test]
fn the_go_that_is_installed_is_the_pinned_one() {
    let root = testkit::folders::project_root();
    let read = |path: &Path| std::fs::read_to_string(path).expect("a file of the project");
    let script = read(&root.join("scripts/setup.sh"));
    // The checksum's comment names the version that it belongs to.
    let sum = script.lines().find_map(|line| line.strip_prefix("go_sha256=")).expect("the script pins the archive");
    let (sha256, version) = sum.split_once(" # ").expect("it says of which version");
    assert_eq!(sha256.len(), 64);
    let files = |folder: &str| {
        let walk =
            walkdir::WalkDir::new(root.join(folder)).into_iter().map(|entry| entry.expect("readable").into_path());
        walk.collect::<Vec<_>>()
    };
    let mut seen = 0;
    for path in files("programs").iter().filter(|path| path.ends_with("go.mod")) {
        assert_eq!(read(path).lines().find_map(|line| line.strip_prefix("go ")), Some(version), "{}", path.display());
        seen += 1;
    }
    for path in files("recipes").iter().filter(|path| path.extension().is_some_and(|e| e == "lock")) {
        for line in read(path).lines().filter_map(|line| line.strip_prefix("toolchain = ")) {
            assert_eq!(line, format!("\"go{version}\""), "{}", path.display());
            seen += 1;
        }
    }
    assert!(seen > 5, "{seen} versions seen");
}
