//! Files as the operating systems differ in them: who may read and change them, which file it is, what another user may
//! have planted.
//!
//! ```text
//!   create_private              a new file that only its owner may read
//!   keep_owner_and_mode         a new file gets those, and the access list, of the file that it will replace
//!   give_to_owner_of_directory  what root makes belongs to whom its directory belongs to
//!   make_private_directory, make_readable_directory
//!   replace, sync_directory     one file in place of another, also after a power failure
//!   is_mounted                  a file that cannot be replaced
//!   names                       what is in a directory
//!   hold, remove_unheld         a file that its process is about to put in place, and one that nobody will
//!   identity                    whether it is still the same file
//!   open_lock, lock_holder      the file that a lock is taken on, and the process that holds it
//!   is_root, owner_may_command, is_program, is_readable_by_all
//!   safe_open                   reading where another user may have planted something
//! ```
//! It knows nothing of configs and decides nothing.

use std::path::Path;

use serde::{Deserialize, Serialize};

pub use super::platform::files::{
    create_private, give_to_owner_of_directory, hold, identity, is_mounted, is_program, is_readable_by_all, is_root,
    keep_owner_and_mode, lock_holder, make_private_directory, make_readable_directory, names, open_lock,
    owner_may_command, remove_unheld, replace, safe_open, sync_directory,
};

/// Tells whether a file is still the one that was seen. State files hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileId {
    pub(super) inode: u64,
    pub(super) size: u64,
    /// Of the last change, in nanoseconds since 1970.
    pub(super) changed: i128,
}

impl FileId {
    /// `None` when there is no such file, or it cannot be looked at.
    pub fn of(path: &Path) -> Option<FileId> {
        identity(path).ok().flatten()
    }
}

/// Where a file is, also when that is the current directory.
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_of_a_bare_name_is_the_present_one() {
        assert_eq!(directory_of(Path::new("/a/b")), Path::new("/a"));
        assert_eq!(directory_of(Path::new("a/b")), Path::new("a"));
        assert_eq!(directory_of(Path::new("b")), Path::new("."));
    }

    /// Of state files that earlier versions wrote, too.
    #[test]
    fn an_identity_in_a_state_file_keeps_its_form() {
        let id = FileId { inode: 7, size: 4096, changed: 1_795_356_277_123_456_789 };
        let text = r#"{"inode":7,"size":4096,"changed":1795356277123456789}"#;
        assert_eq!(serde_json::to_string(&id).unwrap(), text);
        assert_eq!(serde_json::from_str::<FileId>(text).unwrap(), id);
    }
}
