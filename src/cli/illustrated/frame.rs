//! # One frame: its octets, its fields, and the way between
//!
//! ```text
//! 01 │ 00 01 │ 00 00 00 0d │ 00 3c 00 50 │ ..      each group a link to its field
//! type channel  size          method               each field a link to its octets
//! ```
//!
//! Links, and no script: so it works on paper, in a reader for the blind and with scripts turned off.
//!
//! Read next: `texts`.

use maud::{Markup, html};

use super::texts::{Subject, inline};
use crate::{
    cli::conversation::{Direction, Unit},
    codec::{Line, Redact, annotate, describe, span::Span},
};

/// How a field is coloured: by its part in the frame, and neighbours differently.
fn kind(span: &Span, index: usize) -> &'static str {
    match span.label.as_str() {
        "type" | "channel" | "size" | "frame-end" => "envelope",
        "method" | "class-id" | "literal" => "id",
        _ if index.is_multiple_of(2) => "even",
        _ => "odd",
    }
}

/// A unit, closed; `number` counts them from 1.
pub(super) fn unit(unit: &Unit, number: usize) -> Markup {
    let Line {
        lane: channel,
        name,
        says: fields,
        ..
    } = describe(&unit.octets);
    let says = format!("{channel} {fields}");
    let subject = Subject {
        who: unit.name,
        direction: unit.direction,
        name: &name,
        says: &says,
    };
    let [by, to] = subject.ends();
    let way = match unit.direction {
        Direction::ToBroker => "in",
        Direction::FromBroker => "out",
    };
    html! {
        li.unit data-who=(unit.name) data-way=(way) {
            span.lanes aria-hidden="true" { i {} }
            details id={ "u" (number) } {
                summary {
                    span.path { (by) span.to { " to " } (to) } " "
                    b { (name) } " "
                    span.says { (fields) } " "
                    span.lane { (channel) } " "
                    span.count { (unit.octets.len()) " octets" }
                }
                (inside(unit, number, &subject))
            }
        }
    }
}

fn inside(unit: &Unit, number: usize, subject: &Subject) -> Markup {
    let text = subject.text();
    html! {
        div.inside {
            @if let Some(text) = &text {
                p.means { (inline(text.means)) }
                dl.about {
                    dt { "Why" } dd { (inline(text.why)) }
                    dt { "What may come next" } dd { (inline(text.next)) }
                }
            }
            (wire(unit, number, subject))
            @if let Some(text) = &text {
                details.rules {
                    summary { "The rules: " @for (id, _) in &text.rules { (id) " " } }
                    dl { @for (id, rule) in &text.rules { dt { (id) } dd { (inline(rule)) } } }
                }
            }
        }
    }
}

/// The octets and the fields, each a link to the other.
fn wire(unit: &Unit, number: usize, subject: &Subject) -> Markup {
    // The demo's own guest/guest are no secret.
    let spans = annotate(unit.octets.clone(), Redact::Nothing).spans;
    let hex = |span: &Span| {
        let octets = unit.octets.get(span.range.clone()).unwrap_or_default();
        let hex = octets.iter().map(|octet| format!("{octet:02x}"));
        hex.collect::<Vec<_>>().join(" ")
    };
    let count = unit.octets.len();
    html! {
        div.wire {
            div.octets role="group" aria-label={ "The " (count) " octets of " (subject.name) } {
                @for (index, span) in spans.iter().enumerate() {
                    a.(kind(span, index)) id={ "u" (number) "o" (index) } href={ "#u" (number) "f" (index) }
                        data-f=(index) aria-label={ (hex(span)) ", " (span.label) } { (hex(span)) } " "
                }
            }
            table {
                caption { "Fields of " (subject.name) }
                colgroup { col; col; }
                thead { tr { th scope="col" { "field" } th scope="col" { "value" } } }
                tbody {
                    @for (index, span) in spans.iter().enumerate() {
                        tr data-f=(index) data-depth=[(span.depth > 0).then_some(span.depth)] {
                            th scope="row" {
                                a.(kind(span, index)) id={ "u" (number) "f" (index) } href={ "#u" (number) "o" (index) }
                                    data-f=(index) { @for part in span.label.split_inclusive('_') { (part) wbr; } }
                            }
                            td {
                                @if !span.value.is_empty() { code { (span.value) } }
                                @if let Some(text) = subject.field(&span.label, &span.value) {
                                    " " span.note { (inline(text)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
