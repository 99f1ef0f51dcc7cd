//! HTTP/1.1 (RFC 9112) as far as the relay speaks it: heads are read, strictly where that decides where a request ends,
//! and responses are written. Pure.

use std::sync::Arc;

use httparse::{EMPTY_HEADER, Status};

/// Of a request. A client of ours sends six.
const HEADER_LIMIT: usize = 64;

/// A request, as long as it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    pub method: &'a str,
    /// As it was sent, with a query.
    pub path: &'a str,
    /// The value of the header.
    pub authorization: Option<&'a [u8]>,
    /// Empty while only the head is there.
    pub body: &'a [u8],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    /// A line of the head of its own, such as `allow: POST`.
    pub header: Option<&'static str>,
    /// JSON, or nothing.
    pub body: Body,
}

/// In parts, as the middle one may be a whole config, which many read at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    pub before: String,
    pub shared: Option<Arc<str>>,
    pub after: &'static str,
}

impl Body {
    pub fn parts(&self) -> [&[u8]; 3] {
        [self.before.as_bytes(), self.shared.as_deref().unwrap_or_default().as_bytes(), self.after.as_bytes()]
    }

    fn len(&self) -> usize {
        self.parts().map(<[u8]>::len).iter().sum()
    }
}

impl From<String> for Body {
    fn from(before: String) -> Body {
        Body { before, ..Body::default() }
    }
}

impl Response {
    pub fn status(status: u16) -> Response {
        Response { status, header: None, body: Body::default() }
    }

    pub fn ok(body: impl Into<Body>) -> Response {
        Response { status: 200, header: None, body: body.into() }
    }

    /// With what to do, for the client's log.
    pub fn refusal(status: u16, advice: &str) -> Response {
        let body = serde_json::json!({ "error": advice }).to_string().into();
        Response { status, header: None, body }
    }

    pub(super) fn head(&self, keeps_alive: bool) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        if self.body.len() > 0 {
            head.push_str("content-type: application/json\r\n");
        }
        if let Some(header) = self.header {
            head.push_str(header);
            head.push_str("\r\n");
        }
        if !keeps_alive {
            head.push_str("connection: close\r\n");
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", self.body.len()));
        head.into_bytes()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        411 => "Length Required",
        413 => "Content Too Large",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

/// The head of a request that was received whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Head<'a> {
    /// Without its body.
    pub request: Request<'a>,
    pub length: usize,
    pub body_length: usize,
    pub keeps_alive: bool,
}

/// Where the head ends that `bytes` begin with: after the first empty line. `searched` bytes were looked at before.
pub fn end_of_head(bytes: &[u8], searched: usize) -> Option<usize> {
    let from = searched.saturating_sub(3);
    let ends = |at: &usize| bytes[..=*at].ends_with(b"\n\r\n") || bytes[..=*at].ends_with(b"\n\n");
    (from..bytes.len()).find(ends).map(|at| at + 1)
}

/// # Errors
/// The status that it is to be refused with.
pub fn parse(head: &[u8]) -> Result<Head<'_>, u16> {
    let mut headers = [EMPTY_HEADER; HEADER_LIMIT];
    let mut parsed = httparse::Request::new(&mut headers);
    match parsed.parse(head) {
        Ok(Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(400),
        Err(httparse::Error::TooManyHeaders) => return Err(431),
        Err(httparse::Error::Version) => return Err(505),
        Err(_) => return Err(400),
    }
    let (Some(method), Some(path), Some(version)) = (parsed.method, parsed.path, parsed.version) else {
        return Err(400);
    };
    let (mut authorization, mut body_length, mut keeps_alive) = (None, None, version == 1);
    for header in parsed.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        let says = |token: &str| {
            let mut tokens = header.value.split(|&byte| byte == b',');
            tokens.any(|it| it.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
        };
        if is("authorization") {
            // Two: which one is meant is a guess.
            if authorization.replace(header.value).is_some() {
                return Err(400);
            }
        } else if is("content-length") {
            // Another one, even of the same value, is how requests are smuggled (RFC 9112, 6.3).
            if body_length.replace(length(header.value).ok_or(400u16)?).is_some() {
                return Err(400);
            }
        } else if is("transfer-encoding") {
            return Err(411);
        } else if is("expect") {
            return Err(417);
        } else if is("connection") {
            keeps_alive &= !says("close");
        }
    }
    if body_length.is_none() && matches!(method, "POST" | "PUT" | "PATCH") {
        return Err(411);
    }
    let request = Request { method, path, authorization, body: &[] };
    Ok(Head { request, length: head.len(), body_length: body_length.unwrap_or(0), keeps_alive })
}

/// Digits and nothing else. More than there are bytes in the world is as many as that.
fn length(value: &[u8]) -> Option<usize> {
    let is_number = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let text = str::from_utf8(value).ok().filter(|_| is_number)?;
    Some(text.parse().unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(String, usize, bool), u16> {
        let head = parse(text.as_bytes())?;
        Ok((format!("{} {}", head.request.method, head.request.path), head.body_length, head.keeps_alive))
    }

    #[test]
    fn heads_are_read() {
        for (text, request, body_length, keeps_alive) in [
            ("GET /healthz HTTP/1.1\r\n\r\n", "GET /healthz", 0, true),
            ("GET /healthz HTTP/1.0\r\n\r\n", "GET /healthz", 0, false),
            ("GET / HTTP/1.1\n\n", "GET /", 0, true),
            ("POST /a?b=c HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\n\r\n", "POST /a?b=c", 12, true),
            ("POST / HTTP/1.1\r\ncontent-length: 0\r\nConnection: upgrade, Close\r\n\r\n", "POST /", 0, false),
            ("POST / HTTP/1.1\r\ncontent-length: 99999999999999999999999\r\n\r\n", "POST /", usize::MAX, true),
            ("BREW / HTTP/1.1\r\n\r\n", "BREW /", 0, true),
        ] {
            assert_eq!(read(text), Ok((request.into(), body_length, keeps_alive)), "{text}");
        }
    }

    #[test]
    fn what_is_not_clear_is_refused() {
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADER_LIMIT + 1));
        for (text, status) in [
            ("POST / HTTP/1.1\r\n\r\n", 411),
            ("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", 411),
            ("POST / HTTP/1.1\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n", 411),
            ("POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\ncontent-length: 1, 1\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\ncontent-length: +1\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\ncontent-length: 0x1\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\ncontent-length:\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\ncontent-length : 1\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\ncontent-length: 1\r\nexpect: 100-continue\r\n\r\n", 417),
            ("GET / HTTP/1.1\r\nauthorization: a\r\nauthorization: b\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\na: b\r\n c\r\n\r\n", 400),
            ("GET / HTTP/2.0\r\n\r\n", 505),
            ("GET / HTTP/1.2\r\n\r\n", 505),
            ("PRI * HTTP/2.0\r\n\r\n", 505),
            ("GET /\r\n\r\n", 400),
            ("GET / HTTP/1.1 \r\n\r\n", 400),
            ("GET  / HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\na\0: b\r\n\r\n", 400),
            ("\u{16}\u{3}\u{1}\n\n", 400),
            (&many, 431),
        ] {
            assert_eq!(read(text), Err(status), "{text}");
        }
    }

    #[test]
    fn a_head_ends_with_its_first_empty_line_wherever_it_is_cut() {
        for (head, rest) in [("GET / HTTP/1.1\r\na: b\r\n\r\n", "x\r\n\r\n"), ("GET / HTTP/1.1\n\n", "\n\n")] {
            let bytes = format!("{head}{rest}").into_bytes();
            for searched in 0..head.len() {
                assert_eq!(end_of_head(&bytes[..searched], searched.saturating_sub(1)), None, "{searched}");
                assert_eq!(end_of_head(&bytes, searched), Some(head.len()), "{searched}");
            }
        }
    }

    #[test]
    fn responses_are_written() {
        let written = |response: &Response, keeps| String::from_utf8(response.head(keeps)).unwrap();
        assert_eq!(
            written(&Response::ok("{}".to_string()), true),
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n"
        );
        let response = Response { header: Some("allow: POST"), ..Response::status(405) };
        assert_eq!(
            written(&response, false),
            "HTTP/1.1 405 Method Not Allowed\r\nallow: POST\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        );
    }
}
