//! Shares out the memory as `[memory]` of the recipe says: sizes of tmpfs, what is guarded of containerd and kubelet, and what kubelet
//! may give to pods.

use crate::base::node::Node;
use bootwright_base::files::replace_file;
use bootwright_base::memory::value;
use bootwright_contract::{MemoryPlan, Service, StatePlace};
use std::fs;
use std::path::Path;

/// Works out the plan from the machine's memory, and puts its figures in the places of shares in the boot config. When PID1 starts,
/// what is not available is the kernel's and the image's.
pub fn share_out(node: &mut Node) {
    let Some(memory) = &node.config.memory else { return };
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let [total, available] = ["MemTotal:", "MemAvailable:"].map(|key| value(&meminfo, key).unwrap_or_default());
    let images = node.config.images.iter().filter(|images| images.verity.is_some()).map(|images| images.size);
    let fetched: u64 = node.config.root.size.into_iter().chain(images).filter(|_| node.plan.root_is_fetched()).sum();
    let plan = memory.plan(total, total.saturating_sub(available) + fetched / 1024);
    node.timeline.note(&plan.to_string());
    node.memory = Some(plan);

    let root = &mut node.config.root;
    let of_root = root.tmpfs.iter_mut().map(|tmpfs| &mut tmpfs.size).chain([&mut root.overlay_size]);
    let of_state = node.config.state.iter_mut().filter_map(|folder| match &mut folder.place {
        StatePlace::Tmpfs { size, .. } => Some(size),
        StatePlace::Volume { .. } | StatePlace::Folder { .. } => None,
    });
    for size in of_root.chain(of_state) {
        if let Some(kib) = plan.share(size) {
            *size = [&kib.to_string(), "k"].concat();
        }
    }
    node.config.services.iter_mut().for_each(|service| guard(service, &plan));
}

fn guard(service: &mut Service, plan: &MemoryPlan) {
    let kib = match &service.name[..] {
        "containerd" => plan.containerd_guard(),
        "kubelet" => plan.kubelet,
        _ => return,
    };
    service.limits.memory_min_mib = u32::try_from(kib / 1024).unwrap_or(u32::MAX);
}

/// Writes kubelet's part of the plan. Returns a line about a failure.
pub fn tell_kubelet(node: &Node) -> Option<String> {
    let memory = node.config.memory.as_ref()?;
    let path = memory.drop_in.as_ref()?;
    let text = node.memory?.kubelet_config(&memory.drop_in_head);
    let error = replace_file(Path::new(path), text.as_bytes()).err()?;
    Some(["cannot write `", path, "`: ", &error.to_string()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::timeline::Timeline;
    use bootwright_base::cmdline::Cmdline;
    use bootwright_base::sys::RealSys;
    use bootwright_contract::fixture::{boot_config, memory, service};
    use bootwright_contract::{Memory, StateFolder, Tmpfs};
    use std::sync::Arc;

    #[test]
    fn the_boot_config_gets_figures_for_shares() {
        let folder = std::env::temp_dir().join(format!("memory-{}", std::process::id()));
        let drop_in = folder.join("kubelet.conf.d/00-memory.conf");
        let mut config = boot_config();
        config.memory =
            Some(Memory { drop_in: Some(drop_in.display().to_string()), drop_in_head: "head: ".into(), ..memory() });
        config.root.overlay_size = "system:50%".into();
        let tmpfs = |path: &str, size: &str| Tmpfs {
            path: path.into(),
            size: size.into(),
            mode: "0755".into(),
            reserve: false,
        };
        config.root.tmpfs = vec![tmpfs("/a", "images:50%+pods:1%"), tmpfs("/b", "5%")];
        let place = StatePlace::Tmpfs { size: "pods:10%".into(), mode: "0755".into() };
        config.state = vec![StateFolder { path: "/c".into(), overlay: false, place }];
        config.services = vec![service("kubelet", &["/k"]), service("other", &["/o"]), service("containerd", &["/c"])];
        let mut node =
            Node::new(config, Cmdline::default(), Arc::new(Timeline::new(&[], Box::new(std::io::sink()))), &RealSys);
        share_out(&mut node);

        let plan = node.memory.expect("there is `[memory]`");
        let of = |share: &str| format!("{}k", plan.share(share).expect("a share"));
        let StatePlace::Tmpfs { size, .. } = &node.config.state[0].place else { panic!("it was one") };
        let sizes = [&node.config.root.overlay_size, &node.config.root.tmpfs[0].size, size];
        assert_eq!(sizes, [&of("system:50%"), &of("images:50%+pods:1%"), &of("pods:10%")]);
        assert_eq!(node.config.root.tmpfs[1].size, "5%", "what is no share stays");
        let guards = [0, 1, 2].map(|i| u64::from(node.config.services[i].limits.memory_min_mib));
        assert_eq!(guards, [plan.kubelet / 1024, 0, plan.containerd_guard() / 1024]);

        assert_eq!(tell_kubelet(&node), None);
        assert_eq!(fs::read_to_string(&drop_in).expect("it was written"), plan.kubelet_config("head: "));
        fs::remove_dir_all(&folder).expect("it is the test's own");
    }
}
