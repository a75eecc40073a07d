use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::protocol::Decoder;
use super::*;

/// A store and what its clients were sent.
#[derive(Default)]
struct Clients {
    keys: Keys,
}

impl Clients {
    /// The answer to `from`, and who else was released.
    fn ask(&mut self, from: u32, request: Request<'_>) -> (Vec<u8>, Vec<u32>) {
        self.try_ask(from, request).unwrap()
    }

    fn try_ask(&mut self, from: u32, request: Request<'_>) -> Result<(Vec<u8>, Vec<u32>), Violation> {
        let (mut own, mut released) = (Vec::new(), VecDeque::new());
        let mut answers = Answers { from: Connection(from), own: &mut own, released: &mut released };
        self.keys.serve(request, &mut answers)?;
        Ok((own, released.into_iter().map(|connection| connection.0).collect()))
    }

    fn wait(&mut self, from: u32, keys: &[&[u8]]) -> (Vec<u8>, Vec<u32>) {
        let bytes = list(keys);
        self.ask(from, Request::Wait { keys: names(&bytes) })
    }

    fn leave(&mut self, connection: u32) -> Vec<u32> {
        let mut released = VecDeque::new();
        self.keys.forget(Connection(connection), &mut released);
        released.into_iter().map(|connection| connection.0).collect()
    }

    fn get(&mut self, key: &[u8]) -> Vec<u8> {
        self.ask(99, Request::Get { key }).0
    }
}

fn text(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_text(bytes, &mut out);
    out
}

fn word(number: i64) -> Vec<u8> {
    number.to_ne_bytes().to_vec()
}

/// The bytes of a CHECK of these keys, after a greeting.
fn list(keys: &[&[u8]]) -> Vec<u8> {
    let mut bytes = [&[0], &super::super::protocol::MAGIC.to_ne_bytes()[..], &[5]].concat();
    write_count(keys.len(), &mut bytes);
    keys.iter().for_each(|key| write_text(key, &mut bytes));
    bytes
}

fn names(list: &[u8]) -> Names<'_> {
    match Decoder::default().next(&mut &list[..]) {
        Ok(Some(Request::Check { keys })) => keys,
        other => panic!("{other:?}"),
    }
}

const K: &[u8] = b"/k";
const Q: &[u8] = b"/q";
const STOP: &[u8] = &[STOP_WAITING];
const QUIET: (Vec<u8>, Vec<u32>) = (Vec::new(), Vec::new());

#[test]
fn values_are_set_got_appended_to_and_deleted() {
    let mut clients = Clients::default();
    assert_eq!(clients.get(K), text(b""));
    assert_eq!(clients.ask(0, Request::Set { key: K, value: b"ab" }), QUIET);
    assert_eq!(clients.ask(0, Request::Append { key: K, value: b"cd" }), QUIET);
    assert_eq!(clients.ask(0, Request::Append { key: b"/new", value: b"x" }), QUIET);
    assert_eq!((clients.get(K), clients.get(b"/new")), (text(b"abcd"), text(b"x")));
    assert_eq!(clients.ask(0, Request::CountKeys).0, word(2));
    assert_eq!(clients.ask(0, Request::Delete { key: K }).0, word(1));
    assert_eq!(clients.ask(0, Request::Delete { key: K }).0, word(0));
    assert_eq!(clients.ask(0, Request::ListKeys).0, [word(1), text(b"/new")].concat());
    assert_eq!(clients.ask(0, Request::Ping { nonce: 5 }).0, 5u32.to_ne_bytes());
}

#[test]
fn compare_set_answers_what_is_there() {
    let mut clients = Clients::default();
    let mut compare = |expected, desired| clients.ask(0, Request::CompareSet { key: K, expected, desired }).0;
    assert_eq!(compare(b"old", b"new"), text(b"old"), "a missing key");
    assert_eq!(compare(b"", b"first"), text(b"first"));
    assert_eq!(compare(b"", b"second"), text(b"first"));
    assert_eq!(compare(b"first", b"third"), text(b"third"));
    assert_eq!(clients.get(K), text(b"third"));
}

#[test]
fn a_compare_set_that_fails_wakes_nobody() {
    let mut clients = Clients::default();
    assert_eq!(clients.wait(1, &[K]), QUIET);
    let failed = clients.ask(0, Request::CompareSet { key: K, expected: b"old", desired: b"new" });
    assert_eq!(failed, (text(b"old"), vec![]));
    assert_eq!(clients.ask(0, Request::CompareSet { key: K, expected: b"", desired: b"" }), (text(b""), vec![1]));
}

#[test]
fn counters_are_decimal_text() {
    let mut clients = Clients::default();
    let add = |clients: &mut Clients, delta| clients.try_ask(0, Request::Add { key: K, delta }).map(|answer| answer.0);
    assert_eq!(add(&mut clients, -2), Ok(word(-2)));
    assert_eq!(clients.get(K), text(b"-2"));
    // What C's strtoll takes for a number, and torch's server with it.
    for (before, after) in [(&b" \t\n+5"[..], 6), (b"12abc", 13), (b"0x10", 1), (b"1\x002", 2), (b"-1", 0)] {
        clients.ask(0, Request::Set { key: K, value: before });
        assert_eq!(add(&mut clients, 1), Ok(word(after)), "{before:?}");
    }
    clients.ask(0, Request::Set { key: K, value: b"9223372036854775807" });
    assert_eq!(add(&mut clients, 1), Ok(word(i64::MIN)));
    for before in [&b""[..], b" ", b"-", b"abc", b"+-1", b"99999999999999999999", b"\xff"] {
        clients.ask(0, Request::Set { key: K, value: before });
        assert_eq!(add(&mut clients, 1), Err(Violation::NotANumber("/k".to_owned())), "{before:?}");
        let barrier = clients.try_ask(0, Request::Barrier { key: K, world_size: 1 });
        assert_eq!(barrier, Err(Violation::NotANumber("/k".to_owned())));
        assert_eq!(clients.get(K), text(before));
    }
}

#[test]
fn who_waits_is_woken_when_the_last_key_is_there() {
    let mut clients = Clients::default();
    assert_eq!(clients.wait(0, &[]).0, STOP);
    clients.ask(0, Request::Set { key: b"/a", value: b"" });
    assert_eq!(clients.wait(1, &[b"/a"]).0, STOP);
    assert_eq!(clients.wait(1, &[b"/a", b"/b", b"/c"]), QUIET);
    assert_eq!(clients.wait(2, &[b"/c", b"/c"]), QUIET);
    assert_eq!(clients.ask(0, Request::Add { key: b"/c", delta: 1 }), (word(1), vec![2]));
    // A key that came and went has been there.
    clients.ask(0, Request::Delete { key: b"/c" });
    assert_eq!(clients.ask(0, Request::Append { key: b"/b", value: b"" }), (vec![], vec![1]));
    assert_eq!(clients.ask(0, Request::Set { key: b"/b", value: b"" }), QUIET);
    let bytes = list(&[b"/a", b"/b"]);
    assert_eq!(clients.ask(0, Request::Check { keys: names(&bytes) }).0, [0]);
    let bytes = list(&[b"/a", b"/c"]);
    assert_eq!(clients.ask(0, Request::Check { keys: names(&bytes) }).0, [1]);
}

#[test]
fn who_waits_can_go_on_asking_and_wake_itself() {
    let mut clients = Clients::default();
    assert_eq!(clients.wait(1, &[K]), QUIET);
    assert_eq!(clients.ask(1, Request::CountKeys).0, word(0));
    assert_eq!(clients.ask(1, Request::Set { key: K, value: b"" }), (STOP.to_vec(), vec![]));
}

#[test]
fn a_wait_is_cancelled_and_replaced() {
    let mut clients = Clients::default();
    assert_eq!(clients.ask(0, Request::CancelWait).0, [1], "also when there is none");
    assert_eq!(clients.wait(0, &[K, b"/a", K]), QUIET);
    assert_eq!(clients.ask(0, Request::CancelWait).0, [1]);
    assert_eq!(clients.ask(1, Request::Set { key: K, value: b"" }), QUIET);
    assert_eq!(clients.wait(0, &[b"/b"]), QUIET);
    assert_eq!(clients.wait(0, &[b"/c"]), QUIET);
    assert_eq!(clients.ask(1, Request::Set { key: b"/b", value: b"" }), QUIET);
    assert_eq!(clients.ask(1, Request::Set { key: b"/c", value: b"" }), (vec![], vec![0]));
    // An answer that crossed the cancellation is followed by the cancellation's.
    assert_eq!(clients.ask(0, Request::CancelWait).0, [1]);
}

#[test]
fn queues_are_apart_from_keys() {
    let mut clients = Clients::default();
    let pop = |clients: &mut Clients| clients.ask(0, Request::QueuePop { key: Q }).0;
    assert_eq!(pop(&mut clients), word(0));
    clients.ask(0, Request::QueuePush { key: Q, value: b"1" });
    clients.ask(0, Request::QueuePush { key: Q, value: b"2" });
    assert_eq!(clients.ask(0, Request::QueueLength { key: Q }).0, word(2));
    let bytes = list(&[Q]);
    assert_eq!(clients.ask(0, Request::Check { keys: names(&bytes) }).0, [0]);
    assert_eq!(clients.wait(1, &[Q]).0, STOP);
    assert_eq!(clients.ask(0, Request::CountKeys).0, word(0));
    assert_eq!(clients.ask(0, Request::ListKeys).0, word(0));
    assert_eq!(clients.ask(0, Request::Delete { key: Q }).0, word(0));
    assert_eq!(pop(&mut clients), [word(2), text(b"1")].concat());
    assert_eq!(pop(&mut clients), [word(1), text(b"2")].concat());
    assert_eq!(clients.ask(0, Request::QueueLength { key: Q }).0, word(0));
    assert_eq!(clients.wait(1, &[Q]), QUIET);
}

#[test]
fn each_value_of_a_queue_wakes_one() {
    let mut clients = Clients::default();
    let push = |clients: &mut Clients| clients.ask(0, Request::QueuePush { key: Q, value: b"v" }).1;
    (1..=3).for_each(|client| assert_eq!(clients.wait(client, &[Q]), QUIET));
    assert_eq!((push(&mut clients), push(&mut clients)), (vec![1], vec![2]));
    assert_eq!(clients.ask(1, Request::QueuePop { key: Q }).0, [word(2), text(b"v")].concat());
    assert_eq!(clients.leave(2), [3], "its value goes to the next");
    assert!(clients.leave(3).is_empty());
    clients.wait(4, &[K]);
    assert!(clients.leave(4).is_empty());
}

#[test]
fn a_value_that_was_not_taken_is_offered_again() {
    for request in [Request::CancelWait, Request::CountKeys, Request::QueuePop { key: K }] {
        let mut clients = Clients::default();
        clients.wait(1, &[Q]);
        clients.wait(2, &[Q]);
        assert_eq!(clients.ask(0, Request::QueuePush { key: Q, value: b"v" }).1, [1]);
        assert_eq!(clients.ask(1, request).1, [2]);
        assert_eq!(clients.ask(2, Request::QueuePop { key: Q }).0, [word(1), text(b"v")].concat());
    }
}

#[test]
fn a_barrier_opens_when_all_have_come() {
    let mut clients = Clients::default();
    let mut come = |client, world_size| clients.ask(client, Request::Barrier { key: K, world_size });
    assert_eq!((come(0, 3), come(1, 3)), (QUIET, QUIET));
    assert_eq!(come(2, 3), (STOP.to_vec(), vec![0, 1]));
    assert_eq!(come(3, 3), (STOP.to_vec(), vec![]), "later callers pass");
    assert_eq!(clients.get(K), text(b"4"));
    for (key, world_size) in [(&b"/0"[..], 0), (b"/1", 1), (b"/-", -1)] {
        assert_eq!(clients.ask(0, Request::Barrier { key, world_size }).0, STOP);
    }
}

#[test]
fn who_leaves_a_barrier_stays_counted() {
    let mut clients = Clients::default();
    let barrier = Request::Barrier { key: K, world_size: 3 };
    clients.ask(0, barrier.clone());
    assert_eq!(clients.ask(0, Request::CancelWait).0, [1]);
    clients.ask(1, barrier.clone());
    clients.leave(1);
    assert_eq!(clients.ask(2, barrier), (STOP.to_vec(), vec![]), "nobody is there any more");
}

#[test]
fn a_barrier_also_opens_by_its_key() {
    let mut clients = Clients::default();
    clients.wait(5, &[K]);
    assert_eq!(clients.ask(0, Request::Barrier { key: K, world_size: 3 }), (vec![], vec![5]));
    assert_eq!(clients.ask(1, Request::Add { key: K, delta: 1 }), (word(2), vec![]));
    assert_eq!(clients.ask(1, Request::Set { key: K, value: b"no number" }), QUIET);
    assert_eq!(clients.ask(1, Request::Set { key: K, value: b"3" }), (vec![], vec![0]));
}

/// What clients do in the random test.
#[derive(Debug, Clone)]
enum Act {
    Set(u8),
    Add(u8),
    Delete(u8),
    Push(u8),
    Pop(u8),
    Wait(Vec<u8>),
    Barrier(u8, i64),
    Cancel,
    Leave,
}

fn acts() -> impl Strategy<Value = Vec<(u32, Act)>> {
    let name = 0..4u8;
    let act = prop_oneof![
        name.clone().prop_map(Act::Set),
        name.clone().prop_map(Act::Add),
        name.clone().prop_map(Act::Delete),
        name.clone().prop_map(Act::Push),
        name.clone().prop_map(Act::Pop),
        prop::collection::vec(name.clone(), 0..4).prop_map(Act::Wait),
        (name, 0..4i64).prop_map(|(key, world_size)| Act::Barrier(key, world_size)),
        Just(Act::Cancel),
        Just(Act::Leave),
    ];
    prop::collection::vec((0..5u32, act), 0..120)
}

/// The same by one list of waiting clients that is searched from its start, and without anything that makes it quick.
#[derive(Default)]
struct Model {
    numbers: BTreeMap<u8, i64>,
    queues: BTreeMap<u8, usize>,
    /// In the order in which they came.
    waiting: Vec<(u32, Pending)>,
    /// Was told of a value in this queue.
    called: BTreeMap<u32, u8>,
}

enum Pending {
    Keys(Vec<u8>),
    Barrier(u8, i64),
}

impl Model {
    fn act(&mut self, from: u32, act: &Act) -> Vec<u32> {
        let mut released = Vec::new();
        if let Some(queue) = self.called.remove(&from)
            && !matches!(act, Act::Pop(key) if *key == queue)
        {
            released.extend(self.call(queue));
        }
        match act {
            Act::Set(key) => released.extend(self.write(*key, 0)),
            Act::Add(key) => {
                let sum = self.numbers.get(key).unwrap_or(&0) + 1;
                released.extend(self.write(*key, sum));
            }
            Act::Delete(key) => drop(self.numbers.remove(key)),
            Act::Push(key) => {
                *self.queues.entry(*key).or_default() += 1;
                released.extend(self.call(*key));
            }
            Act::Pop(key) => {
                let length = self.queues.entry(*key).or_default();
                *length = length.saturating_sub(1);
            }
            Act::Wait(keys) => {
                self.waiting.retain(|(client, _)| *client != from);
                let missing = |key: &u8| !self.numbers.contains_key(key) && self.queues.get(key).unwrap_or(&0) == &0;
                let keys: Vec<u8> = keys.iter().copied().filter(missing).collect();
                match keys.is_empty() {
                    true => released.push(from),
                    false => self.waiting.push((from, Pending::Keys(keys))),
                }
            }
            Act::Barrier(key, world_size) => {
                self.waiting.retain(|(client, _)| *client != from);
                let sum = self.numbers.get(key).unwrap_or(&0) + 1;
                released.extend(self.write(*key, sum));
                match sum >= *world_size {
                    true => released.push(from),
                    false => self.waiting.push((from, Pending::Barrier(*key, *world_size))),
                }
            }
            Act::Cancel | Act::Leave => self.waiting.retain(|(client, _)| *client != from),
        }
        released
    }

    fn write(&mut self, key: u8, number: i64) -> Vec<u32> {
        self.numbers.insert(key, number);
        let over = |pending: &mut Pending| match pending {
            Pending::Keys(keys) => {
                keys.retain(|awaited| *awaited != key);
                keys.is_empty()
            }
            Pending::Barrier(barrier, world_size) => *barrier == key && number >= *world_size,
        };
        self.waiting.extract_if(.., |(_, pending)| over(pending)).map(|(client, _)| client).collect()
    }

    fn call(&mut self, queue: u8) -> Option<u32> {
        if self.queues.get(&queue).is_none_or(|length| *length == 0) {
            return None;
        }
        let mut called = None;
        // By the order in which they stood in line for this queue: that of their waits.
        for (client, pending) in &mut self.waiting {
            if let Pending::Keys(keys) = pending
                && keys.contains(&queue)
            {
                keys.retain(|awaited| *awaited != queue);
                if keys.is_empty() {
                    called = Some(*client);
                    break;
                }
            }
        }
        self.waiting.retain(|(client, _)| Some(*client) != called);
        if let Some(client) = called {
            self.called.insert(client, queue);
        }
        called
    }
}

fn perform(clients: &mut Clients, from: u32, act: &Act) -> (Vec<u8>, Vec<u32>) {
    let name = |key: &u8| [b'/', *key];
    match act {
        Act::Set(key) => clients.ask(from, Request::Set { key: &name(key), value: b"0" }),
        Act::Add(key) => clients.ask(from, Request::Add { key: &name(key), delta: 1 }),
        Act::Delete(key) => clients.ask(from, Request::Delete { key: &name(key) }),
        Act::Push(key) => clients.ask(from, Request::QueuePush { key: &name(key), value: b"v" }),
        Act::Pop(key) => clients.ask(from, Request::QueuePop { key: &name(key) }),
        Act::Barrier(key, world_size) => {
            clients.ask(from, Request::Barrier { key: &name(key), world_size: *world_size })
        }
        Act::Cancel => clients.ask(from, Request::CancelWait),
        Act::Leave => (Vec::new(), clients.leave(from)),
        Act::Wait(keys) => {
            let keys: Vec<[u8; 2]> = keys.iter().map(name).collect();
            clients.wait(from, &keys.iter().map(|key| &key[..]).collect::<Vec<_>>())
        }
    }
}

/// How many bytes the answer itself has; more are the end of a wait.
fn answer_bytes(act: &Act, own: &[u8]) -> usize {
    match act {
        Act::Add(_) | Act::Delete(_) => 8,
        Act::Pop(_) if own.starts_with(&word(0)) => 8,
        Act::Pop(_) => 8 + 8 + 1,
        Act::Cancel => 1,
        _ => 0,
    }
}

proptest! {
    #[test]
    fn it_does_what_a_plain_list_of_waiters_does(acts in acts()) {
        let (mut clients, mut model) = (Clients::default(), Model::default());
        for (from, act) in acts {
            let (own, mut released) = perform(&mut clients, from, &act);
            let stops = own.len() - answer_bytes(&act, &own);
            released.extend(std::iter::repeat_n(from, stops));
            let mut expected = model.act(from, &act);
            released.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(released, expected, "{} {:?}", from, act);
        }
        for (key, number) in &model.numbers {
            prop_assert_eq!(clients.get(&[b'/', *key]), text(number.to_string().as_bytes()));
        }
        prop_assert_eq!(clients.ask(0, Request::CountKeys).0, word(model.numbers.len() as i64));
        (0..5).for_each(|client| drop(clients.leave(client)));
        let keys = &clients.keys;
        prop_assert!(keys.waits.is_empty() && keys.waiters.is_empty() && keys.barriers.is_empty(), "{:?}", keys);
    }
}
