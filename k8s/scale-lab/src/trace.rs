//! When messages are sent: rates over time, and the exact number of messages in any span of
//! it. Knows nothing of queues. Deterministic: what varies by seed is made of this elsewhere.

use std::f64::consts::TAU;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::time::Time;

/// The most messages a second that a trace may have.
pub const MAX_RATE: f64 = 1e9;

/// Messages a second over time. Rates are messages/s, moments and lengths are seconds of the
/// scenario; all from 0.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Trace {
    /// The same all the time.
    Constant {
        /// The rate.
        rate: f64,
    },
    /// One rate, then another, then perhaps the first again.
    Step {
        /// The rate before, and after `until_seconds`.
        before: f64,
        /// The rate of the step.
        after: f64,
        /// When it begins.
        at_seconds: f64,
        /// When it ends; never without.
        until_seconds: Option<f64>,
    },
    /// A number of messages within a short time, on top of a rate.
    Spike {
        /// The rate all the time.
        #[serde(default)]
        base: f64,
        /// Messages more.
        messages: u64,
        /// When the first of them is sent.
        at_seconds: f64,
        /// For how long, evenly; above 0.
        over_seconds: f64,
    },
    /// A sine between two rates: night and day.
    Diurnal {
        /// The lowest rate.
        low: f64,
        /// The highest rate.
        high: f64,
        /// From peak to peak; above 0. A day without.
        #[serde(default = "day")]
        period_seconds: f64,
        /// When the first peak is; half a period without.
        peak_seconds: Option<f64>,
    },
    /// Two rates in turns, beginning with `on`.
    OnOff {
        /// The one rate.
        on: f64,
        /// The other; 0 without.
        #[serde(default)]
        off: f64,
        /// How long the one holds; above 0.
        on_seconds: f64,
        /// How long the other holds; above 0.
        off_seconds: f64,
    },
    /// What was recorded: a file with lines `seconds,messages_per_second`.
    Csv {
        /// The file, seen from the folder of the scenario's.
        file: PathBuf,
        /// What it says; filled by [`Trace::load`].
        #[serde(skip)]
        points: Vec<Point>,
    },
}

/// From a moment on, a rate; until the next point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// When, in seconds.
    pub seconds: f64,
    /// Messages/s.
    pub rate: f64,
    /// Messages before.
    before: f64,
}

/// Why a trace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The recorded file cannot be read.
    #[error("cannot read the recorded trace `{0}`: {1}")]
    Unreadable(PathBuf, std::io::Error),
    /// A line of it is not two numbers.
    #[error(
        "`{file}`, line {line}: `{text}` is not `seconds,messages_per_second` with numbers from 0, later than the line before"
    )]
    Line {
        /// The file.
        file: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// The file has no line with numbers.
    #[error("the recorded trace `{0}` is empty: give lines `seconds,messages_per_second`")]
    Empty(PathBuf),
    /// A number of the trace is out of its bounds.
    #[error("`trace.{key}` is {value}: give {allowed}")]
    Bound {
        /// Which number.
        key: &'static str,
        /// What it is.
        value: f64,
        /// What it may be.
        allowed: &'static str,
    },
}

const fn day() -> f64 {
    86_400.0
}

impl Trace {
    /// Reads the recorded file, if the trace has one, and checks every number.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or a number is out of its bounds.
    pub fn load(&mut self, folder: &Path) -> Result<(), TraceError> {
        if let Self::Csv { file, points } = self {
            let path = folder.join(&*file);
            let text = std::fs::read_to_string(&path)
                .map_err(|error| TraceError::Unreadable(path.clone(), error))?;
            *points = recorded(&path, &text)?;
        }
        self.check()
    }

    fn check(&self) -> Result<(), TraceError> {
        let rate = |key, value: f64| {
            bound(
                key,
                value,
                (0.0..=MAX_RATE).contains(&value),
                "messages/s from 0 to 1e9",
            )
        };
        let moment =
            |key, value: f64| bound(key, value, (0.0..=1e9).contains(&value), "seconds from 0");
        let length = |key, value: f64| {
            bound(
                key,
                value,
                (0.001..=1e9).contains(&value),
                "seconds from 0.001",
            )
        };
        match *self {
            Self::Constant { rate: all } => rate("rate", all),
            Self::Step {
                before,
                after,
                at_seconds,
                until_seconds,
            } => {
                rate("before", before)?;
                rate("after", after)?;
                moment("at_seconds", at_seconds)?;
                let until = until_seconds.unwrap_or(at_seconds);
                bound(
                    "until_seconds",
                    until,
                    until >= at_seconds && until <= 1e9,
                    "no less than `at_seconds`",
                )
            }
            Self::Spike {
                base,
                messages,
                at_seconds,
                over_seconds,
            } => {
                rate("base", base)?;
                moment("at_seconds", at_seconds)?;
                length("over_seconds", over_seconds)?;
                rate("messages", messages as f64 / over_seconds)
            }
            Self::Diurnal {
                low,
                high,
                period_seconds,
                peak_seconds,
            } => {
                rate("low", low)?;
                rate("high", high)?;
                bound("high", high, high >= low, "no less than `low`")?;
                length("period_seconds", period_seconds)?;
                moment("peak_seconds", peak_seconds.unwrap_or_default())
            }
            Self::OnOff {
                on,
                off,
                on_seconds,
                off_seconds,
            } => {
                rate("on", on)?;
                rate("off", off)?;
                length("on_seconds", on_seconds)?;
                length("off_seconds", off_seconds)
            }
            Self::Csv { .. } => Ok(()),
        }
    }

    /// So many times the messages, at the same moments.
    ///
    /// # Errors
    ///
    /// When a rate gets out of its bounds.
    pub fn multiply(&mut self, by: f64) -> Result<(), TraceError> {
        match self {
            Self::Constant { rate } => *rate *= by,
            Self::Step { before, after, .. } => {
                *before *= by;
                *after *= by;
            }
            Self::Spike { base, messages, .. } => {
                *base *= by;
                *messages = (*messages as f64 * by).round() as u64;
            }
            Self::Diurnal { low, high, .. } => {
                *low *= by;
                *high *= by;
            }
            Self::OnOff { on, off, .. } => {
                *on *= by;
                *off *= by;
            }
            Self::Csv { points, .. } => {
                for point in points {
                    point.rate *= by;
                    point.before *= by;
                    bound(
                        "file",
                        point.rate,
                        point.rate <= MAX_RATE,
                        "messages/s from 0 to 1e9",
                    )?;
                }
            }
        }
        self.check()
    }

    /// Messages/s at that moment; from a change on, the new rate.
    #[must_use]
    pub fn rate(&self, at: Time) -> f64 {
        let now = at.seconds();
        match self {
            Self::Constant { rate } => *rate,
            Self::Step {
                before,
                after,
                at_seconds,
                until_seconds,
            } => {
                if now >= *at_seconds && until_seconds.is_none_or(|until| now < until) {
                    *after
                } else {
                    *before
                }
            }
            Self::Spike {
                base,
                messages,
                at_seconds,
                over_seconds,
            } => {
                let more = *messages as f64 / over_seconds;
                let during = (*at_seconds..*at_seconds + *over_seconds).contains(&now);
                if during { base + more } else { *base }
            }
            Self::Diurnal {
                low,
                high,
                period_seconds,
                peak_seconds,
            } => {
                let peak = peak_seconds.unwrap_or(period_seconds / 2.0);
                let phase = TAU * (now - peak) / period_seconds;
                low + (high - low) * f64::midpoint(1.0, phase.cos())
            }
            Self::OnOff {
                on,
                off,
                on_seconds,
                off_seconds,
            } => {
                if now.rem_euclid(on_seconds + off_seconds) < *on_seconds {
                    *on
                } else {
                    *off
                }
            }
            Self::Csv { points, .. } => last_before(points, now).map_or(0.0, |point| point.rate),
        }
    }

    /// The highest rate there is.
    #[must_use]
    pub fn peak(&self) -> f64 {
        match self {
            Self::Constant { rate } => *rate,
            Self::Step { before, after, .. } => before.max(*after),
            Self::Spike {
                base,
                messages,
                over_seconds,
                ..
            } => base + *messages as f64 / over_seconds,
            Self::Diurnal { high, .. } => *high,
            Self::OnOff { on, off, .. } => on.max(*off),
            Self::Csv { points, .. } => points.iter().map(|point| point.rate).fold(0.0, f64::max),
        }
    }

    /// Messages up to a moment, not rounded: the integral of [`Self::rate`].
    #[must_use]
    pub fn cumulative(&self, at: Time) -> f64 {
        let now = at.seconds();
        match self {
            Self::Constant { rate } => rate * now,
            Self::Step {
                before,
                after,
                at_seconds,
                until_seconds,
            } => {
                let until = until_seconds.unwrap_or(f64::INFINITY);
                let during = (now.min(until) - at_seconds).max(0.0);
                before * (now - during) + after * during
            }
            Self::Spike {
                base,
                messages,
                at_seconds,
                over_seconds,
            } => {
                let done = ((now - at_seconds) / over_seconds).clamp(0.0, 1.0);
                base * now + *messages as f64 * done
            }
            Self::Diurnal {
                low,
                high,
                period_seconds,
                peak_seconds,
            } => {
                let peak = peak_seconds.unwrap_or(period_seconds / 2.0);
                let turn = TAU / period_seconds;
                let wave = ((turn * (now - peak)).sin() + (turn * peak).sin()) / turn;
                low * now + (high - low) * f64::midpoint(now, wave)
            }
            Self::OnOff {
                on,
                off,
                on_seconds,
                off_seconds,
            } => {
                let period = on_seconds + off_seconds;
                let whole = (now / period).floor();
                let rest = now - whole * period;
                let on_time = whole * on_seconds + rest.min(*on_seconds);
                on * on_time + off * (now - on_time)
            }
            Self::Csv { points, .. } => last_before(points, now).map_or(0.0, |point| {
                point.before + point.rate * (now - point.seconds)
            }),
        }
    }

    /// Messages sent before that moment, whole ones: they are sent at moments that depend on
    /// nothing else, so spans add up however time is cut.
    #[must_use]
    pub fn total(&self, at: Time) -> u64 {
        // Ten messages/s for 0.3 s are 3, though their product may be a little less.
        let exact = self.cumulative(at);
        (exact + exact.mul_add(1e-12, 1e-9)).floor() as u64
    }

    /// Messages sent from one moment up to another.
    #[must_use]
    pub fn arrivals(&self, from: Time, to: Time) -> u64 {
        self.total(to).saturating_sub(self.total(from))
    }
}

fn bound(
    key: &'static str,
    value: f64,
    good: bool,
    allowed: &'static str,
) -> Result<(), TraceError> {
    if good {
        Ok(())
    } else {
        Err(TraceError::Bound {
            key,
            value,
            allowed,
        })
    }
}

fn last_before(points: &[Point], now: f64) -> Option<&Point> {
    let next = points.partition_point(|point| point.seconds <= now);
    next.checked_sub(1).and_then(|index| points.get(index))
}

fn recorded(file: &Path, text: &str) -> Result<Vec<Point>, TraceError> {
    let mut points: Vec<Point> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') || line == "seconds,messages_per_second" {
            continue;
        }
        let wrong = || TraceError::Line {
            file: file.to_owned(),
            line: index + 1,
            text: line.to_owned(),
        };
        let (seconds, rate) = line.split_once(',').ok_or_else(wrong)?;
        let seconds: f64 = seconds.trim().parse().map_err(|_| wrong())?;
        let rate: f64 = rate.trim().parse().map_err(|_| wrong())?;
        if !(0.0..=1e9).contains(&seconds) || !(0.0..=MAX_RATE).contains(&rate) {
            return Err(wrong());
        }
        let before = match points.last() {
            Some(last) if seconds <= last.seconds => return Err(wrong()),
            Some(last) => last.before + last.rate * (seconds - last.seconds),
            None => 0.0,
        };
        points.push(Point {
            seconds,
            rate,
            before,
        });
    }
    if points.is_empty() {
        return Err(TraceError::Empty(file.to_owned()));
    }
    Ok(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Trace {
        toml::from_str(text).unwrap()
    }

    fn at(seconds: f64) -> Time {
        Time::from_millis((seconds * 1e3) as u64)
    }

    fn all() -> Vec<Trace> {
        let mut csv = Trace::Csv {
            file: "load.csv".into(),
            points: Vec::new(),
        };
        if let Trace::Csv { points, .. } = &mut csv {
            *points = recorded(
                Path::new("load.csv"),
                "seconds,messages_per_second\n0, 3\n# a note\n10,0\n20.5,7.25\n",
            )
            .unwrap();
        }
        vec![
            parse("kind = 'constant'\nrate = 7.3"),
            parse("kind = 'step'\nbefore = 2\nafter = 11\nat_seconds = 5.5\nuntil_seconds = 20"),
            parse("kind = 'step'\nbefore = 2\nafter = 11\nat_seconds = 5.5"),
            parse("kind = 'spike'\nbase = 1\nmessages = 1000\nat_seconds = 3\nover_seconds = 7"),
            parse("kind = 'diurnal'\nlow = 1\nhigh = 9\nperiod_seconds = 40"),
            parse("kind = 'on-off'\non = 5\noff = 1\non_seconds = 4\noff_seconds = 3"),
            csv,
        ]
    }

    /// The number of messages is what the rates say, however time is cut.
    #[test]
    fn arrivals_are_the_integral_of_the_rate() {
        for trace in all() {
            let mut integral = 0.0;
            let mut sum = 0;
            for milli in 0..60_000 {
                let (from, to) = (Time::from_millis(milli), Time::from_millis(milli + 1));
                integral += trace.rate(from) / 1e3;
                sum += trace.arrivals(from, to);
            }
            assert_eq!(sum, trace.arrivals(Time::ZERO, at(60.0)), "{trace:?}");
            assert!(
                (integral - sum as f64).abs() < 1.5,
                "{trace:?}: {integral} and {sum}"
            );
        }
    }

    #[test]
    fn a_multiplied_trace_has_so_many_times_the_messages() {
        for mut trace in all() {
            let before = trace.cumulative(at(37.0));
            trace.multiply(10.0).unwrap();
            let after = trace.cumulative(at(37.0));
            assert!((after - 10.0 * before).abs() < 1e-6, "{trace:?}");
        }
        assert!(parse("kind = 'constant'\nrate = 5").multiply(1e9).is_err());
    }

    #[test]
    fn known_numbers() {
        let counts: Vec<u64> = all().iter().map(|trace| trace.total(at(60.0))).collect();
        // 7.3 × 60; 2 × 45.5 + 11 × 14.5; 2 × 5.5 + 11 × 54.5; 60 + 1000; a period and a half
        // of the sine, from its trough (4 × sin π = 0): 60 + 8 × 30;
        // 8 whole periods of 23 and 4 s of 5; 30 + 39.5 × 7.25.
        assert_eq!(counts, [438, 250, 610, 1060, 300, 204, 316]);
        assert_eq!(parse("kind = 'constant'\nrate = 10").total(at(0.3)), 3);
    }

    #[test]
    fn a_recorded_trace_says_which_line_is_wrong() {
        for bad in ["0,1\n5,x", "0,1\n5", "0,1\n0,2", "0,1\n-1,2", "0,1\n1,NaN"] {
            let error = recorded(Path::new("load.csv"), bad)
                .unwrap_err()
                .to_string();
            assert!(error.starts_with("`load.csv`, line 2: "), "{error}");
        }
        assert!(matches!(
            recorded(Path::new("a"), "\n"),
            Err(TraceError::Empty(_))
        ));
    }

    #[test]
    fn numbers_out_of_bounds_are_refused_by_name() {
        for (text, key) in [
            ("kind = 'constant'\nrate = -1", "rate"),
            (
                "kind = 'spike'\nmessages = 5\nat_seconds = 1\nover_seconds = 0",
                "over_seconds",
            ),
            (
                "kind = 'step'\nbefore = 1\nafter = 2\nat_seconds = 9\nuntil_seconds = 3",
                "until_seconds",
            ),
            ("kind = 'diurnal'\nlow = 5\nhigh = 2", "high"),
        ] {
            let error = parse(text).load(Path::new(".")).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`trace.{key}` is ")), "{error}");
        }
        assert!(toml::from_str::<Trace>("kind = 'constant'\nrate = 1\nrates = 2").is_err());
    }
}
