//! Input that knows where it is and can look ahead.

use std::io::{self, BufRead, Read};

/// A buffered reader that can show the next bytes, however its buffer happens to be filled.
pub struct Input<R> {
    inner: R,
    buffer: Vec<u8>,
    start: usize,
    position: u64,
}

impl<R: Read> Input<R> {
    pub fn new(inner: R) -> Self {
        Self { inner, buffer: Vec::new(), start: 0, position: 0 }
    }

    /// Bytes consumed so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next `n` bytes, fewer at the end of the input.
    pub fn peek(&mut self, n: usize) -> io::Result<&[u8]> {
        while self.buffer.len() - self.start < n {
            if !self.refill()? {
                break;
            }
        }
        let end = self.buffer.len().min(self.start + n);
        Ok(&self.buffer[self.start..end])
    }

    /// Passes over zero bytes.
    pub fn skip_zeros(&mut self) -> io::Result<()> {
        loop {
            let buffer = self.fill_buf()?;
            let zeros = buffer.iter().take_while(|&&b| b == 0).count();
            let all = zeros == buffer.len();
            self.consume(zeros);
            if !all || zeros == 0 {
                return Ok(());
            }
        }
    }

    fn refill(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.start);
        self.start = 0;
        let old = self.buffer.len();
        self.buffer.resize(old + (1 << 16), 0);
        let n = loop {
            match self.inner.read(&mut self.buffer[old..]) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => {
                    self.buffer.truncate(old);
                    return Err(e);
                }
                Ok(n) => break n,
            }
        };
        self.buffer.truncate(old + n);
        Ok(n > 0)
    }
}

impl<R: Read> BufRead for Input<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.buffer.len() {
            self.refill()?;
        }
        Ok(&self.buffer[self.start..])
    }

    fn consume(&mut self, n: usize) {
        self.start += n;
        self.position += n as u64;
    }
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let buffer = self.fill_buf()?;
        let n = buffer.len().min(out.len());
        out[..n].copy_from_slice(&buffer[..n]);
        self.consume(n);
        Ok(n)
    }
}
