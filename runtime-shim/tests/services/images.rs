//! Pictures: stored, served, listed, shrunk, deleted, limited.

use std::sync::Mutex;
use std::thread;
use std::time::SystemTime;

use serde_json::json;

use crate::support::pictures::{self, Colour, size};
use crate::support::web::{Client, Form, id_of, member, start};
use crate::support::{App, wait_for};
use crate::{about, ids, listed, moment, serves, stored_keys, thumbnail, upload_one};

#[test]
fn every_kind_of_picture_is_stored_served_and_shrunk() {
    let app = App::start_own();
    let client = member(&app, "painter");
    let png = pictures::png(800, 600, 1);
    for (bytes, kind, (width, height)) in [
        (png.as_slice(), "png", (800, 600)),
        (pictures::JPEG, "jpeg", (64, 48)),
        (pictures::GIF, "gif", (64, 48)),
        (pictures::ANIMATED_GIF, "gif", (40, 30)),
        (pictures::LOSSLESS_WEBP, "webp", (64, 48)),
        (pictures::LOSSY_WEBP, "webp", (64, 48)),
    ] {
        let uploaded = client.upload(bytes).expect(201);
        let id = id_of(&uploaded);
        let document = uploaded.json();
        let url = format!("/images/{id}");
        assert!(
            id.len() == 32 && id.bytes().all(|b| b"0123456789abcdef".contains(&b)),
            "{id}"
        );
        assert_eq!(uploaded.header("location"), Some(url.as_str()));
        assert_eq!(document["type"], format!("image/{kind}"));
        assert_eq!(document["size"], bytes.len());
        assert_eq!(document["width"], width);
        assert_eq!(document["height"], height);
        assert_eq!(document["url"], url);
        assert_eq!(document["thumbnail_url"], format!("{url}/thumbnail"));
        about(moment(&document["created_at"]), SystemTime::now());

        serves(&app, &url, &format!("image/{kind}"), bytes);

        let small = thumbnail(&client, &id);
        let kind = small.header("content-type").unwrap();
        assert!(matches!(kind, "image/jpeg" | "image/png"), "{kind}");
        let (small_width, small_height) = size(&small.body);
        assert!(small_width <= 320 && small_width * 3 == small_height * 4);
        assert!(small_width <= width, "not blown up");
        if width > 320 {
            assert_eq!(small_width, 320);
        }
        serves(&app, &format!("{url}/thumbnail"), kind, &small.body);
        assert_eq!(listed(&client, &id).unwrap()["thumbnail"], "ready");
    }
    wait_for("the queue to be empty", || {
        (app.depth("images") == (0, 0, 0)).then_some(())
    });
    assert_eq!(app.depth("images-dlq"), (0, 0, 0));
}

#[test]
fn a_thumbnail_stands_upright() {
    let app = App::start_own();
    let client = member(&app, "painter");
    let id = id_of(&client.upload(pictures::ROTATED_JPEG));
    let (width, height) = size(&thumbnail(&client, &id).body);
    assert!(width < height, "{width} x {height}");
}

/// What a sandbox cannot decode must not come back again and again: it ends as `failed`, or it
/// was refused, and no message becomes a dead letter.
#[test]
fn the_largest_pictures_end_in_a_thumbnail_or_a_clear_no() {
    let app = App::start_own();
    let client = member(&app, "painter");
    for (colour, must_work) in [
        (Colour::Bit, true),
        (Colour::Rgb, true),
        // 192 MB of samples.
        (Colour::Deep, false),
    ] {
        let picture = pictures::black(6000, 4000, colour);
        let upload = client.upload(&picture);
        if upload.status == 422 && !must_work {
            continue;
        }
        let id = id_of(&upload);
        let state = wait_for("the thumbnail's end", || {
            let state = listed(&client, &id)?["thumbnail"].clone();
            (state != "pending").then_some(state)
        });
        assert!(state == "ready" || !must_work, "{colour:?}: {state}");
        if state == "ready" {
            let (width, height) = size(&thumbnail(&client, &id).body);
            assert!(
                width == 320 && (213..=214).contains(&height),
                "{width} x {height}"
            );
        }
    }
    // Shapes whose smaller side all but vanishes.
    for (width, height) in [(65_535, 366), (366, 65_535), (65_535, 1), (1, 65_535)] {
        let upload = client.upload(&pictures::black(width, height, Colour::Bit));
        let id = id_of(&upload);
        let (small_width, small_height) = size(&thumbnail(&client, &id).body);
        let sides = [small_width, small_height];
        assert!(sides.contains(&320) && !sides.contains(&0), "{sides:?}");
        assert_eq!(small_width > small_height, width > height);
    }
    client
        .upload(&pictures::black(6001, 4000, Colour::Bit))
        .problem(422);
    wait_for("the queue to be empty", || {
        (app.depth("images") == (0, 0, 0)).then_some(())
    });
    assert_eq!(app.depth("images-dlq"), (0, 0, 0));
}

#[test]
fn a_form_brings_one_picture() {
    let app = App::start_own();
    let client = member(&app, "painter");
    let png = pictures::png(20, 10, 1);
    let forms = [
        Form::empty().file("a.png", "image/png", &png),
        // Fields before and after are no files; name and type of the file are only claims.
        Form::empty()
            .field("title", "the mill")
            .file("a.txt", "text/plain", &png)
            .field("note", "--"),
        Form::empty().file("a.gif", "image/gif", pictures::GIF),
    ];
    for form in forms {
        let uploaded = client.upload_form(&form);
        let url = format!("/images/{}", id_of(&uploaded));
        let bytes = client.get(&url).expect(200).body;
        let sent = &form
            .parts
            .iter()
            .find(|(head, _)| head.contains("filename"));
        assert_eq!(bytes, sent.unwrap().1);
    }
    // The beginning of the boundary occurs in the content.
    let tricky = [
        b"\r\n------gristmill7MA4YWxkTrZu0g\r\n".as_slice(),
        b"--\r\n",
    ]
    .concat();
    let chunks: [(&[u8; 4], &[u8]); 4] = [
        (b"IHDR", &pictures::header(1, 1, Colour::Bit)),
        (b"teXt", &tricky),
        (b"IDAT", &pictures::stored(&[0, 0])),
        (b"IEND", b""),
    ];
    let picture = pictures::from_chunks(&chunks);
    let form = Form::empty().file("a.png", "image/png", &picture);
    let id = id_of(&client.upload_form(&form));
    assert_eq!(client.get(&format!("/images/{id}")).body, picture);
}

#[test]
fn the_list_is_the_owners_newest_first_in_pages() {
    let app = App::start_own();
    let (client, other) = (member(&app, "painter"), member(&app, "sculptor"));
    let mut uploaded: Vec<_> = (0..5).map(|n| upload_one(&client, n)).collect();
    let foreign = upload_one(&other, 9);
    uploaded.reverse();

    let all = client.get("/images").expect(200);
    assert_eq!(all.header("cache-control"), Some("no-store"));
    assert_eq!(ids(&all.json()), uploaded);
    assert!(all.json()["next"].is_null());
    assert_eq!(ids(&other.get("/images").expect(200).json()), [foreign]);

    let (mut seen, mut after, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let page = client.get(&format!("/images?limit=2{after}")).expect(200);
        seen.extend(ids(&page.json()));
        pages += 1;
        match page.json()["next"].as_str() {
            Some(next) => {
                assert_eq!(Some(next), seen.last().map(String::as_str));
                after = format!("&after={next}");
            }
            None => break,
        }
    }
    assert_eq!((seen, pages), (uploaded, 3));

    for query in [
        "limit=0",
        "limit=101",
        "limit=-1",
        "limit=x",
        "limit=",
        "limit=1e1",
        "after=x",
        "after=",
    ] {
        client.get(&format!("/images?{query}")).problem(400);
    }
    Client::new(&app).get("/images").problem(401);
}

#[test]
fn only_the_owner_deletes_and_nothing_stays() {
    let app = App::start_own();
    let (client, other) = (member(&app, "painter"), member(&app, "sculptor"));
    let id = upload_one(&client, 1);
    let kept = upload_one(&client, 2);
    thumbnail(&client, &id);
    let stored = stored_keys(&app, "images");
    assert!(stored.contains(&id) && stored.contains(&format!("{id}.thumbnail")));
    let url = format!("/images/{id}");

    Client::new(&app).delete(&url).problem(401);
    let foreign = other.delete(&url);
    let unknown = other.delete(&format!("/images/{}", "0".repeat(32)));
    assert_eq!(foreign.problem(404), unknown.problem(404), "as if unknown");
    client.get(&url).expect(200);

    client.delete(&url).expect(204);
    client.delete(&url).problem(404);
    client.get(&url).problem(404);
    client.get(&format!("{url}/thumbnail")).problem(404);
    assert!(listed(&client, &id).is_none());
    let stored = stored_keys(&app, "images");
    assert!(!stored.iter().any(|key| key.starts_with(&id)), "{stored:?}");
    assert!(listed(&client, &kept).is_some());
}

#[test]
fn limits_are_variables() {
    let app = start(&[
        ("SPIN_VARIABLE_IMAGES_MAX_BYTES", "2000"),
        ("SPIN_VARIABLE_IMAGES_MAX_PIXELS", "200"),
        ("SPIN_VARIABLE_IMAGES_MAX_PER_USER", "2"),
    ]);
    let client = member(&app, "painter");
    let picture = pictures::png(20, 10, 1);
    let padded = |bytes: usize| {
        let mut padded = picture.clone();
        padded.resize(bytes, 0);
        padded
    };
    client.upload(&padded(2001)).problem(413);
    client
        .upload_form(&Form::empty().file("a.png", "image/png", &padded(2001)))
        .problem(413);
    client
        .upload(&pictures::black(201, 1, Colour::Bit))
        .problem(422);
    id_of(&client.upload(&picture));
    let last = id_of(&client.upload_form(&Form::empty().file("a.png", "image/png", &picture)));
    let detail = client.upload(&picture).problem(409);
    assert!(detail.contains('2'), "{detail}");
    // Others have their own share, and what is deleted makes room.
    upload_one(&member(&app, "sculptor"), 1);
    client.delete(&format!("/images/{last}")).expect(204);
    id_of(&client.upload(&picture));
}

/// At the limit, uploads at the same time are not counted past each other.
#[test]
fn uploads_at_once_do_not_pass_the_limit() {
    let app = start(&[("SPIN_VARIABLE_IMAGES_MAX_PER_USER", "3")]);
    let client = member(&app, "painter");
    let statuses = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for n in 0..12 {
            let (client, statuses) = (&client, &statuses);
            scope.spawn(move || {
                let status = client.upload(&pictures::png(20, 10, n)).status;
                statuses.lock().unwrap().push(status);
            });
        }
    });
    let mut statuses = statuses.into_inner().unwrap();
    statuses.sort_unstable();
    assert_eq!(statuses[..3], [201; 3], "{statuses:?}");
    assert!(
        statuses[3..].iter().all(|status| *status == 409),
        "{statuses:?}"
    );
    assert_eq!(ids(&client.get("/images").json()).len(), 3);
}

#[test]
fn the_worker_settles_what_cannot_become_a_thumbnail() {
    let app = App::start_own();
    let client = member(&app, "painter");
    // A right header, and then nothing that could be decoded.
    let damaged = pictures::from_chunks(&[
        (b"IHDR", &pictures::header(30, 20, Colour::Rgb)),
        (b"IDAT", b"no zlib stream"),
        (b"IEND", b""),
    ]);
    let id = id_of(&client.upload(&damaged));
    wait_for("the failure to show", || {
        (listed(&client, &id)?["thumbnail"] == "failed").then_some(())
    });
    let failed = client.get(&format!("/images/{id}/thumbnail"));
    failed.problem(404);
    assert!(
        failed.header("retry-after").is_none(),
        "nothing to wait for"
    );
    let served = client.get(&format!("/images/{id}")).expect(200);
    assert_eq!(served.body, damaged);

    // A picture that is gone again, and one that never was.
    app.send("images", &json!({"image": "0".repeat(32)}).to_string());
    wait_for("the queue to be empty", || {
        (app.depth("images") == (0, 0, 0)).then_some(())
    });
    assert_eq!(app.depth("images-dlq"), (0, 0, 0));

    let wrong = [
        "no JSON",
        "{}",
        "[]",
        r#"{"image":7}"#,
        r#"{"image":"../../etc/passwd"}"#,
    ];
    for body in wrong {
        app.send("images", body);
    }
    wait_for("the dead letters", || {
        let (dead, left) = (app.depth("images-dlq").0, app.depth("images"));
        (dead == wrong.len() as u64 && left == (0, 0, 0)).then_some(())
    });
    let ask = json!({"QueueName": "images-dlq", "MessageAttributeNames": ["All"]});
    let answer = app.sqs("ReceiveMessage", ask);
    let letter = &answer["Messages"][0];
    let reason = &letter["MessageAttributes"]["gristmill.reason"]["StringValue"];
    assert!(
        reason.as_str().unwrap().contains("images-worker"),
        "{letter}"
    );
}
