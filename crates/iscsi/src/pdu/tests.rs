use super::*;
use proptest::prelude::*;

fn bytes(hex: &str) -> PduHeader {
    let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    let bytes: Vec<u8> = digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect();
    bytes.try_into().expect("48 bytes")
}

/// Laid out by hand from the figures of RFC 7143 section 11.
#[test]
fn requests_have_the_rfcs_layout() {
    let login = LoginRequest {
        stage: LoginStage::Operational,
        next: LoginStage::FullFeature,
        isid: [0x80, 1, 2, 3, 0, 4],
        task_tag: 0x0102_0304,
        command_number: 5,
        expected_status: 6,
    };
    let expected = "43 87 0000 00 000123 800102030004 0000 01020304 0000 0000 00000005 00000006 \
                    00000000 00000000 00000000 00000000";
    assert_eq!(login.encode(0x123), bytes(expected));
    let stay = LoginRequest { stage: LoginStage::Security, next: LoginStage::Security, ..login };
    assert_eq!(stay.encode(0)[1], 0);
    assert_eq!(LoginRequest { next: LoginStage::Operational, ..stay }.encode(0)[1], 0x81);
    let numbers = SequenceNumbers { command: 7, expected_status: 8 };
    let text = "04 80 0000 00 000010 0000000000000000 00000009 ffffffff 00000007 00000008 \
                00000000 00000000 00000000 00000000";
    assert_eq!(encode_text(16, 9, NO_TAG, numbers), bytes(text));
    let logout = "46 80 0000 00 000000 0000000000000000 00000009 00000000 00000007 00000008 \
                  00000000 00000000 00000000 00000000";
    assert_eq!(encode_logout(9, numbers), bytes(logout));
    let pong = "40 80 0000 00 000000 0000000000000000 ffffffff 0000000a 00000007 00000008 \
                00000000 00000000 00000000 00000000";
    assert_eq!(encode_pong(10, numbers), bytes(pong));
}

#[test]
fn responses_are_read() {
    let login = "23 87 00 00 00 000040 800102030004 0011 00000001 00000000 0000000a 0000000b 0000000c \
                 0000 0000 00000000 00000000";
    let expected = LoginResponse {
        next: Some(LoginStage::FullFeature),
        goes_on: false,
        status_number: 10,
        expected_command: 11,
        status: LoginStatus { class: 0, detail: 0 },
    };
    assert_eq!(parse_response(&bytes(login)), Ok(Response::Login(expected)));
    assert_eq!((data_length(&bytes(login)), additional_length(&bytes(login))), (64, 0));
    let refused = "23 82 00 00 00 000000 800102030004 0000 00000001 00000000 0000000a 0000000b 0000000c \
                   0201 0000 00000000 00000000";
    let refused = parse_response(&bytes(refused)).unwrap();
    assert!(
        matches!(refused, Response::Login(r) if r.next.is_none() && r.status.meaning() == "authentication failure")
    );
    let mut other = [0; HEADER];
    for (opcode, at, value, expected) in [
        (0x24, 1, 0x40, Response::Text { last: false, goes_on: true, target_tag: 0, status_number: 0 }),
        (0x26, 41, 2, Response::Logout { reason: 0, wait_s: 2 }),
        (0x3f, 2, 4, Response::Reject { reason: 4 }),
        (0x20, 23, 9, Response::NopIn { target_tag: 9 }),
        (0x32, 36, 4, Response::Async(AsyncMessage::Renegotiate)),
        (0x32, 36, 9, Response::Async(AsyncMessage::Other)),
    ] {
        other = [0; HEADER];
        (other[0], other[at]) = (opcode, value);
        assert_eq!(parse_response(&other), Ok(expected));
    }
    (other[0], other[36], other[41], other[43]) = (0x32, 1, 7, 9);
    assert_eq!(parse_response(&other), Ok(Response::Async(AsyncMessage::Logout { within_s: 9 })));
    other[36] = 3;
    assert_eq!(parse_response(&other), Ok(Response::Async(AsyncMessage::Dropped { wait_s: 7 })));
    other[0] = 0x21;
    assert_eq!(parse_response(&other), Err(PduError::Unexpected(0x21)));
    (other[0], other[1], other[36]) = (0x23, 0x82, 0);
    assert_eq!(parse_response(&other), Err(PduError::Stage(2)));
}

#[test]
fn padding_fills_words() {
    let padded: Vec<usize> = (0..6).map(padding).collect();
    assert_eq!(padded, [0, 3, 2, 1, 0, 3]);
}

proptest! {
    #[test]
    fn any_header_is_read_or_refused(header in proptest::collection::vec(any::<u8>(), HEADER)) {
        let header: PduHeader = header.try_into().unwrap();
        let _ = parse_response(&header);
        prop_assert!(data_length(&header) < 1 << 24);
    }

    #[test]
    fn lengths_come_back(length in 0usize..1 << 24, tag: u32) {
        let header = encode_text(length, tag, NO_TAG, SequenceNumbers::default());
        prop_assert_eq!((data_length(&header), word(&header, 16)), (length, tag));
    }
}
