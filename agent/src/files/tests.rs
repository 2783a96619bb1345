//! What stands in the place of the agent's files, and that it is neither followed, believed, waited for nor changed.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, Instant};

use rustix::fs::CWD;

use super::*;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().mode() & 0o777
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn fifo(path: &Path) {
    rustix::fs::mkfifoat(CWD, path, OWN_FILE).unwrap();
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Gives a file or directory to somebody else. `false`: only root can.
fn give_away(path: &Path) -> bool {
    is_root() && std::os::unix::fs::lchown(path, Some(12_345), Some(12_345)).is_ok()
}

/// Fails when `what` waits: a test that hangs tells nothing.
fn at_once<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    let started = Instant::now();
    let thread = std::thread::spawn(what);
    while !thread.is_finished() {
        assert!(started.elapsed() < Duration::from_secs(20), "it waits");
        std::thread::sleep(Duration::from_millis(2));
    }
    thread.join().unwrap()
}

#[test]
fn directories_and_files_are_made_for_their_owner_only() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("a/b");
    let directory = Directory::open_or_create(&path).unwrap();
    directory.create_new("f").unwrap();
    directory.replace("g", b"x", true).unwrap();
    assert!(directory.lock("l").unwrap().is_some());
    assert_eq!((mode(&parent.path().join("a")), mode(&path)), (0o700, 0o700));
    assert_eq!(["f", "g", "l"].map(|name| mode(&path.join(name))), [0o600; 3]);
    assert_eq!(directory.read("g", 1).unwrap().unwrap(), b"x");
    assert!(directory.create_new("f").is_err(), "what is there is not opened as new");
    assert!(directory.open("nothing").unwrap().is_none());
    directory.remove("g").unwrap();
    directory.remove("g").unwrap();
    let mut names = directory.names().unwrap();
    names.sort();
    assert_eq!(names, ["f", "l"]);
}

#[test]
fn what_is_no_plain_file_is_refused_by_name_and_never_waited_for() {
    let parent = tempfile::tempdir().unwrap();
    let at = |name: &str| parent.path().join(name);
    std::fs::write(at("victim"), "keep").unwrap();
    symlink(at("victim"), at("link")).unwrap();
    symlink(at("nothing"), at("dangling")).unwrap();
    fifo(&at("fifo"));
    std::fs::create_dir(at("folder")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    let path = parent.path().to_owned();
    let said = at_once(move || {
        let directory = Directory::open_or_create(&path).unwrap();
        let mut said = Vec::new();
        for name in ["link", "dangling", "fifo", "folder", "socket"] {
            said.push(directory.open(name).unwrap_err().to_string());
            said.push(directory.edit(name).unwrap_err().to_string());
            said.push(directory.read(name, 100).unwrap_err().to_string());
            said.push(directory.lock(name).unwrap_err().to_string());
            said.push(directory.create_new(name).unwrap_err().to_string());
        }
        said
    });
    drop(socket);
    assert!(said.iter().all(|text| text.contains(parent.path().to_str().unwrap())), "{said:?}");
    assert!(said[0].contains("is a link") && said[10].contains("is a FIFO"), "{said:?}");
    assert_eq!(std::fs::read_to_string(at("victim")).unwrap(), "keep");
    assert!(!at("nothing").exists(), "a dangling link was followed");
}

/// A FIFO that somebody writes to at this moment: whoever opens it to read and goes takes the pipe away from the writer.
#[test]
fn the_writer_of_a_fifo_does_not_notice() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("fifo");
    fifo(&path);
    let named = path.clone();
    at_once(move || {
        assert!(matches!(read(&named, 100), Err(FileError::Kind { found: "a FIFO", .. })));
        let directory = Directory::open_or_create(named.parent().unwrap()).unwrap();
        for refused in
            [directory.open("fifo").err(), directory.edit("fifo").err(), directory.lock("fifo").err()]
        {
            assert!(matches!(refused, Some(FileError::Kind { found: "a FIFO", .. })));
        }
    });
    // A writer waits until somebody opens the other end, however shortly: it must be waiting still.
    let begins = std::sync::Arc::new(std::sync::Barrier::new(2));
    let writer = {
        let (path, begins) = (path.clone(), begins.clone());
        std::thread::spawn(move || {
            begins.wait();
            let mut to = OpenOptions::new().write(true).open(path).unwrap();
            io::Write::write_all(&mut to, b"x")
        })
    };
    let named = path.clone();
    begins.wait();
    at_once(move || {
        for _ in 0..20_000 {
            assert!(read(&named, 100).is_err());
        }
    });
    assert!(!writer.is_finished(), "the writer was let in by a reader that is gone");
    let mut got = String::new();
    File::open(&path).unwrap().read_to_string(&mut got).unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(got, "x");
}

#[test]
fn a_link_to_a_file_is_read_and_a_device_is_not() {
    let parent = tempfile::tempdir().unwrap();
    let at = |name: &str| parent.path().join(name);
    std::fs::write(at("secret"), "key").unwrap();
    symlink(at("secret"), at("link")).unwrap();
    assert_eq!(read(&at("link"), 3).unwrap(), b"key");
    assert!(matches!(read(&at("link"), 2), Err(FileError::TooLarge { max: 2, .. })));
    assert!(read(&at("nothing"), 2).unwrap_err().is_missing());
    assert!(matches!(read(Path::new("/dev/null"), 9), Err(FileError::Kind { found: "a device", .. })));
    assert!(matches!(read(parent.path(), 9), Err(FileError::Kind { found: "a directory", .. })));
}

#[test]
fn a_replaced_file_takes_the_place_of_a_link_and_leaves_where_it_leads() {
    let parent = tempfile::tempdir().unwrap();
    let at = |name: &str| parent.path().join(name);
    std::fs::write(at("victim"), "keep").unwrap();
    for name in ["cursor", "cursor.new"] {
        symlink(at("victim"), at(name)).unwrap();
    }
    let directory = Directory::open_or_create(parent.path()).unwrap();
    directory.replace("cursor", b"mine", false).unwrap();
    assert_eq!(std::fs::read_to_string(at("victim")).unwrap(), "keep");
    assert_eq!(directory.read("cursor", 10).unwrap().unwrap(), b"mine");
}

#[test]
fn directories_that_others_may_write_are_refused_sticky_ones_are_passed() {
    let parent = tempfile::tempdir().unwrap();
    let open = parent.path().join("open");
    std::fs::create_dir(&open).unwrap();
    for (mode, below) in [(0o777, false), (0o775, false), (0o1777, true), (0o755, true)] {
        chmod(&open, mode);
        let own = open.join("own");
        assert_eq!(Directory::open_or_create(&own).is_ok(), below, "below {mode:o}");
        let _ = std::fs::remove_dir(own);
        // Sticky or not: others can put files into it.
        let error = Directory::open_or_create(&open).err().map(|error| error.to_string());
        assert_eq!(error.is_none(), mode == 0o755, "{mode:o}: {error:?}");
        assert!(error.is_none_or(|error| error.contains("chmod go-w")), "{mode:o}");
    }
    std::fs::write(parent.path().join("file"), "").unwrap();
    let error = Directory::open_or_create(&parent.path().join("file/below")).unwrap_err();
    assert!(error.to_string().contains("is a plain file, not a directory"), "{error}");
}

#[test]
fn what_belongs_to_somebody_else_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    let at = |name: &str| parent.path().join(name);
    let own = Directory::open_or_create(&at("own")).unwrap();
    own.replace("theirs", b"x", false).unwrap();
    std::fs::create_dir(at("their-folder")).unwrap();
    symlink(at("own"), at("their-link")).unwrap();
    symlink(at("own"), at("our-link")).unwrap();
    Directory::open_or_create(&at("our-link")).unwrap();
    let given = ["own/theirs", "their-folder", "their-link"].map(|name| give_away(&at(name)));
    if given.contains(&false) {
        return;
    }
    let refused =
        |result: Result<(), FileError>| matches!(result, Err(FileError::Owner { owner: 12_345, .. }));
    assert!(refused(own.open("theirs").map(drop)) && refused(own.lock("theirs").map(drop)));
    for path in ["their-folder", "their-folder/below", "their-link", "their-link/below"] {
        assert!(refused(Directory::open_or_create(&at(path)).map(drop)), "{path}");
    }
    assert!(!at("own/below").exists() && !at("their-folder/below").exists());
}

#[test]
fn links_in_a_circle_end() {
    let parent = tempfile::tempdir().unwrap();
    symlink("b", parent.path().join("a")).unwrap();
    symlink("a", parent.path().join("b")).unwrap();
    let error = Directory::open_or_create(&parent.path().join("a/x")).unwrap_err();
    assert!(matches!(error, FileError::Io { .. }), "{error}");
    // Upwards and down again is the same directory.
    let around = parent.path().join("c/../c/./d");
    std::fs::create_dir(parent.path().join("c")).unwrap();
    Directory::open_or_create(&around).unwrap();
    assert!(parent.path().join("c/d").is_dir());
}

#[test]
fn a_replaced_output_is_new_private_and_no_link_is_followed() {
    let parent = tempfile::tempdir().unwrap();
    let at = |name: &str| parent.path().join(name);
    std::fs::write(at("old"), "old").unwrap();
    chmod(&at("old"), 0o644);
    let reader = File::open(at("old")).unwrap();
    let mut file = replace(&at("old")).unwrap();
    io::Write::write_all(&mut file, b"secret").unwrap();
    assert_eq!(mode(&at("old")), 0o600);
    assert_eq!(std::fs::read_to_string(at("old")).unwrap(), "secret");
    assert_eq!(read_all(&reader, &at("old"), 100).unwrap(), b"old", "who had it open sees the new one");
    replace(&at("new")).unwrap();

    symlink(at("old"), at("link")).unwrap();
    fifo(&at("fifo"));
    std::fs::create_dir(at("folder")).unwrap();
    for name in ["link", "fifo", "folder", "missing/file", ""] {
        assert!(replace(&at(name)).is_err(), "{name}");
    }
    assert!(at("fifo").exists() && at("folder").exists());
    let mut left: Vec<_> =
        std::fs::read_dir(parent.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    left.sort();
    assert_eq!(left, ["fifo", "folder", "link", "new", "old"]);
}

#[test]
fn files_of_others_are_read_within_a_bound_and_without_waiting() {
    let parent = tempfile::tempdir().unwrap();
    let at = |name: &str| parent.path().join(name);
    std::fs::write(at("key"), "12345").unwrap();
    symlink(at("key"), at("link")).unwrap();
    fifo(&at("fifo"));
    assert_eq!(read(&at("link"), 5).unwrap(), b"12345", "a secret that is mounted is a link");
    assert!(matches!(read(&at("key"), 4), Err(FileError::TooLarge { max: 4, .. })));
    assert!(read(&at("nothing"), 4).unwrap_err().is_missing());
    let (pipe, folder) = (at("fifo"), parent.path().to_owned());
    let said = at_once(move || [&pipe, &folder].map(|path| read(path, 5).unwrap_err().to_string()));
    assert!(said[0].contains("is a FIFO") && said[1].contains("is a directory"), "{said:?}");
    assert!(at_once(|| read(Path::new("/dev/zero"), 5)).is_err());
}
