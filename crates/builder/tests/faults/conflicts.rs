//! Components that do not fit together, and things that are in none of them.

use std::path::Path;
use testkit::project::Project;

/// Builds once as it is, then with what `spoil` does, which must fail; then restored.
fn spoiled(spoil: impl Fn(&Project), said: &[&str]) {
    let project = Project::new();
    let image = project.good_build();
    let recipe = project.read("recipes/tiny.toml");
    spoil(&project);
    project.build(&[]).fails(2, said);
    project.image().is_like(&image);
    assert_eq!(project.out_names(), ["tiny"]);
    project.write("recipes/tiny.toml", recipe);
    project.good_build().is_like(&image);
}

#[test]
fn two_components_with_one_path_are_both_named() {
    let spoil = |project: &Project| {
        project.write("other/run", "another program");
        project.add("[[component]]\nname = \"other\"\npath = { path = \"../other\", to = \"opt/tool\" }\n");
    };
    spoiled(
        spoil,
        &["`opt/tool/run` is in `tool` (recipes/tiny.toml:12)", "and in `other` (recipes/tiny.toml:20)", "exclude it"],
    );
}

#[test]
fn a_file_where_another_component_has_a_folder_is_named() {
    let spoil = |project: &Project| {
        project.add("[[component]]\nname = \"other\"\npath = { path = \"../tool/run\", to = \"opt/tool\" }\n");
    };
    spoiled(spoil, &["`opt/tool", "`tool` (recipes/tiny.toml:12)", "`other` (recipes/tiny.toml:20)"]);
}

#[test]
fn a_program_without_its_library_is_named_with_it() {
    let program = Path::new("/bin/true");
    let spoil = |project: &Project| {
        project.write_program("dynamic", std::fs::read(program).unwrap());
        project.add("[[component]]\nname = \"dynamic\"\npath = { path = \"../dynamic\", to = \"usr/bin/dynamic\" }\n");
    };
    let said = [
        "library `libc.so.6`, which `usr/bin/dynamic` of component `dynamic` (recipes/tiny.toml:20) needs",
        "is in no component",
        // No package of the recipe depends on one that holds it: Debian's own tool has to say its name.
        "`apt-file search libc.so.6` names it",
    ];
    spoiled(spoil, &said);
}

#[test]
fn a_module_that_does_not_exist_comes_with_a_suggestion() {
    let spoil = |project: &Project| project.edit("\"second\"", "\"secnod\"");
    spoiled(spoil, &["recipes/tiny.toml:6", "kernel 1.0 has no module `secnod`", "did you mean `second`?"]);
    let spoil = |project: &Project| project.edit("\"second\"", "\"pci:v00008086d*\"");
    spoiled(spoil, &["recipes/tiny.toml:6", "no module of kernel 1.0 has an alias like `pci:v00008086d*`"]);
}

#[test]
fn a_module_without_its_dependency_is_named_with_it() {
    let project = Project::new();
    let image = project.good_build();
    let first = "kernel/lib/modules/1.0/kernel/lib/first.ko";
    let bytes = std::fs::read(project.path(first)).unwrap();
    std::fs::remove_file(project.path(first)).unwrap();
    project.edit("early = [\"first\"]", "early = []");
    project.build(&[]).fails(2, &["module `second` depends on `first`, which kernel 1.0 does not have"]);
    project.image().is_like(&image);
    project.write(first, bytes);
    project.edit("early = []", "early = [\"first\"]");
    project.good_build().is_like(&image);
}

#[test]
fn a_damaged_module_and_a_missing_kernel_are_named() {
    let project = Project::new();
    let image = project.good_build();
    for (path, bytes, said) in [
        ("kernel/lib/modules/1.0/kernel/net/second.ko", &b"no module"[..], "net/second.ko` is damaged"),
        ("kernel/boot/vmlinuz-2.0", b"MZ", "component `kernel` holds 2 kernels"),
    ] {
        let before = std::fs::read(project.path(path)).ok();
        project.write(path, bytes);
        let run = project.build(&[]);
        assert!(run.code == Some(1) || run.code == Some(2), "{run:?}");
        run.fails(run.code.unwrap(), &[said]);
        project.image().is_like(&image);
        match before {
            Some(bytes) => project.write(path, bytes),
            None => std::fs::remove_file(project.path(path)).unwrap(),
        }
    }
    project.good_build().is_like(&image);
}

#[test]
fn a_broken_template_is_located() {
    let project = Project::new();
    let image = project.good_build();
    project.write("overlay/etc/more.j2", "line\n{{ nothing_like_that }}\n");
    project.build(&[]).fails(2, &["recipes/tiny.toml:15", "more.j2", "nothing_like_that"]);
    project.image().is_like(&image);
    std::fs::remove_file(project.path("overlay/etc/more.j2")).unwrap();
    project.good_build().is_like(&image);
}
