"""Token windows against numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import zenith
from zenith_torch import DataLoader


def test_windows_are_slices_of_the_file(tokens_file: Path) -> None:
    corpus = np.fromfile(tokens_file, dtype=np.uint16).astype(np.int64)
    dataset = zenith.Tokens(tokens_file, seq_len=128)
    assert len(dataset) == (len(corpus) - 129) // 128 + 1
    batches = list(DataLoader(dataset, batch_size=16, num_workers=2))
    x = torch.cat([b["x"] for b in batches]).numpy()
    y = torch.cat([b["y"] for b in batches]).numpy()
    for window in range(len(dataset)):
        np.testing.assert_array_equal(x[window], corpus[window * 128 : window * 128 + 128])
        np.testing.assert_array_equal(y[window], corpus[window * 128 + 1 : window * 128 + 129])
    assert batches[0]["x"].untyped_storage().data_ptr() != batches[0]["y"].untyped_storage().data_ptr()
    np.testing.assert_array_equal(dataset[3]["x"], x[3])


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
@pytest.mark.parametrize("stride", [1, 50, 300])
def test_strides_and_widths(tmp_path: Path, dtype: str, stride: int) -> None:
    corpus = np.arange(70_000, 72_000).astype(dtype)
    corpus.tofile(tmp_path / "a.bin")
    np.save(tmp_path / "a.npy", corpus)
    raw = zenith.Tokens(tmp_path / "a.bin", dtype=dtype, seq_len=64, stride=stride)
    npy = zenith.Tokens(tmp_path / "a.npy", seq_len=64, stride=stride)
    assert len(raw) == len(npy) == (2000 - 65) // stride + 1
    for index in (0, len(raw) // 2, len(raw) - 1):
        expected = corpus[index * stride : index * stride + 65].astype(np.int64)
        for dataset in (raw, npy):
            np.testing.assert_array_equal(dataset[index]["x"], expected[:-1])
            np.testing.assert_array_equal(dataset[index]["y"], expected[1:])


def test_random_windows_lie_in_the_file_and_change_with_the_epoch(tmp_path: Path) -> None:
    corpus = np.arange(60_000, dtype=np.uint32)
    corpus.tofile(tmp_path / "a.bin")
    dataset = zenith.Tokens(tmp_path / "a.bin", dtype="uint32", seq_len=100, random=True, seed=4)
    loader = DataLoader(dataset, batch_size=32, shuffle=True, seed=1, num_workers=2)

    def starts() -> torch.Tensor:
        batches = list(loader)
        x, y = (torch.cat([b[n] for b in batches]) for n in "xy")
        assert torch.equal(x + 1, y)
        assert torch.equal(x[:, :1] + torch.arange(100), x)
        return x[:, 0]

    first, second = starts(), starts()
    assert len(first) == len(dataset)
    assert not torch.equal(first.sort()[0], second.sort()[0])
    assert first.min() < 2000
    assert first.max() > 57_000
    assert len(set(first.tolist())) > 0.9 * len(first) * 0.99
    dataset.set_epoch(0)
    assert set(first.tolist()) == {int(dataset[i]["x"][0]) for i in range(len(dataset))}


def test_several_files_do_not_run_into_each_other(tmp_path: Path) -> None:
    for name, start in (("a", 0), ("b", 1000)):
        np.arange(start, start + 250, dtype=np.uint16).tofile(tmp_path / f"{name}.bin")
    dataset = zenith.Tokens(tmp_path, seq_len=100)
    assert [int(dataset[i]["x"][0]) for i in range(len(dataset))] == [0, 100, 1000, 1100]


def test_bad_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "odd.bin").write_bytes(b"abc")
    with pytest.raises(zenith.CorruptError, match=r"odd\.bin.*3 bytes"):
        zenith.Tokens(tmp_path / "odd.bin")
    with pytest.raises(zenith.NotFoundError, match="missing"):
        zenith.Tokens(tmp_path / "missing.bin")
    np.save(tmp_path / "good.npy", np.arange(1000, dtype=np.uint16))
    whole = (tmp_path / "good.npy").read_bytes()
    for cut in range(len(whole)):
        (tmp_path / "cut.npy").write_bytes(whole[:cut])
        with pytest.raises(zenith.ZenithError, match=r"cut\.npy"):
            zenith.Tokens(tmp_path / "cut.npy", seq_len=10)
    assert len(zenith.Tokens(tmp_path / "good.npy", seq_len=2000)) == 0


def masked(corpus: np.ndarray, start: int, length: int, boundary: int, at: str) -> np.ndarray:
    """The targets of a window: -100 wherever the document of a token is not that of the token before it."""
    is_boundary = corpus == boundary
    begins = is_boundary.astype(int) if at == "start" else np.concatenate([[0], is_boundary[:-1]])
    document = np.cumsum(begins)
    here = np.arange(start, start + length)
    return np.where(document[here] == document[here + 1], corpus[here + 1].astype(np.int64), -100)


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
@pytest.mark.parametrize("at", ["end", "start"])
@pytest.mark.parametrize("stride", [32, 5])
def test_targets_of_another_document_are_ignored(tmp_path: Path, dtype: str, at: str, stride: int) -> None:
    boundary = 7 if dtype == "uint16" else 100_257
    corpus = np.random.default_rng(2).integers(8, 60_000, 3000).astype(dtype)
    corpus[np.random.default_rng(3).random(3000) < 0.1] = boundary
    corpus.tofile(tmp_path / "a.bin")
    options = {"dtype": dtype, "seq_len": 32, "stride": stride}
    dataset = zenith.Tokens(tmp_path / "a.bin", boundary=boundary, boundary_at=at, **options)
    plain = zenith.Tokens(tmp_path / "a.bin", **options)
    assert dataset.fingerprint != plain.fingerprint
    batches = list(DataLoader(dataset, batch_size=16, num_workers=2))
    x, y = (torch.cat([b[n] for b in batches]).numpy() for n in "xy")
    for window in range(len(dataset)):
        start = window * stride
        np.testing.assert_array_equal(x[window], corpus[start : start + 32].astype(np.int64))
        np.testing.assert_array_equal(y[window], masked(corpus, start, 32, boundary, at))
    assert 0.05 < (y == -100).mean() < 0.15
    np.testing.assert_array_equal(dataset[9]["y"], y[9])
    loss = torch.nn.functional.cross_entropy(torch.zeros(32, 2), torch.from_numpy(y[0].clip(max=1)))
    assert torch.isfinite(loss)


def test_a_boundary_that_is_no_token_is_refused(tokens_file: Path) -> None:
    for options in ({"boundary": 65536}, {"boundary": -1}, {"boundary": 1, "boundary_at": "middle"}):
        with pytest.raises(ValueError, match="boundary"):
            zenith.Tokens(tokens_file, **options)
