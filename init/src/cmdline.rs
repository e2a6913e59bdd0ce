//! The kernel command line (Documentation/admin-guide/kernel-parameters.rst): words, `key=value`, double quotes.

/// The parsed command line.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cmdline {
    words: Vec<(String, Option<String>)>,
}

/// Splits as the kernel's `next_arg` does: blanks separate, double quotes protect and are removed.
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
    /// Value of the last `key=value`.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.words.iter().rev().find(|(k, v)| k == key && v.is_some())?.1.as_deref()
    }

    /// All values of `key=`, in order.
    pub fn values<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.words.iter().filter(move |(k, _)| k == key).filter_map(|(_, v)| v.as_deref())
    }

    /// `key` alone, or `key=1`; `key=0` switches off again.
    pub fn flag(&self, key: &str) -> bool {
        self.words.iter().rev().find(|(k, _)| k == key).is_some_and(|(_, v)| v.as_deref().is_none_or(|v| v != "0"))
    }
}
