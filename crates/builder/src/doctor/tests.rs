use super::*;

/// A host that has everything but some tools.
struct Without(Vec<Tool>);

impl ToolFinder for Without {
    fn find(&self, tool: Tool) -> Vec<InstalledTool> {
        if self.0.contains(&tool) { Vec::new() } else { versions(&["1.0"]) }
    }
}

fn versions(versions: &[&str]) -> Vec<InstalledTool> {
    versions.iter().map(|v| InstalledTool { path: Some("/bin/x".into()), version: Some((*v).into()) }).collect()
}

/// A host that has everything, and Go in those versions.
struct WithGo<'a>(&'a [&'a str]);

impl ToolFinder for WithGo<'_> {
    fn find(&self, tool: Tool) -> Vec<InstalledTool> {
        versions(if tool == Tool::Go { self.0 } else { &["1.0"] })
    }
}

fn asked() -> Vec<RecipeNeeds> {
    let smoke = BTreeSet::from([Tool::Qemu, Tool::IpxeRom]);
    let needs = |tools: &[Tool]| Ok(Needs { build: tools.iter().copied().collect(), smoke: smoke.clone(), go: None });
    vec![
        ("rescue".into(), needs(&[Tool::Pid1, Tool::Mksquashfs])),
        ("worker".into(), needs(&[Tool::Pid1, Tool::Go, Tool::Mksquashfs])),
        ("broken".into(), Err("no such recipe".into())),
    ]
}

#[test]
fn a_recipe_that_works_without_the_missing_tool_is_named() {
    let diagnosis = diagnose(&asked(), &Without(vec![Tool::Go]), true);
    assert_eq!(diagnosis.working(), ["rescue"]);
    assert_eq!(diagnosis.recipes[1].missing, [Tool::Go]);
    assert_eq!(diagnosis.install, None, "no package brings it");
    assert_eq!(diagnosis.hints[0].0, "go");
    assert_eq!(diagnosis.recipes[2].problem.as_deref(), Some("no such recipe"));
}

#[test]
fn one_command_installs_what_is_missing_and_needed() {
    let missing = vec![Tool::Mksquashfs, Tool::MkfsErofs, Tool::Qemu];
    let diagnosis = diagnose(&asked(), &Without(missing.clone()), true);
    assert_eq!(diagnosis.install.as_deref(), Some("sudo apt-get install -y squashfs-tools qemu-system-x86"));
    assert!(diagnosis.working().is_empty() && !diagnosis.recipes[0].smokes);
    let elsewhere = diagnose(&asked(), &Without(missing), false);
    assert_eq!((elsewhere.install, elsewhere.hints.len()), (None, 2));
}

#[test]
fn the_pinned_version_of_go_decides() {
    let mut asked = asked();
    asked[1].1.as_mut().unwrap().go = Some("1.26.8".into());
    // Versions at hand in their order -> the one that is shown, whether the worker builds, what is said.
    type Case<'a> = (&'a [&'a str], Option<&'a str>, bool, &'a [&'a str]);
    let cases: [Case<'_>; 5] = [
        (&["1.26.8"], Some("1.26.8"), true, &[]),
        (&["1.19.8", "1.27.0", "1.26.8"], Some("1.26.8"), true, &[]),
        (&["1.19.8", "1.27.0"], Some("1.27.0"), true, &["the lock pins 1.26.8, found 1.27.0", "--locked"]),
        (&["1.19.8", "1.26.7"], None, false, &["setup.sh image", "needed is 1.26.8, too old is 1.19.8, 1.26.7"]),
        (&[], None, false, &["setup.sh image", "needed is 1.26.8"]),
    ];
    for (at_hand, shown, builds, said) in cases {
        let host = WithGo(at_hand);
        let diagnosis = diagnose(&asked, &host, true);
        let row = diagnosis.tools.iter().find(|row| row.tool == Tool::Go).unwrap();
        assert_eq!(row.found.as_ref().and_then(|f| f.version.as_deref()), shown, "{at_hand:?}");
        assert_eq!(diagnosis.recipes[1].builds, builds, "{at_hand:?}");
        let hints: Vec<&str> = diagnosis.hints.iter().map(|(_, hint)| hint.as_str()).collect();
        assert!(said.iter().all(|text| hints.join("; ").contains(text)), "{at_hand:?}: {hints:?}");
        assert_eq!(hints.is_empty(), said.is_empty(), "{at_hand:?}: {hints:?}");
    }
}

#[test]
fn nothing_is_missing() {
    let diagnosis = diagnose(&asked(), &Without(vec![]), true);
    assert_eq!(diagnosis.working(), ["rescue", "worker"]);
    assert!(diagnosis.recipes[0].smokes && diagnosis.install.is_none() && diagnosis.hints.is_empty());
}

#[test]
fn needs_follow_the_recipe_and_its_lock() {
    let load = |name: &str| {
        let path = testkit::folders::project_root().join(format!("recipes/{name}.toml")).display().to_string();
        crate::recipe::load_recipe(&path, &[], None).unwrap()
    };
    let (rescue, worker) = (load("rescue"), load("worker"));
    let unlocked = needs_of(&rescue, None).build;
    assert!(unlocked.contains(&Tool::AptGet) && !unlocked.contains(&Tool::Go), "{unlocked:?}");
    assert!(needs_of(&worker, None).build.contains(&Tool::Go) && needs_of(&worker, None).go.is_none());
    let its_lock = crate::lock::load_lock(&worker.lock_path).unwrap();
    let module = include_str!("../../../../programs/pod/go.mod");
    let expected = module.lines().find_map(|line| line.strip_prefix("go "));
    assert_eq!(needs_of(&worker, its_lock.as_ref()).go.as_deref(), expected);
    let lock = Lock {
        version: 1,
        time: 0,
        components: rescue
            .components
            .iter()
            .map(|c| crate::lock::LockedComponent { name: c.name.clone(), spec: c.source.clone(), pins: Vec::new() })
            .collect(),
    };
    assert!(!needs_of(&rescue, Some(&lock)).build.contains(&Tool::AptGet), "all of it is pinned");
    let mut stale = lock;
    stale.components[0].spec = worker.components.last().unwrap().source.clone();
    assert!(needs_of(&rescue, Some(&stale)).build.contains(&Tool::AptGet), "the lock pins something else");
}
