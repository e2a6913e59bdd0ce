//! Writes `[cluster]` into nodes.toml; all else in the file stays as it is written.

use super::ClusterError;
use crate::nodes::Cluster;
use crate::whole_file::write_whole;
use std::path::Path;
use toml_edit::{Array, DocumentMut, Item, Table, value};

/// The text of nodes.toml with that cluster in it. `credentials` and `signing_key` as they shall stand there.
///
/// # Errors
/// A file that is no TOML, or has another cluster.
pub fn with_cluster(
    path: &Path,
    text: &str,
    cluster: &Cluster,
    credentials: &str,
    signing_key: &str,
) -> Result<String, ClusterError> {
    let bad = |problem: String| ClusterError::NodesFile { path: path.into(), problem };
    let mut document: DocumentMut = text.parse().map_err(|cause: toml_edit::TomlError| bad(cause.message().into()))?;
    let there = document.entry("cluster").or_insert_with(|| Item::Table(Table::new()));
    let table = there.as_table_mut().ok_or_else(|| bad("`cluster` is no table".into()))?;
    if let Some(other) = table.get("name").and_then(Item::as_str).filter(|name| *name != cluster.name) {
        return Err(ClusterError::OtherCluster { path: path.into(), other: other.into() });
    }
    let list = |values: Vec<String>| value(values.into_iter().collect::<Array>());
    table["name"] = value(cluster.name.as_str());
    table["servers"] = list(cluster.servers.clone());
    table["dns"] = list(cluster.dns.iter().map(ToString::to_string).collect());
    table["domain"] = value(cluster.domain.as_str());
    table["credentials"] = value(credentials);
    table["signing_key"] = value(signing_key);
    table["ca"] = value(cluster.ca.as_str());
    Ok(document.to_string())
}

/// Puts a file into the place of `path`, whole or not at all, with these permissions.
pub fn replace_file(path: &Path, text: &str, mode: u32) -> Result<(), ClusterError> {
    let failed = |action| move |cause| ClusterError::Io { action, path: path.into(), cause };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed("make the folder of"))?;
    }
    write_whole(path, text.as_bytes(), mode).map_err(failed("write"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nodes::parse_nodes_text;

    const WRITTEN: &str = "# our rack\n[defaults]\nrecipe = \"worker\"   # for all\n\n[[node]]\nname = \"n1\"\nmac = '52:54:00:00:00:01'\n";

    fn cluster() -> Cluster {
        Cluster {
            name: "lab".into(),
            servers: vec!["https://192.0.2.1:6443".into()],
            ca: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into(),
            dns: vec!["10.96.0.10".parse().unwrap()],
            domain: "cluster.local".into(),
            credentials: "secrets/lab.kubeconfig".into(),
            signing_key: "secrets/lab.key".into(),
        }
    }

    fn add(text: &str, cluster: &Cluster) -> Result<String, ClusterError> {
        with_cluster(Path::new("nodes.toml"), text, cluster, "secrets/lab.kubeconfig", "secrets/lab.key")
    }

    #[test]
    fn all_else_stays_as_it_is_written() {
        let once = add(WRITTEN, &cluster()).unwrap();
        assert!(once.starts_with(WRITTEN), "{once}");
        assert_eq!(parse_nodes_text(&once).unwrap().cluster, Some(cluster()));
        let other = Cluster { servers: vec!["https://192.0.2.9:6443".into()], ..cluster() };
        let twice = add(&once.replace("[cluster]", "[cluster]  # ours"), &other).unwrap();
        assert!(
            twice.contains("[cluster]  # ours\n") && twice.contains("192.0.2.9") && !twice.contains("192.0.2.1:"),
            "{twice}"
        );
    }

    #[test]
    fn another_cluster_is_not_written_over() {
        let once = add(WRITTEN, &cluster()).unwrap();
        let error = add(&once, &Cluster { name: "other".into(), ..cluster() }).unwrap_err();
        assert!(error.to_string().contains("belongs to the cluster `lab`"), "{error}");
        assert!(add("[cluster", &cluster()).unwrap_err().to_string().contains("is not TOML"));
        assert!(add("cluster = 1\n", &cluster()).unwrap_err().to_string().contains("is no table"));
    }

    #[test]
    fn a_file_is_replaced_with_its_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below/x");
        for text in ["a", "b"] {
            replace_file(&path, text, 0o600).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(std::fs::read_dir(folder.path().join("below")).unwrap().count(), 1);
    }
}
