//! Plain bytes ⇄ sealed bytes; numbers → blind tags.
//!
//! *Owns* the keys. A master key wraps a data key for each day and one for the index; the wrapped keys are files of their
//! own beside the store, so a backup of the store without them says nothing, and a day's key that is destroyed makes the
//! day unreadable in every copy there is.
//! *Spec*: XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03) with random nonces; HMAC-SHA-256 (RFC 2104).
//!
//! ```text
//! master ─┬─ wraps ─ index.key ─ HMAC ─▶ tag of a number: found without being readable
//!         └─ wraps ─ 20787.key ─ AEAD ─▶ rows last changed on that day
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

use crate::facts::Key;
use crate::{digest, private};

/// Length of every key.
pub const KEY_LEN: usize = digest::LEN;
const NONCE_LEN: usize = 24;
/// The word under which the access log's key is derived from the master key, where it has no file of its own, and the file.
const LOG: &str = "spoor access log";
const LOG_FILE: &str = "log.key";
const INDEX_FILE: &str = "index.key";
/// Bytes of a tag: enough that no two numbers of a house share one.
pub const TAG_LEN: usize = 16;

/// Why something could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("cannot {doing} {}", path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the master key must be {KEY_LEN} bytes, or {} hexadecimal digits: make one with `spoor-serve key new FILE`", 2 * KEY_LEN)]
    MasterLength,
    #[error("{} does not open: the master key is another one than the store was made with, or the file is damaged", .0.display())]
    WrongMaster(PathBuf),
    #[error(
        "the key of day {0} is gone: its rows were destroyed on purpose, or the folder `keys` was not restored"
    )]
    NoDayKey(i64),
    #[error("a sealed row does not open: it was changed, moved or damaged")]
    Forged,
    #[error("the kernel gave no random bytes: {0}")]
    Random(String),
}

/// A secret that is never shown.
#[derive(Clone)]
struct Secret([u8; KEY_LEN]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The master key, given by a file or another program.
#[derive(Clone, Debug)]
pub struct Master(Secret);

impl Master {
    /// A new one.
    pub fn generate() -> Result<Self, SealError> {
        random().map(Secret).map(Self)
    }

    /// 32 bytes, or 64 hexadecimal digits with white space around them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SealError> {
        if let Ok(key) = <[u8; KEY_LEN]>::try_from(bytes) {
            return Ok(Self(Secret(key)));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| SealError::MasterLength)?.trim();
        let key = digest::from_hex(text).and_then(|key| <[u8; KEY_LEN]>::try_from(key).ok());
        key.map(Secret).map(Self).ok_or(SealError::MasterLength)
    }

    /// A key for another purpose, from which this one cannot be found.
    pub fn derive(&self, purpose: &str) -> [u8; KEY_LEN] {
        digest::hmac(&self.0.0, &[purpose.as_bytes()])
    }

    /// As [`Self::from_bytes`] reads it.
    pub fn to_hex(&self) -> String {
        digest::hex(&self.0.0)
    }
}

/// Opens and seals files that are no rows.
#[derive(Debug)]
pub struct FileKey(Secret);

impl FileKey {
    /// Seals the content of a file, which opens under its own name only.
    pub fn seal(&self, name: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        encrypt(&self.0, &file_data(name), plain)
    }

    pub fn unseal(&self, name: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        decrypt(&self.0, &file_data(name), sealed)
    }
}

fn file_data(name: &str) -> Vec<u8> {
    [b"file ".as_slice(), name.as_bytes()].concat()
}

/// Opens and seals rows; makes tags.
#[derive(Debug)]
pub struct Keys {
    master: Master,
    index: Secret,
    folder: PathBuf,
    days: Mutex<BTreeMap<i64, Secret>>,
}

impl Keys {
    /// Opens the keys in a folder, which is made with its index key when it is not there.
    pub fn open(folder: &Path, master: Master) -> Result<Self, SealError> {
        private::folder(folder).map_err(failed("make the folder", folder))?;
        let path = folder.join(INDEX_FILE);
        let index = match read(&path)? {
            Some(wrapped) => unwrap(&master, &path, &wrapped)?,
            None => make(&master, &path)?,
        };
        Ok(Self { master, index, folder: folder.to_owned(), days: Mutex::default() })
    }

    /// Opens keys that are there.
    pub fn open_to_read(folder: &Path, master: Master) -> Result<Self, SealError> {
        let path = folder.join(INDEX_FILE);
        let wrapped = fs::read(&path).map_err(failed("read", &path))?;
        let index = unwrap(&master, &path, &wrapped)?;
        Ok(Self { master, index, folder: folder.to_owned(), days: Mutex::default() })
    }

    /// The key of the access log: its own, or, as long as the master key was never another one, one derived from it.
    pub fn log_key(folder: &Path, master: &Master) -> Result<[u8; KEY_LEN], SealError> {
        let path = folder.join(LOG_FILE);
        match read(&path)? {
            Some(wrapped) => unwrap(master, &path, &wrapped).map(|key| key.0),
            None => Ok(master.derive(LOG)),
        }
    }

    /// A key for files of one purpose, which is made if it is new.
    pub fn file_key(folder: &Path, master: &Master, purpose: &str) -> Result<FileKey, SealError> {
        let path = folder.join(format!("{purpose}.key"));
        let key = match read(&path)? {
            Some(wrapped) => unwrap(master, &path, &wrapped)?,
            None => make(master, &path)?,
        };
        Ok(FileKey(key))
    }

    /// Puts all keys of a folder under another master key; how many there are. Before anything is written, all of them must
    /// open under one of the two. Broken off, it goes on where it was when it is called again: each file is replaced at once,
    /// and what is under the new key stays.
    pub fn rotate(folder: &Path, old: &Master, new: &Master) -> Result<usize, SealError> {
        let index = folder.join(INDEX_FILE);
        let mut under_old = Vec::new();
        let mut count = 0;
        for entry in fs::read_dir(folder).map_err(failed("list", folder))? {
            let path = entry.map_err(failed("list", folder))?.path();
            if path.extension().is_none_or(|extension| extension != "key") {
                continue;
            }
            let wrapped = fs::read(&path).map_err(failed("read", &path))?;
            if unwrap(new, &path, &wrapped).is_err() {
                under_old.push((unwrap(old, &path, &wrapped)?, path));
            }
            count += 1;
        }
        let log = folder.join(LOG_FILE);
        // First: as long as no other key is under the new one, the old one is what the log's was derived from. Which key the
        // old one is, the index says, which every folder of keys has.
        if read(&log)?.is_none() {
            if !under_old.iter().any(|(_, path)| *path == index) {
                return Err(SealError::WrongMaster(index));
            }
            write(new, &log, &Secret(old.derive(LOG)))?;
            count += 1;
        }
        under_old.into_iter().try_for_each(|(key, path)| write(new, &path, &key))?;
        Ok(count)
    }

    /// By this a person is known who was forgotten.
    pub fn person_tag(&self, person: &str) -> [u8; TAG_LEN] {
        // No namespace of a number begins with the zero.
        self.tag_of(&[b"\0person\0", person.as_bytes()])
    }

    /// By this a number is found.
    pub fn tag(&self, key: &Key) -> [u8; TAG_LEN] {
        // No namespace has the zero: `a` + `bc` is not `ab` + `c`.
        self.tag_of(&[key.namespace.as_bytes(), &[0], key.value.as_bytes()])
    }

    /// By this a trace is found.
    pub fn trace_tag(&self, trace: &[u8; 16]) -> [u8; TAG_LEN] {
        self.tag_of(&[b"\0trace\0", trace])
    }

    fn tag_of(&self, parts: &[&[u8]]) -> [u8; TAG_LEN] {
        let full = digest::hmac(&self.index.0, parts);
        let mut tag = [0; TAG_LEN];
        tag.iter_mut().zip(full).for_each(|(to, from)| *to = from);
        tag
    }

    /// Seals a row under the key of a day, which is made if it is new.
    pub fn seal(&self, day: i64, row: i64, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        encrypt(&self.day(day, true)?, &row_data(day, row), plain)
    }

    pub fn unseal(&self, day: i64, row: i64, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        decrypt(&self.day(day, false)?, &row_data(day, row), sealed).ok_or(SealError::Forged)
    }

    /// Seals what is kept of an alert, which opens in its own row only.
    pub fn seal_alert(&self, day: i64, row: i64, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        encrypt(&self.day(day, true)?, &data_of("alerts", day, row), plain)
    }

    pub fn unseal_alert(&self, day: i64, row: i64, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        decrypt(&self.day(day, false)?, &data_of("alerts", day, row), sealed).ok_or(SealError::Forged)
    }

    /// By this others know an alert, from which nothing of it can be found.
    pub fn alert_tag(&self, id: i64) -> [u8; TAG_LEN] {
        self.tag_of(&[b"\0alert\0", &id.to_be_bytes()])
    }

    /// Destroys the keys of all days but these; how many it were.
    pub fn keep_days(&self, days: &[i64]) -> Result<usize, SealError> {
        let entries = fs::read_dir(&self.folder).map_err(failed("list", &self.folder))?;
        let mut destroyed = 0;
        for entry in entries.flatten() {
            let path = entry.path();
            let name =
                path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".key"));
            let Some(day) = name.and_then(|name| name.parse::<i64>().ok()) else { continue };
            if !days.contains(&day) {
                fs::remove_file(&path).map_err(failed("destroy", &path))?;
                self.days.lock().unwrap_or_else(PoisonError::into_inner).remove(&day);
                destroyed += 1;
            }
        }
        Ok(destroyed)
    }

    fn day(&self, day: i64, make_new: bool) -> Result<Secret, SealError> {
        let mut days = self.days.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = days.get(&day) {
            return Ok(key.clone());
        }
        let path = self.folder.join(format!("{day}.key"));
        let key = match read(&path)? {
            Some(wrapped) => unwrap(&self.master, &path, &wrapped)?,
            None if make_new => make(&self.master, &path)?,
            None => return Err(SealError::NoDayKey(day)),
        };
        days.insert(day, key.clone());
        Ok(key)
    }
}

/// What a sealed row is bound to: it opens in its own place only.
fn row_data(day: i64, row: i64) -> Vec<u8> {
    data_of("orders", day, row)
}

fn data_of(table: &str, day: i64, row: i64) -> Vec<u8> {
    [table.as_bytes(), &day.to_be_bytes(), &row.to_be_bytes()].concat()
}

fn encrypt(key: &Secret, bound_to: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
    let nonce: [u8; NONCE_LEN] = random()?;
    let cipher = XChaCha20Poly1305::new(&key.0.into());
    let sealed = cipher.encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: bound_to });
    let sealed = sealed.map_err(|_| SealError::Forged)?;
    Ok([nonce.as_slice(), &sealed].concat())
}

fn decrypt(key: &Secret, bound_to: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
    let cipher = XChaCha20Poly1305::new(&key.0.into());
    cipher.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: bound_to }).ok()
}

/// The name of the file goes into the seal: a key file under another name does not open.
fn wrap_data(path: &Path) -> Vec<u8> {
    [b"key ".as_slice(), path.file_name().unwrap_or_default().as_encoded_bytes()].concat()
}

fn unwrap(master: &Master, path: &Path, wrapped: &[u8]) -> Result<Secret, SealError> {
    let plain = decrypt(&master.0, &wrap_data(path), wrapped);
    let key = plain.and_then(|plain| <[u8; KEY_LEN]>::try_from(plain).ok());
    key.map(Secret).ok_or_else(|| SealError::WrongMaster(path.to_owned()))
}

/// A new key, on disk before it is used: rows sealed under a key that is gone are gone.
fn make(master: &Master, path: &Path) -> Result<Secret, SealError> {
    let key = Secret(random()?);
    write(master, path, &key)?;
    Ok(key)
}

/// Wraps a key into a file, which is whole or as it was.
fn write(master: &Master, path: &Path, key: &Secret) -> Result<(), SealError> {
    let wrapped = encrypt(&master.0, &wrap_data(path), &key.0)?;
    let new = path.with_extension("new");
    let write = || {
        let mut file = private::create(&new)?;
        file.write_all(&wrapped)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        // The name is on disk only when its folder is.
        path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
    };
    write().map_err(failed("write", path))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, SealError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read", path)(error)),
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> SealError {
    let path = path.to_owned();
    move |source| SealError::File { doing, path, source }
}

fn random<const N: usize>() -> Result<[u8; N], SealError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| SealError::Random(error.to_string()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path, master: &Master) -> Keys {
        Keys::open(folder, master.clone()).expect("keys")
    }

    #[test]
    fn a_row_opens_in_its_place_on_its_day_with_its_master_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let master = Master::generate().expect("a key");
        let sealed = open(folder.path(), &master).seal(5, 1, b"order 4711").expect("sealed");
        assert!(!sealed.windows(4).any(|bytes| bytes == b"4711"));
        // Another start of the program.
        let keys = open(folder.path(), &master);
        assert_eq!(keys.unseal(5, 1, &sealed).expect("opened"), b"order 4711");
        assert!(matches!(keys.unseal(5, 2, &sealed), Err(SealError::Forged)), "moved to another row");
        assert!(matches!(keys.unseal(6, 1, &sealed), Err(SealError::NoDayKey(6))));
        for at in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[at] ^= 1;
            assert!(matches!(keys.unseal(5, 1, &forged), Err(SealError::Forged)), "byte {at}");
            assert!(keys.unseal(5, 1, &sealed[..at]).is_err(), "cut at {at}");
        }
        let other = Keys::open(folder.path(), Master::generate().expect("a key"));
        assert!(matches!(other, Err(SealError::WrongMaster(_))));
    }

    #[test]
    fn a_destroyed_day_does_not_open() {
        let folder = tempfile::tempdir().expect("a folder");
        let master = Master::generate().expect("a key");
        let keys = open(folder.path(), &master);
        let (old, new) = (keys.seal(5, 1, b"old").expect("sealed"), keys.seal(6, 1, b"new").expect("sealed"));
        assert_eq!(keys.keep_days(&[6]).expect("destroyed"), 1);
        for keys in [&keys, &open(folder.path(), &master)] {
            assert!(matches!(keys.unseal(5, 1, &old), Err(SealError::NoDayKey(5))));
            assert_eq!(keys.unseal(6, 1, &new).expect("opened"), b"new");
        }
    }

    #[test]
    fn all_keys_go_under_another_master_however_often_it_is_broken_off() {
        let folder = tempfile::tempdir().expect("a folder");
        let (old, new) = (Master::generate().expect("a key"), Master::generate().expect("a key"));
        let keys = open(folder.path(), &old);
        let number = Key::parse("4711").expect("a number");
        let (sealed, tag) = (keys.seal(5, 1, b"order").expect("sealed"), keys.tag(&number));
        let log = Keys::log_key(folder.path(), &old).expect("a key");
        assert_eq!(Keys::rotate(folder.path(), &old, &new).expect("rotated"), 3, "index, day and log");
        // As a break in the middle leaves it: one key is under the old one.
        let path = folder.path().join("5.key");
        let day = unwrap(&new, &path, &fs::read(&path).expect("a file")).expect("the new one's");
        write(&old, &path, &day).expect("written");
        assert_eq!(Keys::rotate(folder.path(), &old, &new).expect("rotated"), 3);
        let keys = open(folder.path(), &new);
        assert_eq!(keys.unseal(5, 1, &sealed).expect("opened"), b"order");
        assert_eq!(keys.tag(&number), tag, "numbers are found as before");
        assert_eq!(Keys::log_key(folder.path(), &new).expect("a key"), log, "the log goes on");
        assert!(matches!(Keys::open(folder.path(), old.clone()), Err(SealError::WrongMaster(_))));
        let stranger = Master::generate().expect("a key");
        assert!(Keys::rotate(folder.path(), &old, &stranger).is_err(), "neither opens with the old one");
    }

    #[test]
    fn a_wrong_old_master_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let [right, wrong, new] = std::array::from_fn(|_| Master::generate().expect("a key"));
        open(folder.path(), &right).seal(5, 1, b"order").expect("sealed");
        let files = || -> BTreeMap<PathBuf, Vec<u8>> {
            let entries = fs::read_dir(folder.path()).expect("a folder").flatten();
            entries.map(|entry| (entry.path(), fs::read(entry.path()).expect("a file"))).collect()
        };
        let before = files();
        assert!(matches!(Keys::rotate(folder.path(), &wrong, &new), Err(SealError::WrongMaster(_))));
        assert_eq!(files(), before);
        // One key of many that does not open, whichever is read first.
        fs::write(folder.path().join("6.key"), b"damaged").expect("written");
        let before = files();
        assert!(matches!(Keys::rotate(folder.path(), &right, &new), Err(SealError::WrongMaster(_))));
        assert_eq!(files(), before);
        let empty = tempfile::tempdir().expect("a folder");
        assert!(Keys::rotate(empty.path(), &wrong, &new).is_err());
        assert_eq!(fs::read_dir(empty.path()).expect("a folder").count(), 0, "no key is made up");
    }

    #[test]
    fn tags_are_stable_and_tell_numbering_systems_apart() {
        let folder = tempfile::tempdir().expect("a folder");
        let master = Master::generate().expect("a key");
        let key = |namespace, value| Key::new(namespace, value).expect("a key");
        let first = open(folder.path(), &master).tag(&key("order", "7"));
        let keys = open(folder.path(), &master);
        assert_eq!(keys.tag(&key("order", "7")), first);
        assert_ne!(keys.tag(&key("crm", "7")), first);
        assert_ne!(keys.tag(&key("a", "bc")), keys.tag(&key("ab", "c")));
    }

    #[test]
    fn a_master_key_is_bytes_or_digits() {
        let master = Master::generate().expect("a key");
        let again = Master::from_bytes(format!("{}\n", master.to_hex()).as_bytes()).expect("digits");
        assert_eq!(again.to_hex(), master.to_hex());
        assert!(Master::from_bytes(&[7; 32]).is_ok());
        for wrong in [&b""[..], b"abc", &[7; 31], &[b'a'; 63], &[b'a'; 65], &[b'x'; 64]] {
            assert!(matches!(Master::from_bytes(wrong), Err(SealError::MasterLength)), "{wrong:?}");
        }
    }
}
