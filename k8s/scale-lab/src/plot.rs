//! Pictures of runs: depth, age and replicas over time, as SVG and as PNG. Knows nothing
//! of how a run came about.

use std::fmt::Write as _;
use std::sync::Arc;

use resvg::{tiny_skia, usvg};

use crate::timeline::{EventKind, Sample, Timeline};

/// Width of a picture, in pixels.
const WIDTH: f64 = 960.0;
/// Height of one panel's area, in pixels.
const PANEL: f64 = 170.0;
/// Left of the area: room for labels of up to eight characters.
const LEFT: f64 = 78.0;
/// Right of the area: half of the last label of the time axis.
const RIGHT: f64 = 30.0;
/// Above each area: title and legend of the panel.
const HEAD: f64 = 34.0;
/// Above everything: the picture's title.
const TITLE: f64 = 34.0;
/// Below everything: labels of the time axis and its name.
const FOOT: f64 = 44.0;
/// A character of the labels' size is about so wide in any usual font, in pixels.
const CHARACTER: f64 = 6.3;
/// A PNG has so many pixels for one of the SVG: text stays sharp on dense screens.
const PNG_SCALE: f32 = 2.0;
/// What a run is drawn in; further runs start over. They differ for colour-blind eyes, too.
const COLOURS: [&str; 4] = ["#1f5fbf", "#d9660b", "#1a8f5a", "#8a3fa8"];
/// `DejaVu Sans` first: a PNG is drawn with it on every machine.
const FONT: &str = "DejaVu Sans, Verdana, sans-serif";

/// Why there is no PNG.
#[derive(Debug, thiserror::Error)]
pub enum PngError {
    /// It is not an SVG that can be drawn.
    #[error("the SVG cannot be read: {0}")]
    Svg(#[from] usvg::Error),
    /// Its size is 0, or too much for memory.
    #[error("a picture of {width} by {height} pixels cannot be drawn")]
    Size {
        /// Pixels of the PNG.
        width: f32,
        /// Pixels of the PNG.
        height: f32,
    },
    /// The pixels could not be written as PNG.
    #[error("the PNG cannot be written: {0}")]
    Encode(String),
}

/// How a line looks.
#[derive(Clone, Copy)]
enum Stroke {
    Solid,
    Dashed,
    Dotted,
}

impl Stroke {
    fn attributes(self) -> &'static str {
        match self {
            Self::Solid => r#"stroke-width="2""#,
            Self::Dashed => r#"stroke-width="1.6" stroke-dasharray="6 3""#,
            Self::Dotted => r#"stroke-width="1.6" stroke-dasharray="1.5 3""#,
        }
    }
}

/// One line of a panel: its name, its look, its value at a moment.
struct Series {
    name: &'static str,
    stroke: Stroke,
    value: fn(&Sample) -> f64,
}

/// One area with its own vertical axis.
struct Panel {
    title: &'static str,
    /// The value only changes at samples: drawn as steps.
    steps: bool,
    series: &'static [Series],
}

const PANELS: [Panel; 3] = [
    Panel {
        title: "Messages (or requests) waiting and in flight",
        steps: false,
        series: &[
            Series {
                name: "all",
                stroke: Stroke::Solid,
                value: |sample| sample.depth.backlog(),
            },
            Series {
                name: "in flight",
                stroke: Stroke::Dotted,
                value: |sample| sample.depth.in_flight,
            },
        ],
    },
    Panel {
        title: "Age of the oldest, seconds",
        steps: false,
        series: &[Series {
            name: "age",
            stroke: Stroke::Solid,
            value: |sample| sample.oldest_age,
        }],
    },
    Panel {
        title: "Replicas",
        steps: true,
        series: &[
            Series {
                name: "ready",
                stroke: Stroke::Solid,
                value: |sample| f64::from(sample.ready),
            },
            Series {
                name: "desired",
                stroke: Stroke::Dashed,
                value: |sample| f64::from(sample.desired),
            },
        ],
    },
];

/// Three panels over one time axis, with the runs over each other: each run has a colour,
/// each kind of line a stroke, a pod that was killed a cross. On a background of its own,
/// so that it reads on any page. A line has at most four points for a pixel.
#[must_use]
pub fn svg(title: &str, runs: &[(&str, &Timeline)]) -> String {
    let panels = PANELS.len() as f64;
    let height = TITLE + panels * (HEAD + PANEL) + FOOT;
    let mut out = String::new();
    let _ = write!(
        out,
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" font-family="{FONT}" font-size="11" fill="#333333">
<title>{0}</title>
<rect width="{WIDTH}" height="{height}" rx="6" fill="#ffffff" stroke="#d0d0d0"/>
<text x="{LEFT}" y="23" font-size="15" font-weight="bold" fill="#111111">{0}</text>
"##,
        escape(title)
    );
    let names: Vec<_> = runs
        .iter()
        .zip(COLOURS.iter().cycle())
        .map(|((name, _), colour)| (*name, *colour, Mark::Line(Stroke::Solid)))
        .collect();
    legend(&mut out, &names, 23.0);
    let time = Axis::of_time(
        runs.iter()
            .filter_map(|(_, run)| run.samples.last())
            .map(|sample| sample.time.seconds()),
    );
    for (panel, index) in PANELS.iter().zip(0_u8..) {
        let top = TITLE + HEAD + f64::from(index) * (HEAD + PANEL);
        let last = usize::from(index) + 1 == PANELS.len();
        draw(&mut out, panel, runs, &time, top, last);
    }
    out.push_str("</svg>\n");
    out
}

fn draw(
    out: &mut String,
    panel: &Panel,
    runs: &[(&str, &Timeline)],
    time: &Axis,
    top: f64,
    last: bool,
) {
    let value = Axis::of_values(runs.iter().flat_map(|(_, run)| {
        let values = panel
            .series
            .iter()
            .map(|series| run.samples.iter().map(series.value));
        values.flatten()
    }));
    let bottom = top + PANEL;
    let x = |seconds: f64| LEFT + seconds / time.end * (WIDTH - LEFT - RIGHT);
    let y = |value_: f64| bottom - value_ / value.end * PANEL;
    let _ = writeln!(
        out,
        r#"<text x="{LEFT}" y="{:.1}" font-size="12" font-weight="bold">{}</text>"#,
        top - 9.0,
        panel.title
    );
    let kinds: Vec<_> = kinds(panel, runs)
        .into_iter()
        .map(|(name, mark)| (name, "#555555", mark))
        .collect();
    legend(out, &kinds, top - 9.0);
    for tick in value.ticks() {
        let at = y(tick);
        let _ = writeln!(
            out,
            r##"<path d="M{LEFT} {at:.1}H{:.1}" stroke="#e4e4e4"/><text x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"##,
            WIDTH - RIGHT,
            LEFT - 7.0,
            at + 4.0,
            number(tick)
        );
    }
    for tick in time.ticks() {
        let at = x(tick);
        let _ = writeln!(
            out,
            r##"<path d="M{at:.1} {top:.1}V{bottom:.1}" stroke="#efefef"/>"##
        );
        if last {
            let _ = writeln!(
                out,
                r#"<text x="{at:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
                bottom + 16.0,
                clock(tick, time.step)
            );
        }
    }
    let _ = writeln!(
        out,
        r##"<path d="M{LEFT} {top:.1}V{bottom:.1}H{:.1}" fill="none" stroke="#888888"/>"##,
        WIDTH - RIGHT
    );
    if last {
        let _ = writeln!(
            out,
            r#"<text x="{:.1}" y="{:.1}" text-anchor="middle">time since the start ({})</text>"#,
            f64::midpoint(LEFT, WIDTH - RIGHT),
            bottom + 34.0,
            unit(time.step)
        );
    }
    for ((_, run), colour) in runs.iter().zip(COLOURS.iter().cycle()) {
        for series in panel.series {
            let points = run
                .samples
                .iter()
                .map(|sample| (x(sample.time.seconds()), (series.value)(sample)))
                .filter(|(_, value)| value.is_finite());
            let path = line(
                thin(points).map(|(x, value)| (x, y(value.max(0.0)))),
                panel.steps,
            );
            let _ = writeln!(
                out,
                r#"<path d="{path}" fill="none" stroke="{colour}" stroke-linejoin="round" {}/>"#,
                series.stroke.attributes()
            );
        }
        if panel.steps {
            crosses(out, run, &x, bottom, colour);
        }
    }
}

/// Where pods were killed: a cross on the axis.
fn crosses(out: &mut String, run: &Timeline, x: &impl Fn(f64) -> f64, bottom: f64, colour: &str) {
    for event in &run.events {
        if let EventKind::Killed { pod } = event.kind {
            let at = x(event.time.seconds());
            let _ = writeln!(
                out,
                r#"<path d="M{:.1} {:.1}l8 8m-8 0l8 -8" stroke="{colour}" stroke-width="2.4"><title>pod {pod} killed</title></path>"#,
                at - 4.0,
                bottom - 12.0
            );
        }
    }
}

/// What a legend shows.
#[derive(Clone, Copy)]
enum Mark {
    Line(Stroke),
    Cross,
}

/// The kinds of lines of a panel.
fn kinds(panel: &Panel, runs: &[(&str, &Timeline)]) -> Vec<(&'static str, Mark)> {
    let mut kinds: Vec<_> = panel
        .series
        .iter()
        .map(|series| (series.name, Mark::Line(series.stroke)))
        .collect();
    // One line alone is what the title says.
    kinds.truncate(if kinds.len() == 1 { 0 } else { kinds.len() });
    let mut events = runs.iter().flat_map(|(_, run)| &run.events);
    if panel.steps && events.any(|event| matches!(event.kind, EventKind::Killed { .. })) {
        kinds.push(("pod killed", Mark::Cross));
    }
    kinds
}

/// Marks with their names, from the right edge to the left.
fn legend(out: &mut String, entries: &[(&str, &str, Mark)], baseline: f64) {
    let mut right = WIDTH - RIGHT;
    for (name, colour, mark) in entries.iter().rev() {
        let left = right - name.chars().count() as f64 * CHARACTER - 34.0;
        let middle = baseline - 4.0;
        let _ = match mark {
            Mark::Line(stroke) => writeln!(
                out,
                r#"<path d="M{left:.1} {middle:.1}h28" stroke="{colour}" {}/>"#,
                stroke.attributes()
            ),
            Mark::Cross => writeln!(
                out,
                r#"<path d="M{:.1} {:.1}l8 8m-8 0l8 -8" stroke="{colour}" stroke-width="2.4"/>"#,
                left + 18.0,
                middle - 4.0
            ),
        };
        let _ = writeln!(
            out,
            r#"<text x="{:.1}" y="{baseline:.1}">{}</text>"#,
            left + 33.0,
            escape(name)
        );
        right = left - 14.0;
    }
}

/// Of the points within one pixel: the first, the lowest, the highest and the last.
fn thin(points: impl Iterator<Item = (f64, f64)>) -> impl Iterator<Item = (f64, f64)> {
    let mut kept: Vec<(f64, f64)> = Vec::new();
    let mut column: Vec<(f64, f64)> = Vec::new();
    for point in points {
        if column
            .first()
            .is_some_and(|first| first.0.floor() < point.0.floor())
        {
            squeeze(&mut column, &mut kept);
        }
        column.push(point);
    }
    squeeze(&mut column, &mut kept);
    kept.into_iter()
}

fn squeeze(column: &mut Vec<(f64, f64)>, kept: &mut Vec<(f64, f64)>) {
    if column.len() > 4 {
        let by_value =
            |(_, a): &(usize, &(f64, f64)), (_, b): &(usize, &(f64, f64))| a.1.total_cmp(&b.1);
        let index = |found: Option<(usize, &(f64, f64))>| found.map_or(0, |(index, _)| index);
        let low = index(column.iter().enumerate().min_by(by_value));
        let high = index(column.iter().enumerate().max_by(by_value));
        let mut indices = [0, low, high, column.len() - 1];
        indices.sort_unstable();
        let mut before = None;
        for index in indices {
            if before != Some(index) {
                kept.extend(column.get(index));
            }
            before = Some(index);
        }
        column.clear();
    } else {
        kept.append(column);
    }
}

/// Without points that lie on the way from the one before to the one after, to a fraction of a
/// pixel; a stretch is no longer than 20 pixels, so that a gentle curve stays one. Of steps,
/// without points that change nothing.
fn straighten(points: impl Iterator<Item = (f64, f64)>, steps: bool) -> Vec<(f64, f64)> {
    let mut kept: Vec<(f64, f64)> = Vec::new();
    for next in points {
        if let [.., from, middle] = kept.as_slice() {
            let (width, height) = (next.0 - from.0, next.1 - from.1);
            let on_the_way = from.1 + height * (middle.0 - from.0) / width.max(0.1);
            let straight = width <= 20.0 && (on_the_way - middle.1).abs() < 0.05;
            let same = from.1.total_cmp(&middle.1).is_eq() && height.abs() < f64::EPSILON;
            if if steps { same } else { straight } {
                kept.pop();
            }
        }
        kept.push(next);
    }
    kept
}

fn line(points: impl Iterator<Item = (f64, f64)>, steps: bool) -> String {
    let mut path = String::new();
    for (x, y) in straighten(points, steps) {
        let _ = if path.is_empty() {
            write!(path, "M{x:.1} {y:.1}")
        } else if steps {
            write!(path, "H{x:.1}V{y:.1}")
        } else {
            write!(path, "L{x:.1} {y:.1}")
        };
    }
    path
}

/// From 0 to `end`, with a mark at each `step`.
struct Axis {
    end: f64,
    step: f64,
}

impl Axis {
    /// About five steps of 1, 2 or 5 times a power of ten, up to the one over the highest.
    fn of_values(values: impl Iterator<Item = f64>) -> Self {
        let highest = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
        // Counts below one mean nothing, and an empty panel still has an axis.
        let highest = highest.max(1.0);
        let rough = highest / 5.0;
        let power = 10_f64.powf(rough.log10().floor()).max(1.0);
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|factor| factor * power)
            .into_iter()
            .find(|step| *step >= rough)
            .unwrap_or(power);
        Self {
            end: (highest / step).ceil() * step,
            step,
        }
    }

    /// Steps that clocks have, ten at most up to a year; ends with the run.
    fn of_time(ends: impl Iterator<Item = f64>) -> Self {
        let end = ends.fold(0.0, f64::max).max(1.0);
        let steps = [
            1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0,
            7_200.0, 10_800.0, 21_600.0, 43_200.0, 86_400.0, 604_800.0,
        ];
        let step = steps.into_iter().find(|step| end / step <= 10.0);
        Self {
            end,
            step: step.unwrap_or(end / 10.0),
        }
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        let count = (self.end / self.step + 1e-9).floor().clamp(0.0, 100.0) as u32;
        (0..=count).map(|index| f64::from(index) * self.step)
    }
}

/// The unit of a time axis with such steps.
fn unit(step: f64) -> &'static str {
    match step {
        step if step >= 3_600.0 => "hours",
        step if step >= 60.0 => "minutes",
        _ => "seconds",
    }
}

fn clock(seconds: f64, step: f64) -> String {
    let value = match unit(step) {
        "hours" => seconds / 3_600.0,
        "minutes" => seconds / 60.0,
        _ => seconds,
    };
    number(value)
}

/// `1,500`, `250 k`, `1.2 M`: at most six characters up to a billion.
fn number(value: f64) -> String {
    let short = |value: f64, suffix: &str| {
        let text = format!("{value:.1}");
        format!("{} {suffix}", text.strip_suffix(".0").unwrap_or(&text))
    };
    match value {
        value if value >= 1e9 => short(value / 1e9, "G"),
        value if value >= 1e6 => short(value / 1e6, "M"),
        value if value >= 1e4 => short(value / 1e3, "k"),
        value if value >= 1e3 => {
            let whole = value.round() as u64;
            format!("{},{:03}", whole / 1_000, whole % 1_000)
        }
        value if value.fract() == 0.0 => format!("{value}"),
        value => format!("{value:.1}"),
    }
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // XML has no other control characters.
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

/// The picture of an SVG, with two pixels for each of its own. Text is drawn with fonts
/// of this program: those of the machine are not looked at.
pub fn png(svg: &str) -> Result<Vec<u8>, PngError> {
    let mut options = usvg::Options::default();
    let fonts = Arc::make_mut(&mut options.fontdb);
    fonts.load_font_data(dejavu::sans::regular().to_vec());
    fonts.load_font_data(dejavu::sans::bold().to_vec());
    fonts.set_sans_serif_family("DejaVu Sans");
    "DejaVu Sans".clone_into(&mut options.font_family);
    let tree = usvg::Tree::from_str(svg, &options)?;
    let size = tree.size();
    let (width, height) = (size.width() * PNG_SCALE, size.height() * PNG_SCALE);
    let mut pixels = tiny_skia::Pixmap::new(width.ceil() as u32, height.ceil() as u32)
        .ok_or(PngError::Size { width, height })?;
    let scale = tiny_skia::Transform::from_scale(PNG_SCALE, PNG_SCALE);
    resvg::render(&tree, scale, &mut pixels.as_mut());
    pixels
        .encode_png()
        .map_err(|error| PngError::Encode(error.to_string()))
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "exact by construction")]
mod tests {
    use super::*;
    use crate::time::Time;
    use crate::timeline::{Depth, Event};

    /// A spike that is worked off: `late` moves and flattens it.
    fn spike(late: u64, samples: u64) -> Timeline {
        let at = |second: u64| {
            let since = second.saturating_sub(60 + late);
            let backlog = if second < 60 + late {
                0.0
            } else {
                (100_000.0 - 260.0 * since as f64).max(0.0)
            };
            let desired = if backlog > 0.0 {
                1 + (since / 15 * 4).min(19) as u32
            } else {
                0
            };
            let ready = desired.saturating_sub(u32::from(since % 15 < 6));
            Sample {
                time: Time::from_millis(second * 1_000),
                depth: Depth {
                    visible: backlog,
                    in_flight: f64::from(ready) * 640.0,
                    delayed: 0.0,
                },
                oldest_age: if backlog > 0.0 { since as f64 } else { 0.0 },
                desired,
                ready,
                ..Sample::default()
            }
        };
        Timeline {
            samples: (0..samples).map(at).collect(),
            events: vec![Event {
                time: Time::from_millis(200_000 + late * 1_000),
                kind: EventKind::Killed { pod: 3 },
            }],
        }
    }

    /// Text of an SVG, without its tags.
    fn texts(svg: &str) -> Vec<String> {
        svg.split("<text")
            .skip(1)
            .filter_map(|rest| rest.split_once('>')?.1.split_once("</text>"))
            .map(|(text, _)| text.to_owned())
            .collect()
    }

    #[test]
    fn panels_have_titles_units_and_a_legend_of_both_runs() {
        let (live, simulated) = (spike(5, 600), spike(0, 600));
        let svg = svg(
            "Spike <100,000>",
            &[("live", &live), ("simulated", &simulated)],
        );
        let texts = texts(&svg);
        for expected in [
            "Spike &lt;100,000&gt;",
            "Messages (or requests) waiting and in flight",
            "Age of the oldest, seconds",
            "Replicas",
            "time since the start (minutes)",
            "live",
            "simulated",
            "all",
            "in flight",
            "ready",
            "desired",
            "pod killed",
        ] {
            assert!(
                texts.iter().any(|text| text == expected),
                "{expected}: {texts:?}"
            );
        }
        assert!(texts.iter().any(|text| text == "100 k"), "{texts:?}");
        // Both are there, each in its colour.
        for colour in &COLOURS[..2] {
            let line = format!(r#"fill="none" stroke="{colour}""#);
            assert_eq!(svg.matches(&line).count(), 5, "{colour}");
        }
    }

    #[test]
    fn what_is_not_there_still_has_axes() {
        let empty = Timeline::default();
        for runs in [&[][..], &[("nothing", &empty)][..]] {
            let svg = svg("Empty", runs);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            assert!(png(&svg).unwrap().starts_with(b"\x89PNG"));
        }
        let mut odd = spike(0, 3);
        odd.samples[1].oldest_age = f64::NAN;
        assert!(!svg("Odd", &[("odd", &odd)]).contains("NaN"));
    }

    #[test]
    fn a_day_of_seconds_keeps_its_peaks_in_a_small_picture() {
        let mut day = spike(0, 86_400);
        day.samples[43_211].depth.visible = 250_000.0;
        let svg = svg("A day", &[("day", &day)]);
        assert!(svg.len() < 400_000, "{}", svg.len());
        // The peak is at half of the axis' 500 k... or at its end: the axis says 250 k or more.
        let (_, path) = svg.split_once(r##"stroke="#888888"/>"##).unwrap();
        let heights = path
            .split_once("d=\"M")
            .unwrap()
            .1
            .split_once('"')
            .unwrap()
            .0;
        let highest = heights
            .split('L')
            .filter_map(|point| point.split_once(' ')?.1.parse::<f64>().ok())
            .fold(f64::MAX, f64::min);
        let top = TITLE + HEAD;
        assert!(
            (highest - top).abs() < PANEL / 3.0,
            "{highest} is not near {top}"
        );
    }

    #[test]
    fn a_png_has_text_whatever_fonts_the_machine_has() {
        let live = spike(5, 600);
        let with = svg("Spike", &[("live", &live)]);
        let without: String = with
            .lines()
            .filter(|line| !line.contains("<text"))
            .collect();
        let dark = |svg: &str| {
            let decoded = tiny_skia::Pixmap::decode_png(&png(svg).unwrap()).unwrap();
            let pixels = decoded.pixels().iter();
            pixels.filter(|p| p.red() < 0x60 && p.blue() < 0x60).count()
        };
        assert!(
            dark(&with) > dark(&without) + 3_000,
            "{} {}",
            dark(&with),
            dark(&without)
        );
        if let Some(folder) = std::env::var_os("SCALE_LAB_PICTURES") {
            let other = spike(0, 600);
            let both = svg(
                "Spike of 100,000 messages",
                &[("live", &live), ("simulated", &other)],
            );
            let folder = std::path::Path::new(&folder);
            std::fs::write(folder.join("two.svg"), &both).unwrap();
            std::fs::write(folder.join("two.png"), png(&both).unwrap()).unwrap();
            std::fs::write(folder.join("one.png"), png(&with).unwrap()).unwrap();
        }
    }

    #[test]
    fn axes_have_round_steps() {
        let axis = |highest: f64| {
            let axis = Axis::of_values([highest].into_iter());
            (axis.end, axis.step)
        };
        assert_eq!(axis(0.0), (1.0, 1.0));
        assert_eq!(axis(7.0), (8.0, 2.0));
        assert_eq!(axis(100_000.0), (100_000.0, 20_000.0));
        assert_eq!(axis(101_000.0), (150_000.0, 50_000.0));
        assert_eq!(number(1_500.0), "1,500");
        assert_eq!(number(1_260_000.0), "1.3 M");
        assert_eq!(Axis::of_time([1_200.0].into_iter()).step, 120.0);
    }
}
