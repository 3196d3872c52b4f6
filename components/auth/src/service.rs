//! The steps of each request, and of the sweep, on the database and the session
//! store. What is decided is decided in the modules beside it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use database::{Database, Row};
use reply::{Check, Reply};
use request::{Client, Head};
use spin_sdk::http::IncomingRequest;

use crate::accounts::{self, Account, LABEL, SCHEMA, SWEEP_ROWS, Statement};
use crate::attempts::{self, Attempt};
use crate::config::Config;
use crate::credentials::{AttemptedName, Credentials, FORM, Password, Username};
use crate::failure::Failure;
use crate::host::{Sessions, log, millis, random};
use crate::password::{self, Verdict};
use crate::policy;
use crate::routes::{self, Change};
use crate::session::{Session, Token};

/// The sweep stops here; the next one goes on.
const SWEEP_TIME: Duration = Duration::from_secs(30);
const SWEEP_PARTS: usize = 20;

/// Who changes something, and when.
struct Caller {
    client: Client,
    now: SystemTime,
}

/// Registers, logs in or logs out.
pub(crate) async fn change(
    change: Change,
    head: &Head,
    request: IncomingRequest,
) -> Result<Reply, Failure> {
    let config = Config::from_variables()?;
    if let Some(refusal) = request::refuse_forged(head, &config.public_origin) {
        return Ok(refusal);
    }
    let mut client = config.trusted_proxies.client(head);
    client.is_https |= config.public_origin.starts_with("https://");
    if change == Change::Logout {
        return logout(head, client.is_https);
    }
    let credentials = match request::read_json(head, request, FORM).await {
        Ok(credentials) => credentials,
        Err(refusal) => return Ok(refusal),
    };
    let caller = Caller {
        client,
        now: SystemTime::now(),
    };
    if change == Change::Register {
        register(&credentials, &caller, config.registrations_per_hour)
    } else {
        login(head, &credentials, &caller, config.session_lifetime)
    }
}

fn register(
    credentials: &Credentials,
    caller: &Caller,
    limit_per_hour: i64,
) -> Result<Reply, Failure> {
    let username = match Username::parse(&credentials.username) {
        Ok(username) => username,
        Err(bad) => return Ok(Reply::problem(422, &bad.to_string())),
    };
    if let Err(weak) = policy::check(&credentials.password, &username) {
        return Ok(Reply::problem(422, &weak.to_string()));
    }
    let (database, now) = (accounts()?, millis(caller.now));
    let network = caller.client.network();
    let taken = run(
        &database,
        &attempts::take_registration(&network, limit_per_hour, now),
    )?;
    if taken.is_empty() {
        let rows = run(&database, &attempts::registrations_end(&network))?;
        let until = rows.first().map_or(Ok(now), |row| row.integer(0))?;
        return Ok(attempts::too_many_registrations(until, now));
    }
    let hash = password::hash(&credentials.password, random()?)?;
    let new = run(&database, &accounts::register(username.text(), &hash, now))?;
    Ok(routes::registered(username.text(), !new.is_empty()))
}

fn login(
    head: &Head,
    credentials: &Credentials,
    caller: &Caller,
    lifetime: Duration,
) -> Result<Reply, Failure> {
    let (database, now) = (accounts()?, millis(caller.now));
    let name = AttemptedName::of(&credentials.username);
    let network = caller.client.network();
    let known = run(&database, &accounts::is_known(name.text(), &network, now))?;
    let attempt = Attempt::new(&name, &network, !known.is_empty());
    if let Some(refusal) = refuse_locked(&database, &attempt, now)? {
        return Ok(refusal);
    }
    let rows = run(&database, &accounts::account(name.text()))?;
    let account = rows.first().map(Account::try_from).transpose()?;
    let stored = account.as_ref().map(|account| account.password.as_str());
    let verdict = password::verify(&credentials.password, stored)?;
    let (Some(account), Verdict::Right { is_outdated }) = (account, verdict) else {
        return Ok(routes::wrong());
    };
    run(&database, &attempt.succeeded())?;
    run(&database, &accounts::know(name.text(), &network, now))?;
    if is_outdated {
        renew(&database, name.text(), &account, &credentials.password)?;
    }
    let sessions = Sessions::open()?;
    let created_at = UNIX_EPOCH + Duration::from_millis(account.created_at.unsigned_abs());
    let session = Session::new(name.text(), created_at, caller.now + lifetime);
    if let Some(former) = Token::of_cookie(head) {
        end(&sessions, &former)?;
    }
    let token = start(&database, &sessions, &session, caller.now, lifetime)?;
    let is_https = caller.client.is_https;
    Ok(routes::logged_in(&token, &session, lifetime, is_https))
}

/// Counts the attempt as a failure, or gives the refusal.
fn refuse_locked(
    database: &Database,
    attempt: &Attempt,
    now: i64,
) -> Result<Option<Reply>, Failure> {
    let locked_until = || -> Result<i64, Failure> {
        let rows = run(database, &attempt.locked_until())?;
        Ok(rows.first().map_or(Ok(0), |row| row.integer(0))?)
    };
    let until = locked_until()?;
    if until > now {
        return Ok(Some(attempts::locked(until, now)));
    }
    let taken = run(database, &attempt.take(now))?;
    if taken.len() == attempt.counts() {
        return Ok(None);
    }
    // Another attempt was faster, and set a lock.
    let keys: Result<Vec<_>, _> = taken.iter().map(|row| row.text(0)).collect();
    let keys = keys?;
    if !keys.is_empty() {
        run(database, &attempts::give_back(keys.into_iter()))?;
    }
    Ok(Some(attempts::locked(locked_until()?, now)))
}

/// Stores the password by today's parameters.
fn renew(
    database: &Database,
    username: &str,
    account: &Account,
    password: &Password,
) -> Result<(), Failure> {
    let hash = password::hash(password, random()?)?;
    let replace = accounts::replace_password(username, &account.password, &hash);
    run(database, &replace).map(drop)
}

fn logout(head: &Head, is_https: bool) -> Result<Reply, Failure> {
    if let Some(token) = Token::of(head) {
        end(&Sessions::open()?, &token)?;
    }
    Ok(routes::logged_out(is_https))
}

/// Whose session it is.
pub(crate) fn profile(head: &Head) -> Result<Reply, Failure> {
    let Some(token) = Token::of(head) else {
        return Ok(routes::profile(None));
    };
    let document = Sessions::open()?.load(&token.key())?;
    let session = document.and_then(|document| Session::valid(&document, SystemTime::now()));
    Ok(routes::profile(session.as_ref()))
}

/// The index row comes first: the sweep finds every entry of the store. The oldest
/// sessions of a name that has too many are ended.
fn start(
    database: &Database,
    sessions: &Sessions,
    session: &Session,
    now: SystemTime,
    lifetime: Duration,
) -> Result<Token, Failure> {
    let token = Token::new(random()?);
    let document =
        serde_json::to_vec(session).map_err(|error| Failure::Sessions(error.to_string()))?;
    let key = token.key();
    let (name, expires_at) = (session.username.as_str(), millis(now + lifetime));
    let note = accounts::note_session(&key, name, millis(now), expires_at);
    run(database, &note)?;
    sessions.store(&key, &document)?;
    for row in run(database, &accounts::surplus_sessions(name))? {
        let surplus = row.text(0)?;
        sessions.delete(surplus)?;
        run(database, &accounts::forget_session(surplus))?;
    }
    Ok(token)
}

/// The entry goes first: from then on the session is over. An index row that cannot
/// be deleted now is the sweep's.
fn end(sessions: &Sessions, token: &Token) -> Result<(), Failure> {
    let key = token.key();
    sessions.delete(&key)?;
    let forgotten = accounts().and_then(|database| run(&database, &accounts::forget_session(&key)));
    if let Err(failure) = forgotten {
        log(&failure);
    }
    Ok(())
}

/// Deletes expired sessions, and counts and networks that count no more. Bounded;
/// what is left, the next sweep takes.
pub(crate) fn sweep() -> Result<(), Failure> {
    let (database, sessions) = (accounts()?, Sessions::open()?);
    let (started, now) = (Instant::now(), millis(SystemTime::now()));
    let repeat = |part: &dyn Fn() -> Result<usize, Failure>| -> Result<(), Failure> {
        for _ in 0..SWEEP_PARTS {
            if part()? < SWEEP_ROWS || started.elapsed() > SWEEP_TIME {
                break;
            }
        }
        Ok(())
    };
    let delete = |statement: Statement| Ok(run(&database, &statement)?.len());
    repeat(&|| delete(attempts::sweep(now)))?;
    repeat(&|| delete(accounts::sweep_known(now)))?;
    repeat(&|| sweep_sessions(&database, &sessions, now))
}

fn sweep_sessions(database: &Database, sessions: &Sessions, now: i64) -> Result<usize, Failure> {
    let expired = run(database, &accounts::expired_sessions(now))?;
    for row in &expired {
        sessions.delete(row.text(0)?)?;
    }
    if let Some(last) = expired.last() {
        let forget = accounts::forget_sessions_to(last.text(0)?, last.integer(1)?);
        run(database, &forget)?;
    }
    Ok(expired.len())
}

/// Whether all that the component needs is there.
pub(crate) fn ready() -> Reply {
    let accounts = accounts().and_then(|database| Ok(database.ping()?));
    let sessions = Sessions::open().and_then(|sessions| sessions.ping());
    let settings = Config::from_variables().map_err(Failure::from);
    let check = |name, answer: Result<(), Failure>| {
        let answer = answer.map_err(|failure| {
            log(&failure);
            match failure {
                Failure::Setting(error) => error.to_string(),
                _ => "does not answer".to_owned(),
            }
        });
        Check::of(name, answer)
    };
    reply::ready(&[
        check("accounts", accounts),
        check("sessions", sessions),
        check("settings", settings.map(drop)),
    ])
}

fn accounts() -> Result<Database, Failure> {
    Ok(Database::open(LABEL, SCHEMA)?)
}

fn run(database: &Database, statement: &Statement) -> Result<Vec<Row>, Failure> {
    Ok(database.query(&statement.sql, &statement.values)?)
}
