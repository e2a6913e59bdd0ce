//! Netlink messages and attributes as bytes (include/uapi/linux/netlink.h): native byte order, padded to 4 bytes.

/// Size of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Size of `struct nlattr`.
const ATTRIBUTE_HEADER: usize = 4;
/// `NLA_TYPE_MASK`: the type without the flags NESTED and NET_BYTEORDER.
const TYPE_MASK: u16 = 0x3fff;

/// `NLA_F_NESTED`: the value holds attributes.
const NESTED: u16 = 1 << 15;

/// The type of an attribute whose value is a list of attributes.
pub fn nested(kind: u16) -> u16 {
    kind | NESTED
}

/// What is wrong with bytes from a netlink socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MalformedMessage {
    /// A message or attribute says that it is `claimed` bytes long, and `found` are left.
    #[error("netlink says {claimed} bytes and sent {found}")]
    Length { claimed: usize, found: usize },
    /// The body is shorter than the fixed header of this type of message.
    #[error("netlink message is too short: found {found} of {needed} bytes")]
    ShortBody { needed: usize, found: usize },
}

/// Builds one message: header, fixed body, attributes.
pub struct MessageBuilder {
    kind: u16,
    flags: u16,
    /// Body and attributes.
    bytes: Vec<u8>,
}

impl MessageBuilder {
    /// Begins a message of type `kind` with `NLM_F_*` flags and the protocol's fixed `body`.
    pub fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = body.to_vec();
        pad(&mut bytes);
        MessageBuilder { kind, flags, bytes }
    }

    /// Adds an attribute. Values must be shorter than 64 KiB, the limit of the length field.
    pub fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(ATTRIBUTE_HEADER + value.len()).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        pad(&mut self.bytes);
        self
    }

    /// The body and attributes without the netlink header.
    pub fn into_payload(self) -> Vec<u8> {
        self.bytes
    }

    /// Sets more `NLM_F_*` flags.
    pub fn more_flags(self, flags: u16) -> Self {
        MessageBuilder { flags: self.flags | flags, ..self }
    }

    /// The message with its header. The port of the sender is 0: the kernel fills it in.
    pub fn finish(self, sequence: u32) -> Vec<u8> {
        let length = u32::try_from(HEADER + self.bytes.len()).unwrap_or(u32::MAX);
        let kind_and_flags = [self.kind.to_ne_bytes(), self.flags.to_ne_bytes()].concat();
        [&length.to_ne_bytes()[..], &kind_and_flags, &sequence.to_ne_bytes(), &[0; 4], &self.bytes].concat()
    }
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(align(bytes.len()), 0);
}

fn align(length: usize) -> usize {
    (length + 3) & !3
}

/// One received message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetlinkMessage<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    /// All bytes behind the header.
    pub payload: &'a [u8],
}

impl<'a> NetlinkMessage<'a> {
    /// Splits off the fixed body of `size` bytes from the attributes behind it.
    pub fn split(&self, size: usize) -> Result<(&'a [u8], Attributes<'a>), MalformedMessage> {
        let short = MalformedMessage::ShortBody { needed: size, found: self.payload.len() };
        let body = self.payload.get(..size).ok_or(short)?;
        Ok((body, Attributes { rest: self.payload.get(align(size)..).unwrap_or_default() }))
    }
}

/// Iterates over the messages of a datagram. Ends after the first that is malformed.
pub struct NetlinkMessages<'a> {
    rest: &'a [u8],
}

/// Reads a datagram.
pub fn parse_messages(datagram: &[u8]) -> NetlinkMessages<'_> {
    NetlinkMessages { rest: datagram }
}

impl<'a> Iterator for NetlinkMessages<'a> {
    type Item = Result<NetlinkMessage<'a>, MalformedMessage>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.rest;
        if bytes.is_empty() {
            return None;
        }
        let claimed = u32_at(bytes, 0).map_or(HEADER, |length| length as usize);
        let Some(payload) = bytes.get(HEADER..claimed) else {
            self.rest = &[];
            return Some(Err(MalformedMessage::Length { claimed, found: bytes.len() }));
        };
        self.rest = bytes.get(align(claimed)..).unwrap_or_default();
        Some(Ok(NetlinkMessage {
            kind: u16_at(bytes, 4).unwrap_or(0),
            flags: u16_at(bytes, 6).unwrap_or(0),
            sequence: u32_at(bytes, 8).unwrap_or(0),
            payload,
        }))
    }
}

/// Iterates over attributes as (type without flags, value). Ends after the first that is malformed.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

/// Reads attributes, also those in the value of another attribute.
pub fn parse_attributes(bytes: &[u8]) -> Attributes<'_> {
    Attributes { rest: bytes }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<(u16, &'a [u8]), MalformedMessage>;

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.rest;
        if bytes.is_empty() {
            return None;
        }
        let claimed = u16_at(bytes, 0).map_or(ATTRIBUTE_HEADER, usize::from);
        let Some(value) = bytes.get(ATTRIBUTE_HEADER..claimed) else {
            self.rest = &[];
            return Some(Err(MalformedMessage::Length { claimed, found: bytes.len() }));
        };
        self.rest = bytes.get(align(claimed)..).unwrap_or_default();
        Some(Ok((u16_at(bytes, 2).unwrap_or(0) & TYPE_MASK, value)))
    }
}

/// The native `u16` at `offset`; `None` when the bytes are too few.
pub fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(offset..offset + 2)?.try_into().ok()?))
}

/// The native `u32` at `offset`; `None` when the bytes are too few.
pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn layout_is_the_kernels() {
        let bytes = MessageBuilder::new(16, 0x5, &[1, 2, 3, 4]).attribute(3, b"eth0\0").finish(7);
        let mut expected = Vec::new();
        expected.extend(32u32.to_ne_bytes());
        expected.extend(16u16.to_ne_bytes());
        expected.extend(5u16.to_ne_bytes());
        expected.extend(7u32.to_ne_bytes());
        expected.extend(0u32.to_ne_bytes());
        expected.extend([1, 2, 3, 4]);
        expected.extend(9u16.to_ne_bytes());
        expected.extend(3u16.to_ne_bytes());
        expected.extend(b"eth0\0\0\0\0");
        assert_eq!(bytes, expected);
    }

    #[test]
    fn bad_lengths_are_refused() {
        let good = MessageBuilder::new(16, 0, &[0; 4]).attribute(1, &[9]).finish(1);
        for (claimed, error) in [(15u32, true), (0, true), (29, true), (28, false), (u32::MAX, true)] {
            let mut bytes = good.clone();
            bytes[..4].copy_from_slice(&claimed.to_ne_bytes());
            let first = parse_messages(&bytes).next().expect("there are bytes");
            assert_eq!(first.is_err(), error, "claimed {claimed}");
        }
        assert!(parse_messages(&good[..10]).next().expect("there are bytes").is_err());
        let (_, mut attributes) =
            parse_messages(&good).next().expect("one").expect("good").split(4).expect("long enough");
        assert_eq!(attributes.next(), Some(Ok((1, &[9u8][..]))));
        assert_eq!(attributes.next(), None);
        assert_eq!(
            parse_messages(&good).next().expect("one").expect("good").split(13).map(|_| ()),
            Err(MalformedMessage::ShortBody { needed: 13, found: 12 })
        );
        assert!(parse_attributes(&[3, 0, 1, 0]).next().expect("there are bytes").is_err());
    }

    proptest! {
        #[test]
        fn what_is_built_is_read_back(kind: u16, flags: u16, sequence: u32, body in prop::collection::vec(any::<u8>(), 0..40),
            attributes in prop::collection::vec((0u16..0x3fff, prop::collection::vec(any::<u8>(), 0..50)), 0..6)) {
            let mut builder = MessageBuilder::new(kind, flags, &body);
            for (kind, value) in &attributes {
                builder = builder.attribute(*kind, value);
            }
            let one = builder.finish(sequence);
            let both = [one.clone(), one].concat();
            let messages: Vec<_> = parse_messages(&both).collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(messages.len(), 2);
            for message in messages {
                prop_assert_eq!((message.kind, message.flags, message.sequence), (kind, flags, sequence));
                let (head, found) = message.split(body.len()).unwrap();
                prop_assert_eq!(head, &body[..]);
                let found: Vec<_> = found.map(|a| a.map(|(k, v)| (k, v.to_vec()))).collect::<Result<_, _>>().unwrap();
                prop_assert_eq!(&found, &attributes);
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for message in parse_messages(&bytes).flatten() {
                if let Ok((_, attributes)) = message.split(4) {
                    for (_, value) in attributes.flatten() {
                        parse_attributes(value).for_each(drop);
                    }
                }
            }
        }
    }
}
