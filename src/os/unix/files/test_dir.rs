//! For unit tests: a directory of their own, and what is in it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory of one test's own, removed on drop.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new() -> Dir {
        Dir::below(&std::env::temp_dir())
    }

    /// Where syncs cost nothing, if there is such a place: for what makes thousands of them.
    pub fn in_memory() -> Dir {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { Dir::below(memory) } else { Dir::new() }
    }

    fn below(parent: &Path) -> Dir {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("kmagent-unit-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        // What /tmp is reached by may be a link itself.
        Dir(path.canonicalize().unwrap())
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The names in it, and in a directory below it.
    pub fn names(&self, below: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.join(below)).unwrap().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap()
}

pub fn write(path: impl AsRef<Path>, text: &str) {
    std::fs::write(path, text).unwrap();
}

pub fn mode(path: impl AsRef<Path>) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}
