//! Overlays and files of an extending recipe win over what they extend; `explain` names both; strangers conflict.

use testkit::project::Project;

/// `tiny` has an overlay with `etc/tiny.conf` and a file `/etc/motd`; `lab` extends it.
fn lab(text: &str) -> Project {
    let project = Project::new();
    project.write("recipes/lab.toml", format!("extends = \"tiny\"\n{text}"));
    project
}

/// What the image of `recipe` says of a path: component, hash, who gave way.
fn explained(project: &Project, recipe: &str, path: &str) -> (String, serde_json::Value) {
    project.run(&["build", "--recipe", recipe]).succeeds();
    let text = project.run(&["explain", "--recipe", recipe, path]).succeeds().out.clone();
    let json = project.run(&["explain", "--recipe", recipe, "--json", path]).succeeds().json();
    (text, json["chains"][0][0].clone())
}

/// Size of a file of the image, as its manifest has it.
fn size(project: &Project, recipe: &str, path: &str) -> Option<u64> {
    let manifest: serde_json::Value =
        serde_json::from_str(&project.read(&format!("out/{recipe}/manifest.json"))).unwrap();
    let file = manifest["files"].as_array().unwrap().iter().find(|f| f["path"] == path)?;
    file["size"].as_u64()
}

#[test]
fn an_overlay_of_the_extending_recipe_wins_and_both_are_named() {
    let project = lab("[[overlay]]\ndir = \"../lab\"\n");
    project.write("lab/etc/tiny.conf", "the lab's own");
    project.write("lab/etc/motd", "over a file that is written in the recipe");
    let (text, step) = explained(&project, "lab", "/etc/tiny.conf");
    assert_eq!(size(&project, "lab", "etc/tiny.conf"), Some(13));
    assert_eq!(
        text,
        "/etc/tiny.conf (config segment, overlay:lab)\n  it is part of an overlay (recipes/lab.toml:2)\n  \
         it takes the place of the one of overlay:overlay (recipes/tiny.toml:15)\n"
    );
    assert_eq!(
        (&step["origin"], &step["gave_way"][0]["origin"]),
        (&"recipes/lab.toml:2".into(), &"recipes/tiny.toml:15".into())
    );
    let (text, _) = explained(&project, "lab", "/etc/motd");
    assert!(text.contains("(recipes/lab.toml:2)") && text.contains("of recipe (recipes/tiny.toml:17)"), "{text}");
    // What extends nothing new says nothing new.
    let (text, step) = explained(&project, "tiny", "/etc/tiny.conf");
    assert!(!text.contains("takes the place") && step.get("gave_way").is_none(), "{text}");
}

#[test]
fn a_file_of_the_extending_recipe_wins_over_an_overlay() {
    let project = lab("[[file]]\npath = \"/etc/tiny.conf\"\ncontent = \"mine\"\n");
    let (text, _) = explained(&project, "lab", "/etc/tiny.conf");
    assert_eq!(size(&project, "lab", "etc/tiny.conf"), Some(4));
    assert!(text.contains("written in the recipe (recipes/lab.toml:2)"), "{text}");
    assert!(text.contains("of overlay:overlay (recipes/tiny.toml:15)"), "{text}");
}

#[test]
fn the_last_of_three_wins_and_all_are_named() {
    let project = lab("[[overlay]]\ndir = \"../lab\"\n");
    project.write("lab/etc/tiny.conf", "lab");
    project.write("recipes/rack.toml", "extends = \"lab\"\n[[file]]\npath = \"etc/tiny.conf\"\nlink = \"motd\"\n");
    let (text, _) = explained(&project, "rack", "/etc/tiny.conf");
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    assert_eq!(
        lines[1..],
        [
            "it is written in the recipe (recipes/rack.toml:2)",
            "it takes the place of the one of overlay:lab (recipes/lab.toml:2)",
            "it takes the place of the one of overlay:overlay (recipes/tiny.toml:15)",
        ]
    );
}

#[test]
fn two_that_are_not_related_still_conflict() {
    let project = lab("[[overlay]]\ndir = \"../lab\"\n");
    project.write("lab/etc/site.conf", "lab");
    project.write("other/etc/site.conf", "other");
    project.write("recipes/other.toml", "[[overlay]]\ndir = \"../other\"\n");
    project.write("recipes/rack.toml", "extends = [\"lab\", \"other\"]\n");
    let said = [
        "`etc/site.conf` is in `overlay:lab` (recipes/lab.toml:2) and in `overlay:other` (recipes/other.toml:1): they differ",
        "`exclude` it from one of them, or let the recipe file of the one that shall win extend the other's",
    ];
    project.run(&["build", "--recipe", "rack"]).fails(2, &said);
    // What the help says: leaving it out, or having one that extends both.
    project.write(
        "recipes/rack.toml",
        "extends = [\"lab\", \"other\"]\n[[overlay]]\ndir = \"../lab\"\nexclude = [\"etc/*.conf\"]\n",
    );
    project.run(&["build", "--recipe", "rack"]).succeeds();
    assert_eq!(size(&project, "rack", "etc/site.conf"), Some(5));
    project.write(
        "recipes/rack.toml",
        "extends = [\"lab\", \"other\"]\n[[file]]\npath = \"/etc/site.conf\"\ncontent = \"x\"\n",
    );
    project.run(&["build", "--recipe", "rack"]).fails(2, &["`overlay:lab`", "`overlay:other`"]);
    project.write("recipes/other.toml", "extends = \"lab\"\n[[overlay]]\ndir = \"../other\"\n");
    project.run(&["build", "--recipe", "rack"]).succeeds();
    assert_eq!(size(&project, "rack", "etc/site.conf"), Some(1));
}

#[test]
fn an_inherited_overlay_is_changed_taken_out_and_replaced() {
    let project = lab("");
    project.write("overlay/etc/more.conf", "more");
    project.write("own/etc/own.conf", "own");
    let has = |text: &str, expected: [bool; 3]| {
        project.write("recipes/lab.toml", format!("extends = \"tiny\"\n{text}"));
        project.run(&["build", "--recipe", "lab"]).succeeds();
        let there =
            ["etc/tiny.conf", "etc/more.conf", "etc/own.conf"].map(|path| size(&project, "lab", path).is_some());
        assert_eq!(there, expected, "{text}");
    };
    has("", [true, true, false]);
    has("[[overlay]]\ndir = \"../overlay\"\nexclude = [\"etc/m*\"]\n", [true, false, false]);
    has("[[overlay]]\ndir = \"../overlay\"\nremove = true\n[[overlay]]\ndir = \"../own\"\n", [false, false, true]);
    has("[[overlay]]\ndir = \"../overlay\"\nreplace = true\nwhen = \"false\"\n", [false, false, false]);
    project.edit("[[overlay]]\n", "[[overlay]]\nname = \"conf\"\n");
    has("[[overlay]]\nname = \"conf\"\nexclude = [\"etc\"]\n", [false, false, false]);
    has("[[overlay]]\nname = \"conf\"\ndir = \"../own\"\n", [false, false, true]);
    project.write("recipes/lab.toml", "extends = \"tiny\"\n[[overlay]]\nname = \"conf\"\nexclude = [\"etc/x\"]\n");
    project.run(&["build", "--recipe", "lab"]).fails(2, &["`etc/x` of `exclude` matches nothing in overlay `conf`"]);
}

#[test]
fn drop_ins_and_the_local_file_change_a_recipe_that_is_not_edited() {
    let project = Project::new();
    project.write("recipes/tiny.d/20-second.toml", "[[file]]\npath = \"/etc/tiny.conf\"\ncontent = \"second\"\n");
    project.write("recipes/tiny.d/10-first.toml", "[[overlay]]\ndir = \"first\"\n");
    project.write("recipes/tiny.d/first/etc/tiny.conf", "the first");
    let (text, _) = explained(&project, "tiny", "/etc/tiny.conf");
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    assert_eq!(
        lines[1..],
        [
            "it is written in the recipe (recipes/tiny.d/20-second.toml:1)",
            "it takes the place of the one of overlay:first (recipes/tiny.d/10-first.toml:1)",
            "it takes the place of the one of overlay:overlay (recipes/tiny.toml:15)",
        ]
    );
    // A drop-in that is new, changed or gone is seen.
    project.build(&[]).succeeds().says(&["nothing changed"]);
    project.write("recipes/tiny.local.toml", "[[file]]\npath = \"/etc/tiny.conf\"\ncontent = \"here\"\n");
    let (text, _) = explained(&project, "tiny", "/etc/tiny.conf");
    assert!(
        text.contains("(recipes/tiny.local.toml:1)") && text.contains("(recipes/tiny.d/20-second.toml:1)"),
        "{text}"
    );
    // Whoever extends the recipe has them too, and wins over them.
    project.write("recipes/lab.toml", "extends = \"tiny\"\n[[file]]\npath = \"/etc/tiny.conf\"\nlink = \"motd\"\n");
    let (text, _) = explained(&project, "lab", "/etc/tiny.conf");
    assert!(text.contains("(recipes/lab.toml:2)") && text.contains("of recipe (recipes/tiny.local.toml:1)"), "{text}");
    std::fs::remove_file(project.path("recipes/tiny.local.toml")).unwrap();
    std::fs::remove_dir_all(project.path("recipes/tiny.d")).unwrap();
    let (text, _) = explained(&project, "tiny", "/etc/tiny.conf");
    assert!(text.contains("(recipes/tiny.toml:15)") && !text.contains("takes the place"), "{text}");
}
