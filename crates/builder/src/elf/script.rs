//! What runs a script: the line after `#!`, as the kernel takes it (fs/binfmt_script.c), and what env(1) makes of it.

/// How much of a file the kernel looks at (`BINPRM_BUF_SIZE`, include/uapi/linux/binfmts.h).
pub const LOOKED_AT: usize = 256;

/// The parts of a `#!` line. Bytes that are not UTF-8 are replaced: no path of an image has such.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shebang {
    /// The path that the kernel opens, to the byte: a carriage return before the end of the line is part of it.
    pub interpreter: String,
    /// All that follows is one argument, blanks within it too.
    pub argument: Option<String>,
}

/// Why the kernel does not take a file for a script although it begins with `#!`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShebangProblem {
    #[error("its `#!` line names no interpreter")]
    NoInterpreter,
    #[error("the interpreter in its `#!` line does not end within {LOOKED_AT} bytes, and the kernel reads no more")]
    TooLong,
}

/// Parses the start of a file, of which [`LOOKED_AT`] bytes count. `None` when it does not begin with `#!`.
pub fn parse_shebang(start: &[u8]) -> Option<Result<Shebang, ShebangProblem>> {
    let line = start.get(..start.len().min(LOOKED_AT))?.strip_prefix(b"#!")?;
    Some(match line.iter().position(|b| *b == b'\n') {
        Some(end) => parse_line(&line[..end], true),
        // The kernel fills its buffer up with zeros where the file ends.
        None => parse_line(line, start.len() < LOOKED_AT),
    })
}

fn parse_line(line: &[u8], is_whole: bool) -> Result<Shebang, ShebangProblem> {
    let is_blank = |b: &u8| matches!(b, b' ' | b'\t');
    let skip_blanks = |text: &[u8]| text.iter().position(|b| !is_blank(b));
    let name = skip_blanks(line).map(|at| &line[at..]).ok_or(ShebangProblem::NoInterpreter)?;
    let end = name.iter().position(|b| is_blank(b) || *b == 0);
    let end = match end {
        Some(end) => end,
        None if is_whole => name.len(),
        None => return Err(ShebangProblem::TooLong),
    };
    let (interpreter, rest) = name.split_at(end);
    // The kernel puts the zero that ends the argument into the last byte of its buffer.
    let rest = if is_whole { rest } else { &rest[..rest.len() - 1] };
    if interpreter.is_empty() {
        return Err(ShebangProblem::NoInterpreter);
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let argument = match rest.first() {
        None | Some(0) => None,
        Some(_) => skip_blanks(rest).map(|at| &rest[at..]),
    };
    // Blanks at the end are dropped, and a zero ends the string.
    let argument = argument.map(|bytes| bytes.split(|b| *b == 0).next().unwrap_or_default());
    let argument = argument.map(|bytes| text(bytes).trim_end_matches([' ', '\t']).to_string());
    Ok(Shebang { interpreter: text(interpreter), argument: argument.filter(|text| !text.is_empty()) })
}

impl Shebang {
    /// The program that env(1) looks for in `$PATH`, when that is what runs the script. Without `-S` the whole argument is
    /// the program's name.
    pub fn env_program(&self) -> Option<String> {
        if self.interpreter.rsplit('/').next() != Some("env") {
            return None;
        }
        let argument = self.argument.as_deref()?;
        let Some(words) = split_string(argument) else {
            return (!argument.starts_with('-') && !argument.contains('=')).then(|| argument.into());
        };
        let mut words = words.split_ascii_whitespace();
        while let Some(word) = words.next() {
            match word {
                // Their value is the next word.
                "-u" | "-C" | "--unset" | "--chdir" => drop(words.next()),
                _ if word.starts_with('-') || word.contains('=') => {}
                program => return Some(program.into()),
            }
        }
        None
    }
}

/// What `-S`, alone or after other letters (`-vS`), splits into words.
fn split_string(argument: &str) -> Option<&str> {
    if let Some(rest) = argument.strip_prefix("--split-string") {
        return rest.strip_prefix(['=', ' ']);
    }
    let letters = argument.strip_prefix('-')?;
    let at = letters.find('S')?;
    letters[..at].chars().all(|c| "iv0".contains(c)).then(|| &letters[at + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(start: &str) -> Option<Result<(String, Option<String>), ShebangProblem>> {
        parse_shebang(start.as_bytes()).map(|line| line.map(|s| (s.interpreter, s.argument)))
    }

    #[test]
    fn lines_are_read_as_the_kernel_reads_them() {
        let taken =
            |interpreter: &str, argument: Option<&str>| Some(Ok((interpreter.into(), argument.map(Into::into))));
        let x = |n: usize| "x".repeat(n);
        for (start, expected) in [
            ("#!/bin/sh\necho", taken("/bin/sh", None)),
            ("#! \t/bin/sh \t-e -u \t\n", taken("/bin/sh", Some("-e -u"))),
            ("#!/bin/sh\r\necho\r\n", taken("/bin/sh\r", None)),
            ("#!/bin/sh -e\r\n", taken("/bin/sh", Some("-e\r"))),
            ("#!/bin/sh", taken("/bin/sh", None)),
            ("#!/bin/sh\0junk\n", taken("/bin/sh", None)),
            ("#!/bin/sh -e\0junk\n", taken("/bin/sh", Some("-e"))),
            ("#!/bin/sh\u{b}x\n", taken("/bin/sh\u{b}x", None)),
            ("#!", Some(Err(ShebangProblem::NoInterpreter))),
            ("#!  \n/bin/sh", Some(Err(ShebangProblem::NoInterpreter))),
            ("#!\0\n", Some(Err(ShebangProblem::NoInterpreter))),
            ("# no script", None),
            (" #!/bin/sh", None),
            ("", None),
        ] {
            assert_eq!(parts(start), expected, "{start:?}");
        }
        // What ends the name must lie in the first 256 bytes.
        let line = |n: usize, end: &str| format!("#!/{}{end}", x(n));
        assert_eq!(parts(&line(252, "\n")), taken(&format!("/{}", x(252)), None));
        assert_eq!(parts(&line(253, "\n")), Some(Err(ShebangProblem::TooLong)));
        assert_eq!(
            parts(&line(248, " -e -u\n")),
            taken(&format!("/{}", x(248)), Some("-e")),
            "the argument is cut off"
        );
        assert_eq!(parts(&line(252, " -e\n")), taken(&format!("/{}", x(252)), None));
        assert_eq!(parts(&line(253, " -e\n")), Some(Err(ShebangProblem::TooLong)));
        assert_eq!(parts(&line(252, "")), taken(&format!("/{}", x(252)), None), "the file ends");
    }

    #[test]
    fn env_looks_for_one_program() {
        for (line, program) in [
            ("#!/usr/bin/env python3\n", Some("python3")),
            ("#!/usr/bin/env python3 -u\n", Some("python3 -u")),
            ("#!/usr/bin/env python3\r\n", Some("python3\r")),
            ("#!/usr/bin/env -S A=1 python3 -u\n", Some("python3")),
            ("#!/usr/bin/env -S -u HOME -i python3\n", Some("python3")),
            ("#!/usr/bin/env -vSpython3 -u\n", Some("python3")),
            ("#!/usr/bin/env --split-string=python3 -u\n", Some("python3")),
            ("#!/usr/bin/env -i\n", None),
            ("#!/usr/bin/env\n", None),
            ("#!/bin/sh -e\n", None),
        ] {
            let shebang = parse_shebang(line.as_bytes()).unwrap().unwrap();
            assert_eq!(shebang.env_program().as_deref(), program, "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn no_line_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Some(Ok(shebang)) = parse_shebang(&[b"#!".to_vec(), bytes].concat()) {
                prop_assert!(!shebang.interpreter.is_empty());
                let _ = shebang.env_program();
            }
        }
    }
}
