//! The login (RFC 7143 sections 6 and 11.12): the security stage, then the operational stage, over any [`Transport`] of
//! PDUs.

use super::chap::{Challenge, Chap, ChapError};
use super::negotiate::{Agreed, NegotiateError, offer};
use super::pdu::{Isid, LoginRequest, LoginResponse, LoginStage, LoginStatus};
use super::target::Auth;
use super::text::{TEXT_LIMIT, Text, TextError, parse_text};
use super::transport::TransportError;

/// A login that needs more requests is given up.
const MOST_REQUESTS: usize = 24;

/// The parameters of a login.
#[derive(Debug, Clone, Copy)]
pub struct Login<'a> {
    pub initiator: &'a str,
    /// Name of the target; `None` for a discovery session.
    pub target: Option<&'a str>,
    pub isid: Isid,
    pub auth: &'a Auth,
    /// Random bytes for mutual CHAP.
    pub challenge: Challenge,
    /// Offer no SHA256.
    pub old_chap: bool,
}

/// Sends a request and receives its response.
pub trait Transport {
    fn exchange(&mut self, request: &LoginRequest, text: &[u8]) -> Result<(LoginResponse, Vec<u8>), TransportError>;
}

/// The outcome of a login that did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginOutcome {
    LoggedIn(LoggedIn),
    /// The target is at another address: `host:port`, IPv6 in brackets.
    Moved {
        address: String,
        permanent: bool,
    },
}

/// A session that is logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedIn {
    pub agreed: Agreed,
    /// StatSN of the last response.
    pub status_number: u32,
    /// ExpCmdSN of the last response.
    pub expected_command: u32,
}

/// Why a login failed.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    #[error("{} (class {}, detail {})", status.meaning(), status.class, status.detail)]
    Refused {
        status: LoginStatus,
        /// The refusal followed an answer by SHA256. Targets that take the number of SHA256 for SHA1 refuse it.
        sha256: bool,
    },
    #[error(transparent)]
    Chap(#[from] ChapError),
    #[error(transparent)]
    Negotiate(#[from] NegotiateError),
    #[error(transparent)]
    Text(#[from] TextError),
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("the target says that it moved, and not where to")]
    NoAddress,
    #[error("the target went to another stage of the login than it was asked for")]
    Stage,
    #[error("the target let us in without the proof that it was asked for")]
    NoProof,
    #[error("the login did not come to an end after {MOST_REQUESTS} requests")]
    Endless,
}

/// Logs in.
///
/// # Errors
/// [`LoginError`]
pub fn log_in(transport: &mut dyn Transport, login: &Login) -> Result<LoginOutcome, LoginError> {
    let mut talk = LoginExchange { transport, isid: login.isid, status_number: None, expected_command: 0, requests: 0 };
    match security(&mut talk, login).and_then(|agreed| operational(&mut talk, login, agreed)) {
        Ok(agreed) => {
            let (status_number, expected_command) = (talk.status_number.unwrap_or(0), talk.expected_command);
            Ok(LoginOutcome::LoggedIn(LoggedIn { agreed, status_number, expected_command }))
        }
        Err(LoginEnd::Moved { address, permanent }) => Ok(LoginOutcome::Moved { address, permanent }),
        Err(LoginEnd::Failed(error)) => Err(error),
    }
}

impl LoginError {
    /// Whether another attempt without SHA256 may succeed.
    pub fn asks_for_old_chap(&self) -> bool {
        matches!(self, LoginError::Refused { sha256: true, .. })
    }
}

/// Why a login ends before the full feature phase.
enum LoginEnd {
    Moved { address: String, permanent: bool },
    Failed(LoginError),
}

impl<E: Into<LoginError>> From<E> for LoginEnd {
    fn from(error: E) -> LoginEnd {
        LoginEnd::Failed(error.into())
    }
}

/// The security stage: names and CHAP. Ends in the operational stage.
fn security(talk: &mut LoginExchange, login: &Login) -> Result<Agreed, LoginEnd> {
    let mut chap = Chap::new(login.auth, login.challenge, login.old_chap)?;
    let mut agreed = Agreed::default();
    let mut text = Text::default();
    text.push("InitiatorName", login.initiator);
    match login.target {
        Some(target) => {
            text.push("TargetName", target);
            text.push("SessionType", "Normal");
        }
        None => text.push("SessionType", "Discovery"),
    }
    text.push("AuthMethod", chap.methods());
    // With methods on offer, the target chooses one before the stage ends.
    let mut next = if login.auth.ours.is_none() { LoginStage::Operational } else { LoginStage::Security };
    loop {
        let said = match talk.say(LoginStage::Security, next, &text) {
            Err(LoginEnd::Failed(LoginError::Refused { status, .. })) => {
                return Err(LoginError::Refused { status, sha256: chap.is_sha256() }.into());
            }
            said => said?,
        };
        agreed.portal_group = said.text.number("TargetPortalGroupTag")?.or(agreed.portal_group);
        text = chap.answer(&said.text)?;
        match said.next {
            Some(LoginStage::Operational) if chap.is_done() => return Ok(agreed),
            Some(LoginStage::Operational) => return Err(LoginError::NoProof.into()),
            Some(_) => return Err(LoginError::Stage.into()),
            None => {}
        }
        next = if chap.may_go_on() { LoginStage::Operational } else { LoginStage::Security };
    }
}

/// The operational stage: parameters. Ends in the full feature phase.
fn operational(talk: &mut LoginExchange, login: &Login, mut agreed: Agreed) -> Result<Agreed, LoginEnd> {
    let offered = offer(login.target.is_none());
    let mut text = offered.clone();
    loop {
        let said = talk.say(LoginStage::Operational, LoginStage::FullFeature, &text)?;
        text = agreed.take(&said.text, &offered)?;
        match said.next {
            Some(LoginStage::FullFeature) => return Ok(agreed),
            Some(_) => return Err(LoginError::Stage.into()),
            None => {}
        }
    }
}

/// The requests and responses of one login.
struct LoginExchange<'a> {
    transport: &'a mut dyn Transport,
    isid: Isid,
    status_number: Option<u32>,
    expected_command: u32,
    requests: usize,
}

/// A text of the target, which may have taken several PDUs.
struct LoginAnswer {
    text: Text,
    next: Option<LoginStage>,
}

impl LoginExchange<'_> {
    fn say(&mut self, stage: LoginStage, next: LoginStage, text: &Text) -> Result<LoginAnswer, LoginEnd> {
        let (mut response, mut bytes) = self.exchange(stage, next, &text.encode())?;
        while response.goes_on {
            // An empty request asks for the next part (RFC 7143 section 6.2).
            let (following, more) = self.exchange(stage, stage, &[])?;
            bytes.extend_from_slice(&more);
            if bytes.len() > TEXT_LIMIT {
                return Err(TextError::TooLong.into());
            }
            response = following;
        }
        let text = parse_text(&bytes);
        match response.status.class {
            0 => Ok(LoginAnswer { text: text?, next: response.next }),
            1 => {
                let text = text?;
                let address = text.value("TargetAddress").ok_or(LoginError::NoAddress)?;
                // A comma and a portal group may follow.
                let address = address.split(',').next().unwrap_or_default().into();
                Err(LoginEnd::Moved { address, permanent: response.status.detail == 2 })
            }
            _ => Err(LoginError::Refused { status: response.status, sha256: false }.into()),
        }
    }

    fn exchange(
        &mut self,
        stage: LoginStage,
        next: LoginStage,
        text: &[u8],
    ) -> Result<(LoginResponse, Vec<u8>), LoginError> {
        self.requests += 1;
        if self.requests > MOST_REQUESTS {
            return Err(LoginError::Endless);
        }
        let expected_status = self.status_number.map_or(0, |number| number.wrapping_add(1));
        let request = LoginRequest { stage, next, isid: self.isid, task_tag: 1, command_number: 1, expected_status };
        let (response, text) = self.transport.exchange(&request, text)?;
        self.status_number = Some(response.status_number);
        self.expected_command = response.expected_command;
        Ok((response, text))
    }
}

#[cfg(test)]
mod tests;
