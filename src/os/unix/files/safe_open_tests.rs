//! What is read, and what is refused, in directories of each kind.
//!
//! Most of it takes root, who alone can make links and files of another user.

use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::super::test_dir::{Dir, write};
use super::*;
use crate::needs;

/// As `read`, of files that are small here.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    super::read(path, 100)
}

fn resolve(path: &Path) -> io::Result<PathBuf> {
    super::Place::followed(path).map(|place| place.path())
}

/// Debian's nobody; any that is not root will do.
const NOBODY: u32 = 65534;

/// A group that root is not in by itself, and neither is who runs the tests.
const NOGROUP: u32 = 65534;

/// A directory and its `x`.
struct Place {
    dir: Dir,
    x: PathBuf,
}

fn place(owner: Option<u32>, mode: u32) -> Place {
    let dir = Dir::new();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    chown(dir.path(), owner, None).unwrap();
    let x = dir.join("x");
    Place { dir, x }
}

/// Nobody but us can make a file there; everybody can; another user can.
fn ours() -> Place {
    place(None, 0o755)
}

fn everybodys() -> Place {
    place(None, 0o1777)
}

fn anothers() -> Place {
    place(Some(NOBODY), 0o755)
}

/// Ours, and of that group.
fn a_groups(group: Option<u32>, mode: u32) -> Place {
    let place = place(None, mode);
    // Which leaves the mode as it is.
    chown(place.dir.path(), None, group).unwrap();
    place
}

impl Place {
    fn linked(self, owner: Option<u32>) -> Place {
        write(self.dir.join("target"), "target");
        symlink("target", &self.x).unwrap();
        lchown(&self.x, owner, None).unwrap();
        self
    }

    /// A file of that owner, with that many names.
    fn with_names(self, owner: Option<u32>, count: u64) -> Place {
        write(&self.x, "file");
        chown(&self.x, owner, None).unwrap();
        for number in 1..count {
            std::fs::hard_link(&self.x, self.dir.join(&number.to_string())).unwrap();
        }
        self
    }

    #[track_caller]
    fn gives(self, text: &str) {
        assert_eq!(read(&self.x).unwrap(), text.as_bytes());
        look(&self.x).unwrap();
        assert_eq!(resolve(&self.x).unwrap().parent(), Some(self.dir.path()));
    }

    #[track_caller]
    fn assert_refused(self) {
        self.assert_refused_as("a link");
    }

    #[track_caller]
    fn assert_refused_as(self, what: &str) {
        let words = format!("{} is {what} that another user may have created: remove it", self.x.display());
        for error in [read(&self.x).unwrap_err(), look(&self.x).unwrap_err()] {
            assert_eq!((error.kind(), error.to_string()), (io::ErrorKind::PermissionDenied, words.clone()));
        }
    }

    #[track_caller]
    fn assert_not_followed(self) {
        assert_eq!(resolve(&self.x).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        self.assert_refused();
    }
}

#[test]
fn an_ordinary_file_is_read_everywhere() {
    ours().with_names(None, 1).gives("file");
    everybodys().with_names(None, 1).gives("file");
    if needs::root() {
        anothers().with_names(None, 1).gives("file");
        anothers().with_names(Some(NOBODY), 1).gives("file");
        everybodys().with_names(Some(NOBODY), 1).gives("file");
    }
}

#[test]
fn what_is_not_there_is_not_found_and_can_be_made() {
    for place in [ours(), everybodys()] {
        for path in [place.x.clone(), place.x.join("below")] {
            assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
            look(&path).unwrap();
        }
        assert_eq!(resolve(&place.x).unwrap(), place.x);
        symlink("target", &place.x).unwrap();
        assert_eq!(resolve(&place.x).unwrap(), place.dir.join("target"), "where a link of ours leads");
        assert_eq!(read(&place.x).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}

#[test]
fn what_cannot_be_looked_at_is_not_missing() {
    let place = ours();
    write(&place.x, "");
    // As a directory it would be ours, and then everybody's.
    for mode in [0o644, 0o666] {
        std::fs::set_permissions(&place.x, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(resolve(&place.x.join("below")).unwrap_err().kind(), io::ErrorKind::NotADirectory);
        assert_eq!(look(&place.x.join("below/further")).unwrap_err().kind(), io::ErrorKind::NotADirectory);
    }
}

#[test]
fn our_own_links_are_followed() {
    ours().linked(None).gives("target");
    everybodys().linked(None).gives("target");
    let place = ours().linked(None);
    assert_eq!(resolve(&place.x).unwrap(), place.dir.join("target"));
    if needs::root() {
        anothers().linked(None).gives("target");
    }
}

#[test]
fn a_link_of_another_user_is_followed_only_where_we_alone_could_have_put_it() {
    if needs::root() {
        ours().linked(Some(NOBODY)).gives("target");
        a_groups(None, 0o775).linked(Some(NOBODY)).gives("target");
        a_groups(Some(NOGROUP), 0o755).linked(Some(NOBODY)).gives("target");
        a_groups(Some(NOGROUP), 0o775).linked(Some(NOBODY)).assert_not_followed();
        everybodys().linked(Some(NOBODY)).assert_not_followed();
        anothers().linked(Some(NOBODY)).assert_not_followed();
    }
}

#[test]
fn where_our_own_link_leads_to_another_users_link_it_ends() {
    if !needs::root() {
        return;
    }
    for (place, is_followed) in [(ours(), true), (everybodys(), false), (anothers(), false)] {
        let place = place.linked(None);
        std::fs::rename(place.dir.join("target"), place.dir.join("last")).unwrap();
        symlink("last", place.dir.join("target")).unwrap();
        assert_eq!(resolve(&place.x).unwrap(), place.dir.join("last"), "all of them are ours");
        lchown(place.dir.join("target"), Some(NOBODY), None).unwrap();
        assert_eq!((resolve(&place.x).is_ok(), read(&place.x).is_ok(), look(&place.x).is_ok()), {
            (is_followed, is_followed, is_followed)
        });
    }
}

#[test]
fn our_own_link_out_of_a_shared_directory_leads_to_where_all_is_as_it_is() {
    let (place, elsewhere) = (everybodys(), ours().with_names(None, 2));
    symlink(&elsewhere.x, &place.x).unwrap();
    assert_eq!((read(&place.x).unwrap(), resolve(&place.x).unwrap()), (b"file".to_vec(), elsewhere.x.clone()));
    // And into one.
    let (place, elsewhere) = (everybodys(), everybodys().with_names(None, 2));
    symlink(&elsewhere.x, &place.x).unwrap();
    assert_eq!(read(&place.x).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
}

#[test]
fn what_is_too_large_is_refused_everywhere() {
    for place in [ours(), everybodys()] {
        write(&place.x, &"x".repeat(101));
        let words = format!("{}: it is larger than 100 bytes: it has 101", place.x.display());
        assert_eq!(read(&place.x).unwrap_err().to_string(), words);
    }
}

#[test]
fn links_in_a_ring_are_an_error() {
    for place in [ours(), everybodys()] {
        symlink("x", &place.x).unwrap();
        for error in [read(&place.x).unwrap_err(), resolve(&place.x).unwrap_err()] {
            assert!(error.to_string().ends_with("(os error 40)"), "{error}");
        }
    }
}

#[test]
fn a_second_name_is_refused_where_others_may_have_made_it() {
    ours().with_names(None, 2).gives("file");
    a_groups(None, 0o775).with_names(None, 2).gives("file");
    // Of ours too: what only we may read is what an attacker would have us publish.
    everybodys().with_names(None, 2).assert_refused();
    if needs::root() {
        ours().with_names(Some(NOBODY), 2).gives("file");
        a_groups(Some(NOGROUP), 0o775).with_names(None, 2).assert_refused();
        for count in [2, 3] {
            everybodys().with_names(Some(NOBODY), count).assert_refused();
            anothers().with_names(Some(0), count).assert_refused();
        }
        // Who owns the directory could read it all the same.
        anothers().with_names(Some(NOBODY), 2).gives("file");
        // Unless another user made the name.
        place(Some(NOBODY), 0o777).with_names(Some(NOBODY), 2).assert_refused();
    }
}

#[test]
fn what_is_no_file_is_refused_and_not_waited_for() {
    const PATIENCE: Duration = Duration::from_secs(5);
    let place = everybodys();
    mknodat(CWD, &place.x, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let (began_at, x) = (Instant::now(), place.x.clone());
    let (over, is_over) = mpsc::channel::<()>();
    // So that the test comes to an end even if the pipe is waited for.
    let writer = thread::spawn(move || {
        while is_over.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            write(&x, "");
        }
    });
    place.assert_refused_as("a special file or directory");
    assert!(began_at.elapsed() < PATIENCE, "it was waited for");
    drop(over);
    writer.join().unwrap();
    let place = everybodys();
    std::fs::create_dir(&place.x).unwrap();
    place.assert_refused_as("a special file or directory");
}
