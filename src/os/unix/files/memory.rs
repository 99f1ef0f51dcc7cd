//! Files without a name, in memory: content for a child with other rights than ours.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;

/// What such a file is called in /proc.
const NAME: &str = "kmagent-config";

/// Content that can be read and not changed. Who opens it anew by `path_in_child` has an offset of his own, and needs
/// no rights: its mode is 0666 or 0777, and no other process has its descriptor.
pub fn in_memory(content: &[u8]) -> io::Result<File> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // A host may refuse one that could be executed (vm.memfd_noexec), and kernels before 6.3 do not know the flag.
    let memory = match memfd_create(NAME, flags | MemfdFlags::NOEXEC_SEAL) {
        Err(Errno::INVAL) => memfd_create(NAME, flags),
        made => made,
    };
    let mut file = File::from(memory?);
    file.write_all(content)?;
    fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(file)
}

/// Where a child that inherits the descriptor finds it (proc_pid_fd(5)).
pub fn path_in_child(file: &File) -> PathBuf {
    let number: RawFd = file.as_raw_fd();
    format!("/proc/self/fd/{number}").into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn content_in_memory_is_for_all_to_read_and_for_nobody_to_change() {
        let file = in_memory(b"a: 1\n").unwrap();
        let path = path_in_child(&file);
        for _ in 0..2 {
            assert_eq!(std::fs::read(&path).unwrap(), b"a: 1\n");
        }
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o444, 0o444);
        let mut opened = File::options().write(true).open(&path).unwrap();
        assert!(opened.write_all(b"b").is_err() && opened.set_len(0).is_err());
    }
}
