//! What a smoke boot waits for.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Written as `phases-done`, `ssh-answers` or `service:NAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Expectation {
    /// PID1 went through all phases, none failed.
    PhasesDone,
    /// Port 22 answers with SSH's version line.
    SshAnswers,
    /// The service of that name is ready by its own check.
    Service(String),
}

const PHASES_DONE: &str = "phases-done";
const SSH_ANSWERS: &str = "ssh-answers";
const SERVICE: &str = "service:";
/// Words of before any service could be waited for.
const FORMER: [(&str, &str); 2] = [("containerd-ready", "containerd"), ("kubelet-healthy", "kubelet")];

/// For lists of what is possible.
pub const WORDS: [&str; 3] = [PHASES_DONE, SSH_ANSWERS, "service:NAME"];

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PhasesDone => f.write_str(PHASES_DONE),
            Self::SshAnswers => f.write_str(SSH_ANSWERS),
            Self::Service(name) => write!(f, "{SERVICE}{name}"),
        }
    }
}

impl FromStr for Expectation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let former = FORMER.iter().find(|(word, _)| *word == text).map(|(_, service)| *service);
        match (text, former.or(text.strip_prefix(SERVICE))) {
            (PHASES_DONE, _) => Ok(Self::PhasesDone),
            (SSH_ANSWERS, _) => Ok(Self::SshAnswers),
            (_, Some(service)) if !service.is_empty() => Ok(Self::Service(service.into())),
            _ => Err(format!("expected one of {}", WORDS.map(|word| format!("`{word}`")).join(", "))),
        }
    }
}

impl From<Expectation> for String {
    fn from(expectation: Expectation) -> Self {
        expectation.to_string()
    }
}

impl TryFrom<String> for Expectation {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_mean_the_same_when_they_are_read_back() {
        let service = |name: &str| Expectation::Service(name.into());
        for (word, expectation) in [
            ("phases-done", Expectation::PhasesDone),
            ("ssh-answers", Expectation::SshAnswers),
            ("service:web", service("web")),
            ("service:phases-done", service("phases-done")),
        ] {
            assert_eq!(word.parse(), Ok(expectation.clone()));
            assert_eq!(expectation.to_string(), word);
        }
        assert_eq!("kubelet-healthy".parse(), Ok(service("kubelet")));
        assert_eq!("containerd-ready".parse(), Ok(service("containerd")));
        for bad in ["", "service", "service:", "kubelet", "phases"] {
            let error = bad.parse::<Expectation>().unwrap_err();
            assert_eq!(error, "expected one of `phases-done`, `ssh-answers`, `service:NAME`", "{bad}");
        }
    }
}
