//! `[registry]`: files for containerd, and a service where only the node knows an address.

use super::{GOOD, problems};
use crate::recipe::{CheckedRecipe, InlineBody, SegmentName, parse_recipe_text};
use bootwright_contract::Ready;

const CONTAINERD: &str = "[[service]]\nname = \"containerd\"\nexec = [\"/usr/bin/containerd\"]\n\
    [[service]]\nname = \"kubelet\"\nexec = [\"/usr/bin/kubelet\"]\nafter = [\"containerd\"]\n[network]";

fn with(registry: &str) -> CheckedRecipe {
    parse_recipe_text("good", &format!("{}\n{registry}", GOOD.replace("[network]", CONTAINERD))).unwrap()
}

/// Path and text of each file of the section.
fn files(recipe: &CheckedRecipe) -> Vec<(&str, &str)> {
    let ours = recipe.files.iter().filter(|file| file.path.contains("certs.d"));
    ours.map(|file| {
        assert_eq!((file.mode, file.segment), (0o644, SegmentName::Config));
        let InlineBody::Text(text) = &file.body else { panic!("{file:?}") };
        (file.path.as_str(), text.as_str())
    })
    .collect()
}

fn after<'a>(recipe: &'a CheckedRecipe, service: &str) -> &'a [String] {
    &recipe.services.iter().find(|one| one.name == service).unwrap().after
}

#[test]
fn mirrors_that_are_known_are_files_of_the_image() {
    let recipe = with(
        "[registry.\"registry.lab:5000\"]\nmirrors = [\"https://m.lab\", \"http://192.0.2.1:${port}/v2/k8s\"]\nca = \"/etc/lab.crt\"\n\
         [registry.other]\nca = \"etc/lab.crt\"\n",
    );
    let expected = "# From `[registry]` of the recipe.\nca = \"/etc/lab.crt\"\n\n[host.\"https://m.lab\"]\ncapabilities = [\"pull\", \"resolve\"]\n\
        ca = \"/etc/lab.crt\"\n\n[host.\"http://192.0.2.1:80/v2/k8s\"]\ncapabilities = [\"pull\", \"resolve\"]\noverride_path = true\n";
    let alone = "# From `[registry]` of the recipe.\nca = \"/etc/lab.crt\"\n";
    let place = |host: &str| format!("etc/containerd/certs.d/{host}/hosts.toml");
    let (first, second) = (place("registry.lab:5000"), place("other"));
    let found = files(&recipe);
    assert!(found.contains(&(&first, expected)) && found.contains(&(&second, alone)), "{found:#?}");
    assert!(recipe.services.iter().all(|service| service.name != "registry-mirrors"));
    assert_eq!(after(&recipe, "kubelet"), ["containerd"]);
}

#[test]
fn who_has_images_pulled_waits_for_mirrors_that_the_node_alone_knows() {
    let recipe = with("[registry._default]\nmirrors = [\"http://:8080\", \"http://${gateway}:5000\"]\n");
    let found = files(&recipe);
    assert_eq!(found[0].0, "etc/containerd/certs.d.boot/_default/hosts.toml");
    for url in ["[host.\"http://${boot_server}:8080\"]", "[host.\"http://${gateway}:5000\"]"] {
        assert!(found[0].1.contains(url), "{found:#?}");
    }
    let service = recipe.services.iter().find(|service| service.name == "registry-mirrors").unwrap();
    let Ready::File { path } = &service.ready else { panic!("{service:?}") };
    assert_eq!((service.exec.last(), service.after.as_slice()), (Some(path), &["network".to_string()][..]));
    assert_eq!(after(&recipe, "kubelet"), ["containerd", "registry-mirrors"]);
    assert_eq!(after(&recipe, "web"), ["network"], "who does not come after containerd waits for nothing more");
}

#[test]
fn what_is_no_registry_or_mirror_is_refused_where_it_is_written() {
    let line = GOOD.lines().count() + 1;
    for (registry, expected) in [
        ("[registry.\"a/b\"]\nmirrors = [\"http://:1\"]", format!("{line}: `a/b` is not the host of a registry")),
        ("[registry.\"../up\"]\nmirrors = [\"http://:1\"]", format!("{line}: `../up` is not the host")),
        ("[registry.a]\nmirrors = []", format!("{line}: missing key `mirrors`")),
        ("[registry.a]\nmirrors = [\"b.lab\"]", format!("{}: `b.lab` is not the URL of a registry", line + 1)),
        ("[registry.a]\nmirror = [\"http://:1\"]", format!("{}: unknown key `mirror`", line + 1)),
        ("[registry.a]\nmirrors = [\"http://${gatewy}\"]", format!("{}: variable `gatewy` does not exist", line + 1)),
        ("[registry.a]\nca = \"../x\"", format!("{}: bad path `../x`", line + 1)),
    ] {
        let found = problems(&format!("{GOOD}{registry}\n"));
        assert!(found.iter().any(|problem| problem.starts_with(&expected)), "{registry}: {found:?}");
    }
}
