//! The search for the smallest RAM.

use serde_json::Value;
use std::time::Duration;
use testkit::{QEMU, need::have, rescue, tool::tool};

#[test]
fn the_least_ram_is_found_by_boots_on_both_sides_of_it() {
    if !have(&[QEMU]) {
        return;
    }
    let image = rescue();
    let args = ["--min-ram", "--step-mib", "32", "--ram-mib", "256", "--until", "phases-done", "--json"];
    let output = tool().arg("smoke").args(image.arguments()).args(args).timeout(Duration::from_secs(900)).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let least = found["min_ram_mib"].as_u64().unwrap();
    assert!((64..256).contains(&least) && least.is_multiple_of(32), "{found:#}");
    for tried in found["tries"].as_array().unwrap() {
        let passed = tried["ram_mib"].as_u64().unwrap() >= least;
        assert_eq!(tried["passed"], passed, "{found:#}");
    }
}
