//! Keys and certificates of a test's servers, such as its control plane, made for it alone.

use base64::Engine;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// A certificate and its private key: both in PEM, or the paths of both.
#[derive(Debug, Clone)]
pub struct Identity<T = String> {
    pub certificate: T,
    pub key: T,
}

/// A certificate authority, such as that of one control plane.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    identity: Identity,
}

impl Authority {
    pub fn fresh() -> Self {
        let key = key_pair();
        let mut params = params("test authority", &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let certificate = params.self_signed(&key).expect("the key can sign").pem();
        let identity = Identity { certificate, key: key.serialize_pem() };
        Self { issuer: Issuer::new(params, key), identity }
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    pub fn certificate(&self) -> &str {
        &self.identity.certificate
    }

    /// A server at these addresses.
    pub fn server(&self, addresses: &[&str]) -> Identity {
        let mut params = params("kube-apiserver", &[]);
        let names = CertificateParams::new(addresses.iter().map(|a| a.to_string()).collect::<Vec<_>>());
        params.subject_alt_names = names.expect("addresses are ASCII").subject_alt_names;
        self.sign(params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client with the name of a user, in these groups.
    pub fn client(&self, user: &str, groups: &[&str]) -> Identity {
        self.sign(params(user, groups), ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(&self, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose) -> Identity {
        params.extended_key_usages = vec![usage];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        let key = key_pair();
        let certificate = params.signed_by(&key, &self.issuer).expect("the authority can sign").pem();
        Identity { certificate, key: key.serialize_pem() }
    }
}

/// A request for a certificate of that user in these groups, in PEM (RFC 2986), and the private key.
pub fn certificate_request(user: &str, groups: &[&str]) -> (String, String) {
    let key = key_pair();
    let request = params(user, groups).serialize_request(&key).and_then(|request| request.pem());
    (request.expect("the key can sign"), key.serialize_pem())
}

/// A private key and its public one, in PEM.
pub fn new_keys() -> (String, String) {
    let key = key_pair();
    (key.serialize_pem(), key.public_key_pem())
}

pub fn base64(text: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(text)
}

fn key_pair() -> KeyPair {
    KeyPair::generate().expect("the kernel gives random bytes")
}

/// Kubernetes takes the common name for the user's and each organization for a group.
fn params(user: &str, groups: &[&str]) -> CertificateParams {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, user);
    for group in groups {
        name.push(DnType::OrganizationName, *group);
    }
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params
}
