use super::super::target::{Credentials, Secret};
use super::*;
use proptest::prelude::*;
use std::collections::VecDeque;

const ISID: Isid = [0x80, 1, 2, 3, 0, 1];

/// A target that answers from a list, and keeps what it was asked.
#[derive(Default)]
struct Script {
    answers: VecDeque<(LoginResponse, Vec<u8>)>,
    asked: Vec<(LoginRequest, String)>,
}

impl Script {
    fn answer(mut self, next: Option<LoginStage>, text: &str) -> Script {
        self.answers.push_back((response(next, false, 0, 0), text.replace(' ', "\0").into_bytes()));
        self
    }

    fn refuse(mut self, class: u8, detail: u8, text: &str) -> Script {
        self.answers.push_back((response(None, false, class, detail), text.as_bytes().to_vec()));
        self
    }

    fn goes_on(mut self, text: &str) -> Script {
        self.answers.push_back((response(None, true, 0, 0), text.as_bytes().to_vec()));
        self
    }
}

fn response(next: Option<LoginStage>, goes_on: bool, class: u8, detail: u8) -> LoginResponse {
    LoginResponse { next, goes_on, status_number: 7, expected_command: 1, status: LoginStatus { class, detail } }
}

impl Transport for Script {
    fn exchange(&mut self, request: &LoginRequest, text: &[u8]) -> Result<(LoginResponse, Vec<u8>), TransportError> {
        self.asked.push((*request, String::from_utf8_lossy(text).replace('\0', " ")));
        self.answers.pop_front().ok_or(TransportError::Closed)
    }
}

fn auth(mutual: bool) -> Auth {
    let new = |user: &str, secret: &str| Some(Credentials { user: user.into(), secret: Secret::new(secret) });
    Auth { ours: new("node", "correct horse battery"), theirs: new("san", "the target's own word").filter(|_| mutual) }
}

fn login<'a>(auth: &'a Auth, target: Option<&'a str>) -> Login<'a> {
    let mut challenge = [9; 17];
    challenge[0] = 0x77;
    Login { initiator: "iqn.i", target, isid: ISID, auth, challenge, old_chap: false }
}

const OPERATIONAL: Option<LoginStage> = Some(LoginStage::Operational);
const FULL: Option<LoginStage> = Some(LoginStage::FullFeature);

fn try_log_in(script: Script, auth: &Auth) -> (Script, Result<LoginOutcome, LoginError>) {
    let mut script = script;
    let outcome = log_in(&mut script, &login(auth, Some("iqn.t")));
    (script, outcome)
}

#[test]
fn without_authentication_two_requests_do() {
    let script = Script::default()
        .answer(OPERATIONAL, "AuthMethod=None TargetPortalGroupTag=3")
        .answer(FULL, "InitialR2T=No MaxRecvDataSegmentLength=65536");
    let (script, outcome) = try_log_in(script, &Auth::default());
    let Ok(LoginOutcome::LoggedIn(session)) = outcome else { panic!("{outcome:?}") };
    assert_eq!((session.status_number, session.agreed.portal_group), (7, Some(3)));
    assert_eq!((session.agreed.initial_r2t, session.agreed.their_segment), (false, 65_536));
    let (first, text) = &script.asked[0];
    assert_eq!(text, "InitiatorName=iqn.i TargetName=iqn.t SessionType=Normal AuthMethod=None ");
    assert_eq!((first.stage, first.next, first.expected_status), (LoginStage::Security, LoginStage::Operational, 0));
    let (second, text) = &script.asked[1];
    assert!(text.contains("MaxConnections=1 ") && text.contains("HeaderDigest=None,CRC32C "), "{text}");
    assert_eq!((second.next, second.expected_status, second.isid), (LoginStage::FullFeature, 8, ISID));
}

#[test]
fn chap_both_ways() {
    let script = Script::default()
        .answer(None, "AuthMethod=CHAP TargetPortalGroupTag=1")
        .answer(None, "CHAP_A=7 CHAP_I=42 CHAP_C=0x000102030405060708090a0b0c0d0e0f")
        .answer(OPERATIONAL, "CHAP_N=san CHAP_R=0x86b41a46d949e59f69ac3a26267afe5f0bb2a640a4b28d8fbf685dc1652298e6")
        .answer(None, "MaxBurstLength=65536 X-odd=1")
        .answer(FULL, "");
    let (script, outcome) = try_log_in(script, &auth(true));
    assert!(matches!(outcome, Ok(LoginOutcome::LoggedIn(_))), "{outcome:?}");
    let texts: Vec<&str> = script.asked.iter().map(|(_, text)| text.as_str()).collect();
    assert!(texts[0].ends_with("AuthMethod=CHAP "), "{texts:?}");
    assert_eq!(texts[1], "CHAP_A=7,6,5 ");
    assert!(texts[2].starts_with("CHAP_N=node CHAP_R=0x27750b3c27f8f918"), "{texts:?}");
    assert!(texts[2].contains("CHAP_I=119 CHAP_C=0x0909"), "{texts:?}");
    assert_eq!(texts[4], "X-odd=NotUnderstood ");
    assert!(script.asked.iter().take(2).all(|(request, _)| request.next == LoginStage::Security));
}

#[test]
fn a_target_without_proof_is_not_believed() {
    for last in ["", "CHAP_N=san CHAP_R=0x00"] {
        let script = Script::default()
            .answer(None, "AuthMethod=CHAP")
            .answer(None, "CHAP_A=5 CHAP_I=42 CHAP_C=0x0001")
            .answer(OPERATIONAL, last);
        let (_, outcome) = try_log_in(script, &auth(true));
        assert!(matches!(outcome, Err(LoginError::Chap(_))), "{outcome:?}");
    }
    let early = Script::default().answer(OPERATIONAL, "AuthMethod=CHAP");
    assert!(matches!(try_log_in(early, &auth(false)).1, Err(LoginError::NoProof)));
}

#[test]
fn refusals_name_their_cause() {
    for (class, detail, expected) in [
        (2, 1, "authentication failure (class 2, detail 1)"),
        (2, 2, "authorization failure: this initiator may not use the target (class 2, detail 2)"),
        (2, 3, "the target was not found (class 2, detail 3)"),
        (3, 1, "service unavailable (class 3, detail 1)"),
        (9, 9, "unknown status (class 9, detail 9)"),
    ] {
        // What else is in a refusal does not matter, not even when it is no text.
        let (_, outcome) = try_log_in(Script::default().refuse(class, detail, "junk"), &Auth::default());
        assert_eq!(outcome.unwrap_err().to_string(), expected);
    }
}

/// To tgt the number of SHA256 means SHA1.
#[test]
fn a_refusal_after_sha256_is_told_from_others() {
    for (algorithm, expected) in [(7, true), (6, false), (5, false)] {
        let script = Script::default()
            .answer(None, "AuthMethod=CHAP")
            .answer(None, &format!("CHAP_A={algorithm} CHAP_I=1 CHAP_C=0x01"))
            .refuse(2, 0, "");
        let error = try_log_in(script, &auth(false)).1.unwrap_err();
        assert_eq!(error.asks_for_old_chap(), expected, "{error}");
    }
}

#[test]
fn redirects_are_told() {
    for (detail, permanent) in [(1, false), (2, true)] {
        let moved = Script::default().refuse(1, detail, "TargetAddress=10.0.0.9:3261,1\0");
        let (_, outcome) = try_log_in(moved, &Auth::default());
        assert_eq!(outcome.unwrap(), LoginOutcome::Moved { address: "10.0.0.9:3261".into(), permanent });
    }
    let (_, outcome) = try_log_in(Script::default().refuse(1, 1, ""), &Auth::default());
    assert!(matches!(outcome, Err(LoginError::NoAddress)));
}

#[test]
fn a_text_may_come_in_parts() {
    let script = Script::default()
        .goes_on("AuthMethod=No")
        .goes_on("ne\0TargetPortal")
        .answer(OPERATIONAL, "GroupTag=5")
        .answer(FULL, "");
    let (script, outcome) = try_log_in(script, &Auth::default());
    let Ok(LoginOutcome::LoggedIn(session)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(session.agreed.portal_group, Some(5));
    assert_eq!((script.asked[1].1.as_str(), script.asked[1].0.next), ("", LoginStage::Security));
}

#[test]
fn targets_that_never_end_are_left() {
    let mut script = Script::default();
    for _ in 0..100 {
        script = script.answer(None, "AuthMethod=None");
    }
    assert!(matches!(try_log_in(script, &Auth::default()).1, Err(LoginError::Endless)));
    let wrong = Script::default().answer(FULL, "AuthMethod=None");
    assert!(matches!(try_log_in(wrong, &Auth::default()).1, Err(LoginError::Stage)));
    assert!(matches!(
        try_log_in(Script::default(), &Auth::default()).1,
        Err(LoginError::Transport(TransportError::Closed))
    ));
}

#[test]
fn discovery_names_no_target() {
    let mut script = Script::default().answer(OPERATIONAL, "").answer(FULL, "");
    log_in(&mut script, &login(&Auth::default(), None)).unwrap();
    assert_eq!(script.asked[0].1, "InitiatorName=iqn.i SessionType=Discovery AuthMethod=None ");
    assert!(!script.asked[1].1.contains("MaxBurstLength"));
}

proptest! {
    #[test]
    fn no_target_makes_it_panic_or_skip_the_proof(
        answers in proptest::collection::vec((0u8..4, any::<bool>(), 0u8..3,
            "((AuthMethod|CHAP_A|CHAP_I|CHAP_C|CHAP_N|CHAP_R|MaxBurstLength|TargetAddress)=(CHAP|None|5|7|0x01|0b01|san)\0){0,4}"), 0..8),
        mutual: bool,
    ) {
        let mut script = Script::default();
        for (stage, goes_on, class, text) in answers {
            let next = [None, OPERATIONAL, FULL, Some(LoginStage::Security)][usize::from(stage)];
            script.answers.push_back((response(next, goes_on, class, 1), text.into_bytes()));
        }
        // The proofs that these answers can hold are all wrong.
        let (_, outcome) = try_log_in(script, &auth(mutual));
        prop_assert!(!(mutual && matches!(outcome, Ok(LoginOutcome::LoggedIn(_)))));
    }
}
