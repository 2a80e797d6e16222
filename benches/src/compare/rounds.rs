//! Rounds: every peer in turn, so that the weather of the machine falls on all alike; then medians and ratios.

use std::ops::RangeInclusive;

use amqp_rpc_benches::{
    plot::{Mark, Panel, Scale, Series},
    work::Outcome,
};

use super::run::{FLOOR, Peer, Place, Run, Work};

/// All that was measured.
pub struct Results {
    pub places: Vec<Place>,
    pub peers: Vec<Peer>,
    /// By place, by peer, by round.
    runs: Vec<Vec<Vec<Option<Run>>>>,
}

/// Which figure of a run.
pub type Figure = fn(&Run) -> f64;

pub const RATE: Figure = |run| run.rate;
pub const CPU: Figure = |run| run.cpu;
pub const P50: Figure = |run| run.p50;
pub const P99: Figure = |run| run.p99;

impl Results {
    /// Takes the measurements. A run that fails is told and left out.
    pub fn take(
        places: Vec<Place>,
        peers: Vec<Peer>,
        rounds: usize,
        mut run: impl FnMut(&Peer, Place) -> Outcome<Run>,
    ) -> Self {
        let mut runs = vec![vec![Vec::new(); peers.len()]; places.len()];
        for round in 0..rounds {
            for (at, place) in places.iter().enumerate() {
                // Another one begins each time, since the first run after another place is not like the rest.
                for turn in 0..peers.len() {
                    let peer = (turn + round + at) % peers.len();
                    if peers[peer].name == FLOOR && !matches!(place.work, Work::Calls { .. }) {
                        runs[at][peer].push(None);
                        continue;
                    }
                    let outcome = run(&peers[peer], *place);
                    if let Err(error) = &outcome {
                        eprintln!("{}, {}: {error}", place.title(), peers[peer].name);
                    }
                    runs[at][peer].push(outcome.ok());
                }
            }
            eprintln!("round {} of {rounds}", round + 1);
        }
        Self {
            places,
            peers,
            runs,
        }
    }

    fn peer(&self, name: &str) -> Option<usize> {
        self.peers.iter().position(|peer| peer.name == name)
    }

    /// Of all rounds, in ascending order.
    fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
        let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    fn mark(values: &[f64]) -> Option<Mark> {
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            0 => f64::midpoint(*values.get(middle.wrapping_sub(1))?, *values.get(middle)?),
            _ => *values.get(middle)?,
        };
        Some(Mark {
            least: *values.first()?,
            median,
            greatest: *values.last()?,
        })
    }

    /// A figure of one peer at one place.
    pub fn figure(&self, place: usize, name: &str, figure: Figure) -> Option<Mark> {
        let runs = &self.runs[place][self.peer(name)?];
        Self::mark(&Self::sorted(runs.iter().flatten().map(figure)))
    }

    /// The ratio of two peers, taken in each round, so that what slows a whole round slows both.
    pub fn ratio(&self, place: usize, name: &str, to: &str, figure: Figure) -> Option<Mark> {
        let (runs, to) = (
            &self.runs[place][self.peer(name)?],
            &self.runs[place][self.peer(to)?],
        );
        let pairs = runs
            .iter()
            .zip(to)
            .filter_map(|(run, to)| Some(figure(run.as_ref()?) / figure(to.as_ref()?)));
        Self::mark(&Self::sorted(pairs))
    }

    /// What one peer differs by from itself at most. Which of the two came out ahead means nothing.
    fn noise(&self, place: usize, twin: &Twin, figure: Figure) -> Option<RangeInclusive<f64>> {
        let mark = self.ratio(place, &twin.again, &twin.name, figure)?;
        let most = mark.greatest.max(1.0 / mark.least).max(1.0);
        Some(1.0 / most..=most)
    }

    /// A Markdown table for each place; ratios are to each of `references` that was measured.
    pub fn print_tables(&self, references: &[&str]) {
        let references: Vec<&str> = references
            .iter()
            .copied()
            .filter(|name| self.peer(name).is_some())
            .collect();
        for (at, place) in self.places.iter().enumerate() {
            let calls = matches!(place.work, Work::Calls { .. });
            let (each, each_of) = if calls {
                ("calls/s", "call")
            } else {
                ("messages/s", "message")
            };
            let mut head = format!("| | {each} | least–most |");
            references
                .iter()
                .for_each(|name| head += &format!(" to {name} |"));
            head += &format!(" CPU µs/{each_of} |");
            references
                .iter()
                .for_each(|name| head += &format!(" to {name} |"));
            if calls {
                head += " p50 µs | p99 µs |";
            }
            let columns = head.matches('|').count() - 2;
            println!(
                "\n### {}\n\n{head}\n|---|{}",
                place.title(),
                "---:|".repeat(columns)
            );
            for peer in &self.peers {
                let Some(rate) = self.figure(at, &peer.name, RATE) else {
                    continue;
                };
                let range = format!("{}–{}", grouped(rate.least), grouped(rate.greatest));
                let mut row = format!("| {} | {} | {range} |", peer.name, grouped(rate.median));
                let ratio = |to: &&str, figure| {
                    let mark = self.ratio(at, &peer.name, to, figure);
                    format!(
                        " {} |",
                        mark.map_or("–".into(), |mark| format!("{:.2}", mark.median))
                    )
                };
                references.iter().for_each(|to| row += &ratio(to, RATE));
                let cpu = self.figure(at, &peer.name, CPU);
                row += &format!(
                    " {} |",
                    cpu.map_or("–".into(), |mark| format!("{:.1}", mark.median))
                );
                references.iter().for_each(|to| row += &ratio(to, CPU));
                for latency in [P50, P99].into_iter().filter(|_| calls) {
                    let mark = self.figure(at, &peer.name, latency);
                    row += &format!(
                        " {} |",
                        mark.map_or("–".into(), |mark| grouped(mark.median))
                    );
                }
                println!("{row}");
            }
        }
    }

    /// Ratios of all peers but the twin to `reference`.
    pub fn ratios(&self, title: &str, reference: &str, twin: &Twin, figure: Figure) -> Panel {
        let all: Vec<usize> = (0..self.places.len()).collect();
        let noise = all
            .iter()
            .map(|place| self.noise(*place, twin, figure))
            .collect();
        let mark = |place, name: &str| self.ratio(place, name, reference, figure);
        Panel {
            noise,
            ..self.panel(title, twin, &all, mark)
        }
    }

    /// How long calls take, without noise, which is known of ratios alone.
    pub fn latencies(&self, title: &str, twin: &Twin, figure: Figure) -> Panel {
        let is_call = |place: &usize| matches!(self.places[*place].work, Work::Calls { .. });
        let calls: Vec<usize> = (0..self.places.len()).filter(is_call).collect();
        self.panel(title, twin, &calls, |place, name| {
            self.figure(place, name, figure)
        })
    }

    fn panel(
        &self,
        title: &str,
        twin: &Twin,
        places: &[usize],
        mark: impl Fn(usize, &str) -> Option<Mark>,
    ) -> Panel {
        let shown = self.peers.iter().filter(|peer| peer.name != twin.again);
        let series = shown.map(|peer| Series {
            name: peer.name.clone(),
            marks: places
                .iter()
                .map(|place| mark(*place, &peer.name))
                .collect(),
        });
        Panel {
            title: title.into(),
            scale: Scale::Log,
            places: places
                .iter()
                .map(|place| self.places[*place].label())
                .collect(),
            noise: Vec::new(),
            series: series.collect(),
            joined: false,
        }
    }

    pub fn place(&self, work: Work, body: usize) -> Option<usize> {
        self.places
            .iter()
            .position(|place| *place == Place { work, body })
    }
}

/// A peer that is measured under two names: what these differ by is noise.
pub struct Twin {
    pub name: String,
    pub again: String,
}

impl Twin {
    /// Lists the peer of this name once more, last.
    pub fn of(name: &str, peers: &mut Vec<Peer>) -> Self {
        let twin = Self {
            name: name.into(),
            again: format!("{name} (again)"),
        };
        let again = peers.iter().find(|peer| peer.name == name).cloned();
        peers.extend(again.map(|peer| Peer {
            name: twin.again.clone(),
            ..peer
        }));
        twin
    }
}

/// `12345.6` as `12,346`.
pub fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
