//! Every octet has exactly one label, and where the decoder reads a frame or finds a mistake, the annotator does too.

#![no_main]

use amqp_rpc::codec::{BadFrame, DecodeError, PROTOCOL_HEADER, Redact, annotate};
use amqp_rpc_fuzz::{decode, print};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let octets = Bytes::copy_from_slice(input);
    let annotation = annotate(octets.clone(), Redact::Credentials);
    let end = annotation.spans.iter().fold(0, |end, span| {
        assert_eq!(span.range.start, end, "the spans tile the input");
        assert!(span.range.end > end, "no span is empty");
        span.range.end
    });
    assert_eq!(end, octets.len());
    print(&annotation);

    if octets.starts_with(&PROTOCOL_HEADER[..4]) {
        return; // the decoder of frames is not asked about a protocol header
    }
    let (frames, _) = decode(&octets);
    let Some(first) = frames.first() else {
        return;
    };
    let size = u32::from_be_bytes([octets[3], octets[4], octets[5], octets[6]]) as usize;
    let whole = octets.slice(..octets.len().min(size.saturating_add(8)));
    let annotation = annotate(whole.clone(), Redact::Credentials);
    let complaints = |label, says: &str| {
        let spans = annotation.spans.iter().filter(|span| span.label == label);
        spans.filter(|span| span.value == says).count()
    };
    match first {
        Ok(frame) => {
            let fine = complaints("frame-end", "") == 1;
            let malformed = annotation
                .spans
                .iter()
                .any(|span| span.label == "malformed" && span.depth == 0);
            // An argument may be named so as well, but only inside a table.
            assert!(
                fine && !malformed,
                "{frame:?} was decoded, and yet:\n{annotation}"
            );
        }
        Err(BadFrame {
            error: DecodeError::FrameTooLarge { .. },
            ..
        }) => {} // limits are the decoder's
        Err(BadFrame { error, .. }) => {
            let says = error.to_string();
            let said = complaints("malformed", &says) + complaints("frame-end", &says);
            assert_eq!(said, 1, "{error}, and yet:\n{annotation}");
        }
    }
});
