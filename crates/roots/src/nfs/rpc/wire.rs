//! Encodes calls and decodes replies of ONC RPC (RFC 5531 sections 9 and 11).

/// Set in a record's length: it is the last fragment (RFC 5531 section 11).
pub const LAST: u32 = 1 << 31;
/// Longest reply to our questions, in bytes.
pub const LONGEST: usize = 1024;

/// A reply that is an error.
#[derive(Debug, thiserror::Error)]
pub enum ReplyError {
    #[error("what answers is no RPC server")]
    NotRpc,
    #[error("it has no NFS service")]
    NoProgram,
    #[error("it does not speak NFS version {wanted}: it speaks {low} to {high}")]
    Version { wanted: u32, low: u32, high: u32 },
    #[error("it refused the call: {0}")]
    Refused(&'static str),
}

/// A call without credentials, as one record (RFC 5531 sections 9 and 11).
pub fn format_call(xid: u32, program: u32, version: u32, procedure: u32, arguments: &[u32]) -> Vec<u8> {
    let head = [xid, 0, 2, program, version, procedure, 0, 0, 0, 0];
    let words = head.len() + arguments.len();
    let mark = LAST | u32::try_from(words * 4).unwrap_or(u32::MAX);
    [mark].iter().chain(&head).chain(arguments).flat_map(|word| word.to_be_bytes()).collect()
}

/// The results in a reply without its record mark (RFC 5531 section 9).
///
/// # Errors
/// [`ReplyError`]
pub fn parse_reply(bytes: &[u8], xid: u32, wanted: u32) -> Result<Vec<u32>, ReplyError> {
    let (words, []) = bytes.as_chunks::<4>() else { return Err(ReplyError::NotRpc) };
    let mut words = words.iter().map(|word| u32::from_be_bytes(*word));
    let mut next = || words.next().ok_or(ReplyError::NotRpc);
    if (next()?, next()?) != (xid, 1) {
        return Err(ReplyError::NotRpc);
    }
    if next()? != 0 {
        return Err(ReplyError::Refused("it wants other credentials or another RPC version"));
    }
    // Skips the verifier: its flavour, then its length in bytes.
    next()?;
    for _ in 0..next()?.div_ceil(4) {
        next()?;
    }
    match next()? {
        0 => Ok(words.collect()),
        1 => Err(ReplyError::NoProgram),
        2 => Err(ReplyError::Version { wanted, low: next()?, high: next()? }),
        3 => Err(ReplyError::Refused("it does not know the procedure")),
        4 => Err(ReplyError::Refused("it could not read the call")),
        _ => Err(ReplyError::Refused("an error of its own")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    fn reply(words: &[u32]) -> Result<Vec<u32>, String> {
        parse_reply(&bytes(words), 7, 4).map_err(|e| e.to_string())
    }

    #[test]
    fn calls_are_records() {
        let expected = [0x8000_0028, 9, 0, 2, 100_003, 4, 0, 0, 0, 0, 0];
        assert_eq!(format_call(9, 100_003, 4, 0, &[]), bytes(&expected));
        assert_eq!(format_call(9, 100_000, 2, 3, &[100_003, 3, 6, 0])[3], 56);
    }

    #[test]
    fn replies_say_what_is_wrong() {
        assert_eq!(reply(&[7, 1, 0, 0, 0, 0, 2049]), Ok(vec![2049]));
        assert_eq!(reply(&[7, 1, 0, 6, 5, 0, 0, 0]), Ok(vec![]), "a verifier is passed over");
        let cases: &[(&[u32], &str)] = &[
            (&[8, 1, 0, 0, 0, 0], "what answers is no RPC server"),
            (&[7, 0, 0, 0, 0, 0], "what answers is no RPC server"),
            (&[7, 1, 0], "what answers is no RPC server"),
            (&[7, 1, 0, 0, u32::MAX, 0], "what answers is no RPC server"),
            (&[7, 1, 1, 1, 1], "it refused the call: it wants other credentials"),
            (&[7, 1, 0, 0, 0, 1], "it has no NFS service"),
            (&[7, 1, 0, 0, 0, 2, 3, 3], "it does not speak NFS version 4: it speaks 3 to 3"),
            (&[7, 1, 0, 0, 0, 5], "it refused the call: an error of its own"),
        ];
        for (words, expected) in cases {
            let error = reply(words).unwrap_err();
            assert!(error.starts_with(expected), "{words:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_reply_panics(reply in proptest::collection::vec(any::<u8>(), 0..64), xid in 0u32..3) {
            // What it says does not matter.
            let _ = parse_reply(&reply, xid, 4);
        }
    }
}
