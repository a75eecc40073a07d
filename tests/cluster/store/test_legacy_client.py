"""A client that was made for torch's old server (``USE_LIBUV=0``, TS-11) speaks the same to ours."""

from __future__ import annotations

from datetime import timedelta

import pytest
from store_support import Store
from torch.distributed import TCPStore


def test_the_old_client_is_served(store: Store) -> None:
    old = TCPStore(
        "127.0.0.1", store.port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=20), use_libuv=False
    )
    old.set("key", "value")
    assert (old.add("n", 5), store.client().get("key"), old.get("n")) == (5, b"value", b"5")
    old.barrier("b", 1)
    old.multi_set(["x", "y"], ["1", "2"])
    assert old.multi_get(["y", "x"]) == [b"2", b"1"]
    # The client's own refusal: nothing of it reaches a server.
    with pytest.raises(Exception, match="not implemented on legacy"):
        old.queue_push("q", "v")
