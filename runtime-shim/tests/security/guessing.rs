//! Guessing names and passwords, and registering without end.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::WRONG;
use crate::support::web::{Client, PASSWORD, SetSession, start};
use crate::support::{App, wait_for};

/// Failures of one name from one address before it is locked.
const FREE_GUESSES: usize = 5;

/// Where a sibling of a limit is checked before it is counted, one more may pass; no second one.
const SLACK: usize = 1;

#[test]
fn a_login_does_not_tell_who_has_an_account() {
    let app = App::start_own();
    Client::new(&app).register("exists").expect(201);
    let answers = ["exists", "nobody"].map(|name| {
        let answer = Client::new(&app).login(name, WRONG);
        answer.problem(401);
        let mut headers = answer.headers.clone();
        headers.retain(|(name, _)| name != "date");
        headers.sort();
        (answer.status, headers, answer.text())
    });
    assert_eq!(answers[0], answers[1]);

    // Neither by time. In turns, so that whatever else runs slows both alike; each from an
    // address of its own, so that none is locked.
    let mut times = [Vec::new(), Vec::new()];
    for n in 1..=9 {
        for (name, times) in ["exists", "nobody"].into_iter().zip(&mut times) {
            let client = Client::new(&app).at(&format!("127.0.1.{n}"));
            let began = Instant::now();
            client.login(name, WRONG).problem(401);
            times.push(began.elapsed());
        }
    }
    let [known, unknown] = times.map(|mut times| {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64()
    });
    // Without a hash for unknown names, the factor is 50 or more.
    assert!(
        (0.4..2.5).contains(&(known / unknown)),
        "{known} s against {unknown} s"
    );

    // A lock does not tell either.
    let until_locked = |name: &str| {
        let client = Client::new(&app).at("127.0.2.1");
        let mut statuses = Vec::new();
        for _ in 0..FREE_GUESSES + 2 {
            statuses.push(client.login(name, WRONG).status);
        }
        statuses
    };
    assert_eq!(until_locked("exists"), until_locked("nobody"));
}

/// Guesses until the lock; how many were heard.
fn guess_until_locked(client: &Client, name: &str) -> usize {
    for heard in 0..=FREE_GUESSES + SLACK {
        let answer = client.login(name, WRONG);
        if answer.status == 429 {
            return heard;
        }
        answer.problem(401);
    }
    panic!("{name} is never locked");
}

#[test]
fn a_lock_holds_against_every_disguise_and_ends() {
    let app = App::start_own();
    let client = Client::new(&app).at("127.0.3.1");
    for name in ["miller", "other"] {
        Client::new(&app).register(name).expect(201);
    }
    assert!(guess_until_locked(&client, "miller") >= FREE_GUESSES);
    let locked = client.login("miller", PASSWORD);
    locked.problem(429);
    let seconds: u64 = locked.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(locked.session(), SetSession::Untouched);

    // All of these must fall into the lock. No password is hashed for them, so that they take a
    // moment only; what is hashed comes later.
    for name in ["MILLER", "Miller"] {
        client.login(name, PASSWORD).problem(429);
    }
    let json = [("content-type", "application/json")];
    let escaped = format!("{{\"username\":\"\\u006diller\",\"password\":\"{PASSWORD}\"}}");
    client
        .send("POST", "/auth/login", &json, escaped.as_bytes())
        .problem(429);
    for (name, value) in [
        ("x-forwarded-for", "9.9.9.9"),
        ("x-forwarded-for", "127.0.3.2, 9.9.9.9"),
        ("forwarded", "for=9.9.9.9"),
        ("x-real-ip", "9.9.9.9"),
        ("x-client-ip", "9.9.9.9"),
        ("true-client-ip", "9.9.9.9"),
        ("cf-connecting-ip", "9.9.9.9"),
        ("spin-client-addr", "9.9.9.9:1234"),
        ("user-agent", "another"),
        ("cookie", "gm_session="),
    ] {
        let origin = format!("http://{}", client.authority());
        let disguised = Client::new(&app).at("127.0.3.1").with("origin", &origin);
        let disguised = disguised.with(name, value).login("miller", PASSWORD);
        assert_eq!(disguised.status, 429, "{name}: {value}");
    }
    // Near to the name, and none.
    for name in [
        " miller",
        "miller ",
        "miller\0",
        "m\u{0131}ller",
        "\u{ff4d}iller",
    ] {
        let answer = client.login(name, PASSWORD);
        answer.problem(401);
        assert_eq!(answer.session(), SetSession::Untouched, "{name:?}");
    }

    // The others of that address, and the owner elsewhere, are not concerned.
    client.login("other", PASSWORD).expect(200);
    Client::new(&app)
        .at("127.0.3.9")
        .login("miller", PASSWORD)
        .expect(200);

    // Asking during a lock does not make it longer.
    let since = Instant::now();
    wait_for("the lock's end", || {
        let answer = client.login("miller", PASSWORD);
        (answer.status == 200).then_some(())
    });
    let limit = Duration::from_secs(seconds + 10);
    assert!(since.elapsed() < limit, "{:?}", since.elapsed());
    // A success clears the count.
    assert!(guess_until_locked(&client, "miller") >= FREE_GUESSES);
}

#[test]
fn guesses_at_once_are_counted_one_by_one() {
    let app = App::start_own();
    Client::new(&app).register("miller").expect(201);
    let statuses = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| {
                let answer = Client::new(&app).at("127.0.4.1").login("miller", WRONG);
                statuses.lock().unwrap().push(answer.status);
            });
        }
    });
    let statuses = statuses.into_inner().unwrap();
    let heard = statuses.iter().filter(|status| **status == 401).count();
    assert!(
        (1..=FREE_GUESSES + SLACK).contains(&heard),
        "{heard}: {statuses:?}"
    );
    assert!(
        statuses.iter().all(|status| matches!(status, 401 | 429)),
        "{statuses:?}"
    );
}

/// By name over all addresses: a distributed guesser is stopped, and the owner is not.
#[test]
fn guessing_from_everywhere_stops_and_does_not_lock_the_owner_out() {
    let app = App::start_own();
    let home = Client::new(&app).at("127.0.5.1");
    home.register("miller").expect(201);
    home.login("miller", PASSWORD).expect(200);
    let mut heard = 0;
    'guesses: for address in 2..60 {
        let client = Client::new(&app).at(&format!("127.0.5.{address}"));
        for _ in 0..4 {
            match client.login("miller", WRONG).status {
                401 => heard += 1,
                429 => break 'guesses,
                other => panic!("{other}"),
            }
        }
    }
    assert!((20..=30 + SLACK).contains(&heard), "{heard} guesses");
    let stranger = Client::new(&app).at("127.0.5.99");
    stranger.login("miller", PASSWORD).problem(429);
    home.login("miller", PASSWORD).expect(200);
}

/// By address over all names, whether they exist or not.
#[test]
fn one_address_cannot_try_one_password_on_everybody() {
    let app = App::start_own();
    Client::new(&app).register("miller").expect(201);
    let client = Client::new(&app).at("127.0.6.1");
    Client::new(&app).register("neighbour").expect(201);
    client.login("neighbour", PASSWORD).expect(200);
    let mut heard = 0;
    for n in 0..80 {
        match client.login(&format!("name{n}"), WRONG).status {
            401 => heard += 1,
            429 => break,
            other => panic!("{other}"),
        }
    }
    assert!((40..=50 + SLACK).contains(&heard), "{heard} guesses");
    client.login("miller", PASSWORD).problem(429);
    // Who logged in from there before shares no lock with the guesser.
    client.login("neighbour", PASSWORD).expect(200);
    Client::new(&app)
        .at("127.0.6.2")
        .login("miller", PASSWORD)
        .expect(200);
}

#[test]
fn only_a_trusted_proxy_names_the_client() {
    let app = start(&[("SPIN_VARIABLE_TRUSTED_PROXIES", "127.0.0.0/8, 10.0.0.0/8")]);
    Client::new(&app).register("miller").expect(201);
    let from = |chain: &str| Client::new(&app).with("x-forwarded-for", chain);
    assert!(guess_until_locked(&from("203.0.113.7"), "miller") >= FREE_GUESSES);
    // What a client puts before the proxy's own entry is the client's invention.
    for chain in [
        "203.0.113.7",
        "1.2.3.4, 203.0.113.7",
        "10.0.0.9, 203.0.113.7",
        "203.0.113.7, 10.0.0.9",
        "1.2.3.4,203.0.113.7 , 127.0.0.1",
    ] {
        from(chain).login("miller", PASSWORD).problem(429);
    }
    from("203.0.113.7, 203.0.113.8")
        .login("miller", PASSWORD)
        .expect(200);
    // Nonsense is no new address each time.
    for round in 0..2 {
        for chain in [
            "garbage",
            "",
            ",,,",
            "unknown",
            "999.1.1.1",
            "[::1",
            "203.0.113.7:80:90",
        ] {
            let answer = from(chain).login("nobody", WRONG);
            assert!(
                matches!(answer.status, 401 | 429),
                "{round} {chain:?}: {}",
                answer.status
            );
        }
    }
    let nonsense = (0..2 * FREE_GUESSES).map(|n| format!("nonsense-{n}"));
    let refused = nonsense.filter(|chain| from(chain).login("nobody", WRONG).status == 429);
    assert!(refused.count() >= FREE_GUESSES);
}

#[test]
fn an_address_registers_only_so_many_accounts() {
    let app = start(&[("SPIN_VARIABLE_REGISTRATIONS_PER_HOUR", "3")]);
    let client = Client::new(&app).at("127.0.7.1");
    for n in 0..3 {
        client.register(&format!("flood{n}")).expect(201);
    }
    let refused = client.register("flood3");
    refused.problem(429);
    let seconds: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=3600).contains(&seconds), "{seconds}");
    for (name, value) in [
        ("x-forwarded-for", "9.9.9.9"),
        ("spin-client-addr", "9.9.9.9:1"),
        ("x-real-ip", "9.9.9.9"),
    ] {
        let disguised = Client::new(&app).at("127.0.7.1").with(name, value);
        disguised.register("flood4").problem(429);
    }
    // At once, from an address that has made none yet.
    let statuses = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for n in 0..12 {
            let (app, statuses) = (&app, &statuses);
            scope.spawn(move || {
                let client = Client::new(app).at("127.0.7.2");
                let status = client.register(&format!("burst{n}")).status;
                statuses.lock().unwrap().push(status);
            });
        }
    });
    let statuses = statuses.into_inner().unwrap();
    let made = statuses.iter().filter(|status| **status == 201).count();
    assert!((1..=3).contains(&made), "{statuses:?}");
    assert!(
        statuses.iter().all(|status| matches!(status, 201 | 429)),
        "{statuses:?}"
    );
}
