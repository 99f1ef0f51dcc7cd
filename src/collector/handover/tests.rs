//! Real children, real sockets: this test binary runs itself as a stand-in that listens and answers with its name.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, bind, ipproto, listen as listen_on, socket};
use rustix::process::{Pid, Signal};

use crate::collector::handover::binds::BindWatch;
use crate::collector::handover::listener::Listener;
use crate::collector::handover::widened::{self, Closed};
use crate::collector::handover::{steering, supported};
use crate::collector::process::{Binds, Process};
use crate::needs;
use crate::os::child::OnParentDeath;
use crate::os::unix::sys::seccomp_bind;
use crate::os::wait::{Waitable, wait};

const PATIENCE: Duration = Duration::from_secs(30);
/// What the stand-in listens on, as `tcp:ADDRESS udp:ADDRESS mptcp:ADDRESS unix:PATH`, `closed:ADDRESS` no longer, on
/// `retried:ADDRESS` when it has the port to itself, and no longer on `descriptors:PORT` and `processes:PORT`, of many
/// addresses, in one process and in one for each.
const LISTEN: &str = "KMAGENT_TEST_LISTEN";
const NAME: &str = "KMAGENT_TEST_NAME";

/// Not a test: the stand-in.
#[test]
#[ignore = "the stand-in that other tests run"]
fn stand_in() {
    let (Ok(listen), Ok(name)) = (std::env::var(LISTEN), std::env::var(NAME)) else { return };
    let mut serving = Vec::new();
    let (mut kept, mut files) = (Vec::new(), Vec::new());
    for what in listen.split_whitespace() {
        let (kind, address) = what.split_once(':').unwrap();
        let name = name.clone();
        match kind {
            "tcp" => {
                let listener = TcpListener::bind(address).unwrap();
                serving.push(thread::spawn(move || {
                    for stream in listener.incoming() {
                        let _ = stream.unwrap().write_all(name.as_bytes());
                    }
                }));
            }
            "udp" => {
                let socket = UdpSocket::bind(address).unwrap();
                serving.push(thread::spawn(move || {
                    let mut buffer = [0; 100];
                    loop {
                        let (_, from) = socket.recv_from(&mut buffer).unwrap();
                        socket.send_to(name.as_bytes(), from).unwrap();
                    }
                }));
            }
            "mptcp" => {
                let socket = socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::MPTCP)).unwrap();
                bind(&socket, &address.parse::<SocketAddr>().unwrap()).unwrap();
                listen_on(&socket, 1).unwrap();
                std::mem::forget(socket);
            }
            "retried" => {
                let address: SocketAddr = address.parse().unwrap();
                let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
                let first = TcpListener::bind(address).unwrap();
                assert!(bind(&socket, &address).is_err());
                drop(first);
                bind(&socket, &address).unwrap();
                listen_on(&socket, 1).unwrap();
                std::mem::forget(socket);
            }
            "closed" => drop(TcpListener::bind(address).unwrap()),
            "descriptors" => {
                for at in loopbacks(address) {
                    drop(TcpListener::bind(at).unwrap());
                    // Takes the descriptor, so that the next one is another.
                    files.push(std::fs::File::open("/dev/null").unwrap());
                }
            }
            "processes" => {
                for at in loopbacks(address) {
                    let mut child = command("stand_in", &name, &format!("closed:{at} end:"));
                    assert!(child.stdout(Stdio::null()).status().unwrap().success());
                }
            }
            "end" => return,
            "unix" => kept.push(std::os::unix::net::UnixListener::bind(address).unwrap()),
            other => panic!("{other}"),
        }
    }
    println!("serving");
    loop {
        thread::park();
    }
}

/// More than are remembered before those that are closed are looked for, several times over; each once, since a copy of
/// a socket may live for a moment in what another test has forked.
fn loopbacks(port: &str) -> impl Iterator<Item = String> {
    (1..=250).map(move |last| format!("127.0.77.{last}:{port}"))
}

/// This binary, which runs one of its tests as another process.
fn command(test: &str, name: &str, listen: &str) -> Command {
    // Not by its path: an ordinary user may not be allowed to reach it there.
    let mut command = Command::new("/proc/self/exe");
    command.args(["--exact", &format!("collector::handover::tests::{test}"), "--ignored", "--nocapture"]);
    command.env(LISTEN, listen).env(NAME, name);
    command
}

/// A stand-in; killed on drop.
struct StandIn(Process);

impl StandIn {
    fn start(name: &str, listen: &str) -> StandIn {
        StandIn::begin(name, listen).awaited(&[])
    }

    /// A second collector, of a hand-over.
    fn beside(old: &StandIn, name: &str, listen: &str) -> StandIn {
        StandIn::begin(name, listen).awaited(&[old.binds()])
    }

    fn awaited(mut self, partners: &[&BindWatch]) -> StandIn {
        self.wait_until(partners, |process| process.tail().contains("serving"));
        self
    }

    /// What one says that cannot start.
    fn refusal(partners: &[&BindWatch], listen: &str) -> String {
        let mut stand_in = StandIn::begin("refused", listen);
        stand_in.wait_until(partners, |process| process.tail().contains("panicked"));
        stand_in.wait_until(partners, |process| process.has_closed_output());
        stand_in.0.tail().to_string()
    }

    /// Without waiting for it.
    fn begin(name: &str, listen: &str) -> StandIn {
        StandIn(Process::spawn(command("stand_in", name, listen), OnParentDeath::Kill, Binds::Watched).unwrap())
    }

    fn wait_until(&mut self, partners: &[&BindWatch], done: impl Fn(&Process) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(&self.0) {
            assert!(Instant::now() < deadline, "timed out: {}", self.0.tail());
            let sources: Vec<Waitable<'_>> = self.0.sources().collect();
            wait(&sources, Some(deadline)).unwrap();
            self.0.serve_binds(partners);
            self.0.read_output(&mut |_| {});
        }
    }

    fn binds(&self) -> &BindWatch {
        self.0.binds().unwrap()
    }

    /// A line of its /proc/PID/status.
    fn status(&self, name: &str) -> String {
        let status = fs_err::read_to_string(format!("/proc/{}/status", self.0.id())).unwrap();
        status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_string()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.0.id().cast_signed()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
        // All of its threads, which takes a moment.
        while signal == Signal::STOP && !self.0.is_suspended() {
            thread::yield_now();
        }
    }

    fn end(mut self) {
        self.kill();
    }

    fn kill(&mut self) {
        self.0.kill();
        let deadline = Instant::now() + PATIENCE;
        while self.0.try_reap(false, &mut |_| {}).is_ok_and(|status| status.is_none()) {
            assert!(Instant::now() < deadline);
            thread::yield_now();
        }
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An address that was free a moment ago, outside the range that the kernel gives to others by itself.
fn free(host: &str) -> SocketAddr {
    use std::sync::atomic::AtomicU16;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 10_000 + (std::process::id() % 1000) as u16 * 20;
    loop {
        let address = format!("{host}:{}", first + NEXT.fetch_add(1, Ordering::Relaxed)).parse().unwrap();
        if TcpListener::bind::<SocketAddr>(address).is_ok() && UdpSocket::bind::<SocketAddr>(address).is_ok() {
            return address;
        }
    }
}

fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    let mut name = String::new();
    stream.read_to_string(&mut name)?;
    Ok(name)
}

fn ask_udp(address: SocketAddr) -> String {
    // A socket of its own each time, so that no hash of the addresses helps.
    let socket = UdpSocket::bind(SocketAddr::new(address.ip(), 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(b"?", address).unwrap();
    let mut buffer = [0; 100];
    let count = socket.recv(&mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..count]).into_owned()
}

#[track_caller]
fn all_reach(address: SocketAddr, name: &str) {
    for _ in 0..50 {
        assert_eq!(ask(address).unwrap(), name);
    }
}

#[track_caller]
fn all_datagrams_reach(address: SocketAddr, name: &str) {
    for _ in 0..50 {
        assert_eq!(ask_udp(address), name);
    }
}

/// Filters that see a bind(2) are for x86-64 and arm64, and an emulator of user mode passes none on (dist/cross says
/// when). Not a lack of this machine, which `needs` is for: there is nothing to test, but that it is refused, in the
/// next test.
fn is_impossible() -> bool {
    !seccomp_bind::CAN_FILTER || std::env::var_os("KM_TEST_EMULATED").is_some()
}

#[test]
fn this_kernel_is_found_to_support_it() {
    let supported = supported::supported();
    assert_eq!(supported.is_err(), is_impossible(), "{supported:?}");
}

#[test]
fn a_bind_is_seen_and_leaves_nothing_behind() {
    if is_impossible() {
        return;
    }
    let (tcp, udp) = (free("127.0.0.1"), free("[::1]"));
    let path = std::env::temp_dir().join(format!("kmagent-test-{}", std::process::id()));
    let stand_in = StandIn::start("one", &format!("tcp:{tcp} udp:{udp} tcp:127.0.0.1:0"));
    assert_eq!(stand_in.binds().listeners().unwrap(), [Listener::Tcp(tcp), Listener::Udp(udp)]);
    assert_eq!(stand_in.binds().shareable(), Ok(()));
    let descriptors = fs_err::read_dir(format!("/proc/{}/fd", stand_in.0.id())).unwrap();
    let targets = descriptors.filter_map(|entry| fs_err::read_link(entry.unwrap().path()).ok());
    let notifying: Vec<_> = targets.filter(|target| target.to_string_lossy().contains("seccomp")).collect();
    assert!(notifying.is_empty(), "the collector has its own notifications: {notifying:?}");
    let with_unix = StandIn::start("two", &format!("unix:{}", path.display()));
    assert!(with_unix.binds().shareable().unwrap_err().contains("Unix"));
    fs_err::remove_file(path).unwrap();
    stand_in.end();
    assert!(ask(tcp).is_err());
}

/// A collector that runs for a year, or whose children bind, costs no more than one that was just started.
#[test]
fn sockets_that_are_closed_are_forgotten() {
    if is_impossible() {
        return;
    }
    let (first, address) = (free("127.0.0.1"), free("127.0.0.1"));
    for often in ["descriptors", "processes"] {
        let stand_in = StandIn::start("one", &format!("tcp:{first} {often}:{} tcp:{address}", address.port()));
        let remembered = stand_in.binds().remembered();
        assert!((2..=66).contains(&remembered), "{often}: {remembered}");
        // What lives is not.
        assert_eq!(stand_in.binds().listeners().unwrap(), [Listener::Tcp(first), Listener::Tcp(address)]);
        assert_eq!(stand_in.binds().shareable(), Ok(()));
        stand_in.end();
    }
}

/// As without us; SO_REUSEPORT would let both have it, and neither would know.
#[test]
fn a_port_that_one_collector_wants_twice_is_in_use() {
    if is_impossible() {
        return;
    }
    let (tcp, udp, other) = (free("127.0.0.1"), free("127.0.0.1"), free("127.0.0.1"));
    let everywhere = |address: SocketAddr| format!("[::]:{}", address.port());
    let old = StandIn::start("old", &format!("tcp:{tcp} udp:{udp}"));
    for listen in [
        format!("tcp:{tcp} tcp:{tcp}"),
        format!("udp:{udp} udp:{udp}"),
        format!("tcp:{tcp} tcp:{}", everywhere(tcp)),
        format!("tcp:{} tcp:{tcp}", everywhere(tcp)),
        format!("tcp:{other} tcp:{other}"),
        format!("udp:{other} udp:{}", everywhere(other)),
    ] {
        // Alone, and beside another one that has the port rightfully.
        for partners in [vec![], vec![old.binds()]] {
            let said = StandIn::refusal(&partners, &listen);
            assert!(said.contains("AddrInUse"), "{listen}: {said}");
        }
    }
    let (one, loopback) = (free("127.0.0.1"), SocketAddr::new("127.0.0.2".parse().unwrap(), tcp.port()));
    for listen in
        [format!("tcp:{one} udp:{one}"), format!("tcp:{tcp} tcp:{loopback}"), format!("closed:{one} tcp:{one}")]
    {
        let new = StandIn::beside(&old, "new", &listen);
        assert_eq!((new.binds().shareable(), new.0.wanted_twice()), (Ok(()), None), "{listen}");
    }
    let retried = StandIn::start("one", &format!("retried:{one}"));
    assert_eq!(retried.0.wanted_twice(), Some(one.port()));
    assert_eq!(steering::hold(retried.binds()), Ok(()), "its second try was not made shareable");
}

#[test]
fn a_port_of_another_process_is_in_use() {
    if is_impossible() {
        return;
    }
    let (tcp, udp) = (free("127.0.0.1"), free("127.0.0.1"));
    // Another agent's collector, which is as shareable as ours.
    let strange = StandIn::start("strange", &format!("tcp:{tcp} udp:{udp}"));
    let old = StandIn::start("old", &format!("tcp:{}", free("127.0.0.1")));
    for partners in [vec![], vec![old.binds()]] {
        for listen in [format!("tcp:{tcp}"), format!("tcp:[::]:{}", tcp.port()), format!("udp:{udp}")] {
            let said = StandIn::refusal(&partners, &listen);
            assert!(said.contains("AddrInUse"), "{listen}: {said}");
        }
    }
    strange.end();
    let _later = StandIn::start("later", &format!("tcp:{tcp} udp:{udp}"));
    all_reach(tcp, "later");
    all_datagrams_reach(udp, "later");
}

#[test]
fn connections_go_where_they_are_steered_and_none_is_refused() {
    if is_impossible() {
        return;
    }
    let (v4, v6, udp) = (free("127.0.0.1"), free("[::1]"), free("127.0.0.1"));
    let listen = format!("tcp:{v4} udp:{udp} tcp:{v6}");
    let old = StandIn::start("old", &listen);
    steering::hold(old.binds()).unwrap();
    let new = StandIn::beside(&old, "new", &listen);
    assert_eq!(steering::missing(old.binds(), new.binds()), []);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut answers = Vec::new();
                    while !done.load(Ordering::Relaxed) || answers.len() < 1000 {
                        answers.push(ask(v4));
                    }
                    answers
                })
            })
            .collect();
        for _ in 0..3 {
            for (v, name) in [(v4, "old"), (v6, "old")] {
                all_reach(v, name);
            }
            all_datagrams_reach(udp, "old");
            steering::to_new(old.binds(), new.binds()).unwrap();
            for (v, name) in [(v4, "new"), (v6, "new")] {
                all_reach(v, name);
            }
            all_datagrams_reach(udp, "new");
            steering::to_old(old.binds(), new.binds()).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        for client in clients {
            let answers = client.join().unwrap();
            assert!(answers.iter().all(Result::is_ok));
            for name in ["old", "new"] {
                assert!(answers.iter().any(|answer| answer.as_ref().is_ok_and(|answer| answer == name)));
            }
        }
    });
    old.end();
    new.end();
    assert!(ask(v4).is_err(), "a listener is still open");
}

#[test]
fn the_one_that_is_left_gets_everything() {
    if is_impossible() {
        return;
    }
    for (towards_new, old_dies) in [(true, true), (true, false), (false, true), (false, false)] {
        let (tcp, udp) = (free("127.0.0.1"), free("127.0.0.1"));
        let listen = format!("tcp:{tcp} udp:{udp}");
        let old = StandIn::start("old", &listen);
        steering::hold(old.binds()).unwrap();
        let new = StandIn::beside(&old, "new", &listen);
        if towards_new {
            steering::to_new(old.binds(), new.binds()).unwrap();
        }
        let (dead, left, name) = if old_dies { (old, new, "new") } else { (new, old, "old") };
        dead.end();
        all_reach(tcp, name);
        all_datagrams_reach(udp, name);
        steering::release(left.binds());
        all_reach(tcp, name);
        // The next change, and one more: the program of the last one must not send the newcomer anything.
        steering::hold(left.binds()).unwrap();
        let next = StandIn::beside(&left, "next", &listen);
        all_reach(tcp, name);
        all_datagrams_reach(udp, name);
        steering::to_new(left.binds(), next.binds()).unwrap();
        all_reach(tcp, "next");
        left.end();
        all_reach(tcp, "next");
    }
}

/// Why the collector gets `godebug::plain_tcp`.
#[test]
fn multipath_tcp_is_known_not_to_be_steered() {
    if is_impossible() {
        return;
    }
    if socket(AddressFamily::INET, SocketType::STREAM, Some(ipproto::MPTCP)).is_err() {
        return;
    }
    let stand_in = StandIn::start("one", &format!("mptcp:{}", free("127.0.0.1")));
    assert!(stand_in.binds().shareable().unwrap_err().contains("Multipath"));
    assert!(steering::hold(stand_in.binds()).is_err());
}

/// The control: without `hold` a newcomer takes its share.
#[test]
fn without_steering_both_are_reached() {
    if is_impossible() {
        return;
    }
    let tcp = free("127.0.0.1");
    let old = StandIn::start("old", &format!("tcp:{tcp}"));
    let _new = StandIn::beside(&old, "new", &format!("tcp:{tcp}"));
    let answers: Vec<String> = (0..200).map(|_| ask(tcp).unwrap()).collect();
    assert!(answers.iter().any(|answer| answer == "old") && answers.iter().any(|answer| answer == "new"));
}

#[test]
fn only_what_both_listen_on_is_steered() {
    if is_impossible() {
        return;
    }
    let (shared, old_only, new_only) = (free("127.0.0.1"), free("127.0.0.1"), free("127.0.0.1"));
    let old = StandIn::start("old", &format!("tcp:{old_only} tcp:{shared}"));
    steering::hold(old.binds()).unwrap();
    let new = StandIn::beside(&old, "new", &format!("tcp:{shared} tcp:{new_only}"));
    assert_eq!(steering::missing(old.binds(), new.binds()), [Listener::Tcp(old_only)]);
    steering::to_new(old.binds(), new.binds()).unwrap();
    for (address, name) in [(shared, "new"), (old_only, "old"), (new_only, "new")] {
        all_reach(address, name);
    }
}

/// The old one has the more specific address, so it is asked until its end.
#[test]
fn a_listener_that_is_closed_completes_what_it_has_and_leaves_the_rest_to_a_more_general_one() {
    if is_impossible() {
        return;
    }
    for (specific, general) in [("127.0.0.1", "0.0.0.0"), ("127.0.0.1", "[::]"), ("[::1]", "[::]")] {
        let at = free(specific);
        let (other, udp) = (free("127.0.0.1"), free("127.0.0.1"));
        let old = StandIn::start("old", &format!("tcp:{at} tcp:{other} udp:{udp}"));
        steering::hold(old.binds()).unwrap();
        let new = StandIn::beside(
            &old,
            "new",
            &format!("tcp:{general}:{} tcp:{other} udp:0.0.0.0:{}", at.port(), udp.port()),
        );
        assert_eq!(steering::missing(old.binds(), new.binds()), []);
        steering::to_new(old.binds(), new.binds()).unwrap();
        all_reach(at, "old");
        // One that waits to be accepted.
        old.signal(Signal::STOP);
        let mut waiting = TcpStream::connect(at).unwrap();
        let closed = widened::close(old.binds(), new.binds()).unwrap();
        assert_eq!(closed, Closed { listeners: vec![Listener::Tcp(at)], is_local: true });
        assert!(!widened::is_drained(old.binds(), new.binds()));
        assert!(TcpStream::connect_timeout(&at, Duration::from_millis(300)).is_err(), "it takes new connections");
        // Reopened, as if the new one had failed.
        widened::reopen(old.binds());
        let again = TcpStream::connect(at).unwrap();
        widened::close(old.binds(), new.binds()).unwrap();
        old.signal(Signal::CONT);
        let mut name = String::new();
        waiting.read_to_string(&mut name).unwrap();
        assert_eq!(name, "old");
        drop(again);
        let deadline = Instant::now() + PATIENCE;
        while !widened::is_drained(old.binds(), new.binds()) {
            assert!(Instant::now() < deadline);
            thread::yield_now();
        }
        let client = thread::spawn(move || ask(at));
        // It has sent its SYN by now, or sends it to the new one.
        thread::yield_now();
        old.end();
        assert_eq!(client.join().unwrap().unwrap(), "new");
        all_reach(at, "new");
    }
}

/// The control: what waits to be accepted is reset when the listener goes.
#[test]
fn a_listener_that_is_not_drained_resets_what_waits() {
    if is_impossible() {
        return;
    }
    let at = free("127.0.0.1");
    let old = StandIn::start("old", &format!("tcp:{at}"));
    let _new = StandIn::beside(&old, "new", &format!("tcp:0.0.0.0:{}", at.port()));
    old.signal(Signal::STOP);
    let mut waiting = TcpStream::connect(at).unwrap();
    old.end();
    assert!(waiting.read_to_string(&mut String::new()).is_err());
}

#[test]
fn a_child_that_dies_in_bind_ends_the_watch() {
    if is_impossible() {
        return;
    }
    let mut stand_in = StandIn::begin("one", &format!("tcp:{}", free("127.0.0.1")));
    assert!(wait(&[stand_in.binds().waitable()], Some(Instant::now() + PATIENCE)).unwrap());
    stand_in.0.kill();
    stand_in.wait_until(&[], |process| process.binds().is_err());
    assert!(stand_in.0.binds().is_err());
}

#[test]
fn no_new_privs_is_set_only_where_it_must_be() {
    if is_impossible() {
        return;
    }
    let stand_in = StandIn::start("one", "");
    let root = rustix::process::geteuid().is_root();
    assert_eq!(stand_in.status("NoNewPrivs:"), if root { "0" } else { "1" });
}

/// Not a test: what runs below a filter already, to which no second one with notifications can be added (EBUSY,
/// seccomp(2)).
#[test]
#[ignore = "the stand-in for an agent whose kernel refuses"]
fn filtered() {
    let Ok(listen) = std::env::var(LISTEN) else { return };
    let mut stand_in = StandIn::start("one", &listen);
    // The words for it are the C library's.
    let problem = stand_in.0.binds().unwrap_err();
    assert!(
        problem.starts_with("the kernel refuses to report its binds: ") && problem.ends_with("(os error 16)"),
        "{problem}"
    );
    assert!(!stand_in.0.serve_binds(&[]));
    all_reach(listen.strip_prefix("tcp:").unwrap().parse().unwrap(), "one");
}

/// The trial at the agent's start need not be the kernel's last word.
#[test]
fn a_child_whose_filter_is_refused_runs_without_and_says_why() {
    if is_impossible() {
        return;
    }
    let command = command("filtered", "agent", &format!("tcp:{}", free("127.0.0.1")));
    let mut agent = StandIn(Process::spawn(command, OnParentDeath::Kill, Binds::Watched).unwrap());
    agent.wait_until(&[], |process| process.has_closed_output());
    assert!(agent.0.tail().contains("1 passed"), "{}", agent.0.tail());
}

/// As `nobody`, since a suite often runs as root.
#[test]
fn an_ordinary_user_can_do_it_too() {
    if is_impossible() {
        return;
    }
    if !needs::root() {
        return;
    }
    for test in [
        "no_new_privs_is_set_only_where_it_must_be",
        "this_kernel_is_found_to_support_it",
        "a_bind_is_seen_and_leaves_nothing_behind",
        "connections_go_where_they_are_steered_and_none_is_refused",
    ] {
        // The path to this binary may be closed to others; the file is not.
        let mut command = Command::new("/proc/self/fd/0");
        command.stdin(Stdio::from(std::fs::File::open("/proc/self/exe").unwrap()));
        command.args(["--exact", &format!("collector::handover::tests::{test}"), "--nocapture"]).uid(65534).gid(65534);
        let output = command.current_dir("/").output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && printed.contains("1 passed"), "{printed}{:?}", output.stderr);
    }
}
