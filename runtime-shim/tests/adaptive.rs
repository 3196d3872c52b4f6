//! Adaptive concurrency with a load that goes in steps: a server that answers as fast as
//! it is told to, up to as many requests at once as it is told to.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::ways::{Queues, embedded, ways};
use support::{App, wait_for};

const MIN: usize = 2;
const MAX: usize = 24;
const WORK: Duration = Duration::from_millis(100);

/// What the server does.
struct Handler {
    /// Requests that it works on at once; more share that.
    capacity: AtomicUsize,
    failing: AtomicBool,
    running: AtomicUsize,
    most: AtomicUsize,
    stopped: AtomicBool,
}

impl Handler {
    fn serve(self: &Arc<Self>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let handler = Arc::clone(self);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let handler = Arc::clone(&handler);
                thread::spawn(move || while handler.answer(&stream).is_some() {});
            }
        });
        url
    }

    fn answer(&self, stream: &TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(text) = line.strip_prefix("content-length: ") {
                length = text.parse().ok()?;
            }
            if line.is_empty() {
                break;
            }
        }
        reader.read_exact(&mut vec![0; length]).ok()?;
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        let crowd = running as f64 / self.capacity.load(Ordering::SeqCst) as f64;
        thread::sleep(WORK.mul_f64(crowd.max(1.0)));
        self.running.fetch_sub(1, Ordering::SeqCst);
        let status = if self.failing.load(Ordering::SeqCst) {
            "503 Busy"
        } else {
            "200 OK"
        };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
        (&*stream).write_all(answer.as_bytes()).ok()
    }
}

fn limit(app: &App) -> usize {
    app.metric("gristmill_consumer_concurrency_limit", "") as usize
}

/// Keeps messages in the queue until the end.
fn feed(app: &App, handler: &Handler) {
    let queues = Queues::Embedded(app);
    let bodies: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    while !handler.stopped.load(Ordering::SeqCst) {
        if queues.depth("jobs").0 < 500 {
            queues.send_all("jobs", &bodies);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// How often the limit turned round within so long, and all that it was.
fn watch(app: &App, how_long: Duration) -> (usize, Vec<usize>) {
    let end = Instant::now() + how_long;
    let mut limits = vec![limit(app)];
    while Instant::now() < end {
        let now = limit(app);
        if limits.last() != Some(&now) {
            limits.push(now);
        }
        thread::sleep(Duration::from_millis(100));
    }
    let up: Vec<bool> = limits.windows(2).map(|pair| pair[1] > pair[0]).collect();
    let turns = up.windows(2).filter(|pair| pair[0] != pair[1]).count();
    (turns, limits)
}

#[test]
fn the_limit_follows_the_load_and_comes_to_rest() {
    let handler = Arc::new(Handler {
        capacity: AtomicUsize::new(1000),
        failing: AtomicBool::new(false),
        running: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
        stopped: AtomicBool::new(false),
    });
    let options = format!(
        "forward_to = \"{}\"\nmin_concurrency = {MIN}\nmax_concurrency = {MAX}",
        handler.serve()
    );
    let app = App::start(&ways(&embedded("jobs"), &options));
    thread::scope(|scope| {
        scope.spawn(|| feed(&app, &handler));
        // A panic must not leave the feeder behind.
        let stop = Stop(&handler);

        assert_eq!(limit(&app), MIN);
        wait_for("growth to the bound", || (limit(&app) == MAX).then_some(()));

        handler.failing.store(true, Ordering::SeqCst);
        wait_for("shrinking", || (limit(&app) <= MAX * 6 / 10).then_some(()));
        handler.failing.store(false, Ordering::SeqCst);

        // A step down: now eight at once are all that it can do.
        handler.capacity.store(8, Ordering::SeqCst);
        let (_, settling) = watch(&app, Duration::from_secs(12));
        let (turns, limits) = watch(&app, Duration::from_secs(12));
        assert!(turns <= 2, "{settling:?}, then {limits:?}");
        for limit in limits {
            assert!((5..=13).contains(&limit), "{limit} in {settling:?}");
        }
        drop(stop);
    });
    let most = handler.most.load(Ordering::SeqCst);
    assert!((MAX / 2..=MAX).contains(&most), "{most} at once");
}

struct Stop<'a>(&'a Handler);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.stopped.store(true, Ordering::SeqCst);
    }
}
