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

/// A kernel with a setup header (Documentation/arch/x86/boot.rst) that reads command lines of 300 characters, and takes initrds
/// from 64 MiB up to an address.
fn write_kernel(project: &Project, initrd_addr_max: u32) {
    let mut kernel = [b"MZ".as_slice(), &[0; 5000]].concat();
    kernel[0x202..0x208].copy_from_slice(b"HdrS\x0f\x02");
    kernel[0x22c..0x230].copy_from_slice(&initrd_addr_max.to_le_bytes());
    kernel[0x238..0x23c].copy_from_slice(&300u32.to_le_bytes());
    kernel[0x258..0x260].copy_from_slice(&(16u64 << 20).to_le_bytes());
    kernel[0x260..0x264].copy_from_slice(&(48u32 << 20).to_le_bytes());
    project.write("kernel/boot/vmlinuz-1.0", kernel);
}

/// A project whose image has a kernel command line of so many characters.
fn with_words(length: usize) -> Project {
    let project = Project::new();
    write_kernel(&project, 0x7fff_ffff);
    project.edit("cmdline = [\"console=ttyS0\"]", &format!("cmdline = [\"a.b={}\"]", "x".repeat(length - 4)));
    project
}

#[test]
fn a_command_line_that_the_kernel_cuts_off_is_refused() {
    let project = with_words(301);
    project.build(&[]).fails(2, &["no machine could boot `tiny`", "301 characters, and the kernel reads 300"]);
    assert!(project.out_names().is_empty(), "nothing is left of it");
}

#[test]
fn what_some_loader_does_not_take_is_told_by_each_build() {
    let project = with_words(300);
    project.build(&[]).succeeds().says(&["warning: the kernel command line has 300 characters of 300"]);
    project.build(&[]).succeeds().says(&["nothing changed", "warning: the kernel command line"]);
    let lints = |project: &Project| {
        let document = project.build(&["--json"]).json();
        let lints = document["lints"].as_array().unwrap().clone();
        lints.iter().map(|lint| format!("{} {}", lint["severity"], lint["message"])).collect::<Vec<String>>()
    };
    assert_eq!(lints(&project).len(), 1);
    let fine = with_words(44);
    assert!(lints(&fine).is_empty());
    write_kernel(&fine, (64 << 20) + 4095);
    let told = lints(&fine);
    assert!(told.len() == 2 && told[0].contains("iPXE and PXELINUX") && told[1].contains("GRUB"), "{told:?}");
    let at = |port: &str| fine.run(&["boot", "--url", &format!("http://192.0.2.1{port}")]);
    at(":8080").succeeds().says(&["warning: GRUB before 2.12 fetches over HTTP from port 80 only"]);
    assert!(!at("").succeeds().out.contains("warning"));
}
