//! The codec: octets in, values out, and how much memory an octet may become.

use amqp_rpc::codec::*;
use bytes::BytesMut;

use super::{KIB, MIB, Meter, octets::*};

/// What the header frame in `octets` decodes to, and the memory that took: at the peak, and now.
fn decode(meter: &mut Meter, octets: &[u8]) -> (Result<FieldTable, DecodeError>, usize, usize) {
    let mut inbound = BytesMut::from(octets);
    let mut decoder = FrameDecoder::new();
    decoder.set_limits(MIB as u32, MIB as u32);
    meter.restart();
    let decoded = decoder.decode(&mut inbound);
    let table = decoded.map_err(|bad| bad.error).map(|frame| {
        let Payload::Header(header) = frame.expect("it is whole").payload else {
            panic!("a header was sent")
        };
        header.properties.headers.expect("it has a table")
    });
    (table, meter.peak(), meter.kept())
}

#[test]
fn four_gib_announced_in_seven_octets_cost_nothing() {
    // SEC-1, SEC-12, FRAME-6: the limit is looked at before anything else, and 0xFFFFFFFF + 8 is no small number.
    let meter = Meter::start();
    for kind in [1, 2, 3, 8, 9] {
        for limit in [4096, 131_072, 1 << 20] {
            for size in [limit + 1, 1 << 31, u32::MAX - 7, u32::MAX] {
                let mut decoder = FrameDecoder::new();
                decoder.set_limits(limit, limit);
                let mut inbound = BytesMut::from(&announcement(kind, 0, size)[..]);
                let error = decoder.decode(&mut inbound).unwrap_err().error;
                assert_eq!(
                    error,
                    DecodeError::FrameTooLarge {
                        size,
                        limit: limit - 8
                    }
                );
                assert_eq!(error.reply_code(), ReplyCode::FRAME_ERROR);
                assert!(decoder.is_broken(), "FRAME-13");
            }
        }
    }
    meter.assert_peak(0, "an error is a value");
}

#[test]
fn a_frame_that_is_due_costs_what_has_come_of_it() {
    // SEC-1, FRAME-10: the longest frame there may be is announced, and a kibibyte of it comes.
    let mut decoder = FrameDecoder::new();
    decoder.set_limits(MIB as u32, MIB as u32);
    let mut inbound = BytesMut::with_capacity(2 * KIB);
    inbound.extend_from_slice(&announcement(3, 1, MIB as u32));
    let meter = Meter::start();
    for _ in 0..KIB {
        inbound.extend_from_slice(b"x");
        assert_eq!(decoder.decode(&mut inbound), Ok(None));
    }
    meter.assert_peak(0, "the decoder has no buffer of its own");
}

#[test]
fn a_table_nested_ten_thousand_deep_is_refused_at_the_sixty_fifth() {
    // SEC-4, TABLE-12
    let mut meter = Meter::start();
    let octets = header_with(1, 0, &nested(10_000));
    let (table, peak, _) = decode(&mut meter, &octets);
    let error = table.unwrap_err();
    assert_eq!(
        error,
        DecodeError::NestingTooDeep {
            limit: table::MAX_DEPTH
        }
    );
    assert_eq!(error.reply_code(), ReplyCode::SYNTAX_ERROR);
    assert!(
        peak < 128 * KIB,
        "a table that is not complete has no entry yet: {peak}"
    );
}

#[test]
fn lengths_inside_a_table_cost_nothing() {
    // SEC-1, TABLE-5: 4 GiB of a string, an array, a table or octets, where one octet is left.
    let mut meter = Meter::start();
    for tag in *b"SAFx" {
        let entry = [&[0, tag][..], &[0xff; 4], b"x"].concat();
        let (table, peak, _) = decode(&mut meter, &header_with(1, 0, &entry));
        let (length, left) = (u32::MAX, 1);
        assert_eq!(table, Err(DecodeError::LengthOverrun { length, left }));
        assert!(peak < 128 * KIB, "{peak}");
    }
}

/// Tables of one entry each, one in another, around these entries.
fn chain_of_tables(tables: usize, entries: Vec<u8>) -> Vec<u8> {
    (0..tables).fold(entries, |inside, _| {
        let length = u32::try_from(inside.len()).unwrap().to_be_bytes();
        [b"\0F", &length[..], &inside].concat()
    })
}

/// Octets of memory for an octet of a table on the wire, as docs/limits.md has them: kept, and while it is read.
pub const AMPLIFICATION: (usize, usize) = (80, 120);

#[test]
fn the_amplification_of_a_table_is_what_the_page_says() {
    // SEC-17: the smallest entry has 2 octets and takes 80, the smallest element has 1 and takes 40. A vector has room
    // for twice as many at the worst, just after it has grown, and while it grows there are two of them.
    let mut meter = Meter::start();
    let (kept_for_one, peak_for_one) = AMPLIFICATION;
    let mut worst = (0, 0);
    for frame in [4 * KIB, 128 * KIB, MIB] {
        let room = frame - 64;
        // Just above a power of two the vector has just grown; at it, it is full.
        let grown = |count: usize| [(count / 2).next_power_of_two() + 1, count];
        let mut tables = Vec::new();
        tables.extend(grown(room / 2).map(smallest_entries));
        tables.extend(grown(room).map(array_of_smallest));
        tables.push(b"\0A\0\0\0\x01V".repeat(room / 7));
        tables.push(b"\0F\0\0\0\x02\0V".repeat(room / 8));
        tables.push(b"\0A\0\0\0\x05A\0\0\0\0".repeat(room / 11));
        tables.push(b"\x01kS\0\0\0\x01v".repeat(room / 8));
        let chain = chain_of_tables(62, smallest_entries(43));
        tables.push(chain.repeat(room / chain.len()));
        for entries in tables {
            let octets = header_with(1, 0, &entries);
            let (table, peak, kept) = decode(&mut meter, &octets);
            let table = table.unwrap();
            let (peak, kept) = (peak / entries.len(), kept / entries.len());
            worst = (worst.0.max(kept), worst.1.max(peak));
            let noise = 64 * KIB / entries.len() + 1;
            assert!(
                kept <= kept_for_one + noise,
                "{kept} for one, {} octets",
                entries.len()
            );
            assert!(
                peak <= peak_for_one + noise,
                "{peak} for one, {} octets",
                entries.len()
            );
            assert!(
                table.memory() / entries.len() + 2 + noise >= kept,
                "what is counted is what it takes: {} and {kept}",
                table.memory() / entries.len()
            );
        }
    }
    println!(
        "an octet of a table takes {} octets, {} while it is read",
        worst.0, worst.1
    );
    assert!(
        worst.0 >= 79 && worst.1 >= 119,
        "the page does not exaggerate: {worst:?}"
    );
}

#[test]
fn a_mebibyte_of_table_is_some_tens_of_mebibytes() {
    // SEC-17, and the longest header that a client accepts. FRAME-19
    let mut meter = Meter::start();
    for entries in [smallest_entries(MIB / 2 - 32), array_of_smallest(MIB - 64)] {
        let (table, peak, kept) = decode(&mut meter, &header_with(1, 0, &entries));
        assert!(table.is_ok());
        assert!(kept <= 42 * MIB, "{kept}");
        assert!(peak <= 63 * MIB, "{peak}");
    }
}
