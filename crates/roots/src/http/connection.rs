//! A response on one connection: its head, then its body in pieces.

use super::HttpError;
use super::message::{ResponseHead, parse_chunk_size, parse_head};
use super::pace::Pace;
use std::io::{self, Read, Write};
use std::rc::Rc;

/// A connection in both directions, plain or encrypted.
pub trait Stream: Read + Write + Send {}

impl<T: Read + Write + Send> Stream for T {}

/// Bytes that are read at once.
const BUFFER: usize = 64 << 10;
/// Longest head, and longest line of a chunked body, in bytes.
const LONGEST_HEAD: usize = 16 << 10;
const LONGEST_LINE: usize = 256;

/// How the end of the body is found.
enum Framing {
    /// After so many bytes.
    Length(u64),
    /// After an empty chunk. `left`: bytes that are left of the current chunk.
    Chunked { left: u64, first: bool },
    /// At the end of the connection.
    Close,
}

/// A connection on which a request was sent.
pub struct HttpConnection {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    /// The part of the buffer that was not used yet.
    unused: std::ops::Range<usize>,
    framing: Framing,
    pace: Rc<Pace>,
}

impl HttpConnection {
    /// Sends the request and reads the head of the answer. `pace` counts all bytes, and ends the download when they are
    /// too few.
    ///
    /// # Errors
    /// [`HttpError`]
    pub fn ask(
        mut stream: Box<dyn Stream>,
        request: &str,
        pace: Rc<Pace>,
    ) -> Result<(ResponseHead, HttpConnection), HttpError> {
        stream.write_all(request.as_bytes()).map_err(HttpError::Broken)?;
        let mut connection =
            HttpConnection { stream, buffer: vec![0; BUFFER], unused: 0..0, framing: Framing::Close, pace };
        let head = loop {
            let text = connection.read_until(b"\r\n\r\n", LONGEST_HEAD)?;
            let head = parse_head(&text)?;
            // Informational answers such as 100 Continue come before the final one.
            if !(100..200).contains(&head.status) {
                break head;
            }
        };
        connection.framing = match head {
            ResponseHead { chunked: true, .. } => Framing::Chunked { left: 0, first: true },
            ResponseHead { length: Some(length), .. } => Framing::Length(length),
            _ => Framing::Close,
        };
        Ok((head, connection))
    }

    /// The next piece of the body; empty at its end.
    pub fn next_piece(&mut self) -> Result<&[u8], HttpError> {
        if let Framing::Chunked { left: 0, .. } = self.framing {
            self.open_chunk()?;
        }
        let most = match self.framing {
            Framing::Length(left) | Framing::Chunked { left, .. } => left,
            Framing::Close => u64::MAX,
        };
        if most == 0 {
            return Ok(&[]);
        }
        if self.unused.is_empty() && self.fill()? == 0 {
            return match self.framing {
                Framing::Close => Ok(&[]),
                _ => Err(HttpError::Closed),
            };
        }
        let length = self.unused.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        if let Framing::Length(left) | Framing::Chunked { left, .. } = &mut self.framing {
            *left -= length as u64;
        }
        let start = self.unused.start;
        self.unused.start += length;
        Ok(self.buffer.get(start..start + length).unwrap_or_default())
    }

    /// Reads the line that begins a chunk. The last chunk has size 0.
    fn open_chunk(&mut self) -> Result<(), HttpError> {
        if let Framing::Chunked { first: false, .. } = self.framing {
            // The end of the chunk before.
            self.read_until(b"\r\n", 2)?;
        }
        let line = self.read_until(b"\r\n", LONGEST_LINE)?;
        let left = parse_chunk_size(&String::from_utf8_lossy(&line)).ok_or(HttpError::Chunk)?;
        self.framing = if left == 0 { Framing::Length(0) } else { Framing::Chunked { left, first: false } };
        Ok(())
    }

    /// Reads to `end`, and returns the bytes before it.
    fn read_until(&mut self, end: &[u8], longest: usize) -> Result<Vec<u8>, HttpError> {
        let mut text = Vec::new();
        while !text.ends_with(end) {
            if text.len() == longest {
                return Err(HttpError::TooLong);
            }
            if self.unused.is_empty() && self.fill()? == 0 {
                return Err(HttpError::Closed);
            }
            text.extend(self.buffer.get(self.unused.start));
            self.unused.start += 1;
        }
        text.truncate(text.len() - end.len());
        Ok(text)
    }

    fn fill(&mut self) -> Result<usize, HttpError> {
        loop {
            match self.stream.read(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(HttpError::Broken(error)),
                Ok(length) => {
                    self.unused = 0..length;
                    self.pace.count(length)?;
                    return Ok(length);
                }
            }
        }
    }
}
