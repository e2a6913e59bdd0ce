//! Reads the outer wrapper of a .deb: a plain `ar` archive (deb(5), "common format" of ar(5)).
//!
//! Only what deb(5) allows is read: names of at most 15 characters in the header, no name tables. Nothing is taken
//! into memory but a header.

use std::io::{self, ErrorKind, Read};

const MAGIC: &[u8; 8] = b"!<arch>\n";
const HEADER_BYTES: usize = 60;
const HEADER_END: &[u8; 2] = b"`\n";

/// A member's header.
#[derive(Debug, PartialEq)]
pub struct Member {
    pub name: String,
    /// Bytes.
    pub size: u64,
}

/// Goes through the members of an archive; reading from it reads the body of the member that came last.
#[derive(Debug)]
pub struct ArReader<R> {
    reader: R,
    /// Bytes of the current body that were not read yet.
    left: u64,
    /// A body of odd size is followed by one newline.
    padded: bool,
}

impl<R: Read> ArReader<R> {
    /// Reads the magic.
    pub fn new(mut reader: R) -> io::Result<Self> {
        let mut magic = [0; MAGIC.len()];
        match reader.read_exact(&mut magic) {
            Ok(()) if &magic == MAGIC => Ok(Self { reader, left: 0, padded: false }),
            Err(e) if e.kind() != ErrorKind::UnexpectedEof => Err(e),
            _ => Err(invalid("it is no ar archive")),
        }
    }

    /// Skips what is left of the current member and reads the next header; `None` at the end.
    pub fn next_member(&mut self) -> io::Result<Option<Member>> {
        io::copy(self, &mut io::sink())?;
        let mut header = Vec::with_capacity(HEADER_BYTES);
        if std::mem::take(&mut self.padded) {
            self.reader.by_ref().take(1).read_to_end(&mut header)?;
            header.clear();
        }
        self.reader.by_ref().take(HEADER_BYTES as u64).read_to_end(&mut header)?;
        if header.is_empty() {
            return Ok(None);
        }
        let member = parse_header(&header)?;
        self.left = member.size;
        self.padded = member.size % 2 == 1;
        Ok(Some(member))
    }
}

impl<R: Read> Read for ArReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let n = self.reader.read(&mut buffer[..wanted])?;
        if n == 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, format!("it ends {} bytes too early", self.left)));
        }
        self.left -= n as u64;
        Ok(n)
    }
}

/// ar(5): name 16, time 12, owner 6, group 6, mode 8, size 10 (decimal), end 2; fields padded with blanks.
fn parse_header(header: &[u8]) -> io::Result<Member> {
    if header.len() < HEADER_BYTES || !header.ends_with(HEADER_END) {
        return Err(invalid("a member header is damaged or cut short"));
    }
    let text = |field: &[u8]| std::str::from_utf8(field).ok().map(|t| t.trim_end_matches(' ').to_string());
    // GNU ar ends names with a slash, dpkg does not.
    let name = text(&header[..16]).map(|name| name.strip_suffix('/').map(str::to_string).unwrap_or(name));
    let size = text(&header[48..58]).filter(|size| size.bytes().all(|b| b.is_ascii_digit()));
    match (name, size.and_then(|size| size.parse().ok())) {
        (Some(name), Some(size)) => Ok(Member { name, size }),
        _ => Err(invalid("a member header has a bad name or size")),
    }
}

fn invalid(problem: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, problem)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// An archive of these members.
    pub fn ar_of(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        for (name, body) in members {
            out.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, "100644", body.len()).bytes());
            out.extend_from_slice(body);
            out.extend((body.len() % 2 == 1).then_some(b'\n'));
        }
        out
    }

    fn read_all(bytes: &[u8]) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut ar = ArReader::new(bytes)?;
        let mut found = Vec::new();
        while let Some(member) = ar.next_member()? {
            let mut body = Vec::new();
            ar.read_to_end(&mut body)?;
            found.push((member.name, body));
        }
        Ok(found)
    }

    #[test]
    fn members_come_in_order_and_may_be_skipped() {
        let bytes = ar_of(&[("odd", b"abc"), ("empty", b""), ("gnu/", b"xy"), ("last", b"1")]);
        let names: Vec<_> = read_all(&bytes).unwrap().into_iter().map(|(n, b)| (n, b.len())).collect();
        assert_eq!(names, [("odd".into(), 3), ("empty".into(), 0), ("gnu".into(), 2), ("last".into(), 1)]);
        let mut ar = ArReader::new(&bytes[..]).unwrap();
        let mut count = 0;
        while ar.next_member().unwrap().is_some() {
            count += 1;
        }
        assert_eq!(count, 4);
        // The newline after the last body is often missing.
        assert_eq!(read_all(&bytes[..bytes.len() - 1]).unwrap().len(), 4);
    }

    #[test]
    fn damage_is_named() {
        let good = ar_of(&[("control.tar", b"hello")]);
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            bytes
        };
        for (bytes, problem) in [
            (b"!<arch>".to_vec(), "it is no ar archive"),
            (with(0, b'?'), "it is no ar archive"),
            (with(67, b'x'), "a member header is damaged or cut short"),
            (good[..40].to_vec(), "a member header is damaged or cut short"),
            (with(56, b'-'), "a member header has a bad name or size"),
            (with(56, b'+'), "a member header has a bad name or size"),
            (with(8, 0xff), "a member header has a bad name or size"),
            (with(57, b'9'), "it ends 53 bytes too early"),
            (good[..70].to_vec(), "it ends 3 bytes too early"),
        ] {
            assert_eq!(read_all(&bytes).unwrap_err().to_string(), problem);
        }
    }
}
