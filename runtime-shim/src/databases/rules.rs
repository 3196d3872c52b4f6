//! What a guest's SQL may do. It is hostile until shown otherwise: it must not
//! reach another file, the process, or more memory and time than it is given.
//! Actions that are not listed here are refused.

use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, ffi};
use tokio_util::sync::CancellationToken;

use super::functions;

/// Bytes of one value, or of one row in a table.
pub(super) const MAX_VALUE_BYTES: i32 = 16 * 1024 * 1024;
const MAX_SQL_BYTES: i32 = 1024 * 1024;
/// With the size of a value, it bounds what one row of a result may hold.
const MAX_COLUMNS: i32 = 256;
/// Each level has values of its own.
const MAX_TRIGGER_DEPTH: i32 = 32;
/// `LIKE` takes quadratic time, and none of its steps can be interrupted.
const MAX_PATTERN_BYTES: i32 = 1024;
/// Instructions of SQLite's machine between two looks at whether to go on.
const STEPS: i32 = 100;
/// Bytes that SQLite has allocated in this process. Beyond it no guest's
/// statement goes on: a temporary table in memory has no other bound.
const MAX_MEMORY: i64 = 512 * 1024 * 1024;
/// Bytes beyond which SQLite gets none, whoever asks: some statements allocate
/// much before they can be interrupted.
const HARD_MEMORY_LIMIT: i64 = 1024 * 1024 * 1024;

/// PRAGMAs that only read, or change nothing but this connection or what the
/// guest has anyway: its own file's tables and header.
const PRAGMAS: &[&str] = &[
    "analysis_limit",
    "application_id",
    "case_sensitive_like",
    "collation_list",
    "compile_options",
    "data_version",
    "defer_foreign_keys",
    "foreign_key_check",
    "foreign_key_list",
    "foreign_keys",
    "freelist_count",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "legacy_alter_table",
    "max_page_count",
    "module_list",
    "optimize",
    "page_count",
    "pragma_list",
    "query_only",
    "quick_check",
    "recursive_triggers",
    "table_info",
    "table_list",
    "table_xinfo",
    "user_version",
];
/// PRAGMAs that may be asked for and not set: how the file is written is the
/// host's to decide, and so is how much memory is spent on it.
const READABLE_PRAGMAS: &[&str] = &[
    "auto_vacuum",
    "busy_timeout",
    "cache_size",
    "encoding",
    "journal_mode",
    "page_size",
    "schema_version",
    "synchronous",
];
/// Functions that reach code rather than data.
const REFUSED_FUNCTIONS: &[&str] = &["load_extension", "fts3_tokenizer"];

/// Puts the rules on a connection. What it runs is interrupted when `abandoned`
/// is cancelled. Unlike `sqlite3_interrupt`, that holds for a statement that has
/// not begun yet.
pub(super) fn apply(
    connection: &mut Connection,
    abandoned: CancellationToken,
) -> Result<(), rusqlite::Error> {
    for (limit, value) in [
        (Limit::SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, MAX_SQL_BYTES),
        (Limit::SQLITE_LIMIT_COLUMN, MAX_COLUMNS),
        (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, MAX_TRIGGER_DEPTH),
        (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, MAX_PATTERN_BYTES),
        (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    ] {
        connection.set_limit(limit, value)?;
    }
    // The schema and the tables behind virtual tables cannot be written as data.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    // Nor are they believed: another program may have written the file.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.progress_handler(
        STEPS,
        Some(move || abandoned.is_cancelled() || memory_used() > MAX_MEMORY),
    )?;
    functions::replace(connection)?;
    connection.authorizer(Some(authorize))
}

/// Keeps SQLite, and with it the process, within memory.
pub(super) fn limit_memory() {
    // SAFETY: it takes a number and sets one under SQLite's own mutex.
    #[allow(unsafe_code, reason = "rusqlite has no wrapper for it")]
    unsafe {
        ffi::sqlite3_hard_heap_limit64(HARD_MEMORY_LIMIT);
    }
}

fn memory_used() -> i64 {
    // SAFETY: it takes no argument and reads one counter under SQLite's own mutex.
    #[allow(unsafe_code, reason = "rusqlite has no wrapper for it")]
    unsafe {
        ffi::sqlite3_memory_used()
    }
}

/// Asked for each thing that a statement does, while it is compiled.
fn authorize(context: AuthContext<'_>) -> Authorization {
    let allowed = match context.action {
        AuthAction::Pragma {
            pragma_name,
            pragma_value,
        } => may_use_pragma(pragma_name, pragma_value),
        // A temporary file without a name, or memory: as on Spin, and VACUUM
        // needs the former. An expression instead of a literal has no name
        // here, and is refused with the unknown.
        AuthAction::Attach { filename } => matches!(filename, "" | ":memory:"),
        AuthAction::Function { function_name } => !is_among(function_name, REFUSED_FUNCTIONS),
        AuthAction::AlterTable { .. }
        | AuthAction::Analyze { .. }
        | AuthAction::CreateIndex { .. }
        | AuthAction::CreateTable { .. }
        | AuthAction::CreateTempIndex { .. }
        | AuthAction::CreateTempTable { .. }
        | AuthAction::CreateTempTrigger { .. }
        | AuthAction::CreateTempView { .. }
        | AuthAction::CreateTrigger { .. }
        | AuthAction::CreateView { .. }
        | AuthAction::CreateVtable { .. }
        | AuthAction::Delete { .. }
        | AuthAction::Detach { .. }
        | AuthAction::DropIndex { .. }
        | AuthAction::DropTable { .. }
        | AuthAction::DropTempIndex { .. }
        | AuthAction::DropTempTable { .. }
        | AuthAction::DropTempTrigger { .. }
        | AuthAction::DropTempView { .. }
        | AuthAction::DropTrigger { .. }
        | AuthAction::DropView { .. }
        | AuthAction::DropVtable { .. }
        | AuthAction::Insert { .. }
        | AuthAction::Read { .. }
        | AuthAction::Recursive
        | AuthAction::Reindex { .. }
        | AuthAction::Savepoint { .. }
        | AuthAction::Select
        | AuthAction::Transaction { .. }
        | AuthAction::Update { .. } => true,
        _ => false,
    };
    if allowed {
        Authorization::Allow
    } else {
        Authorization::Deny
    }
}

fn may_use_pragma(name: &str, value: Option<&str>) -> bool {
    let harmless = is_among(name, PRAGMAS);
    let reads = value.is_none() && is_among(name, READABLE_PRAGMAS);
    // Many programs ask for what the file has anyway.
    let no_change = name.eq_ignore_ascii_case("journal_mode")
        && value.is_some_and(|mode| mode.eq_ignore_ascii_case("wal"));
    harmless || reads || no_change
}

fn is_among(name: &str, names: &[&str]) -> bool {
    names.iter().any(|known| known.eq_ignore_ascii_case(name))
}
