"""DL-13 to DL-16: which random numbers are drawn, from which generator, in which order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from contract_support import Call, Numbers, values, worker_id
from torch.utils.data import RandomSampler

Loader = type[torch.utils.data.DataLoader]
both = pytest.mark.parametrize("workers", [0, 1])
SIZE = 11


def draw(generator: torch.Generator | None = None) -> int:
    """One seed, as torch draws them."""
    return int(torch.empty((), dtype=torch.int64).random_(generator=generator).item())


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flat(loader: Any) -> list[int]:
    return [value for batch in values(loader) for value in batch]


def state_after(seed: int, draws: int) -> torch.Tensor:
    generator = seeded(seed)
    for _ in range(draws):
        draw(generator)
    return generator.get_state()


@both
def test_dl_13_the_default_order(loader_class: Loader, workers: int) -> None:
    loader = loader_class(Numbers(SIZE), batch_size=3, shuffle=True, num_workers=workers)
    torch.manual_seed(7)
    got = [flat(loader), flat(loader)]
    torch.manual_seed(7)
    expected = []
    for _ in range(2):
        draw()
        expected.append(torch.randperm(SIZE, generator=seeded(draw())).tolist())
    assert got == expected


@both
def test_dl_13_a_users_generator_is_advanced_by_two_permutations(loader_class: Loader, workers: int) -> None:
    generator, twin = seeded(5), seeded(5)
    loader = loader_class(Numbers(SIZE), batch_size=3, shuffle=True, generator=generator, num_workers=workers)
    for _ in range(2):
        got = flat(loader)
        draw(twin)
        assert got == torch.randperm(SIZE, generator=twin).tolist()
        torch.randperm(SIZE, generator=twin)
        assert torch.equal(generator.get_state(), twin.get_state())


def test_dl_13_an_epoch_cut_short_draws_one_permutation(loader_class: Loader) -> None:
    generator, twin = seeded(5), seeded(5)
    iterator = iter(loader_class(Numbers(SIZE), batch_size=3, shuffle=True, generator=generator))
    draw(twin)
    assert torch.equal(generator.get_state(), twin.get_state())
    for _ in range(3):
        next(iterator)
    torch.randperm(SIZE, generator=twin)
    assert torch.equal(generator.get_state(), twin.get_state())
    # The last batch is short: the sampler is asked once more to fill it, and draws its empty slice.
    next(iterator)
    torch.randperm(SIZE, generator=twin)
    assert torch.equal(generator.get_state(), twin.get_state())


@both
@pytest.mark.parametrize("count", [5, 32, 40, 70])
def test_dl_13_with_replacement(loader_class: Loader, count: int, workers: int) -> None:
    generator, twin = seeded(9), seeded(9)
    sampler = RandomSampler(range(SIZE), replacement=True, num_samples=count, generator=generator)
    loader = loader_class(Numbers(SIZE), sampler=sampler, batch_size=4, generator=generator, num_workers=workers)
    got = flat(loader)
    draw(twin)
    expected = []
    for size in (*[32] * (count // 32), count % 32):
        expected += torch.randint(SIZE, (size,), dtype=torch.int64, generator=twin).tolist()
    assert got == expected
    assert torch.equal(generator.get_state(), twin.get_state())


@both
@pytest.mark.parametrize("count", [4, 11, 22, 25])
def test_dl_13_more_samples_than_there_are(loader_class: Loader, count: int, workers: int) -> None:
    generator, twin = seeded(9), seeded(9)
    sampler = RandomSampler(range(SIZE), num_samples=count, generator=generator)
    loader = loader_class(Numbers(SIZE), sampler=sampler, batch_size=4, generator=generator, num_workers=workers)
    got = flat(loader)
    draw(twin)
    orders = [torch.randperm(SIZE, generator=twin).tolist() for _ in range(count // SIZE + 1)]
    assert got == [index for order in orders for index in order][:count]
    assert torch.equal(generator.get_state(), twin.get_state())


@both
@pytest.mark.parametrize(("shuffle", "draws"), [(False, 1), (True, 2)])
def test_dl_14_draws_from_the_global_generator(loader_class: Loader, workers: int, shuffle: bool, draws: int) -> None:
    torch.manual_seed(3)
    loader = loader_class(Numbers(SIZE), shuffle=shuffle, num_workers=workers)
    assert torch.equal(torch.get_rng_state(), state_after(3, 0))
    iterator = iter(loader)
    # With workers the first keys are drawn at once.
    assert torch.equal(torch.get_rng_state(), state_after(3, 1 if workers == 0 else draws))
    assert iterator._base_seed == draw(seeded(3))
    flat(iterator)
    assert torch.equal(torch.get_rng_state(), state_after(3, draws))
    flat(loader)
    assert torch.equal(torch.get_rng_state(), state_after(3, 2 * draws))


@both
@pytest.mark.parametrize("shuffle", [False, True])
def test_dl_14_with_a_users_generator_the_global_one_rests(loader_class: Loader, workers: int, shuffle: bool) -> None:
    generator, twin = seeded(3), seeded(3)
    before = torch.get_rng_state()
    iterator = iter(loader_class(Numbers(SIZE), shuffle=shuffle, generator=generator, num_workers=workers))
    assert iterator._base_seed == draw(twin)
    got = flat(iterator)
    assert got == (torch.randperm(SIZE, generator=twin).tolist() if shuffle else list(range(SIZE)))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("workers", "place"), [(0, 1), (2, 1)])
def test_dl_14_a_sampler_that_draws_in_iter_comes_before_the_base_seed(
    loader_class: Loader, workers: int, place: int
) -> None:
    class Eager:
        drawn: list[int] = []  # noqa: RUF012

        def __iter__(self) -> Iterator[int]:
            self.drawn.append(draw())
            return iter(range(3))

    sampler = Eager()
    sampler.drawn = []
    torch.manual_seed(3)
    iterator = iter(loader_class(Numbers(3), batch_size=None, sampler=sampler, num_workers=workers))
    twin = seeded(3)
    expected = [draw(twin) for _ in range(3)]
    assert iterator._base_seed == expected[place]
    # With workers it is iterated again by the reset, after the base seed.
    assert sampler.drawn == ([expected[0]] if workers == 0 else [expected[0], expected[2]])


def test_dl_14_the_permutation_is_drawn_with_the_first_key(loader_class: Loader) -> None:
    torch.manual_seed(3)
    iterator = iter(loader_class(Numbers(SIZE), shuffle=True))
    torch.manual_seed(8)
    assert flat(iterator) == torch.randperm(SIZE, generator=seeded(draw(seeded(8)))).tolist()


@pytest.mark.parametrize(("shuffle", "draws"), [(False, [1, 0, 0]), (True, [2, 1, 1])])
def test_dl_15_persistent_workers_keep_their_base_seed(loader_class: Loader, shuffle: bool, draws: list[int]) -> None:
    torch.manual_seed(3)
    loader = loader_class(Numbers(4), shuffle=shuffle, num_workers=2, persistent_workers=True)
    total, seeds = 0, set()
    for count in draws:
        iterator = iter(loader)
        seeds.add(iterator._base_seed)
        flat(iterator)
        total += count
        assert torch.equal(torch.get_rng_state(), state_after(3, total))
    assert len(seeds) == 1


def random_number(_: int) -> tuple[int | None, float]:
    return worker_id(), torch.rand(()).item()


def test_dl_15_persistent_workers_go_on_with_their_streams(loader_class: Loader) -> None:
    loader = loader_class(Call(random_number, 4), batch_size=None, num_workers=2, persistent_workers=True)
    epochs = [list(loader) for _ in range(3)]
    seed = loader._iterator._base_seed
    streams = [seeded(seed + worker) for worker in range(2)]
    expected = [[[i % 2, torch.rand((), generator=streams[i % 2]).item()] for i in range(4)] for _ in range(3)]
    assert epochs == expected


@pytest.mark.parametrize("own_generator", [False, True])
def test_dl_16_the_number_of_workers_does_not_change_the_batches(loader_class: Loader, own_generator: bool) -> None:
    got = []
    for workers in (0, 1, 2):
        torch.manual_seed(6)
        generator = seeded(4) if own_generator else None
        loader = loader_class(Numbers(23), batch_size=4, shuffle=True, generator=generator, num_workers=workers)
        got.append([values(loader), values(loader)])
    assert got[0] == got[1] == got[2]
    assert got[0][0] != got[0][1]


def test_dl_16_the_order_is_torchs(loader_class: Loader) -> None:
    got = []
    for kind in (torch.utils.data.DataLoader, loader_class):
        torch.manual_seed(6)
        got.append(values(kind(Numbers(23), batch_size=4, shuffle=True, num_workers=1)))
    assert got[0] == got[1]
