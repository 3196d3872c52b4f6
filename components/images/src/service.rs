//! The steps of each request and of each event, in an order that a crash at any
//! point leaves nothing wrong: a row stands before its content does and hides it
//! until all of it is there; a deletion hides the row first.

#![allow(clippy::needless_pass_by_value, reason = "errors are mapped by value")]

use std::time::{SystemTime, UNIX_EPOCH};

use database::{Database, Row, Value};
use queue::{Queue, SendFailure};
use reply::{Check, Reply, hex};
use request::Head;
use sha2::{Digest, Sha256};
use spin_sdk::http::IncomingRequest;

use crate::answer::{self, Part, misconfigured, no_image, unavailable};
use crate::blobs::{Blobs, MAX_BYTES, NotOpen};
use crate::event;
use crate::id::from_bits;
use crate::picture::Picture;
use crate::record::{self, Record, State};
use crate::session::{self, NoUser};
use crate::thumbnail::{Thumbnail, thumbnail};
use crate::upload::Form;

/// The answer of `auth` is a name and two times.
const MAX_PROFILE_BYTES: usize = 16 * 1024;

/// Limits of an upload.
struct Limits {
    bytes: usize,
    pixels: u64,
    per_user: u64,
}

impl Limits {
    fn read() -> Result<Self, settings::Error> {
        Ok(Self {
            bytes: settings::number("images_max_bytes", 1, MAX_BYTES)? as usize,
            pixels: settings::number("images_max_pixels", 1, 100_000_000)?,
            per_user: settings::number("images_max_per_user", 1, 1_000_000)?,
        })
    }
}

/// The refusal of a forged request; reading needs no variable for it.
pub(crate) fn refuse_forged(head: &Head) -> Result<(), Reply> {
    if !head.is_unsafe() {
        return Ok(());
    }
    let public_origin = settings::origin("public_origin").map_err(variable)?;
    request::refuse_forged(head, &public_origin).map_or(Ok(()), Err)
}

pub(crate) async fn ready() -> Reply {
    let catalog = open_catalog().and_then(|database| database.ping().map_err(|e| e.to_string()));
    let mut variables = variables().map_err(|error| error.to_string());
    let store = match Blobs::open() {
        Ok(blobs) => Check::answered("images", blobs.ping().await, log),
        Err(NotOpen::Store(reason)) => Check::answered("images", Err::<(), _>(reason), log),
        Err(NotOpen::Variable(reason)) => {
            variables = variables.and(Err(reason));
            Check::of("images", Err::<(), _>("a variable cannot be used"))
        }
    };
    let queue = match queue() {
        Ok(queue) => queue.ping().await,
        Err(reason) => Err(reason),
    };
    reply::ready(&[
        Check::of("variables", variables),
        Check::answered("catalog", catalog, log),
        store,
        Check::answered("queue", queue, log),
        Check::answered("auth", ping_auth().await, log),
    ])
}

/// Whether those variables can be used that no other check reads.
fn variables() -> Result<(), settings::Error> {
    Limits::read()?;
    settings::flag("images_redirect")?;
    settings::origin("public_origin")?;
    Ok(())
}

async fn ping_auth() -> Result<(), String> {
    let origin = settings::text("auth_origin").map_err(|error| error.to_string())?;
    let answer = session::ping(&origin)
        .send("auth", MAX_PROFILE_BYTES)
        .await?;
    if answer.is_success() {
        return Ok(());
    }
    Err(format!("auth answered {}", answer.status))
}

pub(crate) async fn upload(head: &Head, request: IncomingRequest) -> Result<Reply, Reply> {
    let owner = user(head).await?;
    let limits = Limits::read().map_err(variable)?;
    let form = Form::of(head).map_err(|unusable| unusable.reply())?;
    let body = request::read_body(request, form.max_body(limits.bytes)).await;
    let content = form
        .picture(body, limits.bytes)
        .await
        .map_err(|unusable| unusable.reply())?;
    let picture = Picture::recognise(&content, limits.pixels).map_err(|unfit| unfit.reply())?;
    let (catalog, blobs) = (catalog()?, blobs()?);
    let now = now();
    let record = Record {
        id: random_id()?,
        state: State::Pending,
        kind: picture.kind,
        size: content.len() as i64,
        width: picture.width.into(),
        height: picture.height.into(),
        sha256: hex(&Sha256::digest(&content)),
        created_at: now,
        queued_at: now,
        thumbnail: None,
    };
    let id = record.id.as_str();
    let insert = || insert(&catalog, &record, &owner, limits.per_user);
    let is_in = insert()? || (remove_stale(&catalog, &blobs, &owner).await && insert()?);
    if !is_in {
        return Err(answer::too_many(limits.per_user));
    }
    let media_type = record.kind.media_type();
    if let Err(reason) = blobs.put(id, Part::Image, media_type, content).await {
        log(&reason);
        log_failure(remove(&catalog, &blobs, id).await);
        return Err(unavailable("image store"));
    }
    let stored = query(&catalog, record::STORED, &[id.into(), now.into()])?;
    if stored.is_empty() {
        // It took so long that another upload has removed the row.
        log_failure(blobs.delete(id, Part::Image).await);
        return Err(unavailable("image store"));
    }
    // The image is there: without its event, whoever asks for the thumbnail has
    // the event sent again.
    log_failure(send_event(id).await);
    remove_stale(&catalog, &blobs, &owner).await;
    Ok(answer::created(&record))
}

fn insert(catalog: &Database, record: &Record, owner: &str, most: u64) -> Result<bool, Reply> {
    let values = [
        record.id.as_str().into(),
        owner.into(),
        record.kind.media_type().into(),
        record.size.into(),
        record.width.into(),
        record.height.into(),
        record.sha256.as_str().into(),
        record.created_at.into(),
        (most as i64).into(),
    ];
    query(catalog, record::INSERT, &values).map(|rows| !rows.is_empty())
}

/// Removes a little of what uploads and deletions of this owner left that ended
/// half-way. It stops at the first failure: the caller waits, and a store that
/// hangs would hang again. Whether it made room for another image.
async fn remove_stale(catalog: &Database, blobs: &Blobs, owner: &str) -> bool {
    let mut has_removed = false;
    let done = async {
        let before = now() - record::STALE_AFTER_MILLIS;
        let rows = catalog.query(record::STALE, &[owner.into(), before.into()]);
        for row in rows.map_err(|error| error.to_string())? {
            let id = row.text(0).map_err(|error| error.to_string())?;
            remove(catalog, blobs, id).await?;
            has_removed = true;
        }
        Ok(())
    };
    log_failure(done.await);
    has_removed
}

/// Removes a hidden image for good, its row last.
async fn remove(catalog: &Database, blobs: &Blobs, id: &str) -> Result<(), String> {
    blobs.delete(id, Part::Image).await?;
    blobs.delete(id, Part::Thumbnail).await?;
    for statement in [record::DELETE_VIEWS, record::DELETE] {
        let done = catalog.query(statement, &[id.into()]);
        done.map_err(|error| error.to_string())?;
    }
    Ok(())
}

pub(crate) async fn list(head: &Head, limit: u32, after: Option<String>) -> Result<Reply, Reply> {
    let owner = user(head).await?;
    let catalog = catalog()?;
    let (first_time, first_id) = record::FIRST;
    let mut place = (first_time, first_id.to_owned());
    if let Some(after) = after {
        let values = [after.as_str().into(), owner.as_str().into()];
        let rows = query(&catalog, record::CURSOR, &values)?;
        let row = rows.first().ok_or_else(answer::no_cursor)?;
        place = (row.integer(0).map_err(catalog_failed)?, after);
    }
    let values = [
        owner.as_str().into(),
        place.0.into(),
        place.1.as_str().into(),
        (i64::from(limit) + 1).into(),
    ];
    let rows = query(&catalog, record::LIST, &values)?;
    let records: Result<Vec<_>, _> = rows.iter().map(Record::read).collect();
    Ok(answer::page(
        &records.map_err(catalog_failed)?,
        limit as usize,
    ))
}

pub(crate) async fn show(head: &Head, id: &str) -> Result<Reply, Reply> {
    let redirects = settings::flag("images_redirect").map_err(variable)?;
    let catalog = catalog()?;
    let record = find(&catalog, id)?.ok_or_else(no_image)?;
    if head.method == "HEAD" {
        // Not redirected: the bucket takes the signature of a GET for no other method.
        let unchanged = answer::unchanged(head, &record.sha256);
        return Ok(unchanged.unwrap_or_else(|| answer::content_head(&record)));
    }
    let blobs = blobs()?;
    let url = blobs.public_url(id).filter(|_| redirects);
    let reply = if let Some(url) = url {
        answer::redirect(url)
    } else if let Some(unchanged) = answer::unchanged(head, &record.sha256) {
        // Seen before, and counted then.
        return Ok(unchanged);
    } else {
        let content = blobs.get(id, Part::Image).await.map_err(store_failed)?;
        // Without its content it is being deleted.
        let content = content.ok_or_else(no_image)?;
        answer::content(id, Part::Image, record.kind, &record.sha256, content)
    };
    let values = [id.into(), catalog::hour_of(now()).into()];
    let counted = catalog.query(record::COUNT_VIEW, &values);
    log_failure(counted.map(drop).map_err(|error| error.to_string()));
    Ok(reply)
}

pub(crate) async fn show_thumbnail(head: &Head, id: &str) -> Result<Reply, Reply> {
    let catalog = catalog()?;
    let record = find(&catalog, id)?.ok_or_else(no_image)?;
    let now = now();
    if record.is_overdue(now) {
        let latest = now - record::REQUEUE_AFTER_MILLIS;
        let values = [id.into(), now.into(), latest.into()];
        if !query(&catalog, record::REQUEUE, &values)?.is_empty() {
            log_failure(send_event(id).await);
        }
    }
    let Some((kind, sha256)) = &record.thumbnail else {
        return Err(answer::no_thumbnail(record.state));
    };
    if let Some(unchanged) = answer::unchanged(head, sha256) {
        return Ok(unchanged);
    }
    let content = blobs()?.get(id, Part::Thumbnail).await;
    let content = content.map_err(store_failed)?.ok_or_else(no_image)?;
    Ok(answer::content(id, Part::Thumbnail, *kind, sha256, content))
}

pub(crate) async fn delete(head: &Head, id: &str) -> Result<Reply, Reply> {
    let owner = user(head).await?;
    let (catalog, blobs) = (catalog()?, blobs()?);
    let values = [id.into(), owner.as_str().into()];
    if query(&catalog, record::HIDE, &values)?.is_empty() {
        return Err(no_image());
    }
    remove(&catalog, &blobs, id).await.map_err(store_failed)?;
    Ok(answer::deleted())
}

/// Makes the thumbnail that an event asks for. An error is one of the moment:
/// the event comes again.
pub(crate) async fn work(id: &str) -> Result<(), String> {
    let catalog = open_catalog()?;
    let run = |statement: &str| {
        let rows = catalog.query(statement, &[id.into()]);
        rows.map_err(|error| error.to_string())
    };
    let blobs = Blobs::open().map_err(|error| match error {
        NotOpen::Variable(reason) | NotOpen::Store(reason) => reason,
    })?;
    let Some(record) = load(&catalog, id).map_err(|error| error.to_string())? else {
        // A worker that was killed may have left one.
        return blobs.delete(id, Part::Thumbnail).await;
    };
    if record.state != State::Pending {
        return Ok(());
    }
    let content = blobs.get(id, Part::Image).await?;
    let began = run(record::BEGIN)?;
    let Some(began) = began.first() else {
        return Ok(());
    };
    let attempts = began.integer(0).map_err(|error| error.to_string())?;
    let made = match content {
        _ if attempts > record::MAX_ATTEMPTS => Err("every attempt ended the sandbox".to_owned()),
        None => Err("its content is gone".to_owned()),
        Some(content) => thumbnail(&content, record.kind).map_err(|error| error.to_string()),
    };
    let made = match made {
        Ok(made) => made,
        Err(reason) => {
            log(&format!("image {id} gets no thumbnail: {reason}"));
            return run(record::FAIL).map(drop);
        }
    };
    let kept = keep(&catalog, &blobs, id, made).await;
    if kept.is_err() {
        // The picture is not at fault.
        log_failure(run(record::PUT_BACK).map(drop));
    }
    kept
}

async fn keep(catalog: &Database, blobs: &Blobs, id: &str, made: Thumbnail) -> Result<(), String> {
    let media_type = made.kind.media_type();
    let sha256 = hex(&Sha256::digest(&made.bytes));
    blobs
        .put(id, Part::Thumbnail, media_type, made.bytes)
        .await?;
    let values = [id.into(), media_type.into(), sha256.as_str().into()];
    let updated = catalog.query(record::SUCCEED, &values);
    if updated.map_err(|error| error.to_string())?.is_empty() {
        let is_gone = load(catalog, id)
            .map_err(|error| error.to_string())?
            .is_none();
        if is_gone {
            // Deleted in the meantime, after its thumbnail was.
            blobs.delete(id, Part::Thumbnail).await?;
        }
    }
    Ok(())
}

/// The name of the caller.
async fn user(head: &Head) -> Result<String, Reply> {
    let origin = settings::text("auth_origin").map_err(variable)?;
    let known = match session::question(head, &origin) {
        None => Err(NoUser::NoSession),
        Some(call) => match call.send("auth", MAX_PROFILE_BYTES).await {
            Ok(answer) => session::username(&answer),
            Err(reason) => Err(NoUser::Unavailable(reason)),
        },
    };
    known.map_err(|unknown| {
        if let NoUser::Unavailable(reason) = &unknown {
            log(reason);
        }
        unknown.reply()
    })
}

async fn send_event(id: &str) -> Result<(), String> {
    let sent = queue()?.send(&event::write(id)).await;
    sent.map(drop).map_err(|failure| match failure {
        SendFailure::Refused(reason) | SendFailure::Unavailable(reason) => reason,
    })
}

fn queue() -> Result<Queue, String> {
    Queue::from_variables("images_queue_url")
}

fn open_catalog() -> Result<Database, String> {
    Database::open(catalog::LABEL, catalog::SCHEMA).map_err(|error| error.to_string())
}

fn catalog() -> Result<Database, Reply> {
    open_catalog().map_err(catalog_failed)
}

fn query(catalog: &Database, statement: &str, values: &[Value]) -> Result<Vec<Row>, Reply> {
    catalog.query(statement, values).map_err(catalog_failed)
}

fn find(catalog: &Database, id: &str) -> Result<Option<Record>, Reply> {
    load(catalog, id).map_err(catalog_failed)
}

fn load(catalog: &Database, id: &str) -> Result<Option<Record>, database::Error> {
    let rows = catalog.query(record::FIND, &[id.into()])?;
    rows.first().map(Record::read).transpose()
}

fn blobs() -> Result<Blobs, Reply> {
    Blobs::open().map_err(|error| match error {
        NotOpen::Variable(reason) => misconfigured(&reason),
        NotOpen::Store(reason) => store_failed(reason),
    })
}

fn random_id() -> Result<String, Reply> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).map_err(|error| {
        log(&error.to_string());
        unavailable("source of random numbers")
    })?;
    Ok(from_bits(bits))
}

/// Milliseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as i64)
}

fn variable(error: settings::Error) -> Reply {
    log(&error.to_string());
    misconfigured(&error.to_string())
}

fn catalog_failed(reason: impl ToString) -> Reply {
    log(&reason.to_string());
    unavailable("catalog")
}

fn store_failed(reason: String) -> Reply {
    log(&reason);
    unavailable("image store")
}

fn log_failure(done: Result<(), String>) {
    if let Err(reason) = done {
        log(&reason);
    }
}

/// The component's log is its stderr; the host keeps it.
#[allow(
    clippy::print_stderr,
    reason = "this is the component's one way to its log"
)]
fn log(reason: &str) {
    eprintln!("images: {reason}");
}
