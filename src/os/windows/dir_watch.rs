//! Tells that names in a directory were removed.

use std::io;
use std::path::Path;

use super::unsupported;
use super::wait::Waitable;

#[derive(Debug)]
pub enum DirWatch {}

impl DirWatch {
    pub fn new() -> io::Result<DirWatch> {
        Err(unsupported())
    }

    pub fn add(&self, _directory: &Path) -> io::Result<()> {
        match *self {}
    }

    pub fn waitable(&self) -> Waitable<'_> {
        match *self {}
    }

    pub fn take(&self) -> bool {
        match *self {}
    }
}
