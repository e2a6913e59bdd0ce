//! An image over its budget is not published.

use testkit::project::Project;

#[test]
fn over_budget_keeps_the_last_image_and_says_what_grew() {
    let project = Project::new();
    project.add("[budget]\nboot_files_mb = 2\n");
    let image = project.good_build();
    let data = project.read("tool/data");
    project.write("tool/data", noise(4_000_000));
    let run = project.build(&[]);
    run.fails(
        4,
        &[
            "`tiny` is over budget",
            "over the limit of 2.00 MB (`boot_files_mb`)",
            "largest components:",
            "MB tool",
            "grown since the last build:",
            "component tool",
            "root:opt/tool/data (20.0 kB -> 4.00 MB)",
            "bootwright inspect",
        ],
    );
    let table = &run.out;
    for row in ["boot files", "limit", "2.00 MB", "component", "tool", "grown since the last build", "not written"] {
        assert!(table.contains(row), "no {row:?} in:\n{table}");
    }
    project.image().is_like(&image);
    assert_eq!(project.out_names(), ["tiny"]);
    let json = project.build(&["--json"]);
    json.fails(4, &["over budget"]);
    assert_eq!(json.json()["violations"][0]["over"], "boot-files");

    project.write("tool/data", data);
    project.good_build().is_like(&image);
}

#[test]
fn a_component_and_the_ram_have_limits_of_their_own() {
    for (limit, said) in [
        ("[budget.components]\nkernel = 0.001\n", "component `kernel` takes"),
        ("[budget]\nram_mib = 1\n", "over the limit of 1 (`ram_mib`)"),
    ] {
        let project = Project::new();
        project.add(limit);
        project.build(&[]).fails(4, &[said, "largest components:"]);
        assert_eq!(project.out_names(), [""; 0], "there was no image, and there is none");
        project.edit(limit, "");
        project.good_build().is_like(&Project::new().good_build());
    }
}

#[test]
fn pods_have_what_the_recipe_asks_for_and_the_budget_says_from_what() {
    let project = Project::new();
    let ask = |args: &[&str]| {
        let (recipe, out) = (project.path("recipes/tiny.toml"), project.path("out"));
        let place = |path: &std::path::Path| path.display().to_string();
        let mut all = vec!["budget".to_string(), "--recipe".into(), place(&recipe), "--out".into(), place(&out)];
        all.extend(args.iter().map(|arg| arg.to_string()));
        project.run(&all.iter().map(String::as_str).collect::<Vec<_>>())
    };
    ask(&[]).fails(2, &["`tiny` has no `[memory]`", "docs/memory.md"]);
    let keys = "[budget]\nram_mib = 512\n[memory]\nsystem_mib = 20\nworkload_mib = ";
    project.add(&format!("{keys}100\n"));
    let report = ask(&["--ram", "512", "--json"]);
    let report = report.succeeds().json();
    let terms = report["terms"].as_array().expect("a list");
    let sum: u64 = terms.iter().filter_map(|term| term["bytes"].as_u64()).sum();
    assert!((512u64 << 20).abs_diff(sum) < 4096, "{report:#}");
    // 1/32 of the memory beside what the recipe says.
    let plan = &report["plan"];
    assert_eq!(plan["system"].as_u64(), plan["total"].as_u64().map(|total| 20 * 1024 + total / 32), "{report:#}");
    ask(&["--ram", "512"]).succeeds().says(&["512 MiB of RAM", "`system_mib` and 1/32 of the memory", "kB tool"]);
    ask(&["--ram", "40"]).fails(2, &["40 MiB of RAM are not enough to unpack `tiny`", "--ram"]);

    project.edit(&format!("{keys}100\n"), &format!("{keys}500\n"));
    let left = plan["pods"].as_u64().expect("a number") >> 10;
    let told = format!("512 MiB of RAM (`ram_mib`) leave {left} MiB for pods, less than the 500 of `workload_mib`");
    project.build(&[]).fails(4, &[&told]);
}

/// Bytes that do not compress.
fn noise(n: usize) -> Vec<u8> {
    let mut state = 88172645463325252u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(n)
    .collect()
}
