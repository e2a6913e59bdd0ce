//! Answers and servers that are right, wrong and absent.

use super::*;
use proptest::prelude::*;

/// 21 November 2026 in seconds since 1970.
const NOW_S: u64 = 1_795_219_200;
const NOW_NS: i128 = NOW_S as i128 * NANOS;

fn ntp(unix_ns: i128) -> [u8; 8] {
    let seconds = (unix_ns / NANOS) as u64 + NTP_TO_UNIX_S;
    let fraction = ((unix_ns % NANOS) << 32) / NANOS;
    ((seconds << 32) + fraction as u64).to_be_bytes()
}

/// An answer by a server whose clock says `server_ns`.
fn answer(cookie: u64, server_ns: i128) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[..4].copy_from_slice(&[0b00_100_100, 2, 0, 0xec]);
    bytes[24..32].copy_from_slice(&cookie.to_be_bytes());
    bytes[32..40].copy_from_slice(&ntp(server_ns));
    bytes[40..48].copy_from_slice(&ntp(server_ns));
    bytes
}

fn read(bytes: &[u8]) -> Result<Sample, SampleError> {
    parse_answer(bytes, 7, NOW_NS, NOW_NS + 20_000_000, NOW_S - 86_400)
}

#[test]
fn the_offset_is_between_the_two_ways() {
    for ahead_ns in [0, 5 * NANOS, -3600 * NANOS, 365 * 86_400 * NANOS] {
        let sample = read(&answer(7, NOW_NS + ahead_ns + 10_000_000)).map(|s| (s.offset_ns / 1000, s.error_ns));
        assert_eq!(sample.map(|(offset, _)| (offset - ahead_ns / 1000).abs() < 2), Ok(ahead_ns >= -86_400 * NANOS));
        assert_eq!(sample.map(|(_, error)| error), Ok(10_000_000));
    }
}

#[test]
fn answers_that_are_refused() {
    let good = answer(7, NOW_NS);
    let with = |at: usize, value: &[u8]| {
        let mut bytes = good;
        bytes[at..at + value.len()].copy_from_slice(value);
        read(&bytes)
    };
    assert!(read(&good).is_ok());
    assert_eq!(read(&good[..47]), Err(SampleError::Short { found: 47 }));
    assert_eq!(with(0, &[0b00_100_011]), Err(SampleError::Mode));
    assert_eq!(with(0, &[0b00_010_100]), Err(SampleError::Mode), "version 2");
    assert_eq!(with(24, &[1]), Err(SampleError::Origin));
    assert_eq!(with(0, &[0b11_100_100]), Err(SampleError::NotSet));
    assert_eq!(with(1, &[16]), Err(SampleError::NotSet));
    assert_eq!(with(40, &[0; 8]), Err(SampleError::NotSet));
    assert_eq!(with(8, &[0, 2, 0, 0]), Err(SampleError::TooFar), "a dispersion of two seconds");
    assert_eq!(with(32, &ntp(NOW_NS + NANOS)), Err(SampleError::TooFar), "sent before it came");
    assert_eq!(read(&answer(7, NOW_NS - 2 * 86_400 * NANOS)), Err(SampleError::BeforeImage));
    let mut refused = good;
    refused[1] = 0;
    refused[12..16].copy_from_slice(b"RATE");
    assert_eq!(read(&refused).expect_err("a kiss of death").to_string(), "the server refuses: RATE");
}

#[test]
fn the_era_follows_the_image() {
    // 2036-02-07 06:28:16: NTP's seconds begin at zero again.
    let turn_s = (1u64 << 32) - NTP_TO_UNIX_S;
    for s in [NOW_S, turn_s - 1, turn_s, turn_s + 1, turn_s + (1 << 31)] {
        let stamp = (s + NTP_TO_UNIX_S) << 32;
        assert_eq!(unix_ns(stamp, s - 10), i128::from(s) * NANOS, "{s}");
    }
}

#[test]
fn the_majority_decides_and_the_closest_of_it_wins() {
    let sample =
        |offset_ms: i128, error_ms: i128| Sample { offset_ns: offset_ms * 1_000_000, error_ns: error_ms * 1_000_000 };
    let (near, far, wrong) = (sample(100, 5), sample(110, 20), sample(900_000, 1));
    for (samples, expected) in [
        (vec![], None),
        (vec![wrong], Some(wrong)),
        (vec![far, near], Some(near)),
        (vec![far, wrong, near], Some(near)),
        (vec![near, wrong], None),
        (vec![near, far, wrong, sample(-5000, 1)], None),
    ] {
        assert_eq!(choose(&samples), expected, "{samples:?}");
    }
}

/// A server whose clock is `ahead_ns` before ours; answers `times` questions.
fn serve(port: u16, address: [u8; 4], ahead_ns: i128) -> u16 {
    let socket = UdpSocket::bind((IpAddr::from(address), port)).expect("a port");
    let port = socket.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            // Another test may ask at a port that was its own a moment ago.
            if (length, buffer[0]) != (LENGTH, 0b00_100_011) {
                continue;
            }
            let cookie = u64::from_be_bytes(buffer[40..48].try_into().expect("eight bytes"));
            let liar = answer(cookie ^ 1, NOW_NS);
            let bytes = answer(cookie, bootwright_base::sys::clock_ns() + ahead_ns);
            for bytes in [liar, bytes] {
                socket.send_to(&bytes, from).expect("loopback");
            }
        }
    });
    port
}

#[test]
fn servers_are_asked_at_once() {
    let port = serve(0, [127, 0, 0, 1], 30 * NANOS);
    serve(port, [127, 0, 0, 2], 30 * NANOS);
    serve(port, [127, 0, 0, 3], -7200 * NANOS);
    // Nobody listens at the last one.
    let servers: Vec<String> = (1..=4).map(|n| format!("127.0.0.{n}")).collect();
    let limit = Duration::from_secs(10);
    let ask = |servers: &[String]| ask_at(servers, &NameServers::default(), port, 0, limit);
    let sample = ask(&servers).expect("two agree");
    assert!((sample.offset_ns - 30 * NANOS).abs() < NANOS, "{sample:?}");
    let error = ask(&servers[1..3]).expect_err("they disagree").to_string();
    assert!(error.contains("127.0.0.2 says +") && error.contains("127.0.0.3 says -7"), "{error}");
    let error = ask(&servers[3..]).expect_err("nobody").to_string();
    assert!(error.starts_with("no time server has helped: 127.0.0.4: "), "{error}");
    assert!(matches!(ask(&[]), Err(SntpError::NoServer)));
    let error = ask(&["ntp.lab".into()]).expect_err("no name server").to_string();
    assert!(error.contains("no name server is known"), "{error}");
}

#[test]
fn offsets_in_words() {
    for (ns, text) in [(0, "+0.000 s"), (-1_002_000_000, "-1.002 s"), (61_500_000_000, "+61.500 s")] {
        assert_eq!(format_offset(ns), text);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..80), ours: bool, floor: u32) {
        if ours && bytes.len() >= 32 {
            bytes[0] = 0b00_100_100;
            bytes[24..32].copy_from_slice(&7u64.to_be_bytes());
        }
        if let Ok(sample) = parse_answer(&bytes, 7, NOW_NS, NOW_NS + 1, u64::from(floor)) {
            prop_assert!((0..=LONGEST_DISTANCE_NS).contains(&sample.error_ns));
        }
    }
}
