//! The kernel command line (Documentation/admin-guide/kernel-parameters.rst): words and `key=value` pairs, separated by
//! blanks, with double quotes.

/// The parsed command line.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cmdline {
    words: Vec<(String, Option<String>)>,
}

/// Reads `/proc/cmdline`. Boot loaders may put any bytes there: sequences that are not UTF-8 become U+FFFD.
pub fn kernel_cmdline() -> std::io::Result<Cmdline> {
    Ok(parse_cmdline(&String::from_utf8_lossy(&std::fs::read("/proc/cmdline")?)))
}

/// Splits a command line as the kernel's `next_arg` does: blanks separate words, double quotes protect blanks and are
/// removed.
pub fn parse_cmdline(text: &str) -> Cmdline {
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut quoted, mut any) = (false, false);
    for c in text.trim_end_matches('\0').chars() {
        match c {
            '"' => {
                quoted = !quoted;
                any = true;
            }
            c if c.is_ascii_whitespace() && !quoted => {
                if any {
                    words.push(split_word(&std::mem::take(&mut word)));
                }
                any = false;
            }
            c => {
                word.push(c);
                any = true;
            }
        }
    }
    if any {
        words.push(split_word(&word));
    }
    Cmdline { words }
}

fn split_word(word: &str) -> (String, Option<String>) {
    match word.split_once('=') {
        Some((key, value)) => (key.into(), Some(value.into())),
        None => (word.into(), None),
    }
}

impl Cmdline {
    /// Value of the last `key=value`. An empty value counts as none, because boot scripts write `key=` when their
    /// variable is not set.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.words.iter().rev().filter(|(k, _)| k == key).find_map(|(_, v)| v.as_deref().filter(|v| !v.is_empty()))
    }

    /// All values of `key=` that are not empty, in their order.
    pub fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        let values = self.words.iter().filter(move |(k, _)| k == key).filter_map(|(_, v)| v.as_deref());
        values.filter(|value| !value.is_empty())
    }

    /// Value of the last `key=value`, which may be empty.
    pub fn stated(&self, key: &str) -> Option<&str> {
        self.words.iter().rev().find(|(k, v)| k == key && v.is_some())?.1.as_deref()
    }

    /// Whether `key` or `key=1` is there and no `key=0` comes after it.
    pub fn flag(&self, key: &str) -> bool {
        self.words.iter().rev().find(|(k, _)| k == key).is_some_and(|(_, v)| v.as_deref().is_none_or(|v| v != "0"))
    }

    /// Appends a word.
    pub fn append(&mut self, word: &str) {
        self.words.push(split_word(word));
    }

    /// Replaces each `key=value` by `key=by`.
    pub fn replace(&mut self, key: &str, value: &str, by: &str) {
        for (_, found) in self.words.iter_mut().filter(|(k, v)| k == key && v.as_deref() == Some(value)) {
            *found = Some(by.into());
        }
    }

    /// Keeps the words for which `keep` returns true, given key and value.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, Option<&str>) -> bool) {
        self.words.retain(|(key, value)| keep(key, value.as_deref()));
    }

    /// All words as key and value; the value is `None` for a word without `=`.
    pub fn words(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.words.iter().map(|(k, v)| (k.as_str(), v.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn words_values_and_quotes() {
        let line = parse_cmdline("BOOT_IMAGE=vmlinuz  quiet a=1 b=\"x y\" a=2 \"c=d e\" f= \n\0");
        assert_eq!(line.value("a"), Some("2"));
        assert_eq!(line.values("a").collect::<Vec<_>>(), ["1", "2"]);
        let unset = parse_cmdline("a=1 a= b=");
        assert_eq!((unset.value("a"), unset.values("a").count(), unset.value("b")), (Some("1"), 1, None));
        assert_eq!((line.value("b"), line.value("c"), line.value("f")), (Some("x y"), Some("d e"), None));
        assert_eq!((line.stated("f"), line.stated("a"), line.stated("quiet")), (Some(""), Some("2"), None));
        assert_eq!((line.value("quiet"), line.flag("quiet"), line.flag("absent")), (None, true, false));
    }

    #[test]
    fn values_are_replaced() {
        let mut line = parse_cmdline("ip=ibft ip=eth1:dhcp root=ibft");
        line.replace("ip", "ibft", "eth0:dhcp");
        assert_eq!(line, parse_cmdline("ip=eth0:dhcp ip=eth1:dhcp root=ibft"));
    }

    #[test]
    fn flags_switch_on_and_off() {
        for (text, expected) in [("bw.debug", true), ("bw.debug=1", true), ("bw.debug bw.debug=0", false), ("", false)]
        {
            assert_eq!(parse_cmdline(text).flag("bw.debug"), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(text in "[a-c=\" .\0]{0,40}") {
            parse_cmdline(&text);
        }

        #[test]
        fn quoted_values_come_back(value in "[a-z0-9 =.]{0,20}") {
            let line = parse_cmdline(&format!("x=1 key=\"{value}\" y"));
            prop_assert_eq!(line.stated("key"), Some(value.as_str()));
        }
    }
}
