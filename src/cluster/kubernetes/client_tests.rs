//! The calls against a scripted server on a plain socket, for what a real API server does not do on demand; and against
//! a real one (`test_server`).

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread::JoinHandle;

use super::*;
use crate::cluster::kubernetes::{Severity, WorkloadKind, role_rules, test_server};
use crate::os::files::read_text;
use crate::os::unix::files::test_dir::{Dir, write};

const TOKEN: &str = "eyJhbGciOi.payload-0123456789.signature";

/// Self-signed, of nobody.
const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----
MIIBhDCCASugAwIBAgIUE9NkpG6QEqu0+fNfJdlP0+u435UwCgYIKoZIzj0EAwIw
FzEVMBMGA1UEAwwMa21hZ2VudC10ZXN0MCAXDTI2MTEyMjE0MzQ1MFoYDzIxMjYx
MDI5MTQzNDUwWjAXMRUwEwYDVQQDDAxrbWFnZW50LXRlc3QwWTATBgcqhkjOPQIB
BggqhkjOPQMBBwNCAAQ4UcUjVply9z/rYyOWnPS5xTgyn6y2JJgwxszxZ3Jh5FeV
BdcPl6rYyU2lk2SdOpMgUQaBAjkjU/SzpUtVhAajo1MwUTAdBgNVHQ4EFgQUG+lM
atgmQsmuGHu12uq4kBT8lm4wHwYDVR0jBBgwFoAUG+lMatgmQsmuGHu12uq4kBT8
lm4wDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNHADBEAiA7UF7SnVYS2unJ
ReaY9CCqieJ2661D+G2Qjv16GugV+AIgKJ0i/sMeL2D0Bt73wzbxLIrhKjG+u2FI
g0vESVOrJDA=
-----END CERTIFICATE-----
";

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn daemon_set(text: &str) -> WorkloadId {
    WorkloadId { kind: WorkloadKind::DaemonSet, name: name(text) }
}

/// What a pod has, with a server that answers each request by the script and closes.
struct Scripted {
    directory: Dir,
    client: Client,
    serving: JoinHandle<Vec<String>>,
}

fn scripted(answers: Vec<Vec<u8>>) -> Scripted {
    let directory = Dir::new();
    write(directory.join("token"), &format!("{TOKEN}\n"));
    write(directory.join("ca.crt"), CERTIFICATE);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        let answer = |answer: Vec<u8>| {
            let (mut connection, _) = listener.accept().unwrap();
            let request = request(&mut connection);
            // A client that has enough closes.
            let _ = connection.write_all(&answer);
            request
        };
        answers.into_iter().map(answer).collect()
    });
    let options = options(&address, directory.path(), Duration::from_secs(10));
    Scripted { directory, client: Client::new(options), serving }
}

fn options(address: &str, credentials: &Path, timeout: Duration) -> Options {
    Options { address: address.to_owned(), credentials: credentials.to_owned(), namespace: name("km-agent"), timeout }
}

/// Head and body of one request.
fn request(connection: &mut TcpStream) -> String {
    let (mut text, mut byte) = (Vec::new(), [0]);
    while !text.ends_with(b"\r\n\r\n") && connection.read(&mut byte).unwrap() > 0 {
        text.push(byte[0]);
    }
    let head = String::from_utf8(text).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
    let mut body = vec![0; length.parse().unwrap()];
    connection.read_exact(&mut body).unwrap();
    head + &String::from_utf8(body).unwrap()
}

fn json_answer(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

/// What a `get` of a ConfigMap makes of that answer.
fn failure_of(answer: Vec<u8>) -> ApiFailure {
    let server = scripted(vec![answer]);
    let failure = server.client.config_map(&name("a")).unwrap_err();
    server.serving.join().unwrap();
    failure
}

#[test]
fn these_requests_go_over_the_wire() {
    let page = r#"{"metadata":{"continue":"next=","resourceVersion":"1"},"items":[{"metadata":{"name":"p"}}]}"#;
    let config_map = r#"{"metadata":{"name":"a","resourceVersion":"1"}}"#;
    let workload = r#"{"metadata":{"name":"d","resourceVersion":"1"}}"#;
    let bodies = [config_map, config_map, workload, workload, page, "{}", r#"{"status":{"allowed":true}}"#];
    let server = scripted(bodies.iter().map(|body| json_answer("200 OK", body)).collect());
    let client = &server.client;
    client.config_map(&name("a")).unwrap();
    let read = ConfigMap::default();
    client.patch_config_map(&name("a"), &ConfigMapPatch::of(&read).data("k", Some("v".to_owned()))).unwrap();
    client.workload(&daemon_set("d")).unwrap();
    client.set_restarted_at(&daemon_set("d"), Some("x"), Some("7")).unwrap();
    let selector = LabelSelector { match_labels: [("app".to_owned(), "km".to_owned())].into(), ..Default::default() };
    assert_eq!(client.pods(&selector, Some("next=")).unwrap().items[0].metadata.name, "p");
    // The kubelet replaces it.
    write(server.directory.join("token"), "another");
    let note = Masked::new(&"x".repeat(2000));
    client.create_event(&Event::of_workload(&daemon_set("d"), "", Severity::Warning, "ConfigRejected", note)).unwrap();
    assert!(client.may(&Right::new(Verb::List, Resource::Pods, None)).unwrap());
    let requests = server.serving.join().unwrap();

    let lines: Vec<&str> = requests.iter().map(|request| request.lines().next().unwrap()).collect();
    let namespaced = "/namespaces/km-agent";
    assert_eq!(
        lines,
        [
            format!("GET /api/v1{namespaced}/configmaps/a HTTP/1.1"),
            format!("PATCH /api/v1{namespaced}/configmaps/a?fieldManager=kmagent HTTP/1.1"),
            format!("GET /apis/apps/v1{namespaced}/daemonsets/d HTTP/1.1"),
            format!("PATCH /apis/apps/v1{namespaced}/daemonsets/d?fieldManager=kmagent HTTP/1.1"),
            format!("GET /api/v1{namespaced}/pods?limit=50&labelSelector=app%3Dkm&continue=next%3D HTTP/1.1"),
            format!("POST /api/v1{namespaced}/events HTTP/1.1"),
            "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews HTTP/1.1".to_owned(),
        ]
    );
    let has = |at: usize, header: &str| requests[at].lines().any(|line| line == header);
    for at in 0..requests.len() {
        let token = if at < 5 { TOKEN } else { "another" };
        assert!(has(at, &format!("authorization: Bearer {token}")) && has(at, "accept: application/json"), "{at}");
    }
    assert!(
        has(1, "content-type: application/merge-patch+json") && has(3, "content-type: application/merge-patch+json")
    );
    assert!(has(5, "content-type: application/json") && has(6, "content-type: application/json"));
    let event: serde_json::Value = serde_json::from_str(requests[5].split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(event["message"].as_str().map(str::len), Some(1024));
    let review = requests[6].split_once("\r\n\r\n").unwrap().1;
    let attributes = r#"{"namespace":"km-agent","verb":"list","group":"","resource":"pods"}"#;
    assert!(review.contains(attributes), "{review}");
}

#[test]
fn a_status_says_what_to_do() {
    let status = |code: &str, message: &str| json_answer(code, &format!("{{\"message\":\"{message}\"}}"));
    let failed = "Kubernetes API: cannot get configmaps/a in namespace km-agent: HTTP status";
    for (answer, cause, is_transient, expected) in [
        (
            status("401 Unauthorized", "Unauthorized"),
            Cause::Unauthorized,
            false,
            "401; the API server does not accept the pod's token: check that its ServiceAccount exists, and delete the \
             pod if it was made anew; the server says: Unauthorized",
        ),
        (
            status("403 Forbidden", "no"),
            Cause::Forbidden,
            false,
            "403; add to the rules of the updater's Role in namespace km-agent: - {apiGroups: [\\\"\\\"], resources: \
             [configmaps], resourceNames: [a], verbs: [get]}; the server says: no",
        ),
        (
            status("404 Not Found", "configmaps \\\"a\\\" not found"),
            Cause::NotFound,
            false,
            "404; check that it exists in namespace km-agent, and its name in the updater's settings; the server says: \
             configmaps \"a\" not found",
        ),
        (
            status("409 Conflict", ""),
            Cause::Conflict,
            false,
            "409; it has changed since it was read, so it is read again",
        ),
        (status("422 Unprocessable", "too long"), Cause::Invalid, false, "422; the server says: too long"),
        (status("429 Too Many", "later"), Cause::Throttled, true, "429; the server says: later"),
        (
            status("500 Oh", "etcdserver: leader changed"),
            Cause::Server,
            true,
            "500; the server says: etcdserver: leader",
        ),
        (json_answer("503 Oh", "<html>\\u001b[31m"), Cause::Server, true, "503; the server says: <html>"),
        (json_answer("504 Oh", ""), Cause::Server, true, "504"),
        (json_answer("302 Found", ""), Cause::BadAnswer, false, "302"),
        (status("400 Bad", &format!("token {TOKEN}")), Cause::BadAnswer, false, "400; the server says: token ****"),
    ] {
        let failure = failure_of(answer);
        let expected = format!("{failed} {}", expected.replace("\\\"", "\""));
        assert_eq!((failure.cause, failure.cause.is_transient()), (cause, is_transient), "{failure}");
        assert!(failure.to_string().starts_with(&expected), "{failure}\n{expected}");
    }
    let throttled = failure_of(b"HTTP/1.1 429 Too Many\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n".to_vec());
    assert_eq!(throttled.failure.retry_after, Some(Duration::from_secs(7)));
}

#[test]
fn of_a_long_answer_the_start_is_shown_on_one_line_and_never_a_part_of_the_token() {
    let before = "x".repeat(EXCERPT - 20);
    let failure = failure_of(json_answer("500 Oh", &format!("{before}\n{TOKEN}{}", "y".repeat(100_000))));
    let text = failure.to_string();
    assert!(text.len() < 2 * EXCERPT && !text.contains('\n') && !text.contains(&TOKEN[..6]), "{text}");
}

#[test]
fn an_answer_that_is_none_is_a_bad_answer() {
    let secret = r#"{"data":{"password":["SECRET"]}}"#;
    let encoded = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}".to_vec();
    let long = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", MAX_CONFIG_MAP + 1).into_bytes();
    let mut endless = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    endless.resize(usize::try_from(MAX_CONFIG_MAP).unwrap() + 100, b' ');
    for (answer, expected) in [
        (json_answer("200 OK", ""), "not the JSON that was asked for, at line 1 column 0"),
        (json_answer("200 OK", "<html>"), "not the JSON that was asked for, at line 1 column 1"),
        (json_answer("200 OK", "[]"), "not the object that was asked for"),
        (json_answer("200 OK", "{}"), "not the object that was asked for"),
        (json_answer("200 OK", r#"{"metadata":{"name":"b","resourceVersion":"1"}}"#), "not the object that was"),
        (json_answer("200 OK", secret), "not the JSON that was asked for, at line 1 column"),
        (json_answer("200 OK", &"[".repeat(100_000)), "not the JSON that was asked for"),
        (encoded, "encoded as gzip, which was not requested"),
        (long, "longer than 3145728 bytes"),
        (endless, "longer than 3145728 bytes"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec(), "the answer is not HTTP"),
    ] {
        let failure = failure_of(answer);
        assert_eq!(failure.cause, Cause::BadAnswer, "{failure}");
        assert!(failure.to_string().contains(expected) && !failure.to_string().contains("SECRET"), "{failure}");
    }
}

#[test]
fn an_answer_that_breaks_off_or_does_not_come_may_come_later() {
    for answer in [&b""[..], b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{"] {
        let failure = failure_of(answer.to_vec());
        assert!(failure.cause == Cause::Unreachable && failure.to_string().contains("closed before"), "{failure}");
    }
    let directory = Dir::new();
    write(directory.join("token"), TOKEN);
    write(directory.join("ca.crt"), CERTIFICATE);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let client = Client::new(options(&address, directory.path(), Duration::from_millis(300)));
    let silent = client.config_map(&name("a")).unwrap_err();
    assert!(silent.to_string().ends_with("no complete answer within 300ms; check that no NetworkPolicy forbids it"));
    drop(listener);
    let refused = client.config_map(&name("a")).unwrap_err();
    assert!(refused.cause == Cause::Unreachable && refused.to_string().contains("check the API server"), "{refused}");
}

#[test]
fn credentials_that_cannot_be_used_are_named() {
    let directory = Dir::new();
    let client = Client::new(options("http://127.0.0.1:1", directory.path(), Duration::from_secs(1)));
    let fails_with = |expected: &str| {
        let failure = client.config_map(&name("a")).unwrap_err();
        assert!(failure.cause == Cause::Credentials && failure.to_string().contains(expected), "{failure}");
    };
    fails_with("the pod's token cannot be read; the pod needs a ServiceAccount");
    write(directory.join("token"), " \n");
    fails_with("it is empty");
    write(directory.join("token"), "a\u{1}b");
    fails_with("ca-file cannot be read");
    write(directory.join("ca.crt"), CERTIFICATE);
    fails_with("control character");
}

#[test]
fn the_address_is_the_pods() {
    let options = |host: &str, port: &str| {
        let variable = |name: &str| match name {
            "KUBERNETES_SERVICE_HOST" => Some(host.to_owned()),
            "KUBERNETES_SERVICE_PORT" => Some(port.to_owned()),
            _ => None,
        };
        Options::in_cluster(name("km-agent"), variable)
            .map(|options| options.address)
            .map_err(|error| error.to_string())
    };
    assert_eq!(options("10.96.0.1", "443").unwrap(), "https://10.96.0.1:443");
    assert_eq!(options("fd00::1", "6443").unwrap(), "https://[fd00::1]:6443");
    assert!(options("", "443").unwrap_err().starts_with("KUBERNETES_SERVICE_HOST is not set"));
    assert!(options("h", "").unwrap_err().starts_with("KUBERNETES_SERVICE_PORT is not set"));
}

#[test]
fn a_real_config_map_changes_only_from_what_was_read() {
    let Some(client) = test_server::client() else { return };
    let kept = name("kept");
    let before = client.config_map(&kept).unwrap();
    let patch = ConfigMapPatch::of(&before).data("a", Some("1\n".to_owned())).annotation("x.test/a", Some("b".into()));
    let after = client.patch_config_map(&kept, &patch).unwrap();
    assert_eq!((after.data["a"].as_str(), after.metadata.annotations["x.test/a"].as_str()), ("1\n", "b"));
    assert_eq!(after.data["other"], before.data["other"]);
    let stale = client.patch_config_map(&kept, &patch).unwrap_err();
    assert_eq!(stale.cause, Cause::Conflict, "{stale}");
    let patch = ConfigMapPatch::of(&after).data("a", None).annotation("x.test/a", None);
    let removed = client.patch_config_map(&kept, &patch).unwrap();
    assert!(!removed.data.contains_key("a") && !removed.metadata.annotations.contains_key("x.test/a"));

    let large = ConfigMapPatch::of(&removed).data("a", Some("x".repeat(1024 * 1024)));
    let failure = client.patch_config_map(&kept, &large).unwrap_err();
    assert_eq!(failure.cause, Cause::Invalid, "{failure}");
    assert!(failure.to_string().contains("1048576"), "{failure}");
    let almost = "\n\"".repeat((1024 * 1024 - 1000) / 2);
    let large = ConfigMapPatch::of(&removed).data("a", Some(almost.clone()));
    let kept_large = client.patch_config_map(&kept, &large).unwrap();
    assert_eq!(client.config_map(&kept).unwrap().data["a"], almost);
    client.patch_config_map(&kept, &ConfigMapPatch::of(&kept_large).data("a", None)).unwrap();
}

#[test]
fn a_real_refusal_names_the_rule_to_add() {
    let Some(client) = test_server::client() else { return };
    for failure in [client.config_map(&name("other")).unwrap_err(), client.config_map(&name("absent")).unwrap_err()] {
        assert_eq!(failure.cause, Cause::Forbidden, "{failure}");
        assert!(failure.to_string().contains("resources: [configmaps], resourceNames: ["), "{failure}");
    }
    assert_eq!(client.config_map(&name("gone")).unwrap_err().cause, Cause::NotFound);
    let failure = client.workload(&daemon_set("other")).unwrap_err();
    assert!(failure.to_string().contains("- {apiGroups: [apps], resources: [daemonsets], resourceNames: [other]"));
    let elsewhere = Client::new(Options { namespace: name("default"), ..client.options.clone() });
    assert_eq!(elsewhere.config_map(&name("kept")).unwrap_err().cause, Cause::Forbidden);

    let directory = Dir::new();
    write(directory.join("token"), TOKEN);
    let authorities = read_text(&client.options.credentials.join("ca.crt"), 100_000).unwrap();
    write(directory.join("ca.crt"), &authorities);
    let stranger = Client::new(Options { credentials: directory.path().to_owned(), ..client.options.clone() });
    assert_eq!(stranger.config_map(&name("kept")).unwrap_err().cause, Cause::Unauthorized);
    write(directory.join("ca.crt"), CERTIFICATE);
    let impostor = stranger.config_map(&name("kept")).unwrap_err();
    assert!(impostor.cause == Cause::Unreachable && impostor.to_string().contains("certificate"), "{impostor}");
}

#[test]
fn a_real_review_finds_the_missing_rights() {
    let Some(client) = test_server::client() else { return };
    let workloads = [daemon_set("kept"), daemon_set("other")];
    let rights = [Right::to_keep([&name("kept"), &name("other")]), Right::to_roll_out(&workloads)].concat();
    assert_eq!(
        role_rules(&client.missing_rights(rights).unwrap()),
        [
            r#"- {apiGroups: [""], resources: [configmaps], resourceNames: [other], verbs: [get, patch]}"#,
            r#"- {apiGroups: [apps], resources: [daemonsets], resourceNames: [other], verbs: [get, patch]}"#,
        ]
    );
}

#[test]
fn a_real_event_is_taken() {
    let Some(client) = test_server::client() else { return };
    let kept = client.config_map(&name("kept")).unwrap();
    let note = Masked::new("a test");
    client.create_event(&Event::of_config_map(&kept.metadata, Severity::Normal, "ConfigInstalled", note)).unwrap();
    let note = Masked::new(&"ä".repeat(2000));
    let event = Event::of_workload(&daemon_set("kept"), "", Severity::Warning, "ConfigRejected", note);
    client.create_event(&event).unwrap();
}

#[test]
fn a_real_workload_is_restarted_by_another_annotation_and_by_nothing_else() {
    let Some(client) = test_server::client() else { return };
    let kept = daemon_set("kept");
    let before = client.workload(&kept).unwrap();
    let version = Some(before.metadata.resource_version.as_str());
    let after = client.set_restarted_at(&kept, Some("2026-01-01T00:00:00.000Z"), version).unwrap();
    assert_eq!(after.metadata.generation, before.metadata.generation + 1);
    assert_eq!(client.set_restarted_at(&kept, Some("x"), version).unwrap_err().cause, Cause::Conflict);
    let again = client.set_restarted_at(&kept, Some("2026-01-01T00:00:00.000Z"), None).unwrap();
    assert_eq!(again.metadata.generation, after.metadata.generation);
    let undone = client.set_restarted_at(&kept, None, None).unwrap();
    assert_eq!(undone.spec.template.metadata.annotations, before.spec.template.metadata.annotations);
    assert_eq!(client.pods(&undone.spec.selector, None).unwrap().items, []);
}
