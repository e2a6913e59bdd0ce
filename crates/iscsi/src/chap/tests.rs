use super::super::target::Secret;
use super::super::text::parse_text;
use super::*;

const CHALLENGE: Challenge = [0x77, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9];

fn credentials(user: &str, secret: &str) -> Credentials {
    Credentials { user: user.into(), secret: Secret::new(secret) }
}

fn auth(mutual: bool) -> Auth {
    let theirs = mutual.then(|| credentials("san", "the target's own word"));
    Auth { ours: Some(credentials("node", "correct horse battery")), theirs }
}

fn text(pairs: &str) -> Text {
    parse_text(pairs.replace(' ', "\0").as_bytes()).unwrap()
}

fn challenge(algorithm: u32) -> Text {
    text(&format!("CHAP_A={algorithm} CHAP_I=42 CHAP_C=0x000102030405060708090a0b0c0d0e0f"))
}

/// Up to the target's challenge.
fn begin(auth: &Auth) -> Chap<'_> {
    let mut chap = Chap::new(auth, CHALLENGE, false).unwrap();
    assert_eq!(chap.answer(&text("AuthMethod=CHAP")).unwrap(), text("CHAP_A=7,6,5"));
    chap
}

/// Values from another implementation of the hashes, over the concatenation that RFC 1994 section 4.1 defines.
#[test]
fn answers_with_each_algorithm() {
    for (algorithm, response) in [
        (5, "7efffe0f324cdaeb9442b9216e36d904"),
        (6, "f960d1db12d99fa70d7120fdb7368a2226f7ca0b"),
        (7, "27750b3c27f8f918a878a6e96ac6ba3778f21ad55a7cd93fbd1424ab63cbe87b"),
    ] {
        let auth = auth(false);
        let mut chap = begin(&auth);
        let said = chap.answer(&challenge(algorithm)).unwrap();
        assert_eq!(said, text(&format!("CHAP_N=node CHAP_R=0x{response}")));
        assert!(chap.is_done());
    }
}

#[test]
fn checks_the_targets_proof_with_each_algorithm() {
    for (algorithm, response) in [
        (5, "58570ab382aa5870e72c71a6c3e40c53"),
        (6, "ede0601c8af331c7a7a2d7c4ce0f0c2dc5e5d3a5"),
        (7, "86b41a46d949e59f69ac3a26267afe5f0bb2a640a4b28d8fbf685dc1652298e6"),
    ] {
        let auth = auth(true);
        let mut chap = begin(&auth);
        let said = chap.answer(&challenge(algorithm)).unwrap();
        assert_eq!(said.value("CHAP_I"), Some("119"));
        assert_eq!(said.value("CHAP_C"), Some("0x09090909090909090909090909090909"));
        assert!(!chap.is_done());
        let said = chap.answer(&text(&format!("CHAP_N=san CHAP_R=0x{response}"))).unwrap();
        assert_eq!(said, Text::default());
        assert!(chap.is_done());
    }
}

#[test]
fn a_target_that_cannot_prove_itself_is_refused() {
    let right = "0x86b41a46d949e59f69ac3a26267afe5f0bb2a640a4b28d8fbf685dc1652298e6";
    for (said, error) in [
        (
            format!("CHAP_N=other CHAP_R={right}"),
            ChapError::WrongName { expected: "san".into(), found: "other".into() },
        ),
        ("CHAP_N=san CHAP_R=0x00".into(), ChapError::WrongProof),
        (format!("CHAP_N=san CHAP_R={}", right.replace('8', "9")), ChapError::WrongProof),
        (format!("CHAP_R={right}"), ChapError::Missing("CHAP_N")),
        ("CHAP_N=san".into(), ChapError::Missing("CHAP_R")),
        ("CHAP_N=san CHAP_R=0x".into(), ChapError::Length("CHAP_R")),
    ] {
        let auth = auth(true);
        let mut chap = begin(&auth);
        chap.answer(&challenge(7)).unwrap();
        assert_eq!(chap.answer(&text(&said)).unwrap_err(), error, "{said}");
        assert!(!chap.is_done());
    }
}

#[test]
fn bad_challenges_are_refused() {
    let reflected = format!("CHAP_A=7 CHAP_I=1 CHAP_C={}", encode_hex(&CHALLENGE[1..]));
    let long = format!("CHAP_A=7 CHAP_I=1 CHAP_C=0x{}", "00".repeat(1025));
    for (said, error) in [
        (reflected.as_str(), ChapError::Reflected),
        (&long, ChapError::Length("CHAP_C")),
        ("CHAP_A=8 CHAP_I=1 CHAP_C=0x00", ChapError::Algorithm(8)),
        ("CHAP_I=1 CHAP_C=0x00", ChapError::Missing("CHAP_A")),
        ("CHAP_A=5 CHAP_C=0x00", ChapError::Missing("CHAP_I")),
        ("CHAP_A=5 CHAP_I=1", ChapError::Missing("CHAP_C")),
        ("CHAP_A=5 CHAP_I=256 CHAP_C=0x00", ChapError::Length("CHAP_I")),
        ("CHAP_A=5 CHAP_I=1 CHAP_C=0x", ChapError::Length("CHAP_C")),
    ] {
        let auth = auth(true);
        assert_eq!(begin(&auth).answer(&text(said)).unwrap_err(), error, "{said}");
    }
}

#[test]
fn methods_follow_from_what_is_known() {
    let none = Auth::default();
    for (auth, methods, answer, expected) in [
        (none.clone(), "None", "AuthMethod=None", Ok(true)),
        (none.clone(), "None", "TargetAlias=x", Ok(true)),
        (none, "None", "AuthMethod=CHAP", Err(ChapError::NoCredentials)),
        (auth(false), "CHAP,None", "AuthMethod=None", Ok(true)),
        (auth(false), "CHAP,None", "AuthMethod=SRP", Err(ChapError::Method("SRP".into()))),
        (auth(true), "CHAP", "AuthMethod=None", Err(ChapError::NotMutual)),
        (auth(true), "CHAP", "TargetAlias=x", Err(ChapError::NotMutual)),
    ] {
        let mut chap = Chap::new(&auth, CHALLENGE, false).unwrap();
        assert_eq!(chap.methods(), methods);
        let done = chap.answer(&text(answer)).map(|_| chap.is_done());
        assert_eq!(done, expected, "{methods} {answer}");
    }
}

#[test]
fn one_secret_for_both_directions_is_refused() {
    let mut same = auth(true);
    same.theirs = Some(credentials("san", "correct horse battery"));
    assert_eq!(Chap::new(&same, CHALLENGE, false).err(), Some(ChapError::SameSecret));
}

#[test]
fn without_sha256_its_number_is_not_taken() {
    let auth = auth(false);
    for (algorithm, done) in [(7, Err(ChapError::Algorithm(7))), (6, Ok(true)), (5, Ok(true))] {
        let mut chap = Chap::new(&auth, CHALLENGE, true).unwrap();
        assert_eq!(chap.answer(&text("AuthMethod=CHAP")).unwrap(), text("CHAP_A=6,5"));
        assert_eq!(chap.answer(&challenge(algorithm)).map(|_| chap.is_done()), done);
        assert!(!chap.is_sha256());
    }
    let mut chap = begin(&auth);
    chap.answer(&challenge(7)).unwrap();
    assert!(chap.is_sha256());
}
