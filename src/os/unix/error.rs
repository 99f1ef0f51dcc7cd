//! What an error of the system means where `std::io::ErrorKind` does not say, and what an operator can do about it.
//!
//! A remedy is to be appended to what failed, or to the error; it is empty when the error says it all. The same error
//! number needs another remedy for another attempt: ENOENT of a write is a missing directory, of a start a missing
//! loader.

use std::io;

use rustix::io::Errno;

use crate::os::files::Named;

/// About the directory that an agent cannot run without.
pub const REMEDY_FOR_RUN_DIR: &str = "run as root, or choose another with the setting `run-dir`";

/// Whether it is the system that has no descriptor, buffer or memory left, whatever it was asked for.
pub fn is_out_of_resources(error: &io::Error) -> bool {
    matches!(errno(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

/// What an operator can do about a file that cannot be read.
pub fn remedy_for_read(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => ": run as a user that may read it, or fix its mode",
        _ => "",
    }
}

/// What an operator can do about a file that cannot be written.
pub fn remedy_for_write(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => " (free some space)",
        io::ErrorKind::ReadOnlyFilesystem => " (remount the file system read-write, or move the file by its setting)",
        io::ErrorKind::PermissionDenied => " (run the agent as the files' owner, or correct their permissions)",
        io::ErrorKind::NotFound => " (create the directory)",
        // EBUSY: a file that is itself a mount point.
        io::ErrorKind::ResourceBusy => " (mount the directory instead of the single file)",
        _ => "",
    }
}

/// The same whatever was asked for: an error that names its path (`files::named`) says it by itself.
pub fn remedy_for_shortage(error: &io::Error) -> &'static str {
    match errno(error) {
        Some(Errno::MFILE | Errno::NFILE) => " (raise the limit on open files)",
        Some(Errno::NOMEM) => " (free some memory)",
        _ => "",
    }
}

/// What an operator can do about a program that cannot be executed (execve(2)).
pub fn remedy_for_spawn(error: &io::Error) -> &'static str {
    match errno(error) {
        Some(Errno::NOEXEC) => " (wrong architecture: install the build for this machine)",
        Some(Errno::TXTBSY) => " (the file is open for writing: replace it by renaming a new one over it)",
        // The file itself is there, or it would not have been found.
        Some(Errno::NOENT) => " (its loader or interpreter is missing: install a static build)",
        Some(Errno::AGAIN) => " (raise the limit on processes)",
        Some(Errno::ACCESS) => " (remount its file system without noexec, or see what else denies it)",
        _ => remedy_for_shortage(error),
    }
}

fn errno(error: &io::Error) -> Option<Errno> {
    let inner = || error.get_ref()?.downcast_ref::<Named>()?.error.raw_os_error();
    error.raw_os_error().or_else(inner).map(Errno::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::files;

    #[test]
    fn an_error_with_a_path_is_the_same_error() {
        let named = files::named("/x".as_ref(), Errno::MFILE.into());
        assert!(is_out_of_resources(&named));
        let error = crate::error::Error::because(crate::error::Exit::System, "what", named);
        // In the words of this C library.
        let words = io::Error::from(Errno::MFILE);
        assert_eq!(error.to_string(), format!("what: /x: {words} (raise the limit on open files)"));
        assert!(!is_out_of_resources(&files::named("/x".as_ref(), Errno::IO.into())));
    }

    #[test]
    fn each_failure_that_an_operator_can_do_something_about_has_its_remedy() {
        type Remedy = fn(&io::Error) -> &'static str;
        let table: [(Remedy, Errno, &str); 17] = [
            (remedy_for_write, Errno::NOSPC, "free some space"),
            (remedy_for_write, Errno::DQUOT, "free some space"),
            (remedy_for_write, Errno::ROFS, "read-write"),
            (remedy_for_write, Errno::ACCESS, "permissions"),
            (remedy_for_write, Errno::PERM, "permissions"),
            (remedy_for_write, Errno::NOENT, "create the directory"),
            (remedy_for_write, Errno::BUSY, "mount the directory"),
            (remedy_for_shortage, Errno::NFILE, "open files"),
            (remedy_for_shortage, Errno::NOMEM, "memory"),
            (remedy_for_spawn, Errno::NOEXEC, "architecture"),
            (remedy_for_spawn, Errno::TXTBSY, "renaming"),
            (remedy_for_spawn, Errno::NOENT, "static build"),
            (remedy_for_spawn, Errno::MFILE, "open files"),
            (remedy_for_spawn, Errno::NFILE, "open files"),
            (remedy_for_spawn, Errno::AGAIN, "processes"),
            (remedy_for_spawn, Errno::NOMEM, "memory"),
            (remedy_for_spawn, Errno::ACCESS, "noexec"),
        ];
        for (remedy, errno, words) in table {
            let remedy = remedy(&errno.into());
            assert!(remedy.contains(words) && remedy.starts_with(" (") && remedy.ends_with(')'), "{errno}: {remedy:?}");
        }
        assert!(remedy_for_read(&Errno::ACCESS.into()).starts_with(": "));
        assert_eq!(
            [remedy_for_read, remedy_for_write, remedy_for_spawn].map(|remedy| remedy(&Errno::IO.into())),
            [""; 3]
        );
    }
}
