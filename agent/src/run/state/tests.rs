use std::path::Path;

use super::*;

const FILE: &str = "learned";

fn config(directory: &Path) -> Config {
    let mut config = Config::default();
    config.state.directory = directory.to_str().unwrap().to_owned();
    config
}

fn pipeline(boot_id: [u8; 16]) -> Pipeline {
    super::super::pipeline(&Config::default(), boot_id).unwrap()
}

/// A moment that is far enough for any disk.
fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// Writes, and waits for it.
fn finish(keeper: &mut Keeper, learned: Snapshot) {
    keeper.finish(learned, soon());
    keeper.wait(soon());
}

fn read(directory: &Path) -> Option<Snapshot> {
    file::read(&Directory::open_or_create(directory).unwrap()).unwrap()
}

fn left(boot_id: [u8; 16]) -> Snapshot {
    let process =
        spoor_core::pipeline::snapshot::Process { tgid: spoor_core::record::Tgid(7), ..Default::default() };
    Snapshot { boot_id, processes: vec![process], ..Snapshot::default() }
}

#[test]
fn it_is_kept_beside_the_spool_unless_told_otherwise() {
    let mut config = Config::default();
    let usual = tempfile::tempdir().unwrap();
    let nowhere = usual.path().join("nothing");
    let kept = |config: &Config| directory_or(config, &nowhere);
    assert_eq!(kept(&config), None, "nowhere to keep it");
    assert_eq!(directory_or(&config, usual.path()), Some(usual.path().to_owned()));
    assert!(!nowhere.exists(), "and none is made");
    config.export.spool.directory = "/spool".to_owned();
    assert_eq!(kept(&config), Some("/spool".into()));
    config.state.directory = "/state".to_owned();
    assert_eq!(kept(&config), Some("/state".into()));
    assert_eq!(directory_or(&config, usual.path()), Some("/state".into()), "what is named wins");
    config.state.keep = false;
    assert_eq!(directory_or(&config, usual.path()), None);
}

#[test]
fn what_one_run_leaves_waits_in_the_next_one() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(&directory.path().join("new").join("state"));
    finish(&mut Keeper::new(&config).unwrap(), left([1; 16]));
    let mut keeper = Keeper::new(&config).unwrap();
    let mut next = pipeline([1; 16]);
    keeper.load(&mut next);
    assert_eq!(next.restored().processes_waiting, 1);
    // Of another boot.
    let mut other = pipeline([2; 16]);
    keeper.load(&mut other);
    assert_eq!((other.restored().processes_waiting, other.restored().other_boot), (0, 1));
    let mut unknown = pipeline([0; 16]);
    finish(&mut Keeper::new(&config).unwrap(), left([0; 16]));
    keeper.load(&mut unknown);
    assert_eq!(unknown.restored().other_boot, 1, "which boot it is cannot be told");
}

#[test]
fn a_damaged_file_is_left_and_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    std::fs::write(directory.path().join(FILE), b"SPOORLS1 and nothing more").unwrap();
    let mut keeper = Keeper::new(&config).unwrap();
    let mut pipeline = pipeline([1; 16]);
    keeper.load(&mut pipeline);
    assert_eq!((pipeline.restored(), keeper.totals().refused), (Stats::default(), 1));
    finish(&mut keeper, left([1; 16]));
    assert!(keeper.totals().saved_unix > 0 && keeper.totals().failed == 0);
    keeper.load(&mut pipeline);
    assert_eq!((pipeline.restored().processes_waiting, keeper.totals().refused), (1, 1));
}

#[test]
fn of_two_agents_one_writes_until_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let (mut first, mut second) = (Keeper::new(&config).unwrap(), Keeper::new(&config).unwrap());
    finish(&mut first, left([1; 16]));
    finish(&mut second, left([2; 16]));
    let kept = || read(directory.path()).unwrap().boot_id;
    assert_eq!((kept(), second.totals()), ([1; 16], Totals::default()), "and it is no failure");
    drop(first);
    finish(&mut second, left([2; 16]));
    assert_eq!(kept(), [2; 16]);
}

#[test]
fn it_is_written_now_and_then() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE);
    let mut config = config(directory.path());
    config.state.save_every = Duration::from_secs(3600);
    let pipeline = pipeline([3; 16]);
    let mut keeper = Keeper::new(&config).unwrap();
    keeper.turn(&pipeline);
    assert!(!path.exists(), "not before its time");
    keeper.next = Instant::now();
    keeper.turn(&pipeline);
    keeper.join();
    assert_eq!(read(directory.path()).unwrap().boot_id, [3; 16]);
    std::fs::remove_file(&path).unwrap();
    keeper.turn(&pipeline);
    keeper.join();
    assert!(!path.exists());
    config.state.save_every = Duration::ZERO;
    let mut at_the_end = Keeper::new(&config).unwrap();
    at_the_end.next = Instant::now();
    at_the_end.turn(&pipeline);
    assert!(!path.exists() && at_the_end.writing.is_none());
}

#[test]
fn a_directory_that_cannot_be_written_stops_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, b"").unwrap();
    assert!(Keeper::new(&config(&file.join("below"))).is_none());
    let mut gone = Keeper::new(&config(&directory.path().join("state"))).unwrap();
    std::fs::remove_dir(directory.path().join("state")).unwrap();
    finish(&mut gone, left([1; 16]));
    assert_eq!(gone.totals().failed, 1);
}

#[test]
fn a_file_or_directory_of_others_stops_nobody_and_is_not_believed() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    finish(&mut Keeper::new(&config).unwrap(), left([1; 16]));
    std::fs::rename(directory.path().join(FILE), directory.path().join("kept")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, directory.path().join(FILE), rustix::fs::Mode::RWXU).unwrap();
    let mut keeper = Keeper::new(&config).unwrap();
    let mut next = pipeline([1; 16]);
    keeper.load(&mut next);
    assert_eq!((next.restored(), keeper.totals().refused), (Stats::default(), 1));
    finish(&mut keeper, left([2; 16]));
    assert_eq!(read(directory.path()).unwrap().boot_id, [2; 16], "it takes the FIFO's place");
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    assert!(Keeper::new(&config).is_none());
}
