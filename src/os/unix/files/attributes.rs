//! The access list and the extended attributes of a file that is replaced (acl(5), xattr(7)): the new one gets them.
//!
//! Lists are copied whole; the one question that is asked of them is who else may write. Who copies one must not grant
//! what the list did not, so what becomes of the list is told apart from the rest, of which each is copied where that
//! is possible.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::AsRawFd;

use rustix::buffer::spare_capacity;
use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr, getxattr, listxattr};
use rustix::io::Errno;

const ACCESS_LIST: &CStr = c"system.posix_acl_access";
/// Of the content, or of the program that this was (evm, ima, capabilities(7)).
const OF_CONTENT: [&[u8]; 3] = [b"security.ima", b"security.evm", b"security.capability"];
/// Of file systems to themselves, overlayfs for one.
const OF_FILE_SYSTEM: &[u8] = b"trusted.";
/// The longest list of names, and the longest value (XATTR_LIST_MAX, XATTR_SIZE_MAX, linux/limits.h).
const LIMIT: usize = 64 * 1024;

/// Tags and a permission of linux/posix_acl.h.
const USER: u16 = 0x02;
const GROUP: u16 = 0x08;
const WRITE: u16 = 2;

/// Gives `new` the access list of `replaced`, or none if that has none: a new file may have inherited one from its
/// directory.
///
/// # Errors
/// The lists may differ.
pub(super) fn copy_access_list(replaced: &File, new: &File) -> Result<(), Errno> {
    match access_list(replaced)? {
        Some(list) => fsetxattr(new, ACCESS_LIST, &list, XattrFlags::empty()),
        None => match fremovexattr(new, ACCESS_LIST) {
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
            removed => removed,
        },
    }
}

/// Whether the list of a directory or file lets a user write who is not trusted, or a group but this one. It does if it
/// cannot be read.
pub(super) fn grants_write(of: &File, is_trusted: fn(u32) -> bool, own_group: u32) -> bool {
    let list = match access_list(of) {
        Ok(list) => list.unwrap_or_default(),
        Err(_) => return true,
    };
    // After the version each entry is a tag, its permissions, and an id.
    let (entries, _) = list.get(4..).unwrap_or_default().as_chunks::<8>();
    entries.iter().any(|&[tag_low, tag_high, low, high, id @ ..]| {
        let id = u32::from_le_bytes(id);
        let is_other = match u16::from_le_bytes([tag_low, tag_high]) {
            USER => !is_trusted(id),
            GROUP => id != own_group,
            _ => false,
        };
        is_other && u16::from_le_bytes([low, high]) & WRITE != 0
    })
}

/// `None` where it has none, or the file system or the kernel knows none.
fn access_list(of: &File) -> Result<Option<Vec<u8>>, Errno> {
    match attribute(of, ACCESS_LIST.to_bytes()) {
        Ok(list) => Ok(Some(list)),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(None),
        Err(error) => Err(error),
    }
}

fn attribute(of: &File, name: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut value = Vec::with_capacity(LIMIT);
    match fgetxattr(of, name, spare_capacity(&mut value)) {
        Err(Errno::BADF) => getxattr(by_descriptor(of), name, spare_capacity(&mut value)),
        got => got,
    }?;
    Ok(value)
}

/// Of what is open with O_PATH, attributes are to be had by this name alone (open(2)).
fn by_descriptor(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Gives `new` the other attributes of `replaced`, as far as that is possible.
pub(super) fn copy_attributes(replaced: &File, new: &File) {
    let mut names = Vec::with_capacity(LIMIT);
    let listed = match flistxattr(replaced, spare_capacity(&mut names)) {
        Err(Errno::BADF) => listxattr(by_descriptor(replaced), spare_capacity(&mut names)),
        listed => listed,
    };
    if listed.is_err() {
        return;
    }
    let is_copied = |name: &&[u8]| {
        !name.is_empty()
            && *name != ACCESS_LIST.to_bytes()
            && !OF_CONTENT.contains(name)
            && !name.starts_with(OF_FILE_SYSTEM)
    };
    for name in names.split(|&byte| byte == 0).filter(is_copied) {
        let Ok(value) = attribute(replaced, name) else { continue };
        // A label that is right already, as security modules give new files theirs, takes no privilege to keep.
        if attribute(new, name).as_ref() != Ok(&value) {
            let _ = fsetxattr(new, name, &value, XattrFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::Path;

    use rustix::fs::lgetxattr;

    use super::super::Place;
    use super::super::test_dir::{Dir, mode, write};
    use super::*;
    use crate::needs;
    use crate::os::files::Directory;

    const NOBODY: u32 = 65534;

    /// A named user who may read; owner and group are in the mode (acl_tag and acl_perm of linux/posix_acl.h).
    fn list(owning_group: u16, mask: u16) -> Vec<u8> {
        named((USER, 4, NOBODY), owning_group, mask)
    }

    fn named(entry: (u16, u16, u32), owning_group: u16, mask: u16) -> Vec<u8> {
        let nobody_else = u32::MAX;
        let mut entries = [
            (0x01, 6, nobody_else),
            entry,
            (0x04, owning_group, nobody_else),
            (0x10, mask, nobody_else),
            (0x20, 0, nobody_else),
        ];
        entries.sort_by_key(|entry| entry.0);
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
        let file = Place::new(&new).unwrap().create_private().unwrap();
        assert!(Place::new(&old).unwrap().give_owner_and_mode(&file).unwrap());
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

    /// A directory of our group: what the mode has for the group is what the list may grant to anybody.
    #[test]
    fn who_else_may_write_is_seen_in_the_list() {
        let dir = Dir::new();
        let own_group = rustix::process::getegid().as_raw();
        let is_open = || Directory::open(dir.path()).unwrap().admits_others();
        assert!(!is_open());
        for (entry, owning_group, mask, expected) in [
            ((USER, 7, NOBODY), 5, 7, true),
            ((USER, 7, NOBODY), 7, 5, false),
            ((USER, 5, NOBODY), 7, 7, false),
            ((USER, 7, 0), 5, 7, false),
            ((GROUP, 7, NOBODY), 5, 7, true),
            ((GROUP, 7, own_group), 5, 7, false),
        ] {
            let list = named(entry, owning_group, mask);
            if !needs::that(set(dir.path(), ACCESS_LIST, &list), "access lists on this file system") {
                return;
            }
            assert_eq!(is_open(), expected, "{entry:?}, mask {mask}");
        }
    }

    #[test]
    fn where_no_list_can_be_given_only_the_owner_may_read() {
        let Some(dir) = listed(&list(0, 4)) else { return };
        let old = dir.join("old");
        // A pipe has a mode and no list.
        let new = File::from(rustix::pipe::pipe().unwrap().1);
        new.set_permissions(std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Place::new(&old).unwrap().give_owner_and_mode(&new).unwrap());
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
