//! What the kernel's own decompressors read otherwise than the libraries that we decode with (lib/decompress_inflate.c,
//! lib/xz/xz_dec_stream.c).

use super::stream::Input;
use std::io::Read;

/// The one flag of a header (RFC 1952, section 2.3.1) that the kernel looks at: other fields it takes for data.
const FILE_NAME: u8 = 1 << 3;

/// Passes over the header of a gzip member; the error says why the kernel does not take it.
pub fn skip_gzip_header<R: Read>(input: &mut Input<R>) -> Result<(), String> {
    let mut header = [0; 10];
    input.read_exact(&mut header).map_err(cut_short)?;
    if !header.starts_with(&[0x1f, 0x8b, 8]) {
        return Err("Not a gzip file".into());
    }
    if header[3] & FILE_NAME != 0 {
        let mut byte = [1];
        while byte != [0] {
            input.read_exact(&mut byte).map_err(cut_short)?;
        }
    }
    Ok(())
}

/// Passes over CRC-32 and length after a gzip member; false when they are others.
pub fn skip_gzip_trailer<R: Read>(input: &mut Input<R>, crc: u32, unpacked: u64) -> Result<bool, String> {
    let mut trailer = [0; 8];
    input.read_exact(&mut trailer).map_err(cut_short)?;
    let expected = [crc.to_le_bytes(), (unpacked as u32).to_le_bytes()].concat();
    Ok(trailer[..] == expected)
}

/// Looks at the stream flags of an .xz file (section 2.1.1.2 of its specification): the kernel's decoder knows CRC32 and no
/// check at all.
pub fn check_xz_header<R: Read>(input: &mut Input<R>) -> Result<(), String> {
    let check = match input.peek(8).map_err(cut_short)? {
        [.., 0, 0 | 1] => return Ok(()),
        [.., 0, 4] => "CRC64",
        [.., 0, 10] => "SHA-256",
        _ => "of another kind",
    };
    Err(format!(
        "XZ-compressed data with a checksum {check}, which the kernel does not decode: pack with `xz --check=crc32`"
    ))
}

fn cut_short(cause: std::io::Error) -> String {
    match cause.kind() {
        std::io::ErrorKind::UnexpectedEof => "cut short".into(),
        _ => cause.to_string(),
    }
}
