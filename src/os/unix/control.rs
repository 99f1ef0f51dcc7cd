//! The control endpoint on Unix: a socket file in the run directory, which only its owner may connect to.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};

use super::sys::peer;
use super::user::User;
use super::wait::{Waitable, wait};
use crate::os::files::{FileKey, Place, named};

/// As the standard library has it.
const BACKLOG: i32 = 128;

/// Where the agent of a run directory listens.
pub fn endpoint(run_dir: &Path) -> PathBuf {
    run_dir.join("control.sock")
}

/// The file goes with it.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    place: Place,
    /// The socket's file; `None` if it could not be looked at.
    key: Option<FileKey>,
}

impl Listener {
    /// Takes the place of a socket that a killed agent left. It appears under its name when it listens already, so that
    /// a client that sees it is answered.
    pub fn bind(endpoint: &Path) -> io::Result<Listener> {
        let place = Place::new(endpoint)?;
        let unnamed = place.beside("control.new".into());
        match unnamed.remove() {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(named(&unnamed.path(), error)),
            Ok(()) | Err(_) => {}
        }
        let path = unnamed.path_of_descriptor()?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        // Private from its first moment: a socket's file gets the mode of the socket (unix(7)). chmod(2) afterwards
        // would follow a link that was put in its place, and a umask is all threads'.
        rustix::fs::fchmod(&socket, Mode::from_raw_mode(0o600))?;
        net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        net::listen(&socket, BACKLOG)?;
        unnamed.rename(&place).map_err(|error| named(endpoint, error))?;
        Ok(Listener { socket: socket.into(), place, key: FileKey::of(endpoint).ok().flatten() })
    }

    /// Listens anew if its file has lost its name; who is connected stays so. True if it had.
    pub fn restore(&mut self, endpoint: &Path) -> io::Result<bool> {
        let found = FileKey::of(endpoint)?;
        if found.is_some() && found == self.key {
            return Ok(false);
        }
        let former = std::mem::replace(self, Listener::bind(endpoint)?);
        let was_known = former.key.is_some();
        // The name is the new one's.
        former.forget();
        Ok(was_known)
    }

    fn forget(mut self) {
        self.key = None;
    }

    /// One that waits; `WouldBlock` when there is none. It does not block either.
    pub fn accept(&self) -> io::Result<Connection> {
        let (stream, _) = self.socket.accept()?;
        stream.set_nonblocking(true)?;
        Ok(Connection(stream))
    }

    pub fn waitable(&self) -> Waitable<'_> {
        Waitable::to_read(&self.socket)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.key.is_some() {
            let _ = self.place.remove();
        }
    }
}

#[derive(Debug)]
pub struct Connection(UnixStream);

impl Connection {
    /// `NotFound` or `ConnectionRefused` when nobody listens, `WouldBlock` when nobody accepts until `deadline`. It
    /// does not block afterwards.
    pub fn connect(endpoint: &Path, deadline: Instant) -> io::Result<Connection> {
        // Neither a link that another user made nor what he may put in its place now.
        let (path, _found) = Place::followed(endpoint)?.path_of_found()?;
        let address = SocketAddrUnix::new(path)?;
        let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        loop {
            // Which bounds a connect(2), too, that waits in a full queue; 0 would be no bound.
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(left))?;
            match net::connect(&socket, &address) {
                Err(Errno::INTR) => {}
                connected => break connected?,
            }
        }
        let stream = UnixStream::from(socket);
        stream.set_nonblocking(true)?;
        Ok(Connection(stream))
    }

    /// Whose process listened when this was connected.
    pub fn peer(&self) -> io::Result<User> {
        peer::user(self.0.as_fd()).map(User)
    }

    /// Until more can be written.
    pub fn writable(&self) -> Waitable<'_> {
        Waitable::to_write(&self.0)
    }

    pub fn waitable(&self) -> Waitable<'_> {
        Waitable::to_read(&self.0)
    }

    /// For one whose other end writes no more: until it reads no more either.
    pub fn hang_up(&self) -> Waitable<'_> {
        Waitable::to_hang_up(&self.0)
    }

    /// Whether the other end is closed whole, and not for writing alone.
    pub fn has_hung_up(&self) -> bool {
        wait(&[self.hang_up()], Some(Instant::now())).unwrap_or(false)
    }
}

impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
