//! What logins cost everybody else.

use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::web::{Client, PASSWORD};
use crate::support::{App, wait_for};

/// What others ask for.
const PATHS: [&str; 2] = ["/counter/x/value", "/healthz/counter"];

/// Ends the load also when the test fails, which else would wait for it.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The share `q` of these took no longer.
fn quantile(times: &mut [Duration], q: f64) -> Duration {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * q) as usize]
}

fn timed(call: impl FnOnce()) -> Duration {
    let began = Instant::now();
    call();
    began.elapsed()
}

/// How long one login takes.
fn login(app: &App, name: &str) -> Duration {
    timed(|| drop(Client::new(app).login(name, PASSWORD).expect(200)))
}

/// The median and the 99th percentile of 200 requests or more, of fewer only where they would
/// take too long.
fn measure(client: &Client, path: &str) -> (Duration, Duration) {
    let (least, most) = (Duration::from_secs(1), Duration::from_secs(4));
    let began = Instant::now();
    let mut times = Vec::new();
    while began.elapsed() < least || (times.len() < 200 && began.elapsed() < most) {
        times.push(timed(|| drop(client.get(path).expect(200))));
    }
    (quantile(&mut times, 0.5), quantile(&mut times, 0.99))
}

/// Measures while each of these names logs in again and again; with the result, how long each
/// login took.
fn during_logins<T>(
    app: &App,
    names: &[String],
    measure: impl FnOnce() -> T,
) -> (T, Vec<Duration>) {
    let enough = AtomicBool::new(false);
    let logins = Mutex::new(Vec::new());
    let measured = thread::scope(|scope| {
        let _end = End(&enough);
        for name in names {
            let (enough, logins) = (&enough, &logins);
            scope.spawn(move || {
                while !enough.load(Ordering::Relaxed) {
                    let took = login(app, name);
                    logins.lock().unwrap().push(took);
                }
            });
        }
        wait_for("the load", || {
            (logins.lock().unwrap().len() >= names.len()).then_some(())
        });
        measure()
    });
    (measured, logins.into_inner().unwrap())
}

/// Hashing a password takes about 60 ms of a core. Eight who log in without pause keep both
/// cores busy, and each login then takes several times as long as alone. Another request gets its
/// turn between them: it must not wait for whole logins, one after the other. The bound is
/// relative to the logins, so that other tests on the same cores slow both sides. The slowest
/// requests are shown and not judged: they tell more of those other tests.
#[test]
fn logins_do_not_stall_other_requests() {
    let app = App::start_own();
    let client = Client::new(&app);
    // One name for each: who logs in more often at once than may fail in a row has to wait.
    let names: Vec<_> = (0..8).map(|n| format!("miller-{n}")).collect();
    for name in &names {
        client.register(name).expect(201);
    }
    let mut alone: Vec<_> = (0..5).map(|_| login(&app, &names[0])).collect();
    let alone = quantile(&mut alone, 0.5);
    let all_paths = || PATHS.map(|path| measure(&client, path));
    let before = all_paths();
    let (during, mut logins) = during_logins(&app, &names, all_paths);
    let typical = quantile(&mut logins, 0.5);
    let _ = writeln!(
        std::io::stderr(),
        "    logins: {alone:.1?} alone, {typical:.1?} with 8 at once ({} in all)",
        logins.len()
    );
    // A machine with many cores has logins that do not slow each other.
    let bound = typical.max(Duration::from_millis(200)) / 2;
    for ((path, before), during) in PATHS.into_iter().zip(before).zip(during) {
        let _ = writeln!(
            std::io::stderr(),
            "    {path}: p50 {:.1?}, p99 {:.1?}; during logins p50 {:.1?}, p99 {:.1?}",
            before.0,
            before.1,
            during.0,
            during.1
        );
        let median = during.0;
        assert!(median < bound, "{path}: p50 {median:?}, bound {bound:?}");
    }
}
