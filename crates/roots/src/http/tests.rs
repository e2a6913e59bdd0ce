use super::connection::Stream;
use super::download::{ExpectedSize, get};
use super::*;
use crate::source::parse_source;
use bootwright_base::channel::{Receiver, channel};
use proptest::prelude::*;
use std::io::Read;
use std::io::Write;
use std::net::TcpListener;
use std::thread;

/// Opens connections to one server, whatever the URL says. There is no other place.
struct Lab(SocketAddr);

/// The same with another place.
struct OneOfTwo(SocketAddr);

impl HttpConnector for OneOfTwo {
    fn open(&self, place: &Http) -> Result<Box<dyn Stream>, HttpError> {
        Lab(self.0).open(place)
    }

    fn note(&self, _: &str) {}

    fn least_rate(&self) -> Option<Rate> {
        // 100 bytes a second.
        Some(Rate { least: 100, window: Duration::from_secs(1) })
    }
}

impl HttpConnector for Lab {
    fn open(&self, _: &Http) -> Result<Box<dyn Stream>, HttpError> {
        Ok(Box::new(connect(self.0, CONNECT_TIMEOUT, SILENCE)?))
    }

    fn note(&self, _: &str) {}

    fn patience(&self, _: Duration) -> Duration {
        Duration::from_millis(1200)
    }
}

fn place(text: &str) -> Http {
    match parse_source(text) {
        Ok(Source::Http(http)) => http,
        other => panic!("{other:?}"),
    }
}

/// Answers connections with the given texts, one after the other. Returns the requests.
fn serve(answers: Vec<Vec<u8>>) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (asked, requests) = channel();
    thread::spawn(move || {
        for answer in answers {
            let Ok((mut stream, _)) = listener.accept() else { return };
            let mut request = Vec::new();
            let mut byte = [0];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                request.push(byte[0]);
            }
            // Told before it is answered; the client may be gone: the test looks at what became of it.
            let _ = asked.send(String::from_utf8_lossy(&request).into_owned());
            let _ = stream.write_all(&answer);
        }
    });
    (address, requests)
}

fn fetch(answers: &[&str], size: ExpectedSize) -> (Result<Vec<u8>, HttpError>, Vec<String>) {
    let (address, requests) = serve(answers.iter().map(|a| a.as_bytes().to_vec()).collect());
    let mut sink = Vec::new();
    let outcome = get(&Lab(address), &place("http://server/root.img"), size, &mut sink).map(|()| sink);
    (outcome, requests.try_iter().collect())
}

const WHOLE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: \"a\"\r\n\r\n0123456789";
const HALF: &str = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: \"a\"\r\n\r\n01234";
const REST: &str = "HTTP/1.1 206 x\r\nContent-Length: 5\r\nContent-Range: bytes 5-9/10\r\nETag: \"a\"\r\n\r\n56789";

#[test]
fn every_framing_and_every_way_to_go_on() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n012\r\n7;x\r\n3456789\r\n0\r\n\r\n";
    let closed = "HTTP/1.0 200 OK\r\n\r\n0123456789";
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789";
    let other = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\nETag: \"b\"\r\n\r\nabcdefghij";
    let other_rest = "HTTP/1.1 206 x\r\nContent-Range: bytes 5-9/10\r\nETag: \"b\"\r\n\r\nfghij";
    let nameless_half = "HTTP/1.0 200 OK\r\n\r\n01234";
    let wrong_part = "HTTP/1.1 206 x\r\nContent-Range: bytes 4-9/10\r\n\r\n456789";
    let no_part = "HTTP/1.1 206 x\r\n\r\n56789";
    let busy = "HTTP/1.1 503 busy\r\n\r\n";
    let moved = "HTTP/1.1 302 x\r\nLocation: /elsewhere\r\n\r\n";
    let past = "HTTP/1.1 416 x\r\nContent-Range: bytes */3\r\n\r\n";
    for (answers, expected) in [
        (vec![WHOLE], "0123456789"),
        (vec![chunked], "0123456789"),
        (vec![closed], "0123456789"),
        (vec![interim], "0123456789"),
        (vec![HALF, REST], "0123456789"),
        (vec![HALF, busy, "", REST], "0123456789"),
        // A server without ranges sends all again.
        (vec![HALF, WHOLE], "0123456789"),
        // The file was renewed in the middle.
        (vec![HALF, other], "abcdefghij"),
        (vec![HALF, other_rest, other], "abcdefghij"),
        (vec![nameless_half, WHOLE], "0123456789"),
        (vec![nameless_half, REST], "0123456789"),
        (vec![HALF, wrong_part, WHOLE], "0123456789"),
        (vec![HALF, no_part, REST], "0123456789"),
        (vec![HALF, past, WHOLE], "0123456789"),
        (vec![moved, HALF, moved, REST], "0123456789"),
    ] {
        let (outcome, _) = fetch(&answers, ExpectedSize::Exactly(10));
        assert_eq!(outcome.map(|b| String::from_utf8(b).expect("ASCII")).expect(answers[0]), expected, "{answers:?}");
    }
}

#[test]
fn what_is_missing_is_asked_for_of_the_same_version() {
    let (_, requests) = fetch(&[HALF, REST], ExpectedSize::Exactly(10));
    assert!(!requests[0].contains("Range"));
    assert!(requests[1].contains("\r\nRange: bytes=5-\r\nIf-Range: \"a\"\r\n"), "{}", requests[1]);
}

#[test]
fn failures_name_the_cause() {
    let short = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n012";
    let long = "HTTP/1.0 200 OK\r\n\r\n0123456789abc";
    let round = "HTTP/1.1 302 x\r\nLocation: /\r\n\r\n";
    for (answers, message) in [
        (vec!["HTTP/1.1 404 Not Found\r\n\r\n"], "the server answered 404 (not found)"),
        (vec!["HTTP/1.1 403 x\r\n\r\n"], "the server answered 403 (not allowed)"),
        (vec!["SSH-2.0-x\r\n\r\n\r\n"], "there is no web server"),
        (vec![short], "the server has a file of 3 bytes, the root image has 10"),
        (vec![long], "the file has more than 10 bytes"),
        (vec![round; 6], "more than 5 redirects"),
        (vec!["HTTP/1.1 302 x\r\nLocation: ftp://x\r\n\r\n"], "a redirect leads to `ftp://x`"),
        (vec![HALF], "cannot reach 127.0.0.1:"),
        (vec!["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n"; 9], "the server's chunks make no sense"),
    ] {
        let error = fetch(&answers, ExpectedSize::Exactly(10)).0.expect_err(message).to_string();
        assert!(error.contains(message), "{error}, expected {message}");
    }
    let error = fetch(&[WHOLE], ExpectedSize::AtMost(4)).0.expect_err("too large").to_string();
    assert_eq!(error, "the file has more than 4 bytes");
    assert_eq!(fetch(&[WHOLE], ExpectedSize::AtMost(10)).0.expect("small enough").len(), 10);
}

/// Answers with these pieces, one each 50 ms, and does so on each connection.
fn drip(pieces: Vec<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a client");
            let sent = |piece: &Vec<u8>| stream.write_all(piece).map(|()| thread::sleep(Duration::from_millis(50)));
            // The client goes away in the middle.
            let _ = pieces.iter().try_for_each(sent);
        }
    });
    address
}

#[test]
fn a_place_that_drips_is_left_if_there_is_another_one() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n".to_vec();
    let body = |size: usize| vec![vec![b'x'; size]; 40 / size];
    let slow = [vec![head.clone()], body(1)].concat();
    let slow_head: Vec<Vec<u8>> = head.iter().map(|byte| vec![*byte]).chain(body(1)).collect();
    let slow_chunks =
        [vec![b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1".to_vec()], vec![b";".to_vec(); 99]];
    // A connection for each byte.
    let cut = vec![b"HTTP/1.1 200 OK\r\nContent-Length: 40\r\nETag: \"a\"\r\n\r\n".to_vec(), b"x".to_vec()];
    for pieces in [slow.clone(), slow_head, slow_chunks.concat(), cut] {
        let begun = std::time::Instant::now();
        let mut sink = Vec::new();
        let error = get(&OneOfTwo(drip(pieces)), &place("http://server/x"), ExpectedSize::Exactly(40), &mut sink);
        assert!(matches!(error, Err(HttpError::Slow { .. })), "{error:?}");
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    }
    // Without another place any rate is accepted.
    let mut sink = Vec::new();
    get(&Lab(drip(slow)), &place("http://server/x"), ExpectedSize::Exactly(40), &mut sink).expect("all of it");
    let fast = [vec![head], body(20)].concat();
    get(&OneOfTwo(drip(fast)), &place("http://server/x"), ExpectedSize::Exactly(40), &mut sink).expect("all of it");
    assert_eq!(sink.len(), 80);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_file_that_breaks_anywhere_arrives_whole(cuts in prop::collection::vec(0usize..40, 1..5), size in 1usize..40) {
        let file: Vec<u8> = (0..size).map(|i| b'a' + (i % 26) as u8).collect();
        // Each connection ends after so many bytes of the body; the last one does not.
        let mut answers = Vec::new();
        let mut at = 0;
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| (1..size).contains(cut)).chain([size]).collect();
        cuts.sort_unstable();
        cuts.dedup();
        for cut in cuts {
            let head = match at {
                0 => format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nETag: \"x\"\r\n\r\n"),
                _ => format!("HTTP/1.1 206 OK\r\nContent-Range: bytes {at}-{}/{size}\r\nETag: \"x\"\r\n\r\n", size - 1),
            };
            answers.push([head.as_bytes(), &file[at..cut]].concat());
            at = cut;
        }
        let (address, _requests) = serve(answers);
        let mut sink = Vec::new();
        get(&Lab(address), &place("http://server/x"), ExpectedSize::Exactly(size as u64), &mut sink).unwrap();
        prop_assert_eq!(sink, file);
    }
}
