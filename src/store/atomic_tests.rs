//! Whole files on a real file system: their names, modes and owners, and the words about failures.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use super::*;
use crate::needs;
use crate::os::unix::files::test_dir::{Dir, mode, read, write as put};

/// Debian's nobody and nogroup; any that is not root will do.
const NOBODY: u32 = 65534;

fn place(path: impl AsRef<Path>) -> Place {
    Place::new(path.as_ref()).unwrap()
}

fn owner(path: &Path) -> (u32, u32) {
    let meta = std::fs::symlink_metadata(path).unwrap();
    (meta.uid(), meta.gid())
}

#[test]
fn a_new_file_is_whole_private_and_used_by_nobody_else() {
    let dir = Dir::new();
    let target = dir.join("x.json");
    let written = [b"one".as_slice(), b"other"].map(|bytes| write_new(&place(&target), ".mark-", bytes).unwrap());
    let [one, other] = written.each_ref().map(NewFile::path);
    assert_ne!(one, other);
    assert_eq!((read(one).as_str(), mode(one), read(other).as_str()), ("one", 0o600, "other"));
    let name = one.file_name().unwrap().to_str().unwrap();
    let start = format!(".x.json.mark-{}-", std::process::id());
    assert!(name.strip_prefix(&start).is_some_and(|number| number.parse::<u32>().is_ok()), "{name}");
    assert_eq!(write(Path::new("/"), b"").unwrap_err().kind(), io::ErrorKind::InvalidFilename);
}

#[test]
fn a_file_that_replaces_another_has_its_mode() {
    let dir = Dir::new();
    let target = dir.join("x");
    put(&target, "old");
    for (old, new) in [(0o640, 0o640), (0o604, 0o604), (0o400, 0o400), (0o4750, 0o750)] {
        std::fs::set_permissions(&target, std::fs::Permissions::from_mode(old)).unwrap();
        write(&target, b"new").unwrap();
        assert_eq!((mode(&target), read(&target).as_str()), (new, "new"));
    }
    assert_eq!(dir.names("."), ["x"]);
    // A directory's mode is nothing for a file.
    std::fs::create_dir(dir.join("d")).unwrap();
    assert_eq!(mode(write_new(&place(dir.join("d")), ".mark-", b"").unwrap().path()), 0o600);
}

#[test]
fn a_file_that_replaces_another_has_its_owner() {
    if !needs::root() {
        return;
    }
    let dir = Dir::new();
    let target = dir.join("x");
    for (uid, gid) in [(NOBODY, 0), (0, NOBODY), (NOBODY, NOBODY), (0, 0)] {
        put(&target, "old");
        chown(&target, Some(uid), Some(gid)).unwrap();
        std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o640)).unwrap();
        write(&target, b"new").unwrap();
        assert_eq!((owner(&target), mode(&target)), ((uid, gid), 0o640));
    }
}

#[test]
fn a_new_file_of_root_belongs_to_whom_its_directory_belongs_to() {
    if !needs::root() {
        return;
    }
    let dir = Dir::new();
    write(&dir.join("roots"), b"").unwrap();
    chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    write(&dir.join("nobodys"), b"").unwrap();
    assert_eq!((owner(&dir.join("roots")), owner(&dir.join("nobodys"))), ((0, 0), (NOBODY, NOBODY)));
    assert_eq!(mode(dir.join("nobodys")), 0o600);
    // Only a directory that is another user's is a reason to.
    chown(dir.path(), Some(0), Some(NOBODY)).unwrap();
    write(&dir.join("roots-too"), b"").unwrap();
    assert_eq!(owner(&dir.join("roots-too")), (0, 0));
}

#[test]
fn directories_that_are_missing_are_made_private() {
    let dir = Dir::new();
    write(&dir.join("a/b/x"), b"new").unwrap();
    assert_eq!((mode(dir.join("a")), mode(dir.join("a/b")), read(dir.join("a/b/x"))), (0o700, 0o700, "new".into()));
    // What is in the way of one is an error of its own.
    put(dir.join("file"), "");
    assert_eq!(write(&dir.join("file/x"), b"").unwrap_err().kind(), io::ErrorKind::NotADirectory);
}

#[test]
fn what_cannot_be_put_in_place_is_removed_again() {
    let dir = Dir::new();
    std::fs::create_dir_all(dir.join("x/in-use")).unwrap();
    write(&dir.join("x"), b"new").unwrap_err();
    assert_eq!(dir.names("."), ["x"]);
}

/// Each attempt writes under another name, and what is logged once is compared by its words.
#[test]
fn a_failure_has_the_same_words_at_each_attempt_and_names_the_file() {
    let dir = Dir::new();
    let (missing, in_the_way) = (dir.join("file/x"), dir.join("d"));
    put(dir.join("file"), "");
    std::fs::create_dir_all(in_the_way.join("in-use")).unwrap();
    let way = place(&in_the_way);
    type Attempt<'a> = &'a dyn Fn() -> io::Error;
    let attempts: [(&Path, Attempt); 3] = [
        (&missing, &|| write(&missing, b"").unwrap_err()),
        (&in_the_way, &|| write(&in_the_way, b"").unwrap_err()),
        (&in_the_way, &|| write_new(&way, WRITING_MARK, b"").unwrap().replace(&way).unwrap_err()),
    ];
    for (path, attempt) in attempts {
        let (first, second) = (attempt(), attempt());
        assert_eq!((first.kind(), first.to_string()), (second.kind(), second.to_string()));
        assert_eq!(first.to_string().matches(path.to_str().unwrap()).count(), 1, "{first}");
        assert!(!first.to_string().contains(WRITING_MARK), "{first}");
    }
}

#[test]
fn a_replacement_takes_the_others_name() {
    let dir = Dir::new();
    put(dir.join("old"), "old");
    let (old, new) = (place(dir.join("old")), write_new(&place(dir.join("old")), WRITING_MARK, b"new").unwrap());
    new.replace(&old).unwrap();
    assert_eq!((dir.names("."), read(dir.join("old"))), (vec!["old".to_string()], "new".to_string()));
    assert_eq!(new.replace(&old).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn a_sweep_takes_hidden_files_with_the_mark() {
    let dir = Dir::new();
    let left = write_new(&place(dir.join("x")), WRITING_MARK, b"").unwrap();
    for name in [".x.other-1", ".candidate", "x.candidate-1", "x"] {
        put(dir.join(name), "");
    }
    sweep(&Directory::open(dir.path()).unwrap(), WRITING_MARK);
    assert!(!left.path().exists());
    assert_eq!(dir.names("."), [".candidate", ".x.other-1", "x", "x.candidate-1"]);
}

/// The number after the mark is a pid; whether that process lives is known by its lock alone.
#[test]
fn a_sweep_spares_what_another_process_is_about_to_put_in_place() {
    let dir = Dir::new();
    let (held, left) = (dir.join(".x.candidate-1-0"), dir.join(".x.candidate-1-1"));
    let file = place(&held).create_private().unwrap();
    assert!(files::hold(&file));
    put(&left, "");
    sweep(&Directory::open(dir.path()).unwrap(), WRITING_MARK);
    assert_eq!(dir.names("."), [".x.candidate-1-0"]);
    // Closing alone would leave it to the child of another test, between fork and exec.
    file.unlock().unwrap();
    sweep(&Directory::open(dir.path()).unwrap(), WRITING_MARK);
    assert_eq!(dir.names("."), [""; 0]);
}

/// As on a file system without hard links: at no time is there nothing at the old name.
#[test]
fn what_cannot_be_linked_is_copied_and_stays() {
    let dir = Dir::new();
    let (path, kept) = (dir.join("config"), dir.join("config.rejected"));
    put(&path, "now");
    put(&kept, "before");
    let refuse = |_: &Place, _: &Place| Err(io::ErrorKind::PermissionDenied.into());
    set_aside_by(&place(&path), &place(&kept), 100, refuse).unwrap();
    assert_eq!((read(&path), read(&kept)), ("now".into(), "now".into()));
    assert_eq!((mode(&kept), dir.names("")), (0o600, vec!["config".into(), "config.rejected".into()]));
}

/// A second name there may be another user's, so a kill between the link and the rename would close the config to us.
#[test]
fn where_others_may_write_nothing_gets_a_second_name() {
    for (mode, names) in [(0o1777, 1), (0o755, 2)] {
        let dir = Dir::new();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        let (path, kept) = (dir.join("config"), dir.join("config.rejected"));
        put(&path, "now");
        set_aside(&place(&path), &place(&kept), 100).unwrap();
        assert_eq!((read(&path), read(&kept)), ("now".into(), "now".into()));
        assert_eq!(std::fs::metadata(&path).unwrap().nlink(), names, "mode {mode:o}");
    }
}
