//! What there is below a directory, to be compared before and after.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ring::digest;

/// Path from the root, `/` in front → what is there.
pub type Tree = BTreeMap<String, Entry>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `d`, `f`, `l` or another.
    pub kind: char,
    pub mode: u32,
    pub owner: (u32, u32),
    /// A file's digest, a link's target.
    pub content: String,
    inode: u64,
    changed: (i64, i64),
}

impl Entry {
    /// As `ls -l` would have it, in short.
    pub fn short(&self) -> String {
        format!("{} {:o}", self.kind, self.mode)
    }
}

/// All below `root` but what lies below one of `without`. It does not follow links, nor leave the file system of
/// `root`.
pub fn tree(root: &Path, without: &[&str]) -> Tree {
    let mut tree = Tree::new();
    let device = fs::metadata(root).map_or(0, |metadata| metadata.dev());
    walk(root, "", device, without, &mut tree);
    tree
}

fn walk(root: &Path, below: &str, device: u64, without: &[&str], tree: &mut Tree) {
    let Ok(entries) = fs::read_dir(root.join(below.trim_start_matches('/'))) else { return };
    for entry in entries.flatten() {
        let name = format!("{below}/{}", entry.file_name().into_string().unwrap());
        let Ok(metadata) = fs::symlink_metadata(entry.path()) else { continue };
        if without.contains(&name.as_str()) || (metadata.is_dir() && metadata.dev() != device) {
            continue;
        }
        let (kind, content) = match metadata.file_type() {
            kind if kind.is_dir() => ('d', String::new()),
            kind if kind.is_symlink() => ('l', fs::read_link(entry.path()).unwrap().display().to_string()),
            kind if kind.is_file() => ('f', digest_of(&entry.path())),
            _ => ('?', String::new()),
        };
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        let owner = (metadata.uid(), metadata.gid());
        let mode = metadata.mode() & 0o7777;
        tree.insert(name.clone(), Entry { kind, mode, owner, content, inode: metadata.ino(), changed });
        if kind == 'd' {
            walk(root, &name, device, without, tree);
        }
    }
}

fn digest_of(path: &Path) -> String {
    let digest = digest::digest(&digest::SHA256, &fs::read(path).unwrap_or_default());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Asserts that two trees hold the same, whenever it was written.
#[track_caller]
pub fn assert_same(before: &Tree, after: &Tree, what: &str) {
    let plain = |entry: &Entry| (entry.kind, entry.mode, entry.owner, entry.content.clone());
    let mut lines = Vec::new();
    for name in before.keys().chain(after.keys().filter(|name| !before.contains_key(*name))) {
        let (old, new) = (before.get(name).map(plain), after.get(name).map(plain));
        if old != new {
            lines.push(format!("{name}: {old:?} became {new:?}"));
        }
    }
    assert!(lines.is_empty(), "{what}:\n{}", lines.join("\n"));
}

/// Asserts that nothing was so much as touched.
#[track_caller]
pub fn assert_untouched(before: &Tree, after: &Tree, what: &str) {
    assert_same(before, after, what);
    // A directory's time tells of a name that came and went.
    let touched: Vec<_> = before.iter().filter(|(name, entry)| entry.kind != 'd' && after[*name] != **entry).collect();
    assert!(touched.is_empty(), "{what}: {touched:?}");
}
