//! An API server, in JSON (<https://kubernetes.io/docs/reference/using-api/api-concepts/>).

use super::{Access, Login};
use serde_json::Value;
use std::time::Duration;
use ureq::http::Response;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};
use ureq::{Agent, Body, RequestBuilder};

/// For a connection, and for a whole answer.
const CONNECT_TIME: Duration = Duration::from_secs(5);
const ANSWER_TIME: Duration = Duration::from_secs(20);
/// Characters of an answer that is no `Status` which are shown.
const SHOWN: usize = 200;

/// Why an API server did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    #[error("the API server `{server}` cannot be asked: {cause}")]
    Unreachable { server: String, cause: String },
    #[error("the API server `{server}` refuses {request} ({status}): {message}")]
    Refused { server: String, request: String, status: u16, message: String },
    #[error("the login for the API server `{server}` cannot be used: {cause}")]
    Login { server: String, cause: String },
}

impl ApiError {
    /// There is no such object.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }

    /// The `help:` line.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => {
                "check that it runs, its address, and that the kubeconfig holds the CA that it has now"
            }
            Self::Refused { status: 401, .. } => {
                "the credential is no longer good: `bootwright cluster add` makes a new one"
            }
            Self::Refused { status: 403, .. } => {
                "whoever adds a cluster has to be its administrator; `bootwright cluster manifests` shows which rights the boot server needs"
            }
            Self::Refused { .. } => "the message is the API server's own",
            Self::Login { .. } => "certificates and keys are PEM, in base64 where the kubeconfig says `-data`",
        }
    }
}

/// A client with its login. No proxy is asked: a boot server stands in the cluster's own network.
#[derive(Debug, Clone)]
pub struct Api {
    agent: Agent,
    server: String,
    token: Option<String>,
}

impl Api {
    /// # Errors
    /// [`ApiError::Login`] for a CA, certificate or key that is none.
    pub fn new(access: &Access) -> Result<Self, ApiError> {
        let unusable = |cause: ureq::Error| ApiError::Login { server: access.server.clone(), cause: cause.to_string() };
        let authorities = certificates(&access.ca).map_err(unusable)?;
        let (identity, token) = match &access.login {
            Login::Token(token) => (None, Some(token.clone())),
            Login::Certificate { certificate, key } => {
                let key = PrivateKey::from_pem(key.as_bytes()).map_err(unusable)?;
                (Some(ClientCert::new_with_certs(&certificates(certificate).map_err(unusable)?, key)), None)
            }
        };
        let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&authorities)).client_cert(identity);
        let config = Agent::config_builder().tls_config(tls.build()).http_status_as_error(false).proxy(None);
        let config = config.timeout_connect(Some(CONNECT_TIME)).timeout_global(Some(ANSWER_TIME));
        let config = config.user_agent(concat!("bootwright/", env!("CARGO_PKG_VERSION")));
        Ok(Self { agent: config.build().new_agent(), server: access.server.trim_end_matches('/').into(), token })
    }

    /// # Errors
    /// [`ApiError`], for this and the following.
    pub fn get(&self, path: &str) -> Result<Value, ApiError> {
        let request = self.agent.get(self.url(path)).header("Accept", "application/json");
        self.answer(&format!("GET {path}"), self.authorized(request).call())
    }

    /// Creates what `body` describes in the collection at `path`; what was created.
    pub fn create(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        let request = self.agent.post(self.url(path)).header("Content-Type", "application/json");
        self.answer(&format!("POST {path}"), self.authorized(request).send(body.to_string()))
    }

    /// Puts `body` in the place of what is at `path`.
    pub fn replace(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        let request = self.agent.put(self.url(path)).header("Content-Type", "application/json");
        self.answer(&format!("PUT {path}"), self.authorized(request).send(body.to_string()))
    }

    /// Makes what is at `path` as the YAML says (server-side apply): the same however often it is asked.
    pub fn apply(&self, path: &str, yaml: &str) -> Result<Value, ApiError> {
        let request = self.agent.patch(self.url(&format!("{path}?fieldManager=bootwright&force=true")));
        let request = request.header("Content-Type", "application/apply-patch+yaml");
        self.answer(&format!("PATCH {path}"), self.authorized(request).send(yaml))
    }

    pub fn delete(&self, path: &str) -> Result<Value, ApiError> {
        self.answer(&format!("DELETE {path}"), self.authorized(self.agent.delete(self.url(path))).call())
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.server)
    }

    fn authorized<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        self.token.iter().fold(request, |request, token| request.header("Authorization", format!("Bearer {token}")))
    }

    fn answer(&self, request: &str, response: Result<Response<Body>, ureq::Error>) -> Result<Value, ApiError> {
        let unreachable =
            |cause: ureq::Error| ApiError::Unreachable { server: self.server.clone(), cause: cause.to_string() };
        let mut response = response.map_err(unreachable)?;
        let text = response.body_mut().read_to_string().map_err(unreachable)?;
        let body: Option<Value> = serde_json::from_str(&text).ok();
        let status = response.status().as_u16();
        match body {
            Some(body) if status < 300 => Ok(body),
            body => {
                let told = body.as_ref().and_then(|body| body["message"].as_str()).map(String::from);
                let message = told.unwrap_or_else(|| text.chars().take(SHOWN).collect());
                Err(ApiError::Refused { server: self.server.clone(), request: request.into(), status, message })
            }
        }
    }
}

/// Every certificate of a PEM text.
fn certificates(pem: &str) -> Result<Vec<Certificate<'static>>, ureq::Error> {
    let items = ureq::tls::parse_pem(pem.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let found: Vec<_> = items
        .into_iter()
        .filter_map(|item| match item {
            ureq::tls::PemItem::Certificate(found) => Some(found),
            _ => None,
        })
        .collect();
    match found.is_empty() {
        true => Err(ureq::Error::Tls("no certificate in PEM")),
        false => Ok(found),
    }
}
