use proptest::prelude::*;

use super::*;

fn text(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u64).to_ne_bytes(), bytes].concat()
}

fn hello() -> Vec<u8> {
    [&[0], &MAGIC.to_ne_bytes()[..]].concat()
}

fn message(operation: u8, parts: &[Vec<u8>]) -> Vec<u8> {
    [&[operation], &parts.concat()[..]].concat()
}

fn count_of(keys: u64) -> Vec<u8> {
    keys.to_ne_bytes().to_vec()
}

/// What is left of a stream, and what was understood, as text that does not borrow from it.
fn decode(decoder: &mut Decoder, bytes: &[u8], seen: &mut Vec<String>) -> Result<usize, Violation> {
    let mut rest = bytes;
    while let Some(request) = decoder.next(&mut rest)? {
        seen.push(format!("{request:?}"));
    }
    Ok(rest.len())
}

fn greeted() -> Decoder {
    let mut decoder = Decoder::default();
    assert_eq!(decoder.next(&mut &hello()[..]), Ok(None));
    decoder
}

fn one(bytes: &[u8]) -> Result<Option<String>, Violation> {
    let mut rest = bytes;
    let request = greeted().next(&mut rest)?.map(|request| format!("{request:?}"));
    assert_eq!(rest.len(), if request.is_some() { 0 } else { bytes.len() });
    Ok(request)
}

/// One message for each operation, and what it is.
fn operations() -> Vec<(Vec<u8>, Vec<Request<'static>>)> {
    let (k, v, w) = (text(b"/k"), text(b"value"), text(b""));
    let number = (-7i64).to_ne_bytes().to_vec();
    let (key, value) = (&b"/k"[..], &b"value"[..]);
    let names: &'static [u8] = text(b"/k").leak();
    vec![
        (message(1, &[k.clone(), v.clone()]), vec![Request::Set { key, value }]),
        (message(2, &[k.clone(), v.clone(), w]), vec![Request::CompareSet { key, expected: value, desired: b"" }]),
        (message(3, std::slice::from_ref(&k)), vec![Request::Get { key }]),
        (message(4, &[k.clone(), number.clone()]), vec![Request::Add { key, delta: -7 }]),
        (message(5, &[count_of(0)]), vec![Request::Check { keys: Names { bytes: b"" } }]),
        (message(6, &[count_of(1), k.clone()]), vec![Request::Wait { keys: Names { bytes: names } }]),
        (message(7, &[]), vec![Request::CountKeys]),
        (message(8, std::slice::from_ref(&k)), vec![Request::Delete { key }]),
        (message(9, &[k.clone(), v.clone()]), vec![Request::Append { key, value }]),
        (message(10, &[count_of(2), k.clone(), k.clone()]), vec![Request::Get { key }, Request::Get { key }]),
        (message(11, &[count_of(1), k.clone(), v.clone()]), vec![Request::Set { key, value }]),
        (message(12, &[]), vec![Request::CancelWait]),
        (message(13, &[9u32.to_ne_bytes().to_vec()]), vec![Request::Ping { nonce: 9 }]),
        (message(14, &[k.clone(), v.clone()]), vec![Request::QueuePush { key, value }]),
        (message(15, std::slice::from_ref(&k)), vec![Request::QueuePop { key }]),
        (message(16, std::slice::from_ref(&k)), vec![Request::QueueLength { key }]),
        (message(17, &[]), vec![Request::ListKeys]),
        (message(18, &[k, number]), vec![Request::Barrier { key, world_size: -7 }]),
    ]
}

#[test]
fn every_operation_is_understood() {
    for (bytes, expected) in operations() {
        let mut decoder = greeted();
        let mut rest = &bytes[..];
        for request in expected {
            assert_eq!(decoder.next(&mut rest), Ok(Some(request)));
        }
        assert_eq!((decoder.next(&mut rest), rest.len()), (Ok(None), 0));
    }
}

#[test]
fn half_of_a_message_is_waited_for() {
    for (bytes, expected) in operations() {
        for cut in 0..bytes.len() {
            let mut decoder = greeted();
            let mut seen = Vec::new();
            let left = decode(&mut decoder, &bytes[..cut], &mut seen).unwrap();
            assert!(seen.len() < expected.len(), "{expected:?} of {cut} bytes");
            assert_eq!(decode(&mut decoder, &bytes[cut - left..], &mut seen), Ok(0));
            assert_eq!(seen, expected.iter().map(|request| format!("{request:?}")).collect::<Vec<_>>());
        }
    }
}

#[test]
fn strangers_are_refused_at_their_first_wrong_byte() {
    for wrong in [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x03\x01", &hello()[1..], b"\x00\x01", &[7]] {
        assert_eq!(Decoder::default().next(&mut &wrong[..]), Err(Violation::NoGreeting), "{wrong:?}");
    }
    for cut in 0..5 {
        assert_eq!(Decoder::default().next(&mut &hello()[..cut]), Ok(None));
    }
    assert_eq!(one(&hello()), Err(Violation::UnknownOperation(0)), "a second greeting is none");
}

#[test]
fn lengths_beyond_the_limits_are_refused_before_the_bytes_come() {
    let length = |bytes: usize| (bytes as u64).to_ne_bytes().to_vec();
    assert_eq!(one(&message(3, &[length(KEY_BYTES_MAX)])), Ok(None));
    assert_eq!(one(&message(3, &[length(KEY_BYTES_MAX + 1)])), Err(Violation::LongKey(8193)));
    assert_eq!(one(&message(3, &[length(usize::MAX)])), Err(Violation::LongKey(u64::MAX)));
    assert_eq!(one(&message(1, &[text(b"/k"), length(VALUE_BYTES_MAX)])), Ok(None));
    assert_eq!(one(&message(1, &[text(b"/k"), length(VALUE_BYTES_MAX + 1)])), Err(Violation::LongValue(8_388_609)));
    for operation in [5, 6, 10, 11] {
        let (most, more) = (message(operation, &[count_of(KEYS_MAX)]), message(operation, &[count_of(KEYS_MAX + 1)]));
        assert_eq!(decode(&mut greeted(), &most, &mut Vec::new()), Ok(if operation < 10 { most.len() } else { 0 }));
        assert_eq!(one(&more), Err(Violation::ManyKeys(KEYS_MAX + 1)));
    }
    for operation in 19..=255 {
        assert_eq!(one(&[operation]), Err(Violation::UnknownOperation(operation)));
    }
}

#[test]
fn a_list_of_keys_is_bounded_as_a_whole() {
    let key = text(&[b'k'; KEY_BYTES_MAX]);
    let keys = LIST_BYTES_MAX / key.len();
    let mut bytes = message(6, &[count_of(KEYS_MAX)]);
    bytes.extend(key.repeat(keys));
    let mut decoder = greeted();
    assert_eq!(decoder.next(&mut &bytes[..]), Ok(None));
    bytes.extend(key);
    assert_eq!(decoder.next(&mut &bytes[..]), Err(Violation::LongList));
}

#[test]
fn a_long_list_that_comes_in_pieces_is_read_once() {
    let mut bytes = message(6, &[count_of(KEYS_MAX)]);
    (0..KEYS_MAX).for_each(|n| bytes.extend(text(format!("/key{n}").as_bytes())));
    // Reading it anew for each piece would look at 10^11 bytes.
    let mut decoder = greeted();
    for arrived in (1..bytes.len()).step_by(100) {
        assert_eq!(decoder.next(&mut &bytes[..arrived]), Ok(None));
    }
    let mut rest = &bytes[..];
    let Ok(Some(Request::Wait { keys })) = decoder.next(&mut rest) else { panic!("not a WAIT") };
    assert_eq!((keys.count() as u64, rest.len()), (KEYS_MAX, 0));
}

proptest! {
    /// However the network cuts a stream, it says the same.
    #[test]
    fn pieces_do_not_matter(
        chosen in prop::collection::vec(0..18usize, 0..20),
        cuts in prop::collection::vec(1..40usize, 1..60),
    ) {
        let all = operations();
        let mut stream = hello();
        let mut expected = Vec::new();
        for index in chosen {
            stream.extend(&all[index].0);
            expected.extend(all[index].1.iter().map(|request| format!("{request:?}")));
        }
        let (mut decoder, mut seen, mut start, mut end) = (Decoder::default(), Vec::new(), 0, 0);
        for cut in cuts.into_iter().cycle() {
            end = (end + cut).min(stream.len());
            start = end - decode(&mut decoder, &stream[start..end], &mut seen).unwrap();
            if end == stream.len() {
                break;
            }
        }
        prop_assert_eq!(start, stream.len());
        prop_assert_eq!(seen, expected);
    }

    /// Random bytes, also where lengths are small enough to be believed, end in requests, in a wait for more, or an error.
    #[test]
    fn random_bytes_do_no_harm(bytes in prop::collection::vec(prop_oneof![Just(0u8), 0..20u8, any::<u8>()], 0..400)) {
        let mut decoder = greeted();
        let mut seen = Vec::new();
        if let Ok(left) = decode(&mut decoder, &bytes, &mut seen) {
            let again = decode(&mut decoder, &bytes[bytes.len() - left..], &mut seen);
            prop_assert_eq!(again, Ok(left), "nothing was taken from what is not complete");
        }
    }
}
