//! What an error of the system means, where `std::io::ErrorKind` does not say.

use std::io;

use rustix::io::Errno;

/// Whether it is the system that has no descriptor, buffer or memory left, whatever it was asked for.
pub fn is_out_of_resources(error: &io::Error) -> bool {
    matches!(errno(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

/// What a person can do about a program that cannot be executed (execve(2)); empty when the error says it all.
pub fn remedy_for_spawn(error: &io::Error) -> &'static str {
    match errno(error) {
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

fn errno(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw_os_error)
}
