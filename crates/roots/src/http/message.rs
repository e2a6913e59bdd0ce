//! HTTP/1.1 messages (RFC 9112) for a GET of a file and a POST of a report.

/// The head of a response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResponseHead {
    pub status: u16,
    /// Content-Length.
    pub length: Option<u64>,
    /// Content-Range: first and last byte; the size of the whole file unless the server sends `*`.
    pub range: Option<(u64, u64, Option<u64>)>,
    /// Transfer-Encoding: chunked.
    pub chunked: bool,
    /// Identifies the version of the file: a strong ETag, else Last-Modified.
    pub validator: Option<String>,
    pub location: Option<String>,
}

/// Why bytes are no head of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    #[error("there is no web server")]
    NotHttp,
    #[error("the server's {0} header makes no sense")]
    Header(&'static str),
    #[error("the server sent the file encoded, which was not asked for")]
    Encoded,
}

/// A GET of `path`: from byte `offset`, and only of the version that `validator` names.
pub fn format_request(host: &str, path: &str, offset: u64, validator: Option<&str>) -> String {
    let mut text =
        ["GET ", path, " HTTP/1.1\r\nHost: ", host, "\r\nUser-Agent: bootwright\r\nAccept: */*\r\n"].concat();
    text.push_str("Accept-Encoding: identity\r\nConnection: close\r\n");
    if offset > 0 {
        text.push_str(&["Range: bytes=", &offset.to_string(), "-\r\n"].concat());
        if let Some(validator) = validator {
            text.push_str(&["If-Range: ", validator, "\r\n"].concat());
        }
    }
    text.push_str("\r\n");
    text
}

/// A POST of a JSON text. The server closes the connection after its answer.
pub fn format_post(host: &str, path: &str, json: &str) -> String {
    let length = json.len().to_string();
    let head = [
        "POST ",
        path,
        " HTTP/1.1\r\nHost: ",
        host,
        "\r\nUser-Agent: bootwright\r\nContent-Type: application/json\r\nContent-Length: ",
        &length,
        "\r\nConnection: close\r\n\r\n",
        json,
    ];
    head.concat()
}

/// Parses a head, with or without the empty line at its end.
///
/// # Errors
/// [`HeadError`]
pub fn parse_head(bytes: &[u8]) -> Result<ResponseHead, HeadError> {
    // The names and values that we use are ASCII. Others may hold any bytes.
    let text = String::from_utf8_lossy(bytes);
    let mut lines = text.split("\r\n");
    let mut head = ResponseHead {
        status: parse_status(lines.next().unwrap_or("")).ok_or(HeadError::NotHttp)?,
        ..ResponseHead::default()
    };
    let (mut etag, mut modified) = (None, None);
    for line in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').ok_or(HeadError::NotHttp)?;
        let value = value.trim_matches([' ', '\t']);
        let bad = |name| HeadError::Header(name);
        match name.to_ascii_lowercase().as_str() {
            "content-length" => head.length = Some(parse_number(value).ok_or(bad("Content-Length"))?),
            "content-range" => head.range = parse_range(value),
            "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => head.chunked = true,
            "transfer-encoding" | "content-encoding" if !value.eq_ignore_ascii_case("identity") => {
                return Err(HeadError::Encoded);
            }
            // A weak ETag (RFC 9110 section 8.8.3) may stay the same when bytes change.
            "etag" if value.starts_with('"') => etag = Some(value.to_string()),
            "last-modified" => modified = Some(value.to_string()),
            "location" => head.location = Some(value.to_string()),
            _ => {}
        }
    }
    head.validator = etag.or(modified).filter(|value| value.bytes().all(|b| (0x20..0x7f).contains(&b)));
    Ok(head)
}

/// Parses `HTTP/1.1 206 Partial Content`, whose reason may be missing.
fn parse_status(line: &str) -> Option<u16> {
    let rest = line.strip_prefix("HTTP/1.")?;
    let (_, rest) = rest.split_once(' ')?;
    let digits = rest.get(..3).filter(|_| rest.as_bytes().get(3).is_none_or(|b| *b == b' '))?;
    parse_number(digits)?.try_into().ok()
}

/// Parses `bytes 100-199/200`.
fn parse_range(value: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (parse_number(first)?, parse_number(last)?);
    let total = if total == "*" { None } else { Some(parse_number(total)?) };
    (first <= last && total.is_none_or(|total| last < total)).then_some((first, last, total))
}

/// Parses digits. `str::parse` alone would accept a sign.
pub fn parse_number(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Parses the size of a chunk from its first line, without extensions (RFC 9112 section 7.1).
pub fn parse_chunk_size(line: &str) -> Option<u64> {
    let digits = line.split(';').next().unwrap_or("").trim();
    let good = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit());
    good.then(|| u64::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests() {
        let first = format_request("10.0.2.2:81", "/a b", 0, Some("x"));
        assert!(first.starts_with("GET /a b HTTP/1.1\r\nHost: 10.0.2.2:81\r\n") && first.ends_with("close\r\n\r\n"));
        assert!(!first.contains("Range"));
        let more = format_request("h", "/", 7, Some("\"e\""));
        assert!(more.ends_with("\r\nRange: bytes=7-\r\nIf-Range: \"e\"\r\n\r\n"), "{more}");
    }

    #[test]
    fn heads() {
        let head = |text: &str| parse_head(text.as_bytes());
        let good = head(
            "HTTP/1.1 206 Partial Content\r\ncontent-LENGTH:  5 \r\nContent-Range: bytes 5-9/10\r\nETag: \"e\"\r\nLast-Modified: then\r\n\r\nX: y",
        );
        let expected = ResponseHead {
            status: 206,
            length: Some(5),
            range: Some((5, 9, Some(10))),
            validator: Some("\"e\"".into()),
            ..ResponseHead::default()
        };
        assert_eq!(good, Ok(expected));
        let weak = head("HTTP/1.0 200\r\nETag: W/\"e\"\r\nLast-Modified: then\r\nTransfer-Encoding: chunked\r\n")
            .expect("good");
        assert_eq!((weak.status, weak.validator.as_deref(), weak.chunked), (200, Some("then"), true));
        assert_eq!(head("HTTP/1.1 302 x\r\nLocation: /b\r\n\r\n").expect("good").location.as_deref(), Some("/b"));
        for (text, error) in [
            ("", HeadError::NotHttp),
            ("SSH-2.0-x", HeadError::NotHttp),
            ("HTTP/1.1 2000 x", HeadError::NotHttp),
            ("HTTP/1.1 +20 x", HeadError::NotHttp),
            ("HTTP/1.1 200 x\r\nnonsense\r\n", HeadError::NotHttp),
            ("HTTP/1.1 200 x\r\nContent-Length: -1\r\n", HeadError::Header("Content-Length")),
            ("HTTP/1.1 200 x\r\nContent-Encoding: gzip\r\n", HeadError::Encoded),
        ] {
            assert_eq!(head(text), Err(error), "{text}");
        }
    }

    #[test]
    fn ranges_and_chunks() {
        for (text, expected) in [
            ("bytes 0-0/1", Some((0, 0, Some(1)))),
            ("bytes 5-9/*", Some((5, 9, None))),
            ("bytes 9-5/10", None),
            ("bytes 0-10/10", None),
            ("bytes */10", None),
            ("lines 0-1/2", None),
            ("bytes -1-2/3", None),
        ] {
            assert_eq!(parse_range(text), expected, "{text}");
        }
        for (text, expected) in
            [("1f;x=y", Some(31)), ("0", Some(0)), ("", None), ("+1", None), ("11112222333344445", None)]
        {
            assert_eq!(parse_chunk_size(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_head_is_read_or_refused(text in "(HTTP/1.1 [0-9]{3} |)([A-Za-z-]{0,16}:? ?[ -~]{0,20}\r\n){0,5}", bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = parse_head(text.as_bytes());
            let _ = parse_head(&[text.as_bytes(), &bytes].concat());
            let _ = parse_head(&bytes);
        }

        #[test]
        fn ranges_come_back(first: u32, more in 0u32..1000, rest in 1u64..1000) {
            let (first, last) = (u64::from(first), u64::from(first) + u64::from(more));
            let text = format!("bytes {first}-{last}/{}", last + rest);
            prop_assert_eq!(parse_range(&text), Some((first, last, Some(last + rest))));
        }
    }
}
