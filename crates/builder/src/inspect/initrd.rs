//! Takes any initrd apart: archives one after another, plain or compressed, as `init/initramfs.c` reads them. Nothing is
//! written to disk, bodies are passed over.

use super::newc::{InitrdEntry, Limits, read_archives};
use super::stream::Input;
use serde::Serialize;
use std::io::{BufRead, Read};

/// Memory for decoding .xz: dictionaries of up to 192 MiB.
const XZ_MEMORY: u64 = 256 << 20;

/// One archive, or several in one compressed stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InitrdSegment {
    /// In the file.
    pub offset: u64,
    /// Bytes in the file, with the zero bytes that follow.
    pub packed: u64,
    pub compression: Packing,
    /// Bytes after decompression, as far as they could be read.
    pub unpacked: u64,
    /// Microcode for the boot processor: `kernel/x86/microcode/`, first and uncompressed (Documentation/arch/x86/microcode.rst).
    pub early_microcode: bool,
    /// What stopped the reading, if it did not reach the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    #[serde(skip)]
    pub entries: Vec<InitrdEntry>,
}

/// What a segment is compressed with (`lib/decompress.c` lists the magics).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Packing {
    None,
    Gzip,
    Xz,
    Zstd,
    Lz4Legacy,
    Lzo,
    Lzma,
    Bzip2,
    Unknown,
}

impl Packing {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Lz4Legacy => "lz4 (legacy)",
            Self::Lzo => "lzo",
            Self::Lzma => "lzma",
            Self::Bzip2 => "bzip2",
            Self::Unknown => "unknown",
        }
    }

    fn of(magic: &[u8]) -> Self {
        match magic {
            [b'0', b'7', b'0', b'7', b'0', b'1' | b'2', ..] => Self::None,
            [0x1f, 0x8b | 0x9e, ..] => Self::Gzip,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [0x02, 0x21, 0x4c, 0x18, ..] => Self::Lz4Legacy,
            [0x89, b'L', b'Z', b'O', ..] => Self::Lzo,
            [0x5d, 0, 0, ..] => Self::Lzma,
            [b'B', b'Z', b'h', ..] => Self::Bzip2,
            _ => Self::Unknown,
        }
    }
}

/// Lists the segments of an initrd. Damage ends the list with a segment that says what is wrong.
///
/// # Errors
/// When the file itself cannot be read.
pub fn read_initrd(file: impl Read, mut limits: Limits) -> std::io::Result<Vec<InitrdSegment>> {
    let mut input = Input::new(file);
    let mut segments: Vec<InitrdSegment> = Vec::new();
    loop {
        input.skip_zeros()?;
        let offset = input.position();
        if let Some(last) = segments.last_mut() {
            last.packed = offset - last.offset;
        }
        let magic = input.peek(6)?;
        if magic.is_empty() {
            return Ok(segments);
        }
        let compression = Packing::of(magic);
        let mut segment = read_segment(&mut input, compression, offset, &mut limits);
        let stopped = segment.problem.is_some();
        if stopped {
            // Where the next one would start is not known.
            std::io::copy(&mut input, &mut std::io::sink())?;
        }
        segment.packed = input.position() - offset;
        segments.push(segment);
    }
}

fn read_segment<R: Read>(
    input: &mut Input<R>,
    compression: Packing,
    offset: u64,
    limits: &mut Limits,
) -> InitrdSegment {
    let mut entries = Vec::new();
    let result = match compression {
        Packing::None if !offset.is_multiple_of(4) => {
            Err(format!("a plain archive at byte {offset}, which is no multiple of 4: the kernel refuses it"))
        }
        Packing::None => read_archives(input, true, limits, &mut entries).map(|()| input.position() - offset),
        Packing::Gzip => unpack(flate2::bufread::GzDecoder::new(input), limits, &mut entries),
        Packing::Xz => match liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, 0) {
            Ok(stream) => unpack(liblzma::bufread::XzDecoder::new_stream(input, stream), limits, &mut entries),
            Err(e) => Err(e.to_string()),
        },
        Packing::Zstd => match zstd::Decoder::with_buffer(input) {
            Ok(decoder) => unpack(decoder.single_frame(), limits, &mut entries),
            Err(e) => Err(e.to_string()),
        },
        Packing::Unknown => Err("neither a cpio archive nor a known compression".into()),
        other => Err(format!("{} is not decoded here: the rest is not listed", other.as_str())),
    };
    let early_microcode =
        compression == Packing::None && entries.iter().any(|e| e.path.starts_with("kernel/x86/microcode/"));
    let (unpacked, problem) = match result {
        Ok(unpacked) => (unpacked, None),
        Err(problem) => (0, Some(problem)),
    };
    InitrdSegment { offset, packed: 0, compression, unpacked, early_microcode, problem, entries }
}

/// Reads a compressed stream to its end, so that the input stands behind it.
fn unpack(decoder: impl Read, limits: &mut Limits, entries: &mut Vec<InitrdEntry>) -> Result<u64, String> {
    let mut stream = Input::new(decoder);
    read_archives(&mut stream, false, limits, entries)?;
    match stream.fill_buf() {
        Ok([]) => Ok(stream.position()),
        Ok(_) => Err("bytes after the archive".into()),
        Err(e) => Err(e.to_string()),
    }
}
