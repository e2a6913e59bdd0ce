//! Dependencies between services.

use bootwright_contract::{PhaseId, Service};

/// The built-in targets of `after`: a service that names one is started when the phase of that name is over.
pub const NETWORK: &str = PhaseId::Network.name();
pub const TIME: &str = PhaseId::Time.name();

/// What is wrong with the dependencies of services.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    #[error("service `{service}` comes after `{after}`, which does not exist")]
    Unknown { service: String, after: String },
    #[error("services wait for each other: {}", names.join(" after "))]
    Cycle { names: Vec<String> },
}

/// Checks that every dependency exists and that no services wait for each other.
///
/// # Errors
/// [`OrderError`]
pub fn check_order(services: &[Service]) -> Result<(), OrderError> {
    for service in services {
        for after in service.after.iter().filter(|after| *after != NETWORK && *after != TIME) {
            if !services.iter().any(|other| other.name == *after) {
                return Err(OrderError::Unknown { service: service.name.clone(), after: after.clone() });
            }
        }
    }
    // Removes services that can be started, again and again. Those that are left wait for each other.
    let mut left: Vec<&Service> = services.iter().collect();
    loop {
        let before = left.len();
        let names: Vec<&str> = left.iter().map(|service| &service.name[..]).collect();
        left.retain(|service| service.after.iter().any(|after| names.contains(&&after[..])));
        if left.is_empty() {
            return Ok(());
        }
        if left.len() == before {
            return Err(OrderError::Cycle { names: names.into_iter().map(String::from).collect() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bootwright_contract::fixture::service;

    #[test]
    fn orders() {
        let with = |pairs: &[(&str, &[&str])]| -> Vec<Service> {
            pairs
                .iter()
                .map(|(name, after)| {
                    let mut service = service(name, &["/bin/true"]);
                    service.after = after.iter().map(|a| a.to_string()).collect();
                    service
                })
                .collect()
        };
        assert_eq!(check_order(&with(&[("kubelet", &["containerd", "network"]), ("containerd", &[])])), Ok(()));
        let unknown = check_order(&with(&[("kubelet", &["containrd"])])).expect_err("unknown").to_string();
        assert_eq!(unknown, "service `kubelet` comes after `containrd`, which does not exist");
        for cycle in [&[("a", &["a"][..])][..], &[("a", &["b"]), ("b", &["c"]), ("c", &["a"]), ("d", &[])]] {
            assert!(matches!(check_order(&with(cycle)), Err(OrderError::Cycle { .. })), "{cycle:?}");
        }
    }
}
