"""What the model sees: a batch of images as one picture, for people to look at."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_CHANNELS = (1, 3, 4)
_LABEL_HEIGHT = 12
_GAP = 2


def show(
    batch: Any,
    path: str | os.PathLike[str] = "batch.png",
    *,
    field: str | int | None = None,
    labels: str | int | None = None,
    count: int = 64,
    columns: int = 8,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Path:
    """Saves the first images of a batch as a grid.

    Args:
        batch: a tensor of images, or a dict or sequence with one among its values. Images are ``[n, h, w, c]`` or
            ``[n, c, h, w]`` with 1, 3 or 4 channels, or ``[n, h, w]``; uint8, or of a floating dtype.
        path: where to; the suffix chooses the format (``.png``, ``.jpg``, whatever Pillow writes).
        field: key or index of the images in ``batch``; by default the first value that looks like images.
        labels: key or index of what is written under each image; by default the first other value of one number each, if
            there is one.
        count: images at most.
        columns: images in a row.
        mean, std: what the images were normalised with, per channel, in units of [0, 1]; without them floating images
            that leave [0, 1] are stretched from the least value of the batch to the greatest.

    Returns:
        The path.

    Raises:
        ValueError: there are no images in the batch, or an argument is out of range.
        ImportError: Pillow is not installed.
    """
    if count < 1 or columns < 1:
        raise ValueError(f"count and columns must be >= 1, got {count} and {columns}")
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise ImportError("zenith_torch.show() writes pictures with Pillow: pip install pillow") from error
    parts = _parts(batch)
    key, images = _images(parts, field)
    pixels = _bytes(images[:count].detach().cpu(), mean, std)
    texts = _texts(parts, key, labels, len(pixels))
    height, width = pixels.shape[1:3]
    cell_height = height + (_LABEL_HEIGHT if texts else 0) + _GAP
    rows = -(-len(pixels) // columns)
    size = (min(columns, len(pixels)) * (width + _GAP) + _GAP, rows * cell_height + _GAP)
    sheet = Image.new("RGB", size, "white")
    pen = ImageDraw.Draw(sheet)
    for number, image in enumerate(pixels):
        x = _GAP + number % columns * (width + _GAP)
        y = _GAP + number // columns * cell_height
        sheet.paste(Image.fromarray(image.numpy()), (x, y))
        if texts:
            pen.text((x, y + height), texts[number], fill="black")
    sheet.save(path)
    return Path(path)


def _parts(batch: Any) -> dict[Any, Any]:
    if isinstance(batch, Tensor):
        return {0: batch}
    if isinstance(batch, Mapping):
        return dict(batch)
    if isinstance(batch, Sequence) and not isinstance(batch, str):
        return dict(enumerate(batch))
    raise ValueError(f"a batch is a tensor, a dict or a sequence, got {type(batch).__name__}")


def _images(parts: dict[Any, Any], field: str | int | None) -> tuple[Any, Tensor]:
    """The images as [n, h, w, c], and under which key they are."""
    if field is not None:
        if field not in parts:
            raise ValueError(f"the batch has no {field!r}; it has {list(parts)}")
        images = _channels_last(parts[field])
        if images is None:
            raise ValueError(f"{field!r} holds no images: {_described(parts[field])}")
        return field, images
    for key, value in parts.items():
        images = _channels_last(value)
        if images is not None and len(images):
            return key, images
    found = ", ".join(f"{key!r}: {_described(value)}" for key, value in parts.items())
    raise ValueError(f"no images in the batch ({found}). They are [n, h, w, c], [n, c, h, w] or [n, h, w]")


def _described(value: Any) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def _channels_last(value: Any) -> Tensor | None:
    if not isinstance(value, Tensor) or not (value.dtype is torch.uint8 or value.is_floating_point()):
        return None
    if value.ndim == 3 and min(value.shape[1:]) > 1:
        return value[..., None]
    if value.ndim != 4:
        return None
    if value.shape[3] in _CHANNELS:
        return value
    return value.permute(0, 2, 3, 1) if value.shape[1] in _CHANNELS else None


def _bytes(images: Tensor, mean: Sequence[float] | None, std: Sequence[float] | None) -> Tensor:
    """As uint8 [n, h, w, 3]."""
    if images.is_floating_point():
        levels = images.float()
        if std is not None:
            levels = levels * torch.tensor(std)
        if mean is not None:
            levels = levels + torch.tensor(mean)
        elif std is None:
            least, greatest = levels.min(), levels.max()
            if least < 0 or greatest > 1:
                levels = (levels - least) / (greatest - least).clamp(min=1e-12)
        images = (levels * 255).round().clamp(0, 255).to(torch.uint8)
    if images.shape[3] == 4:
        images = images[..., :3]
    return images.expand(-1, -1, -1, 3).contiguous()


def _texts(parts: dict[Any, Any], key: Any, labels: str | int | None, count: int) -> list[str]:
    if labels is not None:
        if labels not in parts:
            raise ValueError(f"the batch has no {labels!r}; it has {list(parts)}")
        return [str(label) for label in _listed(parts[labels])[:count]]
    for other, value in parts.items():
        if other != key and isinstance(value, Tensor) and value.ndim == 1 and not value.is_floating_point():
            return [str(label) for label in value[:count].tolist()]
    return []


def _listed(values: Any) -> list[Any]:
    return values.tolist() if isinstance(values, Tensor) else list(values)
