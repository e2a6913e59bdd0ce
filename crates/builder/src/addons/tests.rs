//! Every need that is not met is noticed.

use super::contents::PathKind;
use super::remedy::Remedies;
use super::*;
use crate::profiles::{PROFILES, Profile};
use crate::tree::fixture::{Fixture, RELEASE, component, dir, file, link};
use bootwright_contract as contract;
use bootwright_contract::sysctl::SysctlNeed;
use std::collections::BTreeMap;

/// An image with one file a kind that matters, and a recipe that mounts and sets something.
fn image() -> Contents {
    let mut fixture = Fixture::new();
    let folder = format!("usr/lib/modules/{RELEASE}");
    let list = file(&format!("{folder}/modules.builtin"), "kernel/fs/fuse/fuse.ko\nkernel/net/ip-x.ko\n", 0o644);
    fixture.give("kernel", vec![list]);
    let entries = vec![
        dir("usr/bin", 0o755),
        file("usr/bin/kubelet", "x", 0o755),
        file("usr/bin/text", "x", 0o644),
        file("usr/lib/os-release", "x", 0o644),
        link("usr/bin/tool", "kubelet"),
        link("usr/bin/lost", "nowhere"),
        link("bin", "usr/bin"),
        link("var/run", "/run"),
        file("var/lib/kept/hidden", "x", 0o644),
        file("var/lib/over/seen", "x", 0o644),
        dir("etc/cni", 0o755),
    ];
    fixture.add(component("programs", &["**"]), entries);
    fixture.recipe.root.tmpfs =
        vec![contract::Tmpfs { path: "/var/lib/data".into(), size: "1M".into(), mode: "0755".into(), reserve: false }];
    let place = || contract::StatePlace::Tmpfs { size: "1M".into(), mode: "0755".into() };
    let state = |path: &str, overlay| contract::StateFolder { path: path.into(), overlay, place: place() };
    fixture.recipe.state = vec![state("/var/lib/kept", false), state("/var/lib/over", true)];
    fixture.recipe.sysctls = BTreeMap::from([("vm.max_map_count".into(), "262144".into())]);
    let build = fixture.build().unwrap_or_else(|e| panic!("{e}"));
    Contents::of(&fixture.recipe, &build, Some("CONFIG_A=y\nCONFIG_B=m\n# CONFIG_C is not set\n")).unwrap()
}

fn need(kind: NeedKind, name: &str) -> Need {
    Need { kind, name: name.into(), why: "a test asks for it".into(), source: "tests".into(), only: None }
}

#[test]
fn what_an_image_has_is_told_from_what_it_lacks_and_from_what_only_the_node_knows() {
    let image = image();
    use Standing::*;
    for (kind, name, standing) in [
        (NeedKind::Module, "fuse", Has),
        (NeedKind::Module, "ip-x", Has),
        (NeedKind::Module, "nfs", Lacks),
        (NeedKind::Module, "nfs|fuse", Has),
        (NeedKind::Program, "kubelet", Has),
        (NeedKind::Program, "tool", Has),
        (NeedKind::Program, "/bin/tool", Has),
        (NeedKind::Program, "text", Lacks),
        (NeedKind::Program, "lost", Lacks),
        (NeedKind::Program, "/sbin/kubelet", Lacks),
        (NeedKind::Path, "/", Has),
        (NeedKind::Path, "/etc/os-release", Has),
        (NeedKind::Path, "/etc/cni", Has),
        (NeedKind::Path, "/etc/cni/net.d", Lacks),
        (NeedKind::Path, "/var/lib/data", Has),
        (NeedKind::Path, "/var/lib/data/none", Lacks),
        (NeedKind::Path, "/var/lib/kept", Has),
        (NeedKind::Path, "/var/lib/kept/hidden", Unknown),
        (NeedKind::Path, "/var/lib/over/seen", Has),
        (NeedKind::Path, "/usr/lib/modules/${release}/modules.builtin", Has),
        (NeedKind::Path, "/var/lib/kubelet/pods", Has),
        (NeedKind::Path, "/var/lib/containerd", Lacks),
        (NeedKind::Path, "/proc/sys/net", Has),
        (NeedKind::Path, "/var/run/udev", Unknown),
        (NeedKind::Path, "/sys/firmware/acpi", Unknown),
        (NeedKind::Path, "/usr/bin/lost", Lacks),
        (NeedKind::Sysctl, "vm.max_map_count >= 262144", Has),
        (NeedKind::Sysctl, "vm.max_map_count >= 262145", Lacks),
        (NeedKind::Sysctl, "net.ipv4.conf.all.rp_filter = 0", Has),
        (NeedKind::Sysctl, "net.ipv4.ip_forward = 1", Lacks),
        (NeedKind::Sysctl, "kernel.unheard_of = 1", Unknown),
        (NeedKind::Option, "A", Has),
        (NeedKind::Option, "B", Has),
        (NeedKind::Option, "C", Lacks),
        (NeedKind::Mount, "/sys/fs/bpf", Has),
        (NeedKind::Mount, "/var/lib/data", Has),
        (NeedKind::Mount, "/var/lib/kept", Has),
        (NeedKind::Mount, "/var/lib/kubelet", Lacks),
        (NeedKind::Mount, "/sys/kernel/debug", Has),
        (NeedKind::Mount, "/sys/fs/fuse/connections", Has),
        (NeedKind::Mount, "/sys/kernel/config", Lacks),
        (NeedKind::Mount, "/sys/firmware/efi/efivars", Unknown),
        (NeedKind::Shared, "/sys/fs/bpf", Has),
        (NeedKind::Other, "anything", Unknown),
    ] {
        assert_eq!(image.standing(&need(kind, name)), standing, "{kind} {name}");
    }
}

/// Puts what is needed into an image, or takes it out.
fn change(image: &mut Contents, need: &Need, put: bool) {
    for name in need.names() {
        let (path, release) = (name.trim_start_matches('/').to_string(), image.release.clone());
        let path = path.replace("${release}", &release);
        match (need.kind, put) {
            (NeedKind::Module, true) => drop(image.modules.insert(name.into())),
            (NeedKind::Module, false) => {
                image.modules.remove(name);
                image.builtin.remove(name);
            }
            (NeedKind::Program, true) => {
                image.files.insert(format!("usr/bin/{path}"), PathKind::File { executable: true });
            }
            (NeedKind::Program, false) => drop(image.files.remove(&format!("usr/bin/{path}"))),
            (NeedKind::Path, true) => drop(image.files.insert(path, PathKind::Dir)),
            (NeedKind::Path, false) => {
                image.files.remove(&path);
                image.mounts.remove(&format!("/{path}"));
                image.made.remove(&format!("/{path}"));
            }
            (NeedKind::Sysctl, _) => {
                let wanted = SysctlNeed::parse(name).expect("profiles are checked");
                let value = if put { wanted.value } else { "-1" };
                image.sysctls.insert(wanted.key.into(), value.into());
            }
            (NeedKind::Option, true) => drop(image.options.as_mut().expect("set").insert(name.into(), "y".into())),
            (NeedKind::Option, false) => drop(image.options.as_mut().expect("set").remove(name)),
            (NeedKind::Mount, true) => drop(image.mounts.insert(name.into(), "x".into())),
            (NeedKind::Mount, false) => drop(image.mounts.remove(name)),
            (NeedKind::Shared, put) => image.shared = put,
            (NeedKind::Other, _) => panic!("a profile cannot ask for that"),
        }
    }
}

fn asked(profile: &Profile) -> AskedAddon {
    load_addon(profile.name).expect("it is a profile")
}

#[test]
fn no_profile_fits_an_image_that_lacks_one_of_its_needs() {
    for profile in PROFILES.iter() {
        let mut image = image();
        profile.needs.iter().for_each(|need| change(&mut image, need, true));
        let all = AddonAnswer::to(&asked(profile), &image);
        assert_eq!(all.verdict, Verdict::Fits, "{}: {:?}", profile.name, all.needs);
        for dropped in &profile.needs {
            let mut without = image.clone();
            change(&mut without, dropped, false);
            let answer = AddonAnswer::to(&asked(profile), &without);
            let standing =
                answer.needs.iter().find(|answered| answered.need == *dropped).map(|answered| answered.standing);
            let what = format!("{} without {} {}", profile.name, dropped.kind, dropped.name);
            assert_ne!(standing, Some(Standing::Has), "{what}");
            if dropped.only.is_none() {
                assert_ne!(answer.verdict, Verdict::Fits, "{what}");
            }
            let report = AddonReport::new("test", &without, vec![answer], Remedies::default());
            assert!(report.to_text().contains(&dropped.name), "{what} is not named:\n{}", report.to_text());
        }
    }
}

#[test]
fn a_name_that_is_nearly_a_profile_is_a_question_back() {
    let said = |name: &str| load_addon(name).unwrap_err().to_string();
    assert_eq!(
        said("celium"),
        "error: no profile is called `celium`, and there is no such file\n  help: did you mean `cilium`?"
    );
    assert!(said("zzzz").ends_with("`bootwright addons` lists the profiles"), "{}", said("zzzz"));
    assert!(said("./cilium").starts_with("error: cannot read `./cilium`"), "{}", said("./cilium"));
}
