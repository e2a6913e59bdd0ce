//! Approves what kubelets ask for by themselves: certificates to serve with, and new ones in place of those that end.

use super::certify::{approve, condition};
use super::{Api, ApiError, CLIENT_SIGNER, NODE_USER, NodeRequest, REQUESTS, SERVING_SIGNER, parse_request};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use std::collections::HashSet;
use std::net::IpAddr;

/// What a certificate of either kind may be used for; the first key encipherment is RSA's.
const SERVING_USAGES: [&str; 3] = ["key encipherment", "digital signature", "server auth"];
const CLIENT_USAGES: [&str; 3] = ["key encipherment", "digital signature", "client auth"];

/// What became of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    Approved,
    /// It is none of ours: a node that nodes.toml does not know, or one that is decided.
    Others,
    /// It stays as it is, for an administrator to judge.
    Left(String),
}

/// Looks through a cluster's requests again and again.
#[derive(Debug, Default)]
pub struct Approver {
    /// Those that were left: each is told of once.
    told: HashSet<String>,
}

impl Approver {
    /// Looks once. `addresses_of` knows where a node is, or `None` for a node that nodes.toml has not. What to say, a line a request.
    ///
    /// # Errors
    /// What was decided before it stays so.
    pub fn look(
        &mut self,
        api: &Api,
        addresses_of: impl Fn(&str) -> Option<Vec<IpAddr>>,
    ) -> Result<Vec<String>, ApiError> {
        let (mut lines, mut there) = (Vec::new(), HashSet::new());
        for signer in [SERVING_SIGNER, CLIENT_SIGNER] {
            let list = api.get(&format!("{REQUESTS}?fieldSelector=spec.signerName={signer}"))?;
            for request in list["items"].as_array().into_iter().flatten() {
                let name = request["metadata"]["name"].as_str().unwrap_or_default().to_string();
                match judge(request, signer, &addresses_of) {
                    Verdict::Others => {}
                    Verdict::Approved => {
                        // Lists leave out what each item is.
                        let mut whole = request.clone();
                        whole["apiVersion"] = "certificates.k8s.io/v1".into();
                        whole["kind"] = "CertificateSigningRequest".into();
                        approve(api, &format!("{REQUESTS}/{name}"), whole, "names and addresses are the node's")?;
                        lines.push(format!("{}: certificate approved ({name}, {signer})", user(request)));
                    }
                    Verdict::Left(reason) => {
                        if !self.told.contains(&name) {
                            lines.push(format!(
                                "warning: {}: certificate not approved ({name}, {signer}): {reason}",
                                user(request)
                            ));
                        }
                        there.insert(name);
                    }
                }
            }
        }
        self.told = there;
        Ok(lines)
    }
}

fn user(request: &Value) -> &str {
    request["spec"]["username"].as_str().unwrap_or_default()
}

/// Judges a request of the API.
fn judge(request: &Value, signer: &str, addresses_of: impl Fn(&str) -> Option<Vec<IpAddr>>) -> Verdict {
    if ["Approved", "Denied", "Failed"].iter().any(|kind| condition(request, kind).is_some()) {
        return Verdict::Others;
    }
    let Some(node) = user(request).strip_prefix(NODE_USER) else { return Verdict::Others };
    let Some(addresses) = addresses_of(node) else { return Verdict::Others };
    let usages: &[&str] = if signer == SERVING_SIGNER { &SERVING_USAGES } else { &CLIENT_USAGES };
    let asked = request["spec"]["usages"].as_array();
    let odd = asked.into_iter().flatten().find(|usage| !usage.as_str().is_some_and(|usage| usages.contains(&usage)));
    if let Some(usage) = odd {
        return Verdict::Left(format!("it is to be used for {usage}"));
    }
    let pem = request["spec"]["request"].as_str().and_then(|text| STANDARD.decode(text).ok());
    let pem = pem.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
    match parse_request(&pem) {
        Err(problem) => Verdict::Left(problem.to_string()),
        Ok(asked) => judge_names(&asked, node, signer, &addresses),
    }
}

fn judge_names(asked: &NodeRequest, node: &str, signer: &str, addresses: &[IpAddr]) -> Verdict {
    if asked.node != node {
        return Verdict::Left(format!("it asks for the name of `{}`", asked.node));
    }
    let has_names = !asked.names.is_empty() || !asked.addresses.is_empty();
    if has_names != (signer == SERVING_SIGNER) {
        return Verdict::Left("a serving certificate has names or addresses, and no other has".into());
    }
    if let Some(name) = asked.names.iter().find(|name| *name != node) {
        return Verdict::Left(format!("it asks for the name `{name}`"));
    }
    match asked.addresses.iter().find(|ip| !addresses.contains(ip)) {
        Some(ip) => Verdict::Left(format!(
            "it asks for the address {ip}, which is neither its `address` in nodes.toml nor where it was seen{}",
            addresses.iter().map(|seen| format!(" ({seen})")).collect::<String>()
        )),
        None => Verdict::Approved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};
    use serde_json::json;

    /// A request as the API shows it, of `user`, for the certificate of `subject`.
    fn request(user: &str, subject: &str, names: &[&str], signer: &str) -> Value {
        let mut params = CertificateParams::new(names.iter().map(|name| name.to_string()).collect::<Vec<_>>()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("system:node:{subject}"));
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        assert!(
            params.subject_alt_names.iter().all(|name| matches!(name, SanType::DnsName(_) | SanType::IpAddress(_)))
        );
        let pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        let usage = if signer == SERVING_SIGNER { "server auth" } else { "client auth" };
        json!({
            "metadata": { "name": "csr-1" },
            "spec": {
                "username": user, "signerName": signer, "usages": ["digital signature", usage],
                "request": STANDARD.encode(pem),
            },
            "status": {},
        })
    }

    fn judged(request: &Value, signer: &str) -> Verdict {
        let address: IpAddr = "192.0.2.7".parse().unwrap();
        judge(request, signer, |node| (node == "n1").then(|| vec![address]))
    }

    #[test]
    fn a_node_gets_what_is_its_own() {
        let serving = request("system:node:n1", "n1", &["n1", "192.0.2.7"], SERVING_SIGNER);
        assert_eq!(judged(&serving, SERVING_SIGNER), Verdict::Approved);
        let renewal = request("system:node:n1", "n1", &[], CLIENT_SIGNER);
        assert_eq!(judged(&renewal, CLIENT_SIGNER), Verdict::Approved);
    }

    #[test]
    fn what_is_anothers_is_left() {
        for (user, subject, names, signer, said) in [
            ("system:node:n1", "n2", &["n2"][..], SERVING_SIGNER, "asks for the name of `n2`"),
            ("system:node:n1", "n1", &["n2"], SERVING_SIGNER, "the name `n2`"),
            ("system:node:n1", "n1", &["n1", "192.0.2.1"], SERVING_SIGNER, "192.0.2.1, which is neither its `address`"),
            ("system:node:n1", "n1", &[], SERVING_SIGNER, "a serving certificate has names"),
            ("system:node:n1", "n1", &["n1"], CLIENT_SIGNER, "no other has"),
        ] {
            let Verdict::Left(reason) = judged(&request(user, subject, names, signer), signer) else {
                panic!("{subject} {names:?}")
            };
            assert!(reason.contains(said), "{reason}");
        }
        let mut odd = request("system:node:n1", "n1", &["n1"], SERVING_SIGNER);
        odd["spec"]["usages"] = json!(["client auth"]);
        assert!(matches!(judged(&odd, SERVING_SIGNER), Verdict::Left(_)));
        odd["spec"]["request"] = "!".into();
        odd["spec"]["usages"] = json!(["server auth"]);
        assert!(matches!(judged(&odd, SERVING_SIGNER), Verdict::Left(_)));
    }

    #[test]
    fn what_is_decided_or_none_of_ours_is_not_touched() {
        let stranger = request("system:node:n9", "n9", &["n9"], SERVING_SIGNER);
        let bootstrap = request("system:bootstrap:abcdef", "n1", &[], CLIENT_SIGNER);
        let mut denied = request("system:node:n1", "n1", &["n1"], SERVING_SIGNER);
        denied["status"]["conditions"] = json!([{ "type": "Denied", "message": "no" }]);
        for (request, signer) in [(stranger, SERVING_SIGNER), (bootstrap, CLIENT_SIGNER), (denied, SERVING_SIGNER)] {
            assert_eq!(judged(&request, signer), Verdict::Others, "{request:#}");
        }
    }
}
