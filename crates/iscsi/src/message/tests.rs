use super::*;
use proptest::prelude::*;

const HANDLE: u64 = 0xffff_ffff_c012_3456;

/// Words and their offset in the message, as `offsetof` gives them for the kernel's header on x86-64 and arm64.
fn assert_layout(request: KernelRequest, length: usize, kind: u32, expected: &[(usize, u32)]) {
    let bytes = request.encode(HANDLE);
    assert_eq!((bytes.len(), word(&bytes, 0)), (length.next_multiple_of(4), length as u32), "{request:?}");
    assert_eq!((u16::from_ne_bytes([bytes[4], bytes[5]]), bytes[6]), (kind as u16, 1));
    assert_eq!(word(&bytes, 16), kind);
    assert_eq!(bytes[24..32], HANDLE.to_ne_bytes());
    for (at, value) in expected {
        assert_eq!(word(&bytes, *at), *value, "{request:?} at {at}");
    }
}

#[test]
fn requests_have_the_kernels_layout() {
    let session = 5;
    let halves = u32::from_ne_bytes([128, 0, 32, 0]);
    let create = KernelRequest::CreateSession { first_command: 1, commands: 128, queue_depth: 32 };
    assert_layout(create, 72, 11, &[(32, 1), (36, halves), (40, 0)]);
    assert_layout(KernelRequest::DestroySession { session }, 72, 12, &[(32, 5)]);
    assert_layout(KernelRequest::CreateConnection { session }, 72, 13, &[(32, 5), (36, 0)]);
    assert_layout(KernelRequest::DestroyConnection { session }, 72, 14, &[(32, 5), (36, 0)]);
    assert_layout(KernelRequest::Bind { session, fd: 9 }, 72, 15, &[(32, 5), (36, 0), (40, 9), (44, 0), (48, 1)]);
    assert_layout(KernelRequest::Start { session }, 72, 17, &[(32, 5), (36, 0)]);
    assert_layout(
        KernelRequest::Stop { session, how: StopReason::Recover },
        72,
        18,
        &[(32, 5), (36, 0), (40, 0), (48, 3)],
    );
    assert_layout(KernelRequest::Stop { session, how: StopReason::Terminate }, 72, 18, &[(48, 1)]);
    assert_layout(KernelRequest::Unbind { session }, 72, 27, &[(32, 5)]);
    let set = KernelRequest::Set { session, parameter: Parameter::TargetName, value: "iqn.x" };
    assert_layout(set, 78, 16, &[(32, 5), (36, 0), (40, 15), (44, 6)]);
    assert_eq!(set.encode(HANDLE)[72..80], *b"iqn.x\0\0\0");
    let send = KernelRequest::SendPdu { session, header: &[7; HEADER], data: b"a=b\0c" };
    assert_layout(send, 72 + 48 + 8, 19, &[(32, 5), (36, 0), (40, 48), (44, 8)]);
    assert_eq!(send.encode(HANDLE)[119..], *b"\x07a=b\0c\0\0\0");
}

fn message(kind: u16, event: u32, error: i32, reply: [u32; 3], payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; NETLINK_HEADER + EVENT];
    bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
    bytes[16..20].copy_from_slice(&event.to_ne_bytes());
    bytes[20..24].copy_from_slice(&error.to_ne_bytes());
    for (at, word) in reply.iter().enumerate() {
        bytes[56 + at * 4..60 + at * 4].copy_from_slice(&word.to_ne_bytes());
    }
    bytes.extend_from_slice(payload);
    bytes
}

fn result(bytes: &[u8], request: KernelRequest) -> Option<Result<[u32; 2], i32>> {
    match parse_message(bytes) {
        Ok(KernelMessage::Reply(reply)) => reply.result(&request),
        other => panic!("{other:?}"),
    }
}

#[test]
fn replies_are_told_apart() {
    let start = KernelRequest::Start { session: 5 };
    let create = KernelRequest::CreateSession { first_command: 1, commands: 1, queue_depth: 1 };
    assert_eq!(result(&message(11, 11, 0, [5, 2, 0], &[]), create), Some(Ok([5, 2])));
    assert_eq!(result(&message(11, 103, -12, [0; 3], &[]), create), Some(Err(12)));
    assert_eq!(result(&message(17, 17, 0, [0; 3], &[]), start), Some(Ok([0, 0])));
    assert_eq!(result(&message(17, 17, 0, [(-107i32) as u32, 0, 0], &[]), start), Some(Err(107)));
    assert_eq!(result(&message(16, 16, 0, [0; 3], &[]), start), None);
}

#[test]
fn events_are_read() {
    let mut header = [1; HEADER];
    header[4..8].copy_from_slice(&[0, 0, 0, 5]);
    let payload = [&header[..], b"hello\0\0\0"].concat();
    let pdu = KernelEvent::Pdu { session: 5, header, data: b"hello".to_vec() };
    assert_eq!(parse_message(&message(0, 101, 0, [5, 0, 0], &payload)), Ok(KernelMessage::Event(pdu)));
    let lost = KernelEvent::ConnectionError { session: 5, error: 1020 };
    assert_eq!(parse_message(&message(0, 102, 0, [5, 0, 1020], &[])), Ok(KernelMessage::Event(lost)));
    let unbound = KernelEvent::Unbound { session: 5 };
    assert_eq!(parse_message(&message(0, 105, 0, [5, 3, 0], &[])), Ok(KernelMessage::Event(unbound)));
    assert_eq!(parse_message(&message(0, 106, 0, [5, 3, 0], &[])), Ok(KernelMessage::Event(KernelEvent::Other)));
}

#[test]
fn short_messages_are_refused() {
    let mut header = [0; HEADER];
    header[7] = 9;
    let whole = message(0, 101, 0, [5, 0, 0], &[&header[..], &[0; 9]].concat());
    assert!(parse_message(&whole).is_ok());
    for length in [0, 15, 16, 71, 72, 119, 120, whole.len() - 1] {
        assert_eq!(parse_message(&whole[..length]), Err(ShortMessage(length)));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_message(&bytes);
    }
}
