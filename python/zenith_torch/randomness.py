"""Random states that an order may depend on: taken, put back, and written as text that JSON can hold."""

from __future__ import annotations

import base64
import random
import sys
from array import array

import torch
from zenith.errors import StateError


def draw(generator: torch.Generator | None = None) -> int:
    """One 64-bit draw, as torch makes it for ``base_seed`` and for the seed of a ``RandomSampler``."""
    return int(torch.empty((), dtype=torch.int64).random_(generator=generator).item())


def generator_state(generator: torch.Generator) -> str:
    """The state of a generator as base64 text (5,056 bytes before)."""
    return _text(generator.get_state().numpy().tobytes())


def set_generator_state(generator: torch.Generator, text: str) -> None:
    """Puts back what `generator_state` gave.

    Raises:
        zenith.StateError: the text is no state of such a generator.
    """
    try:
        generator.set_state(torch.frombuffer(bytearray(_bytes(text)), dtype=torch.uint8))
    except (RuntimeError, ValueError, TypeError) as error:
        raise StateError(f"the loader's state is damaged: not the state of a generator ({error})") from error


def copy_of(generator: torch.Generator | None) -> torch.Generator:
    """A generator that will draw the same as this one (``None``: torch's global one), which stays as it is."""
    source = torch.default_generator if generator is None else generator
    copy = torch.Generator(device=source.device)
    copy.set_state(source.get_state())
    return copy


def take_globals() -> dict[str, str]:
    """The states of the generators that belong to the process: torch's on the CPU, Python's, numpy's if it is loaded."""
    return {name: text for name in GLOBALS if (text := take_global(name)) is not None}


GLOBALS = ("torch", "python", "numpy")


def take_global(name: str) -> str | None:
    """One of them; ``None`` where there is none."""
    if name == "torch":
        return generator_state(torch.default_generator)
    if name == "python":
        _, words, gauss = random.getstate()
        return f"{_text(array('I', words).tobytes())} {gauss!r}"
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    state = numpy.random.get_state(legacy=False)
    # Another generator may have been put in numpy's place; its state has another shape, and is left alone.
    if state["bit_generator"] != "MT19937":
        return None
    key, place = state["state"]["key"], state["state"]["pos"]
    return f"{_text(key.tobytes())} {place} {state['has_gauss']} {float(state['gauss'])!r}"


def put_globals(states: dict[str, str]) -> None:
    """Puts back what `take_globals` gave, or a part of it.

    Raises:
        zenith.StateError: a text is no such state.
    """
    try:
        if "torch" in states:
            set_generator_state(torch.default_generator, states["torch"])
        if "python" in states:
            text, gauss = states["python"].split()
            random.setstate((3, tuple(array("I", _bytes(text))), None if gauss == "None" else float(gauss)))
        numpy = sys.modules.get("numpy")
        if "numpy" in states and numpy is not None:
            text, place, has_gauss, cached = states["numpy"].split()
            words = numpy.frombuffer(_bytes(text), dtype=numpy.uint32)
            numpy.random.set_state(("MT19937", words, int(place), int(has_gauss), float(cached)))
    except StateError:
        raise
    except (ValueError, TypeError) as error:
        raise StateError(f"the loader's state is damaged: not a random state ({error})") from error


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
