//! What a collector's file gives it: a filter would take that away, and the kernel forgets its parent-death signal.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::thread::CapabilitySet;

/// Whether a program loses nothing by being watched.
///
/// A filter needs CAP_SYS_ADMIN or `no_new_privs` (seccomp(2)), and that takes away what a program's file gives.
///
/// # Errors
/// What it would lose.
pub fn watchable(program: &Path) -> Result<(), String> {
    let may_filter = rustix::thread::capabilities(None)
        .is_ok_and(|capabilities| capabilities.effective.contains(CapabilitySet::SYS_ADMIN));
    // Of the second there is nothing left to lose.
    let is_free = may_filter || rustix::thread::no_new_privs() == Ok(true);
    match !is_free && has_privileges(program) {
        true => Err(format!("{} would lose its set-id bits or capabilities", program.display())),
        false => Ok(()),
    }
}

/// Whether the kernel forgets a parent-death signal when the program is executed, which it does when that gives rights
/// (prctl(2), PR_SET_PDEATHSIG).
pub fn outlives_parent(program: &Path) -> bool {
    let may_gain = !rustix::process::geteuid().is_root() && rustix::thread::no_new_privs() != Ok(true);
    may_gain && has_privileges(program)
}

/// Set-user-ID, set-group-ID, and capabilities such as the one to listen below port 1024 (execve(2)).
fn has_privileges(program: &Path) -> bool {
    let set_id = fs_err::metadata(program).is_ok_and(|meta| meta.permissions().mode() & 0o6000 != 0);
    set_id || rustix::fs::getxattr(program, "security.capability", &mut [0u8; 0]).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privileges_of_a_programs_own_are_seen() {
        let file = std::env::temp_dir().join(format!("kmagent-program-{}", std::process::id()));
        fs_err::write(&file, "").unwrap();
        for (mode, privileged) in [(0o755, false), (0o4755, true), (0o2755, true)] {
            fs_err::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(has_privileges(&file), privileged, "{mode:o}");
        }
        fs_err::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        // cap_net_bind_service, permitted and effective: `struct vfs_cap_data` of linux/capability.h. Only root may
        // give it.
        let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let flags = rustix::fs::XattrFlags::empty();
        if rustix::fs::setxattr(&file, "security.capability", &capability, flags).is_ok() {
            assert!(has_privileges(&file));
        }
        fs_err::remove_file(file).unwrap();
    }
}
