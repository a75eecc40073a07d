//! As much of HTTP/1 as two pages need: a request is read up to the end of its head, its fields are not looked at, and every
//! answer ends the connection.

/// A head that is longer is refused.
pub(super) const HEAD_BYTES_MAX: usize = 8 << 10;

/// What the bytes that came so far are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request<'a> {
    Unfinished,
    Get {
        path: &'a str,
        /// Only the head of the answer is wanted.
        is_head: bool,
    },
    Refused(Status),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    BadRequest,
    NotFound,
    MethodNotAllowed,
    TooLarge,
    VersionNotSupported,
    Unavailable,
}

impl Status {
    fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::BadRequest => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::TooLarge => "431 Request Header Fields Too Large",
            Self::VersionNotSupported => "505 HTTP Version Not Supported",
            Self::Unavailable => "503 Service Unavailable",
        }
    }
}

pub(super) fn read(bytes: &[u8]) -> Request<'_> {
    let Some(end) = head_end(bytes) else {
        return if bytes.len() >= HEAD_BYTES_MAX { Request::Refused(Status::TooLarge) } else { Request::Unfinished };
    };
    if end > HEAD_BYTES_MAX {
        return Request::Refused(Status::TooLarge);
    }
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let Some(line) = std::str::from_utf8(line).ok() else { return Request::Refused(Status::BadRequest) };
    let mut words = line.trim_end_matches('\r').split(' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Request::Refused(Status::BadRequest);
    };
    let is_method = !method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase());
    if !is_method || !target.starts_with('/') || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Request::Refused(Status::BadRequest);
    }
    match (method, version) {
        ("GET" | "HEAD", "HTTP/1.1" | "HTTP/1.0") => {
            let path = target.split('?').next().unwrap_or_default();
            Request::Get { path, is_head: method == "HEAD" }
        }
        (_, "HTTP/1.1" | "HTTP/1.0") => Request::Refused(Status::MethodNotAllowed),
        (_, version) if version.starts_with("HTTP/") => Request::Refused(Status::VersionNotSupported),
        _ => Request::Refused(Status::BadRequest),
    }
}

/// Behind the empty line that ends the fields.
fn head_end(bytes: &[u8]) -> Option<usize> {
    let mut breaks = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1);
    breaks.find(|behind| bytes[*behind..].starts_with(b"\n") || bytes[*behind..].starts_with(b"\r\n"))
}

pub(super) fn answer(status: Status, kind: &str, body: &str, is_head: bool) -> Vec<u8> {
    let allow = if status == Status::MethodNotAllowed { "Allow: GET, HEAD\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{allow}Cache-Control: no-store\r\nConnection: close\r\n\r\n",
        status.line(),
        body.len()
    );
    if is_head { head.into_bytes() } else { (head + body).into_bytes() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLANK: &str = "\r\n\r\n";

    #[test]
    fn requests_are_read_when_their_head_has_ended() {
        for (text, request) in [
            ("", Request::Unfinished),
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n", Request::Unfinished),
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", Request::Get { path: "/metrics", is_head: false }),
            ("GET /metrics?a=b HTTP/1.0\n\nrest", Request::Get { path: "/metrics", is_head: false }),
            ("HEAD / HTTP/1.1\r\n\r\n", Request::Get { path: "/", is_head: true }),
            ("POST /metrics HTTP/1.1\r\n\r\n", Request::Refused(Status::MethodNotAllowed)),
            ("GET /metrics HTTP/2.0\r\n\r\n", Request::Refused(Status::VersionNotSupported)),
            ("GET metrics HTTP/1.1\r\n\r\n", Request::Refused(Status::BadRequest)),
            ("GET  / HTTP/1.1\r\n\r\n", Request::Refused(Status::BadRequest)),
            ("GET /\u{e9} HTTP/1.1\r\n\r\n", Request::Refused(Status::BadRequest)),
            ("\u{16}\u{3}\u{1}\r\n\r\n", Request::Refused(Status::BadRequest)),
        ] {
            assert_eq!(read(text.as_bytes()), request, "{text:?}");
        }
        assert_eq!(read(format!("GET /{BLANK}").as_bytes()), Request::Refused(Status::BadRequest), "HTTP/0.9");
    }

    #[test]
    fn heads_without_an_end_are_refused() {
        let long = format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(HEAD_BYTES_MAX));
        assert_eq!(read(long.as_bytes()), Request::Refused(Status::TooLarge));
        assert_eq!(read(format!("{long}{BLANK}").as_bytes()), Request::Refused(Status::TooLarge));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_have_an_answer(bytes: Vec<u8>, tail in "(\r\n\r\n)?") {
            let _ = read(&[&bytes[..], tail.as_bytes()].concat());
        }
    }
}
