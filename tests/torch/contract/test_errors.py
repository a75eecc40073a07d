"""DL-35 to DL-37: errors from datasets, with and without workers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from contract_support import Call, error_of, identity

Loader = type[torch.utils.data.DataLoader]


class TwoArgumentsError(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(one, two)


class MessageError(Exception):
    message = "a default"

    def __init__(self, *, message: str) -> None:
        super().__init__(message)
        self.message = message


class EmptyMessageError(Exception):
    message = ""


def fail(index: int) -> None:
    raise ValueError(f"sample {index}")


def fail_at_two(index: int) -> int:
    if index == 2:
        raise ValueError("sample 2")
    return index


def fail_key(_: int) -> None:
    raise KeyError("no\nsuch key")


def fail_with_two(_: int) -> None:
    raise TwoArgumentsError(1, 2)


def fail_with_message(_: int) -> None:
    raise MessageError(message="sample")


def fail_with_empty_message(_: int) -> None:
    raise EmptyMessageError("sample")


def fail_to_decode(_: int) -> str:
    return b"\xff".decode()


def fail_with_a_cause(_: int) -> None:
    try:
        {}["inner"]
    except KeyError as error:
        raise OSError("outer") from error


def stop_at_two(index: int) -> int:
    if index == 2:
        raise StopIteration("sample 2")
    return index


def caught(name: str) -> str:
    return f"Caught {name} in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n"


def first_error(loader_class: Loader, function: Any) -> Exception:
    return error_of(next, iter(loader_class(Call(function, 1), num_workers=1)))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("size", "batch"), [(7, 2), (4, 1)])
def test_dl_35_every_batch_has_its_error(loader_class: Loader, workers: int, size: int, batch: int) -> None:
    iterator = iter(loader_class(Call(fail, size), batch_size=batch, num_workers=workers))
    errors = 0
    while True:
        try:
            next(iterator)
        except StopIteration:
            break
        except ValueError as error:
            assert f"sample {errors * batch}" in str(error)  # noqa: PT017
            errors += 1
    assert errors == -(-size // batch)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_dl_35_the_next_batch_comes_after_an_error(loader_class: Loader, workers: int) -> None:
    iterator = iter(loader_class(Call(fail_at_two, 5), batch_size=1, num_workers=workers))
    assert [next(iterator).item() for _ in range(2)] == [0, 1]
    assert "sample 2" in str(error_of(next, iterator))
    assert [batch.item() for batch in iterator] == [3, 4]


def test_dl_35_without_workers_the_exception_is_the_datasets_own(loader_class: Loader) -> None:
    own = TwoArgumentsError(1, 2)

    def fail_with_own(_: int) -> None:
        raise own

    assert error_of(next, iter(loader_class(Call(fail_with_own, 1)))) is own


@pytest.mark.parametrize("workers", [0, 1])
def test_dl_35_an_error_of_collate_is_treated_the_same(loader_class: Loader, workers: int) -> None:
    iterator = iter(loader_class(Call(identity, 4), batch_size=2, collate_fn=fail, num_workers=workers))
    assert "sample [0, 1]" in str(error_of(next, iterator))
    assert "sample [2, 3]" in str(error_of(next, iterator))
    assert isinstance(error_of(next, iterator), StopIteration)


def test_dl_36_the_class_stays_and_the_text_has_the_traceback(loader_class: Loader) -> None:
    error = first_error(loader_class, fail)
    assert type(error) is ValueError
    text = str(error)
    assert text.startswith(caught("ValueError"))
    assert ', in fail\n    raise ValueError(f"sample {index}")\n' in text
    assert text.endswith("ValueError: sample 0\n")
    assert error.args == (text,)
    assert error.__cause__ is None


def test_dl_36_the_worker_is_named_by_its_number(loader_class: Loader) -> None:
    iterator = iter(loader_class(Call(fail, 3), num_workers=3))
    for worker in range(3):
        assert str(error_of(next, iterator)).startswith(f"Caught ValueError in DataLoader worker process {worker}.\n")


def test_dl_36_causes_are_in_the_text(loader_class: Loader) -> None:
    error = first_error(loader_class, fail_with_a_cause)
    assert type(error) is OSError
    assert "KeyError: 'inner'" in str(error)
    assert "The above exception was the direct cause of the following exception" in str(error)


def test_dl_36_a_key_error_stays_readable(loader_class: Loader) -> None:
    error = first_error(loader_class, fail_key)
    assert type(error) is KeyError
    assert str(error).startswith(caught("KeyError"))
    assert type(error.args[0]).__name__ == "KeyErrorMessage"
    assert repr(error.args[0]) == error.args[0]


def test_dl_36_a_class_with_a_message_gets_it_by_name(loader_class: Loader) -> None:
    error = first_error(loader_class, fail_with_message)
    assert isinstance(error, MessageError)
    assert error.message.startswith(caught("MessageError"))
    error = first_error(loader_class, fail_with_empty_message)
    assert type(error) is EmptyMessageError
    assert str(error).startswith(caught("EmptyMessageError"))


@pytest.mark.parametrize(
    ("function", "name"), [(fail_with_two, "TwoArgumentsError"), (fail_to_decode, "UnicodeDecodeError")]
)
def test_dl_36_a_class_that_needs_more_than_a_text_becomes_a_runtime_error(
    loader_class: Loader, function: Any, name: str
) -> None:
    error = first_error(loader_class, function)
    assert type(error) is RuntimeError
    assert str(error).startswith(caught(name))
    assert error.__cause__ is None
    assert error.__suppress_context__


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_dl_37_a_stop_iteration_ends_the_loop_silently(loader_class: Loader, workers: int) -> None:
    iterator = iter(loader_class(Call(stop_at_two, 5), batch_size=None, num_workers=workers))
    assert [next(iterator) for _ in range(2)] == [0, 1]
    error = error_of(next, iterator)
    assert type(error) is StopIteration
    if workers:
        assert str(error).startswith(caught("StopIteration"))
    else:
        assert error.args == ("sample 2",)
    # Whoever asks again gets what follows.
    assert list(iterator) == [3, 4]


def test_dl_37_in_a_for_loop(loader_class: Loader) -> None:
    for workers in (0, 1):
        got = []
        iterator = iter(loader_class(Call(stop_at_two, 5), batch_size=None, num_workers=workers))
        for value in iterator:
            got.append(value)
        assert got == [0, 1]
        if workers:
            # The error that ended the loop still holds the iterator.
            iterator._shutdown_workers()
