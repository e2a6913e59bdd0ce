//! A registry (OCI distribution-spec): manifests and blobs by digest over HTTP.

use super::super::SourceError;
use super::challenge::{Challenge, basic, config_path, credentials, parse_challenges, parse_token, token_url};
use super::manifest::{DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use crate::entry::Sha256;
use crate::fetch::{Context, FetchError, Patience, Request, Via, agent, fetch_small, fetch_to_cache, held};
use crate::recipe::Reference;
use std::time::Duration;

/// Manifests and configurations are small; registries refuse more than 4 MiB (distribution-spec, "Pushing Manifests").
const DOCUMENT_BYTES: u64 = 4 << 20;
const TOKEN_BYTES: u64 = 1 << 20;

/// A repository of a registry.
#[derive(Debug)]
pub struct Registry {
    pub reference: Reference,
    /// As the user wrote it, for messages.
    pub image: String,
    pub plain_http: bool,
}

type Headers = Vec<(String, String)>;

impl Registry {
    fn url(&self, kind: &str, what: &str) -> String {
        let scheme = if self.plain_http { "http" } else { "https" };
        let Reference { registry, repository, .. } = &self.reference;
        // Its name is one, and its place another (distribution/reference, containerd's core/remotes/docker/registry.go).
        let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
        format!("{scheme}://{host}/v2/{repository}/{kind}/{what}")
    }

    /// A manifest by tag or digest (`sha256:...`).
    pub fn manifest(&self, wanted: &str, cx: &Context<'_>) -> Result<Vec<u8>, SourceError> {
        self.small("manifests", wanted, cx)
    }

    /// A small blob (a configuration).
    pub fn small_blob(&self, sha256: &Sha256, cx: &Context<'_>) -> Result<Vec<u8>, SourceError> {
        self.small("blobs", &format!("sha256:{sha256}"), cx)
    }

    fn small(&self, kind: &str, what: &str, cx: &Context<'_>) -> Result<Vec<u8>, SourceError> {
        let url = self.url(kind, what);
        let headers = self.headers(&url, cx)?;
        fetch_small(&self.image, &[url], &headers, DOCUMENT_BYTES, cx).map_err(|e| self.refused(e))
    }

    /// Brings a manifest (`kind` is `manifests`) or blob (`blobs`) into the cache.
    pub fn bring(&self, kind: &str, sha256: Sha256, size: u64, cx: &Context<'_>) -> Result<(), SourceError> {
        if held(&self.image, sha256, size, cx)?.is_some() {
            return Ok(());
        }
        let url = self.url(kind, &format!("sha256:{sha256}"));
        // A token for each body: the one of the body before may be over.
        let headers = self.headers(&url, cx)?;
        let (name, version, urls) = (self.image.as_str(), "", &[url][..]);
        let request = Request { name, version, urls, sha256, size, headers: &headers, via: Via::Environment };
        fetch_to_cache(&request, cx).map(drop).map_err(|e| self.refused(e))
    }

    /// The headers that the registry wants before it answers to `url`.
    fn headers(&self, url: &str, cx: &Context<'_>) -> Result<Headers, SourceError> {
        if cx.settings.offline {
            return Err(SourceError::Fetch(FetchError::Offline { name: self.image.clone() }));
        }
        let accept = [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST, "*/*;q=0.1"].join(", ");
        let mut headers = vec![("Accept".to_string(), accept)];
        let challenges = self.challenges(url, &headers)?;
        if challenges.is_empty() {
            return Ok(headers);
        }
        let login = self.login()?;
        let of = |scheme: &str| challenges.iter().find(|c| c.scheme == scheme);
        let value = match (of("bearer"), of("basic"), login) {
            (Some(challenge), _, login) => format!("Bearer {}", self.token(challenge, login, cx)?),
            (None, Some(_), Some(login)) => basic(&login),
            _ => return Err(self.denied("asks for a login")),
        };
        headers.push(("Authorization".into(), value));
        Ok(headers)
    }

    /// Asks without a body; empty when the answer is anything but 401. What goes wrong here is found and told by the
    /// request that follows.
    fn challenges(&self, url: &str, headers: &[(String, String)]) -> Result<Vec<Challenge>, SourceError> {
        let patience = Patience::default();
        let mut request = agent(url)?.head(url);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let timeout: Option<Duration> = Some(patience.connect);
        let request = request
            .config()
            .http_status_as_error(false)
            .timeout_resolve(timeout)
            .timeout_connect(timeout)
            .timeout_recv_response(timeout)
            .build();
        let Ok(answer) = request.call() else { return Ok(Vec::new()) };
        if answer.status().as_u16() != 401 {
            return Ok(Vec::new());
        }
        let values = answer.headers().get_all("www-authenticate").into_iter().filter_map(|v| v.to_str().ok());
        let found: Vec<Challenge> = values.flat_map(parse_challenges).collect();
        if found.is_empty() {
            return Err(self.denied("refuses access and does not say how to log in"));
        }
        Ok(found)
    }

    fn token(&self, challenge: &Challenge, login: Option<String>, cx: &Context<'_>) -> Result<String, SourceError> {
        let url = token_url(challenge, &self.reference.repository)
            .ok_or_else(|| self.denied("asks for a token but does not say where to get one"))?;
        if !self.plain_http && !url.starts_with("https://") {
            return Err(self.denied("names a token server without encryption, which is not asked"));
        }
        let headers: Headers = login.iter().map(|login| ("Authorization".into(), basic(login))).collect();
        let answer = fetch_small(&self.image, &[url], &headers, TOKEN_BYTES, cx).map_err(|e| self.refused(e))?;
        parse_token(&answer).ok_or_else(|| self.denied("has a token server whose answer holds no token"))
    }

    fn login(&self) -> Result<Option<String>, SourceError> {
        let Some(path) = config_path(|name| std::env::var(name).ok()) else { return Ok(None) };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(SourceError::Io { action: "read", path, cause }),
        };
        credentials(&text, &self.reference.registry).map_err(|cause| SourceError::BadInput {
            subject: path.display().to_string(),
            problem: format!("is no valid configuration: {cause}"),
            help: "correct the file, or log in again".into(),
        })
    }

    fn denied(&self, problem: &str) -> SourceError {
        SourceError::BadInput {
            subject: self.image.clone(),
            problem: format!("the registry {problem}"),
            help: format!(
                "check the name; log in with `docker login {}` (credentials are read from `auths` in \
                 $DOCKER_CONFIG/config.json or ~/.docker/config.json, helpers are not run)",
                self.reference.registry
            ),
        }
    }

    /// 401 and 403 are a matter of the login, not of the network.
    fn refused(&self, error: FetchError) -> SourceError {
        match &error {
            FetchError::Failed { cause, .. } if cause.ends_with("status 401") || cause.ends_with("status 403") => {
                self.denied("refuses access")
            }
            _ => error.into(),
        }
    }
}
