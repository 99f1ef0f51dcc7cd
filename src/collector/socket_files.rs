//! The files of Unix sockets that a collector leaves when it is killed: the next one could not bind there.
//!
//! A file is removed only if our own collector was seen to bind it, it is still the same and nobody listens. Which
//! those are is recorded with the collector's process (`orphans`), for the agent after one that was killed. Of any
//! other the problem names the file.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::os::files::{self, FileKey};

/// As many as are recorded: collectors have one or two.
pub const MAX_FILES: usize = 16;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketFile {
    path: PathBuf,
    #[serde(flatten)]
    key: FileKey,
}

impl SocketFile {
    /// `None` if there is no socket, or its path cannot be recorded.
    pub fn at(path: &Path) -> Option<SocketFile> {
        let path = std::path::absolute(path).ok().filter(|path| path.to_str().is_some())?;
        files::socket_at(&path).map(|key| SocketFile { path, key })
    }

    /// After the end of the process that has bound it.
    pub fn remove_if_dead(&self) {
        let path = self.path.display();
        match files::remove_dead_socket(&self.path, self.key) {
            Ok(true) => log::info!(path:%; "removed the socket file of a collector that was killed"),
            Ok(false) => {}
            Err(error) => log::warn!(path:%, error:%; "cannot remove the socket file of a collector that was killed"),
        }
    }
}

/// What to do about a file that keeps a collector with these last words from binding: as Go writes it,
/// `listen unix /run/x.sock: bind: address already in use`.
pub fn remedy(tail: &str) -> Option<String> {
    let (before, _) = tail.rsplit_once(": bind: address already in use")?;
    let path = before.lines().next_back()?.split_once("listen unix")?.1.split_once(' ')?.1;
    Some(format!("{path} is there already: if `ss -xl` shows nothing that listens on it, delete it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_named() {
        let tail = |at: &str| format!("x\nError: cannot start: listen {at}: bind: address already in use\nx");
        for at in ["unix /run/a b.sock", "unixgram /run/a b.sock"] {
            let text = "/run/a b.sock is there already: if `ss -xl` shows nothing that listens on it, delete it";
            assert_eq!(remedy(&tail(at)).as_deref(), Some(text));
        }
        assert_eq!(remedy(&tail("tcp 127.0.0.1:4317")), None);
        assert_eq!(remedy("no such words"), None);
    }
}
