//! Addresses and the configuration of a rendezvous, as torchrun reads them.

use super::PlanError;

const STATIC_PORT: i64 = 29_500;

/// How ranks find their store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meeting {
    /// On this node, at a port that is free when an attempt begins (T-9, T-10).
    FreePort,
    /// Where the user says (T-11, T-34).
    At { host: String, port: u16 },
}

/// `K=V,...`: torchrun's checks; no key matters to a single node (T-7).
pub(super) fn configuration(text: &str) -> Result<Vec<(String, String)>, PlanError> {
    let mut entries = Vec::new();
    if text.trim().is_empty() {
        return Ok(entries);
    }
    for item in text.split(',') {
        let (key, value) = item.split_once('=').unwrap_or((item, ""));
        let key = key.trim();
        if key.is_empty() {
            let what = "The rendezvous configuration string must be in format <key1>=<value1>,...,<keyN>=<valueN>.";
            return Err(PlanError::Value(what.into()));
        }
        if value.trim().is_empty() {
            let what = format!("The rendezvous configuration option '{key}' must have a value specified.");
            return Err(PlanError::Value(what));
        }
        entries.push((key.to_owned(), value.trim().to_owned()));
    }
    Ok(entries)
}

/// The address of a static rendezvous: `--rdzv-endpoint`, else master address and port.
pub(super) fn static_meeting(endpoint: &str, address: &str, port: Option<i64>) -> Result<Meeting, PlanError> {
    let endpoint = if endpoint.is_empty() {
        format!("{address}:{}", port.unwrap_or(STATIC_PORT))
    } else {
        endpoint.trim().to_owned()
    };
    match parse_endpoint(&endpoint)? {
        (host, Some(port)) => Ok(Meeting::At { host, port }),
        (_, None) => {
            Err(PlanError::Value(format!("port is missing in endpoint: {endpoint}. Try to specify --master-port")))
        }
    }
}

/// `host[:port]`, `[v6]`, `[v6]:port`; empty is localhost (T-53).
pub(super) fn parse_endpoint(endpoint: &str) -> Result<(String, Option<u16>), PlanError> {
    let endpoint = endpoint.trim();
    if endpoint.is_empty() {
        return Ok(("localhost".into(), None));
    }
    let is_bracketed = |text: &str| text.len() > 1 && text.starts_with('[') && text.ends_with(']');
    let (host, port) = match endpoint.rsplit_once(':') {
        Some((host, port)) if !is_bracketed(endpoint) => (host, Some(port)),
        _ => (endpoint, None),
    };
    let is_port = |text: &str| (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = |text: &str| Some(text).filter(|text| is_port(text)).and_then(|text| text.parse().ok());
    let refused = || {
        let what = "must be an integer between 0 and 65536.";
        PlanError::Value(format!("The port number of the rendezvous endpoint '{endpoint}' {what}"))
    };
    let port = port.map(|text| number(text).ok_or_else(refused)).transpose()?;
    let host = if is_bracketed(host) { &host[1..host.len() - 1] } else { host };
    let is_label = |character: char| character.is_alphanumeric() || "_.:-".contains(character);
    if host.is_empty() || !host.chars().all(is_label) {
        return Err(PlanError::Value(format!(
            "The hostname of the rendezvous endpoint '{endpoint}' must be a dot-separated list of labels, an IPv4 address, or an IPv6 address."
        )));
    }
    Ok((host.into(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_hosts_with_or_without_port() {
        for (text, host, port) in [
            ("", "localhost", None),
            (" node7 ", "node7", None),
            ("node7:0", "node7", Some(0)),
            ("10.0.0.1:65535", "10.0.0.1", Some(65535)),
            ("[::1]:29500", "::1", Some(29500)),
            ("[::1]", "::1", None),
        ] {
            assert_eq!(parse_endpoint(text), Ok((host.into(), port)), "{text:?}");
        }
    }

    #[test]
    fn endpoints_that_are_none_are_refused() {
        for (text, part) in [
            ("a:x", "must be an integer between 0 and 65536."),
            ("a:", "must be an integer"),
            ("a:65536", "must be an integer"),
            ("a:000001", "must be an integer"),
            ("a,b:1", "must be a dot-separated list of labels"),
            (":1", "must be a dot-separated list of labels"),
            ("[]:1", "must be a dot-separated list of labels"),
        ] {
            assert!(parse_endpoint(text).expect_err(text).to_string().contains(part), "{text}");
        }
        let error = static_meeting("localhost", "x", Some(1)).expect_err("no port").to_string();
        assert_eq!(error, "ValueError: port is missing in endpoint: localhost. Try to specify --master-port");
    }

    #[test]
    fn a_static_meeting_is_at_the_masters_address() {
        let at = |host: &str, port| Ok(Meeting::At { host: host.into(), port });
        assert_eq!(static_meeting("", "n0", None), at("n0", 29500));
        assert_eq!(static_meeting("", "n0", Some(7)), at("n0", 7));
        assert_eq!(static_meeting("n1:8", "n0", Some(7)), at("n1", 8));
    }

    #[test]
    fn configurations_need_keys_and_values() {
        for (text, entries) in [
            ("", &[][..]),
            (" ", &[]),
            ("a=1", &[("a", "1")]),
            ("a=1,b=x=y", &[("a", "1"), ("b", "x=y")]),
            ("\"a\"=1", &[("\"a\"", "1")]),
        ] {
            let entries = entries.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
            assert_eq!(configuration(text), Ok(entries), "{text:?}");
        }
        for text in ["a", "a=", "a=1,b", "=1", "a=1,"] {
            assert!(configuration(text).is_err(), "{text:?}");
        }
    }
}
