//! Certificate requests of nodes (PKCS #10, RFC 2986): what they ask for. That a request's maker has its key is the API server's to check.

use super::{NODE_GROUP, NODE_USER};
use std::net::IpAddr;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{OID_X509_COMMON_NAME, OID_X509_ORGANIZATION_NAME};
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;

/// What a node's request asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeRequest {
    /// In the cluster.
    pub node: String,
    /// Names that the certificate shall be good for; none for a client's.
    pub names: Vec<String>,
    pub addresses: Vec<IpAddr>,
}

/// Why a request is none of a node.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BadRequest {
    #[error("it is no certificate request in PEM")]
    Unreadable,
    #[error("it does not ask for exactly one name `{NODE_USER}NODE` in the group `{NODE_GROUP}`")]
    Subject,
    #[error("it asks for more than names and addresses")]
    Extension,
}

/// Reads a request for the certificate of one node, in its one group, and for nothing else.
pub fn parse_request(pem: &str) -> Result<NodeRequest, BadRequest> {
    let (_, block) = parse_x509_pem(pem.as_bytes()).map_err(|_| BadRequest::Unreadable)?;
    if block.label != "CERTIFICATE REQUEST" {
        return Err(BadRequest::Unreadable);
    }
    let (rest, request) = X509CertificationRequest::from_der(&block.contents).map_err(|_| BadRequest::Unreadable)?;
    if !rest.is_empty() {
        return Err(BadRequest::Unreadable);
    }
    let mut found = NodeRequest { node: node_of(&request)?, names: Vec::new(), addresses: Vec::new() };
    for extension in request.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(asked) = extension else { return Err(BadRequest::Extension) };
        for name in &asked.general_names {
            match name {
                GeneralName::DNSName(name) => found.names.push((*name).into()),
                GeneralName::IPAddress(bytes) => found.addresses.push(address(bytes).ok_or(BadRequest::Unreadable)?),
                _ => return Err(BadRequest::Extension),
            }
        }
    }
    Ok(found)
}

/// The subject is one name and one organization, which Kubernetes takes for user and group.
fn node_of(request: &X509CertificationRequest<'_>) -> Result<String, BadRequest> {
    let (mut user, mut group) = (None, None);
    for attribute in request.certification_request_info.subject.iter_attributes() {
        let text = attribute.as_str().map_err(|_| BadRequest::Subject)?;
        let place = match attribute.attr_type() {
            kind if *kind == OID_X509_COMMON_NAME => &mut user,
            kind if *kind == OID_X509_ORGANIZATION_NAME => &mut group,
            _ => return Err(BadRequest::Subject),
        };
        if place.replace(text).is_some() {
            return Err(BadRequest::Subject);
        }
    }
    let node = user.and_then(|user| user.strip_prefix(NODE_USER)).filter(|node| !node.is_empty());
    match (node, group) {
        (Some(node), Some(NODE_GROUP)) => Ok(node.into()),
        _ => Err(BadRequest::Subject),
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(four));
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    fn request(attributes: &[(DnType, &str)], names: Vec<SanType>) -> String {
        let mut name = DistinguishedName::new();
        for (kind, value) in attributes {
            name.push(kind.clone(), *value);
        }
        let mut params = CertificateParams::default();
        params.distinguished_name = name;
        params.subject_alt_names = names;
        params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap()
    }

    const USER: (DnType, &str) = (DnType::CommonName, "system:node:n1");
    const GROUP: (DnType, &str) = (DnType::OrganizationName, "system:nodes");

    #[test]
    fn a_nodes_request_is_read() {
        let client = parse_request(&request(&[GROUP, USER], vec![])).unwrap();
        assert_eq!(client, NodeRequest { node: "n1".into(), names: vec![], addresses: vec![] });
        let addresses: Vec<IpAddr> = vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        let mut names = vec![SanType::DnsName("n1".try_into().unwrap())];
        names.extend(addresses.iter().map(|ip| SanType::IpAddress(*ip)));
        let serving = parse_request(&request(&[USER, GROUP], names)).unwrap();
        assert_eq!((serving.names, serving.addresses), (vec!["n1".to_string()], addresses));
    }

    #[test]
    fn others_are_refused() {
        let masters = (DnType::OrganizationName, "system:masters");
        for (subject, problem) in [
            (vec![USER], BadRequest::Subject),
            (vec![GROUP], BadRequest::Subject),
            (vec![USER, masters], BadRequest::Subject),
            (vec![(DnType::CommonName, "system:admin"), GROUP], BadRequest::Subject),
            (vec![(DnType::CommonName, "system:node:"), GROUP], BadRequest::Subject),
            (vec![USER, GROUP, (DnType::OrganizationalUnitName, "x")], BadRequest::Subject),
        ] {
            assert_eq!(parse_request(&request(&subject, vec![])), Err(problem), "{subject:?}");
        }
        let mail = vec![SanType::Rfc822Name("a@b.example".try_into().unwrap())];
        assert_eq!(parse_request(&request(&[USER, GROUP], mail)), Err(BadRequest::Extension));
        let good = request(&[USER, GROUP], vec![]);
        for text in
            ["", "x", &good.replace("CERTIFICATE REQUEST", "CERTIFICATE"), &good.replacen("\nMI", "\nXX", 1)[..]]
        {
            assert_eq!(parse_request(text), Err(BadRequest::Unreadable), "{text}");
        }
    }
}
