//! What a frame costs: our codec beside amq-protocol, the codec of lapin, and a memcpy of the same octets.
//!
//! ```text
//! cargo bench --manifest-path benches/Cargo.toml --bench codec
//! ```
//!
//! prints nanoseconds per frame as a Markdown table, ready for docs/performance.md. Frames lie behind each other in one
//! buffer, as they do after a read. Decoding starts when they are there and ends when they have been dropped again;
//! what fills the buffer is not timed. Encoding writes into a buffer that is there already.

use std::{
    fs,
    hint::black_box,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use amq_protocol::frame::{AMQPFrame, gen_frame, parse_frame};
use amqp_rpc::{
    codec::{
        BASIC_CLASS, BasicPublish, ChannelId, ContentHeader, FieldTable, FieldValue, Frame,
        FrameDecoder, Payload, Properties,
    },
    short,
};
use bytes::BytesMut;
use criterion::Criterion;

const FRAME_MAX: u32 = 128 * 1024;

/// Some hundred kilobytes of frames are timed at once, so that reading the clock costs nothing; at least so many.
const FEWEST: usize = 16;
const BUFFER: usize = 64 * 1024;

/// A name, and frames that are repeated until the buffer is full.
struct Case {
    name: &'static str,
    frames: Vec<Frame>,
}

fn on_channel_1(payload: Payload) -> Frame {
    Frame {
        channel: ChannelId(1),
        payload,
    }
}

fn publish() -> Frame {
    let publish = BasicPublish {
        routing_key: short!("rpc_queue"),
        ..Default::default()
    };
    on_channel_1(Payload::Method(publish.into()))
}

fn header(properties: Properties) -> Frame {
    let header = ContentHeader {
        class_id: BASIC_CLASS,
        body_size: 16,
        properties: Box::new(properties),
    };
    on_channel_1(Payload::Header(header))
}

fn body(size: usize) -> Frame {
    on_channel_1(Payload::Body(vec![b'x'; size].into()))
}

/// What a call carries.
fn rpc() -> Properties {
    Properties {
        content_type: Some(short!("application/octet-stream")),
        delivery_mode: Some(1),
        correlation_id: Some(short!("6f1ed002-ab53-4d1d-8f2b-3f0c3f6a1e77")),
        reply_to: Some(short!("amq.gen-JzTY20BRgKO-HjmUJj0wLg")),
        ..Default::default()
    }
}

/// All fourteen, and a table of eight entries; names are sorted, because amq-protocol keeps them in a tree.
fn all() -> Properties {
    let mut inner = FieldTable::EMPTY;
    inner.insert(short!("count"), 3i64);
    inner.insert(short!("reason"), "expired");
    let mut headers = FieldTable::EMPTY;
    headers.0.push((
        short!("x-array"),
        FieldValue::Array(vec![1.into(), 2.into()]),
    ));
    headers.insert(short!("x-bool"), true);
    headers.insert(short!("x-double"), 0.25);
    headers.insert(short!("x-int"), -70_000);
    headers.insert(short!("x-long"), 1i64 << 40);
    headers.insert(short!("x-string"), "a string of some length");
    headers.insert(short!("x-table"), inner);
    headers
        .0
        .push((short!("x-time"), FieldValue::Timestamp(1_700_000_000)));
    Properties {
        content_encoding: Some(short!("identity")),
        headers: Some(headers),
        priority: Some(5),
        expiration: Some(short!("60000")),
        message_id: Some(short!("0b0f8f3e-0d5c-4c53-9a43-cb4ea0ce2f4b")),
        timestamp: Some(1_700_000_000),
        kind: Some(short!("fib.request")),
        user_id: Some(short!("guest")),
        app_id: Some(short!("bench")),
        cluster_id: Some(short!("")),
        ..rpc()
    }
}

fn cases() -> Vec<Case> {
    let case = |name, frames| Case { name, frames };
    vec![
        case("basic.publish", vec![publish()]),
        case("header of a call", vec![header(rpc())]),
        case("header, all 14 properties", vec![header(all())]),
        case("body, 16 B", vec![body(16)]),
        case("body, 1 KiB", vec![body(1024)]),
        case("body, 64 KiB", vec![body(64 * 1024)]),
        case("body, 128 KiB", vec![body(128 * 1024 - 8)]),
        case(
            "publish, header, 16 B body",
            vec![publish(), header(rpc()), body(16)],
        ),
    ]
}

impl Case {
    /// The frames of one buffer; of the stream, the 3000 of a thousand messages.
    fn repeated(&self) -> Vec<Frame> {
        let mut once = BytesMut::new();
        self.frames.iter().for_each(|frame| frame.encode(&mut once));
        let times = match self.frames.len() {
            1 => (BUFFER / once.len()).max(FEWEST),
            _ => 1000,
        };
        let frames = self.frames.len() * times;
        self.frames.iter().cycle().take(frames).cloned().collect()
    }

    fn measure(&self, criterion: &mut Criterion) {
        let frames = self.repeated();
        let mut wire = BytesMut::new();
        frames.iter().for_each(|frame| frame.encode(&mut wire));
        let wire = wire.freeze();
        let theirs = parsed_by_amq_protocol(&wire);
        let mut out = vec![0u8; wire.len()];
        assert_eq!(generated_by_amq_protocol(&theirs, &mut out), wire.len());
        assert_eq!(out, wire, "both say the same");

        let mut group = criterion.benchmark_group(self.name);
        group.bench_function(What::Decode.as_str(), |bench| {
            let mut inbound = BytesMut::with_capacity(wire.len());
            bench.iter_custom(|times| {
                let mut spent = Duration::ZERO;
                for _ in 0..times {
                    inbound.reserve(wire.len()); // the same memory again, since no body is kept
                    inbound.extend_from_slice(&wire);
                    let started = Instant::now();
                    assert_eq!(decode(&mut inbound), frames.len());
                    spent += started.elapsed();
                }
                spent
            });
        });
        group.bench_function(What::TheirDecode.as_str(), |bench| {
            bench.iter(|| {
                let mut rest = black_box(&wire[..]);
                while !rest.is_empty() {
                    let (after, frame) = parse_frame(rest).unwrap();
                    black_box(frame);
                    rest = after;
                }
            });
        });
        group.bench_function(What::Encode.as_str(), |bench| {
            let mut outbound = BytesMut::with_capacity(wire.len());
            bench.iter(|| {
                outbound.clear();
                black_box(&frames)
                    .iter()
                    .for_each(|frame| frame.encode(&mut outbound));
                black_box(&outbound);
            });
        });
        group.bench_function(What::TheirEncode.as_str(), |bench| {
            bench.iter(|| generated_by_amq_protocol(black_box(&theirs), black_box(&mut out)));
        });
        group.bench_function(What::Copy.as_str(), |bench| {
            bench.iter(|| black_box(&mut out[..]).copy_from_slice(black_box(&wire)));
        });
        group.finish();
    }
}

fn decode(inbound: &mut BytesMut) -> usize {
    let mut decoder = FrameDecoder::new();
    decoder.set_limits(FRAME_MAX, FRAME_MAX);
    let mut count = 0;
    while let Some(frame) = decoder.decode(inbound).unwrap() {
        black_box(frame);
        count += 1;
    }
    count
}

fn parsed_by_amq_protocol(wire: &[u8]) -> Vec<AMQPFrame> {
    let (mut rest, mut frames) = (wire, Vec::new());
    while !rest.is_empty() {
        let (after, frame) = parse_frame(rest).unwrap();
        frames.push(frame);
        rest = after;
    }
    frames
}

fn generated_by_amq_protocol(frames: &[AMQPFrame], out: &mut [u8]) -> usize {
    let mut at = 0;
    for frame in frames {
        let (_, written) = gen_frame(frame)((&mut out[at..]).into())
            .unwrap()
            .into_inner();
        at += usize::try_from(written).unwrap();
    }
    at
}

/// The columns.
#[derive(Clone, Copy)]
enum What {
    Decode,
    TheirDecode,
    Encode,
    TheirEncode,
    Copy,
}

impl What {
    fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::TheirDecode => "decode, amq-protocol",
            Self::Encode => "encode",
            Self::TheirEncode => "encode, amq-protocol",
            Self::Copy => "memcpy",
        }
    }
}

/// What criterion found, in nanoseconds a frame; `None` if it was told to leave the case out.
fn nanoseconds(directory: &Path, case: &Case, what: What) -> Option<f64> {
    // Criterion names directories without the signs that a file system may not take.
    let path: PathBuf = [case.name, what.as_str(), "new", "estimates.json"]
        .iter()
        .collect();
    let text = fs::read_to_string(directory.join(path)).ok()?;
    let estimates: serde_json::Value = serde_json::from_str(&text).ok()?;
    let median = estimates["median"]["point_estimate"].as_f64()?;
    Some(median / case.repeated().len() as f64)
}

fn print_table(directory: &Path, cases: &[Case]) {
    println!("\nNanoseconds per frame, and how many times faster than amq-protocol:\n");
    println!(
        "| case | octets | decode | amq-protocol | ratio | encode | amq-protocol | ratio | memcpy |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|");
    for case in cases {
        let mut wire = BytesMut::new();
        case.frames.iter().for_each(|frame| frame.encode(&mut wire));
        let time = |what| nanoseconds(directory, case, what);
        let (Some(decode), Some(their_decode)) = (time(What::Decode), time(What::TheirDecode))
        else {
            continue;
        };
        let (Some(encode), Some(their_encode)) = (time(What::Encode), time(What::TheirEncode))
        else {
            continue;
        };
        let Some(copy) = time(What::Copy) else {
            continue;
        };
        println!(
            "| {} | {} | {decode:.1} | {their_decode:.1} | {:.1} | {encode:.1} | {their_encode:.1} | {:.1} | {copy:.1} |",
            case.name,
            wire.len() / case.frames.len(),
            their_decode / decode,
            their_encode / encode,
        );
    }
}

fn main() {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("codec");
    let _ = fs::remove_dir_all(&directory); // nothing of an earlier run may get into the table
    let mut criterion = Criterion::default()
        .output_directory(&directory)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30)
        .configure_from_args();
    let cases = cases();
    cases.iter().for_each(|case| case.measure(&mut criterion));
    print_table(&directory, &cases);
}
