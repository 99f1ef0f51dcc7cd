//! Unix sockets that are about to be bound: their files are asked for afterwards, when they are there.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, SocketAddrUnix};
use rustix::process::Pid;

use super::binds::{BindWatch, Bound};
use crate::collector::socket_files::MAX_FILES;
use crate::os::files::FileKey;

#[derive(Debug, Default)]
pub(super) struct UnnamedSockets(Vec<Bound>);

/// What a socket is bound to.
enum Name {
    NotYet,
    File(PathBuf),
    /// An abstract one.
    NoFile,
}

impl BindWatch {
    /// The files of the Unix sockets that it has bound since this was asked last.
    pub fn socket_files(&mut self) -> Vec<PathBuf> {
        self.unnamed.take_files()
    }
}

impl UnnamedSockets {
    pub fn add(&mut self, domain: AddressFamily, bound: &Bound) {
        if domain == AddressFamily::UNIX && self.0.len() < MAX_FILES {
            self.0.push(bound.clone());
        }
    }

    /// Of those that have one by now.
    fn take_files(&mut self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        self.0.retain(|bound| match bound.copy().map(|socket| socket.map(|socket| name_of(&socket))) {
            Ok(Some(Name::NotYet)) => true,
            Ok(Some(Name::File(file))) => {
                files.extend(Some(file).filter(|_| sees_as_we_do(bound.process)));
                false
            }
            // It is closed, or hidden from us.
            Ok(Some(Name::NoFile) | None) | Err(_) => false,
        });
        files
    }
}

fn name_of(socket: &OwnedFd) -> Name {
    let address = rustix::net::getsockname(socket).ok().and_then(|name| SocketAddrUnix::try_from(name).ok());
    match address.as_ref().map(|address| (address.path(), address.abstract_name())) {
        Some((Some(path), _)) => Name::File(OsStr::from_bytes(path.to_bytes()).into()),
        Some((None, Some(name))) if !name.is_empty() => Name::NoFile,
        // One without a name is read as abstract.
        Some((None, _)) | None => Name::NotYet,
    }
}

/// Whether a path means the same for this process.
fn sees_as_we_do(process: Pid) -> bool {
    let is_same = |own: &str, its: &str| {
        let its = FileKey::of(Path::new(&format!("/proc/{process}/{its}/."))).ok().flatten();
        its.is_some() && its == FileKey::of(Path::new(own)).ok().flatten()
    };
    is_same("/", "root") && is_same(".", "cwd")
}
