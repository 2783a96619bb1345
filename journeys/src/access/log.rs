//! Accesses → one line each in a file of the day, chained so that a change shows.
//!
//! *Owns* the files `access/DAY.jsonl`. Each line ends in an HMAC over itself and the one before; the key is derived from
//! the master key. A line that is changed, removed, added or moved breaks the chain there; only the end can be cut off
//! unseen, which copies elsewhere would show.
//!
//! `{"n":2,…,"prev":"<mac of 1>","mac":"<HMAC of this line up to here>"}`

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use chacha20poly1305::aead::KeyInit;
use hmac::{Hmac, Mac};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::facts::At;
use crate::model::DAY;

/// Before the first line.
const BEGINNING: &str = "beginning";
/// Where the digest begins in a line.
const MAC: &str = ",\"mac\":\"";
/// Longest line that is read back.
const MAX_LINE: usize = 64 << 10;
/// Longest text of one field.
const MAX_FIELD: usize = 200;

/// What somebody did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// A user's or token's name; empty before anybody signed in.
    pub who: String,
    /// `password`, `token`, or empty.
    pub via: String,
    pub role: String,
    /// The address that asked.
    pub from: String,
    pub session: String,
    #[serde(rename = "do")]
    pub action: String,
    /// Numbers of the orders that the answer shows.
    pub orders: Vec<String>,
    /// What was searched or asked for.
    pub query: String,
    /// The answer's HTTP status.
    pub result: u16,
}

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    n: u64,
    at: String,
    #[serde(flatten)]
    entry: Entry,
    prev: String,
}

/// Why the log could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("cannot {doing} the access log {}", path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the access log is broken: {file}, line {line}: {what}")]
    Broken { file: String, line: u64, what: &'static str },
}

/// Which lines are wanted.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub order: Option<String>,
    pub who: Option<String>,
    pub limit: usize,
}

/// The log of one server.
#[derive(Debug)]
pub struct AccessLog {
    folder: PathBuf,
    key: [u8; 32],
    end: Mutex<End>,
}

/// Where the chain goes on.
#[derive(Debug)]
struct End {
    n: u64,
    mac: String,
    /// The day of the open file.
    day: Option<(String, File)>,
}

impl AccessLog {
    /// Opens the log in a folder and finds its end. Half a line, which a kill may leave, is cut off: its answer was never
    /// given.
    pub fn open(folder: &Path, key: [u8; 32]) -> Result<Self, LogError> {
        fs::create_dir_all(folder).map_err(failed("make the folder of", folder))?;
        let mut end = End { n: 0, mac: BEGINNING.to_owned(), day: None };
        if let Some(last) = files(folder)?.pop() {
            mend(&last)?;
        }
        // The last day may have been begun without a line.
        for file in files(folder)?.into_iter().rev() {
            if let Some((line, mac)) = last_line(&file)? {
                end.n = line.n;
                end.mac = mac;
                break;
            }
        }
        Ok(Self { folder: folder.to_owned(), key, end: Mutex::new(end) })
    }

    /// Writes a line. The answer may leave when this returned.
    pub fn write(&self, entry: Entry, at: At) -> Result<(), LogError> {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        let at = Timestamp::from_microsecond(at.0).unwrap_or_default();
        let line = Line {
            n: end.n.saturating_add(1),
            at: at.to_string(),
            entry: bounded(entry),
            prev: end.mac.clone(),
        };
        let text = serde_json::to_string(&line).unwrap_or_default();
        let open = text.strip_suffix('}').unwrap_or(&text);
        let mac = self.mac(open);
        let day = at.strftime("%Y-%m-%d").to_string();
        let path = self.folder.join(format!("{day}.jsonl"));
        if end.day.as_ref().is_none_or(|(open, _)| *open != day) {
            let file =
                OpenOptions::new().append(true).create(true).open(&path).map_err(failed("open", &path))?;
            end.day = Some((day, file));
        }
        if let Some((_, file)) = &mut end.day {
            // In one write: a kill leaves a whole line or half of the last one.
            let before = file.metadata().map(|data| data.len());
            if let Err(source) = file.write_all(format!("{open}{MAC}{mac}\"}}\n").as_bytes()) {
                // What was written of it would break the chain for the next one.
                let _ = before.and_then(|len| file.set_len(len));
                return Err(failed("write", &path)(source));
            }
        }
        end.n = line.n;
        end.mac = mac;
        Ok(())
    }

    /// The latest lines that are wanted, newest first, with their times.
    pub fn find(&self, wanted: &Wanted) -> Result<Vec<(String, Entry)>, LogError> {
        let mut found = Vec::new();
        for file in files(&self.folder)?.into_iter().rev() {
            let mut of_day = Vec::new();
            for text in lines(&file)? {
                let Ok(line) = serde_json::from_str::<Line>(&text) else { continue };
                let has_order =
                    |order: &String| line.entry.orders.contains(order) || line.entry.query == *order;
                if wanted.order.as_ref().is_none_or(has_order)
                    && wanted.who.as_ref().is_none_or(|who| line.entry.who == *who)
                {
                    of_day.push((line.at, line.entry));
                }
            }
            found.extend(of_day.into_iter().rev());
            if found.len() >= wanted.limit {
                found.truncate(wanted.limit);
                break;
            }
        }
        Ok(found)
    }

    /// Reads the whole chain; how many lines hold, or where it is broken.
    pub fn verify(&self) -> Result<u64, LogError> {
        let mut expected: Option<(u64, String)> = self.anchor()?;
        let mut count = 0;
        for file in files(&self.folder)? {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            for (at, text) in lines(&file)?.into_iter().enumerate() {
                let broken = |what| LogError::Broken { file: name.clone(), line: at as u64 + 1, what };
                let (open, mac) = split(&text).ok_or_else(|| broken("this is no line of the log"))?;
                let line: Line =
                    serde_json::from_str(&text).map_err(|_| broken("this is no line of the log"))?;
                if self.mac(open) != mac {
                    return Err(broken("it was changed"));
                }
                let (n, prev) = expected.unwrap_or((0, BEGINNING.to_owned()));
                if line.n != n + 1 || line.prev != prev {
                    return Err(broken("lines before it were removed, added or moved"));
                }
                expected = Some((line.n, mac.to_owned()));
                count += 1;
            }
        }
        Ok(count)
    }

    /// Lets go days that are older than so many microseconds, and remembers where the chain went on.
    pub fn retain(&self, keep_micros: i64, now: At) -> Result<usize, LogError> {
        // Nobody writes meanwhile.
        let _end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest =
            Timestamp::from_microsecond(now.0.saturating_sub(keep_micros.max(DAY))).unwrap_or_default();
        let oldest = oldest.strftime("%Y-%m-%d").to_string();
        let old = files(&self.folder)?.into_iter().filter(|file| {
            file.file_stem().and_then(|day| day.to_str()).is_some_and(|day| day < oldest.as_str())
        });
        let mut gone = 0;
        for file in old {
            if let Some((line, mac)) = last_line(&file)? {
                let open = format!("{{\"n\":{},\"prev\":\"{mac}\"", line.n);
                let anchor = format!("{open}{MAC}{}\"}}\n", self.mac(&open));
                let (path, new) = (self.folder.join("anchor"), self.folder.join("anchor.new"));
                fs::write(&new, anchor)
                    .and_then(|()| fs::rename(&new, &path))
                    .map_err(failed("write", &path))?;
            }
            fs::remove_file(&file).map_err(failed("remove a day of", &file))?;
            gone += 1;
        }
        Ok(gone)
    }

    /// The end of what was let go.
    fn anchor(&self) -> Result<Option<(u64, String)>, LogError> {
        #[derive(Deserialize)]
        struct Anchor {
            n: u64,
            prev: String,
        }
        let path = self.folder.join("anchor");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("read", &path)(error)),
        };
        let broken = || LogError::Broken { file: "anchor".to_owned(), line: 1, what: "it was changed" };
        let (open, mac) = split(text.trim_end()).ok_or_else(broken)?;
        let anchor: Anchor = serde_json::from_str(text.trim_end()).map_err(|_| broken())?;
        if self.mac(open) == mac { Ok(Some((anchor.n, anchor.prev))) } else { Err(broken()) }
    }

    fn mac(&self, text: &str) -> String {
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.key)
            .unwrap_or_else(|_| unreachable!("HMAC takes any length"));
        mac.update(text.as_bytes());
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A line without its digest, and the digest.
fn split(text: &str) -> Option<(&str, &str)> {
    let (open, rest) = text.rsplit_once(MAC)?;
    Some((open, rest.strip_suffix("\"}")?))
}

/// Lines stay readable whatever a request holds.
fn bounded(mut entry: Entry) -> Entry {
    for field in [&mut entry.who, &mut entry.query, &mut entry.from] {
        if field.chars().count() > MAX_FIELD {
            *field = field.chars().take(MAX_FIELD).collect();
        }
    }
    entry.orders.truncate(MAX_FIELD);
    entry
}

/// The files of all days, oldest first.
fn files(folder: &Path) -> Result<Vec<PathBuf>, LogError> {
    let entries = fs::read_dir(folder).map_err(failed("list the folder of", folder))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    Ok(files)
}

fn lines(file: &Path) -> Result<Vec<String>, LogError> {
    let open = File::open(file).map_err(failed("open", file))?;
    let mut lines = Vec::new();
    for line in BufReader::new(open).lines() {
        let line = line.map_err(failed("read", file))?;
        if line.len() <= MAX_LINE {
            lines.push(line);
        }
    }
    Ok(lines)
}

fn last_line(file: &Path) -> Result<Option<(Line, String)>, LogError> {
    let last = lines(file)?.pop();
    let read = |text: String| {
        let mac = split(&text)?.1.to_owned();
        Some((serde_json::from_str(&text).ok()?, mac))
    };
    Ok(last.and_then(read))
}

/// Cuts off half a line at the end.
fn mend(file: &Path) -> Result<(), LogError> {
    let bytes = fs::read(file).map_err(failed("read", file))?;
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if whole < bytes.len() {
        let open = OpenOptions::new().write(true).open(file).map_err(failed("open", file))?;
        open.set_len(whole as u64).map_err(failed("mend", file))?;
    }
    Ok(())
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
    let path = path.to_owned();
    move |source| LogError::File { doing, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: At = At(20_000 * DAY);

    fn open(folder: &Path) -> AccessLog {
        AccessLog::open(folder, [7; 32]).expect("a log")
    }

    fn viewed(who: &str, order: &str) -> Entry {
        Entry {
            who: who.to_owned(),
            action: "order.view".to_owned(),
            orders: vec![order.to_owned()],
            ..Entry::default()
        }
    }

    /// Three lines on two days.
    fn written(folder: &Path) -> AccessLog {
        let log = open(folder);
        log.write(viewed("anna", "4711"), NOW).expect("written");
        log.write(viewed("boris", "12"), NOW).expect("written");
        log.write(viewed("boris", "4711"), NOW.after(DAY)).expect("written");
        log
    }

    fn wanted(order: Option<&str>, who: Option<&str>) -> Wanted {
        Wanted { order: order.map(str::to_owned), who: who.map(str::to_owned), limit: 100 }
    }

    #[test]
    fn it_says_who_saw_an_order() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = written(folder.path());
        let who = |wanted| -> Vec<String> {
            log.find(&wanted).expect("found").into_iter().map(|(_, entry)| entry.who).collect()
        };
        assert_eq!(who(wanted(Some("4711"), None)), ["boris", "anna"]);
        assert_eq!(who(wanted(None, Some("anna"))), ["anna"]);
        assert_eq!(who(wanted(Some("13"), None)), Vec::<String>::new());
        assert_eq!(log.verify().expect("whole"), 3);
    }

    #[test]
    fn the_chain_goes_on_after_a_restart_and_half_a_line() {
        let folder = tempfile::tempdir().expect("a folder");
        drop(written(folder.path()));
        let last = files(folder.path()).expect("files").pop().expect("a file");
        let mut text = fs::read_to_string(&last).expect("a file");
        text.push_str("{\"n\":4,\"at\":\"20");
        fs::write(&last, text).expect("written");
        let log = open(folder.path());
        log.write(viewed("vera", "4711"), NOW.after(DAY)).expect("written");
        assert_eq!(log.verify().expect("whole"), 4);
    }

    #[test]
    fn every_change_of_a_file_shows() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = written(folder.path());
        let first = files(folder.path()).expect("files").remove(0);
        let good = fs::read_to_string(&first).expect("a file");
        let lines: Vec<&str> = good.lines().collect();
        let (one, two) = (lines[0], lines[1]);
        for (what, text) in [
            ("a name", good.replace("anna", "nana")),
            ("a line less at the beginning", format!("{two}\n")),
            ("a line less at the end of a day", format!("{one}\n")),
            ("lines the other way round", format!("{two}\n{one}\n")),
            ("a line twice", format!("{one}\n{one}\n{two}\n")),
            ("an invented line", format!("{one}\n{}\n{two}\n", one.replace("\"n\":1", "\"n\":2"))),
            ("nonsense", format!("{good}nonsense\n")),
        ] {
            fs::write(&first, text).expect("written");
            assert!(matches!(log.verify(), Err(LogError::Broken { .. })), "{what}");
        }
        fs::write(&first, &good).expect("written");
        assert_eq!(log.verify().expect("whole"), 3);
        fs::remove_file(&first).expect("removed");
        assert!(matches!(log.verify(), Err(LogError::Broken { .. })), "a day less");
        let other = AccessLog::open(folder.path(), [8; 32]).expect("a log");
        assert!(matches!(other.verify(), Err(LogError::Broken { .. })), "another key");
    }

    #[test]
    fn what_is_let_go_leaves_the_chain_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = written(folder.path());
        assert_eq!(log.retain(10 * DAY, NOW.after(5 * DAY)).expect("retained"), 0);
        assert_eq!(log.retain(10 * DAY, NOW.after(10 * DAY + DAY / 2)).expect("retained"), 0);
        assert_eq!(log.retain(10 * DAY, NOW.after(11 * DAY)).expect("retained"), 1);
        assert_eq!(log.verify().expect("whole"), 1);
        let forged = fs::read_to_string(folder.path().join("anchor"))
            .expect("an anchor")
            .replace("\"n\":2", "\"n\":1");
        fs::write(folder.path().join("anchor"), forged).expect("written");
        assert!(matches!(log.verify(), Err(LogError::Broken { .. })));
    }

    #[test]
    fn hostile_text_stays_one_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let log = open(folder.path());
        let query = format!("a\n{{\"n\":9}}\",\"mac\":\"00\"}}{}", "x".repeat(1_000));
        log.write(Entry { query, ..Entry::default() }, NOW).expect("written");
        log.write(viewed("anna", "1"), NOW).expect("written");
        assert_eq!(log.verify().expect("whole"), 2);
    }
}
