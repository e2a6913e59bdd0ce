//! A worker that joins a control plane of a test by a bootstrap token, with the files that docs/joining.md shows.

use crate::cluster::Cluster;
use crate::folders::{project_root, work_folder};
use crate::image::Image;
use crate::layout::add_shell_images;
use crate::nbd::qemu_nbd;
use crate::node_proxy::NodeProxy;
use crate::running::{Running, free_port, wait_until};
use crate::serve::Serve;
use crate::server::ServerProcess;
use crate::shipped::Shipped;
use crate::ssh::key;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

pub const RECIPE: &str = "lab-worker";
/// Its name in the cluster.
pub const NODE: &str = "lab1";
/// Where the files are shown.
const WAY: &str = "docs/joining.md";
const OVERLAY: &str = "overlays/lab/etc/kubernetes";
/// Laid over that recipe: a network for pods, and this test's mirror for their images. The node has no shell.
const PODS: &str = r#"
[vars]
pod_network = { default = "bridge" }

[registry._default]
mirrors = ["http://10.0.2.2:PORT"]

[budget]
boot_files_mb = 80
ram_mib = 1024
"#;

/// Ends when it is dropped.
pub struct LabWorker {
    pub machine: Running,
    /// The image's folder.
    pub image: PathBuf,
    pub proxy: NodeProxy,
    _root: Option<ServerProcess>,
    _mirror: Serve,
    _project: Shipped,
}

impl LabWorker {
    /// Builds the image, boots it with `ram_mib` and returns when its Node is Ready. `root`: `nbd`, or `None` for a root in memory.
    /// `more` is laid over its recipe. `add_images` puts what pods need into the layout of the mirror for `registry.lab`.
    pub fn join(
        cluster: &Cluster,
        more: &str,
        root: Option<&str>,
        ram_mib: u32,
        add_images: impl FnOnce(&Path),
    ) -> Self {
        let project = Shipped::copy_below(&work_folder());
        let mirror = free_port();
        write_recipe(&project, cluster, &(PODS.replace("PORT", &mirror.to_string()) + more));
        let ssh_key = format!("ssh_key={}", key().public);
        let image = project.build(RECIPE, root, &["--set", &ssh_key]);
        let out = project.path().join("out");
        let layout = out.join("registry/lab");
        let rescue = Image::build_variant("rescue-squashfs", "rescue", "[root]\nimage = \"squashfs\"\n", &[]);
        add_shell_images(&rescue.dir(), &layout, "registry.lab/web:1", "hello");
        add_images(&layout);
        let mirror = Serve::start_at(mirror, project.path(), &["--out", "out"]);
        let server = root.map(|_| qemu_nbd(&image.join("root.img"), RECIPE));

        let recipe = project.path().join(format!("recipes/{RECIPE}.toml")).display().to_string();
        let (out, ram) = (out.display().to_string(), ram_mib.to_string());
        let mut words = format!("bw.hostname={NODE}");
        if let Some(server) = &server {
            words += &format!(" bw.root=nbd://10.0.2.2:{}/{RECIPE}", server.port);
        }
        let mut arguments =
            vec!["--recipe", &recipe, "--out", &out, "--set", &ssh_key, "--ram-mib", &ram, "--append", &words];
        arguments.extend(root.iter().flat_map(|root| ["--root", root]));
        let machine = Running::boot(&arguments.into_iter().map(String::from).collect::<Vec<_>>(), Stdio::inherit());
        wait_until("the node is Ready", Duration::from_secs(120), || cluster.is_ready(NODE));
        let proxy = NodeProxy::start(&machine);
        Self { machine, image, proxy, _root: server, _mirror: mirror, _project: project }
    }
}

fn write_recipe(project: &Shipped, cluster: &Cluster, drop_in: &str) {
    let write = |path: String, text: &str| project.write(&path, text);
    write(format!("recipes/{RECIPE}.toml"), &fenced_block(WAY, "toml", "# recipes/token-worker.toml"));
    write(format!("recipes/{RECIPE}.d/10-pods.toml"), drop_in);
    write(format!("{OVERLAY}/kubelet.conf.d/90-lab.conf"), &fenced_block(WAY, "yaml", "# 90-lab.conf"));
    write(format!("{OVERLAY}/ca.crt"), cluster.authority());
    write(format!("{OVERLAY}/bootstrap.kubeconfig"), &cluster.bootstrap_kubeconfig());
}

/// The fenced block of that language in a document of the project which starts with that line.
pub fn fenced_block(document: &str, language: &str, first_line: &str) -> String {
    let text = std::fs::read_to_string(project_root().join(document)).expect("the project has it");
    let fence = format!("```{language}\n");
    let blocks = text.split(&fence).skip(1).filter_map(|rest| rest.split("```").next());
    let mut found = blocks.filter(|block| block.starts_with(first_line));
    found.next().unwrap_or_else(|| panic!("{document} has no {language} block `{first_line}`")).into()
}
