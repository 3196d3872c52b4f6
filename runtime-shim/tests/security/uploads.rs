//! Pictures and forms made to do harm.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::still_works;
use crate::support::pictures::{self, Colour};
use crate::support::web::{Client, Form, id_of, member};
use crate::support::{App, wait_for};

/// Until no image of this client is pending any more; their states.
fn settled(client: &Client) -> BTreeSet<String> {
    wait_for("every thumbnail's end", || {
        let page = client.get("/images?limit=100").expect(200).json();
        let images = page["images"].as_array().unwrap().iter();
        let states = images.map(|image| image["thumbnail"].as_str().unwrap().to_owned());
        let states: BTreeSet<_> = states.collect();
        (!states.contains("pending")).then_some(states)
    })
}

#[test]
fn what_is_no_picture_is_not_taken() {
    let app = App::start_own();
    let client = member(&app, "painter");
    let html: &[u8] = b"<!doctype html><script>alert(document.domain)</script>";
    let svg: &[u8] = b"<svg xmlns=\"http://www.w3.org/2000/svg\" onload=\"alert(1)\"/>";
    let late = [html, pictures::JPEG].concat();
    let marked = [b"\xef\xbb\xbf".as_slice(), svg].concat();
    let spaced = [b" ".as_slice(), pictures::GIF].concat();
    let webm = b"RIFF\x10\0\0\0WAVEfmt ".as_slice();
    let brand = b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf".as_slice();
    for bytes in [
        html,
        svg,
        b"<?xml version=\"1.0\"?><svg xmlns=\"http://www.w3.org/2000/svg\"/>",
        marked.as_slice(),
        b"%PDF-1.7\n1 0 obj\n",
        b"PK\x03\x04",
        b"MZ\x90\0",
        b"\x7fELF",
        b"\0asm\x01\0\0\0",
        b"BM\x3a\0\0\0\0\0\0\0",
        b"II*\0\x08\0\0\0",
        b"\0\0\x01\0\x01\0\x10\x10",
        webm,
        brand,
        b"\xff\x0a",
        b"text",
        b"\0",
        b"GIF88a\x01\0\x01\0",
        b"gif89a\x01\0\x01\0",
        late.as_slice(),
        spaced.as_slice(),
    ] {
        // Whatever it is called.
        for kind in [
            "image/png",
            "image/svg+xml",
            "text/html",
            "application/octet-stream",
        ] {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(20)]).into_owned();
            let raw = client.send("POST", "/images/upload", &[("content-type", kind)], bytes);
            assert_eq!(raw.status, 415, "{kind} {shown:?}: {}", raw.text());
            raw.problem(415);
            let form = Form::empty().file("picture.png", kind, bytes);
            assert_eq!(client.upload_form(&form).status, 415, "{kind} {shown:?}");
        }
    }
    client.upload(b"").problem(400);

    // A picture with a page behind it is a picture, and served as nothing else.
    let polyglot = [pictures::GIF, html].concat();
    for (name, kind) in [
        ("a.html", "text/html"),
        ("a.svg", "image/svg+xml"),
        ("a.js", "text/javascript"),
    ] {
        let form = Form::empty().file(name, kind, &polyglot);
        let uploads = [
            client.upload_form(&form),
            client.send(
                "POST",
                "/images/upload",
                &[("content-type", kind)],
                &polyglot,
            ),
        ];
        for upload in uploads {
            let served = client
                .get(&format!("/images/{}", id_of(&upload)))
                .expect(200);
            assert_eq!(served.header("content-type"), Some("image/gif"));
            assert_eq!(served.header("x-content-type-options"), Some("nosniff"));
        }
    }
}

/// These bytes with `with` at `at`.
fn patched(bytes: &[u8], at: usize, with: &[u8]) -> Vec<u8> {
    let mut patched = bytes.to_vec();
    patched[at..at + with.len()].copy_from_slice(with);
    patched
}

/// Where `pattern` begins.
#[track_caller]
fn find(bytes: &[u8], pattern: &[u8]) -> usize {
    let mut windows = bytes.windows(pattern.len());
    windows.position(|window| window == pattern).unwrap()
}

#[test]
fn a_header_that_promises_too_much_is_refused() {
    let app = App::start_own();
    let client = member(&app, "painter");
    let frame = find(pictures::JPEG, b"\xff\xc0");
    let lossy = find(pictures::LOSSY_WEBP, b"\x9d\x01\x2a");
    let lossless = find(pictures::LOSSLESS_WEBP, b"\x2f");
    let png = |width, height| pictures::lying(width, height, Colour::Rgb, 1000);
    for (what, bytes) in [
        ("PNG of 10 gigapixels", png(100_000, 100_000)),
        ("PNG whose pixels overflow 32 bits", png(65_536, 65_536)),
        ("PNG whose pixels overflow 64 bits", png(u32::MAX, u32::MAX)),
        ("PNG of the largest sides", png(0x7fff_ffff, 0x7fff_ffff)),
        ("PNG of one long line", png(24_000_001, 1)),
        ("PNG without width", png(0, 10)),
        ("PNG without height", png(10, 0)),
        ("GIF", patched(pictures::GIF, 6, b"\xff\xff\xff\xff")),
        ("GIF without width", patched(pictures::GIF, 6, b"\0\0")),
        (
            "JPEG",
            patched(pictures::JPEG, frame + 5, b"\xff\xff\xff\xff"),
        ),
        (
            "JPEG without height",
            patched(pictures::JPEG, frame + 5, b"\0\0"),
        ),
        (
            "lossy WebP",
            patched(pictures::LOSSY_WEBP, lossy + 3, b"\xff\x3f\xff\x3f"),
        ),
        (
            "lossless WebP",
            patched(pictures::LOSSLESS_WEBP, lossless + 1, b"\xff\xff\xff\x0f"),
        ),
    ] {
        let began = Instant::now();
        let answer = client.upload(&bytes);
        assert_eq!(answer.status, 422, "{what}: {}", answer.text());
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{what}: {:?}",
            began.elapsed()
        );
    }
    let page = client.get("/images").expect(200).json();
    assert_eq!(page["images"], json!([]));
}

/// What looks right and is not, comes to a quick end in the worker, and to one only.
#[test]
fn a_picture_that_explodes_hurts_nobody() {
    let app = App::start_own();
    let client = member(&app, "painter");
    let tiff = find(pictures::ROTATED_JPEG, b"MM\0*");
    let exif = |at: usize, with: &[u8]| patched(pictures::ROTATED_JPEG, tiff + at, with);
    let header = pictures::header(10, 10, Colour::Rgb);
    let bomb = pictures::zeros(600_000_000);
    let profile = [b"x\0\0".as_slice(), bomb.as_slice()].concat();
    let text = [b"Comment\0\0".as_slice(), bomb.as_slice()].concat();
    let data = pictures::stored(&[0; 310]);
    for (what, bytes) in [
        (
            "more data than pixels",
            pictures::lying(10, 10, Colour::Rgb, 600_000_000),
        ),
        (
            "less data than pixels",
            pictures::lying(4000, 4000, Colour::Rgb, 10),
        ),
        (
            "a colour profile that explodes",
            pictures::from_chunks(&[
                (b"IHDR", &header),
                (b"iCCP", &profile),
                (b"IDAT", &data),
                (b"IEND", b""),
            ]),
        ),
        (
            "a comment that explodes",
            pictures::from_chunks(&[
                (b"IHDR", &header),
                (b"zTXt", &text),
                (b"IDAT", &data),
                (b"IEND", b""),
            ]),
        ),
        (
            "a hundred thousand frames",
            pictures::gif_of(100, 100, 100_000),
        ),
        ("an orientation of 99", exif(18, &[0, 99])),
        ("a directory beyond the end", exif(4, &[0xff; 4])),
        ("a directory of itself", exif(22, &[0, 0, 0, 8])),
        ("a directory of 65,535 entries", exif(8, &[0xff; 2])),
        ("an entry of four billion values", exif(14, &[0xff; 4])),
    ] {
        let began = Instant::now();
        let answer = client.upload(&bytes);
        assert!(
            matches!(answer.status, 201 | 413 | 422),
            "{what}: {} {}",
            answer.status,
            answer.text()
        );
        settled(&client);
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "{what}: {:?}",
            began.elapsed()
        );
    }
    still_works(&app, &client);
}

#[test]
fn a_picture_that_was_cut_off_is_refused_or_fails() {
    let app = App::start_own();
    let client = member(&app, "painter");
    let png = pictures::png(20, 10, 3);
    for whole in [
        png.as_slice(),
        pictures::JPEG,
        pictures::GIF,
        pictures::LOSSLESS_WEBP,
        pictures::LOSSY_WEBP,
    ] {
        for length in [4, 8, 12, 13, 20, 26, 33, whole.len() / 2, whole.len() - 1] {
            let status = client.upload(&whole[..length]).status;
            assert!(matches!(status, 201 | 415 | 422), "{length}: {status}");
        }
        // And with a bit that fell over on the way, here and there.
        for at in (0..whole.len()).step_by(whole.len() / 8) {
            let status = client
                .upload(&patched(whole, at, &[whole[at] ^ 0x55]))
                .status;
            assert!(matches!(status, 201 | 415 | 422), "{at}: {status}");
        }
    }
    settled(&client);
    still_works(&app, &client);
}

/// Bodies that are no form with one file, as what they are.
fn odd_forms(png: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let one = || Form::empty().file("a.png", "image/png", png);
    let boundary = Form::empty().boundary;
    let mut open = one();
    open.closed = false;
    let mut many = Form::empty();
    for n in 0..20_000 {
        many = many.field(&n.to_string(), "");
    }
    let tall = format!(
        "{}Content-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n",
        "X: y\r\n".repeat(50_000)
    );
    let bare = format!("--{boundary}\r\n").into_bytes();
    let headless = [
        bare.as_slice(),
        png,
        b"\r\n--",
        boundary.as_bytes(),
        b"--\r\n",
    ]
    .concat();
    vec![
        ("two files", one().file("b.png", "image/png", png).bytes()),
        ("no file", Form::empty().field("file", "text").bytes()),
        ("no part", Form::empty().bytes()),
        ("no end", open.bytes()),
        ("nothing", Vec::new()),
        ("only a beginning", bare),
        ("no headers", headless),
        ("countless headers", Form::empty().part(&tall, png).bytes()),
        ("countless parts", many.bytes()),
    ]
}

#[test]
fn a_form_that_is_odd_is_refused() {
    let app = App::start_own();
    let client = member(&app, "painter");
    let png = pictures::png(8, 8, 1);
    let one = Form::empty().file("a.png", "image/png", &png);
    let refused = |what: &str, kind: &str, body: &[u8]| {
        let began = Instant::now();
        let answer = client.send("POST", "/images/upload", &[("content-type", kind)], body);
        assert_eq!(answer.status, 400, "{what}: {}", answer.text());
        answer.problem(400);
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "{what}: {:?}",
            began.elapsed()
        );
    };
    for (what, parameters) in [
        ("no boundary", String::new()),
        ("an empty boundary", "; boundary=".to_owned()),
        ("an empty quoted boundary", "; boundary=\"\"".to_owned()),
        ("another boundary", "; boundary=other".to_owned()),
        (
            "an endless boundary",
            format!("; boundary={}", "x".repeat(10_000)),
        ),
    ] {
        let kind = format!("multipart/form-data{parameters}");
        refused(what, &kind, &one.bytes());
    }
    for (what, body) in odd_forms(&png) {
        refused(what, &one.content_type(), &body);
    }
    let page = client.get("/images").expect(200).json();
    assert_eq!(page["images"], json!([]));
    // A part's header may be long, as long as the whole may.
    let wide = format!(
        "X: {}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n",
        "x".repeat(1 << 20)
    );
    let long = client.upload_form(&Form::empty().part(&wide, &png)).status;
    assert!(matches!(long, 201 | 400 | 413), "{long}");
    client.upload_form(&one).expect(201);
}
