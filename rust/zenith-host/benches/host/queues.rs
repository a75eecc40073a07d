//! The contenders among queues, behind two calls that wait: put and take. What is sent has the size of a pointer.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crossbeam_queue::ArrayQueue;

/// As many finished batches may wait.
pub(crate) const CAPACITY: usize = 64;

pub(crate) trait Put: Send {
    fn put(&mut self, item: usize);
}

pub(crate) trait Take: Send {
    fn take(&mut self) -> usize;
}

/// Asks until there is an answer. A ring does not know how to sleep, so the processor is offered to others now and then;
/// without that, three threads on two cores would wait for the scheduler.
pub(crate) fn spin<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    loop {
        for _ in 0..100 {
            if let Some(answer) = ask() {
                return answer;
            }
            std::hint::spin_loop();
        }
        std::thread::yield_now();
    }
}

impl Put for rtrb::Producer<usize> {
    fn put(&mut self, item: usize) {
        spin(|| self.push(item).ok());
    }
}

/// One ring per producer, asked in turn.
impl Take for Vec<rtrb::Consumer<usize>> {
    fn take(&mut self) -> usize {
        spin(|| self.iter_mut().find_map(|ring| ring.pop().ok()))
    }
}

pub(crate) fn rtrb(producers: usize) -> (Vec<rtrb::Producer<usize>>, Vec<rtrb::Consumer<usize>>) {
    (0..producers).map(|_| rtrb::RingBuffer::new(CAPACITY / producers)).unzip()
}

impl Put for Arc<ArrayQueue<usize>> {
    fn put(&mut self, item: usize) {
        spin(|| self.push(item).ok());
    }
}

impl Take for Arc<ArrayQueue<usize>> {
    fn take(&mut self) -> usize {
        spin(|| self.pop())
    }
}

pub(crate) fn array_queue(producers: usize) -> (Vec<Arc<ArrayQueue<usize>>>, Arc<ArrayQueue<usize>>) {
    let queue = Arc::new(ArrayQueue::new(CAPACITY));
    (vec![queue.clone(); producers], queue)
}

impl Put for crossbeam_channel::Sender<usize> {
    fn put(&mut self, item: usize) {
        self.send(item).expect("the consumer lives");
    }
}

impl Take for crossbeam_channel::Receiver<usize> {
    fn take(&mut self) -> usize {
        self.recv().expect("a producer lives")
    }
}

pub(crate) fn channel(producers: usize) -> (Vec<crossbeam_channel::Sender<usize>>, crossbeam_channel::Receiver<usize>) {
    let (sender, receiver) = crossbeam_channel::bounded(CAPACITY);
    (vec![sender; producers], receiver)
}

impl Put for SyncSender<usize> {
    fn put(&mut self, item: usize) {
        self.send(item).expect("the consumer lives");
    }
}

impl Take for Receiver<usize> {
    fn take(&mut self) -> usize {
        self.recv().expect("a producer lives")
    }
}

pub(crate) fn std_channel(producers: usize) -> (Vec<SyncSender<usize>>, Receiver<usize>) {
    let (sender, receiver) = sync_channel(CAPACITY);
    (vec![sender; producers], receiver)
}

/// What the pipeline does, and nothing but: items wait under one lock by ticket and leave in the order of the tickets,
/// whoever put them there; others are woken when it wakes them. It is the only contender that restores an order.
pub(crate) struct Tickets {
    state: Mutex<State>,
    work: Condvar,
    ready: Condvar,
    /// Whether the system is asked to wake threads also when none sleeps.
    always: bool,
}

#[derive(Default)]
struct State {
    waiting: HashMap<usize, usize>,
    next_ticket: usize,
    next_out: usize,
    producers_asleep: usize,
    consumer_asleep: bool,
}

impl Tickets {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Put for Arc<Tickets> {
    fn put(&mut self, item: usize) {
        let mut state = self.lock();
        while state.next_ticket - state.next_out >= CAPACITY {
            state.producers_asleep += 1;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.producers_asleep -= 1;
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        // Here a worker would copy the batch together.
        drop(state);
        let mut state = self.lock();
        state.waiting.insert(ticket, item);
        let wake = self.always || state.consumer_asleep;
        drop(state);
        if wake {
            self.ready.notify_one();
        }
    }
}

impl Take for Arc<Tickets> {
    fn take(&mut self) -> usize {
        let mut state = self.lock();
        loop {
            let next = state.next_out;
            if let Some(item) = state.waiting.remove(&next) {
                state.next_out += 1;
                let few = 2 * (state.next_ticket - state.next_out) <= CAPACITY;
                let wake = few && (self.always || state.producers_asleep > 0);
                drop(state);
                if wake {
                    self.work.notify_all();
                }
                return item;
            }
            state.consumer_asleep = true;
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.consumer_asleep = false;
        }
    }
}

pub(crate) fn tickets(producers: usize, always: bool) -> (Vec<Arc<Tickets>>, Arc<Tickets>) {
    let (work, ready) = (Condvar::new(), Condvar::new());
    let queue = Arc::new(Tickets { state: Mutex::default(), work, ready, always });
    (vec![queue.clone(); producers], queue)
}
