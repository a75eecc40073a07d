"""The pictures of the benchmark are what they are said to be, and its gate lets no wrong one through."""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import cbook
from PIL import Image
from torchvision.transforms import v2

from benchmarks.loaders import photographs, picture_start, pictures, process, report
from benchmarks.loaders.__main__ import choose, parse
from benchmarks.loaders.contender import Contender, all_contenders
from benchmarks.loaders.data import Files, Size
from benchmarks.loaders.environment import wants_pictures
from benchmarks.loaders.gate import check
from benchmarks.loaders.picture_gate import PictureError
from benchmarks.loaders.pictures import WORKS

COUNT, LARGE_COUNT = 45, 2
TINTS = ((1.0, 0.4, 0.2), (0.2, 0.5, 1.0), (0.9, 0.9, 0.9), (0.3, 0.3, 0.3), (0.9, 0.5, 0.6))
"""One photograph in several colours stands for several, which tests cannot download."""

Batch = tuple[Any, Any]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Files]:
    """A corpus of photographs that a package `shipped` brings."""
    root = tmp_path_factory.mktemp("packages")
    (root / "shipped").mkdir()
    (root / "shipped" / "__init__.py").write_text("raise ImportError('photographs are found without an import')")
    with cbook.get_sample_data("grace_hopper.jpg") as source:
        portrait = np.asarray(Image.open(source).convert("RGB"))
    entries = []
    for index, tint in enumerate(TINTS):
        Image.fromarray((portrait * tint).astype(np.uint8)).save(root / "shipped" / f"{index}.png")
        entries.append(photographs.Photograph("shipped", f"{index}.png", "public domain"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, str(root)])
        patch.setattr(photographs, "PHOTOGRAPHS", tuple(entries))
        found = Files(str(tmp_path_factory.mktemp("data")), Size())
        photographs.ensure(found, COUNT, LARGE_COUNT)
        yield found


@pytest.mark.parametrize(("large", "sizes"), [(False, {size for size, _ in photographs.SIZES}), (True, {(4000, 3000)})])
def test_shards_and_files_hold_the_same_pictures(files: Files, large: bool, sizes: set[tuple[int, int]]) -> None:
    corpus = photographs.of(files)
    members: dict[str, bytes] = {}
    for shard in corpus.shards(large):
        with tarfile.open(shard) as archive:
            members |= {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]
    assert len(members) == 2 * corpus.length(large)
    for label, path in enumerate(corpus.images(large)):
        encoded = Path(path).read_bytes()
        assert members[f"{label:06d}.jpg"] == encoded
        assert members[f"{label:06d}.cls"] == str(label).encode()
        image = Image.open(io.BytesIO(encoded))
        assert image.size in sizes
        assert [component[1:3] for component in image.layer] == [(2, 2), (1, 1), (1, 1)]


def test_a_corpus_is_written_once_and_always_the_same(files: Files, tmp_path: Path) -> None:
    first = Path(photographs.of(files).images()[0])
    before = first.stat().st_mtime_ns
    photographs.ensure(files, COUNT, LARGE_COUNT)
    assert first.stat().st_mtime_ns == before
    again = photographs.ensure(Files(str(tmp_path), Size()), 3, 1)
    assert Path(again.images()[0]).read_bytes() == first.read_bytes()
    assert len(photographs.ensure(Files(str(tmp_path), Size()), 4, 1).images()) == 4


def test_a_photograph_that_is_not_installed_says_what_to_do() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"no_such_package.*environment --parts images"):
        photographs.Photograph("no_such_package", "a.png", "").load()


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (333, 500), (400, 300), (640, 427), (4000, 3000), (257, 256)])
def test_the_reference_is_torchvisions(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1] // 4 + 1, size[0] // 4 + 1, 3), np.uint8)
    image = Image.fromarray(noise).resize(size)
    expected = v2.Compose([v2.Resize(pictures.SHORT_SIDE), v2.CenterCrop(pictures.SIDE)])(image)
    assert np.array_equal(pictures.reference(image), np.asarray(expected))


def test_random_crops_are_drawn_as_torchvision_draws_them() -> None:
    generator = np.random.default_rng(0)
    ours = np.array([pictures.random_box(500, 375, generator) for _ in range(8000)])
    torch.manual_seed(0)
    tensor = torch.empty(3, 375, 500)
    crop = v2.RandomResizedCrop(224, pictures.SCALE, pictures.RATIO)
    drawn = [crop.make_params([tensor]) for _ in range(8000)]
    theirs = np.array([[entry[name] for name in ("left", "top", "width", "height")] for entry in drawn])
    assert (ours[:, 0] + ours[:, 2]).max() <= 500
    assert (ours[:, 1] + ours[:, 3]).max() <= 375
    for share in (0.05, 0.25, 0.5, 0.75, 0.95):
        # Of 8000 draws a quantile strays by about 0.6 % of them.
        for column in range(4):
            below = (ours[:, column] <= np.quantile(theirs[:, column], share)).mean()
            assert below == pytest.approx((theirs[:, column] <= np.quantile(theirs[:, column], share)).mean(), abs=0.03)


def fake(work: str, epochs: Callable[[int], Any], name: str = "fake") -> Contender:
    """A contender that delivers `epochs(k)`."""

    class Feed:
        def epoch(self, epoch: int) -> Iterator[Any]:
            return iter(epochs(epoch))

    return Contender(name, "", work, "shuffled", lambda files: Feed(), None)


def central(files: Files) -> list[Batch]:
    """The right batches of `images-resize`."""
    images = [pictures.reference(pictures.decode_whole(path)) for path in photographs.of(files).images()]
    return [
        (torch.from_numpy(np.stack(images[start : start + 20])), torch.arange(COUNT)[start : start + 20])
        for start in (0, 20, 40)
    ]


def replaced(batches: list[Batch], change: Callable[[Any, Any], Batch]) -> list[Batch]:
    """The first batch changed."""
    return [change(*batches[0]), *batches[1:]]


def one_less(x: Any, y: Any) -> Batch:
    return x[:-1], y[:-1]


def one_twice(x: Any, y: Any) -> Batch:
    return torch.cat([x[:1], x[:-1]]), torch.cat([y[:1], y[:-1]])


def other_label(x: Any, y: Any) -> Batch:
    return x, y + COUNT


def other_picture(x: Any, y: Any) -> Batch:
    return x.roll(1, 0), y


def one_pixel_off(x: Any, y: Any) -> Batch:
    return x.roll(1, 2), y


def numbers(x: Any, y: Any) -> Batch:
    return x.float(), y


def labels_of_32_bits(x: Any, y: Any) -> Batch:
    return x, y.int()


def too_many_labels(x: Any, y: Any) -> Batch:
    return x[:-1], y


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (one_less, "1 of 45 pictures never and 0 more than once, the first is 19"),
        (one_twice, "1 of 45 pictures never and 1 more than once, the first is 0"),
        (other_label, "labels from 20 to 64, of 45"),
        (other_picture, "levels from the reference"),
        (one_pixel_off, "levels from the reference"),
        (numbers, "pictures are torch.float32"),
        (labels_of_32_bits, "not one int64 for each"),
        (too_many_labels, "19 pictures and 20 labels"),
    ],
)
def test_the_gate_refuses_wrong_pictures(files: Files, change: Callable[[Any, Any], Batch], text: str) -> None:
    batches = central(files)
    with pytest.raises(PictureError, match=text):
        check(fake("images-resize", lambda epoch: replaced(batches, change)), files, 1, 600.0)


def test_the_gate_notices_memory_that_is_written_again(files: Files) -> None:
    def deliver(epoch: int) -> Iterator[Batch]:
        memory = torch.empty(20, 224, 224, 3, dtype=torch.uint8)
        for x, y in central(files):
            memory[: len(x)] = x
            yield memory[: len(x)], y

    with pytest.raises(PictureError, match="levels from the reference"):
        check(fake("images-resize", deliver), files, 1, 600.0)


def test_peers_may_differ_a_little_and_ours_may_not(files: Files) -> None:
    def brighter(x: Any, y: Any) -> Batch:
        return torch.clamp(x.int() + 2, max=255).byte(), y

    def deliver(epoch: int) -> list[Batch]:
        return [brighter(x, y) for x, y in central(files)]

    found = check(fake("images-resize", deliver), files, 1, 600.0)
    assert found["difference_mean"] == pytest.approx(2.0, abs=0.1)
    assert found["difference_max"] == 2
    with pytest.raises(PictureError, match="exact pictures have at least"):
        check(fake("images-resize", deliver, "zenith-fake"), files, 1, 600.0)
    exact = check(fake("images-resize", lambda epoch: central(files), "zenith-fake"), files, 2, 600.0)
    assert (exact["difference_max"], exact["within_one_share"]) == (0, 1.0)


def crops(files: Files, seed: int) -> tuple[Any, Any]:
    """The right crops of an epoch, in a random order: uint8 [n, 224, 224, 3] and labels."""
    torch.manual_seed(seed)
    transform = v2.Compose([v2.RandomResizedCrop(224), v2.RandomHorizontalFlip()])
    order = torch.randperm(COUNT)
    paths = photographs.of(files).images()
    made = [np.asarray(transform(pictures.decode_whole(paths[label]))) for label in order.tolist()]
    return torch.from_numpy(np.stack(made)), order


def test_right_crops_pass_as_levels_and_as_numbers(files: Files) -> None:
    check(fake("images-crop", lambda epoch: [crops(files, epoch)]), files, 2, 600.0)
    normalise = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(pictures.MEAN, pictures.STD)])
    for dtype in (torch.float32, torch.bfloat16):

        def deliver(epoch: int, dtype: torch.dtype = dtype) -> list[Batch]:
            x, y = crops(files, epoch)
            return [(normalise(x.permute(0, 3, 1, 2)).to(dtype), y)]

        work = f"images-crop-{str(dtype).removeprefix('torch.')}"
        check(fake(work, deliver), files, 2, 600.0)
        with pytest.raises(PictureError, match=r"levels are|levels of the crops"):
            check(fake(work, lambda epoch: [(x * 255, y) for x, y in deliver(epoch)]), files, 1, 600.0)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda x, y: (x, y.roll(1)), r"levels|colours"),
        (lambda x, y: (x.flip(3), y), r"levels|colours"),
        (lambda x, y: (x.reshape(-1, 224 * 224 * 3).roll(1, 1).reshape(-1, 3, 224, 224), y), r"levels|colours|rows"),
        (lambda x, y: (x.float().mean((1, 2), keepdim=True).byte().expand(-1, 224, 224, -1), y), "rows differ"),
        (lambda x, y: (x[y.argsort()], y.sort().values), "in the files' order"),
    ],
)
def test_the_gate_refuses_implausible_crops(files: Files, change: Callable[[Any, Any], Batch], text: str) -> None:
    with pytest.raises(PictureError, match=text):
        check(fake("images-crop", lambda epoch: [change(*crops(files, epoch))]), files, 1, 600.0)


def test_every_epoch_has_crops_of_its_own(files: Files) -> None:
    def deliver(epoch: int) -> list[Batch]:
        x, y = crops(files, 0)
        order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(epoch))
        return [(x[order], y[order])]

    with pytest.raises(PictureError, match="45 of 45 crops are the same in two epochs"):
        check(fake("images-crop", deliver), files, 2, 600.0)


@pytest.mark.parametrize("peer", ["torch-pil", "torch-torchvision", "webdataset"])
@pytest.mark.parametrize("work", list(pictures.peer_works()))
def test_the_gate_lets_peers_pass(files: Files, peer: str, work: str) -> None:
    found = check(all_contenders()[f"{peer}-{work}-w2"], files, 2, 600.0)
    assert found["samples"] == 2 * (LARGE_COUNT if WORKS[work].large else COUNT)


@pytest.mark.parametrize(
    ("argv", "works", "peers"),
    [
        ([], False, False),
        (["--parts", "images"], True, True),
        (["--only", "zenith-images-*", "--parts", "loaders"], True, True),
        (["--only", "zenith-python-images-*", "--runs", "1"], False, False),
    ],
)
def test_pictures_are_asked_for_by_name(argv: list[str], works: bool, peers: bool) -> None:
    chosen = choose(all_contenders(), parse(argv))
    assert any(entry.work in WORKS for entry in chosen) == works
    assert wants_pictures(argv) == peers
    assert all(entry.work in WORKS for entry in chosen) == (works and chosen != [])


def test_first_batches_are_of_a_new_index_and_then_of_the_same(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs: list[dict[str, Any]] = []

    def run_child(job: dict[str, Any]) -> dict[str, float]:
        jobs.append(job)
        return {"first_batch_ms": 400.0 if len(jobs) != 2 else 900.0, "open_ms": 7.0}

    monkeypatch.setattr(process, "run_child", run_child)
    monkeypatch.setattr(Contender, "missing", lambda self: None)
    found = picture_start.measure(files, quick=False)
    assert found["rows"][0] == ["Zenith, no index yet", 400.0, 500.0, "met", 7.0]
    assert found["rows"][1] == ["Zenith, with its index", 400.0, 50.0, "**missed**", 7.0]
    assert len({job["cache"] for job in jobs[:3]}) == 3
    assert [job["cache"] for job in jobs[:3]] == [job["cache"] for job in jobs[3:6]]
    assert [job["who"] for job in jobs[6::3]] == list(picture_start.PEERS)


def test_a_first_batch_is_timed_with_indexes_where_the_job_says(
    files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZENITH_CACHE_DIR", "")
    seen: list[str | None] = []

    class Feed:
        def epoch(self, epoch: int) -> Iterator[Any]:
            seen.append(os.environ["ZENITH_CACHE_DIR"])
            yield None

    slow = Contender("slow", "", "images-crop", "shuffled", lambda files: time.sleep(0.05) or Feed(), None)
    monkeypatch.setattr(picture_start, "all_contenders", lambda: {"slow": slow})
    found = picture_start.child(files, {"who": "slow", "cache": str(tmp_path)}, lambda: seen.append(None))
    assert seen == [None, str(tmp_path)]
    assert found["first_batch_ms"] >= found["open_ms"] >= 50.0


def test_the_report_says_how_far_pictures_are_off(files: Files) -> None:
    gate = {"difference_mean": 1.234, "difference_mean_worst": 2.0, "difference_max": 29, "within_one_share": 0.893}
    results = {
        "contenders": {"peer": {"title": "a peer", "work": "images-resize"}, "other": {"title": "", "work": "csv"}},
        "gate": {"peer": gate, "other": {"samples": 3}},
        "pictures": json.loads(photographs.note_of(files).read_text()),
    }
    assert report.picture_table(results)[-1] == "| a peer | images-resize | 1.23 | 2.00 | 29 | 89.30% |"
    assert f"{COUNT} JPEG pictures" in report.corpus(results)[0]
    assert report.picture_table({}) == report.corpus({}) == []
