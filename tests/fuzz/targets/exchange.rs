//! What is read around a request: `Date` and `Retry-After`, proxy variables, a PEM bundle. Any text is taken or
//! refused, and no refusal shows a proxy's password.
#![no_main]

use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use kmagent::log::utc::from_http_date;
use kmagent::source::{client_options, failure, proxy};
use libfuzzer_sys::fuzz_target;
use ureq::http::{HeaderMap, HeaderValue, Uri};

static PEM: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory = std::env::temp_dir().join(format!("km-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    directory.join("ca.pem")
});

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(5, |&byte| byte == 0);
    let mut next = || parts.next().unwrap_or_default();
    let (date, retry_after) = (next(), next());
    let (proxy_url, no_proxy) = (String::from_utf8_lossy(next()), String::from_utf8_lossy(next()));
    let pem = next();

    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_981_721);
    if let Ok(date) = std::str::from_utf8(date) {
        assert!(from_http_date(date).is_none_or(|time| time >= SystemTime::UNIX_EPOCH));
    }
    let mut headers = HeaderMap::new();
    for (name, value) in [("date", date), ("retry-after", retry_after)] {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.insert(name, value);
        }
    }
    let wait = failure::retry_after(&headers, now);
    assert!(wait.is_none_or(|wait| wait <= Duration::from_secs(3600)), "{wait:?}");

    let endpoint = Uri::from_static("https://api.example.com/agents/config-check");
    let variable = |name: &str| match name {
        "https_proxy" => Some(proxy_url.to_string()),
        "no_proxy" => Some(no_proxy.to_string()),
        _ => None,
    };
    if let Some(choice) = proxy::choose(&endpoint, variable) {
        let password = choice.url.rsplit_once('@').and_then(|(before, _)| before.rsplit_once(':')).map(|(_, text)| text);
        // One that no message and no other part of the URL has in itself; the seeds' is of that kind.
        let is_telling = |password: &&str| password.contains("zq") && choice.url.matches(*password).count() == 1;
        let password = password.filter(is_telling).map(str::to_owned);
        let text = match client_options::connect_proxy(choice) {
            Ok((_, proxy_use)) => proxy_use.shown,
            Err(error) => error.to_string(),
        };
        let is_shown = password.as_ref().is_some_and(|password| text.contains(&**password));
        assert!(!is_shown, "{password:?} is shown: {text}");
    }
    if pem.len() > 8 {
        std::fs::write(&*PEM, pem).unwrap();
        let _ = client_options::authorities(&PEM);
    }
});
