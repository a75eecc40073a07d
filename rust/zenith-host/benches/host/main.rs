//! Rings, slab pools and topology: what the hand-over of a batch costs, and what it would cost otherwise. `make bench-host`
//!
//! A table of its own instead of a framework: most of these are two or three threads against a clock, and the contenders
//! take turns, so that a neighbour's noise meets all of them. Every figure is a median over the turns.
#![expect(clippy::expect_used, reason = "a bench may panic")]

mod latency;
mod pin;
mod queues;
mod slabs;
mod table;
mod throughput;

use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use zenith_host::topology::numa_nodes;

fn main() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{cores} cores; medians of {} turns, least and most beside them; threads are pinned\n", table::TURNS);
    pin::pin(0);
    throughput::print();
    latency::print();
    slabs::print();
    topology();
}

fn topology() {
    let sysfs = Path::new("/sys/devices/system/node");
    let nodes = numa_nodes(sysfs).len();
    let title = format!("topology, ns: NUMA nodes, their processors and memory from sysfs ({nodes} here)");
    let mut read = || {
        let started = Instant::now();
        (0..100).for_each(|_| drop(black_box(numa_nodes(sysfs))));
        started.elapsed().as_nanos() as f64 / 100.0
    };
    table::print(&title, &mut [("topology::numa_nodes", &mut read)]);
}
