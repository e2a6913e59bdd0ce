//! One GET: agents, proxies, certificates, and what an answer's status means.

use super::FetchError;
use super::{Patience, Via};
use std::sync::OnceLock;
use ureq::http::Response;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};
use ureq::{Agent, Body, Proxy};

/// Debian's bundle of CA certificates, which holds those that the machine's owner added.
const SYSTEM_CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Why there is no answer to read a body from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    Status(u16),
    Transport(String),
}

impl Refusal {
    /// Asking again would not help. Transient (RFC 9110 section 15, RFC 8470, RFC 6585): 408, 425, 429 and 5xx.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Status(status) if !matches!(status, 408 | 425 | 429 | 500..))
    }

    pub fn to_error(&self, name: &str, version: &str, url: &str) -> FetchError {
        match self {
            Self::Status(404 | 410) => {
                FetchError::Gone { name: name.into(), version: version.into(), place: redact(url) }
            }
            Self::Status(status) => failure(name, url, format_args!("answers with status {status}")),
            Self::Transport(cause) => failure(name, url, cause),
        }
    }
}

pub fn failure(name: &str, url: &str, cause: impl std::fmt::Display) -> FetchError {
    FetchError::Failed { name: name.into(), cause: format!("{}: {cause}", redact(url)) }
}

/// GETs `url`, from byte `from` on if given. Answers other than 200, 206 and 416 are refusals.
pub fn get(
    url: &str,
    via: Via<'_>,
    headers: &[(String, String)],
    from: Option<u64>,
    patience: Patience,
) -> Result<Result<Response<Body>, Refusal>, FetchError> {
    let mut request = agent(url)?.get(url);
    request = match via {
        Via::Environment => request,
        Via::Direct => request.config().proxy(None).build(),
        Via::Proxy(address) => {
            request.config().proxy(Some(Proxy::new(address).map_err(|_| bad_proxy(address))?)).build()
        }
    };
    for (name, value) in headers {
        request = request.header(name, value);
    }
    if let Some(from) = from {
        request = request.header("Range", format!("bytes={from}-"));
    }
    let request = request
        .config()
        .http_status_as_error(false)
        .timeout_resolve(Some(patience.connect))
        .timeout_connect(Some(patience.connect))
        .timeout_recv_response(Some(patience.connect))
        .timeout_per_read(Some(patience.stall))
        .build();
    Ok(match request.call() {
        Ok(answer) if matches!(answer.status().as_u16(), 200 | 206 | 416) => Ok(answer),
        Ok(answer) => Err(Refusal::Status(answer.status().as_u16())),
        // Its text would show the address with credentials.
        Err(ureq::Error::BadUri(_)) => Err(Refusal::Transport("not an address".into())),
        Err(e) => Err(Refusal::Transport(e.to_string())),
    })
}

/// The HTTP client for an address; connections are kept between calls. Headers that authorise are not sent on to
/// another host.
///
/// # Errors
/// [`FetchError::Unusable`] for a proxy variable or certificate file that cannot be used.
pub fn agent(url: &str) -> Result<&'static Agent, FetchError> {
    static HTTP: OnceLock<Result<Agent, Unusable>> = OnceLock::new();
    static HTTPS: OnceLock<Result<Agent, Unusable>> = OnceLock::new();
    let env = |name: &str| std::env::var(name).ok();
    let https = url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"));
    let made =
        if https { HTTPS.get_or_init(|| new_agent("https", env)) } else { HTTP.get_or_init(|| new_agent("http", env)) };
    made.as_ref().map_err(|unusable| FetchError::Unusable {
        subject: unusable.variable.clone(),
        problem: unusable.problem.clone(),
        help: format!("correct or unset `{}`", unusable.variable),
    })
}

fn bad_proxy(address: &str) -> FetchError {
    FetchError::Unusable {
        subject: redact(address),
        problem: "it is no proxy address".into(),
        help: "correct the proxy in the configuration of the host's package manager".into(),
    }
}

/// An environment variable that cannot be used.
#[derive(Debug, Clone, PartialEq)]
struct Unusable {
    variable: String,
    problem: String,
}

fn new_agent(scheme: &str, env: impl Fn(&str) -> Option<String>) -> Result<Agent, Unusable> {
    // A redirect may lead from one scheme to the other: both need certificates.
    let tls = TlsConfig::builder().root_certs(root_certificates(&env)?).build();
    let config = Agent::config_builder()
        .proxy(proxy_for(scheme, &env)?)
        .tls_config(tls)
        .user_agent(concat!("bootwright/", env!("CARGO_PKG_VERSION")));
    Ok(config.build().into())
}

/// The proxy of a scheme as curl(1) reads it: `http_proxy` or `https_proxy`, else `all_proxy`, but for hosts in
/// `no_proxy`; upper case counts where lower case is not set.
fn proxy_for(scheme: &str, env: impl Fn(&str) -> Option<String>) -> Result<Option<Proxy>, Unusable> {
    let lookup = |name: String| {
        let names = [name.clone(), name.to_ascii_uppercase()];
        names.into_iter().find_map(|name| env(&name).filter(|value| !value.is_empty()).map(|value| (name, value)))
    };
    let Some((variable, value)) = lookup(format!("{scheme}_proxy")).or_else(|| lookup("all_proxy".into())) else {
        return Ok(None);
    };
    let unusable = |_| Unusable { variable: variable.clone(), problem: "its value is no proxy address".into() };
    let given = Proxy::new(&value).map_err(unusable)?;
    let mut proxy = Proxy::builder(given.protocol()).host(given.host()).port(given.port());
    if let (Some(user), Some(password)) = (given.username(), given.password()) {
        proxy = proxy.username(user).password(password);
    }
    let direct = lookup("no_proxy".into()).map(|(_, value)| value).unwrap_or_default();
    for host in direct.split(',').map(str::trim).filter(|host| !host.is_empty()) {
        proxy = proxy.no_proxy(host);
        if !host.starts_with(['.', '*']) {
            // Hosts below a domain are meant too.
            proxy = proxy.no_proxy(&format!(".{host}"));
        }
    }
    proxy.build().map(Some).map_err(unusable)
}

/// `SSL_CERT_FILE`, else the system's bundle, else Mozilla's as compiled in.
fn root_certificates(env: impl Fn(&str) -> Option<String>) -> Result<RootCerts, Unusable> {
    let variable = "SSL_CERT_FILE";
    let named = env(variable).filter(|value| !value.is_empty());
    let found = match std::fs::read(named.as_deref().unwrap_or(SYSTEM_CERTIFICATES)) {
        Ok(pem) => certificates(&pem),
        Err(_) if named.is_none() => Vec::new(),
        Err(cause) => return Err(Unusable { variable: variable.into(), problem: format!("cannot be read: {cause}") }),
    };
    match (found.is_empty(), named) {
        (false, _) => Ok(RootCerts::from(found)),
        (true, None) => Ok(RootCerts::WebPki),
        (true, Some(_)) => Err(Unusable { variable: variable.into(), problem: "it holds no certificate".into() }),
    }
}

fn certificates(pem: &[u8]) -> Vec<Certificate<'static>> {
    let items = ureq::tls::parse_pem(pem).filter_map(Result::ok);
    items.filter_map(|item| if let PemItem::Certificate(found) = item { Some(found) } else { None }).collect()
}

/// An address without what may be secret: user, password and query.
pub fn redact(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.into() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_secrets() {
        assert_eq!(redact("https://u:p%40@host:8/a/b?token=x#y"), "https://host:8/a/b");
        assert_eq!(redact("http://a@b@host"), "http://host");
        assert_eq!(redact("http://host/a@b"), "http://host/a@b");
        assert_eq!(redact("odd?secret"), "odd");
    }

    #[test]
    fn each_scheme_has_its_proxy() {
        let env = |name: &str| {
            let value = match name {
                "http_proxy" => "http://user:word@cache.lan:3128",
                "ALL_PROXY" => "socks5://tor:9050",
                "no_proxy" => "localhost, corp.example",
                _ => return None,
            };
            Some(value.to_string())
        };
        let http = proxy_for("http", env).unwrap().unwrap();
        assert_eq!((http.host(), http.port(), http.username()), ("cache.lan", 3128, Some("user")));
        for (host, direct) in
            [("localhost", true), ("corp.example", true), ("a.corp.example", true), ("b.example", false)]
        {
            let uri = format!("http://{host}/x").parse().unwrap();
            assert_eq!(http.is_no_proxy(&uri), direct, "{host}");
        }
        let https = proxy_for("https", env).unwrap().unwrap();
        assert_eq!((https.host(), https.port()), ("tor", 9050));
        assert!(proxy_for("https", |_| None).unwrap().is_none());
        let broken = proxy_for("http", |name| (name == "http_proxy").then(|| "http://:x:".into())).unwrap_err();
        assert_eq!(broken.variable, "http_proxy");
    }

    #[test]
    fn a_certificate_file_that_was_named_must_be_usable() {
        let empty = tempfile::NamedTempFile::new().unwrap();
        for path in ["/does/not/exist", empty.path().to_str().unwrap()] {
            let error = root_certificates(|_| Some(path.into())).unwrap_err();
            assert_eq!(error.variable, "SSL_CERT_FILE");
        }
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let tried_again: Vec<u16> = (400..600).filter(|&status| !Refusal::Status(status).is_final()).collect();
        assert_eq!(tried_again, [408, 425, 429].into_iter().chain(500..600).collect::<Vec<_>>());
        assert!(!Refusal::Transport("reset".into()).is_final());
    }
}
