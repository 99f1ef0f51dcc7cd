//! Who has a port: the kernel's tables of sockets (proc_pid_net(5)), and whose descriptor a socket is.

use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::user::User;
use crate::os::files;

/// A table has its listeners first. These are a thousand.
const MAX_BYTES: u64 = 160 * 1024;
/// A listening TCP socket's state, and that of a UDP socket which is not connected (linux/tcp_states.h).
const LISTENS: &str = "0A";
const UNCONNECTED: &str = "07";

/// The same one as long as it has the very same socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub user: User,
    inode: String,
}

/// A socket that keeps others from this address, if it can be seen: one that is bound and does not listen cannot.
pub fn find(at: SocketAddr, is_stream: bool) -> Option<Holder> {
    let (tables, state) = if is_stream { (["tcp", "tcp6"], LISTENS) } else { (["udp", "udp6"], UNCONNECTED) };
    tables.iter().find_map(|table| {
        let file = files::open_regular(&Path::new("/proc/self/net").join(table)).ok()?;
        let lines = BufReader::new(file.take(MAX_BYTES)).lines().skip(1).map_while(Result::ok);
        in_table(lines, at, state)
    })
}

fn in_table(lines: impl Iterator<Item = String>, at: SocketAddr, state: &str) -> Option<Holder> {
    for line in lines {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, found, _, _, _, user, _, inode, ..] = fields[..] else { continue };
        // After them come connections, which may be many.
        if state == LISTENS && found != state {
            return None;
        }
        if found == state && parse(local).is_some_and(|held| overlap(held, at)) {
            return Some(Holder { user: User(user.parse().ok()?), inode: inode.to_string() });
        }
    }
    None
}

fn overlap(held: SocketAddr, at: SocketAddr) -> bool {
    let (own, its) = (held.ip().to_canonical(), at.ip().to_canonical());
    held.port() == at.port() && (own == its || own.is_unspecified() || its.is_unspecified())
}

/// As in `0100007F:1F90`: words in the order of this machine, then the port.
fn parse(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word =
        |index: usize| u32::from_str_radix(address.get(index * 8..index * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip: IpAddr = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

impl Holder {
    /// Its number and name. It looks at the descriptors of every process: not where a collector may be waiting. Without
    /// root only those of one's own user can be seen.
    pub fn process(&self) -> Option<(u32, String)> {
        let socket = format!("socket:[{}]", self.inode);
        let pids =
            super::files::names_in_proc(Path::new("/proc")).filter_map(|name| name.to_str()?.parse::<u32>().ok());
        let has_it = |pid: &u32| {
            let descriptors = PathBuf::from(format!("/proc/{pid}/fd"));
            let mut links = super::files::names_in_proc(&descriptors)
                .filter_map(|name| fs_err::read_link(descriptors.join(name)).ok());
            links.any(|target| target.as_os_str() == socket.as_str())
        };
        let pid = pids.into_iter().find(has_it)?;
        let name = files::read_text(&PathBuf::from(format!("/proc/{pid}/comm")), files::MAX_KERNEL_FILE);
        Some((pid, name.unwrap_or_default().trim().to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn who_has_a_port_is_found_with_process_and_user() {
        for at in ["127.0.0.1:0", "[::1]:0"] {
            let (tcp, udp) = (TcpListener::bind(at).unwrap(), UdpSocket::bind(at).unwrap());
            for (local, is_stream) in [(tcp.local_addr().unwrap(), true), (udp.local_addr().unwrap(), false)] {
                let holder = find(local, is_stream).unwrap();
                assert_eq!(holder.user, User::current());
                assert_eq!(holder.process().map(|(pid, _)| pid), Some(std::process::id()));
                let anywhere = if local.is_ipv4() { "0.0.0.0" } else { "::" };
                assert!(find(SocketAddr::new(anywhere.parse().unwrap(), local.port()), is_stream).is_some());
                let elsewhere = if local.is_ipv4() { "127.0.0.2" } else { "::2" };
                assert!(find(SocketAddr::new(elsewhere.parse().unwrap(), local.port()), is_stream).is_none());
            }
        }
    }

    #[test]
    fn connections_are_not_looked_at() {
        let line = |local: &str, state: &str| {
            format!("   0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  1000        0 77 1 0")
        };
        let local = format!("{:08X}:1F90", u32::from_ne_bytes([127, 0, 0, 1]));
        let at: SocketAddr = "127.0.0.1:8080".parse().unwrap();
        let table = |lines: &[String]| in_table(lines.iter().cloned(), at, LISTENS).map(|holder| holder.inode);
        assert_eq!(table(&[line(&local, "0A")]).as_deref(), Some("77"));
        assert_eq!(table(&[line(&local, "01"), line(&local, "0A")]), None);
        assert_eq!(table(&["nonsense".to_string()]), None);
    }
}
