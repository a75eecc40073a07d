//! How many items a queue passes on when nobody does anything else.

use std::time::Instant;

use crate::pin::pin;
use crate::queues::{self, CAPACITY, Put, Take};
use crate::table;

const ITEMS: usize = 400_000;

pub(crate) fn print() {
    table::print(
        "an item put and taken by one thread, ns: what a batch costs that is there already",
        &mut [
            ("rtrb", &mut || alone(queues::rtrb(1))),
            ("crossbeam ArrayQueue", &mut || alone(queues::array_queue(1))),
            ("crossbeam-channel bounded", &mut || alone(queues::channel(1))),
            ("std sync_channel", &mut || alone(queues::std_channel(1))),
            ("lock and tickets, as the pipeline", &mut || alone(queues::tickets(1, true))),
            ("the same, waking only who sleeps", &mut || alone(queues::tickets(1, false))),
        ],
    );
    for producers in [1, 2] {
        let title = format!("{producers} producer(s), 1 consumer, {CAPACITY} places, ns per item");
        table::print(
            &title,
            &mut [
                ("rtrb, one ring per producer, spinning", &mut || together(queues::rtrb(producers))),
                ("crossbeam ArrayQueue, spinning", &mut || together(queues::array_queue(producers))),
                ("crossbeam-channel bounded", &mut || together(queues::channel(producers))),
                ("std sync_channel", &mut || together(queues::std_channel(producers))),
                ("lock and tickets, as the pipeline", &mut || together(queues::tickets(producers, true))),
                ("the same, waking only who sleeps", &mut || together(queues::tickets(producers, false))),
            ],
        );
    }
}

/// Nanoseconds for an item that one thread puts and takes.
fn alone<P: Put>((mut producers, mut consumer): (Vec<P>, impl Take)) -> f64 {
    let started = Instant::now();
    for item in 0..ITEMS {
        producers[0].put(item);
        assert_eq!(consumer.take(), item, "what was put in is taken out");
    }
    started.elapsed().as_nanos() as f64 / ITEMS as f64
}

/// Nanoseconds per item when every producer is a thread and the consumer another.
fn together<P: Put>((producers, mut consumer): (Vec<P>, impl Take)) -> f64 {
    let each = ITEMS / producers.len();
    let started = Instant::now();
    std::thread::scope(|scope| {
        for (index, mut producer) in producers.into_iter().enumerate() {
            scope.spawn(move || {
                pin(1 + index);
                (0..each).for_each(|item| producer.put(item));
            });
        }
        let sum: usize = (0..ITEMS).map(|_| consumer.take()).sum();
        assert_eq!(sum * 2, ITEMS * (each - 1), "nothing was lost");
    });
    started.elapsed().as_nanos() as f64 / ITEMS as f64
}
