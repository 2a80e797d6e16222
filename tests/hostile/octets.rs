//! Octets that no peer with manners sends, and the frames around them.

use amqp_rpc::codec::*;
use bytes::BytesMut;

/// Class 60, a size, and the flag of `headers`.
fn header_before_table(body_size: u64) -> Vec<u8> {
    let mut payload = vec![0, 60, 0, 0];
    payload.extend(body_size.to_be_bytes());
    payload.extend([0x20, 0]);
    payload
}

/// A frame of any kind around any payload.
pub fn envelope(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut octets = vec![kind];
    octets.extend(channel.to_be_bytes());
    octets.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    octets.extend(payload);
    octets.push(FRAME_END);
    octets
}

/// The seven octets that announce a frame of so many.
pub fn announcement(kind: u8, channel: u16, size: u32) -> [u8; 7] {
    let ([c0, c1], [s0, s1, s2, s3]) = (channel.to_be_bytes(), size.to_be_bytes());
    [kind, c0, c1, s0, s1, s2, s3]
}

/// A table on the wire: its length, and these entries.
pub fn table(entries: &[u8]) -> Vec<u8> {
    let mut octets = u32::try_from(entries.len()).unwrap().to_be_bytes().to_vec();
    octets.extend(entries);
    octets
}

/// A content header whose property `headers` has these entries.
pub fn header_with(channel: u16, body_size: u64, entries: &[u8]) -> Vec<u8> {
    let mut payload = header_before_table(body_size);
    payload.extend(table(entries));
    envelope(2, channel, &payload)
}

/// Entries of two octets each: no name, no value.
pub fn smallest_entries(count: usize) -> Vec<u8> {
    [0, b'V'].repeat(count)
}

/// One entry: an array of elements of one octet each.
pub fn array_of_smallest(count: usize) -> Vec<u8> {
    let mut entry = b"\0A".to_vec();
    entry.extend(table(&vec![b'V'; count]));
    entry
}

/// Tables within each other, so many of them.
pub fn nested(depth: usize) -> Vec<u8> {
    let mut inside = Vec::new();
    for _ in 1..depth {
        let mut entry = table(&inside);
        entry.splice(0..0, *b"\0F");
        inside = entry;
    }
    inside
}

/// One frame with a method.
pub fn method(channel: u16, method: impl Into<Method>) -> BytesMut {
    let mut octets = BytesMut::new();
    let (channel, payload) = (ChannelId(channel), Payload::Method(method.into()));
    Frame { channel, payload }.encode(&mut octets);
    octets
}

/// A content header without properties.
pub fn header(channel: u16, body_size: u64) -> BytesMut {
    let mut octets = BytesMut::new();
    let header = ContentHeader {
        class_id: BASIC_CLASS,
        body_size,
        ..Default::default()
    };
    let (channel, payload) = (ChannelId(channel), Payload::Header(header));
    Frame { channel, payload }.encode(&mut octets);
    octets
}

/// A body frame.
pub fn body(channel: u16, octets: &[u8]) -> Vec<u8> {
    envelope(3, channel, octets)
}

pub fn heartbeats(count: usize) -> Vec<u8> {
    envelope(8, 0, b"").repeat(count)
}
