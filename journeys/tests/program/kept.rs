//! What whoever keeps a server does by command: copies, restores, forgets, changes the key; and what is refused meanwhile.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::server::{self, Server, of_folder, output, spoor_serve};

/// A folder with a store of the demo's orders, its key, and room for more.
struct House {
    folder: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        let house = Self { folder: server::folder() };
        server::import_demo(house.folder.path());
        house
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A command on the store in a folder, under a key.
    fn keyed(&self, command: &str, data: &str, key: &str) -> Command {
        let mut keyed = spoor_serve(command);
        keyed.arg("--data").arg(self.path(data)).arg("--key-file").arg(self.path(key));
        keyed
    }

    /// What a command says that is refused.
    fn refused(&self, command: &mut Command) -> String {
        let output = command.output().expect("a process");
        assert!(!output.status.success(), "{command:?} went well");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    fn order(&self, data: &str, key: &str) -> String {
        output(self.keyed("order", data, key).args(["--lang", "en", "3"]).env("TZ", "UTC"))
    }
}

/// Nobody else reads any file or folder below.
fn is_private(path: &Path) {
    let mode = fs::metadata(path).expect("there").permissions().mode() & 0o077;
    assert_eq!(mode, 0, "{}", path.display());
    if path.is_dir() {
        fs::read_dir(path).expect("a folder").flatten().for_each(|entry| is_private(&entry.path()));
    }
}

#[test]
fn a_copy_of_a_running_server_restores_and_a_second_writer_is_refused() {
    let house = House::new();
    output(&mut house.keyed("check", "data", "master.key"));
    output(&mut of_folder(house.folder.path(), "user invite anna --role admin"));
    let order = house.order("data", "master.key");
    {
        let _server = Server::start(house.keyed("run", "data", "master.key"));
        let error = house.refused(house.keyed("import", "data", "master.key").arg(house.path("demo.jsonl")));
        assert!(error.contains("in use by another process"), "{error}");
        let error = house.refused(&mut house.keyed("forget --order 3", "data", "master.key"));
        assert!(error.contains("in use by another process"), "{error}");
        assert_eq!(house.order("data", "master.key"), order, "reading is not");
        let said = output(house.keyed("backup", "data", "master.key").arg(house.path("copy")));
        assert!(said.contains("nothing is wrong"), "{said}");
        house.refused(house.keyed("backup", "data", "master.key").arg(house.path("copy")));
    }
    is_private(&house.path("data"));
    is_private(&house.path("copy"));
    house.refused(house.keyed("restore", "data", "master.key").arg(house.path("copy")));
    output(spoor_serve("key new").arg(house.path("other.key")));
    house.refused(house.keyed("restore", "new", "other.key").arg(house.path("copy")));
    assert!(!house.path("new").exists(), "a copy that does not open is not brought anywhere");
    let said = output(house.keyed("restore", "new", "master.key").arg(house.path("copy")));
    assert!(said.contains("nothing is wrong"), "{said}");
    assert_eq!(house.order("new", "master.key"), order);
    assert!(output(spoor_serve("user list --data").arg(house.path("new"))).contains("anna"));
}

#[test]
fn another_master_key_opens_everything_and_what_is_forgotten_is_written_down() {
    let house = House::new();
    let order = house.order("data", "master.key");
    output(&mut house.keyed("forget --order 1", "data", "master.key"));
    output(spoor_serve("key new").arg(house.path("new.key")));
    let said = output(house.keyed("key rotate", "data", "master.key").arg(house.path("new.key")));
    assert!(said.contains("keys are under"), "{said}");
    let error = house.refused(&mut house.keyed("check", "data", "master.key"));
    assert!(error.contains("does not open"), "{error}");
    assert!(output(&mut house.keyed("check", "data", "new.key")).contains("nothing is wrong"));
    assert_eq!(house.order("data", "new.key"), order);
    let gone = house.keyed("order", "data", "new.key").arg("1").status().expect("a process");
    assert_eq!(gone.code(), Some(3), "nobody named it");
    output(&mut house.keyed("forget --person 8", "data", "new.key"));
    let log = output(house.keyed("access-log", "data", "new.key").args(["--limit", "9"]));
    assert_eq!(log.lines().filter(|line| line.contains("forget")).count(), 2, "{log}");
    let verified = output(house.keyed("access-log", "data", "new.key").arg("--verify"));
    assert!(verified.starts_with("2 lines"), "the chain goes on under the new key: {verified}");
}
