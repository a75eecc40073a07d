"""Options are defined once, in the engine; Python's signature agrees with it."""

from __future__ import annotations

import inspect
import json

import torch.utils.data
from zenith import _engine
from zenith_torch import DataLoader

OURS = {
    "lanes",
    "shuffle_bytes",
    "tail",
    "on_error",
    "max_bad_samples",
    "quarantine_path",
    "read_timeout_ms",
}


def test_defaults_are_those_of_the_engine() -> None:
    engine = json.loads(_engine.loader_defaults())
    python = inspect.signature(DataLoader.__init__).parameters
    for name in OURS | {"batch_size", "num_workers", "drop_last"}:
        assert python[name].default == engine[name], name
    # Only whoever gives it bounds worker processes by it; natively the engine's own default counts.
    assert python["prefetch_bytes"].default is None
    assert "prefetch_bytes" not in DataLoader([1])._plain_options()
    assert DataLoader([1], prefetch_bytes=5)._plain_options()["prefetch_bytes"] == 5


def test_the_signature_is_torchs_and_then_keywords_with_attributes() -> None:
    theirs = [
        p for n, p in inspect.signature(torch.utils.data.DataLoader.__init__).parameters.items() if n != "dataset"
    ]
    ours = inspect.signature(DataLoader.__init__).parameters
    for parameter in theirs:
        assert ours[parameter.name].default == parameter.default, parameter.name
        assert ours[parameter.name].kind == parameter.kind, parameter.name
    loader = DataLoader([1, 2, 3])
    extra = [p for n, p in ours.items() if n not in {t.name for t in theirs} | {"dataset"}]
    for parameter in extra:
        assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
        assert getattr(loader, parameter.name) == parameter.default
    assert {p.name for p in extra} >= OURS


def test_any_other_dataset_is_torchs_loader() -> None:
    loader = DataLoader([1, 2, 3, 4], batch_size=2, shuffle=False)
    assert [b.tolist() for b in loader] == [[1, 2], [3, 4]]
    assert "torch" in loader.explain()
