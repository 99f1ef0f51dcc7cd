//! Each kind of step, in directories of each kind.
//!
//! Most of it takes root, who alone can make links and directories of another user.

use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

use super::super::test_dir::{Dir, mode, read, write};
use super::super::{Place, make_private_directory};
use super::*;
use crate::needs;

/// Debian's nobody; any that is not root will do.
const NOBODY: u32 = 65534;

/// `theirs`, nobody's, with links of nobody's to `ours` in it; `ours/x`, which only we may read.
struct Scene {
    dir: Dir,
}

impl Scene {
    fn new() -> Scene {
        let dir = Dir::new();
        for name in ["theirs", "theirs/below", "ours"] {
            std::fs::create_dir(dir.join(name)).unwrap();
        }
        write(dir.join("ours/x"), "secret");
        for name in ["theirs", "theirs/below"] {
            chown(dir.join(name), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        Scene { dir }
    }

    fn link(&self, target: impl AsRef<Path>, name: &str, owner: u32) {
        symlink(target, self.dir.join(name)).unwrap();
        lchown(self.dir.join(name), Some(owner), Some(owner)).unwrap();
    }

    /// Where a path below the scene leads, from there.
    fn leads(&self, path: &str) -> io::Result<PathBuf> {
        let place = Place::followed(&self.dir.join(path))?;
        Ok(place.path().strip_prefix(self.dir.path()).unwrap().to_path_buf())
    }

    #[track_caller]
    fn assert_refused(&self, path: &str, link: &str) {
        let words =
            format!("{} is a link that another user may have created: remove it", self.dir.join(link).display());
        let path = self.dir.join(path);
        let entered = |last| walk(&path, last).map(|_| ()).unwrap_err();
        let errors = [
            Place::new(&path.join("x")).unwrap_err(),
            Place::followed(&path.join("x")).unwrap_err(),
            entered(Last::Entered),
            entered(Last::Made(0o700)),
        ];
        for error in errors {
            assert_eq!((error.kind(), error.to_string()), (io::ErrorKind::PermissionDenied, words.clone()));
        }
    }
}

#[test]
fn a_link_of_another_user_leads_nowhere_wherever_it_is_in_the_path() {
    if !needs::root() {
        return;
    }
    let scene = Scene::new();
    scene.link(scene.dir.join("ours"), "theirs/absolute", NOBODY);
    scene.link("../ours", "theirs/relative", NOBODY);
    scene.link("../../ours", "theirs/below/deep", NOBODY);
    // What stays with that user is refused too: it may be moved while it is followed.
    scene.link("below", "theirs/inside", NOBODY);
    for link in ["theirs/absolute", "theirs/relative", "theirs/below/deep", "theirs/inside"] {
        scene.assert_refused(link, link);
    }
    // By way of a link of ours.
    scene.link("theirs/relative", "ours-too", 0);
    scene.assert_refused("ours-too", "theirs/relative");
    // In root's directory that everybody, or another group, may write in.
    for (owner, mode) in [(0, 0o1777), (NOBODY, 0o770)] {
        let theirs = scene.dir.join("theirs");
        chown(&theirs, Some(0), Some(owner)).unwrap();
        std::fs::set_permissions(&theirs, std::fs::Permissions::from_mode(mode)).unwrap();
        scene.assert_refused("theirs/relative", "theirs/relative");
    }
}

#[test]
fn links_of_ours_are_followed_and_those_in_directories_of_ours() {
    if !needs::root() {
        return;
    }
    let scene = Scene::new();
    scene.link("../ours", "theirs/roots", 0);
    scene.link("ours", "nobodys", NOBODY);
    scene.link("x", "ours/y", NOBODY);
    for path in ["theirs/roots/x", "nobodys/x", "nobodys/y", "theirs/below/../../ours/x", "theirs/roots/../ours/x"] {
        assert_eq!(scene.leads(path).unwrap(), Path::new("ours/x"), "{path}");
    }
    assert_eq!(Place::new(&scene.dir.join("ours/y")).unwrap().path(), scene.dir.join("ours/y"), "the link itself");
    // A second name could be given to root's link by anybody, where protected_hardlinks (proc_sys_fs(5)) is 0.
    std::fs::hard_link(scene.dir.join("theirs/roots"), scene.dir.join("theirs/planted")).unwrap();
    scene.assert_refused("theirs/planted", "theirs/planted");
}

/// The kernel's `..` would lead to where the directory is by then.
#[test]
fn a_parent_is_where_the_walk_came_from() {
    let dir = Dir::new();
    std::fs::create_dir_all(dir.join("a/b")).unwrap();
    let leads = |path: &str| Place::followed(&dir.join(path)).unwrap().path();
    assert_eq!(leads("a/b/../x"), dir.join("a/x"));
    symlink("a/b", dir.join("link")).unwrap();
    assert_eq!(leads("link/../x"), dir.join("a/x"), "of a link's target, as the kernel goes");
    assert_eq!(Place::followed(Path::new("/../../tmp")).unwrap().path(), Path::new("/tmp"));
    for path in ["missing/../x", "link/missing/../x"] {
        assert_eq!(Place::followed(&dir.join(path)).unwrap_err().kind(), io::ErrorKind::NotFound, "{path}");
    }
}

#[test]
fn a_directory_stays_the_one_that_was_looked_at() {
    let dir = Dir::new();
    for name in ["a", "b"] {
        std::fs::create_dir(dir.join(name)).unwrap();
    }
    let place = Place::new(&dir.join("a/x")).unwrap();
    std::fs::rename(dir.join("a"), dir.join("c")).unwrap();
    symlink("b", dir.join("a")).unwrap();
    std::io::Write::write_all(&mut place.create_private().unwrap(), b"new").unwrap();
    assert_eq!((read(dir.join("c/x")).as_str(), dir.names("b").len()), ("new", 0));
    place.rename(&place.beside("y".into())).unwrap();
    place.directory().sync().unwrap();
    assert_eq!(dir.names("c"), ["y"]);
    place.beside("y".into()).remove().unwrap();
    assert_eq!((dir.names("c").len(), dir.names("b").len()), (0, 0));
}

#[test]
fn directories_are_made_through_links_of_ours_and_not_through_those_of_others() {
    let dir = Dir::new();
    symlink("elsewhere/deep", dir.join("link")).unwrap();
    make_private_directory(&dir.join("link/a/b")).unwrap();
    assert_eq!((mode(dir.join("elsewhere")), mode(dir.join("elsewhere/deep/a/b"))), (0o700, 0o700));
    make_private_directory(&dir.join("link/a/b")).unwrap();
    write(dir.join("file"), "");
    assert_eq!(make_private_directory(&dir.join("file")).unwrap_err().kind(), io::ErrorKind::NotADirectory);
}

#[test]
fn a_processs_root_is_reached_as_the_kernel_does() {
    let dir = Dir::new();
    write(dir.join("x"), "");
    let by_root = PathBuf::from(format!("/proc/self/root{}", dir.join("x").display()));
    assert!(Place::followed(&by_root).unwrap().look().unwrap().is_some());
    let links = Place::followed(Path::new("/proc/self/cwd/x")).unwrap().path();
    assert!(links.starts_with("/proc"), "{}", links.display());
}

#[test]
fn what_another_user_may_exchange_is_told() {
    if !needs::root() {
        return;
    }
    let scene = Scene::new();
    let exposed = |path: &str| {
        let walked = walk(&scene.dir.join(path), Last::Followed).unwrap();
        let below = |directory: &Directory| {
            directory.path.strip_prefix(scene.dir.path()).is_ok_and(|path| !path.as_os_str().is_empty())
        };
        walked.exposed.iter().filter(|directory| below(directory)).count()
    };
    std::fs::create_dir(scene.dir.join("theirs/roots")).unwrap();
    write(scene.dir.join("theirs/roots/x"), "");
    // Where there is nothing yet, something can be put.
    assert_eq!((exposed("ours/x"), exposed("theirs/roots/x"), exposed("theirs/below/x")), (0, 1, 2));
    // Sticky: root's stays where it is, and what is that user's does not.
    chown(scene.dir.join("theirs"), Some(0), Some(NOBODY)).unwrap();
    for (mode, roots, theirs) in [(0o1770, 0, 2), (0o770, 1, 2), (0o750, 0, 1)] {
        std::fs::set_permissions(scene.dir.join("theirs"), std::fs::Permissions::from_mode(mode)).unwrap();
        write(scene.dir.join("theirs/below/x"), "");
        assert_eq!((exposed("theirs/roots/x"), exposed("theirs/below/x")), (roots, theirs), "{mode:o}");
    }
}
