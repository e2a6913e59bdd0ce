//! A database as bbolt keeps it (go.etcd.io/bbolt, file format 2: internal/common/{page,meta,bucket}.go), written in one go.
//!
//! bbolt's own files depend on the order of a Go map (bucket.go, `spill`), so that two with the same content differ. Here the
//! bytes depend on the content alone. Nothing is ever read or changed: that is containerd's affair.

use std::collections::BTreeMap;

/// Bytes of a page. The file says so itself, whatever the machine's pages are.
const PAGE: usize = 4096;
/// Bytes before a page's elements: id, flags, count, further pages.
const PAGE_HEADER: usize = 16;
/// Of an element of either kind, without its key and value.
const ELEMENT: usize = 16;
/// A bucket without others in it that takes no more lies in its parent (bucket.go, `maxInlineBucketSize`).
const MAX_INLINE: usize = PAGE / 4;
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const META: u16 = 0x04;
const FREE_LIST: u16 = 0x10;
/// Marks an element whose value is a bucket.
const IS_BUCKET: u32 = 0x01;
const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;

/// Values and further buckets by key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bucket {
    /// The last number that was given out in it.
    pub sequence: u64,
    items: BTreeMap<Vec<u8>, Item>,
}

#[derive(Debug, Clone, PartialEq)]
enum Item {
    Value(Vec<u8>),
    Bucket(Bucket),
}

impl Bucket {
    /// Sets the value of a key. bbolt takes no empty key.
    pub fn put(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.items.insert(key.as_ref().into(), Item::Value(value.as_ref().into()));
    }

    /// All keys in their order, each with its value or its bucket.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Result<&[u8], &Bucket>)> {
        self.items.iter().map(|(key, item)| match item {
            Item::Value(value) => (key.as_slice(), Ok(value.as_slice())),
            Item::Bucket(bucket) => (key.as_slice(), Err(bucket)),
        })
    }

    /// The bucket of that key, which is made when it is missing.
    pub fn bucket(&mut self, key: impl AsRef<[u8]>) -> &mut Bucket {
        let item = self.items.entry(key.as_ref().into()).or_insert_with(|| Item::Bucket(Bucket::default()));
        match item {
            Item::Bucket(bucket) => bucket,
            Item::Value(_) => unreachable!("a schema gives a key to a value or to a bucket"),
        }
    }
}

/// The bytes of a database with these buckets: whole pages.
pub fn write_database(root: &Bucket) -> Vec<u8> {
    // Two heads, which are known last; the list of free pages is empty.
    let mut pages = Pages { bytes: vec![0; 2 * PAGE] };
    let free_list = pages.append(FREE_LIST, 0, &[]);
    let cells = pages.cells_of(root);
    let top = pages.append_cells(&cells);
    let end = pages.next();
    for id in [0, 1] {
        let head = page(id, META, 0, &head(top, root.sequence, free_list, end, id));
        pages.bytes[id as usize * PAGE..][..head.len()].copy_from_slice(&head);
    }
    pages.bytes
}

/// A head. The one with the larger number of its transaction counts, and the other one when that is damaged.
fn head(root: u64, sequence: u64, free_list: u64, end: u64, transaction: u64) -> Vec<u8> {
    let words = [MAGIC, VERSION, PAGE as u32, 0].map(u32::to_le_bytes).concat();
    let ids = [root, sequence, free_list, end, transaction].map(u64::to_le_bytes).concat();
    let mut head = [words, ids].concat();
    let sum = fnv64a(&head);
    head.extend(sum.to_le_bytes());
    head
}

/// FNV-1a of 64 bits (draft-eastlake-fnv, section 2): the sum of a head.
fn fnv64a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

fn page(id: u64, flags: u16, count: usize, body: &[u8]) -> Vec<u8> {
    let further = (PAGE_HEADER + body.len()).div_ceil(PAGE) - 1;
    let count = u16::try_from(count).expect("a page has at most 64 elements of 64 bytes, or two larger ones");
    let mut page = id.to_le_bytes().to_vec();
    page.extend(flags.to_le_bytes());
    page.extend(count.to_le_bytes());
    page.extend(u32::try_from(further).expect("a value is smaller than 16 TiB").to_le_bytes());
    page.extend(body);
    page
}

/// An element of a leaf: the value of a bucket is its head, with its page behind where it has none of its own.
struct Cell<'a> {
    flags: u32,
    key: &'a [u8],
    value: Vec<u8>,
}

impl Cell<'_> {
    fn size(&self) -> usize {
        ELEMENT + self.key.len() + self.value.len()
    }
}

/// The elements, then their keys and values; a place is counted from the start of its element.
fn leaf(cells: &[Cell<'_>]) -> Vec<u8> {
    let (mut elements, mut contents) = (Vec::new(), Vec::new());
    for (i, Cell { flags, key, value }) in cells.iter().enumerate() {
        let place = (cells.len() - i) * ELEMENT + contents.len();
        for number in [*flags as usize, place, key.len(), value.len()] {
            elements.extend(word(number));
        }
        contents.extend_from_slice(key);
        contents.extend_from_slice(value);
    }
    [elements, contents].concat()
}

fn branch(children: &[(&[u8], u64)]) -> Vec<u8> {
    let (mut elements, mut keys) = (Vec::new(), Vec::new());
    for (i, (key, id)) in children.iter().enumerate() {
        elements.extend(word((children.len() - i) * ELEMENT + keys.len()));
        elements.extend(word(key.len()));
        elements.extend(id.to_le_bytes());
        keys.extend_from_slice(key);
    }
    [elements, keys].concat()
}

fn word(number: usize) -> [u8; 4] {
    u32::try_from(number).expect("a page is smaller than 4 GiB").to_le_bytes()
}

/// A file in the making.
struct Pages {
    bytes: Vec<u8>,
}

impl Pages {
    fn next(&self) -> u64 {
        (self.bytes.len() / PAGE) as u64
    }

    /// Returns the new page's id.
    fn append(&mut self, flags: u16, count: usize, body: &[u8]) -> u64 {
        let id = self.next();
        self.bytes.extend(page(id, flags, count, body));
        self.bytes.resize(self.bytes.len().next_multiple_of(PAGE), 0);
        id
    }

    /// A bucket's elements; what its own buckets need is appended before.
    fn cells_of<'a>(&mut self, bucket: &'a Bucket) -> Vec<Cell<'a>> {
        let cell = |(key, item): (&'a Vec<u8>, &'a Item)| match item {
            Item::Value(value) => Cell { flags: 0, key, value: value.clone() },
            Item::Bucket(bucket) => Cell { flags: IS_BUCKET, key, value: self.value_of(bucket) },
        };
        bucket.items.iter().map(cell).collect()
    }

    /// What stands for a bucket in its parent.
    fn value_of(&mut self, bucket: &Bucket) -> Vec<u8> {
        let cells = self.cells_of(bucket);
        let size = PAGE_HEADER + cells.iter().map(Cell::size).sum::<usize>();
        let inline = size <= MAX_INLINE && cells.iter().all(|cell| cell.flags != IS_BUCKET);
        let root = if inline { 0 } else { self.append_cells(&cells) };
        let mut value = [root, bucket.sequence].map(u64::to_le_bytes).concat();
        if inline {
            value.extend(page(0, LEAF, cells.len(), &leaf(&cells)));
        }
        value
    }

    /// Appends leaves with these elements and the branches above them. Returns the top's id.
    fn append_cells(&mut self, cells: &[Cell<'_>]) -> u64 {
        let mut level: Vec<(&[u8], u64)> = split(cells, Cell::size)
            .into_iter()
            .map(|cells| {
                let first = cells.first().map(|cell| cell.key).unwrap_or_default();
                (first, self.append(LEAF, cells.len(), &leaf(cells)))
            })
            .collect();
        while level.len() > 1 {
            let children = split(&level, |(key, _)| ELEMENT + key.len());
            level = children
                .into_iter()
                .map(|children| (children[0].0, self.append(BRANCH, children.len(), &branch(children))))
                .collect();
        }
        level[0].1
    }
}

/// Cuts elements into pages: as many as fit, and two at least, as bbolt does (node.go, `minKeysPerPage`). One slice at least.
fn split<T>(elements: &[T], size: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let (mut pages, mut start, mut used) = (Vec::new(), 0, PAGE_HEADER);
    for (i, element) in elements.iter().enumerate() {
        if used + size(element) > PAGE && i - start >= 2 && elements.len() - i >= 2 {
            pages.push(&elements[start..i]);
            (start, used) = (i, PAGE_HEADER);
        }
        used += size(element);
    }
    pages.push(&elements[start..]);
    pages
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_u64(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    #[test]
    fn the_order_in_which_keys_were_put_does_not_matter() {
        let make = |keys: &[u32]| {
            let mut root = Bucket { sequence: 7, ..Bucket::default() };
            for key in keys {
                root.bucket(format!("bucket {}", key % 7)).put(key.to_le_bytes(), vec![b'x'; *key as usize]);
            }
            write_database(&root)
        };
        let keys: Vec<u32> = (0..400).collect();
        let back: Vec<u32> = keys.iter().rev().copied().collect();
        assert_eq!(make(&keys), make(&back));
        assert_ne!(make(&keys), make(&keys[1..]));
    }

    #[test]
    fn both_heads_have_the_sum_that_go_makes_of_them() {
        // hash/fnv: `New64a` of nothing and of "a".
        assert_eq!(fnv64a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv64a(b"a"), 0xaf63_dc4c_8601_ec8c);
        let database = write_database(&Bucket { sequence: 5, ..Bucket::default() });
        assert_eq!(database.len(), 4 * PAGE, "two heads, the free list, an empty leaf");
        for (id, head) in database.chunks(PAGE).take(2).enumerate() {
            assert_eq!((read_u64(head, 0), read_u64(head, 64)), (id as u64, id as u64), "page and transaction");
            assert_eq!([32, 40, 48, 56].map(|at| read_u64(head, at)), [3, 5, 2, 4]);
            assert_eq!(read_u64(head, 72), fnv64a(&head[16..72]));
        }
    }

    #[test]
    fn pages_are_full_and_none_has_a_single_element() {
        let sizes: Vec<usize> = [10, 4000, 4000, 10, 3000, 20, 1, 9000].repeat(50);
        let pages = split(&sizes, |size| *size);
        assert_eq!(pages.concat(), sizes);
        assert!(pages.iter().all(|page| page.len() >= 2));
        for pair in pages.windows(2) {
            let used = PAGE_HEADER + pair[0].iter().sum::<usize>();
            assert!(used + pair[1][0] > PAGE, "{pair:?}");
        }
        assert_eq!(split(&[] as &[usize], |size| *size), [&[] as &[usize]]);
    }
}
