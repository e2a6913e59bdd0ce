//! `bootwright cluster add`: looks at a cluster, tells what is to be made there, and makes it.

use super::join::server_version;
use super::kubeconfig::format_kubeconfig;
use super::nodes_file::{replace_file, with_cluster};
use super::{Access, Api, ApiError, ClusterError, MANIFESTS, Skew, Version, load_kubeconfig, rights};
use crate::input_file::read_text;
use crate::nodes::Cluster;
use crate::signing;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// Beside nodes.toml: what is secret.
const FOLDER: &str = ".bootwright";
/// Keeps all of the folder out of git.
const IGNORE: &str = "*\n";
const KUBE_DNS: &str = "/api/v1/namespaces/kube-system/services/kube-dns";
/// Where kubeadm keeps kubelets' settings.
const KUBELET_CONFIG: &str = "/api/v1/namespaces/kube-system/configmaps/kubelet-config";

/// What is asked for.
#[derive(Debug, Clone)]
pub struct AddOptions {
    pub name: String,
    pub kubeconfig: PathBuf,
    pub context: Option<String>,
    /// API servers as nodes reach them; empty: the kubeconfig's.
    pub servers: Vec<String>,
    /// Empty: as the cluster says.
    pub dns: Vec<IpAddr>,
    pub domain: Option<String>,
    /// nodes.toml; it may not be there yet.
    pub nodes: PathBuf,
    /// Folder for what is secret; `None`: beside nodes.toml.
    pub credentials: Option<PathBuf>,
    /// Folder of images, which is served.
    pub out: PathBuf,
}

/// What is to be made, checked as far as it can be before.
pub struct AddPlan {
    admin: Api,
    access: Access,
    cluster: Cluster,
    nodes: PathBuf,
    nodes_text: String,
    /// What the administrator should know.
    pub warnings: Vec<String>,
}

/// Looks at the cluster as its administrator. `kubelets`: image -> version of its kubelet, for those that nodes boot.
///
/// # Errors
/// [`ClusterError`]; nothing was changed.
pub fn plan(options: &AddOptions, kubelets: &BTreeMap<String, Version>) -> Result<AddPlan, ClusterError> {
    let access = load_kubeconfig(&options.kubeconfig, options.context.as_deref())?;
    let servers = if options.servers.is_empty() { vec![access.server.clone()] } else { options.servers.clone() };
    if let Some(server) = servers.iter().find(|server| is_loopback(server)) {
        return Err(ClusterError::Loopback { server: server.clone() });
    }
    let folder = secret_folder(options)?;
    let admin = Api::new(&access)?;
    if let Some(server) = server_version(&admin)? {
        for (image, kubelet) in kubelets {
            Skew::check(*kubelet, server).map_err(|skew| ClusterError::Skew { image: image.clone(), skew })?;
        }
    }
    let settings = kubelet_settings(&admin)?;
    let domain = options.domain.clone().or_else(|| settings["clusterDomain"].as_str().map(String::from));
    let cluster = Cluster {
        name: options.name.clone(),
        servers,
        ca: access.ca.clone(),
        dns: if options.dns.is_empty() { dns(&admin, &settings)? } else { options.dns.clone() },
        domain: domain.unwrap_or_else(crate::nodes::file::domain),
        credentials: folder.join(format!("{}.kubeconfig", options.name)),
        signing_key: folder.join(format!("{}.key", options.name)),
    };
    let nodes_text = new_nodes_text(&options.nodes, &cluster)?;
    let warnings = rights::bindings_of_tokens(&admin)?.into_iter().map(warning).collect();
    Ok(AddPlan { admin, access, cluster, nodes: options.nodes.clone(), nodes_text, warnings })
}

impl AddPlan {
    /// What will be made, for whoever has to agree.
    pub fn describe(&self) -> String {
        let cluster = &self.cluster;
        let dns: Vec<String> = cluster.dns.iter().map(ToString::to_string).collect();
        format!(
            "in the cluster `{}` ({}):\n\n{MANIFESTS}\non this machine:\n  {}: the ServiceAccount's credential, secret\n  \
             {}: the key that answers to nodes are signed with, secret\n  {}: `[cluster]` with API servers {}, DNS {}, domain {}\n",
            cluster.name,
            self.access.server,
            cluster.credentials.display(),
            cluster.signing_key.display(),
            self.nodes.display(),
            cluster.servers.join(", "),
            if dns.is_empty() { "none".into() } else { dns.join(", ") },
            cluster.domain,
        )
    }

    /// Makes it. nodes.toml comes last: until then nobody joins.
    ///
    /// # Errors
    /// What was made before stays, and is brought up to date by the next try.
    pub fn carry_out(&self) -> Result<(), ClusterError> {
        rights::apply(&self.admin)?;
        let token = rights::token(&self.admin)?;
        let cluster = &self.cluster;
        let text = format_kubeconfig(&cluster.name, &self.access.server, &cluster.ca, &token);
        replace_file(&cluster.credentials, &text, 0o600)?;
        let folder = cluster.credentials.parent().unwrap_or(Path::new("."));
        replace_file(&folder.join(".gitignore"), IGNORE, 0o644)?;
        if !cluster.signing_key.exists() {
            signing::generate(&cluster.signing_key)?;
        }
        let mode = std::fs::metadata(&self.nodes).map_or(0o644, |found| {
            use std::os::unix::fs::PermissionsExt;
            found.permissions().mode() & 0o7777
        });
        replace_file(&self.nodes, &self.nodes_text, mode)
    }
}

/// A folder that nobody is served from.
fn secret_folder(options: &AddOptions) -> Result<PathBuf, ClusterError> {
    let absolute = |path: &Path| {
        std::path::absolute(path).map_err(|cause| ClusterError::Io { action: "find", path: path.into(), cause })
    };
    let beside = || options.nodes.parent().unwrap_or(Path::new("")).join(FOLDER);
    let folder = absolute(&options.credentials.clone().unwrap_or_else(beside))?;
    let out = absolute(&options.out)?;
    // A link into the folder that is served counts as what it leads to.
    let real = |path: &Path| path.ancestors().find_map(|path| path.canonicalize().ok());
    let served = out.canonicalize().ok();
    let is_served = served.is_some_and(|out| real(&folder).is_some_and(|folder| folder.starts_with(out)));
    match is_served || folder.starts_with(&out) {
        true => Err(ClusterError::Served { folder, out: options.out.clone() }),
        false => Ok(folder),
    }
}

fn new_nodes_text(path: &Path, cluster: &Cluster) -> Result<String, ClusterError> {
    let text = match read_text(path) {
        Ok(text) => text,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(cause) => return Err(ClusterError::Io { action: "read", path: path.into(), cause }),
    };
    let whole =
        std::path::absolute(path).map_err(|cause| ClusterError::Io { action: "find", path: path.into(), cause })?;
    let folder = whole.parent().unwrap_or(Path::new("/"));
    let shown = |path: &Path| path.strip_prefix(folder).unwrap_or(path).display().to_string();
    with_cluster(path, &text, cluster, &shown(&cluster.credentials), &shown(&cluster.signing_key))
}

fn warning(binding: String) -> String {
    format!(
        "warning: whoever has any bootstrap token of this cluster may become any of its nodes: ClusterRoleBinding `{binding}`\n  \
         help: nodes of `bootwright serve` need none; where no others join by token: kubectl delete clusterrolebinding {binding}"
    )
}

/// What kubeadm has all kubelets set to; null where the cluster was made otherwise.
fn kubelet_settings(admin: &Api) -> Result<Value, ApiError> {
    let found = found(admin.get(KUBELET_CONFIG))?;
    let text = found["data"]["kubelet"].as_str().unwrap_or_default();
    Ok(serde_saphyr::from_str(text).unwrap_or_default())
}

/// As kubelets are told, else the addresses of the Service that the cluster's DNS has by custom; none where there is none yet.
fn dns(admin: &Api, settings: &Value) -> Result<Vec<IpAddr>, ApiError> {
    let addresses = |list: &Value| -> Vec<IpAddr> {
        list.as_array().into_iter().flatten().filter_map(|ip| ip.as_str()?.parse().ok()).collect()
    };
    let told = addresses(&settings["clusterDNS"]);
    if !told.is_empty() {
        return Ok(told);
    }
    Ok(addresses(&found(admin.get(KUBE_DNS))?["spec"]["clusterIPs"]))
}

/// Null for what is not there.
fn found(answer: Result<Value, ApiError>) -> Result<Value, ApiError> {
    match answer {
        Err(error) if error.is_not_found() => Ok(Value::Null),
        answer => answer,
    }
}

fn is_loopback(server: &str) -> bool {
    let rest = server.trim_start_matches("https://").split('/').next().unwrap_or_default();
    let host = match rest.strip_prefix('[') {
        Some(ip6) => ip6.split(']').next().unwrap_or_default(),
        None => rest.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(folder: &Path) -> AddOptions {
        AddOptions {
            name: "lab".into(),
            kubeconfig: folder.join("admin.conf"),
            context: None,
            servers: Vec::new(),
            dns: Vec::new(),
            domain: None,
            nodes: folder.join("nodes.toml"),
            credentials: None,
            out: folder.join("out"),
        }
    }

    #[test]
    fn what_is_secret_is_never_served() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("out")).unwrap();
        std::os::unix::fs::symlink("out", folder.path().join("link")).unwrap();
        let of = |nodes: &str, credentials: Option<&str>| {
            let credentials = credentials.map(|path| folder.path().join(path));
            secret_folder(&AddOptions { nodes: folder.path().join(nodes), credentials, ..options(folder.path()) })
        };
        assert_eq!(of("nodes.toml", None).unwrap(), folder.path().join(FOLDER));
        assert_eq!(of("nodes.toml", Some("own")).unwrap(), folder.path().join("own"));
        for (nodes, credentials) in
            [("out/nodes.toml", None), ("nodes.toml", Some("out/x")), ("nodes.toml", Some("link/x"))]
        {
            assert!(matches!(of(nodes, credentials), Err(ClusterError::Served { .. })), "{nodes} {credentials:?}");
        }
    }

    #[test]
    fn nodes_do_not_reach_loopback_addresses() {
        for (server, loopback) in [
            ("https://127.0.0.1:6443", true),
            ("https://localhost:6443", true),
            ("https://[::1]:6443", true),
            ("https://0.0.0.0", true),
            ("https://10.0.0.1:6443", false),
            ("https://api.lab.example", false),
            ("https://[2001:db8::1]", false),
        ] {
            assert_eq!(is_loopback(server), loopback, "{server}");
        }
    }
}
