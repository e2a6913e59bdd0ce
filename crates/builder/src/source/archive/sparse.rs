//! Files with holes in pax archives: GNU tar's formats 0.0, 0.1 and 1.0 (its manual, "Storing Sparse Files"). The older
//! format of GNU archives is read by the `tar` crate.

use super::HEADER_BYTES;
use std::io::{self, Read};

/// What the pax records say of a file with holes.
#[derive(Debug, PartialEq, Eq)]
pub struct Sparse {
    /// The file's own name, where the member has a made-up one.
    pub name: Option<Vec<u8>>,
    /// Bytes of the file with its holes.
    pub size: u64,
    /// (offset, length) of each piece that the archive holds, in order.
    map: Vec<(u64, u64)>,
}

const BLOCK: usize = 512;

impl Sparse {
    /// `None` for a file without holes. Of format 1.0 the map is read, which stands in front of the body.
    pub fn of<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<Option<Self>, String> {
        let (mut name, mut size, mut in_body) = (None, None, false);
        let mut numbers: Vec<u64> = Vec::new();
        let records = entry.pax_extensions().map_err(|e| format!("cannot be read: {e}"))?;
        for record in records.into_iter().flatten() {
            let record = record.map_err(|_| "a bad pax header")?;
            let value = record.value_bytes();
            match record.key_bytes() {
                b"GNU.sparse.name" => name = Some(value.to_vec()),
                b"GNU.sparse.size" | b"GNU.sparse.realsize" => size = Some(number(value)?),
                b"GNU.sparse.major" => in_body = value == b"1",
                b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => numbers.push(number(value)?),
                b"GNU.sparse.map" => {
                    numbers = value.split(|b| *b == b',').map(number).collect::<Result<_, _>>()?;
                }
                _ => {}
            }
        }
        let size = match size {
            Some(size) => size,
            None if in_body || !numbers.is_empty() => return Err(BAD.into()),
            None => return Ok(None),
        };
        if in_body {
            numbers = read_map(entry)?;
        }
        let map: Vec<(u64, u64)> = numbers.chunks(2).map(|pair| (pair[0], pair.get(1).copied().unwrap_or(0))).collect();
        let mut end = 0;
        for (offset, length) in &map {
            end = (*offset >= end)
                .then(|| offset.checked_add(*length))
                .flatten()
                .filter(|end| *end <= size)
                .ok_or(BAD)?;
        }
        Ok(Some(Self { name, size, map }))
    }

    /// The whole file: `body` with zeros where the holes are.
    pub fn expand<R: Read>(self, body: R) -> Expanded<R> {
        Expanded { body, at: 0, size: self.size, map: self.map, next: 0 }
    }
}

const BAD: &str = "a sparse file with a bad map";

fn number(text: &[u8]) -> Result<u64, String> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or_else(|| BAD.into())
}

/// The numbers in front of a body: how many pieces, then offset and length of each, a line each, padded to whole blocks.
fn read_map(body: &mut impl Read) -> Result<Vec<u64>, String> {
    let (mut text, mut lines, mut wanted) = (Vec::new(), 0, None);
    loop {
        let mut block = [0; BLOCK];
        body.read_exact(&mut block).map_err(|e| format!("{BAD}: {e}"))?;
        text.extend(block);
        lines += block.iter().filter(|b| **b == b'\n').count() as u64;
        if wanted.is_none() && lines > 0 {
            let first = text.split(|b| *b == b'\n').next().unwrap_or_default();
            wanted = Some(number(first)?.checked_mul(2).ok_or(BAD)?);
        }
        if wanted.is_some_and(|wanted| lines > wanted) {
            break;
        }
        if text.len() as u64 > HEADER_BYTES {
            return Err(format!("a sparse file with a map of more than {HEADER_BYTES} bytes"));
        }
    }
    let wanted = wanted.unwrap_or_default() as usize;
    text.split(|b| *b == b'\n').skip(1).take(wanted).map(number).collect()
}

/// Reads a file with its holes.
pub struct Expanded<R> {
    body: R,
    at: u64,
    size: u64,
    map: Vec<(u64, u64)>,
    /// The piece that is read, or the next one.
    next: usize,
}

impl<R: Read> Read for Expanded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.map.get(self.next).is_some_and(|(offset, length)| offset + length <= self.at) {
            self.next += 1;
        }
        let (offset, length) = self.map.get(self.next).copied().unwrap_or((self.size, 0));
        let in_piece = self.at >= offset;
        let left = if in_piece { offset + length - self.at } else { offset - self.at };
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let n = match in_piece {
            true => self.body.read(&mut buffer[..n])?,
            false => {
                buffer[..n].fill(0);
                n
            }
        };
        self.at += n as u64;
        Ok(n)
    }
}
