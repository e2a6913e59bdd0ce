//! The compressors that the kernel unpacks an initramfs with (`lib/decompress*.c`).
//!
//! The bytes do not depend on the number of jobs: zstd and xz always take their multi-threaded encoder, whose cuts come
//! from the settings alone; a single-threaded one gives other bytes.

use super::PackError;
use crate::recipe::Compression;
use liblzma::stream::{Check, Filters, LzmaOptions, MtStreamBuilder, Stream};
use std::io::{self, Write};

/// Larger dictionaries cost the booting machine their size in memory, and win little.
const MAX_DICTIONARY: u32 = 32 << 20;

/// Refuses levels that the compressor does not have.
pub fn check_level(how: Compression) -> Result<(), PackError> {
    let (compressor, level, range, good) = match how {
        Compression::None => return Ok(()),
        Compression::Gzip(level) => ("gzip", i64::from(level), "0 to 9", level <= 9),
        Compression::Xz { level, .. } => ("xz", i64::from(level), "0 to 9", level <= 9),
        Compression::Zstd(level) => ("zstd", i64::from(level), "1 to 22", (1..=22).contains(&level)),
    };
    match good {
        true => Ok(()),
        false => Err(PackError::BadLevel { compressor: compressor.into(), level, range }),
    }
}

/// The suffix of a file so compressed, with its dot.
pub fn suffix(how: Compression) -> &'static str {
    match how {
        Compression::None => "",
        Compression::Gzip(_) => ".gz",
        Compression::Xz { .. } => ".xz",
        Compression::Zstd(_) => ".zst",
    }
}

/// A stream that compresses what is written to it; [`Compressor::finish`] ends it.
pub enum Compressor<W: Write> {
    None(W),
    Gzip(Blocks<flate2::write::GzEncoder<W>>),
    Xz(liblzma::write::XzEncoder<W>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

impl<W: Write> Compressor<W> {
    /// `size` is the exact number of bytes that will be written. The level must have been checked.
    pub fn new(how: Compression, size: u64, jobs: usize, out: W) -> io::Result<Self> {
        let jobs = u32::try_from(jobs.max(1)).unwrap_or(u32::MAX);
        Ok(match how {
            Compression::None => Self::None(out),
            // mtime 0; the header names no file and no system.
            Compression::Gzip(level) => {
                let encoder = flate2::GzBuilder::new().mtime(0).write(out, flate2::Compression::new(level));
                Self::Gzip(Blocks { out: encoder, block: Vec::with_capacity(BLOCK) })
            }
            Compression::Xz { level, x86 } => {
                Self::Xz(liblzma::write::XzEncoder::new_stream(out, xz_stream(level, x86, jobs)?))
            }
            Compression::Zstd(level) => Self::Zstd(zstd_encoder(level, size, jobs, out)?),
        })
    }

    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::None(out) => Ok(out),
            Self::Gzip(blocks) => blocks.into_inner()?.finish(),
            Self::Xz(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Compressor<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::None(out) => out.write(bytes),
            Self::Gzip(encoder) => encoder.write(bytes),
            Self::Xz(encoder) => encoder.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    // The archive writer flushes after each entry; passed on, that would cut the stream into blocks.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Passes on what is written in blocks of one size: zlib-rs compresses otherwise when it is fed otherwise.
pub struct Blocks<W: Write> {
    out: W,
    block: Vec<u8>,
}

const BLOCK: usize = 1 << 16;

impl<W: Write> Blocks<W> {
    fn into_inner(mut self) -> io::Result<W> {
        self.out.write_all(&self.block)?;
        Ok(self.out)
    }
}

impl<W: Write> Write for Blocks<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BLOCK - self.block.len());
        self.block.extend(&bytes[..taken]);
        if self.block.len() == BLOCK {
            self.out.write_all(&self.block)?;
            self.block.clear();
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The kernel's decoder checks CRC32 and knows the x86 filter (lib/xz, CONFIG_XZ_DEC_X86).
fn xz_stream(level: u32, x86: bool, jobs: u32) -> io::Result<Stream> {
    let mut options = LzmaOptions::new_preset(level)?;
    options.dict_size(dictionary(level));
    let mut filters = Filters::new();
    if x86 {
        filters.x86();
    }
    filters.lzma2(&options);
    let block = u64::from(dictionary(level)) * 3;
    let builder = || {
        let mut builder = MtStreamBuilder::new();
        builder.threads(jobs).block_size(block).timeout_ms(0).check(Check::Crc32);
        builder
    };
    Ok(builder().filters(filters).encoder()?)
}

/// Dictionary sizes of the presets (xz(1)), bounded.
fn dictionary(level: u32) -> u32 {
    let preset = match level {
        0 => 256 << 10,
        1 => 1 << 20,
        2 => 2 << 20,
        3 | 4 => 4 << 20,
        5 | 6 => 8 << 20,
        7 => 16 << 20,
        8 => 32 << 20,
        _ => 64 << 20,
    };
    MAX_DICTIONARY.min(preset)
}

/// The size in the frame lets the kernel allocate no more than the content needs: a smaller one is its own window. Else the window
/// is the level's, 2^27 at most: lib/decompress_unzstd.c refuses more.
fn zstd_encoder<W: Write>(
    level: i32,
    size: u64,
    jobs: u32,
    out: W,
) -> io::Result<zstd::stream::write::Encoder<'static, W>> {
    let mut encoder = zstd::stream::write::Encoder::new(out, level)?;
    encoder.set_pledged_src_size(Some(size))?;
    encoder.include_contentsize(true)?;
    encoder.include_checksum(false)?;
    encoder.multithread(jobs)?;
    Ok(encoder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn sample() -> Vec<u8> {
        let mut state = 7u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..3_000_000).map(|i| if i % 7 < 5 { (i / 1000) as u8 } else { next() }).collect()
    }

    fn compress(how: Compression, jobs: usize, bytes: &[u8], piece: usize) -> Vec<u8> {
        let mut out = Compressor::new(how, bytes.len() as u64, jobs, Vec::new()).unwrap();
        for piece in bytes.chunks(piece) {
            out.write_all(piece).unwrap();
            out.flush().unwrap();
        }
        out.finish().unwrap()
    }

    #[test]
    fn round_trip_and_the_same_bytes_for_any_number_of_jobs() {
        let bytes = sample();
        for how in [
            Compression::None,
            Compression::Gzip(6),
            Compression::Xz { level: 1, x86: false },
            Compression::Xz { level: 0, x86: true },
            Compression::Zstd(3),
        ] {
            let packed = compress(how, 1, &bytes, 1 << 17);
            assert!(packed == compress(how, 3, &bytes, 10_007), "{how:?}");
            let mut back = Vec::new();
            let mut reader: Box<dyn Read> = match how {
                Compression::None => Box::new(&packed[..]),
                Compression::Gzip(_) => Box::new(flate2::read::GzDecoder::new(&packed[..])),
                Compression::Xz { .. } => Box::new(liblzma::read::XzDecoder::new(&packed[..])),
                Compression::Zstd(_) => Box::new(zstd::stream::read::Decoder::new(&packed[..]).unwrap()),
            };
            reader.read_to_end(&mut back).unwrap();
            assert!(back == bytes, "{how:?}");
        }
    }

    #[test]
    fn frames_say_what_the_kernel_wants_to_know() {
        let bytes = sample();
        let zstd = compress(Compression::Zstd(3), 2, &bytes, 1 << 17);
        assert_eq!(zstd::zstd_safe::get_frame_content_size(&zstd).ok().flatten(), Some(bytes.len() as u64));
        // Bit 5 of the frame's descriptor: no window is declared, the content is it (RFC 8878, 3.1.1.1.1).
        let small = &bytes[..1 << 20];
        assert_eq!(compress(Compression::Zstd(22), 2, small, 1 << 17)[4] & 0x20, 0x20);
        // Stream flags of the xz header: check 1 is CRC32 (xz file format, 2.1.1.2).
        assert_eq!(compress(Compression::Xz { level: 0, x86: true }, 2, &bytes, 1 << 17)[6..8], [0, 1]);
        // MTIME of the gzip header (RFC 1952, 2.3).
        assert_eq!(compress(Compression::Gzip(1), 1, &bytes, 1 << 17)[4..8], [0; 4]);
    }

    #[test]
    fn levels() {
        for bad in [
            Compression::Gzip(10),
            Compression::Xz { level: 10, x86: true },
            Compression::Zstd(0),
            Compression::Zstd(23),
            Compression::Zstd(-1),
        ] {
            assert!(check_level(bad).is_err(), "{bad:?}");
        }
        for good in
            [Compression::None, Compression::Gzip(0), Compression::Xz { level: 9, x86: false }, Compression::Zstd(22)]
        {
            assert!(check_level(good).is_ok(), "{good:?}");
        }
    }
}
