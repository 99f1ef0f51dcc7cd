//! What this host is called, and how it differs from a container on it.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::process_id;
use crate::os::files::{self, Place};

/// uname(2).
pub fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Another one in each container, and after each boot; `None` where the system does not say.
pub fn instance() -> Option<String> {
    let root = fs_err::metadata(Path::new("/")).ok()?;
    Some(format!("{} {}:{}", process_id::boot()?, root.dev(), root.ino()))
}

/// machine-id(5). `None` on a host without one, where it lasts as long as a boot (systemd mounts such a one), and in a
/// container that is started from an image.
pub fn machine_id() -> Option<String> {
    let marks = ["/.dockerenv", "/run/.containerenv", "/var/run/secrets/kubernetes.io"];
    let is_container = marks.iter().any(|mark| Path::new(mark).exists());
    let path = Path::new("/etc/machine-id");
    let is_lasting = || Place::new(path).is_ok_and(|place| !place.is_mounted());
    let text = files::read_text(path, files::MAX_KERNEL_FILE).ok().filter(|_| !is_container && is_lasting())?;
    // While the host is set up it is "uninitialized".
    Some(text.trim().to_string()).filter(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
