"""Transforms of pictures, by the names and arguments of ``torchvision.transforms.v2``.

A dataset takes a :class:`Compose`, and its engine carries it out while a batch is put together: it decodes only the part of
a picture that is needed, and writes the result once. Each transform, and a :class:`Compose`, is a plain callable too::

    crop = transforms.RandomResizedCrop(224)
    crop(picture)           # a numpy uint8 array [H, W] or [H, W, 3], a PIL image (L, RGB) or a torch uint8 tensor [C, H, W]
    crop(picture, key=7)    # the same crop every time

What comes out is of the kind that went in. Pixels are Pillow's, to the last bit, where a docstring says nothing else; that
is the reference pipeline of ImageNet (torchvision on PIL images).

Draws come from ``key`` (0 to 2**64 - 1) and the transform's place in its :class:`Compose`. Without one, the key is drawn from
torch's generator where torch is imported, else from numpy's.

Wrong arguments raise :class:`zenith.InvalidArgumentError` (a ``ValueError``) that names the argument and what it may be.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from zenith import _engine

__all__ = [
    "AutoAugment",
    "CenterCrop",
    "ColorJitter",
    "Compose",
    "CutMix",
    "GaussianBlur",
    "MixUp",
    "Normalize",
    "Pad",
    "RandAugment",
    "RandomCrop",
    "RandomErasing",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomResizedCrop",
    "RandomVerticalFlip",
    "Resize",
    "ToDtype",
    "Transform",
    "TrivialAugmentWide",
    "batch_key",
]


@dataclass(frozen=True)
class Transform:
    """Base of all that work on one picture: immutable, compared by arguments."""

    def __post_init__(self) -> None:
        # The engine knows what arguments may be; it is asked at once, so that a mistake shows where it is made.
        _engine.check_transforms(json.dumps({"transforms": [self.describe()]}))

    def __call__(self, picture: Any, key: int | None = None) -> Any:
        """The transformed picture, of the kind that was given.

        Args:
            picture: a numpy uint8 array [H, W], [H, W, 1] or [H, W, 3], a PIL image of mode L or RGB, or a torch uint8 tensor
                [1, H, W] or [3, H, W].
            key: what random draws come from; by default a new one.

        Raises:
            TypeError: a picture of another kind, dtype or shape.
            ValueError: the picture is too small for the transform.
        """
        return _apply(self._description(), picture, key)

    def describe(self) -> dict[str, Any]:
        """The name and the arguments, as the engine reads them."""
        arguments = {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}
        return {"name": type(self).__name__, **arguments}

    def to_json(self) -> str:
        """A pipeline of this transform alone, as the engine reads it."""
        return self._description()

    def _description(self) -> str:
        return json.dumps({"transforms": [self.describe()]})


@dataclass(frozen=True)
class Resize(Transform):
    """Resizes as ``PIL.Image.resize`` does, antialiased.

    Args:
        size: (height, width), or one number for the shorter side (the longer follows in proportion), or None with
            ``max_size`` for the longer side.
        interpolation: ``"bilinear"``, ``"bicubic"``, ``"nearest"``, ``"lanczos"``, ``"box"`` or ``"hamming"``; torchvision's
            ``InterpolationMode`` is taken too.
        max_size: bound of the longer side where ``size`` is one number.
        antialias: True; there is no other way here.
    """

    size: int | Sequence[int] | None
    interpolation: Any = "bilinear"
    max_size: int | None = None
    antialias: bool = True

    def describe(self) -> dict[str, Any]:
        return _antialiased(super().describe())


@dataclass(frozen=True)
class CenterCrop(Transform):
    """The middle; a smaller picture is padded with 0.

    Args:
        size: (height, width), or one number for both.
    """

    size: int | Sequence[int]


@dataclass(frozen=True)
class RandomCrop(Transform):
    """A part of the given size at a random place.

    Args:
        size: (height, width), or one number for both.
        padding: pixels around the picture: one number, (left and right, top and bottom) or (left, top, right, bottom).
        pad_if_needed: pads smaller pictures; otherwise they are an error.
        fill: levels of the padding, 0 to 255: one number or one for each channel.
        padding_mode: ``"constant"``, ``"edge"``, ``"reflect"`` or ``"symmetric"``, as ``numpy.pad``.
    """

    size: int | Sequence[int]
    padding: int | Sequence[int] | None = None
    pad_if_needed: bool = False
    fill: float | Sequence[float] = 0
    padding_mode: str = "constant"

    def describe(self) -> dict[str, Any]:
        return _sides(super().describe())


@dataclass(frozen=True)
class RandomResizedCrop(Transform):
    """A part of random area and proportions, resized as ``PIL.Image.resize`` does (Szegedy et al., 2014).

    Args:
        size: (height, width), or one number for both.
        scale: share of the area, (min, max).
        ratio: width ÷ height, (min, max), uniform in its logarithm.
        interpolation: as in :class:`Resize`.
        antialias: True; there is no other way here.
    """

    size: int | Sequence[int]
    scale: Sequence[float] = (0.08, 1.0)
    ratio: Sequence[float] = (3.0 / 4.0, 4.0 / 3.0)
    interpolation: Any = "bilinear"
    antialias: bool = True

    def describe(self) -> dict[str, Any]:
        return _antialiased(super().describe())


@dataclass(frozen=True)
class RandomHorizontalFlip(Transform):
    """Exchanges left and right with probability ``p``."""

    p: float = 0.5


@dataclass(frozen=True)
class RandomVerticalFlip(Transform):
    """Exchanges top and bottom with probability ``p``."""

    p: float = 0.5


@dataclass(frozen=True)
class Pad(Transform):
    """Lays pixels around a picture.

    Args:
        padding: one number, (left and right, top and bottom) or (left, top, right, bottom), not negative.
        fill: levels of the padding, 0 to 255: one number or one for each channel.
        padding_mode: ``"constant"``, ``"edge"``, ``"reflect"`` or ``"symmetric"``, as ``numpy.pad``.
    """

    padding: int | Sequence[int]
    fill: float | Sequence[float] = 0
    padding_mode: str = "constant"

    def describe(self) -> dict[str, Any]:
        return _sides(super().describe())


@dataclass(frozen=True)
class ColorJitter(Transform):
    """Changes brightness, contrast, saturation and hue, in random order.

    Pixels are those of ``PIL.ImageEnhance`` and, for the hue, of Pillow's 8-bit HSV: torchvision on PIL images, whose results
    differ by a few levels from its results on tensors.

    Args:
        brightness, contrast, saturation: factors, (min, max), not negative; or one number for
            (max(0, 1 - it), 1 + it). None or 0 changes nothing.
        hue: turns of the circle, (min, max) within -0.5 to 0.5, or one number for (-it, it).
    """

    brightness: float | Sequence[float] | None = None
    contrast: float | Sequence[float] | None = None
    saturation: float | Sequence[float] | None = None
    hue: float | Sequence[float] | None = None


@dataclass(frozen=True)
class RandomGrayscale(Transform):
    """To greys (ITU-R 601-2, as ``PIL.Image.convert``) in as many channels, with probability ``p``."""

    p: float = 0.1


@dataclass(frozen=True)
class GaussianBlur(Transform):
    """Blurs as torchvision does, within one level: it sums in another order.

    Args:
        kernel_size: odd numbers of pixels, (width, height), or one for both.
        sigma: standard deviation in pixels, (min, max), or one number.
    """

    kernel_size: int | Sequence[int]
    sigma: float | Sequence[float] = (0.1, 2.0)


@dataclass(frozen=True)
class RandomErasing(Transform):
    """Writes over a random rectangle (Zhong et al., 2017).

    Before :class:`ToDtype` it writes levels; behind :class:`Normalize` it writes numbers as they are delivered.

    Args:
        p: probability.
        scale: share of the area, (min, max).
        ratio: height ÷ width, (min, max), uniform in its logarithm.
        value: what is written: one number, one for each channel, or ``"random"`` for normal numbers (floats only).
        inplace: taken because torchvision has it; the given picture is never changed.
    """

    p: float = 0.5
    scale: Sequence[float] = (0.02, 0.33)
    ratio: Sequence[float] = (0.3, 3.3)
    value: float | Sequence[float] | str = 0.0
    inplace: bool = False

    def describe(self) -> dict[str, Any]:
        return _without(super().describe(), "inplace")


@dataclass(frozen=True)
class AutoAugment(Transform):
    """One of 25 pairs of operations found by a search (Cubuk et al., 2018).

    Args:
        policy: ``"imagenet"``, ``"cifar10"`` or ``"svhn"``; torchvision's ``AutoAugmentPolicy`` is taken too.
        interpolation: of shifts, shears and rotations: ``"nearest"`` or ``"bilinear"``.
        fill: levels outside of the picture, 0 to 255: one number, one for each channel, or None for 0.
    """

    policy: Any = "imagenet"
    interpolation: Any = "nearest"
    fill: float | Sequence[float] | None = None

    def describe(self) -> dict[str, Any]:
        return _filled(super().describe())


@dataclass(frozen=True)
class RandAugment(Transform):
    """``num_ops`` of 14 operations, each at one strength (Cubuk et al., 2019).

    Args:
        num_ops: how many, not negative.
        magnitude: the strength, below ``num_magnitude_bins``.
        num_magnitude_bins: how many strengths there are.
        interpolation, fill: as in :class:`AutoAugment`.
    """

    num_ops: int = 2
    magnitude: int = 9
    num_magnitude_bins: int = 31
    interpolation: Any = "nearest"
    fill: float | Sequence[float] | None = None

    def describe(self) -> dict[str, Any]:
        return _filled(super().describe())


@dataclass(frozen=True)
class TrivialAugmentWide(Transform):
    """One of 14 operations at any strength (Müller and Hutter, 2021).

    Args:
        num_magnitude_bins: how many strengths there are.
        interpolation, fill: as in :class:`AutoAugment`.
    """

    num_magnitude_bins: int = 31
    interpolation: Any = "nearest"
    fill: float | Sequence[float] | None = None

    def describe(self) -> dict[str, Any]:
        return _filled(super().describe())


@dataclass(frozen=True)
class ToDtype(Transform):
    """From levels to another dtype; equal to torchvision on tensors.

    Args:
        dtype: ``"uint8"``, ``"float32"``, ``"float16"`` or ``"bfloat16"``, or torch's or numpy's dtype of that name. A numpy
            result cannot be of bfloat16.
        scale: from 0..255 to 0..1, where the new dtype is one of floats.
    """

    dtype: Any
    scale: bool = False

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "dtype": _dtype_name(self.dtype)}


@dataclass(frozen=True)
class Normalize(Transform):
    """(value - mean) ÷ std, by channel; equal to torchvision on tensors.

    In a :class:`Compose` it stands behind :class:`ToDtype`. By itself it takes arrays and tensors of floats.

    Args:
        mean, std: one number or one for each channel; ``std`` is not 0.
        inplace: taken because torchvision has it; the given picture is never changed.
    """

    mean: float | Sequence[float]
    std: float | Sequence[float]
    inplace: bool = False

    def describe(self) -> dict[str, Any]:
        return _without(super().describe(), "inplace")

    def __call__(self, picture: Any, key: int | None = None) -> Any:
        del key
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(picture, torch.Tensor):
            if not picture.is_floating_point():
                raise TypeError(
                    f"Normalize takes floats, got {picture.dtype}; ToDtype(torch.float32, scale=True) makes them"
                )
            mean, std = (torch.as_tensor(value, dtype=picture.dtype) for value in (self.mean, self.std))
            return (picture - mean.reshape(-1, 1, 1)) / std.reshape(-1, 1, 1)
        array = np.asarray(picture)
        if array.dtype.kind != "f":
            raise TypeError(f"Normalize takes floats, got {array.dtype}; ToDtype('float32', scale=True) makes them")
        mean, std = (np.asarray(value, array.dtype) for value in (self.mean, self.std))
        return (array - mean) / std


@dataclass(frozen=True)
class Compose(Transform):
    """Transforms one after another, and how a dataset's pictures are decoded and delivered.

    Geometry is put off and done at once, so that a picture is read no more than is needed and resampled once where that
    gives the same pixels; the result is that of the transforms one by one.

    Args:
        transforms: in their order. Those that make floats come last: ToDtype, Normalize, RandomErasing.
        decode: ``"exact"``, or ``"fast"``: JPEGs at a half, a quarter or an eighth, where the picture stays at least as large
            as what is made of it.
        mode: ``"RGB"`` or ``"L"``, what a dataset's pictures are converted to.
        layout: ``"NCHW"`` or ``"NHWC"``, how they lie in a batch. The results of a call lie as what was given.
        exif: turn a dataset's pictures as their EXIF orientation says.
    """

    transforms: Sequence[Transform]
    decode: Literal["exact", "fast"] = "exact"
    mode: Literal["RGB", "L"] = "RGB"
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    exif: bool = False

    def __post_init__(self) -> None:
        transforms: list[Transform] = []
        for transform in self.transforms:
            if isinstance(transform, Compose):
                transforms += transform.transforms
            elif isinstance(transform, Transform):
                transforms.append(transform)
            else:
                raise TypeError(
                    f"Compose takes transforms of zenith.transforms, got {transform!r}; put other callables around it"
                )
        object.__setattr__(self, "transforms", tuple(transforms))
        _engine.Transforms(self.to_json())

    def describe(self) -> dict[str, Any]:
        transforms = [transform.describe() for transform in self.transforms]
        return {
            **{field.name: getattr(self, field.name) for field in dataclasses.fields(self)},
            "transforms": transforms,
        }

    def _description(self) -> str:
        return json.dumps(self.describe())

    @property
    def output(self) -> tuple[str, tuple[int, ...]]:
        """The dtype and the shape of every picture of a dataset.

        Raises:
            ValueError: they depend on the picture.
        """
        dtype, shape = _compiled(self.to_json()).output
        return dtype, tuple(shape)


class _Mix:
    """What MixUp and CutMix share."""

    def __init__(self, *, alpha: float = 1.0, num_classes: int | None = None) -> None:
        _engine.draw_mix_up(float(alpha), 0)
        if num_classes is not None and num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {num_classes}")
        self.alpha = float(alpha)
        self.num_classes = num_classes

    def __repr__(self) -> str:
        return f"{type(self).__name__}(alpha={self.alpha}, num_classes={self.num_classes})"

    def _check(self, images: Any, labels: Any) -> None:
        name = type(self).__name__
        if images.ndim != 4 or len(images) == 0:
            raise ValueError(f"{name} takes a batch [N, C, H, W] with samples, got shape {tuple(images.shape)}")
        if labels.ndim not in (1, 2) or len(labels) != len(images):
            raise ValueError(
                f"{name} takes labels [N] or [N, classes] for N = {len(images)} pictures, got shape {tuple(labels.shape)}"
            )
        if labels.ndim == 1 and self.num_classes is None:
            raise ValueError(f"{name} needs num_classes where labels are numbers of classes")
        if labels.ndim == 2 and self.num_classes not in (None, labels.shape[1]):
            raise ValueError(f"num_classes is {self.num_classes}, but the labels have {labels.shape[1]}; leave it out")

    def _labels(self, labels: Any, own: float) -> Any:
        """As shares of classes, float32 where they were numbers of classes."""
        if labels.ndim == 1:
            classes = self.num_classes
            if isinstance(labels, np.ndarray):
                labels = np.eye(classes or 1, dtype=np.float32)[labels]
            else:
                labels = sys.modules["torch"].nn.functional.one_hot(labels, classes).float()
        elif isinstance(labels, np.ndarray):
            labels = labels if labels.dtype.kind == "f" else labels.astype(np.float32)
        else:
            labels = labels if labels.is_floating_point() else labels.float()
        return _before(labels) * (1.0 - own) + labels * own


class MixUp(_Mix):
    """Mixes each picture of a batch, and its label, with the one before it (Zhang et al., 2017); as torchvision's.

    Args:
        alpha: the share of a picture's own is drawn from Beta(alpha, alpha).
        num_classes: needed where labels are numbers of classes.
    """

    def __call__(self, images: Any, labels: Any, key: int | None = None) -> tuple[Any, Any]:
        """The mixed batch.

        Args:
            images: floats [N, C, H, W] or [N, H, W, C], numpy or torch.
            labels: [N] numbers of classes, or [N, classes] shares.
            key: what the share is drawn from; :func:`batch_key` makes one of seed, epoch and number of the batch.

        Returns:
            images of the same dtype and shape, and shares of classes [N, classes].

        Raises:
            ValueError: shapes that do not go together.
            TypeError: images that are not floats.
        """
        self._check(images, labels)
        if not (images.dtype.kind == "f" if isinstance(images, np.ndarray) else images.is_floating_point()):
            raise TypeError(f"MixUp takes pictures of floats, got {images.dtype}; put ToDtype before it")
        own = _engine.draw_mix_up(self.alpha, _new_key() if key is None else key)
        return _before(images) * (1.0 - own) + images * own, self._labels(labels, own)


class CutMix(_Mix):
    """Takes a rectangle of each picture, and as much of its label, from the one before it (Yun et al., 2019); as torchvision's.

    Args:
        alpha: the area is drawn from Beta(alpha, alpha).
        num_classes: needed where labels are numbers of classes.
        layout: how batches lie.
    """

    def __init__(
        self, *, alpha: float = 1.0, num_classes: int | None = None, layout: Literal["NCHW", "NHWC"] = "NCHW"
    ) -> None:
        super().__init__(alpha=alpha, num_classes=num_classes)
        if layout not in ("NCHW", "NHWC"):
            raise ValueError(f'layout must be "NCHW" or "NHWC", got {layout!r}')
        self.layout = layout

    def __call__(self, images: Any, labels: Any, key: int | None = None) -> tuple[Any, Any]:
        """As :meth:`MixUp.__call__`; images may be of any dtype."""
        self._check(images, labels)
        height, width = images.shape[2:] if self.layout == "NCHW" else images.shape[1:3]
        (x, y, across, down), own = _engine.draw_cut_mix(self.alpha, height, width, _new_key() if key is None else key)
        part: Any = (slice(y, y + down), slice(x, x + across))
        part = (..., *part) if self.layout == "NCHW" else (slice(None), *part)
        mixed = images.copy() if isinstance(images, np.ndarray) else images.clone()
        mixed[part] = _before(images)[part]
        return mixed, self._labels(labels, own)


def batch_key(seed: int, epoch: int, batch: int) -> int:
    """The key of a batch, for :class:`MixUp` and :class:`CutMix`: the same for any number of workers or ranks."""
    return _engine.batch_key(seed, epoch, batch)


def _before(batch: Any) -> Any:
    """Each sample replaced by the one before it."""
    return np.roll(batch, 1, axis=0) if isinstance(batch, np.ndarray) else batch.roll(1, 0)


def _plain(value: Any) -> Any:
    """An argument as JSON has it."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(item) for item in value]
    if isinstance(value, (np.integer, np.floating)):
        return value.item()
    return value.value if isinstance(getattr(value, "value", None), str) else value


def _without(description: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in description.items() if key != name}


def _antialiased(description: dict[str, Any]) -> dict[str, Any]:
    if description["antialias"] is not True:
        raise ValueError(f"{description['name']}: antialias must be True, got {description['antialias']!r}")
    if isinstance(description["size"], list) and len(description["size"]) == 1:
        description["size"] = description["size"][0]
    return _without(description, "antialias")


def _sides(description: dict[str, Any]) -> dict[str, Any]:
    if isinstance(description["padding"], list) and len(description["padding"]) == 1:
        description["padding"] = description["padding"][0]
    return description


def _filled(description: dict[str, Any]) -> dict[str, Any]:
    return {**description, "fill": 0} if description["fill"] is None else description


def _dtype_name(dtype: Any) -> str:
    text = str(dtype)
    return text.removeprefix("torch.") if isinstance(dtype, str) or text.startswith("torch.") else np.dtype(dtype).name


def _new_key() -> int:
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.randint(0, 2**63 - 1, (), dtype=torch.int64))
    return int(np.random.randint(0, 2**63 - 1, dtype=np.int64))


@functools.lru_cache(maxsize=256)
def _compiled(description: str) -> _engine.Transforms:
    return _engine.Transforms(description)


@functools.lru_cache(maxsize=256)
def _for_call(description: str, channels: int, layout: str) -> _engine.Transforms:
    """The same for a picture of so many channels whose result lies as it does."""
    return _compiled(json.dumps({**json.loads(description), "mode": "RGB" if channels == 3 else "L", "layout": layout}))


def _apply(description: str, picture: Any, key: int | None) -> Any:
    key = _new_key() if key is None else key
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(picture, torch.Tensor):
        if picture.dtype != torch.uint8 or picture.ndim != 3 or picture.shape[0] not in (1, 3):
            raise TypeError(f"expected a uint8 tensor [1 or 3, H, W], got {picture.dtype} {tuple(picture.shape)}")
        array = picture.permute(1, 2, 0).contiguous().cpu().numpy()
        data, dtype, shape = _run(description, array, "NCHW", key)
        return torch.frombuffer(data, dtype=getattr(torch, dtype)).reshape(shape)
    image = sys.modules.get("PIL.Image")
    if image is not None and isinstance(picture, image.Image):
        if picture.mode not in ("L", "RGB"):
            raise TypeError(
                f'expected a picture of mode "L" or "RGB", got {picture.mode!r}; picture.convert("RGB") makes one'
            )
        made = _from_array(description, np.asarray(picture), key)
        if made.dtype != np.uint8:
            raise TypeError(f"a PIL image cannot hold {made.dtype}; give a numpy array or a tensor")
        return image.fromarray(made)
    return _from_array(description, np.asarray(picture), key)


def _from_array(description: str, array: np.ndarray[Any, Any], key: int) -> np.ndarray[Any, Any]:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        raise TypeError(f"expected a uint8 array [H, W], [H, W, 1] or [H, W, 3], got {array.dtype} {array.shape}")
    data, dtype, shape = _run(description, array, "NHWC", key)
    if dtype == "bfloat16":
        raise TypeError("numpy has no bfloat16; give a torch tensor, or make float32")
    made: np.ndarray[Any, Any] = np.frombuffer(data, dtype=dtype).reshape(shape)
    return made[:, :, 0] if array.ndim == 2 else made


def _run(description: str, array: np.ndarray[Any, Any], layout: str, key: int) -> tuple[bytearray, str, list[int]]:
    channels = array.shape[2] if array.ndim == 3 else 1
    transforms = _for_call(description, channels, layout)
    return transforms.apply_pixels(array.tobytes(), array.shape[0], array.shape[1], key)
