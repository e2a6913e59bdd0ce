//! Bytes as hex digits.

/// Two lower-case digits for each byte.
pub fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| char::from(DIGITS[usize::from(n & 15)]);
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(*b)]).collect()
}

/// The bytes of an even number of digits, upper or lower case; `None` for anything else.
pub fn decode(digits: &[u8]) -> Option<Vec<u8>> {
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

/// The value of one digit.
pub fn digit(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_and_bytes() {
        for (bytes, text) in [(&[][..], ""), (&[0], "00"), (&[0xab, 0x01, 0xff], "ab01ff")] {
            assert_eq!((encode(bytes).as_str(), decode(text.as_bytes()).as_deref()), (text, Some(bytes)));
        }
        assert_eq!(decode(b"AbCd").as_deref(), Some(&[0xab, 0xcd][..]));
        for wrong in ["0", "0g", "+1", "-1", " 1", "\u{e9}"] {
            assert_eq!(decode(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
