//! An API server as one client sees it, in JSON (<https://kubernetes.io/docs/reference/using-api/api-concepts/>).

use super::Identity;
use serde_json::Value;
use std::time::Duration;
use ureq::http::Response;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};
use ureq::{Agent, RequestBuilder};

/// No answer of a small cluster takes longer, however busy the machine is.
const LIMIT: Duration = Duration::from_secs(60);

/// What an API server said.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// The document, or null where the body is none.
    pub body: Value,
}

/// A client with its credentials.
pub struct Api {
    agent: Agent,
    base: String,
    token: Option<String>,
}

impl Api {
    pub(super) fn with_certificate(port: u16, authority: &str, identity: &Identity) -> Self {
        let certificate = Certificate::from_pem(identity.certificate.as_bytes()).expect("a certificate in PEM");
        let key = PrivateKey::from_pem(identity.key.as_bytes()).expect("a private key in PEM");
        Self::new(port, authority, Some(ClientCert::new_with_certs(&[certificate], key)), None)
    }

    pub(super) fn with_token(port: u16, authority: &str, token: &str) -> Self {
        Self::new(port, authority, None, Some(token.into()))
    }

    pub(super) fn as_stranger(port: u16, authority: &str) -> Self {
        Self::new(port, authority, None, None)
    }

    fn new(port: u16, authority: &str, identity: Option<ClientCert>, token: Option<String>) -> Self {
        let authority = Certificate::from_pem(authority.as_bytes()).expect("a certificate in PEM");
        let tls =
            TlsConfig::builder().root_certs(RootCerts::new_with_certs(&[authority])).client_cert(identity).build();
        let config = Agent::config_builder().tls_config(tls).http_status_as_error(false).timeout_global(Some(LIMIT));
        // Tests are not to ask somebody's proxy for the loopback address.
        Self { agent: config.proxy(None).build().new_agent(), base: format!("https://127.0.0.1:{port}"), token }
    }

    /// `None` where no connection comes about.
    pub fn try_get(&self, path: &str) -> Option<Answer> {
        let request = self.agent.get(format!("{}{path}", self.base)).header("Accept", "application/json");
        self.authorized(request).call().ok().map(read)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.try_get(path).unwrap_or_else(|| panic!("no answer to GET {path}"))
    }

    /// Creates what `body` describes in the collection at `path`.
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        let request = self.agent.post(format!("{}{path}", self.base)).header("Content-Type", "application/json");
        read(self.authorized(request).send(body.to_string()).unwrap_or_else(|error| panic!("POST {path}: {error}")))
    }

    /// The same, which must succeed; what was created.
    #[track_caller]
    pub fn create(&self, path: &str, body: &Value) -> Value {
        let answer = self.post(path, body);
        assert_eq!(answer.status, 201, "POST {path}: {:#}", answer.body);
        answer.body
    }

    fn authorized<Body>(&self, request: RequestBuilder<Body>) -> RequestBuilder<Body> {
        self.token.iter().fold(request, |request, token| request.header("Authorization", format!("Bearer {token}")))
    }
}

fn read(mut response: Response<ureq::Body>) -> Answer {
    let text = response.body_mut().read_to_string().unwrap_or_default();
    Answer { status: response.status().as_u16(), body: serde_json::from_str(&text).unwrap_or(Value::Null) }
}
