//! How long an item takes from one thread to the other.

use std::time::{Duration, Instant};

use crate::pin::pin;
use crate::queues::{self, Put, Take};
use crate::table;

const ROUND_TRIPS: usize = 2_000;
const PACED: usize = 500;
/// What a loader does at 20 million rows a second in batches of 4096.
const PACE: Duration = Duration::from_micros(200);

pub(crate) fn print() {
    table::print(
        "there and back between two threads that only wait for each other, ns",
        &mut [
            ("rtrb, spinning", &mut || there_and_back(queues::rtrb(1), queues::rtrb(1))),
            ("crossbeam ArrayQueue, spinning", &mut || there_and_back(queues::array_queue(1), queues::array_queue(1))),
            ("crossbeam-channel bounded", &mut || there_and_back(queues::channel(1), queues::channel(1))),
            ("std sync_channel", &mut || there_and_back(queues::std_channel(1), queues::std_channel(1))),
            ("lock and tickets, as the pipeline", &mut || {
                there_and_back(queues::tickets(1, true), queues::tickets(1, true))
            }),
        ],
    );
    let title = format!("one item every {} µs to a consumer that waits, median ns until it has it", PACE.as_micros());
    table::print(
        &title,
        &mut [
            ("rtrb, spinning (a core for itself)", &mut || paced(queues::rtrb(1))),
            ("crossbeam ArrayQueue, spinning (the same)", &mut || paced(queues::array_queue(1))),
            ("crossbeam-channel bounded", &mut || paced(queues::channel(1))),
            ("std sync_channel", &mut || paced(queues::std_channel(1))),
            ("lock and tickets, as the pipeline", &mut || paced(queues::tickets(1, true))),
        ],
    );
}

fn there_and_back<P: Put, T: Take>(there: (Vec<P>, T), back: (Vec<P>, T)) -> f64 {
    let ((mut to, mut arrived), (mut from, mut returned)) = (there, back);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            pin(1);
            for _ in 0..ROUND_TRIPS {
                from[0].put(arrived.take());
            }
        });
        let started = Instant::now();
        for item in 0..ROUND_TRIPS {
            to[0].put(item);
            assert_eq!(returned.take(), item, "what was sent comes back");
        }
        started.elapsed().as_nanos() as f64 / ROUND_TRIPS as f64
    })
}

/// The producer sends the time at which it sends, and is busy between two items as one that decodes is.
fn paced<P: Put>((mut producers, mut consumer): (Vec<P>, impl Take)) -> f64 {
    let epoch = Instant::now();
    let now = move || epoch.elapsed().as_nanos() as usize;
    let mut waits: Vec<usize> = std::thread::scope(|scope| {
        scope.spawn(move || {
            pin(1);
            for _ in 0..PACED {
                let started = Instant::now();
                while started.elapsed() < PACE {
                    std::hint::spin_loop();
                }
                producers[0].put(now());
            }
        });
        (0..PACED).map(|_| consumer.take()).map(|sent| now() - sent).collect()
    });
    waits.sort_unstable();
    waits[PACED / 2] as f64
}
