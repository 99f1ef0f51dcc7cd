//! TCP connections, and a listener for them, that never block and can be waited for.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::unsupported;
use super::wait::Waitable;

#[derive(Debug)]
pub enum NonBlockingStream {}

impl NonBlockingStream {
    pub fn new(_stream: TcpStream) -> io::Result<NonBlockingStream> {
        Err(unsupported())
    }

    pub fn waitable(&self) -> Waitable<'_> {
        match *self {}
    }

    pub fn waitable_to_write(&self) -> Waitable<'_> {
        match *self {}
    }

    pub fn end_writing(&self) -> io::Result<()> {
        match *self {}
    }
}

impl Read for NonBlockingStream {
    fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
        match *self {}
    }
}

impl Write for NonBlockingStream {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        match *self {}
    }

    fn flush(&mut self) -> io::Result<()> {
        match *self {}
    }
}

#[derive(Debug)]
pub enum NonBlockingListener {}

impl NonBlockingListener {
    pub fn bind(_address: SocketAddr) -> io::Result<NonBlockingListener> {
        Err(unsupported())
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        match *self {}
    }

    pub fn waitable(&self) -> Waitable<'_> {
        match *self {}
    }

    pub fn accept(&self) -> io::Result<NonBlockingStream> {
        match *self {}
    }
}
