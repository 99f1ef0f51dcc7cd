//! Who besides root could have written what root is about to obey, and what ends that; and what lets a user replace a
//! file whose directory is root's.
//!
//! Who could have written it is who owns the file or may write it, and who may put another in its place, or in that of
//! a directory on the way to it.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Access, AtFlags};

use super::walk::{is_sticky, is_trusted, is_writable_by_others};
use super::{Directory, Place, is_root};
use crate::os::files::Others;

/// Of a file, or of what may be put where none is. `None` for an ordinary user, whose files are that user's affair, and
/// where root alone could. Otherwise who could, and what to do.
pub fn others(place: &Place, file: Option<&File>) -> io::Result<Option<Others>> {
    if !is_root() {
        return Ok(None);
    }
    let file = file.map(|file| Ok::<_, io::Error>((file, file.metadata()?))).transpose()?;
    let (path, above) = (place.path(), place.directory());
    let users = users(place, file.as_ref());
    let mut commands = Vec::new();
    let mut who = None;
    for directory in &place.exposed {
        who.get_or_insert_with(|| whose(&directory.path, &directory.meta));
        // Above there may be anything, a home for instance, that is not ours to give to root.
        if directory.path != above.path {
            let what = "move it to a directory of root's";
            let reason = who.map(|who| format!("{who}: {what}: mv {} /etc/kmagent/", path.display()));
            return Ok(reason.map(|reason| Others { reason, users }));
        }
        let name = directory.path.display();
        if directory.meta.uid() != 0 {
            commands.push(format!("chown root {name}"));
        }
        // Sticky: root's files stay where they are, and the agent goes on replacing its own as one of the group.
        let mode = if directory.meta.gid() == 0 { "go-w" } else { "g+w,o-w,+t" };
        commands.push(format!("chmod {mode} {name}"));
    }
    if let Some((file, meta)) = file
        && (!is_trusted(meta.uid()) || is_writable_by_others(file, &meta))
    {
        who.get_or_insert_with(|| whose(&path, &meta));
        if meta.uid() != 0 {
            // The agent is to read it as before.
            let group = if meta.gid() == 0 { above.meta.gid() } else { meta.gid() };
            commands.push(format!("chown root:{group} {}", path.display()));
        }
        commands.push(format!("chmod g+r,go-w {}", path.display()));
    }
    let reason = who.map(|who| format!("{who}: run: {}", commands.join(" && ")));
    Ok(reason.map(|reason| Others { reason, users }))
}

/// Who could have, if these are all; none if a group or everybody could.
fn users(place: &Place, file: Option<&(&File, Metadata)>) -> Vec<u32> {
    let is_anybodys = |directory: &Directory| directory.is_open() && !is_sticky(&directory.meta);
    if file.is_some_and(|(file, meta)| is_writable_by_others(file, meta)) || place.exposed.iter().any(is_anybodys) {
        return Vec::new();
    }
    let owners = place.exposed.iter().map(|directory| directory.meta.uid()).chain(file.map(|(_, meta)| meta.uid()));
    owners.filter(|&user| !is_trusted(user)).collect()
}

/// What root is to run so that the file at `path` can be replaced: it moves to `target`, in a directory of ours, and a
/// link leads there. `None` where it can be replaced as it is, where that would not help, and for anything but a file
/// or nothing.
pub fn command_to_link(path: &Path, target: &Path) -> Option<String> {
    let (from, to) = (Place::new(path).ok()?, Place::new(target).ok()?);
    let found = from.look().ok()?;
    let is_ours = from.directory().meta.uid() == rustix::process::geteuid().as_raw();
    if found.as_ref().is_some_and(|meta| !meta.is_file())
        || is_ours
        || is_writable(from.directory())
        || !is_writable(to.directory())
    {
        return None;
    }
    let (owner, path, target) = (&to.directory().meta, path.display(), target.display());
    let link = format!("ln -s {target} {path}");
    Some(match found {
        Some(_) => format!("mv {path} {target} && chown {}:{} {target} && {link}", owner.uid(), owner.gid()),
        None => link,
    })
}

fn is_writable(directory: &Directory) -> bool {
    rustix::fs::accessat(&directory.handle, c".", Access::WRITE_OK, AtFlags::empty()).is_ok()
}

fn whose(path: &Path, meta: &Metadata) -> String {
    match meta.uid() {
        0 => format!("{} can be written by other users than root", path.display()),
        user => format!("{} belongs to user {user}", path.display()),
    }
}
