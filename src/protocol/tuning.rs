//! # Tuning: the smaller of two offers, where 0 means no limit
//!
//! ```text
//! broker: tune    2047  131072  60
//! client: tune-ok 2047  131072  60     the *client* has the last word, and it holds from the next frame on (TUNE-7)
//!         │     │       └─ heartbeat: seconds
//!         │     └─ frame-max: octets, the envelope counted
//!         └─ channel-max: how many channels
//! ```
//!
//! Read next: `channel`. Explained in `docs/03-handshake.md`.

use std::time::Duration;

use super::error::Violation;
use crate::codec::{
    ChannelId, ConnectionTune, ConnectionTuneOk, FRAME_MIN_SIZE, FRAME_OVERHEAD, MethodId,
    ReplyCode,
};

/// The limits of a connection, offered or in force. The default is what RabbitMQ offers. TUNE-11
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// How many channels; 0 means no limit.
    pub channel_max: u16,
    /// Octets of the longest frame, its envelope of 8 included; 0 means no limit. TUNE-6
    pub frame_max: u32,
    /// Seconds; 0 means no heartbeats.
    pub heartbeat: u16,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat: 60,
        }
    }
}

/// Our own frame-max, in octets, where the tuning sets no limit. SEC-3
const FRAME_CAP: u32 = 1 << 20;

impl Tuning {
    /// What is in force before tune-ok. FRAME-8
    pub const BEFORE: Self = Self {
        channel_max: 0,
        frame_max: FRAME_MIN_SIZE,
        heartbeat: 0,
    };

    /// The client's answer: of two limits the smaller, of a limit and no limit the limit. TUNE-2, TUNE-9
    ///
    /// # Errors
    /// The offer, or our own wish, when its frame-max is below 4096 and not 0. TUNE-5
    pub fn negotiate(self, offer: &ConnectionTune) -> Result<Self, String> {
        for frame_max in [offer.frame_max, self.frame_max] {
            if (1..FRAME_MIN_SIZE).contains(&frame_max) {
                return Err(format!(
                    "frame_max={frame_max} is lower than the minimum of {FRAME_MIN_SIZE}"
                ));
            }
        }
        Ok(Self {
            channel_max: smaller(self.channel_max, offer.channel_max),
            frame_max: smaller(self.frame_max, offer.frame_max),
            // A user who asks for no heartbeats gets none.
            heartbeat: if self.heartbeat == 0 {
                0
            } else {
                smaller(self.heartbeat, offer.heartbeat)
            },
        })
    }

    /// The broker's check of tune-ok: no limit above the offer, where 0 counts as the highest. TUNE-4, TUNE-5
    ///
    /// # Errors
    /// Which limit was broken; the connection ends without a close.
    pub fn accept(self, got: &ConnectionTuneOk) -> Result<Self, String> {
        let above = |got: u32, offer: u32| offer != 0 && (got == 0 || got > offer);
        if above(got.channel_max.into(), self.channel_max.into()) {
            return Err(format!(
                "negotiated channel_max = {} is above the offer ({})",
                got.channel_max, self.channel_max
            ));
        }
        if above(got.frame_max, self.frame_max) || (1..FRAME_MIN_SIZE).contains(&got.frame_max) {
            return Err(format!(
                "negotiated frame_max = {} is refused ({} was offered)",
                got.frame_max, self.frame_max
            ));
        }
        // The client's heartbeat counts, even when it is longer than offered. TUNE-10
        Ok(Self {
            channel_max: got.channel_max,
            frame_max: got.frame_max,
            heartbeat: got.heartbeat,
        })
    }

    /// The longest frame in octets: what was agreed, or our cap where there is no limit. FRAME-9
    pub fn frame_limit(self) -> u32 {
        if self.frame_max == 0 {
            FRAME_CAP
        } else {
            self.frame_max
        }
    }

    /// The most octets of a body in one frame. CONTENT-3
    pub fn body_limit(self) -> usize {
        usize::try_from(self.frame_limit().saturating_sub(FRAME_OVERHEAD)).unwrap_or(usize::MAX)
    }

    /// Whether the payload of a content header, of so many octets, fits a frame: a header is never split. CONTENT-15
    ///
    /// # Errors
    /// 311, with the size and the room there is.
    pub(crate) fn fit_header(
        self,
        channel: ChannelId,
        method: MethodId,
        size: usize,
    ) -> Result<(), Violation> {
        let limit = self.body_limit();
        if size <= limit {
            return Ok(());
        }
        let text = format!("the properties take {size} octets, a frame has room for {limit}");
        Err(Violation::ours(
            ReplyCode::CONTENT_TOO_LARGE,
            channel,
            method,
            text,
        ))
    }

    /// The longest content header frame a client accepts: RabbitMQ never splits one. FRAME-19
    pub(crate) fn header_limit(self) -> u32 {
        self.frame_limit().max(FRAME_CAP)
    }

    /// The interval of heartbeats, if there are any.
    pub fn heartbeat(self) -> Option<Duration> {
        (self.heartbeat != 0).then(|| Duration::from_secs(self.heartbeat.into()))
    }
}

fn smaller<T: Ord + Default>(a: T, b: T) -> T {
    let none = T::default();
    if a == none || b == none {
        a.max(b)
    } else {
        a.min(b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tune(channel_max: u16, frame_max: u32, heartbeat: u16) -> Tuning {
        Tuning {
            channel_max,
            frame_max,
            heartbeat,
        }
    }

    #[test]
    fn the_smaller_limit_wins_and_zero_is_no_limit() {
        // TUNE-2, TUNE-3, TUNE-9
        let offer = ConnectionTune {
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat: 60,
        };
        let cases = [
            (tune(0, 0, 10), tune(2047, 131_072, 10)),
            (tune(10, 8192, 600), tune(10, 8192, 60)),
            (tune(4000, 1 << 20, 0), tune(2047, 131_072, 0)),
        ];
        for (wish, agreed) in cases {
            assert_eq!(wish.negotiate(&offer), Ok(agreed));
        }
        assert_eq!(
            tune(5, 8192, 7).negotiate(&ConnectionTune::default()),
            Ok(tune(5, 8192, 7))
        );
        assert!(tune(5, 4095, 7).negotiate(&offer).is_err(), "TUNE-5: ours");
        assert!(
            tune(0, 0, 0)
                .negotiate(&ConnectionTune {
                    frame_max: 4095,
                    ..offer
                })
                .is_err()
        );
    }

    #[test]
    fn a_limit_that_nobody_may_set_is_no_overflow() {
        // SEC-12: the fields are public, and a frame that cannot hold its own envelope has no room for a body.
        assert_eq!(tune(0, 7, 0).body_limit(), 0);
    }

    #[test]
    fn a_broker_refuses_what_it_did_not_offer() {
        // TUNE-4, TUNE-5, TUNE-10
        let refused = [(0, 8192), (2048, 8192), (10, 0), (10, 4095), (10, 131_073)];
        for (channel_max, frame_max) in refused {
            let got = ConnectionTuneOk {
                channel_max,
                frame_max,
                heartbeat: 0,
            };
            assert!(Tuning::default().accept(&got).is_err(), "{got:?}");
        }
        let longer = ConnectionTuneOk {
            channel_max: 1,
            frame_max: 4096,
            heartbeat: 600,
        };
        assert_eq!(Tuning::default().accept(&longer).unwrap().heartbeat, 600);
    }
}
