//! The parser: RFC 8259 into a tree.

use super::JsonError;

/// A JSON value; integers only.
#[derive(Debug, PartialEq)]
pub enum Json {
    Null,
    Bool(bool),
    Integer(i128),
    String(String),
    Array(Vec<Json>),
    /// In the text's order; a key that is there twice stays so, and the types refuse it.
    Object(Vec<(String, Json)>),
}

/// Deeper nesting is refused: it would overflow the stack, and nothing needs it.
const DEEPEST: u32 = 64;

struct Parser<'a> {
    text: &'a [u8],
    at: usize,
}

/// Parses one value with blanks around it.
pub fn parse(text: &[u8]) -> Result<Json, JsonError> {
    let mut parser = Parser { text, at: 0 };
    let value = parser.value(DEEPEST)?;
    parser.skip_blanks();
    if parser.at == text.len() { Ok(value) } else { Err(parser.wrong("nothing more")) }
}

impl Parser<'_> {
    fn value(&mut self, depth: u32) -> Result<Json, JsonError> {
        self.skip_blanks();
        if depth == 0 {
            return Err(self.wrong("less nesting"));
        }
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(Json::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'n') => self.word("null", Json::Null),
            _ => Err(self.wrong("a value")),
        }
    }

    fn object(&mut self, depth: u32) -> Result<Json, JsonError> {
        let mut members = Vec::new();
        self.list(b'}', &mut |parser| {
            let key = parser.string()?;
            parser.skip_blanks();
            parser.take(b':', "`:`")?;
            let value = parser.value(depth - 1)?;
            members.push((key, value));
            Ok(())
        })?;
        Ok(Json::Object(members))
    }

    fn array(&mut self, depth: u32) -> Result<Json, JsonError> {
        let mut items = Vec::new();
        self.list(b']', &mut |parser| {
            items.push(parser.value(depth - 1)?);
            Ok(())
        })?;
        Ok(Json::Array(items))
    }

    /// From the opening bracket to the closing one.
    fn list(&mut self, close: u8, item: &mut dyn FnMut(&mut Self) -> Result<(), JsonError>) -> Result<(), JsonError> {
        self.at += 1;
        self.skip_blanks();
        if self.peek() == Some(close) {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.skip_blanks();
            item(self)?;
            self.skip_blanks();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(byte) if byte == close => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.wrong("`,` or the end of the list")),
            }
        }
    }

    fn string(&mut self) -> Result<String, JsonError> {
        self.take(b'"', "`\"`")?;
        let mut bytes = Vec::new();
        loop {
            let byte = self.peek().filter(|b| *b >= 0x20).ok_or_else(|| self.wrong("the end of the string"))?;
            self.at += 1;
            match byte {
                b'"' => break,
                b'\\' => self.escape(&mut bytes)?,
                byte => bytes.push(byte),
            }
        }
        String::from_utf8(bytes).map_err(|_| self.wrong("UTF-8"))
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), JsonError> {
        let byte = self.peek().ok_or_else(|| self.wrong("an escape"))?;
        self.at += 1;
        let plain = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let c = self.unicode()?;
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(self.wrong("an escape")),
        };
        bytes.push(plain);
        Ok(())
    }

    /// After `\u`: four digits, or a surrogate pair.
    fn unicode(&mut self) -> Result<char, JsonError> {
        let mut code = self.hex4()?;
        if (0xd800..0xdc00).contains(&code) {
            self.take(b'\\', "a second surrogate")?;
            self.take(b'u', "a second surrogate")?;
            let low = self.hex4()?.wrapping_sub(0xdc00);
            code = if low < 0x400 { 0x10000 + ((code - 0xd800) << 10) + low } else { code };
        }
        char::from_u32(code).ok_or_else(|| self.wrong("a character"))
    }

    fn hex4(&mut self) -> Result<u32, JsonError> {
        let mut code = 0;
        for _ in 0..4 {
            let digit =
                self.peek().and_then(|b| char::from(b).to_digit(16)).ok_or_else(|| self.wrong("a hex digit"))?;
            code = code * 16 + digit;
            self.at += 1;
        }
        Ok(code)
    }

    fn number(&mut self) -> Result<Json, JsonError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')) {
            self.at += 1;
        }
        let digits = std::str::from_utf8(&self.text[start..self.at]).unwrap_or_default();
        let (negative, unsigned) = match digits.strip_prefix('-') {
            Some(unsigned) => (true, unsigned),
            None => (false, digits),
        };
        let leading_zero = unsigned.len() > 1 && unsigned.starts_with('0');
        let value = unsigned.parse::<u64>().ok().map(i128::from).filter(|_| !leading_zero);
        let signed = value.map(|v| if negative { -v } else { v });
        signed.map(Json::Integer).ok_or_else(|| self.wrong("an integer"))
    }

    fn word(&mut self, word: &str, value: Json) -> Result<Json, JsonError> {
        match self.text[self.at..].starts_with(word.as_bytes()) {
            true => {
                self.at += word.len();
                Ok(value)
            }
            false => Err(self.wrong("a value")),
        }
    }

    fn take(&mut self, byte: u8, name: &str) -> Result<(), JsonError> {
        if self.peek() != Some(byte) {
            return Err(self.wrong(name));
        }
        self.at += 1;
        Ok(())
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    /// Where and what; the end of the text is what a truncated file looks like.
    fn wrong(&self, expected: &str) -> JsonError {
        let place = if self.at >= self.text.len() { "the text ends at byte " } else { "at byte " };
        let reason = [place, &self.at.to_string(), ", expected ", expected].concat();
        JsonError { keys: String::new(), reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reason(text: &str) -> String {
        parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn bad_texts() {
        let deep = "[".repeat(100);
        for (text, expected) in [
            ("", "the text ends at byte 0, expected a value"),
            ("{\"a\":1", "the text ends at byte 6, expected `,` or the end of the list"),
            ("{\"a", "the text ends at byte 3, expected the end of the string"),
            ("{a:1}", "at byte 1, expected `\"`"),
            ("{\"a\" 1}", "at byte 5, expected `:`"),
            ("[1,]", "at byte 3, expected a value"),
            ("[1 2]", "at byte 3, expected `,` or the end of the list"),
            ("1.5", "the text ends at byte 3, expected an integer"),
            ("01", "the text ends at byte 2, expected an integer"),
            ("-", "the text ends at byte 1, expected an integer"),
            ("99999999999999999999", "the text ends at byte 20, expected an integer"),
            ("truth", "at byte 0, expected a value"),
            ("1 1", "at byte 2, expected nothing more"),
            ("\"\\q\"", "at byte 3, expected an escape"),
            ("\"\\u12x4\"", "at byte 5, expected a hex digit"),
            ("\"\\ud800\"", "at byte 7, expected a second surrogate"),
            ("\"\\ud800\\u0041\"", "at byte 13, expected a character"),
            ("\"\n\"", "at byte 1, expected the end of the string"),
            (&deep, "at byte 64, expected less nesting"),
        ] {
            assert_eq!(reason(text), expected, "{text}");
        }
        assert!(parse(b"\"\xff\"").unwrap_err().to_string().contains("UTF-8"));
    }

    /// serde_json's value as ours.
    fn ours(value: &serde_json::Value) -> Json {
        use serde_json::Value;
        match value {
            Value::Null => Json::Null,
            Value::Bool(b) => Json::Bool(*b),
            Value::Number(n) => Json::Integer(n.as_i128().expect("only integers are made")),
            Value::String(s) => Json::String(s.clone()),
            Value::Array(items) => Json::Array(items.iter().map(ours).collect()),
            Value::Object(members) => Json::Object(members.iter().map(|(k, v)| (k.clone(), ours(v))).collect()),
        }
    }

    fn any_value() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::Value;
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::hash_map(any::<String>(), inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn agrees_with_serde_json(value in any_value()) {
            prop_assert_eq!(parse(value.to_string().as_bytes()), Ok(ours(&value)));
            prop_assert_eq!(parse(format!("{value:#}").as_bytes()), Ok(ours(&value)));
        }

        #[test]
        fn no_input_panics_and_no_truncation_passes(value in any_value(), cut in 1usize..40) {
            let text = format!("[{value}]");
            let cut = text.len().saturating_sub(cut);
            prop_assert!(parse(&text.as_bytes()[..cut]).is_err());
        }

        #[test]
        fn noise_never_panics(noise in "[\\[\\]{}\",:0-9a-fu\\\\ntr. -]{0,40}") {
            let _ = parse(noise.as_bytes());
        }
    }
}
