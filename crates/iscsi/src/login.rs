//! A login (RFC 7143 sections 6 and 11.12): the security stage, then the operational one, over whatever carries PDUs.

use super::chap::{Challenge, Chap, ChapError};
use super::negotiate::{Agreed, NegotiateError, offer};
use super::pdu::{Isid, LoginRequest, LoginResponse, Stage, Status};
use super::target::Auth;
use super::text::{TEXT_LIMIT, Text, TextError, parse_text};
use super::wire::WireError;

/// Requests after which a target that never comes to an end is given up.
const MOST_REQUESTS: usize = 24;

/// Who logs in where.
#[derive(Debug, Clone, Copy)]
pub struct Login<'a> {
    pub initiator: &'a str,
    /// None: a discovery session.
    pub target: Option<&'a str>,
    pub isid: Isid,
    pub auth: &'a Auth,
    /// Random bytes for mutual CHAP.
    pub challenge: Challenge,
    /// Offer no SHA256.
    pub old_chap: bool,
}

/// Carries one request there and its response back.
pub trait Wire {
    fn exchange(&mut self, request: &LoginRequest, text: &[u8]) -> Result<(LoginResponse, Vec<u8>), WireError>;
}

/// How a login ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    LoggedIn(LoggedIn),
    /// The target is elsewhere: `host:port`, IPv6 in brackets.
    Moved {
        address: String,
        permanent: bool,
    },
}

/// A session after its login.
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
        status: Status,
        /// It was refused after an answer by SHA256: a target that takes its number for SHA1 would do so.
        sha256: bool,
    },
    #[error(transparent)]
    Chap(#[from] ChapError),
    #[error(transparent)]
    Negotiate(#[from] NegotiateError),
    #[error(transparent)]
    Text(#[from] TextError),
    #[error(transparent)]
    Wire(#[from] WireError),
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
pub fn log_in(wire: &mut dyn Wire, login: &Login) -> Result<Outcome, LoginError> {
    let mut talk = Talk { wire, isid: login.isid, status_number: None, expected_command: 0, requests: 0 };
    match security(&mut talk, login).and_then(|agreed| operational(&mut talk, login, agreed)) {
        Ok(agreed) => {
            let (status_number, expected_command) = (talk.status_number.unwrap_or(0), talk.expected_command);
            Ok(Outcome::LoggedIn(LoggedIn { agreed, status_number, expected_command }))
        }
        Err(Stop::Moved { address, permanent }) => Ok(Outcome::Moved { address, permanent }),
        Err(Stop::Failed(error)) => Err(error),
    }
}

impl LoginError {
    /// Whether it is worth another attempt without SHA256.
    pub fn asks_for_old_chap(&self) -> bool {
        matches!(self, LoginError::Refused { sha256: true, .. })
    }
}

/// Why the dialogue ends early.
enum Stop {
    Moved { address: String, permanent: bool },
    Failed(LoginError),
}

impl<E: Into<LoginError>> From<E> for Stop {
    fn from(error: E) -> Stop {
        Stop::Failed(error.into())
    }
}

/// Up to the operational stage: names and CHAP.
fn security(talk: &mut Talk, login: &Login) -> Result<Agreed, Stop> {
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
    // With methods to choose from, the target's choice comes first.
    let mut next = if login.auth.ours.is_none() { Stage::Operational } else { Stage::Security };
    loop {
        let said = match talk.say(Stage::Security, next, &text) {
            Err(Stop::Failed(LoginError::Refused { status, .. })) => {
                return Err(LoginError::Refused { status, sha256: chap.is_sha256() }.into());
            }
            said => said?,
        };
        agreed.portal_group = said.text.number("TargetPortalGroupTag")?.or(agreed.portal_group);
        text = chap.answer(&said.text)?;
        match said.next {
            Some(Stage::Operational) if chap.is_done() => return Ok(agreed),
            Some(Stage::Operational) => return Err(LoginError::NoProof.into()),
            Some(_) => return Err(LoginError::Stage.into()),
            None => {}
        }
        next = if chap.may_go_on() { Stage::Operational } else { Stage::Security };
    }
}

/// Up to the full feature phase: parameters.
fn operational(talk: &mut Talk, login: &Login, mut agreed: Agreed) -> Result<Agreed, Stop> {
    let offered = offer(login.target.is_none());
    let mut text = offered.clone();
    loop {
        let said = talk.say(Stage::Operational, Stage::FullFeature, &text)?;
        text = agreed.take(&said.text, &offered)?;
        match said.next {
            Some(Stage::FullFeature) => return Ok(agreed),
            Some(_) => return Err(LoginError::Stage.into()),
            None => {}
        }
    }
}

/// The dialogue.
struct Talk<'a> {
    wire: &'a mut dyn Wire,
    isid: Isid,
    status_number: Option<u32>,
    expected_command: u32,
    requests: usize,
}

/// What the target said, over however many PDUs.
struct Said {
    text: Text,
    next: Option<Stage>,
}

impl Talk<'_> {
    fn say(&mut self, stage: Stage, next: Stage, text: &Text) -> Result<Said, Stop> {
        let (mut response, mut bytes) = self.exchange(stage, next, &text.encode())?;
        while response.goes_on {
            // An empty request asks for the rest (RFC 7143 section 6.2).
            let (following, more) = self.exchange(stage, stage, &[])?;
            bytes.extend_from_slice(&more);
            if bytes.len() > TEXT_LIMIT {
                return Err(TextError::TooLong.into());
            }
            response = following;
        }
        let text = parse_text(&bytes);
        match response.status.class {
            0 => Ok(Said { text: text?, next: response.next }),
            1 => {
                let text = text?;
                let address = text.value("TargetAddress").ok_or(LoginError::NoAddress)?;
                // A portal group may follow, behind a comma.
                let address = address.split(',').next().unwrap_or_default().into();
                Err(Stop::Moved { address, permanent: response.status.detail == 2 })
            }
            _ => Err(LoginError::Refused { status: response.status, sha256: false }.into()),
        }
    }

    fn exchange(&mut self, stage: Stage, next: Stage, text: &[u8]) -> Result<(LoginResponse, Vec<u8>), LoginError> {
        self.requests += 1;
        if self.requests > MOST_REQUESTS {
            return Err(LoginError::Endless);
        }
        let expected_status = self.status_number.map_or(0, |number| number.wrapping_add(1));
        let request = LoginRequest { stage, next, isid: self.isid, task_tag: 1, command_number: 1, expected_status };
        let (response, text) = self.wire.exchange(&request, text)?;
        self.status_number = Some(response.status_number);
        self.expected_command = response.expected_command;
        Ok((response, text))
    }
}

#[cfg(test)]
mod tests;
