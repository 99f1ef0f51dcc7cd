//! The call against a scripted server on a plain socket: what goes over the wire, and what is made of each way an
//! answer can fail.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::JoinHandle;

use super::*;

const KEY: &str = "sk_live_0123456789";
const BODY: &[u8] = br#"{"agent_status":"Running"}"#;

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

/// Accepts one connection, hands over the request and the connection to answer on. The URL, and what `answer` returned.
fn server<T: Send + 'static>(
    answer: impl FnOnce(String, &mut TcpStream) -> T + Send + 'static,
) -> (String, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/agents/config-check", listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        // Without a second one: what is not followed must not be offered.
        drop(listener);
        let request = request(&mut connection);
        answer(request, &mut connection)
    });
    (url, serving)
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

/// One check against a server that gives `response` and then closes.
fn check_against(response: &'static str) -> std::result::Result<Answer, Failure> {
    let (url, serving) = server(move |_, connection| connection.write_all(response.as_bytes()).unwrap());
    let result = client(&url, &[]).post(BODY);
    serving.join().unwrap();
    result
}

fn client(url: &str, variables: &[(&str, &str)]) -> Client {
    let key = Secret::new(KEY.to_owned());
    Client::with_environment(&options(url, Some(&key), None), environment(variables)).unwrap()
}

/// One that waits half a second instead of ten.
fn impatient(url: &str, variables: &[(&str, &str)]) -> Client {
    let options = Options { poll_timeout: Duration::from_millis(500), ..options(url, None, None) };
    Client::with_environment(&options, environment(variables)).unwrap()
}

fn environment(variables: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> {
    move |name| variables.iter().find(|variable| variable.0 == name).map(|variable| variable.1.to_owned())
}

fn options<'a>(endpoint: &'a str, credential: Option<&'a Secret>, ca_file: Option<&'a Path>) -> Options<'a> {
    let poll_timeout = Duration::from_secs(10);
    Options { endpoint, credential, setting: "api-key", key_remedy: "", ca_file, poll_timeout, max_answer: 1000 }
}

#[test]
fn this_goes_over_the_wire() {
    for key in [None, Some(Secret::new(KEY.to_owned()))] {
        let (url, serving) = server(|request, connection| {
            connection
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 25\r\n\r\n{\"restart_required\":true}\n")
                .unwrap();
            request
        });
        let url = url.replace("http://", "http://user:hunter22@");
        let answer = Client::with_environment(&options(&url, key.as_ref(), None), |_| None).unwrap().post(BODY);
        assert!(answer.unwrap().restart_required);
        let request = serving.join().unwrap();
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let mut head: Vec<_> = head.split("\r\n").collect();
        assert_eq!(head.remove(0), "POST /agents/config-check HTTP/1.1");
        let mut expected = vec![
            format!("content-length: {}", BODY.len()),
            "content-type: application/json".to_owned(),
            format!("host: {}", url.split(['@', '/']).nth(3).unwrap()),
            concat!("user-agent: kmagent/", env!("CARGO_PKG_VERSION")).to_owned(),
        ];
        expected.extend(key.map(|key| format!("authorization: {}", key.expose())));
        expected.sort();
        head.sort();
        assert_eq!(head, expected);
        assert_eq!(body.as_bytes(), BODY);
    }
}

#[test]
fn a_status_says_what_to_do() {
    for (response, exit, retry_after, expected) in [
        (
            "HTTP/1.1 401 Unauthorized\r\n\r\nno such key",
            Exit::Denied,
            None,
            "HTTP status 401; check api-key; the server says: no such key",
        ),
        (
            "HTTP/1.1 403 Forbidden\r\n\r\nkey sk_live_0123456789\n",
            Exit::Denied,
            None,
            "status 403; check api-key; the server says: key ****",
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n", Exit::BadAnswer, None, "HTTP status 204"),
        (
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
            Exit::BadAnswer,
            None,
            "status 404; check update-endpoint",
        ),
        ("HTTP/1.1 429 Slow\r\nretry-after: 30\r\n\r\n", Exit::TryAgain, Some(30), "HTTP status 429"),
        (
            "HTTP/1.1 503 Oh\r\nretry-after: 9999\r\n\r\na\n\x1b[31mb",
            Exit::TryAgain,
            Some(3600),
            "503; the server says: a\\n\\u{1b}[31mb",
        ),
        (
            "HTTP/1.1 500 Oh\r\ncontent-length: 99\r\n\r\nbroken o",
            Exit::TryAgain,
            None,
            "HTTP status 500; the server says: broken o",
        ),
        (
            "HTTP/1.1 302 Found\r\nlocation: https://u:p@login.example/x?token=1\r\ncontent-length: 0\r\n\r\n",
            Exit::BadAnswer,
            None,
            "HTTP status 302, a redirect to https://login.example/x, which is not followed",
        ),
        (
            "HTTP/1.1 307 Found\r\nlocation: /x\r\n\r\nbody",
            Exit::BadAnswer,
            None,
            "307, a redirect to /x, which is not followed",
        ),
    ] {
        let failure = check_against(response).unwrap_err();
        let (told, waits) = (failure.answer.clone(), failure.retry_after.map(|wait| wait.as_secs()));
        let (reason, logged) = (failure.reason(), failure.error.to_string());
        let error = failure.into_error();
        let text = error.to_string();
        assert!(text.starts_with("config check: http://127.0.0.1:") && text.contains(expected), "{text}");
        assert_eq!((error.exit(), waits), (exit, retry_after), "{text}");
        // The URL is not in the one, what the server says not in the other.
        assert_eq!(text, format!("{}: {reason}", error.what()));
        assert_eq!(text, told.map_or(logged.clone(), |told| format!("{logged}; the server says: {told}")));
        assert!(!text.contains(KEY) && !text.contains("token"), "{text}");
    }
}

#[test]
fn of_a_long_error_page_the_start_is_shown_and_never_a_part_of_the_key() {
    let (url, serving) = server(|_, connection| {
        let page = "x".repeat(EXCERPT - 6) + KEY + &"y".repeat(100_000);
        let _ = connection.write_all(format!("HTTP/1.1 500 Oh\r\n\r\n{page}").as_bytes());
    });
    let text = client(&url, &[]).post(BODY).unwrap_err().into_error().to_string();
    assert!(text.ends_with("xxx****yy"), "{text}");
    serving.join().unwrap();
}

#[test]
fn an_answer_that_is_none_is_a_bad_answer() {
    for (response, expected) in [
        ("HTTP/1.1 200 OK\r\n\r\n<html>", "the answer cannot be read: expected a JSON object"),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "the answer cannot be read: expected a JSON object, but it is empty",
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n", "longer than 1000 bytes; raise max-config-size"),
        ("SSH-2.0-OpenSSH_9.9\r\n", "the answer is not HTTP"),
    ] {
        let error = check_against(response).unwrap_err().error;
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.exit(), Exit::BadAnswer, "{error}");
    }
}

#[test]
fn an_endless_answer_is_given_up_at_the_limit() {
    let (url, serving) = server(|_, connection| {
        let chunk = format!("400\r\n{}\r\n", " ".repeat(0x400));
        connection.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
        while connection.write_all(chunk.as_bytes()).is_ok() {}
    });
    let error = client(&url, &[]).post(BODY).unwrap_err().error;
    assert!(error.to_string().contains("longer than 1000 bytes"), "{error}");
    serving.join().unwrap();
}

#[test]
fn what_may_pass_is_worth_another_try() {
    for (response, expected) in [
        ("", "the connection was closed before the answer was complete"),
        ("HTTP/1.1 200 OK\r\nconte", "the connection was closed before the answer was complete"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{}", "the connection was closed before the answer was complete"),
    ] {
        let error = check_against(response).unwrap_err().error;
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.exit(), Exit::TryAgain, "{error}");
    }
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = client(&format!("http://{unused}/"), &[]).post(BODY).unwrap_err().error;
    assert!(error.to_string().ends_with("; check update-endpoint, and that the server runs"), "{error}");
    assert!(error.to_string().contains("Connection refused") && error.exit() == Exit::TryAgain, "{error}");
    let proxy = format!("http://{unused}");
    let error = client("https://api.example/x", &[("HTTPS_PROXY", &proxy)]).post(BODY).unwrap_err().error;
    assert!(error.to_string().ends_with("; check HTTPS_PROXY, and that the server runs"), "{error}");
    // A label of DNS has 63 bytes at most, so the resolver refuses it without asking anybody.
    let host = "a".repeat(64);
    let error = client(&format!("http://{host}/"), &[]).post(BODY).unwrap_err().error;
    assert!(error.to_string().contains(&format!("cannot resolve {host}")), "{error}");
    assert_eq!(error.exit(), Exit::TryAgain, "{error}");
}

#[test]
fn a_reset_is_worth_another_try() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    // Closed with a request unread: the peer gets a reset.
    let serving = std::thread::spawn(move || listener.accept().unwrap().0.read_exact(&mut [0]));
    let error = client(&url, &[]).post(BODY).unwrap_err().error;
    assert_eq!(error.exit(), Exit::TryAgain, "{error}");
    serving.join().unwrap().unwrap();
}

/// Of a client that waits for half a second: two seconds of dripping.
const MAX_DROPS: usize = 100;

/// Writes `text` a byte every 20 ms, until the other side has had enough. Returns how many that were.
fn drip(connection: &mut TcpStream, text: &str) -> usize {
    let write = |byte| {
        std::thread::sleep(Duration::from_millis(20));
        connection.write_all(&[byte]).is_ok()
    };
    text.bytes().map(write).take_while(|is_written| *is_written).count()
}

#[test]
fn a_dripping_answer_ends_at_the_timeout() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n";
    for (at_once, dripping) in [("", HEAD), (HEAD, ""), ("HTTP/1.1 500 Oh\r\ncontent-length: 1000\r\n\r\n", "")] {
        let (url, serving) = server(move |_, connection| {
            connection.write_all(at_once.as_bytes()).unwrap();
            drip(connection, &(dripping.to_owned() + &" ".repeat(1000)))
        });
        let error = impatient(&url, &[]).post(BODY).unwrap_err().error;
        assert_eq!(error.exit(), Exit::TryAgain, "{error}");
        let drops = serving.join().unwrap();
        assert!(drops < MAX_DROPS, "it waited for {drops}");
    }
}

#[test]
fn a_silent_server_ends_at_the_timeout() {
    let (url, serving) = server(|_, connection| connection.read(&mut [0]));
    let error = impatient(&url, &[]).post(BODY).unwrap_err().error;
    assert!(error.to_string().contains("no complete answer within 500ms"), "{error}");
    let _ = serving.join().unwrap();
}

#[test]
fn a_proxy_is_asked_for_a_tunnel() {
    let (url, serving) = server(|connect, connection| {
        connection.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        let request = request(connection);
        connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
        (connect, request)
    });
    let answer = client("http://api.example:81/x", &[("http_proxy", &url)]).post(BODY);
    assert_eq!(answer.unwrap(), Answer::default());
    let (connect, request) = serving.join().unwrap();
    assert!(connect.starts_with("CONNECT api.example:81 HTTP/1.1\r\n") && !connect.contains(KEY), "{connect}");
    assert!(request.starts_with("POST /x HTTP/1.1\r\n"), "{request}");
}

#[test]
fn a_proxy_that_refuses_is_named() {
    let (url, serving) = server(|_, connection| {
        connection.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n").unwrap();
    });
    let url = url.replace("http://", "http://user:password@");
    let error = client("https://api.example/x", &[("HTTPS_PROXY", &url)]).post(BODY).unwrap_err().error;
    let text = error.to_string();
    assert!(text.contains("the proxy refuses the user name or password in HTTPS_PROXY (HTTP status 407)"), "{text}");
    assert!(text.contains("(through the proxy http://127.0.0.1:"), "{text}");
    assert!(!text.contains("hunter22") && error.exit() == Exit::TryAgain, "{text}");
    serving.join().unwrap();
}

#[test]
fn a_dripping_proxy_ends_at_the_timeout() {
    let (url, serving) = server(|_, connection| drip(connection, &format!("HTTP/1.1 200 {}", "x".repeat(500))));
    let error = impatient("https://api.example/x", &[("HTTPS_PROXY", &url)]).post(BODY).unwrap_err().error;
    assert!(error.to_string().contains("no complete answer within"), "{error}");
    let drops = serving.join().unwrap();
    assert!(drops < MAX_DROPS, "it waited for {drops}");
}

#[test]
fn a_server_without_tls_is_named_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        connection.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        while connection.read(&mut [0; 4096]).is_ok_and(|length| length > 0) {}
    });
    let error = client(&url, &[]).post(BODY).unwrap_err().error;
    assert!(error.to_string().contains("does not speak TLS"), "{error}");
    serving.join().unwrap();
}

#[test]
fn settings_that_cannot_be_used_are_refused_at_start() {
    let good = "https://api.example/x";
    for (endpoint, key, variables, expected) in [
        ("api.example", "k", &[][..], "update-endpoint is not a URL"),
        ("ftp://api.example/", "k", &[], "it is not an http or https URL"),
        ("https://", "k", &[], "update-endpoint is not a URL"),
        (good, "a\nkey", &[], "api-key has a line break"),
        (
            good,
            "k",
            &[("https_proxy", "socks5://p:1080")],
            "the proxy in https_proxy cannot be used: only http and https",
        ),
        (good, "k", &[("ALL_PROXY", "http://")], "the proxy in ALL_PROXY cannot be used: it is not a URL"),
    ] {
        let key = Secret::new(key.to_owned());
        let error =
            Client::with_environment(&options(endpoint, Some(&key), None), environment(variables)).err().unwrap();
        assert!(error.to_string().contains(expected) && !error.to_string().contains("a\nkey"), "{error}");
        assert_eq!(error.exit(), Exit::Settings, "{error}");
    }
}

/// Each parses, as the URL of a host called `user` or the like, so that a part of the password would be shown.
#[test]
fn a_proxy_whose_password_is_not_encoded_is_refused_without_showing_it() {
    for url in [
        "http://user:hunter/22@proxy:3128",
        "http://user:8080/hunter22@proxy:3128",
        "http://user:hunter#22@proxy:3128",
        "http://user:hunter?22@proxy:3128",
        "http://us@er:hunter22@proxy:3128",
        "user:hunter/22@proxy:3128",
        "http://user:hunter",
    ] {
        let variables = [("https_proxy", url)];
        let result = Client::with_environment(&options("https://api.example/x", None, None), environment(&variables));
        let text = result.err().unwrap_or_else(|| panic!("{url} is taken")).to_string();
        let says =
            if url.contains('@') { "its user name or password is not percent-encoded: " } else { "is not a URL" };
        assert!(text.starts_with("the proxy in https_proxy cannot be used: ") && text.contains(says), "{text}");
        assert!(!text.contains("hunter") && !text.contains("22") && !text.contains("proxy:"), "{text}");
    }
}

#[test]
fn a_ca_file_is_read_at_start() {
    let path = std::env::temp_dir().join(format!("kmagent-ca-{}", std::process::id()));
    for (pem, expected) in [
        (None, "ca-file cannot be read"),
        (Some("".to_owned()), "no usable certificate"),
        (Some("not PEM".to_owned()), "no usable certificate"),
        (Some(CERTIFICATE.replace("-----END", "=====END")), "name a PEM bundle"),
        (Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned()), "no usable certificate"),
        (Some(CERTIFICATE.replace(" CERT", " TRUSTED CERT")), "convert each with openssl x509 -in FILE"),
        (Some("0\u{1}".to_owned()), "it is in DER: convert it with openssl x509 -inform DER"),
        (Some(CERTIFICATE.to_owned()), ""),
        // As editors on Windows write it.
        (Some(format!("\u{feff}{CERTIFICATE}")), ""),
        (Some(format!("# ours\n\u{feff}{CERTIFICATE}{}", CERTIFICATE.replace(" CERT", " TRUSTED CERT"))), ""),
        (
            Some(
                "# ours\n".to_owned() + CERTIFICATE + "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            ),
            "",
        ),
    ] {
        if let Some(pem) = pem {
            std::fs::write(&path, pem).unwrap();
        }
        let result = Client::with_environment(&options("https://api.example/x", None, Some(&path)), |_| None);
        let Err(error) = result else {
            assert!(expected.is_empty(), "{expected}");
            continue;
        };
        let text = error.to_string();
        assert!(!expected.is_empty() && text.contains(expected) && text.contains(path.to_str().unwrap()), "{text}");
        assert_eq!(error.exit(), Exit::Settings, "{text}");
    }
    std::fs::remove_file(path).unwrap();
}

/// A panic of a library would end the agent (os/panic_hook), so no answer may bring one about: a seeded walk over
/// answers that differ from good ones in a few bytes. `KM_LONG=1` goes a hundred times as far.
#[test]
fn no_answer_makes_anything_panic() {
    const GOOD: [&str; 5] = [
        "HTTP/1.1 200 OK\r\nContent-Length: 46\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n{\"restart_required\":true,\"config\":{\"a\":[1.5e3]}}",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\n{\"\r\n9\r\nconfig\":{\r\n2\r\n}}\r\n0\r\nTrailer: x\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.0 200\r\n\r\n{\"config\":{\"\\u00e9\":\"\\ud83e\\udd80\"}}",
        "HTTP/1.1 302 Found\r\nLocation: https://u:p@a.example:8443/x?y#z\r\nConnection: close\r\n\r\nelsewhere",
        "HTTP/1.1 503 Oh\r\nRetry-After: Sun, 06 Nov 1994 08:50:37 GMT\r\nContent-Encoding: gzip\r\n\r\nbusy",
    ];
    const TOKENS: [&str; 14] = [
        "\r\n",
        "\r\n\r\n",
        "\0",
        "0",
        "-",
        "ffffffffffffffff",
        ":",
        ";",
        " ",
        "\u{e9}",
        "[",
        "{",
        "\"",
        "HTTP/1.1 101 X\r\n\r\n",
    ];
    let rounds = if std::env::var_os("KM_LONG").is_some_and(|value| value == "1") { 100_000 } else { 1000 };
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut below = |limit: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % limit as u64) as usize
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = impatient(&format!("http://{}/", listener.local_addr().unwrap()), &[]);
    let (answers, next) = std::sync::mpsc::channel::<Vec<u8>>();
    let serving = std::thread::spawn(move || {
        for answer in next {
            let (mut connection, _) = listener.accept().unwrap();
            request(&mut connection);
            // In one piece, or in two.
            let (first, second) = answer.split_at(if answer.len() % 3 == 0 { answer.len() / 2 } else { answer.len() });
            let _ = connection.write_all(first).and_then(|()| connection.write_all(second));
        }
    });
    let (mut taken, mut refused) = (0, 0);
    for round in 0..rounds {
        let mut answer = GOOD[round % GOOD.len()].as_bytes().to_vec();
        for _ in 0..below(4) {
            let (at, count) = (below(answer.len()), below(8));
            let end = (at + count).min(answer.len());
            match below(5) {
                0 => answer[at] = below(256) as u8,
                1 => drop(answer.drain(at..end)),
                2 => answer.truncate(at.max(1)),
                3 => {
                    let piece = answer[at..end].repeat(below(30));
                    answer.splice(at..at, piece);
                }
                _ => drop(answer.splice(at..at, TOKENS[below(TOKENS.len())].bytes()).count()),
            }
            if answer.is_empty() {
                answer.push(b'x');
            }
        }
        answers.send(answer).unwrap();
        match client.post(BODY) {
            Ok(_) => taken += 1,
            Err(failure) => {
                assert!(failure.retry_after.is_none_or(|wait| wait <= Duration::from_secs(3600)));
                let text = failure.into_error().to_string();
                assert!(text.len() < 10 * MESSAGE && !text.contains(sanitize::is_invisible), "{text:?}");
                refused += 1;
            }
        }
    }
    drop(answers);
    serving.join().unwrap();
    // The walk comes to both.
    assert!(taken > rounds / 10 && refused > rounds / 10, "{taken} {refused}");
}
