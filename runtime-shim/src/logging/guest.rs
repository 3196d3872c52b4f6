//! What components print, which is logged under one target: whose is shown, and
//! a copy in files, as Spin has them. It knows the fields that
//! `capabilities/guest_log` gives such an event.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter, Layer};

use crate::names::ComponentId;
use crate::printer;

/// The target of such events.
pub(super) const TARGET: &str = "guest";

/// Lets only what these components print pass, and all that is the host's own.
pub(super) struct Followed(pub(super) Vec<ComponentId>);

impl<S> Filter<S> for Followed {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn callsite_enabled(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::always()
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        if event.metadata().target() != TARGET {
            return true;
        }
        let printed = Printed::of(event);
        self.0.iter().any(|id| id.as_str() == printed.component)
    }
}

/// `<component>_stdout.txt` and `<component>_stderr.txt` in a folder.
pub(super) struct Files {
    dir: PathBuf,
    open: Mutex<BTreeMap<String, File>>,
    failed: AtomicBool,
}

impl Files {
    /// Makes the folder; with `truncate`, empties the files that are there.
    pub(super) fn open(dir: &Path, truncate: bool) -> anyhow::Result<Self> {
        let cannot = || format!("cannot write what components print to `{}`", dir.display());
        std::fs::create_dir_all(dir).with_context(cannot)?;
        if truncate {
            truncate_all(dir).with_context(cannot)?;
        }
        Ok(Self {
            dir: dir.to_owned(),
            open: Mutex::default(),
            failed: AtomicBool::new(false),
        })
    }

    fn write(&self, printed: &Printed) -> io::Result<()> {
        let name = format!("{}_{}.txt", printed.component, printed.stream);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match open.entry(name) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let path = self.dir.join(unknown.key());
                unknown.insert(File::options().create(true).append(true).open(path)?)
            }
        };
        file.write_all(format!("{}\n", printed.line).as_bytes())
    }
}

fn truncate_all(dir: &Path) -> io::Result<()> {
    for entry in dir.read_dir()? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_some_and(|name| name.ends_with("_stdout.txt") || name.ends_with("_stderr.txt")) {
            File::create(path)?;
        }
    }
    Ok(())
}

impl<S: Subscriber> Layer<S> for Files {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let written = self.write(&Printed::of(event));
        // Said once, and not by an event: this is where events are handled.
        if let Err(error) = written
            && !self.failed.swap(true, Ordering::Relaxed)
        {
            let error = anyhow::Error::new(error);
            let dir = self.dir.display();
            printer::error(&error.context(format!("cannot write to a file in `{dir}`")));
        }
    }
}

/// A line that a component printed.
#[derive(Default)]
struct Printed {
    component: String,
    stream: String,
    line: String,
}

impl Printed {
    fn of(event: &Event<'_>) -> Self {
        let mut printed = Self::default();
        event.record(&mut printed);
        printed
    }

    fn field(&mut self, field: &Field) -> Option<&mut String> {
        match field.name() {
            "component" => Some(&mut self.component),
            "stream" => Some(&mut self.stream),
            "message" => Some(&mut self.line),
            _ => None,
        }
    }
}

impl Visit for Printed {
    fn record_str(&mut self, field: &Field, value: &str) {
        if let Some(text) = self.field(field) {
            value.clone_into(text);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if let Some(text) = self.field(field) {
            *text = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::filter::filter_fn;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    fn print_all() {
        for component in ["worker", "tick"] {
            for stream in ["stdout", "stderr"] {
                tracing::info!(target: "guest", %component, stream, "a \"line\" of {component}");
            }
        }
        tracing::info!("the host's own");
    }

    #[test]
    fn each_stream_has_a_file_that_grows_until_it_is_truncated() {
        let dir = tempfile::tempdir().expect("a folder");
        let logs = dir.path().join("logs");
        let text = |name: &str| std::fs::read_to_string(logs.join(name)).expect(name);
        for (truncate, lines) in [(false, 1), (false, 2), (true, 1)] {
            let files = Files::open(&logs, truncate).expect("writable");
            let own = files.with_filter(filter_fn(|metadata| metadata.target() == TARGET));
            let subscriber = tracing_subscriber::registry().with(own);
            tracing::subscriber::with_default(subscriber, print_all);
            let expected = "a \"line\" of tick\n".repeat(lines);
            assert_eq!(text("tick_stdout.txt"), expected);
            assert_eq!(text("tick_stderr.txt"), expected);
            assert_eq!(text("worker_stdout.txt").lines().count(), lines);
        }
        assert_eq!(logs.read_dir().expect("a folder").count(), 4);
    }

    #[test]
    fn only_followed_components_are_shown_and_the_host_always_is() {
        struct Seen(&'static Mutex<Vec<String>>);
        impl<S: Subscriber> Layer<S> for Seen {
            fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
                let mut seen = self.0.lock().expect("one thread");
                seen.push(Printed::of(event).component);
            }
        }
        static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let tick = ComponentId::new("tick").expect("an id");
        let layer = Seen(&SEEN).with_filter(Followed(vec![tick]));
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, print_all);
        assert_eq!(*SEEN.lock().expect("one thread"), ["tick", "tick", ""]);
    }
}
