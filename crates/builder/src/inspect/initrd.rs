//! Takes any initrd apart: archives one after another, plain or compressed, as `init/initramfs.c` reads them. Nothing is
//! written to disk, bodies are passed over.

use super::newc::{InitrdEntry, InitrdLimits, NewcReader, SharedInodes};
use super::packed::{check_xz_header, skip_gzip_header, skip_gzip_trailer};
use super::stream::Input;
use serde::Serialize;
use std::io::Read;

/// Memory for decoding .xz and .lzma: dictionaries of up to 192 MiB.
const MEMORY: u64 = 256 << 20;

/// One archive, or several in one compressed stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InitrdSegment {
    /// In the file.
    pub offset: u64,
    /// Bytes in the file, with the zero bytes that follow.
    pub packed: u64,
    pub compression: SegmentPacking,
    /// Bytes after decompression, as far as they could be read.
    pub unpacked: u64,
    /// Microcode for the boot processor: `kernel/x86/microcode/`, first and uncompressed (Documentation/arch/x86/microcode.rst).
    pub early_microcode: bool,
    /// Why the kernel unpacks no more, or what we cannot decode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// What the kernel takes without a word although it is hardly meant so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    #[serde(skip)]
    pub entries: Vec<InitrdEntry>,
}

/// What a segment is compressed with (`lib/decompress.c` lists the magics).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SegmentPacking {
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

impl SegmentPacking {
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

    /// By the first two bytes, as the kernel; an archive by the first.
    fn of(magic: &[u8]) -> Self {
        match magic {
            [b'0', ..] => Self::None,
            [0x1f, 0x8b | 0x9e] => Self::Gzip,
            [0xfd, b'7'] => Self::Xz,
            [0x28, 0xb5] => Self::Zstd,
            [0x02, 0x21] => Self::Lz4Legacy,
            [0x89, b'L'] => Self::Lzo,
            [0x5d, 0] => Self::Lzma,
            [b'B', b'Z'] => Self::Bzip2,
            _ => Self::Unknown,
        }
    }
}

/// Lists the segments of an initrd. Damage ends the list with a segment that says what is wrong.
///
/// # Errors
/// When the file itself cannot be read.
pub fn read_initrd(file: impl Read, mut limits: InitrdLimits) -> std::io::Result<Vec<InitrdSegment>> {
    let mut input = Input::new(file);
    let mut segments: Vec<InitrdSegment> = Vec::new();
    let mut links = SharedInodes::default();
    loop {
        input.skip_zeros()?;
        let offset = input.position();
        if let Some(last) = segments.last_mut() {
            last.packed = offset - last.offset;
        }
        let magic = input.peek(2)?;
        if magic.is_empty() {
            return Ok(segments);
        }
        let compression = SegmentPacking::of(magic);
        let place = SegmentPlace { offset, number: segments.len() as u64 };
        let mut segment = read_segment(&mut input, compression, place, &mut limits, &mut links);
        let stopped = segment.problem.is_some();
        if stopped {
            // Where the next one would start is not known.
            std::io::copy(&mut input, &mut std::io::sink())?;
        }
        segment.packed = input.position() - offset;
        segments.push(segment);
    }
}

#[derive(Clone, Copy)]
struct SegmentPlace {
    offset: u64,
    number: u64,
}

fn read_segment<R: Read>(
    input: &mut Input<R>,
    compression: SegmentPacking,
    place: SegmentPlace,
    limits: &mut InitrdLimits,
    links: &mut SharedInodes,
) -> InitrdSegment {
    let SegmentPlace { offset, number } = place;
    let mut found = SegmentContent { limits, links, number, entries: Vec::new(), notes: Vec::new() };
    let result = match compression {
        SegmentPacking::None if !offset.is_multiple_of(4) => Err(format!(
            "invalid magic at start of compressed archive: a plain archive at byte {offset}, which is no multiple of 4"
        )),
        SegmentPacking::None => found.read_plain(input).map(|()| input.position() - offset),
        SegmentPacking::Gzip => read_gzip(input, &mut found),
        SegmentPacking::Xz => check_xz_header(input).and_then(|()| {
            let stream = liblzma::stream::Stream::new_stream_decoder(MEMORY, 0).map_err(|e| e.to_string())?;
            found.unpack(liblzma::bufread::XzDecoder::new_stream(input, stream))
        }),
        SegmentPacking::Lzma => match liblzma::stream::Stream::new_lzma_decoder(MEMORY) {
            Ok(stream) => found.unpack(liblzma::bufread::XzDecoder::new_stream(input, stream)),
            Err(e) => Err(e.to_string()),
        },
        SegmentPacking::Zstd => match zstd::Decoder::with_buffer(input) {
            Ok(decoder) => found.unpack(decoder.single_frame()),
            Err(e) => Err(e.to_string()),
        },
        SegmentPacking::Unknown => Err("invalid magic at start of compressed archive".into()),
        other => Err(format!("{} is not decoded here: the rest is not listed", other.as_str())),
    };
    let SegmentContent { entries, notes, .. } = found;
    let early_microcode =
        compression == SegmentPacking::None && entries.iter().any(|e| e.path.starts_with("kernel/x86/microcode/"));
    let (unpacked, problem) = match result {
        Ok(unpacked) => (unpacked, None),
        Err(problem) => (0, Some(problem)),
    };
    InitrdSegment { offset, packed: 0, compression, unpacked, early_microcode, problem, notes, entries }
}

/// What is read of a segment, whatever it is packed with.
struct SegmentContent<'a> {
    limits: &'a mut InitrdLimits,
    links: &'a mut SharedInodes,
    number: u64,
    entries: Vec<InitrdEntry>,
    notes: Vec<String>,
}

impl SegmentContent<'_> {
    fn read_plain<R: Read>(&mut self, input: &mut Input<R>) -> Result<(), String> {
        self.read(input, |reader| reader.read_plain())
    }

    /// Reads a compressed stream to its end, so that the input stands behind it.
    fn unpack(&mut self, decoder: impl Read) -> Result<u64, String> {
        let mut stream = Input::new(decoder);
        let is_first = self.number == 0;
        self.read(&mut stream, |reader| reader.read_unpacked(is_first))?;
        Ok(stream.position())
    }

    fn read<R: Read>(
        &mut self,
        input: &mut Input<R>,
        read: impl FnOnce(&mut NewcReader<'_, R>) -> Result<(), String>,
    ) -> Result<(), String> {
        let (entries, notes) = (std::mem::take(&mut self.entries), std::mem::take(&mut self.notes));
        let (limits, links) = (&mut *self.limits, &mut *self.links);
        let mut reader = NewcReader { input, limits, links, segment: self.number, entries, notes };
        let outcome = read(&mut reader);
        (self.entries, self.notes) = (reader.entries, reader.notes);
        outcome
    }
}

fn read_gzip<R: Read>(input: &mut Input<R>, found: &mut SegmentContent<'_>) -> Result<u64, String> {
    skip_gzip_header(input)?;
    let mut decoder = flate2::bufread::DeflateDecoder::new(&mut *input);
    let mut summed = flate2::CrcReader::new(&mut decoder);
    let unpacked = found.unpack(&mut summed)?;
    let sum = summed.crc().sum();
    if !skip_gzip_trailer(input, sum, unpacked)? {
        found.notes.push("its checksum is wrong, at which the kernel does not look".into());
    }
    Ok(unpacked)
}
