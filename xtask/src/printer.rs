//! Everything that `cargo xtask` says. Progress and errors go to stderr, results
//! to stdout; a spinner with the elapsed time on a terminal, plain lines
//! elsewhere. It does not know what the steps do.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// A long step in progress; dropping it unfinished clears the spinner.
pub(crate) struct Step {
    label: String,
    started: Instant,
    spinner: ProgressBar,
}

/// Starts a step whose own output is captured: a spinner stands in for it.
pub(crate) fn step(label: impl Into<String>) -> Step {
    let label = label.into();
    let spinner = if io::stderr().is_terminal() {
        let spinner = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} [{elapsed}]") {
            spinner.set_style(style);
        }
        spinner.enable_steady_tick(Duration::from_millis(120));
        spinner.set_message(label.clone());
        spinner
    } else {
        note(&label);
        ProgressBar::hidden()
    };
    Step {
        label,
        started: Instant::now(),
        spinner,
    }
}

impl Step {
    /// Ends the step and says how long it took.
    pub(crate) fn done(self) {
        self.spinner.finish_and_clear();
        note(format_args!(
            "{}: done in {}",
            self.label,
            seconds(self.started.elapsed())
        ));
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.spinner.finish_and_clear();
    }
}

/// One line of progress.
pub(crate) fn note(message: impl Display) {
    say(&mut io::stderr(), format_args!("xtask: {message}"));
}

/// The heading over output of a program that writes to the terminal itself.
pub(crate) fn heading(message: impl Display) {
    say(&mut io::stderr(), format_args!("\n==> {message}"));
}

/// A failure with its chain of causes.
pub(crate) fn error(error: &anyhow::Error) {
    say(&mut io::stderr(), format_args!("error: {error:#}"));
}

/// A result, on stdout.
pub(crate) fn result(message: impl Display) {
    say(&mut io::stdout(), format_args!("{message}"));
}

/// A duration as people read it: `0.4 s`, `12 s`, `3 min 05 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    let whole = duration.as_secs();
    match whole {
        0..10 => format!("{:.1} s", duration.as_secs_f64()),
        10..60 => format!("{whole} s"),
        _ => format!("{} min {:02} s", whole / 60, whole % 60),
    }
}

/// A closed pipe must not turn into a panic: there is nobody left to tell.
fn say(stream: &mut dyn Write, message: std::fmt::Arguments<'_>) {
    let _ = writeln!(stream, "{message}");
    let _ = stream.flush();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_naturally() {
        assert_eq!(seconds(Duration::from_millis(420)), "0.4 s");
        assert_eq!(seconds(Duration::from_secs(12)), "12 s");
        assert_eq!(seconds(Duration::from_secs(185)), "3 min 05 s");
    }
}
