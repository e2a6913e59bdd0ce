use super::damage::BlobState;
use super::unpacked::{MemberHead, MemberKind, Unpacker, open_unpacked};
use super::*;
use crate::entry::{BodyAt, Xattrs};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU32, Ordering};

fn new_cache() -> (tempfile::TempDir, Cache) {
    let dir = tempfile::tempdir().expect("tests may write to the temporary folder");
    let cache = Cache::open(&dir.path().join("cache")).unwrap();
    (dir, cache)
}

#[test]
fn blobs_are_kept_by_hash_and_read_only() {
    let (_dir, cache) = new_cache();
    let (sha256, path) = cache.put_blob(b"hello").unwrap();
    assert_eq!(sha256.to_string(), "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    assert_eq!(cache.blob(&sha256), Some(path.clone()));
    assert_eq!(std::fs::read(&path).unwrap(), b"hello");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o444);
    let inode = path.metadata().unwrap().ino();
    assert_eq!(cache.put_blob(b"hello").unwrap().1.metadata().unwrap().ino(), inode, "stored twice");
    assert_eq!(cache.blob(&Sha256::of(b"other")), None);
    let mut again = cache.temp_file().unwrap();
    again.write_all(b"hello").unwrap();
    cache.adopt_blob(again, &sha256).unwrap();
    assert_eq!(path.metadata().unwrap().ino(), inode, "a blob that was there was replaced");
}

#[test]
fn derived_things_appear_whole_and_the_first_one_stays() {
    let (_dir, cache) = new_cache();
    assert_eq!(cache.derived("go", "k"), None);
    for (i, text) in ["first", "second"].into_iter().enumerate() {
        let work = cache.temp_dir().unwrap();
        let tree = work.path().join("tree");
        std::fs::create_dir_all(tree.join("bin")).unwrap();
        std::fs::write(tree.join("bin/tool"), text).unwrap();
        std::fs::set_permissions(tree.join("bin/tool"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let adopted = cache.adopt_derived("go", "k", &tree).unwrap();
        assert_eq!(cache.derived("go", "k"), Some(adopted.clone()));
        assert_eq!(std::fs::read(adopted.join("bin/tool")).unwrap(), b"first", "round {i}");
        assert_eq!(adopted.join("bin/tool").metadata().unwrap().permissions().mode() & 0o777, 0o555);
        assert!(!tree.exists());
    }
    let file = cache.temp_file().unwrap();
    std::fs::write(file.path(), "packed").unwrap();
    let adopted = cache.adopt_derived("segment", "k", file.path()).unwrap();
    assert_eq!(std::fs::read(adopted).unwrap(), b"packed");
}

#[test]
fn one_key_is_made_once_when_threads_race() {
    let (_dir, cache) = new_cache();
    let made = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            // A cache of its own each: as other processes would have.
            scope.spawn(|| {
                let cache = Cache::open(cache.root()).unwrap();
                let entries = open_unpacked(&cache, "racing", |into: &mut Unpacker| {
                    made.fetch_add(1, Ordering::SeqCst);
                    let head = head("a");
                    into.add_file(head, &mut &b"body"[..])?.expect("memory can be read");
                    Ok::<_, CacheError>(())
                });
                assert_eq!(entries.unwrap().members.len(), 1);
            });
        }
    });
    assert_eq!(made.load(Ordering::SeqCst), 1);
}

#[test]
fn a_held_lock_is_noticed_and_waited_for() {
    let (_dir, cache) = new_cache();
    let (waiting, waits) = std::sync::mpsc::channel();
    let held = cache.lock("deb/a b").unwrap();
    let _other_key = cache.lock("deb/a_b").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| drop(cache.lock_or_wait("deb/a b", || waiting.send(()).unwrap()).unwrap()));
        waits.recv_timeout(std::time::Duration::from_secs(10)).expect("the second one notices that it has to wait");
        drop(held);
    });
}

/// A process that died holding a session: its folder is still there, its lock is not.
#[test]
fn leftovers_of_the_dead_go_and_those_of_the_living_stay() {
    let (_dir, cache) = new_cache();
    let living = cache.temp_file().unwrap();
    let dead = cache.root().join("tmp/dead");
    std::fs::create_dir_all(dead.join("mod")).unwrap();
    std::fs::write(dead.join("owner"), "").unwrap();
    std::fs::write(dead.join("mod/half"), "half").unwrap();
    std::fs::set_permissions(dead.join("mod"), std::fs::Permissions::from_mode(0o555)).unwrap();
    Cache::open(cache.root()).unwrap();
    assert!(!dead.exists());
    assert!(living.path().exists());
    drop(living);
    let root = cache.root().to_path_buf();
    drop(cache);
    assert_eq!(std::fs::read_dir(root.join("tmp")).unwrap().count(), 0, "a session outlived its cache");
}

#[test]
fn builds_may_begin_while_others_end() {
    let (_dir, cache) = new_cache();
    let root = cache.root();
    let work = || (0..200).for_each(|_| drop(Cache::open(root).unwrap().temp_file().unwrap()));
    std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(work))));
}

#[test]
fn what_a_killed_process_left_is_removed() {
    let (_dir, cache) = new_cache();
    // flock(1) stands for a build: it holds the lock of its session until it is killed.
    let session = cache.root().join("tmp/killed");
    std::fs::create_dir_all(&session).unwrap();
    let owner = session.join("owner");
    let script = format!("exec 9>'{}'; flock 9; echo ready; exec sleep 600", owner.display());
    let mut child = std::process::Command::new("sh")
        .args(["-c", &script])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("sh and flock are part of every Debian");
    let mut line = [0; 6];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
    Cache::open(cache.root()).unwrap();
    assert!(session.exists(), "work of a living process was removed");
    child.kill().unwrap();
    child.wait().unwrap();
    Cache::open(cache.root()).unwrap();
    assert!(!session.exists());
}

#[test]
fn errors_say_what_to_do() {
    let full = CacheError::io("write", Path::new("/c/x"))(std::io::Error::from_raw_os_error(28));
    assert_eq!(full.to_string(), "cannot write `/c/x`: No space left on device (os error 28)");
    assert!(full.help().starts_with("the disk is full"), "{}", full.help());
    let denied = CacheError::io("make", Path::new("/c"))(std::io::Error::from_raw_os_error(30));
    assert!(denied.help().contains("--cache"));
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(Cache::open(file.path()).unwrap_err().to_string().starts_with("cannot "));
}

fn head(name: &str) -> MemberHead<'_> {
    static NONE: Xattrs = Xattrs::new();
    MemberHead { name, mode: 0o4755, uid: 1, gid: 2, xattrs: &NONE, mtime: -3 }
}

#[test]
fn an_unpacked_archive_is_read_in_place() {
    let (_dir, cache) = new_cache();
    let xattrs = Xattrs::from([("security.capability".to_string(), vec![1, 0, 0, 2])]);
    let fill = |into: &mut Unpacker| {
        into.add(MemberHead { xattrs: &xattrs, ..head("./usr/") }, MemberKind::Dir);
        into.add_file(head("usr/b"), &mut &b"old"[..])?.unwrap();
        into.add(head("usr/old"), MemberKind::Hardlink("usr/b".into()));
        into.add_file(head("usr/b"), &mut &b"new body"[..])?.unwrap();
        into.add(head("odd"), MemberKind::Unusable("why".into()));
        into.set_stream_sha256(Sha256::of(b"stream"));
        Ok::<_, CacheError>(())
    };
    let first = open_unpacked(&cache, "k", fill).unwrap();
    let second = open_unpacked(&cache, "k", |_: &mut Unpacker| -> Result<(), CacheError> { panic!("unpacked twice") });
    assert_eq!(second.unwrap(), first);
    assert_eq!((&first.members[0].xattrs, first.members[1].xattrs.len()), (&xattrs, 0));
    assert_eq!(first.stream_sha256, Some(Sha256::of(b"stream")));
    let names: Vec<&str> = first.members.iter().map(|m| m.name.as_str()).collect();
    assert_eq!(names, ["./usr/", "usr/b", "usr/old", "usr/b", "odd"]);
    assert_eq!((first.members[1].mode, first.members[1].uid, first.members[1].gid), (0o4755, 1, 2));
    let body = |i: usize| {
        let MemberKind::File(body) = &first.members[i].kind else { panic!("{:?}", first.members[i]) };
        let BodyAt::File { path, offset } = &body.at else { panic!("{body:?}") };
        assert_eq!(offset % 16, 0);
        let bytes = std::fs::read(path).unwrap()[*offset as usize..][..body.size as usize].to_vec();
        assert_eq!(Sha256::of(&bytes), body.sha256);
        bytes
    };
    assert_eq!((body(1), body(3)), (b"old".to_vec(), b"new body".to_vec()));
    assert_eq!(first.members[4].kind, MemberKind::Unusable("why".into()));
}

#[test]
fn a_failed_unpack_leaves_nothing_and_a_damaged_one_is_made_anew() {
    let (_dir, cache) = new_cache();
    let fail = |_: &mut Unpacker| Err(CacheError::io("read", Path::new("x"))(std::io::Error::other("bad")));
    open_unpacked(&cache, "k", fail).unwrap_err();
    let fill = |into: &mut Unpacker| {
        into.add_file(head("a"), &mut &b"12345"[..])?.unwrap();
        Ok::<_, CacheError>(())
    };
    let whole = open_unpacked(&cache, "k", fill).unwrap();
    let dir = cache.derived("unpacked", "k-v4").unwrap();
    for (file, said) in [("bodies", "its bodies are truncated"), ("index", "its index is not what was written")] {
        let path = dir.join(file);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(2).unwrap();
        let error = open_unpacked(&cache, "k", fill).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
        assert_eq!(cache.discard_damaged().unwrap(), std::slice::from_ref(&dir));
        assert_eq!(open_unpacked(&cache, "k", fill).unwrap(), whole);
    }
}

/// Changes a byte of a file in place.
fn spoil(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[0] ^= 1;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn what_was_given_out_and_is_damaged_is_discarded() {
    let (_dir, cache) = new_cache();
    let (good, good_path) = cache.put_blob(b"good").unwrap();
    let (bad, bad_path) = cache.put_blob(b"bad").unwrap();
    let (_, unused_path) = cache.put_blob(b"unused").unwrap();
    let work = cache.temp_dir().unwrap();
    let tree = work.path().join("tree");
    std::fs::create_dir_all(&tree).unwrap();
    std::fs::write(tree.join("tool"), "tool").unwrap();
    let derived = cache.adopt_derived("go", "k", &tree).unwrap();

    let again = Cache::open(cache.root()).unwrap();
    let use_all = || (again.blob(&good), again.blob(&bad), again.derived("go", "k"));
    let none: [PathBuf; 0] = [];
    use_all();
    assert_eq!(again.discard_damaged().unwrap(), none);
    [&bad_path, &unused_path, &derived.join("tool")].into_iter().for_each(|path| spoil(path));
    use_all();
    assert_eq!(again.discard_damaged().unwrap(), [bad_path, derived]);
    assert_eq!(use_all(), (Some(good_path), None, None));
    assert!(unused_path.exists());
}

#[test]
fn a_body_of_another_size_is_wrong_or_wrongly_asked_for() {
    let (_dir, cache) = new_cache();
    let (sha256, path) = cache.put_blob(b"12345").unwrap();
    assert_eq!(cache.held_blob(&sha256, 5).unwrap(), BlobState::Whole(path.clone()));
    assert_eq!(cache.held_blob(&sha256, 6).unwrap(), BlobState::OtherSize(5));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(2).unwrap();
    assert_eq!(cache.held_blob(&sha256, 5).unwrap(), BlobState::Discarded(path));
    assert_eq!(cache.held_blob(&sha256, 5).unwrap(), BlobState::Absent);
}

#[test]
fn downloads_that_nobody_goes_on_with_are_removed_after_a_week() {
    let (_dir, cache) = new_cache();
    let partial = |text: &str, days: u64| {
        let path = cache.partial(&Sha256::of(text.as_bytes())).unwrap();
        let time = std::time::SystemTime::now() - Duration::from_secs(days * 24 * 3600);
        std::fs::File::create(&path).unwrap().set_modified(time).unwrap();
        path
    };
    let (new, old, held) = (partial("new", 6), partial("old", 8), partial("held", 8));
    let _lock = cache.lock(&fetch_key(&Sha256::of(b"held").to_string())).unwrap();
    Cache::open(cache.root()).unwrap();
    assert_eq!((new.exists(), old.exists(), held.exists()), (true, false, true));
}

#[test]
fn a_blob_that_was_changed_is_not_used_and_goes() {
    let (_dir, cache) = new_cache();
    let (sha256, path) = cache.put_blob(b"hello").unwrap();
    let read = |blob: &mut dyn std::io::Read| {
        let mut text = [0; 2];
        blob.read_exact(&mut text).map_err(CacheError::io("read", Path::new("x"))).map(|()| text)
    };
    assert_eq!(read_blob::<_, CacheError>(&path, &sha256, read).unwrap(), *b"he");
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "helLo").unwrap();
    let error = read_blob::<_, CacheError>(&path, &sha256, read).unwrap_err();
    assert!(error.to_string().contains("was changed in the cache"), "{error}");
    assert_eq!(cache.blob(&sha256), None);
}
