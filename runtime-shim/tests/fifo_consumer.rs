//! FIFO queues, embedded and behind the SQS API: groups in parallel, strict order within,
//! whatever fails or ends in between.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::collections::BTreeMap;

use serde_json::json;
use support::servers::QueueServer;
use support::ways::{CREDENTIALS, Queues, embedded, lines, settled, ways};
use support::{App, wait_for};

const OPTIONS: &str = "backoff_base_secs = 1\nbackoff_cap_secs = 1\ntimeout_secs = 1";

/// Messages by group, in their order.
type Groups = BTreeMap<String, Vec<String>>;

/// `count` messages of `group`; the n-th has this verb.
fn group(name: &str, count: usize, verb: impl Fn(usize) -> &'static str) -> (String, Vec<String>) {
    let body = |n| format!("{} {name} {n:02}", verb(n));
    (name.to_owned(), (0..count).map(body).collect())
}

/// One of each group in turn.
fn mixed(groups: &Groups) -> Vec<String> {
    let longest = groups.values().map(Vec::len).max().unwrap();
    let nth = |n: usize| {
        groups
            .values()
            .filter_map(move |group| group.get(n).cloned())
    };
    (0..longest).flat_map(nth).collect()
}

/// No message of `group` is tried after a later one; which are done, and in which order.
fn in_order(app: &App, group: &str, sent: &[String]) -> Vec<String> {
    let place = |body: &String| sent.iter().position(|sent| sent == body).unwrap();
    let begun: Vec<usize> = lines(app, &format!("begun/{group}"))
        .iter()
        .map(place)
        .collect();
    assert!(begun.is_sorted(), "{group}: {begun:?}");
    lines(app, &format!("done/{group}"))
}

/// A poison and a message that is rejected hold up their groups alone, as long as
/// they are there, and cost nobody beside them.
fn a_failing_message_blocks_its_group_alone(app: &App, queues: &Queues<'_>) {
    let groups: Groups = [
        group("fine", 12, |_| "ok"),
        group("bad", 12, |n| if n == 2 { "error" } else { "ok" }),
        group(
            "worse",
            12,
            |n| if n == 0 || n == 5 { "trap" } else { "ok" },
        ),
        group("said", 12, |n| if n == 3 { "reject" } else { "ok" }),
    ]
    .into();
    queues.send_all("orders.fifo", &mixed(&groups));
    let done = |group: &str| lines(app, &format!("done/{group}")).len();
    wait_for("the other groups", || {
        (done("fine") == 12 && done("said") == 11).then_some(())
    });
    assert_eq!((done("bad"), done("worse")), (2, 0));
    wait_for("the dead letters", || {
        (queues.depth("orders-dlq.fifo").0 == 4).then_some(())
    });
    queues.wait_until_empty("orders.fifo");

    let dead = queues.drain("orders-dlq.fifo");
    let mut dead: Vec<(&str, &str)> = dead
        .iter()
        .map(|m| {
            let group = m["Attributes"]["MessageGroupId"].as_str().unwrap();
            (group, m["Body"].as_str().unwrap())
        })
        .collect();
    dead.sort_unstable();
    let expected = [
        ("bad", "error bad 02"),
        ("said", "reject said 03"),
        ("worse", "trap worse 00"),
        ("worse", "trap worse 05"),
    ];
    assert_eq!(dead, expected);
    for (group, sent) in &groups {
        let buried = |body: &&String| !expected.contains(&(group, body.as_str()));
        let rest: Vec<&String> = sent.iter().filter(buried).collect();
        let done = in_order(app, group, sent);
        assert_eq!(done.iter().collect::<Vec<_>>(), rest, "{group}");
    }
    assert_eq!(settled(app, "dead_lettered"), 1);
    assert!(settled(app, "released") > 0);
}

#[test]
fn a_failing_message_blocks_its_group_alone_in_process() {
    let app = App::start(&ways(&embedded("orders.fifo"), OPTIONS));
    a_failing_message_blocks_its_group_alone(&app, &Queues::Embedded(&app));
}

#[test]
fn a_failing_message_blocks_its_group_alone_on_the_wire() {
    let server = QueueServer::start("orders.fifo");
    let app = App::start_with(&ways(&server.queue_url(), OPTIONS), &[], &CREDENTIALS);
    a_failing_message_blocks_its_group_alone(&app, &Queues::Server(&server));
}

/// Messages that trap, fail and loop once, and among them ends of the process of both
/// kinds.
fn ends(app: &mut App, queues: &dyn Fn(&App) -> Groups, done: &dyn Fn(&App) -> bool) {
    let groups = queues(app);
    let count = |app: &App| -> usize {
        let done = |group: &String| lines(app, &format!("done/{group}")).len();
        groups.keys().map(done).sum()
    };
    for (signal, after) in [("-TERM", 8), ("-KILL", 40)] {
        wait_for("some effects", || (count(app) >= after).then_some(()));
        app.signal(signal);
        let (status, log) = app.wait();
        assert_eq!(status.success(), signal == "-TERM", "{log}");
        app.restart();
    }
    wait_for("the rest", || done(app).then_some(()));
    for (group, sent) in &groups {
        let mut done = in_order(app, group, sent);
        // What a killed process had done, but not deleted, is done again.
        done.dedup();
        assert_eq!(&done, sent, "{group}");
    }
}

/// Short leases, so that what a killed process had comes back soon; and nothing is
/// poison here, however often it is received.
fn be_patient(queues: &Queues<'_>) {
    let all = json!({"AttributeNames": ["QueueArn"]});
    let arn = queues.call("orders-dlq.fifo", "GetQueueAttributes", all);
    let arn = &arn["Attributes"]["QueueArn"];
    let redrive = json!({"deadLetterTargetArn": arn, "maxReceiveCount": 20}).to_string();
    let attributes = json!({"VisibilityTimeout": "3", "RedrivePolicy": redrive});
    let attributes = json!({"Attributes": attributes});
    queues.call("orders.fifo", "SetQueueAttributes", attributes);
}

fn restless() -> Groups {
    (0..6)
        .map(|n| {
            group(&format!("g{n}"), 12, |n| match n {
                1 => "error-once",
                4 => "trap-once",
                7 => "loop-once",
                _ => "sleep-20",
            })
        })
        .collect()
}

#[test]
fn order_holds_over_ends_of_the_process_with_the_embedded_queue() {
    let mut app = App::start(&ways(&embedded("orders.fifo"), OPTIONS));
    be_patient(&Queues::Embedded(&app));
    app.restart();
    let send = |app: &App| {
        Queues::Embedded(app).send_all("orders.fifo", &mixed(&restless()));
        restless()
    };
    let done = |app: &App| Queues::Embedded(app).depth("orders.fifo") == (0, 0);
    ends(&mut app, &send, &done);
}

#[test]
fn order_holds_over_ends_of_the_process_on_the_wire() {
    let server = QueueServer::start("orders.fifo");
    let queues = Queues::Server(&server);
    be_patient(&queues);
    let manifest = ways(&server.queue_url(), OPTIONS);
    let mut app = App::start_with(&manifest, &[], &CREDENTIALS);
    let send = |_: &App| {
        queues.send_all("orders.fifo", &mixed(&restless()));
        restless()
    };
    let done = |_: &App| queues.depth("orders.fifo") == (0, 0);
    ends(&mut app, &send, &done);
}
