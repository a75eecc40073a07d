//! Several launchers of one run, on the loopback.

use std::net::TcpListener;

use crate::harness::{Launched, launch};

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).expect("a port").port()
}

fn node(port: u16, options: &[&str], script: &str) -> Launched {
    let endpoint = format!("--rdzv-endpoint=127.0.0.1:{port}");
    let meeting = ["--rdzv-backend=c10d", "--rdzv-id=seeing", &endpoint];
    launch(&[&meeting, options].concat(), script)
}

#[test]
fn each_node_tells_who_takes_part_and_a_hang_restarts_all() {
    let port = free_port();
    // Of the first attempt only the rank of the second node gives signs of life.
    let script = "touch $ZENITH_HEARTBEAT_FILE; [ $TORCHELASTIC_RESTART_COUNT = 1 ] && exit 0; [ $RANK = 0 ] && exec sleep 1000; \
                  while :; do touch $ZENITH_HEARTBEAT_FILE; sleep 0.1; done";
    let options = ["--nnodes=2", "--max-restarts=1", "--hang-timeout=3"];
    let nodes = [(); 2].map(|()| node(port, &options, script)).map(Launched::wait);
    for ended in &nodes {
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert_eq!(ended.all("rendezvous_joined")[0]["port"], port);
        let decided = ended.all("rendezvous_decided");
        let seen: Vec<_> = decided.iter().map(|event| (&event["attempt"], &event["nodes"], &event["ranks"])).collect();
        assert_eq!(seen, [(&0.into(), &2.into(), &2.into()), (&1.into(), &2.into(), &2.into())]);
    }
    let hangs: Vec<_> = nodes.iter().flat_map(|ended| ended.all("hang")).collect();
    assert_eq!(hangs.len(), 1);
    assert_eq!(hangs[0]["ranks"][0], 0);
    let mut outcomes: Vec<_> = nodes.iter().map(|ended| ended.all("tree_empty")[0]["outcome"].as_str()).collect();
    outcomes.sort_unstable();
    assert_eq!(outcomes, [Some("failed"), Some("withdrawn")]);
}
