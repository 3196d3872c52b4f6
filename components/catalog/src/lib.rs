//! The SQL database that images and recommendations share: its label, its tables
//! and the words in them. `images` writes the tables `images` and `views`,
//! `recommend` writes `trending` and prunes `views`. Statements are with those
//! who run them.

/// The label that the manifest grants, for `database::Database::open`.
pub const LABEL: &str = "catalog";

/// The tables, in the SQL of SQLite and PostgreSQL. Each statement bears being
/// run twice.
///
/// Times (`created_at`, `queued_at`) are milliseconds since 1970, `hour` is hours
/// since then ([`hour_of`]). `thumbnail_type` and `thumbnail_sha256` are empty
/// until the state is [`READY`]; `attempts` counts thumbnails that were begun and
/// not ended.
pub const SCHEMA: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS images (
        id TEXT NOT NULL PRIMARY KEY,
        owner TEXT NOT NULL,
        state TEXT NOT NULL,
        type TEXT NOT NULL,
        size BIGINT NOT NULL,
        width BIGINT NOT NULL,
        height BIGINT NOT NULL,
        sha256 TEXT NOT NULL,
        created_at BIGINT NOT NULL,
        queued_at BIGINT NOT NULL,
        attempts BIGINT NOT NULL,
        thumbnail_type TEXT NOT NULL,
        thumbnail_sha256 TEXT NOT NULL
    )",
    "CREATE INDEX IF NOT EXISTS images_by_owner ON images (owner, created_at, id)",
    "CREATE TABLE IF NOT EXISTS views (
        image_id TEXT NOT NULL,
        hour BIGINT NOT NULL,
        count BIGINT NOT NULL,
        PRIMARY KEY (image_id, hour)
    )",
    "CREATE INDEX IF NOT EXISTS views_by_hour ON views (hour)",
    "CREATE TABLE IF NOT EXISTS trending (
        generation BIGINT NOT NULL,
        rank BIGINT NOT NULL,
        image_id TEXT NOT NULL,
        views BIGINT NOT NULL,
        score BIGINT NOT NULL,
        PRIMARY KEY (generation, rank)
    )",
];

/// `images.state`: the content may not be stored yet, or is being deleted. Nobody
/// is shown such a row.
pub const UPLOADING: &str = "uploading";
/// `images.state`: stored; the thumbnail is yet to be made.
pub const PENDING: &str = "pending";
/// `images.state`: stored, and the thumbnail too.
pub const READY: &str = "ready";
/// `images.state`: stored, but no thumbnail can be made of it.
pub const FAILED: &str = "failed";

/// The hour that a time belongs to, as in `views.hour`.
pub fn hour_of(millis: i64) -> i64 {
    millis.div_euclid(3_600_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_begin_on_the_hour() {
        assert_eq!(hour_of(0), 0);
        assert_eq!(hour_of(3_599_999), 0);
        assert_eq!(hour_of(1_767_225_600_000), 490_896);
    }

    #[test]
    fn every_statement_bears_being_run_twice() {
        for statement in SCHEMA {
            assert!(statement.contains("IF NOT EXISTS"), "{statement}");
        }
    }
}
