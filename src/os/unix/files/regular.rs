//! Opening what must be a regular file.
//!
//! A FIFO would be waited for until somebody opens its other end, a device may give bytes without end, and either can
//! stand where a file should: made by mistake, or by whoever may write in that directory. So each file that is read or
//! locked is opened without waiting, and looked at before anything is done with it: the kernel's and the system's here,
//! by name, and those where another user may write by `Place`.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

/// For reading. The null device counts as an empty file: it is how people say that there is none.
///
/// # Errors
/// It is no regular file: what it is, and what to do. No error names the path.
pub fn open_regular(path: &Path) -> io::Result<File> {
    // A terminal must not become ours either.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path);
    let file = match opened {
        // A socket.
        Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {
            return Err(std::fs::metadata(path).ok().and_then(|meta| refused(&meta)).unwrap_or(error));
        }
        opened => opened?,
    };
    refused(&file.metadata()?).map_or(Ok(file), Err)
}

/// `None` for a regular file.
pub(super) fn refused(meta: &Metadata) -> Option<io::Error> {
    let kind = meta.file_type();
    let (error, what) = match () {
        () if kind.is_file() || is_null(meta) => return None,
        () if kind.is_dir() => (io::ErrorKind::IsADirectory, "a directory"),
        () if kind.is_fifo() => (io::ErrorKind::InvalidInput, "a FIFO"),
        () if kind.is_socket() => (io::ErrorKind::InvalidInput, "a socket"),
        () => (io::ErrorKind::InvalidInput, "a device"),
    };
    Some(io::Error::new(error, format!("it is {what}: replace it with a regular file")))
}

/// null(4).
fn is_null(meta: &Metadata) -> bool {
    meta.file_type().is_char_device() && meta.rdev() == rustix::fs::makedev(1, 3)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::super::Place;
    use super::super::test_dir::{Dir, write};
    use super::*;

    /// For reading and for writing: none of it is waited for.
    #[test]
    fn what_is_no_regular_file_is_named_and_not_waited_for() {
        let dir = Dir::new();
        mknodat(CWD, dir.join("fifo"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let _listener = UnixListener::bind(dir.join("socket")).unwrap();
        for (path, what) in [
            (dir.join("fifo"), "it is a FIFO"),
            (dir.join("socket"), "it is a socket"),
            ("/dev/zero".into(), "it is a device"),
            (dir.path().into(), "it is a directory"),
        ] {
            let words = format!("{what}: replace it with a regular file");
            assert_eq!(open_regular(&path).unwrap_err().to_string(), words);
            let place = Place::new(&path).unwrap();
            assert_eq!(place.open(OFlags::RDONLY).unwrap_err().to_string(), words);
            if !path.is_dir() {
                assert_eq!(place.open(OFlags::WRONLY).unwrap_err().to_string(), words);
            }
        }
    }

    #[test]
    fn a_regular_file_and_the_null_device_are_opened() {
        let dir = Dir::new();
        write(dir.join("x"), "x");
        for path in [dir.join("x"), "/dev/null".into(), "/proc/self/status".into()] {
            open_regular(&path).unwrap();
            Place::followed(&path).unwrap().open(OFlags::RDONLY).unwrap();
        }
        assert_eq!(open_regular(&dir.join("missing")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
