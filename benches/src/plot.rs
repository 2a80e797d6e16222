//! Plots as SVG that read on a light and on a dark page: nothing is painted behind them, and no ink is near either end.
//!
//! A [`Panel`] has named places along the bottom and one mark per series at each: the median, with a whisker from the
//! least to the greatest. Behind them stands what noise alone does there, if that was measured.

use std::{error::Error, ops::RangeInclusive, path::Path};

use plotters::{
    coord::{Shift, ranged1d::ValueFormatter, types::RangedCoordf64},
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

/// Of text and axes: a contrast above 4 with white and with GitHub's dark page alike.
pub const INK: RGBColor = RGBColor(0x73, 0x7b, 0x85);

/// Told apart by people who do not tell red from green, in the order in which they differ most.
pub const COLOURS: [RGBColor; 7] = [
    RGBColor(0x2f, 0x81, 0xd6),
    RGBColor(0xd9, 0x6a, 0x14),
    RGBColor(0x1f, 0x9e, 0x78),
    RGBColor(0xc4, 0x5f, 0x9f),
    RGBColor(0x8a, 0x6f, 0xd1),
    RGBColor(0xa8, 0x8a, 0x0c),
    RGBColor(0x4a, 0x9f, 0xb5),
];

const FONT: &str = "sans-serif";
const PANEL_WIDTH: u32 = 860;
const PANEL_HEIGHT: u32 = 300;
const TITLE_HEIGHT: u32 = 40;
const LEGEND_HEIGHT: u32 = 34;

/// How the axis at the side runs.
#[derive(Clone, Copy, PartialEq)]
pub enum Scale {
    /// From zero, for amounts.
    Linear,
    /// For ratios, and for what differs by orders of magnitude.
    Log,
}

/// What was measured at one place: the median of the rounds, and their least and greatest.
#[derive(Clone, Copy)]
pub struct Mark {
    pub least: f64,
    pub median: f64,
    pub greatest: f64,
}

/// The marks of one peer, `None` where it was not measured.
pub struct Series {
    pub name: String,
    pub marks: Vec<Option<Mark>>,
}

/// One diagram.
pub struct Panel {
    /// What is shown, with its unit.
    pub title: String,
    pub scale: Scale,
    /// What stands below each place; a line break begins a second line.
    pub places: Vec<String>,
    /// What the same thing measured twice differs by, at each place; empty if that is unknown.
    pub noise: Vec<Option<RangeInclusive<f64>>>,
    /// In every panel of a picture the same series in the same order, since they share one legend.
    pub series: Vec<Series>,
    /// Marks are joined, for places that are a course and not only a list.
    pub joined: bool,
}

/// Writes the panels below each other.
///
/// # Errors
///
/// The file cannot be written.
pub fn draw(
    path: &Path,
    title: &str,
    panels: &[Panel],
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let height = TITLE_HEIGHT + PANEL_HEIGHT * u32::try_from(panels.len())? + LEGEND_HEIGHT;
    let root = SVGBackend::new(path, (PANEL_WIDTH, height)).into_drawing_area();
    let (heading, rest) = root.split_vertically(TITLE_HEIGHT);
    heading
        .draw(&Text::new(
            title,
            (16, 14),
            (FONT, 24).into_font().color(&INK),
        ))
        .map_err(owned)?;
    let (body, legend) = rest.split_vertically(height - TITLE_HEIGHT - LEGEND_HEIGHT);
    for (panel, area) in panels.iter().zip(body.split_evenly((panels.len(), 1))) {
        draw_panel(panel, &area)?;
    }
    if let Some(panel) = panels.first() {
        draw_legend(panel, &legend)?;
    }
    root.present().map_err(owned)
}

/// The error of a drawing borrows the area it was drawn on.
pub fn owned(error: impl Error) -> Box<dyn Error + Send + Sync> {
    error.to_string().into()
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn draw_panel(panel: &Panel, area: &Area<'_>) -> Result<(), Box<dyn Error + Send + Sync>> {
    let (bottom, top) = panel.bounds();
    let width = panel.places.len() as f64;
    let mut builder = ChartBuilder::on(area);
    builder
        .caption(&panel.title, (FONT, 18).into_font().color(&INK))
        .margin_left(8)
        .margin_right(16)
        .margin_bottom(38)
        .y_label_area_size(64);
    match panel.scale {
        Scale::Linear => panel.draw_on(
            builder
                .build_cartesian_2d(0.0..width, bottom..top)
                .map_err(owned)?,
            bottom,
        ),
        Scale::Log => {
            let log = (bottom..top)
                .log_scale()
                .with_key_points(ticks(bottom, top));
            panel.draw_on(
                builder.build_cartesian_2d(0.0..width, log).map_err(owned)?,
                bottom,
            )
        }
    }
}

impl Panel {
    fn bounds(&self) -> (f64, f64) {
        let marks = self
            .series
            .iter()
            .flat_map(|series| series.marks.iter().flatten());
        let noise = self.noise.iter().flatten();
        let ends = marks
            .flat_map(|mark| [mark.least, mark.greatest])
            .chain(noise.flat_map(|band| [*band.start(), *band.end()]))
            .filter(|end| end.is_finite());
        let (least, greatest) = ends.fold(
            (f64::INFINITY, 0.0),
            |(least, greatest): (f64, f64), end| (least.min(end), greatest.max(end)),
        );
        match self.scale {
            Scale::Linear => (0.0, greatest.max(f64::MIN_POSITIVE) * 1.05),
            Scale::Log if least.is_finite() && least > 0.0 => (least / 1.15, greatest * 1.15),
            Scale::Log => (0.5, 2.0),
        }
    }

    fn draw_on<Y>(
        &self,
        mut chart: ChartContext<'_, SVGBackend<'_>, Cartesian2d<RangedCoordf64, Y>>,
        bottom: f64,
    ) -> Result<(), Box<dyn Error + Send + Sync>>
    where
        Y: Ranged<ValueType = f64> + ValueFormatter<f64>,
    {
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(INK.mix(0.25))
            .axis_style(INK.mix(0.6))
            .x_labels(0)
            .y_labels(7)
            .y_label_formatter(&|value| number(*value))
            .label_style((FONT, 15).into_font().color(&INK))
            .draw()
            .map_err(owned)?;
        for (place, label) in self.places.iter().enumerate() {
            for (line, text) in label.lines().enumerate() {
                let centred = Pos::new(HPos::Center, VPos::Top);
                let style = (FONT, 15).into_font().color(&INK).pos(centred);
                let below = Text::new(text.to_owned(), (0, 8 + 14 * i32::try_from(line)?), style);
                let label = EmptyElement::at((place as f64 + 0.5, bottom)) + below;
                chart.plotting_area().draw(&label).map_err(owned)?;
            }
        }
        for (place, band) in self.noise.iter().enumerate() {
            let Some(band) = band else { continue };
            let corners = [
                (place as f64 + 0.03, *band.start()),
                (place as f64 + 0.97, *band.end()),
            ];
            chart
                .draw_series([Rectangle::new(corners, INK.mix(0.3).filled())])
                .map_err(owned)?;
        }
        let step = 0.8 / self.series.len() as f64;
        for (at, series) in self.series.iter().enumerate() {
            let colour = COLOURS[at % COLOURS.len()];
            let across = |place: usize| place as f64 + 0.1 + step * (at as f64 + 0.5);
            let marks = series
                .marks
                .iter()
                .enumerate()
                .filter_map(|(place, mark)| Some((across(place), (*mark)?)));
            let whiskers = marks.clone().map(|(x, mark)| {
                PathElement::new(
                    [(x, mark.least), (x, mark.greatest)],
                    colour.mix(0.7).stroke_width(2),
                )
            });
            chart.draw_series(whiskers).map_err(owned)?;
            let medians = marks
                .clone()
                .map(|(x, mark)| Circle::new((x, mark.median), 4, colour.filled()));
            chart.draw_series(medians).map_err(owned)?;
            if self.joined {
                let line = LineSeries::new(
                    marks.map(|(x, mark)| (x, mark.median)),
                    colour.stroke_width(2),
                );
                chart.draw_series(line).map_err(owned)?;
            }
        }
        Ok(())
    }
}

fn draw_legend(panel: &Panel, area: &Area<'_>) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut x = 24;
    let style = || (FONT, 16).into_font().color(&INK);
    for (at, series) in panel.series.iter().enumerate() {
        area.draw(&Circle::new(
            (x, 14),
            4,
            COLOURS[at % COLOURS.len()].filled(),
        ))
        .map_err(owned)?;
        area.draw(&Text::new(series.name.clone(), (x + 10, 8), style()))
            .map_err(owned)?;
        x += 24 + 7 * i32::try_from(series.name.chars().count())?;
    }
    if panel.noise.iter().any(Option::is_some) {
        area.draw(&Rectangle::new(
            [(x, 8), (x + 16, 20)],
            INK.mix(0.3).filled(),
        ))
        .map_err(owned)?;
        area.draw(&Text::new("noise: one peer twice", (x + 24, 8), style()))
            .map_err(owned)?;
    }
    Ok(())
}

/// Round values between the two, more of each decade if there are few decades.
fn ticks(bottom: f64, top: f64) -> Vec<f64> {
    let of_a_decade: &[f64] = match top / bottom {
        ..10.0 => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0],
        ..1e3 => &[1.0, 2.0, 5.0],
        _ => &[1.0],
    };
    let decades = bottom.log10().floor() as i32..=top.log10().floor() as i32;
    decades
        .flat_map(|decade| {
            of_a_decade
                .iter()
                .map(move |digit| digit * 10f64.powi(decade))
        })
        .filter(|tick| (bottom..=top).contains(tick))
        .collect()
}

/// As few digits as tell the values of an axis apart.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        least if least < 0.1 => 3,
        small if small < 1.0 => 2,
        medium if medium < 10.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.digits$}");
    match text.trim_end_matches('0').trim_end_matches('.') {
        _ if digits == 0 => text,
        "" => "0".into(),
        short => short.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_every_mark_and_every_name() {
        let mark = |median: f64| {
            Some(Mark {
                least: median * 0.9,
                median,
                greatest: median * 1.1,
            })
        };
        let panel = |scale| Panel {
            title: "calls/s, as a ratio to lapin".into(),
            scale,
            places: vec!["16 B\n1".into(), "16 B\n128".into(), "1 KiB\n1".into()],
            noise: vec![Some(0.9..=1.1), None, Some(0.95..=1.2)],
            series: vec![
                Series {
                    name: "amqp-rpc".into(),
                    marks: vec![mark(1.8), mark(2.5), None],
                },
                Series {
                    name: "rabbitmq-c".into(),
                    marks: vec![mark(1.3), mark(1.6), mark(1.4)],
                },
            ],
            joined: false,
        };
        let path = std::env::temp_dir().join(format!("plot-{}.svg", std::process::id()));
        draw(&path, "RPC", &[panel(Scale::Log), panel(Scale::Linear)]).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(
            svg.matches("<circle").count(),
            2 * 5 + 2,
            "five marks a panel, and a legend"
        );
        assert!(svg.contains("rabbitmq-c") && svg.contains("noise: one peer twice"));
    }

    #[test]
    fn numbers_are_short() {
        let numbers = [0.0, 0.05, 0.25, 1.0, 2.5, 20.0, 12_000.0].map(number);
        assert_eq!(numbers, ["0", "0.05", "0.25", "1", "2.5", "20", "12000"]);
    }
}
