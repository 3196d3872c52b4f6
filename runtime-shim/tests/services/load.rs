//! What logins cost everybody else.

use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::web::{Client, PASSWORD};
use crate::support::{App, wait_for};

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

/// Hashing a password takes about 100 ms of a core. Eight who log in without pause keep both
/// cores busy, and each login then takes several times as long as alone. Another request gets its
/// turn between them: it must not wait for whole logins, one after the other. The bound is
/// relative to the logins, so that other tests on the same cores slow both sides.
#[test]
fn logins_do_not_stall_other_requests() {
    const PATHS: [&str; 2] = ["/counter/x/value", "/healthz/counter"];
    let app = App::start_own();
    let client = Client::new(&app);
    // One name for each: who logs in more often at once than may fail in a row has to wait.
    let names: Vec<_> = (0..8).map(|n| format!("miller-{n}")).collect();
    for name in &names {
        client.register(name).expect(201);
    }
    let login = |name: &str| timed(|| drop(Client::new(&app).login(name, PASSWORD).expect(200)));
    let alone = quantile(
        &mut (0..5).map(|_| login(&names[0])).collect::<Vec<_>>(),
        0.5,
    );
    let measure = |path: &str| {
        let began = Instant::now();
        let mut times = Vec::new();
        while times.len() < 50 || (began.elapsed() < Duration::from_secs(3) && times.len() < 1000) {
            times.push(timed(|| drop(client.get(path).expect(200))));
        }
        (quantile(&mut times, 0.5), quantile(&mut times, 0.99))
    };
    let before = PATHS.map(measure);

    let enough = AtomicBool::new(false);
    let logins = Mutex::new(Vec::new());
    let during = thread::scope(|scope| {
        let _end = End(&enough);
        for name in &names {
            let (enough, logins, login) = (&enough, &logins, &login);
            scope.spawn(move || {
                while !enough.load(Ordering::Relaxed) {
                    let took = login(name);
                    logins.lock().unwrap().push(took);
                }
            });
        }
        wait_for("the load", || {
            (logins.lock().unwrap().len() >= 8).then_some(())
        });
        PATHS.map(measure)
    });
    let mut logins = logins.into_inner().unwrap();
    let typical = quantile(&mut logins, 0.5);
    let _ = writeln!(
        std::io::stderr(),
        "    logins: {alone:.1?} alone, {typical:.1?} with 8 at once ({} in all)",
        logins.len()
    );
    // A machine with many cores has logins that do not slow each other.
    let bound = typical.max(Duration::from_millis(200));
    for ((path, before), during) in PATHS.into_iter().zip(before).zip(during) {
        let _ = writeln!(
            std::io::stderr(),
            "    {path}: p50 {:.1?}, p99 {:.1?}; during logins p50 {:.1?}, p99 {:.1?}",
            before.0,
            before.1,
            during.0,
            during.1
        );
        assert!(
            during.0 < bound / 2,
            "{path}: p50 {:?}, bound {bound:?}",
            during.0
        );
        assert!(
            during.1 < bound,
            "{path}: p99 {:?}, bound {bound:?}",
            during.1
        );
    }
}
