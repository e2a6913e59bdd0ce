//! CHAP authentication (RFC 7143 section 12.1, RFC 1994), one way or mutual. A response is H(identifier, secret,
//! challenge).

use super::target::{Auth, Credentials};
use super::text::{Text, TextError, encode_hex};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Longest challenge and response in bytes (RFC 7143 section 12.1.3).
const BINARY_LIMIT: usize = 1024;
/// A secret below 96 bits can be guessed from an intercepted exchange (RFC 7143 section 9.2.1).
pub const SHORT_SECRET: usize = 12;
/// A challenge of ours: the identifier, then 16 bytes.
pub type Challenge = [u8; 17];

/// Hash algorithms by their number in `CHAP_A` (IANA "PPP Authentication Algorithms", RFC 7143 section 12.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Md5 = 5,
    Sha1 = 6,
    Sha256 = 7,
}

/// Strongest first. The second list leaves out SHA256, whose number means SHA1 to some targets (tgt, IET).
const OFFER: &str = "7,6,5";
const OLD_OFFER: &str = "6,5";

impl Algorithm {
    fn parse(number: u32) -> Option<Algorithm> {
        [Algorithm::Md5, Algorithm::Sha1, Algorithm::Sha256].into_iter().find(|a| *a as u32 == number)
    }

    fn response(self, identifier: u8, credentials: &Credentials, challenge: &[u8]) -> Vec<u8> {
        fn hash<D: Digest>(identifier: u8, secret: &[u8], challenge: &[u8]) -> Vec<u8> {
            D::new().chain_update([identifier]).chain_update(secret).chain_update(challenge).finalize().to_vec()
        }
        let secret = credentials.secret.bytes();
        match self {
            Algorithm::Md5 => hash::<Md5>(identifier, secret, challenge),
            Algorithm::Sha1 => hash::<Sha1>(identifier, secret, challenge),
            Algorithm::Sha256 => hash::<Sha256>(identifier, secret, challenge),
        }
    }
}

/// Why the authentication failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChapError {
    #[error("the target asks for CHAP, and no user and secret are given")]
    NoCredentials,
    #[error("the target takes no authentication, and it was to prove who it is")]
    NotMutual,
    #[error("the target chose the authentication method `{0}`")]
    Method(String),
    #[error("the target chose the CHAP algorithm {0}, which was not offered")]
    Algorithm(u32),
    #[error("the target left out `{0}`")]
    Missing(&'static str),
    #[error("`{0}` from the target is empty or too long")]
    Length(&'static str),
    #[error("the target sent our own challenge back")]
    Reflected,
    #[error("both CHAP secrets are the same, so the target's proof would prove nothing")]
    SameSecret,
    #[error("the target calls itself `{found}`, not `{expected}`")]
    WrongName { expected: String, found: String },
    #[error("the target does not know its secret: it is another one, or the secret is wrong")]
    WrongProof,
    #[error(transparent)]
    Text(#[from] TextError),
}

/// How far the exchange is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChapState {
    /// We have offered methods.
    Offered,
    /// We have offered algorithms.
    Algorithms,
    /// We have answered the target's challenge, and wait for the answer to ours.
    Answered(Algorithm),
    /// The exchange is over.
    Done,
}

/// The initiator's side of the security stage.
pub struct Chap<'a> {
    auth: &'a Auth,
    /// Random; sent only with mutual CHAP.
    challenge: Challenge,
    offer: &'static str,
    state: ChapState,
    /// Whether the target chose number 7, which is SHA256 or what the target takes it for.
    sha256: bool,
}

impl<'a> Chap<'a> {
    /// `challenge` must be random and used once. `old`: offer no SHA256.
    pub fn new(auth: &'a Auth, challenge: Challenge, old: bool) -> Result<Chap<'a>, ChapError> {
        if let (Some(ours), Some(theirs)) = (&auth.ours, &auth.theirs)
            && ours.secret == theirs.secret
        {
            return Err(ChapError::SameSecret);
        }
        let offer = if old { OLD_OFFER } else { OFFER };
        Ok(Chap { auth, challenge, offer, state: ChapState::Offered, sha256: false })
    }

    /// The methods to offer. `None` is among them unless the target has to prove its identity: then it may let us in
    /// without a login.
    pub fn methods(&self) -> &'static str {
        match (&self.auth.ours, &self.auth.theirs) {
            (None, _) => "None",
            (Some(_), None) => "CHAP,None",
            (Some(_), Some(_)) => "CHAP",
        }
    }

    /// Whether the target chose SHA256.
    pub fn is_sha256(&self) -> bool {
        self.sha256
    }

    /// Whether the exchange is over.
    pub fn is_done(&self) -> bool {
        self.state == ChapState::Done
    }

    /// Whether we have sent all of our part. The target may then go to the next stage, with its own proof if there is
    /// one to give.
    pub fn may_go_on(&self) -> bool {
        matches!(self.state, ChapState::Answered(_) | ChapState::Done)
    }

    /// Takes the target's text, and returns the text to send next.
    ///
    /// # Errors
    /// [`ChapError`]
    pub fn answer(&mut self, said: &Text) -> Result<Text, ChapError> {
        let mut reply = Text::default();
        match self.state {
            ChapState::Offered => match said.value("AuthMethod") {
                Some("CHAP") => {
                    self.auth.ours.as_ref().ok_or(ChapError::NoCredentials)?;
                    reply.push("CHAP_A", self.offer);
                    self.state = ChapState::Algorithms;
                }
                // A target that answers nothing about methods wants none.
                Some("None") | None if self.auth.theirs.is_none() => self.state = ChapState::Done,
                Some("None") | None => return Err(ChapError::NotMutual),
                Some(other) => return Err(ChapError::Method(other.into())),
            },
            ChapState::Algorithms => self.respond(said, &mut reply)?,
            ChapState::Answered(algorithm) => {
                self.check_proof(said, algorithm)?;
                self.state = ChapState::Done;
            }
            ChapState::Done => {}
        }
        Ok(reply)
    }

    fn respond(&mut self, said: &Text, reply: &mut Text) -> Result<(), ChapError> {
        let ours = self.auth.ours.as_ref().ok_or(ChapError::NoCredentials)?;
        let number = said.number("CHAP_A")?.ok_or(ChapError::Missing("CHAP_A"))?;
        let offered = |number: u32| self.offer.split(',').any(|offered| offered == number.to_string());
        let algorithm = Algorithm::parse(number).filter(|_| offered(number)).ok_or(ChapError::Algorithm(number))?;
        self.sha256 = algorithm == Algorithm::Sha256;
        let identifier = said.number("CHAP_I")?.ok_or(ChapError::Missing("CHAP_I"))?;
        let identifier = u8::try_from(identifier).map_err(|_| ChapError::Length("CHAP_I"))?;
        let challenge = binary(said, "CHAP_C")?;
        if challenge == self.challenge[1..] {
            return Err(ChapError::Reflected);
        }
        reply.push("CHAP_N", &ours.user);
        reply.push("CHAP_R", &encode_hex(&algorithm.response(identifier, ours, &challenge)));
        self.state = ChapState::Done;
        if self.auth.theirs.is_some() {
            reply.push("CHAP_I", &self.challenge[0].to_string());
            reply.push("CHAP_C", &encode_hex(&self.challenge[1..]));
            self.state = ChapState::Answered(algorithm);
        }
        Ok(())
    }

    fn check_proof(&self, said: &Text, algorithm: Algorithm) -> Result<(), ChapError> {
        let Some(theirs) = &self.auth.theirs else { return Ok(()) };
        let name = said.value("CHAP_N").ok_or(ChapError::Missing("CHAP_N"))?;
        if !theirs.user.is_empty() && name != theirs.user {
            return Err(ChapError::WrongName { expected: theirs.user.clone(), found: name.into() });
        }
        let expected = algorithm.response(self.challenge[0], theirs, &self.challenge[1..]);
        match binary(said, "CHAP_R")? == expected {
            true => Ok(()),
            false => Err(ChapError::WrongProof),
        }
    }
}

fn binary(said: &Text, key: &'static str) -> Result<Vec<u8>, ChapError> {
    let value = said.binary(key)?.ok_or(ChapError::Missing(key))?;
    match value.is_empty() || value.len() > BINARY_LIMIT {
        true => Err(ChapError::Length(key)),
        false => Ok(value),
    }
}

/// Random bytes for our challenge, when mutual CHAP needs one. Waits for entropy early in the boot.
pub fn new_challenge(auth: &Auth) -> Challenge {
    let mut challenge = [0; 17];
    if auth.theirs.is_none() {
        return challenge;
    }
    // Fails only on kernels without the call. A predictable challenge weakens the target's proof and nothing else.
    // SAFETY: the buffer is as long as it says.
    let _ = unsafe { nix::libc::getrandom(challenge.as_mut_ptr().cast(), challenge.len(), 0) };
    challenge
}

#[cfg(test)]
mod tests;
