//! What a registry asks for before it gives anything: `WWW-Authenticate` (RFC 9110 section 11.6.1) with `Basic` or
//! `Bearer` (distribution, "Token Authentication Specification"), and the user's credentials.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// One challenge of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Lower case.
    pub scheme: String,
    /// Names in lower case.
    pub params: BTreeMap<String, String>,
}

/// Parses a header of one or more challenges. What is malformed ends the list.
pub fn parse_challenges(header: &str) -> Vec<Challenge> {
    let mut out: Vec<Challenge> = Vec::new();
    let mut rest = header.trim_start_matches([' ', ',', '\t']);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        if word.is_empty() {
            break;
        }
        let value = tail.trim_start().strip_prefix('=').filter(|_| !out.is_empty());
        rest = match (value, out.last_mut()) {
            (Some(value), Some(challenge)) => {
                let Some((value, tail)) = parse_value(value.trim_start()) else { break };
                challenge.params.insert(word.to_ascii_lowercase(), value);
                tail
            }
            _ => {
                out.push(Challenge { scheme: word.to_ascii_lowercase(), params: BTreeMap::new() });
                tail
            }
        };
        rest = rest.trim_start_matches([' ', ',', '\t']);
    }
    out
}

/// RFC 9110 section 5.6.2.
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

/// A token or a quoted string, and what follows it.
fn parse_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| !is_token(c)).unwrap_or(text.len());
        return Some((text[..end].into(), &text[end..]));
    };
    let (mut value, mut chars) = (String::new(), quoted.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

/// Where to ask for a token to pull `repository`. `None` without a realm.
pub fn token_url(challenge: &Challenge, repository: &str) -> Option<String> {
    let realm = challenge.params.get("realm")?;
    let default_scope = format!("repository:{repository}:pull");
    let scope = challenge.params.get("scope").unwrap_or(&default_scope);
    let mut url = format!("{realm}{}scope={}", if realm.contains('?') { '&' } else { '?' }, percent_encode(scope));
    if let Some(service) = challenge.params.get("service") {
        url += &format!("&service={}", percent_encode(service));
    }
    Some(url)
}

/// RFC 3986 section 2.1, with the unreserved characters of section 2.3 and those that are usual in scopes.
fn percent_encode(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/,".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// The token in a token server's answer.
pub fn parse_token(answer: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(answer).ok()?;
    answer.token.or(answer.access_token).filter(|token| !token.is_empty() && !token.contains(['\r', '\n']))
}

/// Where the user's credentials are: `config.json` in `$DOCKER_CONFIG`, else in `~/.docker`.
pub fn config_path(env: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let set = |name: &str| env(name).filter(|value| !value.is_empty());
    let dir = set("DOCKER_CONFIG").map(PathBuf::from).or_else(|| Some(Path::new(&set("HOME")?).join(".docker")))?;
    Some(dir.join("config.json"))
}

/// The `user:password` for a registry in the text of a `config.json`: `auth`, or `username` and `password`.
/// Credential helpers are not run.
pub fn credentials(config: &str, registry: &str) -> Result<Option<String>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        auths: BTreeMap<String, Login>,
    }
    #[derive(Deserialize)]
    struct Login {
        auth: Option<String>,
        username: Option<String>,
        password: Option<String>,
    }
    let config: Config = serde_json::from_str(config)?;
    let host = |key: &str| key.split("://").last().unwrap_or_default().split('/').next() == Some(registry);
    let Some((_, login)) = config.auths.into_iter().find(|(key, _)| host(key)) else { return Ok(None) };
    let decoded = login.auth.and_then(|auth| BASE64.decode(auth.trim()).ok());
    let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok()).filter(|text| text.contains(':'));
    Ok(decoded.or_else(|| Some(format!("{}:{}", login.username?, login.password?))))
}

/// The value of an `Authorization` header (RFC 7617 section 2).
pub fn basic(user_password: &str) -> String {
    format!("Basic {}", BASE64.encode(user_password))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let header = r#"Bearer realm="https://auth.example/t?x=1", service=reg, scope="repository:a/b:pull,push", Basic realm="a \"b\", c""#;
        let found = parse_challenges(header);
        assert_eq!(found.iter().map(|c| c.scheme.as_str()).collect::<Vec<_>>(), ["bearer", "basic"]);
        assert_eq!(found[0].params["scope"], "repository:a/b:pull,push");
        assert_eq!(found[1].params["realm"], "a \"b\", c");
        assert_eq!(
            token_url(&found[0], "a/b").unwrap(),
            "https://auth.example/t?x=1&scope=repository:a/b:pull,push&service=reg"
        );
        let bare = &parse_challenges("BEARER Realm=\"http://h/t\",service=\"a b&c\"")[0];
        assert_eq!(token_url(bare, "r").unwrap(), "http://h/t?scope=repository:r:pull&service=a%20b%26c");
        assert_eq!(token_url(&parse_challenges("Basic")[0], "r"), None);
        for odd in ["", " , ", "=x", "Bearer realm=\"open"] {
            assert!(parse_challenges(odd).iter().all(|c| c.params.is_empty()), "{odd}");
        }
    }

    #[test]
    fn logins() {
        let config = format!(
            r#"{{"auths": {{"a.example": {{"auth": "{}"}}, "https://b.example:5/v2/": {{"username": "u", "password": "p:w"}},
               "c.example": {{"identitytoken": "x"}}}}, "credsStore": "desktop"}}"#,
            BASE64.encode("me:se:cret")
        );
        let of = |registry: &str| credentials(&config, registry).unwrap();
        assert_eq!(of("a.example"), Some("me:se:cret".into()));
        assert_eq!(of("b.example:5"), Some("u:p:w".into()));
        assert_eq!((of("b.example"), of("c.example"), of("d.example")), (None, None, None));
        assert_eq!(credentials("{}", "a").unwrap(), None);
        assert!(credentials("nonsense", "a").is_err());
        assert_eq!(basic("Aladdin:open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(config_path(|name| (name == "HOME").then(|| "/h".into())), Some("/h/.docker/config.json".into()));
        assert_eq!(config_path(|_| Some("/d".into())), Some("/d/config.json".into()));
    }

    #[test]
    fn tokens() {
        assert_eq!(parse_token(br#"{"token":"t","access_token":"a"}"#), Some("t".into()));
        assert_eq!(parse_token(br#"{"access_token":"a","expires_in":60}"#), Some("a".into()));
        for bad in [&b"{}"[..], b"", br#"{"token":""}"#, br#"{"token":"a\r\nX: y"}"#] {
            assert_eq!(parse_token(bad), None);
        }
    }
}
