//! What an operator can do about an error of the operating system, by what was tried.
//!
//! A remedy is to be appended to what failed, or to the error; it is empty when the error says it all. The same error number
//! needs another remedy for another attempt: ENOENT of a write is a missing directory, of a start a missing loader.

use std::io;

use rustix::io::Errno;

/// About the directory that an agent cannot run without.
pub const RUN_DIR: &str = "run as root, or choose another with the setting `run-dir`";

/// Of a file that cannot be read.
pub fn read(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => ": run as a user that may read it, or mend its mode",
        _ => "",
    }
}

/// Of a file that cannot be written.
pub fn write(error: &io::Error) -> &'static str {
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

/// Of a program that is there and cannot be executed (execve(2)).
pub fn execute(error: &io::Error) -> &'static str {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOEXEC) => " (it is no program for this machine: install the build for its architecture)",
        Some(Errno::TXTBSY) => " (somebody has it open for writing: replace it by renaming a new file over it)",
        // The file itself is there, or it would not have been found.
        Some(Errno::NOENT) => " (the loader or interpreter that it names is missing: install a static build)",
        Some(Errno::MFILE | Errno::NFILE) => " (raise the limit on open files)",
        Some(Errno::AGAIN) => " (raise the limit on processes)",
        Some(Errno::NOMEM) => " (free some memory)",
        Some(Errno::ACCESS) => " (remount its file system without noexec, or see what else forbids it)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_that_a_person_can_do_something_about_has_its_remedy() {
        let table: [(fn(&io::Error) -> &'static str, Errno, &str); 15] = [
            (write, Errno::NOSPC, "free some space"),
            (write, Errno::DQUOT, "free some space"),
            (write, Errno::ROFS, "read-write"),
            (write, Errno::ACCESS, "permissions"),
            (write, Errno::PERM, "permissions"),
            (write, Errno::NOENT, "create the directory"),
            (write, Errno::BUSY, "mount the directory"),
            (execute, Errno::NOEXEC, "architecture"),
            (execute, Errno::TXTBSY, "renaming"),
            (execute, Errno::NOENT, "static build"),
            (execute, Errno::MFILE, "open files"),
            (execute, Errno::NFILE, "open files"),
            (execute, Errno::AGAIN, "processes"),
            (execute, Errno::NOMEM, "memory"),
            (execute, Errno::ACCESS, "noexec"),
        ];
        for (remedy, errno, words) in table {
            let remedy = remedy(&errno.into());
            assert!(remedy.contains(words) && remedy.starts_with(" (") && remedy.ends_with(')'), "{errno}: {remedy:?}");
        }
        assert!(read(&Errno::ACCESS.into()).starts_with(": "));
        assert_eq!([read, write, execute].map(|remedy| remedy(&Errno::IO.into())), [""; 3]);
    }
}
