//! `[memory]`: what is kept of a node's memory for whom.

use super::Check;
use crate::recipe::MemoryNeeds;
use crate::recipe::file::MemoryFile;
use crate::recipe::node::TomlNode;
use bootwright_contract::{Memory, Service};

/// Of the worker's containerd and kubelet with the pages of their files that they use all the time; docs/memory.md has the measurement.
const CONTAINERD_MIB: u32 = 40;
const KUBELET_MIB: u32 = 48;
/// Of kubelet's options, the folder of files that are laid over its configuration in the order of their names.
const CONFIG_DIR: &str = "--config-dir=";
/// What of kubelet's configuration is the same on every machine (kubelet.config.k8s.io/v1beta1). Its limit for all pods is the capacity less what
/// is reserved. Not `systemReservedCgroup`, which would cap kubelet itself, and not MemoryQoS. What the file systems hold is memory too, so
/// that images are cleared away early.
///
/// A full file system is not cleared by a hard threshold: kubelet would evict at once, by figures of what pods use that are older than what
/// has filled it, and so the wrong pod. `0%` takes kubelet's own hard thresholds out, which would stay otherwise: files of `--config-dir` are laid
/// over its defaults, key by key. Containers' layers are measured each 3 s (`stats_collect_period` of containerd), volumes each 3 to 6 s.
const DROP_IN_HEAD: &str = "apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
enforceNodeAllocatable: [pods]
containerLogMaxFiles: 2
imageGCHighThresholdPercent: 80
imageGCLowThresholdPercent: 60
volumeStatsAggPeriod: 3s
evictionSoft:
  nodefs.available: 10%
  nodefs.inodesFree: 5%
  imagefs.available: 10%
  imagefs.inodesFree: 5%
evictionSoftGracePeriod:
  nodefs.available: 10s
  nodefs.inodesFree: 10s
  imagefs.available: 10s
  imagefs.inodesFree: 10s
evictionMaxPodGracePeriod: 10
evictionPressureTransitionPeriod: 30s
evictionHard:
  nodefs.available: 0%
  nodefs.inodesFree: 0%
  imagefs.available: 0%
  imagefs.inodesFree: 0%
  pid.available: 60%
  memory.available: ";
/// Before any file of a recipe's, so that those win.
const DROP_IN: &str = "00-memory.conf";

impl Check<'_> {
    pub(super) fn memory(&mut self, tree: &TomlNode, services: &[Service]) -> Option<MemoryNeeds> {
        let file: MemoryFile = self.read(Some(tree.get("memory")?))?;
        let service = |name: &str| services.iter().find(|service| service.name == name);
        let default = |name: &str, mib: u32| service(name).map_or(0, |_| mib);
        let folder =
            service("kubelet").and_then(|kubelet| kubelet.exec.iter().find_map(|arg| arg.strip_prefix(CONFIG_DIR)));
        let shares = Memory {
            kernel_mib: file.kernel_mib,
            system_mib: file.system_mib,
            containerd_mib: file.containerd_mib.unwrap_or(default("containerd", CONTAINERD_MIB)),
            kubelet_mib: file.kubelet_mib.unwrap_or(default("kubelet", KUBELET_MIB)),
            shim_mib: file.shim_mib,
            images_percent: file.images_percent,
            max_pods: file.max_pods.unwrap_or(0),
            drop_in: folder.map(|folder| format!("{}/{DROP_IN}", folder.trim_end_matches('/'))),
            drop_in_head: folder.map(|_| DROP_IN_HEAD.into()).unwrap_or_default(),
        };
        Some(MemoryNeeds { shares, workload_mib: file.workload_mib })
    }
}

#[cfg(test)]
mod tests {
    use crate::recipe::check::tests::problems;
    use crate::recipe::parse_recipe_text;

    const NODE: &str = "[kernel]\ncomponent = \"k\"\n[[component]]\nname = \"k\"\npath = { path = \"x\" }\n\
        [[root.tmpfs]]\npath = \"/var/lib/containerd\"\nsize = \"1%\"\n\
        [[root.tmpfs]]\npath = \"/var/lib/containerd/layers\"\nsize = \"images:60%+pods:30%\"\n\
        [[service]]\nname = \"containerd\"\nexec = [\"/c\"]\n\
        [[service]]\nname = \"kubelet\"\nexec = [\"/k\", \"--config-dir=/etc/k.d/\"]\n[memory]\nmax_pods = 9\n";

    #[test]
    fn what_is_kept_follows_from_the_services() {
        let memory = |text: &str| {
            parse_recipe_text("node", text).expect("a good recipe").memory.expect("it has the section").shares
        };
        let whole = memory(NODE);
        assert_eq!((whole.containerd_mib, whole.kubelet_mib, whole.max_pods), (40, 48, 9));
        assert_eq!(whole.drop_in.as_deref(), Some("/etc/k.d/00-memory.conf"));
        assert!(whole.drop_in_head.ends_with("memory.available: "), "{}", whole.drop_in_head);
        let none = memory(&NODE.replace("\"kubelet\"", "\"other\"").replace("\"containerd\"", "\"runtime\""));
        assert_eq!((none.containerd_mib, none.kubelet_mib, none.drop_in), (0, 0, None));
        let told = memory(&(NODE.to_string() + "kubelet_mib = 7\n"));
        assert_eq!((told.kubelet_mib, told.containerd_mib), (7, 40));
    }

    #[test]
    fn shares_are_of_something() {
        let without = NODE.replace("[memory]\nmax_pods = 9\n", "");
        let found = problems(&without);
        assert!(found.len() == 1 && found[0].contains("`size` is not used: there is no `[memory]`"), "{found:?}");
        let found = problems(&NODE.replace("images:60%+pods:30%", "image:60%"));
        assert!(found.len() == 1 && found[0].contains("`image:60%` is not a size of a tmpfs"), "{found:?}");
    }

    #[test]
    fn a_volume_takes_the_place_of_what_lies_below_it_too() {
        let volume = "[state]\n\"/var/lib/containerd\" = { tmpfs = \"pods:40%\" }\n";
        let recipe = parse_recipe_text("node", &(NODE.to_string() + volume)).expect("a good recipe");
        assert_eq!(recipe.root.tmpfs, []);
    }
}
