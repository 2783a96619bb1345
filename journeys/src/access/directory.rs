//! Names, passwords, tokens and codes → who that is. In a SQLite file of its own.
//!
//! *Owns* users, invitations, sessions, tokens. Secrets are kept as hashes only: passwords by Argon2id, what is random
//! itself by SHA-256.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, OptionalExtension};
use sha2::{Digest, Sha256};

use super::password;
use super::role::Role;
use crate::digest::hex;
use crate::facts::At;
use crate::private;
use crate::store::set_pragmas;
use crate::time::{DAY, HOUR, MINUTE};

/// A session that is not used for so long ends, and after so long in any case.
const IDLE: i64 = 30 * MINUTE;
const LONGEST: i64 = 12 * HOUR;
/// Who signed on at the identity provider is known by name for so long after the last time.
const REMEMBERED: i64 = 400 * DAY;
/// An invitation that is not used.
const INVITATION: i64 = DAY;
/// One person's sessions; the oldest ends when there are more.
const MAX_SESSIONS: i64 = 20;
/// How a token begins, so that scanners for leaked secrets find it.
const TOKEN_PREFIX: &str = "spoor_";

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS users(
        name TEXT PRIMARY KEY, role TEXT NOT NULL, hash TEXT, disabled INTEGER NOT NULL DEFAULT 0, created_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS invitations(code BLOB PRIMARY KEY, name TEXT NOT NULL, expires_at INTEGER NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS sessions(
        hash BLOB PRIMARY KEY, name TEXT NOT NULL, form_token TEXT NOT NULL, began_at INTEGER NOT NULL, seen_at INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS signed_on(name TEXT PRIMARY KEY, role TEXT NOT NULL, at INTEGER NOT NULL) STRICT;
    CREATE TABLE IF NOT EXISTS tokens(
        hash BLOB PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL, expires_at INTEGER NOT NULL, created_at INTEGER NOT NULL
    ) STRICT;
";

/// Why the directory could not answer.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error("the directory of users cannot be used")]
    Sqlite(#[from] rusqlite::Error),
    #[error("the directory of users cannot be made")]
    File(#[from] std::io::Error),
    #[error("`{0}` is no name: 1 to 64 letters, digits, dots, lines and at signs")]
    Name(String),
    #[error("there is no user `{0}`")]
    NoUser(String),
    #[error("the kernel gave no random bytes")]
    Random,
    #[error("the copy's path is no text")]
    Path,
}

/// Somebody with a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) form_token: String,
    /// The beginning of the session's hash: names it in the log without being of use to anybody.
    pub(super) short: String,
    /// Begun at the house's identity provider, with the role of that moment.
    pub(super) signed_on: bool,
}

/// Who sends a request with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Person,
    /// An open page that keeps itself up to date.
    Page,
}

/// A user as an administrator sees one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    pub name: String,
    pub role: Role,
    pub disabled: bool,
    /// An invitation was accepted.
    pub has_password: bool,
}

/// Users, sessions and tokens.
#[derive(Debug)]
pub struct Directory(Mutex<Connection>);

impl Directory {
    pub fn open(file: &Path) -> Result<Self, DirectoryError> {
        private::file(file)?;
        let db = Connection::open(file)?;
        db.busy_timeout(std::time::Duration::from_secs(10))?;
        set_pragmas(&db, &[("journal_mode", "wal"), ("synchronous", "full"), ("secure_delete", "on")])?;
        db.execute_batch(TABLES)?;
        // The role of a session that the identity provider vouches for; others have that of their user.
        let has_role =
            db.prepare("SELECT 1 FROM pragma_table_info('sessions') WHERE name = 'role'")?.exists([])?;
        if !has_role {
            db.execute_batch("ALTER TABLE sessions ADD COLUMN role TEXT")?;
        }
        Ok(Self(Mutex::new(db)))
    }

    /// Copies the file as it is at one moment.
    pub fn backup(&self, to: &Path) -> Result<(), DirectoryError> {
        let to = to.to_str().ok_or(DirectoryError::Path)?;
        self.db().execute("VACUUM INTO ?1", [to])?;
        Ok(())
    }

    fn db(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes or changes a user; the code with which they set a password, once, within a day. Their sessions end.
    pub fn invite(&self, name: &str, role: Role, now: At) -> Result<String, DirectoryError> {
        if !is_name(name) {
            return Err(DirectoryError::Name(name.chars().take(80).collect()));
        }
        let code = secret()?;
        let mut db = self.db();
        let transaction = db.transaction()?;
        transaction.execute(
            "INSERT INTO users(name, role, created_at) VALUES (?1, ?2, ?3)
             ON CONFLICT DO UPDATE SET role = excluded.role, disabled = 0",
            (name, role.name(), now.0),
        )?;
        transaction.execute("DELETE FROM invitations WHERE name = ?1", [name])?;
        transaction.execute("DELETE FROM sessions WHERE name = ?1", [name])?;
        let until = now.after(INVITATION).0;
        transaction.execute("INSERT INTO invitations VALUES (?1, ?2, ?3)", (digest(&code), name, until))?;
        transaction.commit()?;
        Ok(code)
    }

    /// Sets the password of who was invited with this code. `None`: no such code, or used, or too late.
    pub(super) fn accept(
        &self,
        code: &str,
        password: &str,
        now: At,
    ) -> Result<Option<String>, DirectoryError> {
        let hash = password::hash(password).ok_or(DirectoryError::Random)?;
        let mut db = self.db();
        let transaction = db.transaction()?;
        let name: Option<String> = transaction
            .query_row(
                "DELETE FROM invitations WHERE code = ?1 AND expires_at > ?2 RETURNING name",
                (digest(code), now.0),
                |row| row.get(0),
            )
            .optional()?;
        if let Some(name) = &name {
            transaction.execute("UPDATE users SET hash = ?2 WHERE name = ?1", (name, hash))?;
        }
        transaction.commit()?;
        Ok(name)
    }

    /// Whether an invitation waits for this code.
    pub(super) fn is_invited(&self, code: &str, now: At) -> Result<bool, DirectoryError> {
        let found = self.db().query_row(
            "SELECT 1 FROM invitations WHERE code = ?1 AND expires_at > ?2",
            (digest(code), now.0),
            |_| Ok(()),
        );
        Ok(found.optional()?.is_some())
    }

    /// Whether name and password are those of a user who is not disabled. Takes a tenth of a second either way.
    pub(super) fn knows(&self, name: &str, password: &str) -> Result<bool, DirectoryError> {
        let hash: Option<Option<String>> = self
            .db()
            .query_row("SELECT hash FROM users WHERE name = ?1 AND disabled = 0", [name], |row| row.get(0))
            .optional()?;
        // Without the connection: others need it meanwhile.
        Ok(password::fits(password, hash.flatten().as_deref()))
    }

    /// Begins a session: what the browser keeps.
    pub(super) fn begin(&self, name: &str, now: At) -> Result<String, DirectoryError> {
        self.begin_with(name, None, now)
    }

    /// Begins a session of somebody whom the identity provider vouches for; their role is of this session only, and a user
    /// of the same name keeps theirs. `None`: whoever has that name is disabled here.
    pub(super) fn begin_signed_on(
        &self,
        name: &str,
        role: Role,
        now: At,
    ) -> Result<Option<String>, DirectoryError> {
        let is_disabled = {
            let db = self.db();
            db.execute("DELETE FROM signed_on WHERE at < ?1", [now.0 - REMEMBERED])?;
            db.execute(
                "INSERT INTO signed_on VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET role = excluded.role, at = excluded.at",
                (name, role.name(), now.0),
            )?;
            db.prepare("SELECT 1 FROM users WHERE name = ?1 AND disabled = 1")?.exists([name])?
        };
        if is_disabled { Ok(None) } else { self.begin_with(name, Some(role), now).map(Some) }
    }

    fn begin_with(&self, name: &str, role: Option<Role>, now: At) -> Result<String, DirectoryError> {
        let (session, form_token) = (secret()?, secret()?);
        let db = self.db();
        db.execute(
            "DELETE FROM sessions WHERE seen_at < ?1 OR began_at < ?2",
            (now.0 - IDLE, now.0 - LONGEST),
        )?;
        db.execute(
            "DELETE FROM sessions WHERE name = ?1 AND hash NOT IN
               (SELECT hash FROM sessions WHERE name = ?1 ORDER BY seen_at DESC LIMIT ?2)",
            (name, MAX_SESSIONS - 1),
        )?;
        db.execute(
            "INSERT INTO sessions(hash, name, form_token, began_at, seen_at, role) VALUES (?1, ?2, ?3, ?4, ?4, ?5)",
            (digest(&session), name, form_token, now.0, role.map(Role::name)),
        )?;
        Ok(session)
    }

    /// Who a session is of, if it goes on. What a person does prolongs it, what their page does by itself does not.
    pub(super) fn session(&self, session: &str, by: By, now: At) -> Result<Option<Session>, DirectoryError> {
        let hash = digest(session);
        let db = self.db();
        let found: Option<(String, String, String, i64, bool)> = db
            .prepare_cached(
                "SELECT sessions.name, coalesce(sessions.role, users.role), form_token, seen_at, sessions.role IS NOT NULL
                 FROM sessions LEFT JOIN users ON users.name = sessions.name
                 WHERE sessions.hash = ?1 AND seen_at > ?2 AND began_at > ?3 AND coalesce(disabled, 0) = 0
                   AND coalesce(sessions.role, users.role) IS NOT NULL",
            )?
            .query_row((hash, now.0 - IDLE, now.0 - LONGEST), |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
            })
            .optional()?;
        let Some((name, role, form_token, seen_at, signed_on)) = found else { return Ok(None) };
        // Not with every request: a page is several.
        if by == By::Person && now.since(At(seen_at)) > MINUTE {
            db.execute("UPDATE sessions SET seen_at = ?2 WHERE hash = ?1", (hash, now.0))?;
        }
        let short = hex(hash.get(..4).unwrap_or_default());
        Ok(Role::from_name(&role).map(|role| Session { name, role, form_token, short, signed_on }))
    }

    pub(super) fn end(&self, session: &str) -> Result<(), DirectoryError> {
        self.db().execute("DELETE FROM sessions WHERE hash = ?1", [digest(session)])?;
        Ok(())
    }

    /// A new token for a program; shown once.
    pub fn new_token(&self, name: &str, role: Role, days: u32, now: At) -> Result<String, DirectoryError> {
        if !is_name(name) {
            return Err(DirectoryError::Name(name.chars().take(80).collect()));
        }
        let token = format!("{TOKEN_PREFIX}{}", secret()?);
        let until = now.after(i64::from(days).saturating_mul(DAY)).0;
        self.db().execute(
            "INSERT INTO tokens VALUES (?1, ?2, ?3, ?4, ?5)",
            (digest(&token), name, role.name(), until, now.0),
        )?;
        Ok(token)
    }

    /// Name and role of a token.
    pub(super) fn token(&self, token: &str, now: At) -> Result<Option<(String, Role)>, DirectoryError> {
        let found: Option<(String, String)> = self
            .db()
            .prepare_cached("SELECT name, role FROM tokens WHERE hash = ?1 AND expires_at > ?2")?
            .query_row((digest(token), now.0), |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        Ok(found.and_then(|(name, role)| Some((name, Role::from_name(&role)?))))
    }

    /// Ends all sessions, tokens and invitations of a name; the user may not sign in again until invited, nor may whoever
    /// signed on with it at the identity provider.
    pub fn disable(&self, name: &str) -> Result<(), DirectoryError> {
        let mut db = self.db();
        let transaction = db.transaction()?;
        let users =
            transaction.execute("UPDATE users SET disabled = 1, hash = NULL WHERE name = ?1", [name])?;
        // Who is no user here becomes one who may do nothing.
        let signed_on = transaction.execute(
            "INSERT INTO users(name, role, disabled, created_at) SELECT name, role, 1, at FROM signed_on WHERE name = ?1
             ON CONFLICT DO NOTHING",
            [name],
        )?;
        let tokens = transaction.execute("DELETE FROM tokens WHERE name = ?1", [name])?;
        transaction.execute("DELETE FROM sessions WHERE name = ?1", [name])?;
        transaction.execute("DELETE FROM invitations WHERE name = ?1", [name])?;
        transaction.commit()?;
        if users + tokens + signed_on == 0 { Err(DirectoryError::NoUser(name.to_owned())) } else { Ok(()) }
    }

    pub fn users(&self) -> Result<Vec<User>, DirectoryError> {
        let db = self.db();
        let mut statement =
            db.prepare("SELECT name, role, disabled, hash IS NOT NULL FROM users ORDER BY name")?;
        let users = statement.query_map([], |row| {
            let role: String = row.get(1)?;
            let role = Role::from_name(&role).unwrap_or(Role::Auditor);
            Ok(User { name: row.get(0)?, role, disabled: row.get(2)?, has_password: row.get(3)? })
        })?;
        Ok(users.collect::<Result<_, _>>()?)
    }

    /// Nobody can sign in yet.
    pub(super) fn is_empty(&self) -> Result<bool, DirectoryError> {
        let found = self.db().query_row("SELECT 1 FROM users WHERE hash IS NOT NULL LIMIT 1", [], |_| Ok(()));
        Ok(found.optional()?.is_none())
    }
}

/// Whether a text can be a user's name. What cannot is nobody's, and is kept nowhere.
pub(super) fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '@');
    (1..=64).contains(&name.chars().count()) && name.chars().all(fits)
}

/// 256 random bits in hexadecimal digits.
pub(super) fn secret() -> Result<String, DirectoryError> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|_| DirectoryError::Random)?;
    Ok(hex(&bytes))
}

/// What is random already needs no slow hash.
fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: At = At(1_000 * DAY);

    fn directory() -> (tempfile::TempDir, Directory) {
        let folder = tempfile::tempdir().expect("a folder");
        let directory = Directory::open(&folder.path().join("access.db")).expect("a directory");
        (folder, directory)
    }

    #[test]
    fn an_invitation_is_good_once_and_for_a_day() {
        let (_folder, directory) = directory();
        assert!(directory.is_empty().expect("asked"));
        let code = directory.invite("anna", Role::Admin, NOW).expect("invited");
        assert!(!directory.knows("anna", "a long password").expect("asked"), "no password yet");
        assert_eq!(directory.accept("other code", "a long password", NOW).expect("asked"), None);
        assert_eq!(
            directory.accept(&code, "a long password", NOW.after(DAY)).expect("asked"),
            None,
            "too late"
        );
        assert_eq!(directory.accept(&code, "a long password", NOW).expect("asked").as_deref(), Some("anna"));
        assert_eq!(directory.accept(&code, "another password", NOW).expect("asked"), None, "used");
        assert!(directory.knows("anna", "a long password").expect("asked"));
        assert!(!directory.knows("anna", "another password").expect("asked"));
        assert!(!directory.knows("boris", "a long password").expect("asked"));
        assert!(!directory.is_empty().expect("asked"));
    }

    #[test]
    fn a_session_ends_when_idle_when_old_when_ended_and_when_its_user_does() {
        let (_folder, directory) = directory();
        directory.invite("anna", Role::Support, NOW).expect("invited");
        let begin = || directory.begin("anna", NOW).expect("begun");
        let goes_on =
            |session: &str, at: At| directory.session(session, By::Person, at).expect("asked").is_some();
        let session = begin();
        assert_eq!(
            directory.session(&session, By::Person, NOW).expect("asked").map(|one| one.role),
            Some(Role::Support)
        );
        assert!(!goes_on("forged", NOW));
        assert!(!goes_on(&session, NOW.after(IDLE)), "idle");
        let mut at = NOW;
        while at < NOW.after(LONGEST) {
            assert!(goes_on(&session, at));
            at = at.after(IDLE / 2);
        }
        assert!(!goes_on(&session, NOW.after(LONGEST)), "too old, though in use");
        let (page, mut at) = (begin(), NOW);
        while at < NOW.after(IDLE - MINUTE) {
            assert!(directory.session(&page, By::Page, at).expect("asked").is_some());
            at = at.after(5 * MINUTE);
        }
        assert!(!goes_on(&page, NOW.after(IDLE)), "a page alone is nobody");
        let (ended, other) = (begin(), begin());
        directory.end(&ended).expect("ended");
        assert!(!goes_on(&ended, NOW) && goes_on(&other, NOW));
        directory.disable("anna").expect("disabled");
        assert!(!goes_on(&other, NOW));
        assert!(matches!(directory.disable("nobody"), Err(DirectoryError::NoUser(_))));
    }

    #[test]
    fn tokens_have_a_role_and_an_end() {
        let (_folder, directory) = directory();
        let token = directory.new_token("grafana", Role::Developer, 90, NOW).expect("made");
        assert!(token.starts_with("spoor_"));
        assert_eq!(
            directory.token(&token, NOW).expect("asked"),
            Some(("grafana".to_owned(), Role::Developer))
        );
        assert_eq!(directory.token(&token, NOW.after(90 * DAY)).expect("asked"), None);
        assert_eq!(directory.token("spoor_forged", NOW).expect("asked"), None);
        directory.disable("grafana").expect("disabled");
        assert_eq!(directory.token(&token, NOW).expect("asked"), None);
    }

    #[test]
    fn secrets_are_not_in_the_file() {
        let (folder, directory) = directory();
        let code = directory.invite("anna", Role::Support, NOW).expect("invited");
        let token = directory.new_token("grafana", Role::Developer, 90, NOW).expect("made");
        let session = directory.begin("anna", NOW).expect("begun");
        for file in std::fs::read_dir(folder.path()).expect("files").flatten() {
            let bytes = std::fs::read(file.path()).expect("a file");
            for secret in [&code, &token, &session] {
                assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()));
            }
        }
    }
}
