//! What a collector that is handed over must be run with, and which one must not be watched.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The variable that the Go runtime reads its switches from (https://go.dev/doc/godebug).
pub const GODEBUG: &str = "GODEBUG";

/// A value of GODEBUG with which a Go program listens with plain TCP: Go 1.24 made Multipath TCP the default for listeners, and
/// the kernel does not steer that (EOPNOTSUPP).
pub fn plain_tcp(godebug: Option<&str>) -> String {
    let others = godebug.unwrap_or_default().split(',').map(str::trim);
    let others = others.filter(|entry| !entry.is_empty() && !entry.starts_with("multipathtcp="));
    others.chain(["multipathtcp=0"]).collect::<Vec<_>>().join(",")
}

/// Whether a program loses nothing by being watched.
///
/// Without root a filter needs `no_new_privs`, which takes away what a program's file gives: set-user-ID, set-group-ID and
/// capabilities, such as the one to listen below port 1024 (execve(2)).
///
/// # Errors
/// What it would lose.
pub fn watchable(program: &Path) -> Result<(), String> {
    let set_id = fs_err::metadata(program).is_ok_and(|meta| meta.permissions().mode() & 0o6000 != 0);
    let capabilities = rustix::fs::getxattr(program, "security.capability", &mut [0u8; 0]).is_ok();
    match set_id || capabilities {
        true => Err(format!("{} has privileges of its own, which it would lose", program.display())),
        false => Ok(()),
    }
}
