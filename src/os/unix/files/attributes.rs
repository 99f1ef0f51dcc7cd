//! The access list and the extended attributes of a file that is replaced (acl(5), xattr(7)): the new one gets them.
//!
//! No list is read, only copied whole. Who calls this must not grant what the list did not, so what becomes of the list
//! is told apart from the rest, of which each is copied where that is possible.

use std::ffi::CStr;
use std::fs::File;
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::fs::{XattrFlags, fgetxattr, fremovexattr, fsetxattr, lgetxattr, llistxattr};
use rustix::io::Errno;

const ACCESS_LIST: &CStr = c"system.posix_acl_access";
/// Of the content, or of the program that this was (evm, ima, capabilities(7)).
const OF_CONTENT: [&[u8]; 3] = [b"security.ima", b"security.evm", b"security.capability"];
/// Of file systems to themselves, overlayfs for one.
const OF_FILE_SYSTEM: &[u8] = b"trusted.";
/// The longest list of names, and the longest value (XATTR_LIST_MAX, XATTR_SIZE_MAX, linux/limits.h).
const LIMIT: usize = 64 * 1024;

/// Gives `new` the access list of the file at `replaced`, or none if that has none: a new file may have inherited one
/// from its directory.
///
/// # Errors
/// The lists may differ.
pub(super) fn copy_access_list(replaced: &Path, new: &File) -> Result<(), Errno> {
    let mut list = Vec::with_capacity(LIMIT);
    match lgetxattr(replaced, ACCESS_LIST, spare_capacity(&mut list)) {
        Ok(_) => fsetxattr(new, ACCESS_LIST, &list, XattrFlags::empty()),
        Err(Errno::NODATA) => match fremovexattr(new, ACCESS_LIST) {
            Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
            removed => removed,
        },
        // The file system has none, or the kernel.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Gives `new` the other attributes of the file at `replaced`, as far as that is possible.
pub(super) fn copy_attributes(replaced: &Path, new: &File) {
    let mut names = Vec::with_capacity(LIMIT);
    if llistxattr(replaced, spare_capacity(&mut names)).is_err() {
        return;
    }
    let is_copied = |name: &&[u8]| {
        !name.is_empty()
            && *name != ACCESS_LIST.to_bytes()
            && !OF_CONTENT.contains(name)
            && !name.starts_with(OF_FILE_SYSTEM)
    };
    for name in names.split(|&byte| byte == 0).filter(is_copied) {
        let (mut value, mut present) = (Vec::with_capacity(LIMIT), Vec::with_capacity(LIMIT));
        if lgetxattr(replaced, name, spare_capacity(&mut value)).is_err() {
            continue;
        }
        // A label that is right already, as security modules give new files theirs, takes no privilege to keep.
        let is_there = fgetxattr(new, name, spare_capacity(&mut present)).is_ok() && present == value;
        if !is_there {
            let _ = fsetxattr(new, name, &value, XattrFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::super::test_dir::{Dir, mode, write};
    use super::super::{create_private, keep_owner_and_mode};
    use super::*;
    use crate::needs;

    /// A named user who may read; owner and group are in the mode (acl_tag and acl_perm of linux/posix_acl.h).
    fn list(owning_group: u16, mask: u16) -> Vec<u8> {
        const NOBODY: u32 = 65534;
        let nobody_else = u32::MAX;
        let entries: [(u16, u16, u32); 5] = [
            (0x01, 6, nobody_else),
            (0x02, 4, NOBODY),
            (0x04, owning_group, nobody_else),
            (0x10, mask, nobody_else),
            (0x20, 0, nobody_else),
        ];
        let entry = |(tag, permissions, id): (u16, u16, u32)| {
            [&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        2u32.to_le_bytes().into_iter().chain(entries.into_iter().flat_map(entry)).collect()
    }

    fn set(path: &Path, name: &CStr, value: &[u8]) -> bool {
        rustix::fs::setxattr(path, name, value, XattrFlags::empty()).is_ok()
    }

    fn get(path: &Path, name: &CStr) -> Option<Vec<u8>> {
        let mut value = Vec::with_capacity(LIMIT);
        lgetxattr(path, name, spare_capacity(&mut value)).ok().map(|_| value)
    }

    /// A file with that list, in a directory of its own.
    fn listed(list: &[u8]) -> Option<Dir> {
        let dir = Dir::new();
        write(dir.join("old"), "old");
        needs::that(set(&dir.join("old"), ACCESS_LIST, list), "access lists on this file system").then_some(dir)
    }

    fn replacing(dir: &Dir) -> std::path::PathBuf {
        let (old, new) = (dir.join("old"), dir.join("new"));
        let file = create_private(&new).unwrap();
        keep_owner_and_mode(file.file(), &old, &std::fs::symlink_metadata(&old).unwrap()).unwrap();
        new
    }

    /// The group bits of the mode are the list's mask: without the list they would be the group's.
    #[test]
    fn a_list_goes_along_and_the_owning_group_gains_nothing() {
        let Some(dir) = listed(&list(0, 4)) else { return };
        assert_eq!(mode(dir.join("old")), 0o640);
        let new = replacing(&dir);
        assert_eq!((get(&new, ACCESS_LIST), mode(&new)), (Some(list(0, 4)), 0o640));
    }

    #[test]
    fn where_no_list_can_be_given_only_the_owner_may_read() {
        let Some(dir) = listed(&list(0, 4)) else { return };
        let old = dir.join("old");
        // A pipe has a mode and no list.
        let new = File::from(rustix::pipe::pipe().unwrap().1);
        new.set_permissions(std::fs::Permissions::from_mode(0o644)).unwrap();
        keep_owner_and_mode(&new, &old, &std::fs::symlink_metadata(&old).unwrap()).unwrap();
        assert_eq!(new.metadata().unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_list_that_a_directory_hands_down_is_not_kept() {
        let dir = Dir::new();
        write(dir.join("old"), "old");
        std::fs::set_permissions(dir.join("old"), std::fs::Permissions::from_mode(0o640)).unwrap();
        if needs::that(set(dir.path(), c"system.posix_acl_default", &list(4, 4)), "access lists on this file system") {
            let new = replacing(&dir);
            assert_eq!((get(&new, ACCESS_LIST), mode(&new)), (None, 0o640));
        }
    }

    #[test]
    fn other_attributes_go_along_but_for_those_of_the_content() {
        let dir = Dir::new();
        let old = dir.join("old");
        write(&old, "old");
        if !needs::that(set(&old, c"user.origin", b"https://example.org"), "attributes on this file system") {
            return;
        }
        set(&old, c"user.empty", b"");
        // Only root can set these two.
        set(&old, c"trusted.x", b"x");
        set(&old, c"security.capability", &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let new = replacing(&dir);
        assert_eq!(get(&new, c"user.origin").as_deref(), Some(&b"https://example.org"[..]));
        assert_eq!(get(&new, c"user.empty").as_deref(), Some(&b""[..]));
        assert_eq!((get(&new, c"trusted.x"), get(&new, c"security.capability")), (None, None));
    }
}
