//! The text of login and text PDUs: `key=value` pairs, each ended by a NUL byte (RFC 7143 section 6.1).

use bootwright_contract::hex;

/// Longest key name (RFC 7143 section 6.1).
const KEY_LIMIT: usize = 63;
/// Longest text over several PDUs, in bytes. A login's text has at most 8192; lists of targets can be longer.
pub const TEXT_LIMIT: usize = 64 << 10;

/// Why a text is malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    #[error("a key is not text")]
    NotText,
    #[error("`{0}` is no key=value pair")]
    NoPair(String),
    #[error("`{key}` is no {expected}: `{value}`")]
    Value { key: String, expected: &'static str, value: String },
    #[error("the text is longer than {TEXT_LIMIT} bytes")]
    TooLong,
}

/// Keys and values in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text(Vec<(String, String)>);

/// Parses a text. Empty pairs are skipped, because some targets pad with NUL bytes.
///
/// # Errors
/// [`TextError`]
pub fn parse_text(bytes: &[u8]) -> Result<Text, TextError> {
    let mut pairs = Vec::new();
    for pair in bytes.split(|byte| *byte == 0).filter(|pair| !pair.is_empty()) {
        let pair = std::str::from_utf8(pair).map_err(|_| TextError::NotText)?;
        let good = |key: &str| (1..=KEY_LIMIT).contains(&key.len()) && key.bytes().all(is_key_byte);
        match pair.split_once('=').filter(|(key, _)| good(key)) {
            Some((key, value)) => pairs.push((key.into(), value.into())),
            None => return Err(TextError::NoPair(pair.chars().take(KEY_LIMIT).collect())),
        }
    }
    Ok(Text(pairs))
}

fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b".-+@_#".contains(&byte)
}

impl Text {
    /// Adds a pair.
    pub fn push(&mut self, key: &str, value: &str) {
        self.0.push((key.into(), value.into()));
    }

    /// All pairs.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Value of the first pair with this key.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.pairs().find(|(k, _)| *k == key).map(|(_, value)| value)
    }

    /// The value as a number; `None` when the key is not there.
    ///
    /// # Errors
    /// [`TextError`] when it is no number.
    pub fn number(&self, key: &str) -> Result<Option<u32>, TextError> {
        self.value(key).map(|value| parse_number(key, value)).transpose()
    }

    /// The value as bytes; `None` when the key is not there.
    ///
    /// # Errors
    /// [`TextError`] when it is no binary value.
    pub fn binary(&self, key: &str) -> Result<Option<Vec<u8>>, TextError> {
        let read = |value| parse_binary(value).ok_or_else(|| bad_value(key, "binary value", value));
        self.value(key).map(read).transpose()
    }

    /// The bytes to send, without padding.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (key, value) in &self.0 {
            bytes.extend_from_slice(key.as_bytes());
            bytes.push(b'=');
            bytes.extend_from_slice(value.as_bytes());
            bytes.push(0);
        }
        bytes
    }
}

fn bad_value(key: &str, expected: &'static str, value: &str) -> TextError {
    TextError::Value { key: key.into(), expected, value: value.chars().take(KEY_LIMIT).collect() }
}

/// Parses a number: decimal, or hex behind `0x`.
pub fn parse_number(key: &str, value: &str) -> Result<u32, TextError> {
    let number = match strip_either(value, "0x", "0X") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => value.parse(),
    };
    number.ok().filter(|_| !value.contains('+')).ok_or_else(|| bad_value(key, "number", value))
}

/// Parses `Yes` or `No`.
pub fn parse_flag(key: &str, value: &str) -> Result<bool, TextError> {
    match value {
        "Yes" => Ok(true),
        "No" => Ok(false),
        _ => Err(bad_value(key, "Yes or No", value)),
    }
}

fn strip_either<'a>(value: &'a str, lower: &str, upper: &str) -> Option<&'a str> {
    value.strip_prefix(lower).or_else(|| value.strip_prefix(upper))
}

/// Parses a binary value: hex behind `0x`, or base64 behind `0b`.
pub fn parse_binary(value: &str) -> Option<Vec<u8>> {
    match strip_either(value, "0x", "0X") {
        Some(digits) => parse_hex(digits.as_bytes()),
        None => parse_base64(strip_either(value, "0b", "0B")?.trim_end_matches('=').as_bytes()),
    }
}

fn parse_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let (odd, pairs) = digits.split_at(digits.len() % 2);
    let mut bytes = odd.iter().map(|first| hex::digit(*first)).collect::<Option<Vec<u8>>>()?;
    bytes.extend(hex::decode(pairs)?);
    Some(bytes)
}

/// Decodes base64 (RFC 4648 section 4) whose padding at the end may be missing.
fn parse_base64(digits: &[u8]) -> Option<Vec<u8>> {
    if digits.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    let (mut bits, mut held) = (0u32, 0);
    for digit in digits {
        let six = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            let [byte, ..] = (bits >> held).to_le_bytes();
            bytes.push(byte);
        }
    }
    Some(bytes)
}

/// Encodes a binary value as hex behind `0x`.
pub fn encode_hex(bytes: &[u8]) -> String {
    ["0x", &hex::encode(bytes)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pairs_are_read_in_order() {
        let text = parse_text(b"TargetName=iqn.a\0TargetAddress=10.0.0.1:3260,1\0TargetAddress=b\0\0\0").unwrap();
        let pairs: Vec<_> = text.pairs().collect();
        assert_eq!(pairs[0], ("TargetName", "iqn.a"));
        assert_eq!((pairs.len(), text.value("TargetAddress")), (3, Some("10.0.0.1:3260,1")));
        assert_eq!(parse_text(b"A=b=c\0").unwrap().value("A"), Some("b=c"));
        assert_eq!(parse_text(b"A=").unwrap().value("A"), Some(""));
        assert_eq!(parse_text(b"\0\0\0\0"), Ok(Text::default()));
    }

    #[test]
    fn bad_texts_are_refused() {
        let long = ["k".repeat(64).as_bytes(), b"=1\0"].concat();
        for bad in [&b"nothing\0"[..], b"=x\0", b"a b=1\0", b"A=\xff\0", &long] {
            assert!(parse_text(bad).is_err(), "{bad:?}");
        }
        let text = parse_text(b"MaxConnections=1x\0CHAP_C=zz\0").unwrap();
        let error = text.number("MaxConnections").unwrap_err().to_string();
        assert_eq!(error, "`MaxConnections` is no number: `1x`");
        assert!(text.binary("CHAP_C").is_err() && text.number("Absent").unwrap().is_none());
    }

    #[test]
    fn values() {
        for (value, expected) in
            [("0", Some(0)), ("262144", Some(262_144)), ("0xfF", Some(255)), ("-1", None), ("+1", None)]
        {
            assert_eq!(parse_number("k", value).ok(), expected, "{value}");
        }
        assert_eq!((parse_flag("k", "Yes"), parse_flag("k", "No")), (Ok(true), Ok(false)));
        assert!(parse_flag("k", "yes").is_err());
        let cases: [(&str, Option<&[u8]>); 9] = [
            ("0x00ff10", Some(&[0, 255, 16])),
            ("0Xabc", Some(&[0xa, 0xbc])),
            ("0x", Some(&[])),
            ("0x0g", None),
            ("0bAQID", Some(&[1, 2, 3])),
            ("0BAQI=", Some(&[1, 2])),
            ("0bAQ==", Some(&[1])),
            ("0bA", None),
            ("12", None),
        ];
        for (value, expected) in cases {
            assert_eq!(parse_binary(value).as_deref(), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(text) = parse_text(&bytes) {
                for (key, value) in text.pairs() {
                    let _ = (parse_number(key, value), parse_binary(value), parse_flag(key, value));
                }
                prop_assert_eq!(parse_text(&text.encode()), Ok(text));
            }
        }

        #[test]
        fn what_is_written_is_read_back(pairs in proptest::collection::vec(("[A-Za-z][A-Za-z0-9.+@_-]{0,62}", "[^\0]{0,40}"), 0..8)) {
            let mut text = Text::default();
            for (key, value) in &pairs {
                text.push(key, value);
            }
            prop_assert_eq!(parse_text(&text.encode()), Ok(text));
        }

        #[test]
        fn binary_values_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let text = encode_hex(&bytes);
            prop_assert_eq!(parse_binary(&text), Some(bytes));
        }
    }
}
