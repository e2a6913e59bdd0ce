use super::*;

/// A host that has everything but some tools.
struct Without(Vec<Tool>);

impl Host for Without {
    fn find(&self, tool: Tool) -> Option<Found> {
        let found = Found { path: Some("/bin/x".into()), version: Some("1.0".into()) };
        (!self.0.contains(&tool)).then_some(found)
    }
}

fn asked() -> Vec<Asked> {
    let smoke = BTreeSet::from([Tool::Qemu, Tool::IpxeRom]);
    let needs = |tools: &[Tool]| Ok(Needs { build: tools.iter().copied().collect(), smoke: smoke.clone() });
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
fn nothing_is_missing() {
    let diagnosis = diagnose(&asked(), &Without(vec![]), true);
    assert_eq!(diagnosis.working(), ["rescue", "worker"]);
    assert!(diagnosis.recipes[0].smokes && diagnosis.install.is_none() && diagnosis.hints.is_empty());
}

#[test]
fn needs_follow_the_recipe_and_its_lock() {
    let load = |name: &str| {
        let path = format!("{}/recipes/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        crate::recipe::load_recipe(&path, &[], None).unwrap()
    };
    let (rescue, worker) = (load("rescue"), load("worker"));
    let unlocked = needs_of(&rescue, None).build;
    assert!(unlocked.contains(&Tool::AptGet) && !unlocked.contains(&Tool::Go), "{unlocked:?}");
    assert!(needs_of(&worker, None).build.contains(&Tool::Go));
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
