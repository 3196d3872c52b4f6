//! The rows of the catalog that belong to images, and the statements that change
//! them: the SQL of SQLite and PostgreSQL, each statement complete in itself.

use catalog::{FAILED, PENDING, READY};
use database::{Error, Row};

use crate::picture::Kind;

/// How far a shown image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Pending,
    Ready,
    Failed,
}

/// A row that may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) state: State,
    pub(crate) kind: Kind,
    pub(crate) size: i64,
    pub(crate) width: i64,
    pub(crate) height: i64,
    pub(crate) sha256: String,
    pub(crate) created_at: i64,
    pub(crate) queued_at: i64,
    /// Of the thumbnail; nothing until it is ready.
    pub(crate) thumbnail: Option<(Kind, String)>,
}

/// The columns in the order of [`Record::read`].
macro_rules! columns {
    () => {
        "id, state, type, size, width, height, sha256, created_at, queued_at, thumbnail_type, \
         thumbnail_sha256"
    };
}

/// Values: id, owner, type, size, width, height, sha256, now, the owner's most.
/// No row when the owner has that many. Parallel uploads do not see each other's
/// rows on PostgreSQL (READ COMMITTED), so that they can pass this by a few.
pub(crate) const INSERT: &str = "INSERT INTO images (id, owner, state, type, size, width, height, \
    sha256, created_at, queued_at, attempts, thumbnail_type, thumbnail_sha256) \
    SELECT CAST(?1 AS TEXT), CAST(?2 AS TEXT), 'uploading', CAST(?3 AS TEXT), CAST(?4 AS BIGINT), \
    CAST(?5 AS BIGINT), CAST(?6 AS BIGINT), CAST(?7 AS TEXT), CAST(?8 AS BIGINT), 0, 0, '', '' \
    WHERE (SELECT COUNT(*) FROM images WHERE owner = CAST(?2 AS TEXT)) < CAST(?9 AS BIGINT) \
    RETURNING id";

/// Values: id, now. The content is stored: from here on the image is shown.
pub(crate) const STORED: &str = "UPDATE images SET state = 'pending', queued_at = ?2 \
    WHERE id = ?1 AND state = 'uploading' RETURNING id";

/// Values: owner, a time. What uploads and deletions left that ended half-way; a
/// few at a time, because somebody waits while each is removed.
pub(crate) const STALE: &str = "SELECT id FROM images WHERE owner = ?1 AND state = 'uploading' \
    AND created_at < ?2 ORDER BY created_at LIMIT 2";

/// Values: id.
pub(crate) const FIND: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM images WHERE id = ?1 AND state <> 'uploading'"
);

/// Values: id, owner. Where the page that follows this image begins.
pub(crate) const CURSOR: &str = "SELECT created_at FROM images WHERE id = ?1 AND owner = ?2";

/// Values: owner, the time and id of the image before, the number of rows.
pub(crate) const LIST: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM images WHERE owner = ?1 AND state <> 'uploading' \
     AND (created_at < ?2 OR (created_at = ?2 AND id < ?3)) \
     ORDER BY created_at DESC, id DESC LIMIT ?4"
);

/// Values: id, now, the latest time of the last event. A row when the event is to
/// be sent again.
pub(crate) const REQUEUE: &str = "UPDATE images SET queued_at = ?2 \
    WHERE id = ?1 AND state = 'pending' AND queued_at <= ?3 RETURNING id";

/// Values: id. A thumbnail is begun.
pub(crate) const BEGIN: &str = "UPDATE images SET attempts = attempts + 1 \
    WHERE id = ?1 AND state = 'pending' RETURNING attempts";

/// Values: id. It was ended without an outcome, by no fault of the picture.
pub(crate) const PUT_BACK: &str = "UPDATE images SET attempts = attempts - 1 \
    WHERE id = ?1 AND attempts > 0 RETURNING id";

/// Values: id, type and sha256 of the thumbnail. Also when others had given it up:
/// several events of one image may be at work at once.
pub(crate) const SUCCEED: &str = "UPDATE images SET state = 'ready', thumbnail_type = ?2, \
    thumbnail_sha256 = ?3 WHERE id = ?1 AND state IN ('pending', 'failed') RETURNING id";

/// Values: id.
pub(crate) const FAIL: &str =
    "UPDATE images SET state = 'failed' WHERE id = ?1 AND state = 'pending' RETURNING id";

/// Values: id, owner. The image is not shown any more; a row when it was there,
/// also one whose deletion had stopped half-way.
pub(crate) const HIDE: &str =
    "UPDATE images SET state = 'uploading' WHERE id = ?1 AND owner = ?2 RETURNING id";

/// Values: id.
pub(crate) const DELETE_VIEWS: &str = "DELETE FROM views WHERE image_id = ?1";

/// Values: id. Only of a row that is not shown.
pub(crate) const DELETE: &str = "DELETE FROM images WHERE id = ?1 AND state = 'uploading'";

/// Values: id, hour. Counts nothing for an image that is gone or going.
pub(crate) const COUNT_VIEW: &str = "INSERT INTO views (image_id, hour, count) \
    SELECT id, CAST(?2 AS BIGINT), 1 FROM images WHERE id = ?1 AND state <> 'uploading' \
    ON CONFLICT (image_id, hour) DO UPDATE SET count = views.count + 1";

/// What an unfinished thing may be that is still going on.
pub(crate) const STALE_AFTER_MILLIS: i64 = 60 * 60 * 1000;

/// How long a thumbnail may take before its event is sent again.
pub(crate) const REQUEUE_AFTER_MILLIS: i64 = 60 * 1000;

/// Thumbnails that may be begun for one image. Each but the last ended the
/// sandbox: it took too much memory or time.
pub(crate) const MAX_ATTEMPTS: i64 = 3;

/// The place before the first image of a list.
pub(crate) const FIRST: (i64, &str) = (i64::MAX, "");

impl State {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pending => PENDING,
            Self::Ready => READY,
            Self::Failed => FAILED,
        }
    }

    fn read(text: &str) -> Option<Self> {
        [Self::Pending, Self::Ready, Self::Failed]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

impl Record {
    /// From a row with the columns of [`FIND`].
    pub(crate) fn read(row: &Row) -> Result<Self, Error> {
        let kind = |column| {
            let text = row.text(column)?;
            Kind::from_media_type(text).ok_or(Error::Column(column))
        };
        let state = State::read(row.text(1)?).ok_or(Error::Column(1))?;
        let thumbnail = match state {
            State::Ready => Some((kind(9)?, row.text(10)?.to_owned())),
            State::Pending | State::Failed => None,
        };
        Ok(Self {
            id: row.text(0)?.to_owned(),
            state,
            kind: kind(2)?,
            size: row.integer(3)?,
            width: row.integer(4)?,
            height: row.integer(5)?,
            sha256: row.text(6)?.to_owned(),
            created_at: row.integer(7)?,
            queued_at: row.integer(8)?,
            thumbnail,
        })
    }

    /// Whether the event for its thumbnail may have been lost.
    pub(crate) fn is_overdue(&self, now: i64) -> bool {
        self.state == State::Pending && self.queued_at <= now - REQUEUE_AFTER_MILLIS
    }
}

#[cfg(test)]
mod tests {
    use catalog::UPLOADING;
    use database::Value;
    use rusqlite::Connection;
    use rusqlite::types::ValueRef;

    use super::*;

    /// The database as the host runs it.
    struct Sqlite(Connection);

    impl Sqlite {
        fn new() -> Self {
            let connection = Connection::open_in_memory().unwrap();
            for statement in catalog::SCHEMA {
                connection.execute(statement, []).unwrap();
            }
            Self(connection)
        }

        fn run(&self, statement: &str, values: &[Value]) -> Vec<Row> {
            let mut prepared = self.0.prepare(statement).unwrap();
            let columns = prepared.column_count();
            assert_eq!(prepared.parameter_count(), values.len(), "{statement}");
            for (index, value) in values.iter().enumerate() {
                match value {
                    Value::Null => prepared.raw_bind_parameter(index + 1, None::<i64>),
                    Value::Integer(number) => prepared.raw_bind_parameter(index + 1, number),
                    Value::Text(text) => prepared.raw_bind_parameter(index + 1, text),
                }
                .unwrap();
            }
            let mut rows = prepared.raw_query();
            let mut read = Vec::new();
            while let Some(row) = rows.next().unwrap() {
                let value = |column| match row.get_ref(column).unwrap() {
                    ValueRef::Integer(number) => Some(Value::Integer(number)),
                    ValueRef::Text(text) => {
                        Some(Value::Text(String::from_utf8(text.to_vec()).unwrap()))
                    }
                    _ => None,
                };
                read.push(Row::new((0..columns).map(value).collect()));
            }
            read
        }

        fn insert(&self, id: &str, owner: &str, now: i64, most: i64) -> bool {
            let values = [
                id.into(),
                owner.into(),
                "image/png".into(),
                10.into(),
                20.into(),
                30.into(),
                "abc".into(),
                now.into(),
                most.into(),
            ];
            !self.run(INSERT, &values).is_empty()
        }

        /// An image that is stored.
        fn image(&self, id: &str, owner: &str, now: i64) {
            assert!(self.insert(id, owner, now, 100));
            assert_eq!(self.run(STORED, &[id.into(), now.into()]).len(), 1);
        }

        fn find(&self, id: &str) -> Option<Record> {
            let rows = self.run(FIND, &[id.into()]);
            rows.first().map(|row| Record::read(row).unwrap())
        }

        fn ids(&self, statement: &str, values: &[Value]) -> Vec<String> {
            let rows = self.run(statement, values);
            rows.iter()
                .map(|row| row.text(0).unwrap().to_owned())
                .collect()
        }
    }

    #[test]
    fn the_words_in_statements_are_the_catalog_s() {
        for (word, statement) in [
            (UPLOADING, INSERT),
            (UPLOADING, STORED),
            (PENDING, STORED),
            (READY, SUCCEED),
            (FAILED, FAIL),
        ] {
            assert!(statement.contains(&format!("'{word}'")), "{statement}");
        }
    }

    #[test]
    fn an_image_is_shown_when_it_is_stored() {
        let db = Sqlite::new();
        assert!(db.insert("a", "ann", 1000, 1));
        assert_eq!(db.find("a"), None);
        assert_eq!(db.run(STORED, &["a".into(), 1001.into()]).len(), 1);
        assert_eq!(db.run(STORED, &["a".into(), 1002.into()]).len(), 0);
        let record = db.find("a").unwrap();
        assert_eq!(record.state, State::Pending);
        assert_eq!(record.kind, Kind::Png);
        assert_eq!((record.width, record.height, record.size), (20, 30, 10));
        assert_eq!((record.created_at, record.queued_at), (1000, 1001));
    }

    #[test]
    fn an_owner_has_a_limit() {
        let db = Sqlite::new();
        assert!(db.insert("a", "ann", 1, 2));
        assert!(db.insert("b", "ann", 1, 2));
        assert!(!db.insert("c", "ann", 1, 2));
        assert!(db.insert("c", "bob", 1, 2));
    }

    #[test]
    fn pages_follow_each_other_from_the_newest() {
        let db = Sqlite::new();
        for (id, owner, now) in [
            ("a", "ann", 1),
            ("b", "ann", 3),
            ("c", "ann", 2),
            ("d", "ann", 2),
            ("e", "bob", 2),
        ] {
            db.image(id, owner, now);
        }
        assert!(db.insert("f", "ann", 9, 100));
        let page = |(time, id): (i64, &str), limit: i64| {
            db.ids(LIST, &["ann".into(), time.into(), id.into(), limit.into()])
        };
        assert_eq!(page(FIRST, 9), ["b", "d", "c", "a"]);
        assert_eq!(page(FIRST, 2), ["b", "d"]);
        assert_eq!(page((2, "d"), 2), ["c", "a"]);
        assert_eq!(page((1, "a"), 2), Vec::<String>::new());
        let cursor = |owner: &str| db.run(CURSOR, &["d".into(), owner.into()]);
        assert_eq!(cursor("ann")[0].integer(0), Ok(2));
        assert!(cursor("bob").is_empty());
    }

    #[test]
    fn a_thumbnail_has_one_outcome() {
        let db = Sqlite::new();
        db.image("a", "ann", 1);
        for attempts in 1..=2 {
            assert_eq!(db.run(BEGIN, &["a".into()])[0].integer(0), Ok(attempts));
        }
        assert_eq!(db.run(PUT_BACK, &["a".into()]).len(), 1);
        assert_eq!(db.run(BEGIN, &["a".into()])[0].integer(0), Ok(2));
        let values = ["a".into(), "image/jpeg".into(), "def".into()];
        assert_eq!(db.run(SUCCEED, &values).len(), 1);
        assert_eq!(db.run(SUCCEED, &values).len(), 0);
        assert_eq!(db.run(FAIL, &["a".into()]).len(), 0);
        assert_eq!(db.run(BEGIN, &["a".into()]).len(), 0);
        let record = db.find("a").unwrap();
        assert_eq!(record.thumbnail, Some((Kind::Jpeg, "def".to_owned())));
        db.image("b", "ann", 1);
        assert_eq!(db.run(FAIL, &["b".into()]).len(), 1);
        assert_eq!(db.find("b").unwrap().state, State::Failed);
        let values = ["b".into(), "image/png".into(), "abc".into()];
        assert_eq!(db.run(SUCCEED, &values).len(), 1);
        assert_eq!(db.find("b").unwrap().state, State::Ready);
    }

    #[test]
    fn an_overdue_event_is_sent_again_once_a_minute() {
        let db = Sqlite::new();
        db.image("a", "ann", 1000);
        let overdue = |now: i64| db.find("a").unwrap().is_overdue(now);
        assert!(!overdue(60_999));
        assert!(overdue(61_000));
        let requeue = |now: i64| {
            let values = ["a".into(), now.into(), (now - REQUEUE_AFTER_MILLIS).into()];
            db.run(REQUEUE, &values).len()
        };
        assert_eq!(requeue(61_000), 1);
        assert_eq!(requeue(61_000), 0);
        assert!(!overdue(61_000));
    }

    #[test]
    fn a_deletion_hides_first_and_can_be_repeated() {
        let db = Sqlite::new();
        db.image("a", "ann", 1);
        let hide = |owner: &str| db.run(HIDE, &["a".into(), owner.into()]).len();
        assert_eq!(db.run(DELETE, &["a".into()]).len(), 0);
        assert!(db.find("a").is_some(), "only a hidden row is deleted");
        assert_eq!(hide("bob"), 0);
        assert_eq!(hide("ann"), 1);
        assert_eq!(db.find("a"), None);
        assert_eq!(hide("ann"), 1);
        assert_eq!(db.ids(STALE, &["ann".into(), 2.into()]), ["a"]);
        db.run(DELETE_VIEWS, &["a".into()]);
        db.run(DELETE, &["a".into()]);
        assert_eq!(hide("ann"), 0);
    }

    #[test]
    fn only_old_unfinished_rows_are_stale() {
        let db = Sqlite::new();
        db.image("a", "ann", 1);
        assert!(db.insert("b", "ann", 1, 9));
        assert!(db.insert("c", "ann", 5, 9));
        assert!(db.insert("d", "bob", 1, 9));
        assert_eq!(db.ids(STALE, &["ann".into(), 5.into()]), ["b"]);
        assert!(db.insert("e", "ann", 3, 9));
        assert!(db.insert("f", "ann", 2, 9));
        assert_eq!(db.ids(STALE, &["ann".into(), 5.into()]), ["b", "f"]);
    }

    #[test]
    fn views_are_counted_by_hour() {
        let db = Sqlite::new();
        db.image("a", "ann", 1);
        assert!(db.insert("hidden", "ann", 1, 9));
        for (id, hour) in [("a", 7), ("a", 7), ("a", 8), ("hidden", 7), ("gone", 7)] {
            db.run(COUNT_VIEW, &[id.into(), hour.into()]);
        }
        let rows = db.run("SELECT hour, count, image_id FROM views ORDER BY hour", &[]);
        let counts: Vec<_> = rows
            .iter()
            .map(|row| (row.integer(0).unwrap(), row.integer(1).unwrap()))
            .collect();
        assert_eq!(counts, [(7, 2), (8, 1)]);
    }
}
