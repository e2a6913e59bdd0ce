//! A pod: its volumes, its containers, and what its settings ask of the kernel.

use super::commands::command_needs;
use super::field::FieldProblem;
use super::host_path::host_path_need;
use super::{Manifest, field};
use crate::profiles;
use crate::profiles::{Need, NeedKind};
use serde_json::Value;

/// Kernel parameters that kubelet lets pods set by themselves
/// (<https://kubernetes.io/docs/tasks/administer-cluster/sysctl-cluster/#safe-and-unsafe-sysctls>).
const SAFE_SYSCTLS: [&str; 13] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
    "net.ipv4.tcp_slow_start_after_idle",
];
const APPARMOR_ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

struct Pod<'a> {
    /// The manifest's name.
    source: &'a str,
    /// The object whose pod it is.
    owner: &'a str,
    spec: &'a Value,
    into: &'a mut Manifest,
}

/// Adds what a pod needs; returns 1, or 0 for a pod that runs on other machines.
pub fn add_pod_needs(source: &str, owner: &str, template: &Value, into: &mut Manifest) -> Result<usize, FieldProblem> {
    let mut pod = Pod { source, owner, spec: &template["spec"], into };
    if let Some(elsewhere) = pod.runs_elsewhere()? {
        pod.into.notes.push(format!("{owner} is left out: it runs on {elsewhere}"));
        return Ok(0);
    }
    pod.volumes()?;
    pod.settings(&template["metadata"]["annotations"])?;
    for key in ["initContainers", "containers", "ephemeralContainers"] {
        for container in field(pod.spec, key).list()? {
            pod.container(container)?;
        }
    }
    Ok(1)
}

impl Pod<'_> {
    /// Images are for Linux on x86-64.
    fn runs_elsewhere(&self) -> Result<Option<String>, FieldProblem> {
        let selector = &self.spec["nodeSelector"];
        let wanted = [
            ("linux", self.spec["os"]["name"].as_str()),
            ("linux", selector["kubernetes.io/os"].as_str()),
            ("linux", selector["beta.kubernetes.io/os"].as_str()),
            ("amd64", selector["kubernetes.io/arch"].as_str()),
            ("amd64", selector["beta.kubernetes.io/arch"].as_str()),
        ];
        field(self.spec, "nodeSelector").table()?;
        Ok(wanted.into_iter().find_map(|(own, wanted)| wanted.filter(|wanted| *wanted != own)).map(String::from))
    }

    fn need(&mut self, kind: NeedKind, name: impl Into<String>, why: impl AsRef<str>) {
        let why = format!("{}: {}", self.owner, why.as_ref());
        self.into.needs.push(Need { kind, name: name.into(), why, source: self.source.into(), only: None });
    }

    fn volumes(&mut self) -> Result<(), FieldProblem> {
        for volume in field(self.spec, "volumes").list()? {
            if let Some(host) = field(volume, "hostPath").table()? {
                let missing = || FieldProblem::Missing { field: "`path` of a `hostPath`".into() };
                let path = field(host, "path").text()?.ok_or_else(missing)?;
                let volume_type = field(host, "type").text()?.unwrap_or_default();
                if let Some((kind, name)) = host_path_need(path, volume_type) {
                    let shown = if volume_type.is_empty() { "without a type" } else { volume_type };
                    self.need(kind, name, format!("it mounts `{path}` of the node ({shown})"));
                }
            }
            if let Some(empty) = field(volume, "emptyDir").table()?
                && field(empty, "medium").text()?.is_some_and(|medium| medium.starts_with("HugePages"))
            {
                self.need(NeedKind::Mount, "/dev/hugepages", "a volume of it is made of huge pages");
            }
            for (key, kind, name) in [
                ("nfs", NeedKind::Module, "nfsv4"),
                ("iscsi", NeedKind::Program, "iscsiadm"),
                ("fc", NeedKind::Other, "Fibre Channel"),
            ] {
                if field(volume, key).table()?.is_some() {
                    self.need(kind, name, format!("kubelet mounts its `{key}` volume"));
                }
            }
        }
        Ok(())
    }

    fn settings(&mut self, annotations: &Value) -> Result<(), FieldProblem> {
        if field(self.spec, "hostUsers").flag()? == Some(false) {
            self.need(NeedKind::Option, "USER_NS", "`hostUsers: false` asks for a user namespace");
            let why = "`hostUsers: false` asks for volumes with other owners, which an overlay root cannot give";
            self.need(NeedKind::Mount, "/var/lib/kubelet", why);
        }
        if let Some(class) = field(self.spec, "runtimeClassName").text()? {
            self.need(NeedKind::Other, format!("RuntimeClass `{class}`"), "containerd has to have that runtime");
        }
        if let Some(security) = field(self.spec, "securityContext").table()? {
            self.security(security)?;
            for sysctl in field(security, "sysctls").list()? {
                let name = field(sysctl, "name").text()?.unwrap_or_default();
                if !SAFE_SYSCTLS.contains(&name) {
                    let why = "kubelet refuses pods that set it, unless its `allowedUnsafeSysctls` names it";
                    self.need(NeedKind::Other, format!("sysctl `{name}`"), why);
                }
            }
        }
        let annotations = annotations.as_object().into_iter().flatten();
        for (_, profile) in annotations.filter(|(key, _)| key.starts_with(APPARMOR_ANNOTATION)) {
            self.app_armor(match profile.as_str().unwrap_or_default() {
                "unconfined" => "Unconfined",
                "runtime/default" => "RuntimeDefault",
                _ => "Localhost",
            });
        }
        Ok(())
    }

    /// A `securityContext`, of the pod or of a container.
    fn security(&mut self, security: &Value) -> Result<(), FieldProblem> {
        if let Some(profile) = field(security, "appArmorProfile").table()? {
            self.app_armor(field(profile, "type").text()?.unwrap_or_default());
        }
        if let Some(profile) = field(security, "seccompProfile").table()? {
            match field(profile, "type").text()? {
                Some("RuntimeDefault") => {
                    self.need(NeedKind::Option, "SECCOMP_FILTER", "`seccompProfile: RuntimeDefault`")
                }
                Some("Localhost") => {
                    let file = field(profile, "localhostProfile").text()?.unwrap_or_default();
                    self.need(
                        NeedKind::Path,
                        format!("/var/lib/kubelet/seccomp/{file}"),
                        "`seccompProfile: Localhost`",
                    );
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn app_armor(&mut self, profile_type: &str) {
        if !["RuntimeDefault", "Localhost"].contains(&profile_type) {
            return;
        }
        let why = format!("`appArmorProfile: {profile_type}`: containerd looks for it before it applies a profile");
        self.need(NeedKind::Program, "/sbin/apparmor_parser", why);
        self.need(NeedKind::Option, "SECURITY_APPARMOR", format!("`appArmorProfile: {profile_type}`"));
        if profile_type == "Localhost" {
            self.need(NeedKind::Other, "an AppArmor profile of its own", "somebody has to load it on each node");
        }
    }

    fn container(&mut self, container: &Value) -> Result<(), FieldProblem> {
        if let Some(security) = field(container, "securityContext").table()? {
            self.security(security)?;
        }
        for mount in field(container, "volumeMounts").list()? {
            let name = field(mount, "name").text()?.unwrap_or_default();
            let propagation = field(mount, "mountPropagation").text()?.filter(|word| *word != "None");
            if let (Some(word), Some(path)) = (propagation, self.host_path(name)) {
                self.need(NeedKind::Shared, path, format!("`mountPropagation: {word}`"));
            }
        }
        let host_network = field(self.spec, "hostNetwork").flag()? == Some(true);
        for port in field(container, "ports").list()? {
            if !port["hostPort"].is_null() && !host_network {
                self.need(NeedKind::Path, "/opt/cni/bin/portmap", "its `hostPort` is opened by the plugin `portmap`");
                self.need(NeedKind::Program, "nft|iptables", "the plugin `portmap` opens its `hostPort` by it");
            }
        }
        for (kind, name) in command_needs(field(container, "command"), field(container, "args"))? {
            let why = if kind == NeedKind::Module { "a command loads it" } else { "a command runs it on the node" };
            self.need(kind, name, why);
        }
        match field(container, "image").text()? {
            Some(image) => self.image(image),
            None => return Err(FieldProblem::Missing { field: "`image` in a container".into() }),
        }
        Ok(())
    }

    /// The path of the node that a volume stands for.
    fn host_path(&self, volume: &str) -> Option<String> {
        let volumes = self.spec["volumes"].as_array()?;
        let found = volumes.iter().find(|found| found["name"].as_str() == Some(volume))?;
        found["hostPath"]["path"].as_str().map(String::from)
    }

    /// What a manifest does not say, a profile may know.
    fn image(&mut self, image: &str) {
        let profiles: Vec<&profiles::Profile> = profiles::of_image(image).collect();
        for profile in &profiles {
            self.into
                .notes
                .push(format!("`{image}` is known: profile `{}`, read in {}", profile.name, profile.version));
            self.into.needs.extend(profile.needs.iter().cloned());
        }
        if profiles.len() > 1 {
            let note =
                format!("how `{image}` runs is not in its pod: name the profile that fits to be told of one alone");
            self.into.notes.push(note);
        }
    }
}
