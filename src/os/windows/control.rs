//! The control endpoint.

use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::unsupported;
use super::user::User;
use super::wait::Waitable;

/// Where the agent of a run directory listens.
pub fn endpoint(run_dir: &Path) -> PathBuf {
    run_dir.join("control")
}

#[derive(Debug)]
pub enum Listener {}

impl Listener {
    pub fn bind(_endpoint: &Path) -> io::Result<Listener> {
        Err(unsupported())
    }

    pub fn restore(&mut self, _endpoint: &Path) -> io::Result<bool> {
        match *self {}
    }

    pub fn accept(&self) -> io::Result<Connection> {
        match *self {}
    }

    pub fn waitable(&self) -> Waitable<'_> {
        match *self {}
    }
}

#[derive(Debug)]
pub struct Connection;

impl Connection {
    pub fn connect(_endpoint: &Path, _deadline: Instant) -> io::Result<Connection> {
        Err(unsupported())
    }

    /// Whose process listened when this was connected.
    pub fn peer(&self) -> io::Result<User> {
        Err(unsupported())
    }

    /// Until more can be written.
    pub fn writable(&self) -> Waitable<'_> {
        Waitable(PhantomData)
    }

    pub fn waitable(&self) -> Waitable<'_> {
        Waitable(PhantomData)
    }

    /// For one whose other end writes no more: until it reads no more either.
    pub fn hang_up(&self) -> Waitable<'_> {
        Waitable(PhantomData)
    }

    /// Whether the other end is closed whole, and not for writing alone.
    pub fn has_hung_up(&self) -> bool {
        true
    }
}

impl Read for Connection {
    fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
        Err(unsupported())
    }
}

impl Write for Connection {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        Err(unsupported())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(unsupported())
    }
}
