//! Accesses → one line each in a file of the day, chained so that a change shows.
//!
//! *Owns* the files `access/DAY.jsonl`. Each line ends in an HMAC over itself and the one before; the key is derived from
//! the master key. A line that is changed, removed, added or moved breaks the chain there; only the end can be cut off
//! unseen, which copies elsewhere would show. The lines are in clear: who may read the folder reads numbers and names.
//!
//! `{"n":2,…,"prev":"<mac of 1>","mac":"<HMAC of this line up to here>"}`

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::digest::{hex, hmac};
use crate::facts::At;
use crate::private;
use crate::time::DAY;

/// Before the first line.
const BEGINNING: &str = "beginning";
/// Where the digest begins in a line.
const MAC: &str = ",\"mac\":\"";
/// Numbers of orders in one line; an answer that shows more is several lines.
const MAX_ORDERS: usize = 4_096;
/// Longest line, in bytes: that many numbers of the greatest length, 161 characters of up to 4 bytes, are 2.7 MB.
const MAX_LINE: usize = 4 << 20;
/// Longest text of one field, in characters.
const MAX_FIELD: usize = 200;
/// Texts of the lines that are found at a time, in bytes: a line may name thousands of orders.
const MAX_FOUND: usize = 16 << 20;
/// What stands for a line that cannot be read.
const UNREADABLE: &str = "unreadable";

/// What somebody did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// A user's or token's name; empty before anybody signed in.
    pub who: String,
    /// `password`, `token`, `proxy`, `oidc`, or empty.
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
    #[error("an access is longer than the {MAX_LINE} bytes that a line of the log may have")]
    TooLong,
}

/// Which lines are wanted.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub order: Option<String>,
    pub who: Option<String>,
    pub limit: usize,
}

/// The log of one server, which writes it.
#[derive(Debug)]
pub struct AccessLog {
    reader: LogReader,
    end: Mutex<End>,
}

/// The log as it is read: nothing of it is changed, so a server may write it meanwhile.
#[derive(Clone, Debug)]
pub struct LogReader {
    folder: PathBuf,
    key: [u8; 32],
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
    /// Opens the log in a folder to write it, and finds its end. Half a line, which a kill may leave, is cut off: its answer
    /// was never given. A last line that cannot be read is an error: a chain that went on from anywhere else would be two.
    pub fn open(folder: &Path, key: [u8; 32]) -> Result<Self, LogError> {
        private::folder(folder).map_err(failed("make the folder of", folder))?;
        let reader = Self::to_read(folder, key);
        let files = files(folder)?;
        if let Some(last) = files.last() {
            mend(last)?;
        }
        let mut end = None;
        // The last day may have been begun without a line.
        for file in files.iter().rev() {
            if let Some((line, text)) = Lines::of(file)?.last_whole()? {
                let broken = |what| Lines::broken(file, line, what);
                let (_, mac) = split(&text).ok_or_else(|| broken(NO_LINE))?;
                let line: Line = serde_json::from_str(&text).map_err(|_| broken(NO_LINE))?;
                end = Some((line.n, mac.to_owned()));
                break;
            }
        }
        // All days may have been let go.
        let (n, mac) = match end {
            Some(end) => end,
            None => reader.anchor()?.unwrap_or((0, BEGINNING.to_owned())),
        };
        Ok(Self { reader, end: Mutex::new(End { n, mac, day: None }) })
    }

    /// The log in a folder, to read it beside a server that writes it.
    pub fn to_read(folder: &Path, key: [u8; 32]) -> LogReader {
        LogReader { folder: folder.to_owned(), key }
    }

    pub fn reader(&self) -> &LogReader {
        &self.reader
    }

    /// Writes a line, or as many as its numbers need. The answer may leave when this returned.
    pub fn write(&self, mut entry: Entry, at: At) -> Result<(), LogError> {
        for field in [&mut entry.who, &mut entry.query, &mut entry.from] {
            if field.chars().count() > MAX_FIELD {
                *field = field.chars().take(MAX_FIELD).collect();
            }
        }
        let orders = std::mem::take(&mut entry.orders);
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        if orders.is_empty() {
            return self.append(&mut end, entry, at);
        }
        orders.chunks(MAX_ORDERS).try_for_each(|orders| {
            self.append(&mut end, Entry { orders: orders.to_vec(), ..entry.clone() }, at)
        })
    }

    fn append(&self, end: &mut End, entry: Entry, at: At) -> Result<(), LogError> {
        let at = Timestamp::from_microsecond(at.0).unwrap_or_default();
        let line = Line { n: end.n.saturating_add(1), at: at.to_string(), entry, prev: end.mac.clone() };
        let text = serde_json::to_string(&line).unwrap_or_default();
        let open = text.strip_suffix('}').unwrap_or(&text);
        let mac = self.reader.mac(open);
        let whole = format!("{open}{MAC}{mac}\"}}\n");
        if whole.len() > MAX_LINE {
            return Err(LogError::TooLong);
        }
        let day = at.strftime("%Y-%m-%d").to_string();
        let path = self.reader.folder.join(format!("{day}.jsonl"));
        if end.day.as_ref().is_none_or(|(open, _)| *open != day) {
            end.day = Some((day, private::file(&path).map_err(failed("open", &path))?));
        }
        if let Some((_, file)) = &mut end.day {
            // In one write: a kill leaves a whole line or half of the last one.
            let before = file.metadata().map(|data| data.len());
            if let Err(source) = file.write_all(whole.as_bytes()) {
                // What was written of it would break the chain for the next one.
                let _ = before.and_then(|len| file.set_len(len));
                return Err(failed("write", &path)(source));
            }
        }
        end.n = line.n;
        end.mac = mac;
        Ok(())
    }

    /// Lets go days that are older than so many microseconds, and remembers where the chain went on.
    pub fn retain(&self, keep_micros: i64, now: At) -> Result<usize, LogError> {
        // Nobody writes meanwhile.
        let _end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = &self.reader.folder;
        let oldest =
            Timestamp::from_microsecond(now.0.saturating_sub(keep_micros.max(DAY))).unwrap_or_default();
        let oldest = oldest.strftime("%Y-%m-%d").to_string();
        let old = files(folder)?.into_iter().filter(|file| {
            file.file_stem().and_then(|day| day.to_str()).is_some_and(|day| day < oldest.as_str())
        });
        let mut gone = 0;
        for file in old {
            if let Some((line, text)) = Lines::of(&file)?.last_whole()? {
                let broken = || Lines::broken(&file, line, NO_LINE);
                let (_, mac) = split(&text).ok_or_else(broken)?;
                let line: Line = serde_json::from_str(&text).map_err(|_| broken())?;
                let open = format!("{{\"n\":{},\"prev\":\"{mac}\"", line.n);
                let anchor = format!("{open}{MAC}{}\"}}\n", self.reader.mac(&open));
                let (path, new) = (folder.join("anchor"), folder.join("anchor.new"));
                fs::write(&new, anchor)
                    .and_then(|()| fs::rename(&new, &path))
                    .map_err(failed("write", &path))?;
            }
            fs::remove_file(&file).map_err(failed("remove a day of", &file))?;
            gone += 1;
        }
        Ok(gone)
    }
}

impl LogReader {
    /// The latest lines that are wanted, newest first, with their times: at most so many, and fewer when they are very long. A
    /// line that cannot be read may be any line: it stands in its place, and says so.
    pub fn find(&self, wanted: &Wanted) -> Result<Vec<(String, Entry)>, LogError> {
        let is_wanted = |entry: &Entry| {
            let has_order = |order: &String| entry.orders.contains(order) || entry.query == *order;
            wanted.order.as_ref().is_none_or(has_order)
                && wanted.who.as_ref().is_none_or(|who| entry.who == *who)
        };
        let mut found = Vec::new();
        let mut room = MAX_FOUND;
        for file in files(&self.folder)?.into_iter().rev() {
            // The latest of the day that there is room for: a day's file is read from its beginning, and may be of any length.
            let mut of_day: VecDeque<(String, Entry, usize)> = VecDeque::new();
            let (mut len, most) = (0, wanted.limit.saturating_sub(found.len()));
            for (number, text) in Lines::of(&file)? {
                let (line, bytes) = match text {
                    Ok(Text::Whole(text)) => (serde_json::from_str::<Line>(&text).ok(), text.len()),
                    Ok(Text::Half) => break,
                    Ok(Text::No) => (None, 0),
                    Err(error) => return Err(failed("read", &file)(error)),
                };
                match line {
                    Some(line) if is_wanted(&line.entry) => of_day.push_back((line.at, line.entry, bytes)),
                    Some(_) => continue,
                    None => {
                        let query = format!("{}, line {number}", name(&file));
                        let entry = Entry { action: UNREADABLE.to_owned(), query, ..Entry::default() };
                        of_day.push_back((String::new(), entry, 0));
                    }
                }
                len += bytes;
                while of_day.len() > most || len > room {
                    let Some((_, _, bytes)) = of_day.pop_front() else { break };
                    len -= bytes;
                }
            }
            room = room.saturating_sub(len);
            found.extend(of_day.into_iter().rev().map(|(at, entry, _)| (at, entry)));
            if found.len() >= wanted.limit || room < MAX_LINE {
                break;
            }
        }
        Ok(found)
    }

    /// Reads the whole chain; how many lines hold, or where it is broken. Half a line at the very end is one that is being
    /// written.
    pub fn verify(&self) -> Result<u64, LogError> {
        let mut expected: Option<(u64, String)> = self.anchor()?;
        let mut count = 0;
        let files = files(&self.folder)?;
        for (at, file) in files.iter().enumerate() {
            for (number, text) in Lines::of(file)? {
                let broken = |what| Lines::broken(file, number, what);
                let text = match text.map_err(failed("read", file))? {
                    Text::Whole(text) => text,
                    Text::Half if at + 1 == files.len() => break,
                    Text::Half => return Err(broken("it is half a line")),
                    Text::No => return Err(broken(NO_LINE)),
                };
                let (open, mac) = split(&text).ok_or_else(|| broken(NO_LINE))?;
                let line: Line = serde_json::from_str(&text).map_err(|_| broken(NO_LINE))?;
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
        let broken = || Lines::broken(&path, 1, "it was changed");
        let (open, mac) = split(text.trim_end()).ok_or_else(broken)?;
        let anchor: Anchor = serde_json::from_str(text.trim_end()).map_err(|_| broken())?;
        if self.mac(open) == mac { Ok(Some((anchor.n, anchor.prev))) } else { Err(broken()) }
    }

    fn mac(&self, text: &str) -> String {
        hex(&hmac(&self.key, &[text.as_bytes()]))
    }
}

/// A line without its digest, and the digest.
fn split(text: &str) -> Option<(&str, &str)> {
    let (open, rest) = text.rsplit_once(MAC)?;
    Some((open, rest.strip_suffix("\"}")?))
}

/// The files of all days, oldest first.
fn files(folder: &Path) -> Result<Vec<PathBuf>, LogError> {
    let entries = fs::read_dir(folder).map_err(failed("list the folder of", folder))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    Ok(files)
}

const NO_LINE: &str = "this is no line of the log";

/// One line of a file.
enum Text {
    Whole(String),
    /// The file ends in it.
    Half,
    /// Too long for one, or no text.
    No,
}

/// The lines of a file with their numbers, from 1; each bounded, however long the file's are.
struct Lines {
    path: PathBuf,
    from: BufReader<File>,
    number: u64,
}

impl Lines {
    fn of(path: &Path) -> Result<Self, LogError> {
        let file = File::open(path).map_err(failed("open", path))?;
        Ok(Self { path: path.to_owned(), from: BufReader::new(file), number: 0 })
    }

    /// The last one and its number; half a line that follows is none.
    fn last_whole(self) -> Result<Option<(u64, String)>, LogError> {
        let path = self.path.clone();
        let mut last = None;
        for (number, text) in self {
            match text.map_err(failed("read", &path))? {
                Text::Whole(text) => last = Some(Ok((number, text))),
                Text::No => last = Some(Err(Self::broken(&path, number, NO_LINE))),
                Text::Half => {}
            }
        }
        last.transpose()
    }

    fn broken(file: &Path, line: u64, what: &'static str) -> LogError {
        LogError::Broken { file: name(file), line, what }
    }

    fn read(&mut self) -> io::Result<Option<Text>> {
        let mut line = Vec::new();
        (&mut self.from).take(MAX_LINE as u64).read_until(b'\n', &mut line)?;
        if line.pop_if(|last| *last == b'\n').is_some() {
            return Ok(Some(String::from_utf8(line).map_or(Text::No, Text::Whole)));
        }
        if line.is_empty() {
            return Ok(None);
        }
        if line.len() < MAX_LINE {
            return Ok(Some(Text::Half));
        }
        self.from.skip_until(b'\n')?;
        Ok(Some(Text::No))
    }
}

impl Iterator for Lines {
    type Item = (u64, io::Result<Text>);

    fn next(&mut self) -> Option<Self::Item> {
        self.number += 1;
        self.read().transpose().map(|text| (self.number, text))
    }
}

fn name(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Bytes that are read at a time from the end of a file.
const STEP: u64 = 64 << 10;

/// Cuts off half a line at the end. The file may be of any length: it is read backwards, up to the last line's end.
fn mend(path: &Path) -> Result<(), LogError> {
    let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(failed("open", path))?;
    let len = file.metadata().map_err(failed("read", path))?.len();
    let mut end = len;
    let mut whole = 0;
    while end > 0 {
        let from = end.saturating_sub(STEP);
        let mut part = Vec::new();
        file.seek(SeekFrom::Start(from))
            .and_then(|_| (&mut file).take(end - from).read_to_end(&mut part))
            .map_err(failed("read", path))?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            whole = from + at as u64 + 1;
            break;
        }
        end = from;
    }
    if whole < len {
        file.set_len(whole).map_err(failed("mend", path))?;
    }
    Ok(())
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
    let path = path.to_owned();
    move |source| LogError::File { doing, path, source }
}

#[cfg(test)]
mod tests;
