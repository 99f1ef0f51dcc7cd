//! Where the health check of one of two collectors is asked, so that the other one cannot answer in its place. Pure,
//! but
//! for the addresses that the host has.
//!
//! Of several listeners at a port the kernel takes the most specific one. So where one of the two collectors listens on
//! `127.0.0.1` and the other one on all addresses, `127.0.0.1` reaches the first and `127.0.0.2` the second. The IPv6
//! loopback has no such twin: there it takes another address of the host.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::Path;

use super::address::Address;
use super::binds::BindWatch;
use crate::config::inspect::Binding;
use crate::os::files::{self, MAX_KERNEL_FILE};

/// What keeps a health check from being asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoTarget {
    /// The new one does not listen there.
    NotListening,
    /// Whatever reaches the new one may reach the old one instead.
    Ambiguous,
}

/// Where to ask the new one's, of which the config says that it is at the first of `named` that works.
///
/// # Errors
/// The outer one: we may not look.
pub fn of_new(old: &BindWatch, new: &BindWatch, named: &[SocketAddr]) -> Result<Result<SocketAddr, NoTarget>, String> {
    let port = named.first().map_or(0, SocketAddr::port);
    Ok(find(&old.addresses()?, &new.addresses()?, named, &of_host(port)))
}

/// Whether that can work at all, before the new one is started.
///
/// # Errors
/// Why not, in words.
pub fn foresee(old: &BindWatch, new: Binding, named: &[SocketAddr]) -> Result<(), String> {
    let new = Address::planned(new.at, new.v6_only);
    match find(&old.addresses()?, &[new], named, &of_host(new.at.port())) {
        Err(NoTarget::Ambiguous) => Err(ambiguous(new.at)),
        // Where it does not listen the trial shows it.
        Ok(_) | Err(NoTarget::NotListening) => Ok(()),
    }
}

/// In words.
pub fn ambiguous(at: SocketAddr) -> String {
    format!("no address of this host reaches only one collector's health check at {at}")
}

/// The first of `named`, where the config has the health check, that the new collector listens on, or another address
/// that reaches the same listener of it, and no other one. A listener that both have counts: it is steered.
fn find(old: &[Address], new: &[Address], named: &[SocketAddr], others: &[SocketAddr]) -> Result<SocketAddr, NoTarget> {
    let own = |to: SocketAddr| best(new, to);
    let found = named.iter().find_map(|to| own(*to).map(|listener| (*to, listener)));
    let (to, listener) = found.ok_or(NoTarget::NotListening)?;
    let reaches_it = |to: &SocketAddr| {
        let rank = listener.rank(*to);
        let is_steered = |other: &Address| other.is_same(&listener);
        own(*to) == Some(listener) && best(old, *to).is_none_or(|other| other.rank(*to) < rank || is_steered(&other))
    };
    [to].into_iter().chain(others.iter().copied()).find(reaches_it).ok_or(NoTarget::Ambiguous)
}

/// The listener that the kernel takes.
fn best(listeners: &[Address], to: SocketAddr) -> Option<Address> {
    let suiting = listeners.iter().filter(|listener| listener.is_stream && listener.rank(to) > 0);
    suiting.copied().max_by_key(|listener| listener.rank(to))
}

/// Addresses of this host to ask at: more than two listeners of a port are seldom.
pub fn of_host(port: u16) -> Vec<SocketAddr> {
    let loopback = (1..=4).map(|last| SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), port)));
    // /proc/net/if_inet6: address, index, length of the prefix, scope, flags, interface.
    let text = files::read_text(Path::new("/proc/net/if_inet6"), MAX_KERNEL_FILE).unwrap_or_default();
    loopback.chain(text.lines().filter_map(|line| of_line(line, port))).collect()
}

fn of_line(line: &str, port: u16) -> Option<SocketAddr> {
    /// IFA_F_DADFAILED and IFA_F_TENTATIVE (linux/if_addr.h): not in use.
    const UNUSABLE: u32 = 0x48;
    let fields: Vec<&str> = line.split_whitespace().collect();
    let number = |index: usize| u32::from_str_radix(fields.get(index)?, 16).ok();
    let ip = Ipv6Addr::from(u128::from_str_radix(fields.first()?, 16).ok()?);
    // A link's own address means nothing without the link.
    let scope = if ip.is_unicast_link_local() { number(1)? } else { 0 };
    (number(4)? & UNUSABLE == 0).then(|| SocketAddrV6::new(ip, port, 0, scope).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listeners(text: &str) -> Vec<Address> {
        let parse = |word: &str| {
            let v6_only = word.starts_with("v6only:");
            Address::planned(word.trim_start_matches("v6only:").parse().unwrap(), v6_only)
        };
        text.split_whitespace().map(parse).collect()
    }

    fn addresses(text: &str) -> Vec<SocketAddr> {
        text.split_whitespace().map(|word| word.parse().unwrap()).collect()
    }

    #[test]
    fn a_health_check_is_asked_where_the_old_collector_does_not_answer() {
        let others = addresses("127.0.0.1:1 127.0.0.2:1 [::1]:1 [fd00::2]:1");
        let loopback = &others[..3];
        for (old, new, named, others, expected) in [
            // The same, steered.
            ("127.0.0.1:1", "127.0.0.1:1", "127.0.0.1:1", &others[..], Ok("127.0.0.1:1")),
            ("[::]:1", "[::]:1", "127.0.0.1:1", &others, Ok("127.0.0.1:1")),
            // Another port, nothing at all, and only another component.
            ("127.0.0.1:2", "127.0.0.1:1", "127.0.0.1:1", &others, Ok("127.0.0.1:1")),
            ("127.0.0.1:1", "", "127.0.0.1:1", &others, Err(NoTarget::NotListening)),
            ("127.0.0.1:1", "127.0.0.2:1", "[::1]:1", &others, Err(NoTarget::NotListening)),
            // Wider, as Go and as others have it, and narrower.
            ("127.0.0.1:1", "[::]:1", "127.0.0.1:1", &others, Ok("127.0.0.2:1")),
            ("127.0.0.1:1", "0.0.0.0:1", "127.0.0.1:1", &others, Ok("127.0.0.2:1")),
            ("[::]:1", "127.0.0.1:1", "127.0.0.1:1", &others, Ok("127.0.0.1:1")),
            ("0.0.0.0:1", "127.0.0.1:1", "127.0.0.1:1", &others, Ok("127.0.0.1:1")),
            ("127.0.0.1:1 127.0.0.2:1", "127.0.0.1:1 0.0.0.0:1", "127.0.0.3:1", &others, Ok("127.0.0.3:1")),
            // The same of IPv6.
            ("[::1]:1", "[::]:1", "[::1]:1", &others, Ok("127.0.0.1:1")),
            ("[::1]:1", "v6only:[::]:1", "[::1]:1", &others, Ok("[fd00::2]:1")),
            ("[::1]:1", "v6only:[::]:1", "[::1]:1", loopback, Err(NoTarget::Ambiguous)),
            ("[::]:1", "[::1]:1", "[::1]:1", &others, Ok("[::1]:1")),
            ("v6only:[::]:1", "[::]:1", "[::1]:1", &others, Ok("127.0.0.1:1")),
            // From one family to the other.
            ("127.0.0.1:1", "[::1]:1", "127.0.0.1:1 [::1]:1", &others, Ok("[::1]:1")),
            ("0.0.0.0:1", "[::]:1", "127.0.0.1:1", &others, Ok("[::1]:1")),
            ("[::]:1", "0.0.0.0:1", "127.0.0.1:1", &others, Ok("127.0.0.1:1")),
        ] {
            let found = find(&listeners(old), &listeners(new), &addresses(named), others);
            let expected = expected.map(|text| text.parse::<SocketAddr>().unwrap());
            assert_eq!(found, expected, "from {old} to {new}");
        }
    }

    #[test]
    fn a_host_has_a_second_loopback_address_and_those_that_the_kernel_lists() {
        let found = of_host(7);
        assert!(found.contains(&"127.0.0.2:7".parse().unwrap()));
        for (line, expected) in [
            ("00000000000000000000000000000001 01 80 10 80       lo", Some("[::1]:7")),
            ("fd000000000000000000000000000002 04 40 00 82     eth0", Some("[fd00::2]:7")),
            ("fe8000000000000000fc00fffe000001 04 40 20 80     eth0", Some("[fe80::fc:ff:fe00:1%4]:7")),
            ("fd000000000000000000000000000003 04 40 00 c0     eth0", None),
            ("fd000000000000000000000000000004 04 40 00", None),
            ("", None),
        ] {
            assert_eq!(of_line(line, 7), expected.map(|text| text.parse().unwrap()), "{line}");
        }
    }
}
