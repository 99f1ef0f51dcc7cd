//! The file of a Unix socket, which stays when the process that bound it is killed (unix(7)).

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::{Place, key};
use crate::os::files::FileKey;

/// Which one is there; `None` if none is.
pub fn socket_at(path: &Path) -> Option<FileKey> {
    let meta = Place::new(path).ok()?.look().ok()??;
    meta.file_type().is_socket().then(|| key(&meta))
}

/// Removes it if it is still this one and nobody listens. True if it did.
pub fn remove_dead_socket(path: &Path, known: FileKey) -> io::Result<bool> {
    let place = Place::new(path)?;
    if place.look()?.is_none_or(|meta| !meta.file_type().is_socket() || key(&meta) != known) {
        return Ok(false);
    }
    // Alive it accepts, is full, or is of another type; the path of what was looked at, whatever takes its place.
    let (address, _found) = place.path_of_found()?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    if net::connect(&probe, &SocketAddrUnix::new(address)?) != Err(Errno::CONNREFUSED) {
        return Ok(false);
    }
    place.remove().map(|()| true)
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use super::super::test_dir::{Dir, write};
    use super::*;

    #[test]
    fn only_a_dead_socket_that_is_the_same_is_removed() {
        let dir = Dir::new();
        let path = dir.join("x.sock");
        let remove = |known| remove_dead_socket(&path, known).unwrap();
        assert_eq!(socket_at(&path), None);
        for is_stream in [true, false] {
            let alive: OwnedFd = match is_stream {
                true => UnixListener::bind(&path).unwrap().into(),
                false => UnixDatagram::bind(&path).unwrap().into(),
            };
            let known = socket_at(&path).unwrap();
            assert!(!remove(known) && path.exists(), "somebody listens");
            drop(alive);
            let other = FileKey { inode: known.inode + 1, ..known };
            assert!(!remove(other) && path.exists(), "it is another's");
            assert!(remove(known) && !path.exists());
            assert!(!remove(known));
        }
        write(&path, "no socket");
        assert_eq!(socket_at(&path), None);
        let known = key(&std::fs::metadata(&path).unwrap());
        assert!(!remove(known) && path.exists());
    }
}
