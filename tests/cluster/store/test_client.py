"""torch's client sees no difference between our server and torch's own: every operation, in the same scripts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from store_support import Store, client
from torch.distributed import PrefixStore, QueueEmptyError, TCPStore
from torch.distributed import Store as AnyStore

Script = Callable[[TCPStore, TCPStore], object]
SHORT = timedelta(milliseconds=200)


def settle(client: TCPStore) -> None:
    """What it wrote has no answer, and may still be on its way when another client asks; this has one."""
    client.num_keys()


def values(a: TCPStore, b: TCPStore) -> object:
    a.set("key", "value")
    a.set("bytes", bytes(range(256)))
    a.set("empty", "")
    a.set("key", "another")
    a.set("", "no name")
    seen = [b.get("key"), b.get("bytes"), b.get("empty"), b.get(""), b.num_keys()]
    b.append("key", " and more")
    b.append("fresh", "start")
    settle(b)
    return [*seen, a.get("key"), a.get("fresh"), sorted(a.list_keys()), a.check([]), a.check(["key", "missing"])]


def counters(a: TCPStore, b: TCPStore) -> object:
    seen = [a.add("n", 5), b.add("n", -7), a.get("n"), a.add("n", 0), b.add("big", 2**62), b.add("big", 2**62)]
    a.set("text", "41")
    settle(a)
    return [*seen, b.add("text", 1), b.get("text"), a.num_keys()]


def compare_set(a: TCPStore, b: TCPStore) -> object:
    seen = [a.compare_set("k", "old", "new"), a.check(["k"]), a.compare_set("k", "", "first")]
    seen += [b.compare_set("k", "", "second"), b.compare_set("k", "first", "third"), a.get("k")]
    return seen


def deletion(a: TCPStore, b: TCPStore) -> object:
    a.set("k", "v")
    settle(a)
    return [b.delete_key("k"), b.delete_key("k"), a.check(["k"]), a.num_keys(), sorted(a.list_keys())]


def several(a: TCPStore, b: TCPStore) -> object:
    a.multi_set(["x", "y", "z"], ["1", "", "333"])
    a.multi_set([], [])
    settle(a)
    return [b.multi_get(["z", "x", "y", "x"]), b.multi_get([]), b.num_keys()]


def ten_thousand_keys(a: TCPStore, b: TCPStore) -> object:
    names = [f"rank{n % 64}/address/{n}" for n in range(10_000)]
    a.multi_set(names[:9_000], [str(n) for n in range(9_000)])
    for n in range(9_000, 10_000):
        a.set(names[n], str(n))
    b.wait(names, timedelta(seconds=20))
    return [b.check(names), b.multi_get(names) == [str(n).encode() for n in range(10_000)], sorted(b.list_keys())]


def large_values(a: TCPStore, b: TCPStore) -> object:
    value = bytes(range(256)) * (1 << 15)  # 8 MiB, the most that torch's server takes.
    a.set("large", value)
    got = b.get("large")
    b.append("large", "!")
    settle(b)
    return [got == value, len(a.get("large")), a.multi_get(["large", "large"])[1][-1:]]


def queues(a: TCPStore, b: TCPStore) -> object:
    for value in ["1", "2", "3"]:
        a.queue_push("q", value)
    settle(a)
    seen = [
        b.queue_len("q"),
        b.queue_pop("q"),
        b.queue_pop("q", block=False),
        a.check(["q"]),
        a.num_keys(),
        a.list_keys(),
    ]
    return [*seen, a.delete_key("q"), a.queue_pop("q"), a.queue_len("q"), a.check(["q"]), a.queue_len("other")]


def prefixes(a: TCPStore, b: TCPStore) -> object:
    inner, outer = PrefixStore("inner", PrefixStore("outer", a)), PrefixStore("outer", b)
    inner.set("k", "v")
    inner.add("n", 3)
    inner.queue_push("q", "one")
    seen = [
        inner.get("k"),
        outer.get("inner/k"),
        outer.check(["k"]),
        outer.queue_pop("inner/q"),
        b.get("outer/inner/n"),
    ]
    return [*seen, sorted(b.list_keys()), inner.delete_key("k"), outer.num_keys()]


def clones(a: TCPStore, b: TCPStore) -> object:
    other = a.clone()
    other.set("k", "v")
    return [a.get("k"), b.clone().get("k"), b.num_keys()]


def barriers(a: TCPStore, b: TCPStore) -> object:
    a.barrier("alone", 1)
    a.barrier("none", 0)
    thread = threading.Thread(target=a.barrier, args=("both", 2))
    thread.start()
    b.barrier("both", 2)
    thread.join(20)
    a.barrier("both", 2)  # Who comes later passes.
    return [thread.is_alive(), a.get("both"), a.get("alone"), sorted(b.list_keys()), b.num_keys()]


def later(act: Callable[[], object]) -> threading.Thread:
    def run() -> None:
        time.sleep(0.1)
        act()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def waking(a: TCPStore, b: TCPStore) -> object:
    acts = {
        "set": lambda: b.set("set", "v"),
        "add": lambda: b.add("add", 1),
        "append": lambda: b.append("append", "v"),
        "compare_set": lambda: b.compare_set("compare_set", "", "v"),
        "multi_set": lambda: b.multi_set(["other", "multi_set"], ["", "v"]),
        "queue": lambda: b.queue_push("queue", "v"),
    }
    for name, act in acts.items():
        thread = later(act)
        a.wait([name], timedelta(seconds=20))
        thread.join()
    thread = later(lambda: b.queue_push("popped", "v"))
    popped = a.queue_pop("popped")
    thread.join()
    return [popped, a.get("add"), a.num_keys()]


def error(act: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which it is, is compared.
        act()
    return type(caught.value).__name__, str(caught.value).splitlines()[0]


def timeouts(a: TCPStore, b: TCPStore) -> object:
    a.set("there", "v")
    seen = [error(lambda: a.wait(["zz"], SHORT)), error(lambda: a.wait(["there", "y", "z"], SHORT))]
    seen.append(error(lambda: a.barrier("b", 2, SHORT)))
    a.set_timeout(SHORT)
    seen += [error(lambda: a.get("missing")), error(lambda: a.queue_pop("q")), error(lambda: a.multi_get(["m"]))]
    # The connection goes on as if nothing had been.
    a.barrier("b", 2)
    return [*seen, a.get("there"), a.get("b"), a.num_keys()]


def empty_queue(a: TCPStore, b: TCPStore) -> object:
    with pytest.raises(QueueEmptyError):
        a.queue_pop("q", block=False)
    return a.num_keys()


def not_a_number(a: TCPStore, b: TCPStore) -> object:
    a.set("k", "abc")
    kind, _ = error(lambda: a.add("k", 1))  # The server hangs up; the text has ports.
    return [kind, b.get("k"), b.num_keys()]


def workers(a: TCPStore, b: TCPStore) -> object:
    """A client that is told of a world size counts itself in."""
    joined = TCPStore("127.0.0.1", a.port, 2, is_master=False, wait_for_workers=False)
    return [joined.num_keys(), a.list_keys()]


SCRIPTS = [
    values, counters, compare_set, deletion, several, ten_thousand_keys, large_values, queues, prefixes, clones, barriers,
    waking, timeouts, empty_queue, not_a_number, workers,
]  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_like_torchs_server(script: Script, store: Store) -> None:
    theirs = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False, timeout=timedelta(seconds=20))
    assert theirs.libuvBackend
    expected = script(client(theirs.port), client(theirs.port))
    assert script(store.client(), store.client()) == expected


def test_the_text_of_a_timeout(store: Store) -> None:
    a = store.client()
    assert "wait timeout after 200ms, keys: /zz" in error(lambda: a.wait(["zz"], SHORT))[1]
    assert "barrier timeout after 200ms, key: b" in error(lambda: a.barrier("b", 2, SHORT))[1]


def test_every_operation_of_the_client_is_in_a_script() -> None:
    operations = {name for name in dir(AnyStore) if not name.startswith("_")}
    used = {name for script in SCRIPTS for name in script.__code__.co_names}
    used |= {
        name
        for script in SCRIPTS
        for code in script.__code__.co_consts
        if hasattr(code, "co_names")
        for name in code.co_names
    }
    assert operations - used <= {"has_extended_api", "timeout"}  # These ask no server.


def test_each_popper_gets_one_value(store: Store) -> None:
    """As many as there are values; each is woken once, and no value is lost or given twice."""
    poppers = [store.client() for _ in range(6)]
    popped: list[bytes] = []
    threads = [threading.Thread(target=lambda c=c: popped.append(c.queue_pop("q"))) for c in poppers]
    for thread in threads:
        thread.start()
    pusher = store.client()
    for n in range(6):
        pusher.queue_push("q", str(n))
    for thread in threads:
        thread.join(20)
    assert sorted(popped) == [b"%d" % n for n in range(6)]


def test_a_popper_that_gave_up_does_not_take_its_turn(store: Store) -> None:
    first, second, pusher = store.client(timeout_s=0.3), store.client(), store.client()
    thread = threading.Thread(target=lambda: error(lambda: first.queue_pop("q")))
    thread.start()
    time.sleep(0.1)
    popped: list[bytes] = []
    other = threading.Thread(target=lambda: popped.append(second.queue_pop("q")))
    other.start()
    thread.join(20)
    pusher.queue_push("q", "v")
    other.join(20)
    assert popped == [b"v"]
