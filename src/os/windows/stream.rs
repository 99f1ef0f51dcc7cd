//! A TCP connection that never blocks and can be waited for.

use std::io::{self, Read, Write};
use std::net::TcpStream;

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
