//! `/metrics` and `/healthz`, asked well and badly.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Launched, eventually, launch, run};

const FOREVER: &str = "touch $FOLDER/ready; exec sleep 1000";

/// A launcher with a rank that runs, and where it serves.
fn served(options: &[&str], script: &str) -> (Launched, SocketAddr) {
    let launched = launch(&[&["--metrics-port=0"], options].concat(), script);
    let start = launched.wait_for("start");
    let port = start["metrics_port"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
    let text = format!("zenith-run: http://127.0.0.1:{port}/metrics and /healthz\n");
    eventually("the port is printed", || launched.stderr().contains(&text));
    (launched, SocketAddr::from(([127, 0, 0, 1], port)))
}

fn connect(at: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(at).expect("a server");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a limit");
    stream
}

/// Status and body.
fn get(at: SocketAddr, path: &str) -> (u32, String) {
    let answer = exchange(at, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    let length = format!("Content-Length: {}\r\n", body.len());
    assert!(head.contains(&length), "{head}");
    (head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status"), body.into())
}

fn exchange(at: SocketAddr, request: &[u8]) -> String {
    let mut stream = connect(at);
    stream.write_all(request).expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn value(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name} is not in {text}"))
}

fn stop(launched: Launched) {
    launched.signal(Signal::TERM);
    assert_eq!(launched.wait().code, Some(1));
}

#[test]
fn numbers_follow_the_run() {
    let script =
        "if mkdir $FOLDER/first; then while [ ! -e $FOLDER/go ]; do sleep 0.01; done; exit 3; fi; exec sleep 1000";
    let (launched, at) = served(&["--max-restarts=1"], script);
    eventually("a rank", || value(&get(at, "/metrics").1, "zenith_run_running_ranks") == 1.0);
    let (code, text) = get(at, "/metrics?x");
    assert_eq!(code, 200);
    for (name, expected) in [
        ("zenith_run_local_ranks", 1.0),
        ("zenith_run_attempts_total", 1.0),
        ("zenith_run_failures_total", 0.0),
        ("zenith_run_phase{phase=\"running\"}", 1.0),
    ] {
        assert_eq!(value(&text, name), expected, "{name}");
    }
    assert!(value(&text, "zenith_run_ranks_start_seconds") > 0.0);
    // Every sample has a help and a type, and nothing is said twice.
    let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    for sample in &samples {
        let name = sample.split([' ', '{']).next().expect("a name");
        assert!(name.starts_with("zenith_run_") && text.contains(&format!("# TYPE {name} ")), "{sample}");
    }
    std::fs::write(launched.path("go"), "").expect("a file");
    launched.wait_for("restart");
    eventually("the second attempt", || value(&get(at, "/metrics").1, "zenith_run_phase{phase=\"running\"}") == 1.0);
    let (_, text) = get(at, "/metrics");
    for name in ["zenith_run_restarts_total", "zenith_run_failures_total"] {
        assert_eq!(value(&text, name), 1.0, "{name}");
    }
    assert_eq!(value(&text, "zenith_run_attempts_total"), 2.0);
    stop(launched);
}

#[test]
fn health_is_bad_from_a_failure_until_the_ranks_run_again() {
    // Failures at the same point are followed by waits of 1 and 2 seconds.
    let script = "mkdir $FOLDER/1 || mkdir $FOLDER/2 || mkdir $FOLDER/3 || exec sleep 1000; exit 3";
    let (launched, at) = served(&["--max-restarts=3"], script);
    eventually("the longer wait", || launched.events().iter().any(|event| event["seconds"] == 2.0));
    let (code, text) = get(at, "/healthz");
    assert_eq!(code, 503, "{text}");
    let health: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(health["reason"], "rank 0 failed (exit code 3)");
    eventually("the last attempt", || get(at, "/healthz").0 == 200);
    let health: Value = serde_json::from_str(&get(at, "/healthz").1).expect("JSON");
    assert_eq!((&health["status"], &health["attempt"]), (&"ok".into(), &3.into()));
    stop(launched);
}

#[test]
fn requests_that_are_none_are_refused_and_disturb_nobody() {
    let (launched, at) = served(&[], FOREVER);
    for (request, status) in [
        (&b"GET /other HTTP/1.1\r\n\r\n"[..], "404"),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "405"),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", "400"),
        (b"GET /metrics HTTP/9\r\n\r\n", "505"),
        (&[&b"GET / HTTP/1.1\r\nA: "[..], &[b'x'; 9000]].concat(), "431"),
    ] {
        let answer = exchange(at, request);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer:?}");
    }
    // More than it reads: the answer comes all the same.
    let answer = exchange(at, &[&b"GET / HTTP/1.1\r\nA: "[..], &[b'x'; 1 << 18]].concat());
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer:?}");
    let head = exchange(at, b"HEAD /metrics HTTP/1.0\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    stop(launched);
}

#[test]
fn slow_and_many_clients_keep_nobody_out() {
    let (launched, at) = served(&[], FOREVER);
    // Each has said half of a request, or nothing.
    let mut slow: Vec<TcpStream> = (0..200).map(|_| connect(at)).collect();
    slow.iter_mut().step_by(2).for_each(|stream| drop(stream.write_all(b"GET /met")));
    for _ in 0..20 {
        assert_eq!(get(at, "/healthz").0, 200);
    }
    // One that does not take its answer.
    let mut deaf = connect(at);
    for _ in 0..3 {
        let _ = deaf.write_all(b"GET /metrics HTTP/1.1\r\n\r\n");
    }
    // Whoever says nothing is let go.
    let mut first = slow.remove(0);
    assert!(first.read(&mut [0; 16]).map_or(true, |read| read == 0));
    launched.signal(Signal::TERM);
    let ended = launched.wait();
    assert_eq!(ended.code, Some(1));
    assert_eq!(ended.all("tree_empty").len(), 1);
}

#[test]
fn a_port_that_is_taken_or_none_is_an_error() {
    let (launched, at) = served(&[], FOREVER);
    let ended = run(&[&format!("--metrics-port={}", at.port())], "exit 0");
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("--metrics-port: cannot listen at 127.0.0.1 port"), "{}", ended.stderr);
    let ended = run(&["--metrics-port=70000"], "exit 0");
    assert!(ended.stderr.contains("--metrics-port must be between 0 and 65535, got 70000"), "{}", ended.stderr);
    stop(launched);
}
