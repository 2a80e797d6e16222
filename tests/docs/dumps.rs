//! Dumps: every fence tagged `wire` is what the annotator prints of its octets.

use amqp_rpc::codec::{FrameDecoder, PROTOCOL_HEADER, Redact, annotate};
use bytes::{Bytes, BytesMut};

use crate::pages::{Fence, Finding, fences, hold, pages};

/// The octets of a dump: the first 29 columns of each line.
pub(crate) fn octets(text: &str) -> Result<Bytes, String> {
    let mut octets = Vec::new();
    for line in text.lines() {
        let columns = line.get(..29).unwrap_or(line);
        for pair in columns.split_whitespace() {
            let octet = u8::from_str_radix(pair, 16)
                .ok()
                .filter(|_| pair.len() == 2);
            octets.push(octet.ok_or(format!("no octet: {pair:?} in {line:?}"))?);
        }
    }
    Ok(octets.into())
}

/// Decodes whole frames and protocol headers and encodes them again.
fn round_trip(octets: &Bytes) -> Result<BytesMut, String> {
    let mut decoder = FrameDecoder::new();
    decoder.set_limits(1 << 20, 1 << 20);
    let (mut inbound, mut encoded) = (BytesMut::from(octets.as_ref()), BytesMut::new());
    while !inbound.is_empty() {
        if inbound.starts_with(&PROTOCOL_HEADER) {
            encoded.extend_from_slice(&inbound.split_to(PROTOCOL_HEADER.len()));
            continue;
        }
        match decoder.decode(&mut inbound) {
            Ok(Some(frame)) => frame.encode(&mut encoded),
            Ok(None) => return Err("it ends inside a frame".into()),
            Err(bad) => return Err(bad.error.reply_code().0.to_string()),
        }
    }
    Ok(encoded)
}

/// The reply code that a dump's mistake has to earn, if it says so.
fn expected_error(tag: &str) -> Result<Option<u16>, String> {
    match tag.strip_prefix("wire error=") {
        Some(code) => code
            .parse()
            .map(Some)
            .map_err(|_| format!("no code: {tag:?}")),
        None if tag == "wire" => Ok(None),
        None => Err(format!("what is {tag:?}? `wire`, or `wire error=501`")),
    }
}

/// What the dump should be: its octets with the labels of the annotator, if they are what it says they are.
fn dump(tag: &str, text: &str) -> Result<String, String> {
    let octets = octets(text)?;
    match (round_trip(&octets), expected_error(tag)?) {
        (Ok(_), Some(code)) => return Err(format!("it is no mistake, {code} was expected")),
        (Ok(encoded), None) if encoded != octets => {
            let encoded = annotate(encoded, Redact::Nothing);
            return Err(format!("encodes to\n{encoded}"));
        }
        (Ok(_), None) => {}
        (Err(found), Some(code)) if found == code.to_string() => {}
        (Err(found), _) => return Err(format!("does not decode: {found}")),
    }
    // What a page shows is no secret.
    Ok(annotate(octets, Redact::Nothing).to_string())
}

fn finding(fence: &Fence) -> Option<Finding> {
    match dump(&fence.tag, &fence.text) {
        Ok(right) if right == fence.text => None,
        Ok(right) => {
            let why = format!("the annotator prints\n{right}");
            Some(Finding::stale(
                fence.line(),
                why,
                fence.lines.clone(),
                right,
            ))
        }
        Err(fault) => Some(Finding::wrong(fence.line(), fault)),
    }
}

#[test]
fn every_dump_is_what_the_annotator_prints() {
    let starts = ["README.md", "docs", "fuzz/README.md", "src"];
    let pages = pages(&starts, &["md", "rs"]);
    let dumps: usize = pages.iter().map(|page| fences(page, "wire").len()).sum();
    assert!(dumps >= 5, "dumps were found: {dumps}");
    hold(&pages, |page| {
        fences(page, "wire").iter().filter_map(finding).collect()
    });
}

#[test]
fn a_dump_that_is_wrong_is_noticed() {
    let heartbeat = "08                            type         heartbeat\n\
                     00 00                         channel      0\n\
                     00 00 00 00                   size         0\n\
                     ce                            frame-end\n";
    assert_eq!(dump("wire", heartbeat).as_deref(), Ok(heartbeat));
    for (what, replaced, with) in [
        ("the label", "channel ", "chanel  "),
        ("the value", "channel      0", "channel      1"),
        ("a wrong frame-end", "ce  ", "cf  "),
        ("no octet", "08  ", "8   "),
        (
            "half a frame",
            "ce                            frame-end\n",
            "",
        ),
        ("another type", "08  ", "09  "),
    ] {
        let changed = heartbeat.replace(replaced, with);
        assert_ne!(changed, heartbeat, "{what}");
        assert_ne!(dump("wire", &changed), Ok(changed), "{what}");
    }
    assert!(dump("wire error=501", heartbeat).is_err());
    assert!(dump("wire eror=501", heartbeat).is_err());
    let broken = heartbeat.replace("ce  ", "cf  ");
    let shown = annotate(octets(&broken).unwrap(), Redact::Nothing).to_string();
    assert_eq!(dump("wire error=501", &shown), Ok(shown.clone()));
    assert!(dump("wire error=502", &shown).is_err());
}

#[test]
fn octets_are_enough_to_write_a_dump() {
    let written = dump("wire", "08 00 00 00 00 00 00 ce\n").unwrap();
    assert_eq!(dump("wire", &written), Ok(written.clone()));
    assert!(written.contains("heartbeat"), "{written}");
}
