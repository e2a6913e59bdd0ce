//! What the commands print: for people, for scripts, with and without colours.

use std::process::Command;
use testkit::project::{Project, Run};

#[test]
fn explain_leads_back_to_the_recipe() {
    let project = Project::new();
    project.good_build();
    let explain = |path: &str| project.run(&["explain", path, "--recipe", "tiny"]);
    explain("/opt/tool/run").succeeds().says(&["/opt/tool/run (root segment, tool)", "(recipes/tiny.toml:12)"]);
    explain("etc/motd").succeeds().says(&["it is written in the recipe (recipes/tiny.toml:17)"]);
    explain("/etc/tiny.conf").succeeds().says(&["it is part of an overlay"]);
    let module = "usr/lib/modules/1.0/kernel/net/second.ko";
    explain(module).succeeds().says(&["asks for this kernel module", "recipes/tiny.toml:6"]);
    explain("/opt/tool/runn")
        .fails(1, &["`/opt/tool/runn` is not in the image `tiny`", "did you mean `/opt/tool/run`?"]);
    project.run(&["explain", "/x", "--recipe", "none"]).fails(1, &["out/none", "bootwright build"]);
}

#[test]
fn inspect_reads_our_images_and_those_of_others() {
    let project = Project::new();
    project.good_build();
    project.run(&["inspect", "--recipe", "tiny"]).succeeds().says(&["kernel", "tool", "opt/tool/data"]);
    project.run(&["inspect", "out/tiny/initrd.img"]).succeeds().says(&["opt/tool/data"]);
    // By component it says what `build` says, the kernel's own file included.
    let built = project.run(&["build", "--recipe", "tiny", "--json"]).succeeds().json();
    let inspected = project.run(&["inspect", "--recipe", "tiny", "--json"]).succeeds().json();
    let rows = |rows: &serde_json::Value, unpacked: &str| {
        let row = |row: &serde_json::Value| ["name", "packed", unpacked, "files"].map(|key| row[key].to_string());
        rows.as_array().unwrap().iter().map(row).collect::<Vec<_>>()
    };
    assert_eq!(rows(&inspected["components"], "unpacked"), rows(&built["budget"]["components"], "raw"));

    project.write("foreign/bin/busybox", vec![b'b'; 70_000]);
    let made = "cd foreign && find . | cpio --quiet -o -H newc | gzip > ../foreign.img";
    let made = Command::new("sh").args(["-c", made]).current_dir(project.path("")).status().unwrap();
    assert!(made.success(), "cpio and gzip are there wherever initrds are made");
    project.run(&["inspect", "foreign.img"]).succeeds().says(&["bin/busybox", "70.0 kB"]);

    project.write("text", "no initrd at all");
    project.run(&["inspect", "text"]).fails(1, &["`text` is no initrd", "name an initrd"]);
    project.write("empty", "");
    project.run(&["inspect", "empty"]).fails(1, &["`empty` is no initrd"]);
    // Of a damaged one, what can be read is shown with what stopped it.
    let cut = std::fs::read(project.path("foreign.img")).unwrap();
    project.write("cut.img", &cut[..cut.len() / 2]);
    let report = project.run(&["inspect", "cut.img", "--json"]).succeeds().json();
    assert!(report["segments"][0]["problem"].is_string(), "{report}");
    project.run(&["inspect", "none"]).fails(1, &["cannot read `none`"]);
}

#[test]
fn doctor_says_what_is_missing_and_what_works_without_it() {
    let project = Project::new();
    let tiny = project.read("recipes/tiny.toml");
    let squashed = tiny.replace("\"cpio\"", "\"squashfs\"");
    for name in ["rescue", "worker", "worker-small", "worker-prebuilt", "base", "ext4", "iscsi-tools"] {
        project.write(&format!("recipes/{name}.toml"), if name.starts_with("worker") { &squashed } else { &tiny });
    }
    std::fs::create_dir(project.path("empty")).unwrap();
    let doctor = |more: &[&str]| {
        let mut command = project.command(&[&["doctor"], more].concat());
        Run::of(command.env("PATH", project.path("empty")).output().unwrap())
    };
    let run = doctor(&[]);
    run.fails(
        1,
        &[
            "cannot be built here: `worker`, `worker-small`, `worker-prebuilt`",
            "what works without it: rescue, base, ext4, iscsi-tools",
        ],
    );
    run.says(&["mksquashfs", "needs mksquashfs", "squashfs-tools", "qemu-system-x86", "works"]);
    doctor(&["--recipe", "rescue"]).succeeds().says(&["rescue", "works"]);
    let json = doctor(&["--json"]);
    json.fails(1, &["cannot be built here"]);
    let found = json.json();
    assert_eq!(found["version"], 1);
    let builds: Vec<_> = found["recipes"].as_array().unwrap().iter().map(|r| r["builds"].as_bool().unwrap()).collect();
    assert_eq!(builds, [true, false, false, false, true, true, true]);
    let missing = doctor(&["--recipe", "none"]);
    missing.fails(2, &["none"]);
}

#[test]
fn a_tool_that_is_missing_is_named_with_its_package() {
    let project = Project::with_root("image = \"squashfs\"");
    std::fs::create_dir(project.path("empty")).unwrap();
    let mut command = project.command(&["build", "--recipe", "tiny"]);
    let run = Run::of(command.env("PATH", project.path("empty")).output().unwrap());
    run.fails(1, &["`mksquashfs`", "squashfs-tools"]);
    assert!(!project.path("out/tiny").exists());
}

/// Commands that print a result, in a project that is built.
const RESULTS: [&[&str]; 7] = [
    &["build", "--recipe", "tiny"],
    &["check", "--recipe", "tiny", "--json"],
    &["lock", "--recipe", "tiny"],
    &["inspect", "--recipe", "tiny"],
    &["doctor", "--recipe", "tiny"],
    &["schema"],
    &["completions", "bash"],
];

#[test]
fn a_reader_that_has_seen_enough_is_no_error_and_a_full_disk_is_one() {
    let project = Project::new();
    project.good_build();
    for args in RESULTS {
        // The reading end is closed before the program starts: like `| head`, without the race.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = project.command(args);
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        assert!(command.status().unwrap().success(), "{args:?}");

        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let run = Run::of(project.command(args).stdout(full).output().unwrap());
        run.fails(1, &["cannot write the result to standard output: No space left on device"]);
    }
}

#[test]
fn completions_are_there_for_each_shell() {
    let project = Project::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        // fish names long options without their dashes.
        project.run(&["completions", shell]).succeeds().says(&["bootwright", "inspect", "locked"]);
    }
    project.run(&["completions", "none"]).says(&["error: invalid value 'none'"]);
}

/// Every command with `--json` in a project that is built.
const DOCUMENTS: [&[&str]; 8] = [
    &["check", "--recipe", "tiny", "--json"],
    &["lock", "--recipe", "tiny", "--json"],
    &["build", "--recipe", "tiny", "--json"],
    &["inspect", "--recipe", "tiny", "--json"],
    &["inspect", "--recipe", "tiny", "--files", "--json"],
    &["inspect", "out/tiny/initrd.img", "--json"],
    &["explain", "etc/motd", "--recipe", "tiny", "--json"],
    &["doctor", "--recipe", "tiny", "--json"],
];

#[test]
fn documents_for_scripts_parse_and_carry_their_version() {
    let project = Project::new();
    project.good_build();
    for args in DOCUMENTS {
        let document = project.run(args).succeeds().json();
        assert_eq!(document["version"], 1, "{args:?}: {document}");
    }
    let schema = project.run(&["schema"]).succeeds().json();
    assert!(schema["$schema"].is_string(), "a JSON schema says which draft it is of");
}

#[test]
fn values_of_secrets_are_in_no_document() {
    let project = Project::new();
    let set = ["--set", "db_password=hunter2-and-more"];
    project.add("[vars]\ndb_password = { type = \"text\", default = \"\" }\n");
    for json in [&["--json"][..], &[]] {
        let run = project.run(&[&["check", "--recipe", "tiny"], &set[..], json].concat());
        let said = &run.succeeds().out;
        assert!(said.contains("db_password") && said.contains("(a secret)") && !said.contains("hunter2"), "{said}");
    }
}

#[test]
fn a_fifo_in_place_of_a_file_is_not_waited_for() {
    let project = Project::new();
    nix::unistd::mkfifo(&project.path("fifo.toml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for args in [
        &["inspect", "fifo.toml"][..],
        &["build", "--recipe", "tiny", "--sign", "fifo.toml"],
        &["build", "--recipe", "tiny", "--init", "fifo.toml"],
        &["check", "--recipe", "fifo.toml"],
    ] {
        // `timeout` ends with 124.
        let mut command = std::process::Command::new("timeout");
        let inner = project.command(args);
        command.arg("60").arg(inner.get_program()).args(args).current_dir(project.path(""));
        command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let run = Run::of(command.output().unwrap());
        run.says(&["no regular file"]);
        assert!([Some(1), Some(2)].contains(&run.code), "{args:?}: {}", run.err);
    }
}

/// Whether a run prints escape sequences, where colours are forced unless something forbids them.
fn escapes(project: &Project, args: &[&str], no_color: bool) -> bool {
    let mut command = project.command(args);
    command.env("CLICOLOR_FORCE", "1").env_remove("NO_COLOR");
    if no_color {
        command.env("NO_COLOR", "1");
    }
    let output = command.output().unwrap();
    output.stderr.contains(&0x1b) || output.stdout.contains(&0x1b)
}

#[test]
fn there_are_no_escapes_where_they_are_not_wanted() {
    let project = Project::new();
    for args in [&["--help"][..], &["build", "--nope"], &["build", "--help"]] {
        assert!(escapes(&project, args, false), "{args:?} has no colours that could be left out");
        assert!(!escapes(&project, args, true), "{args:?}");
        for never in [&["--color", "never"][..], &["--color=never"]] {
            assert!(!escapes(&project, &[never, args].concat(), false), "{args:?} {never:?}");
            assert!(!escapes(&project, &[args, never].concat(), false), "{args:?} {never:?}");
        }
    }
    let commands: [&[&str]; 5] = [
        &["build", "--recipe", "tiny"],
        &["inspect", "--recipe", "tiny"],
        &["explain", "etc/motd", "--recipe", "tiny"],
        &["doctor", "--recipe", "tiny"],
        &["check", "--recipe", "none"],
    ];
    for args in commands {
        assert!(!escapes(&project, args, true), "{args:?}");
        assert!(!escapes(&project, &[args, &["--color", "never"]].concat(), false), "{args:?}");
    }
}

#[test]
fn quiet_says_only_errors() {
    let project = Project::new();
    let run = project.build(&["-q"]);
    assert_eq!(run.succeeds().err, "");
    project.write("tool/data", "else");
    assert_eq!(project.build(&["--quiet", "--json"]).succeeds().err, "");
    project.edit("\"second\"", "\"secnod\"");
    let run = project.build(&["-q"]);
    assert!(run.fails(2, &["secnod"]).err.starts_with("error: "), "{}", run.err);
    project.build(&["-q", "-v"]).says(&["error: the argument '--quiet' cannot be used with '--verbose'"]);
}
