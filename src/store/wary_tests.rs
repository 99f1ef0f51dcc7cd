//! What is read, and what is refused, in directories of each kind.
//!
//! Most of it takes root, who alone can make links and files of another user.

use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::super::tests::{Dir, write};
use super::*;

/// Debian's nobody; any that is not root will do.
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

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
        assert_eq!(resolve(&self.x).unwrap().parent(), Some(self.dir.path()));
    }

    #[track_caller]
    fn assert_refused(self) {
        let error = read(&self.x).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
        assert!(error.to_string().contains(&format!("{} is a link", self.x.display())), "{error}");
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
    if is_root() {
        anothers().with_names(None, 1).gives("file");
        anothers().with_names(Some(NOBODY), 1).gives("file");
        everybodys().with_names(Some(NOBODY), 1).gives("file");
    }
}

#[test]
fn what_is_not_there_is_not_found() {
    for place in [ours(), everybodys()] {
        assert_eq!(read(&place.x).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(resolve(&place.x).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(read(&place.x.join("below")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}

#[test]
fn our_own_links_are_followed() {
    ours().linked(None).gives("target");
    everybodys().linked(None).gives("target");
    let place = ours().linked(None);
    assert_eq!(resolve(&place.x).unwrap(), place.dir.join("target"));
    if is_root() {
        anothers().linked(None).gives("target");
    }
}

#[test]
fn a_link_of_another_user_is_followed_only_where_we_alone_could_have_put_it() {
    if is_root() {
        ours().linked(Some(NOBODY)).gives("target");
        everybodys().linked(Some(NOBODY)).assert_not_followed();
        anothers().linked(Some(NOBODY)).assert_not_followed();
    }
}

#[test]
fn a_second_name_of_somebody_elses_file_is_refused_where_others_may_have_made_it() {
    everybodys().with_names(None, 2).gives("file");
    if is_root() {
        ours().with_names(Some(NOBODY), 2).gives("file");
        for count in [2, 3] {
            everybodys().with_names(Some(NOBODY), count).assert_refused();
            anothers().with_names(Some(0), count).assert_refused();
        }
        // Who owns the directory could read it all the same.
        anothers().with_names(Some(NOBODY), 2).gives("file");
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
        if is_over.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            write(x, "");
        }
    });
    place.assert_refused();
    assert!(began_at.elapsed() < PATIENCE, "it was waited for");
    drop(over);
    writer.join().unwrap();
    let place = everybodys();
    std::fs::create_dir(&place.x).unwrap();
    place.assert_refused();
}
