//! kubeconfig files (<https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/>), as far as a server, its CA and a login go.

use super::ClusterError;
use crate::input_file::read_text;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::path::Path;

/// Where an API server is, and as whom it is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Access {
    /// `https://HOST:PORT`
    pub server: String,
    /// Certificates that the server's is signed by, PEM.
    pub ca: String,
    pub login: Login,
}

#[derive(Clone, PartialEq)]
pub enum Login {
    Token(String),
    /// Both PEM.
    Certificate {
        certificate: String,
        key: String,
    },
}

impl std::fmt::Debug for Login {
    /// Without what is secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token",
            Self::Certificate { .. } => "Certificate",
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Document {
    current_context: Option<String>,
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    contexts: Vec<NamedContext>,
    #[serde(default)]
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: ClusterFields,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: ContextFields,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    user: UserFields,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ClusterFields {
    server: String,
    certificate_authority: Option<String>,
    certificate_authority_data: Option<String>,
}

#[derive(Deserialize)]
struct ContextFields {
    cluster: String,
    user: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct UserFields {
    client_certificate: Option<String>,
    client_certificate_data: Option<String>,
    client_key: Option<String>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<String>,
    exec: Option<serde_json::Value>,
    auth_provider: Option<serde_json::Value>,
}

/// Reads the context of that name, or the current one.
///
/// # Errors
/// A file that is none, or lacks what it takes; a login by a program.
pub fn load_kubeconfig(path: &Path, context: Option<&str>) -> Result<Access, ClusterError> {
    let bad = |problem: String| ClusterError::Kubeconfig { path: path.into(), problem };
    let text = read_text(path).map_err(|cause| ClusterError::Io { action: "read", path: path.into(), cause })?;
    let document: Document = serde_saphyr::from_str(&text).map_err(|cause| bad(one_line(&cause.to_string())))?;
    let wanted = context.map(String::from).or(document.current_context).unwrap_or_default();
    let missing = |what: &str, name: &str| bad(format!("it has no {what} `{name}`"));
    let context = document.contexts.into_iter().find(|found| found.name == wanted);
    let context = context.ok_or_else(|| missing("context", &wanted))?.context;
    let cluster = document.clusters.into_iter().find(|found| found.name == context.cluster);
    let cluster = cluster.ok_or_else(|| missing("cluster", &context.cluster))?.cluster;
    let user = document.users.into_iter().find(|found| found.name == context.user);
    let user = user.ok_or_else(|| missing("user", &context.user))?.user;
    if !cluster.server.starts_with("https://") {
        return Err(bad(format!("its server `{}` is not https", cluster.server)));
    }
    let place = Place { path };
    let ca = place.text(cluster.certificate_authority_data, cluster.certificate_authority)?;
    let ca = ca.ok_or_else(|| bad("it has no certificate authority".into()))?;
    Ok(Access { server: cluster.server, ca, login: place.login(user)? })
}

/// The ServiceAccount's kubeconfig, for kubectl too.
pub fn format_kubeconfig(cluster: &str, server: &str, ca: &str, token: &str) -> String {
    let ca = STANDARD.encode(ca);
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: boot-server\nclusters:\n- name: {cluster}\n  cluster:\n    server: {server}\n    \
         certificate-authority-data: {ca}\nusers:\n- name: boot-server\n  user:\n    token: {token}\ncontexts:\n- name: boot-server\n  \
         context:\n    cluster: {cluster}\n    user: boot-server\n"
    )
}

/// A message on one line.
fn one_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().into()
}

/// What a kubeconfig's relative paths start from.
struct Place<'a> {
    path: &'a Path,
}

impl Place<'_> {
    fn login(&self, user: UserFields) -> Result<Login, ClusterError> {
        let by = |method| ClusterError::Login { path: self.path.into(), method };
        if user.exec.is_some() {
            return Err(by("exec"));
        }
        if user.auth_provider.is_some() {
            return Err(by("auth-provider"));
        }
        let certificate = self.text(user.client_certificate_data, user.client_certificate)?;
        let key = self.text(user.client_key_data, user.client_key)?;
        if let (Some(certificate), Some(key)) = (certificate, key) {
            return Ok(Login::Certificate { certificate, key });
        }
        let token = match user.token {
            Some(token) => Some(token),
            None => self.text(None, user.token_file)?.map(|token| token.trim().into()),
        };
        let none = "its user has neither a client certificate with its key nor a token";
        token.map(Login::Token).ok_or_else(|| ClusterError::Kubeconfig { path: self.path.into(), problem: none.into() })
    }

    /// What is given in base64, or in a file.
    fn text(&self, data: Option<String>, file: Option<String>) -> Result<Option<String>, ClusterError> {
        if let Some(data) = data {
            let bytes = STANDARD.decode(data.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let problem = || "a value that ends in `-data` is not text in base64".to_string();
            return bytes
                .map(Some)
                .ok_or_else(|| ClusterError::Kubeconfig { path: self.path.into(), problem: problem() });
        }
        let Some(file) = file else { return Ok(None) };
        let path = self.path.parent().unwrap_or(Path::new("")).join(file);
        read_text(&path).map(Some).map_err(|cause| ClusterError::Io { action: "read", path, cause })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Access, ClusterError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "from a file\n").unwrap();
        let path = folder.path().join("admin.conf");
        std::fs::write(&path, text).unwrap();
        load_kubeconfig(&path, None)
    }

    fn document(user: &str) -> String {
        let base = format_kubeconfig("lab", "https://192.0.2.1:6443", "an authority", "TOKEN");
        base.replace("token: TOKEN", user)
    }

    #[test]
    fn what_is_written_is_read() {
        let access = load(&document("token: secret")).unwrap();
        let login = Login::Token("secret".into());
        assert_eq!(access, Access { server: "https://192.0.2.1:6443".into(), ca: "an authority".into(), login });
        assert!(!format!("{access:?}").contains("secret"), "{access:?}");
    }

    #[test]
    fn logins_of_all_kinds() {
        assert_eq!(load(&document("tokenFile: token")).unwrap().login, Login::Token("from a file".into()));
        let pair = load(&document("{client-certificate-data: Yw==, client-key-data: aw==}")).unwrap().login;
        assert_eq!(pair, Login::Certificate { certificate: "c".into(), key: "k".into() });
        for (user, said) in [
            ("exec: {command: aws}", "logs in by `exec`"),
            ("auth-provider: {name: gcp}", "logs in by `auth-provider`"),
            ("username: root", "neither a client certificate with its key nor a token"),
            ("client-key-data: '!'", "not text in base64"),
        ] {
            let error = load(&document(user)).unwrap_err().to_string();
            assert!(error.contains(said), "{user}: {error}");
        }
    }

    #[test]
    fn what_is_no_kubeconfig_is_told() {
        for (text, said) in [
            ("a: [".to_string(), "is no kubeconfig"),
            ("kind: Config".into(), "has no context ``"),
            (document("token: x").replace("https://", "http://"), "is not https"),
            (document("token: x").replace("    user: boot-server", "    user: gone"), "has no user `gone`"),
        ] {
            let error = load(&text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
