//! Which component and which file takes how much of a packed segment: an estimate for people, and for budgets by component.

use super::PackError;
use crate::entry::{Body, Entry, Kind};
use crate::parallel;
use crate::segment::ComponentShare;
use std::collections::BTreeMap;
use std::io::{self, Write};

/// Parts of a packed segment. Bytes.
#[derive(Debug, Default, PartialEq)]
pub struct Shares {
    pub components: BTreeMap<String, ComponentShare>,
    /// Packed bytes of regular files by path.
    pub files: BTreeMap<String, u64>,
}

/// Shares out a segment of `packed_size` bytes; entries come with the name of their component. Each file is compressed on its own, quickly (zstd 1), and the results are
/// scaled so that they add up to the segment's size: what files share by solid compression is spread over them.
pub fn shares_of<'a>(
    entries: impl Iterator<Item = (&'a str, &'a Entry)>,
    packed_size: u64,
    jobs: usize,
) -> Result<Shares, PackError> {
    let files: Vec<(&str, &str, &Body)> = entries
        .filter_map(|(component, entry)| match &entry.kind {
            Kind::File(body) => Some((component, entry.path.as_str(), body)),
            _ => None,
        })
        .collect();
    let sizes = parallel::map(&files, jobs, |(_, path, body)| compressed_size(path, body));
    let sizes = sizes.into_iter().collect::<Result<Vec<u64>, _>>()?;
    let total = sizes.iter().sum();
    let mut shares = Shares::default();
    for ((component, path, body), size) in files.iter().zip(sizes) {
        let packed = scale(size, packed_size, total);
        shares.files.insert(path.to_string(), packed);
        let share = shares.components.entry(component.to_string()).or_default();
        share.files += 1;
        share.raw += body.size;
        share.packed += packed;
    }
    Ok(shares)
}

/// `part` of `whole`, as `of` is of it; rounded down, no overflow.
fn scale(part: u64, of: u64, whole: u64) -> u64 {
    let scaled = u128::from(part) * u128::from(of) / u128::from(whole.max(1));
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

fn compressed_size(path: &str, body: &Body) -> Result<u64, PackError> {
    let failed = |cause| PackError::Compress { segment: "estimate", cause };
    let read = |cause| PackError::Read { path: path.into(), place: body.place(), cause };
    let mut encoder = zstd::stream::write::Encoder::new(ByteCounter(0), 1).map_err(failed)?;
    io::copy(&mut body.open().map_err(read)?, &mut encoder).map_err(read)?;
    Ok(encoder.finish().map_err(failed)?.0)
}

/// Counts what is written to it.
struct ByteCounter(u64);

impl Write for ByteCounter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_the_segment() {
        let file = |component, path: &str, bytes: Vec<u8>| {
            (component, Entry::of_root(path, Kind::File(Body::from_bytes(bytes)), 0o644))
        };
        let noise: Vec<u8> = (0..10_000u32).flat_map(|i| crate::entry::Sha256::of(&i.to_le_bytes()).0).collect();
        let entries = [file("a", "1", noise.clone()), file("b", "2", vec![0; 320_000]), file("a", "3", vec![1; 5])];
        let Shares { components: shares, files } =
            shares_of(entries.iter().map(|(component, entry)| (*component, entry)), 200_000, 2).unwrap();
        assert_eq!(shares["a"].packed, files["1"] + files["3"]);
        assert_eq!((shares["a"].files, shares["a"].raw), (2, 320_005));
        assert!(shares["a"].packed > 190_000 && shares["b"].packed < 10_000, "{shares:?}");
        let sum = shares["a"].packed + shares["b"].packed;
        assert!((199_990..=200_000).contains(&sum), "{sum}");
    }
}
