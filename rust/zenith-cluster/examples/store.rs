//! Serves a store on loopback for the tests and benchmarks: prints its port, and reads lines until its input ends.
//! `renew` renews the store, `refusals` tells of refused connections; each is answered by one line.

use std::io::{BufRead, Write};
use std::net::TcpListener;

use zenith_cluster::store::StoreServer;

fn main() -> std::io::Result<()> {
    let mut store = StoreServer::start(TcpListener::bind("127.0.0.1:0")?)?;
    let mut output = std::io::stdout().lock();
    writeln!(output, "{}", store.port())?;
    output.flush()?;
    for line in std::io::stdin().lock().lines() {
        match line?.as_str() {
            "renew" => {
                store.renew()?;
                writeln!(output, "renewed")?;
            }
            "refusals" => {
                let refusals = store.refusals();
                writeln!(output, "{} {}", refusals.count(), refusals.last().unwrap_or_default())?;
            }
            unknown => writeln!(output, "unknown: {unknown}")?,
        }
        output.flush()?;
    }
    Ok(())
}
