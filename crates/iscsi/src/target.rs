//! The parameters of an iSCSI disk: portals, target name, LUN, credentials.

use std::fmt;

/// Longest name of a target or initiator in bytes (RFC 7143 section 4.2.7.1).
const NAME_LIMIT: usize = 223;

/// A secret. Its `Debug` prints no part of it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    pub fn new(secret: impl Into<String>) -> Secret {
        Secret(secret.into())
    }

    pub fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A CHAP name and its secret (RFC 7143 section 12.1.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credentials {
    pub user: String,
    pub secret: Secret,
}

/// The credentials of both sides.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Auth {
    /// With which we prove our identity to the target.
    pub ours: Option<Credentials>,
    /// With which the target proves its identity to us (mutual CHAP); only together with `ours`. An empty name accepts
    /// any name.
    pub theirs: Option<Credentials>,
}

/// Not a valid iSCSI name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no iscsi name: iqn.YYYY-MM.DOMAIN:NAME, eui.16HEX or naa.16HEX")]
pub struct NameError(String);

/// An iSCSI name in the form in which names are compared: lower case (RFC 7143 section 4.2.7, RFC 3722).
pub fn check_name(name: &str) -> Result<String, NameError> {
    let lower = name.to_ascii_lowercase();
    let hex = |digits: &str| digits.bytes().all(|b| b.is_ascii_hexdigit());
    let good = match lower.split_at_checked(4) {
        Some(("iqn.", rest)) => rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:".contains(&b) || b >= 0x80),
        Some(("eui.", rest)) => rest.len() == 16 && hex(rest),
        Some(("naa.", rest)) => matches!(rest.len(), 16 | 32) && hex(rest),
        _ => false,
    };
    match good && lower.len() > 4 && lower.len() <= NAME_LIMIT {
        true => Ok(lower),
        false => Err(NameError(name.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["iqn.2024-01.dev.bootwright:worker", "eui.02004567A425678D", "naa.52004567ba64678d"] {
            assert_eq!(check_name(good), Ok(good.to_ascii_lowercase()));
        }
        let long = ["iqn.", &"x".repeat(220)].concat();
        for bad in ["", "iqn", "iqn.", "disk1", "eui.12", "naa.5200", "iqn.2024-01.dev:a b", "iqn.é\0", &long] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let ours = Credentials { user: "node".into(), secret: Secret::new("very secret indeed") };
        let auth = Auth { ours: Some(ours), theirs: None };
        assert!(!format!("{auth:?}").contains("indeed"));
    }
}
