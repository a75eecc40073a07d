//! Where the time went: counters that workers add to and `stats()` reads.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Nanoseconds are summed over threads.
#[derive(Debug, Default)]
pub struct Stats {
    pub(crate) fetch_ns: AtomicU64,
    pub(crate) decode_ns: AtomicU64,
    pub(crate) assemble_ns: AtomicU64,
    pub(crate) worker_idle_ns: AtomicU64,
    pub(crate) consumer_wait_ns: AtomicU64,
    pub(crate) read_bytes: AtomicU64,
    pub(crate) timed_out_reads: AtomicU64,
    pub(crate) blocks: AtomicU64,
    pub(crate) decoded_samples: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) samples: AtomicU64,
}

/// The counters at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Time spent waiting for bytes, all threads.
    pub fetch_ns: u64,
    /// Time spent decoding blocks into rows, all threads.
    pub decode_ns: u64,
    /// Time spent copying rows into batches, all threads.
    pub assemble_ns: u64,
    /// Time in which workers had nothing to do because the consumer was behind.
    pub worker_idle_ns: u64,
    /// Time the consumer waited for a batch.
    pub consumer_wait_ns: u64,
    pub read_bytes: u64,
    /// Reads that were given up because they took longer than `read_timeout_ms`.
    pub timed_out_reads: u64,
    pub blocks: u64,
    /// Samples decoded; above `samples` by what is decoded but not yet (or never) delivered.
    pub decoded_samples: u64,
    pub batches: u64,
    pub samples: u64,
    /// Bytes of decoded blocks that wait for their positions.
    pub live_bytes: u64,
    /// Bytes of finished batches that wait for the consumer.
    pub ready_bytes: u64,
    /// Samples of the batches handed out so far that `on_error="skip"` left out or replaced.
    pub skipped_samples: u64,
    /// Batches that skipping left without any sample; they are not handed out.
    pub skipped_batches: u64,
    /// Blocks that could not be read.
    pub skipped_blocks: u64,
}

/// What the coordinator knows of a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) live_bytes: u64,
    pub(crate) ready_bytes: u64,
    pub(crate) skipped_samples: u64,
    pub(crate) skipped_batches: u64,
    pub(crate) skipped_blocks: u64,
}

impl Stats {
    pub(crate) fn snapshot(&self, usage: Usage) -> Snapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Snapshot {
            fetch_ns: read(&self.fetch_ns),
            decode_ns: read(&self.decode_ns),
            assemble_ns: read(&self.assemble_ns),
            worker_idle_ns: read(&self.worker_idle_ns),
            consumer_wait_ns: read(&self.consumer_wait_ns),
            read_bytes: read(&self.read_bytes),
            timed_out_reads: read(&self.timed_out_reads),
            blocks: read(&self.blocks),
            decoded_samples: read(&self.decoded_samples),
            batches: read(&self.batches),
            samples: read(&self.samples),
            live_bytes: usage.live_bytes,
            ready_bytes: usage.ready_bytes,
            skipped_samples: usage.skipped_samples,
            skipped_batches: usage.skipped_batches,
            skipped_blocks: usage.skipped_blocks,
        }
    }
}
