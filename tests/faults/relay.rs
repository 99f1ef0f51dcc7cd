//! Pods that are none, against the real updater: what they can make it hold, and that pods are answered all the while.
//!
//! What each kind of client gets is tested where the relay is (`src/cluster/relay/hostile_tests.rs`).

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::support::temp_dir::TempDir;
use crate::support::wait::{DEADLINE, slowness, wait_for, wait_until};
use crate::support::{bin, needs, process};

/// DESIGN.md, "Kubernetes": what 256 clients can make the relay hold.
const MOST_MEMORY: u64 = 43 * 1024;
/// As the relay has them.
const CONNECTIONS: usize = 256;
const HEAD: usize = 16 * 1024;
const BODY: usize = 64 * 1024;

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// `kmagent cluster` in a pod whose API server never answers. It ends with the value.
struct Updater {
    child: Child,
    port: u16,
    client: Arc<ClientConfig>,
    _dir: TempDir,
}

impl Updater {
    fn start() -> Updater {
        let (dir, port) = (TempDir::new(), process::free_port());
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["127.0.0.1".to_string()]).unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(dir.join(name), text).unwrap();
            dir.join(name)
        };
        let certificate = write("tls.pem", &(cert.pem() + &signing_key.serialize_pem()));
        let token = write("token", "pod-token\n");
        let mut command = Command::new(bin::kmagent());
        command.arg("cluster").env_clear().stdin(Stdio::null()).stderr(Stdio::null());
        command.env("KM_RELAY_CERTIFICATE", certificate).env("KM_RELAY_TOKEN_FILE", token);
        command.env("KM_RUN_DIR", dir.join("run"));
        command.env("KM_RELAY_LISTEN", format!("127.0.0.1:{port}")).env("KM_CLUSTER_NAME", "attacked");
        command.env("KM_NAMESPACE", "attacked").env("CONFIGMAP_DAEMONSET_NAME", "configs");
        command.env("KUBERNETES_SERVICE_HOST", "127.0.0.1").env("KUBERNETES_SERVICE_PORT", "1");
        let child = command.spawn().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let client = Arc::new(client.with_root_certificates(roots).with_no_client_auth());
        let updater = Updater { child, port, client, _dir: dir };
        wait_until("the relay listens", || process::listens(updater.child.id(), port));
        updater
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(DEADLINE * slowness())).unwrap();
        stream.set_write_timeout(Some(DEADLINE * slowness())).unwrap();
        stream
    }

    fn secure(&self) -> Stream {
        let name = ServerName::try_from("127.0.0.1").unwrap();
        StreamOwned::new(ClientConnection::new(self.client.clone(), name).unwrap(), self.connect())
    }

    /// KiB.
    fn memory(&self) -> u64 {
        process::status(self.child.id()).expect("the updater has ended").number("RssAnon")
    }

    fn answers_a_pod(&self) {
        let mut stream = self.secure();
        stream.write_all(&report(0, BODY - 1)).unwrap();
        assert_eq!(answer(&mut stream), r#"{"restart_required":false,"config":null}"#);
    }
}

impl Drop for Updater {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request of a pod; its head has so many bytes more than it needs, its body so many in all.
fn report(more_head: usize, body: usize) -> Vec<u8> {
    let report = r#"{"instance_id":"a-pod","config_state":"none"}"#;
    let padding = "a".repeat(more_head);
    let head = format!(
        "POST /daemonset HTTP/1.1\r\nauthorization: pod-token\r\nx: {padding}\r\nconnection: close\r\n\
         content-length: {body}\r\n\r\n"
    );
    // Blanks after the report are JSON's.
    (head + report + &" ".repeat(body - report.len())).into_bytes()
}

/// The body of a good answer, after which the connection is closed.
fn answer(stream: &mut Stream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{text}");
    body.to_string()
}

#[test]
fn what_pods_can_make_the_relay_hold_is_bounded() {
    if !needs::that(slowness() == 1, "memory is measured where the updater is not emulated") {
        return;
    }
    let updater = Updater::start();
    updater.answers_a_pod();
    let before = updater.memory();
    // As much as a pod can send without being answered.
    let request = report(HEAD - 200, BODY);
    let mut pods: Vec<Stream> = (0..CONNECTIONS)
        .map(|_| {
            let mut stream = updater.secure();
            stream.write_all(&request[..request.len() - 1]).unwrap();
            stream
        })
        .collect();
    let sent = (CONNECTIONS * (request.len() - 1) / 1024) as u64;
    let held = wait_for("all of it is held", DEADLINE, || Some(updater.memory()).filter(|&held| held >= sent));
    eprintln!("RssAnon of the updater: {before} KiB before, {held} KiB for {sent} KiB that pods have sent");
    assert!(held <= MOST_MEMORY, "{held} KiB");
    for stream in &mut pods {
        stream.write_all(&request[request.len() - 1..]).unwrap();
        answer(stream);
        stream.sock.shutdown(std::net::Shutdown::Both).unwrap();
    }
    updater.answers_a_pod();
}

#[test]
fn what_strangers_can_make_the_relay_hold_is_bounded() {
    if !needs::that(slowness() == 1, "memory is measured where the updater is not emulated") {
        return;
    }
    let updater = Updater::start();
    // A head and a handshake message, both without an end.
    let (head, message) = (vec![b'a'; HEAD - 1], [&[22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff][..], &[0; 0x3ffc]].concat());
    let (mut heads, mut handshakes) = (Vec::new(), Vec::new());
    for _ in 0..300 {
        let mut stream = updater.secure();
        stream.write_all(&head).unwrap();
        heads.push(stream);
    }
    updater.answers_a_pod();
    let most = updater.memory();
    for _ in 0..300 {
        let mut stream = updater.connect();
        let _ = stream.write_all(&message);
        handshakes.push(stream);
    }
    updater.answers_a_pod();
    let most = most.max(updater.memory());
    eprintln!("RssAnon of the updater: {most} KiB with 300 strangers");
    assert!(most <= MOST_MEMORY, "{most} KiB");
}
