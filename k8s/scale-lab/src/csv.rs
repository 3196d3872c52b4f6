//! A timeline as a file: a line for each sample and for each event, in order of time. What
//! was written is read again without loss.

use std::fmt::Write as _;

use crate::time::Time;
use crate::timeline::{Depth, Event, EventKind, Sample, Timeline};

/// The first line. A sample has no `event`; an event has only `seconds` and `event`, which is
/// `scaled FROM TO REASON` or `killed POD`.
pub const HEADER: &str = "seconds,sent,processed,visible,in_flight,delayed,oldest_age,desired,running,ready,draining,event";

/// Why a file is not a timeline.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsvError {
    /// The first line is another.
    #[error("line 1 is not `{HEADER}`: give a file that `simulate` or `live` wrote")]
    Header,
    /// A line cannot be read.
    #[error("line {line}: `{text}` is not a sample or an event of a timeline")]
    Line {
        /// From 1.
        line: usize,
        /// What stands there.
        text: String,
    },
}

/// Writes a timeline.
#[must_use]
pub fn write(timeline: &Timeline) -> String {
    let mut text = format!("{HEADER}\n");
    let mut events = timeline.events.iter().peekable();
    for sample in &timeline.samples {
        while let Some(event) = events.next_if(|event| event.time < sample.time) {
            write_event(&mut text, event);
        }
        let Sample {
            time,
            sent,
            processed,
            depth,
            oldest_age,
            ..
        } = sample;
        let Sample {
            desired,
            running,
            ready,
            draining,
            ..
        } = sample;
        let Depth {
            visible,
            in_flight,
            delayed,
        } = depth;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{},{sent},{processed},{visible},{in_flight},{delayed},{oldest_age},{desired},{running},{ready},{draining},",
            time.seconds()
        );
    }
    for event in events {
        write_event(&mut text, event);
    }
    text
}

fn write_event(text: &mut String, event: &Event) {
    let what = match &event.kind {
        EventKind::Scaled { from, to, reason } => {
            // One line, and quotes doubled, as CSV has it.
            let reason = reason.replace(['\n', '\r'], " ").replace('"', "\"\"");
            format!("\"scaled {from} {to} {reason}\"")
        }
        EventKind::Killed { pod } => format!("killed {pod}"),
    };
    let _ = writeln!(text, "{},,,,,,,,,,,{what}", event.time.seconds());
}

/// Reads what [`write`] wrote.
///
/// # Errors
///
/// When it is something else.
pub fn read(text: &str) -> Result<Timeline, CsvError> {
    let mut lines = text.lines().enumerate();
    if lines.next().map(|(_, line)| line.trim_end()) != Some(HEADER) {
        return Err(CsvError::Header);
    }
    let mut timeline = Timeline::default();
    for (index, line) in lines.filter(|(_, line)| !line.is_empty()) {
        let understood = read_line(line, &mut timeline);
        understood.ok_or_else(|| CsvError::Line {
            line: index + 1,
            text: line.to_owned(),
        })?;
    }
    Ok(timeline)
}

fn read_line(line: &str, timeline: &mut Timeline) -> Option<()> {
    let mut fields = line.splitn(12, ',');
    let seconds: f64 = fields.next()?.parse().ok()?;
    let millis = (seconds * 1e3).round();
    if !(0.0..=1e15).contains(&millis) {
        return None;
    }
    let time = Time::from_millis(millis as u64);
    let rest: Vec<_> = fields.collect();
    let (event, numbers) = rest.split_last()?;
    if numbers.len() != 10 {
        return None;
    }
    if event.is_empty() {
        let float = |index: usize| numbers.get(index)?.parse::<f64>().ok();
        let whole = |index: usize| numbers.get(index)?.parse::<u32>().ok();
        timeline.samples.push(Sample {
            time,
            sent: float(0)?,
            processed: float(1)?,
            depth: Depth {
                visible: float(2)?,
                in_flight: float(3)?,
                delayed: float(4)?,
            },
            oldest_age: float(5)?,
            desired: whole(6)?,
            running: whole(7)?,
            ready: whole(8)?,
            draining: whole(9)?,
        });
    } else {
        timeline.events.push(Event {
            time,
            kind: read_event(event)?,
        });
    }
    Some(())
}

fn read_event(text: &str) -> Option<EventKind> {
    let inner = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    let text = inner.map_or_else(|| text.to_owned(), |inner| inner.replace("\"\"", "\""));
    let (what, rest) = text.split_once(' ')?;
    match what {
        "killed" => rest.parse().ok().map(|pod| EventKind::Killed { pod }),
        "scaled" => {
            let mut parts = rest.splitn(3, ' ');
            let from = parts.next()?.parse().ok()?;
            let to = parts.next()?.parse().ok()?;
            let reason = parts.next().unwrap_or_default().to_owned();
            Some(EventKind::Scaled { from, to, reason })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeline_comes_back_as_it_was() {
        let sample = |millis, sent| Sample {
            time: Time::from_millis(millis),
            sent,
            processed: sent / 3.0,
            depth: Depth {
                visible: 1e9,
                in_flight: 0.125,
                delayed: 7.0,
            },
            oldest_age: 12.345_678,
            desired: 4,
            running: 3,
            ready: 2,
            draining: 1,
        };
        let scaled = EventKind::Scaled {
            from: 2,
            to: 9,
            reason: "HPA: a \"ceil\", 3 > 2".to_owned(),
        };
        let timeline = Timeline {
            samples: vec![sample(0, 0.0), sample(1_000, 1.0), sample(2_500, 3e9)],
            events: vec![
                Event {
                    time: Time::from_millis(1_499),
                    kind: scaled,
                },
                Event {
                    time: Time::from_millis(9_000),
                    kind: EventKind::Killed { pod: 17 },
                },
            ],
        };
        let text = write(&timeline);
        assert_eq!(text.lines().count(), 6);
        assert_eq!(read(&text), Ok(timeline));
    }

    #[test]
    fn another_file_is_refused_with_its_line() {
        assert_eq!(read("a,b\n1,2"), Err(CsvError::Header));
        for bad in [
            "1,2,3",
            "x,0,0,0,0,0,0,0,0,0,0,",
            "1,,,,,,,,,,,dropped 1",
            "-1,0,0,0,0,0,0,0,0,0,0,",
        ] {
            let text = format!("{HEADER}\n0,0,0,0,0,0,0,0,0,0,0,\n{bad}\n");
            let wrong = CsvError::Line {
                line: 3,
                text: bad.to_owned(),
            };
            assert_eq!(read(&text), Err(wrong));
        }
    }
}
