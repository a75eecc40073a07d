"""The gate of the rows `images-*`: every picture once per epoch, and what is delivered of each is what should be made of it.

What a central crop should be is torchvision's to say, on PIL images. Peers decode with faster transforms and resize with other
filters, so they are held to a wide bound, which the crop of another picture or a shifted one misses by far, and their distance
from the reference is written beside their figures. Random crops cannot be compared; their levels, colours and detail must be
those of the pictures that they are said to be of.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np

from benchmarks.loaders import photographs
from benchmarks.loaders.contender import Contender, Feed
from benchmarks.loaders.data import Files
from benchmarks.loaders.pictures import MEAN, SIDE, STD, WORKS, decode_whole, reference

DIFFERENCE_MAX = 5.0
"""Levels, the mean over one picture: more is a wrong picture. Peers were seen to have up to 3.8 (without antialias), a crop
one pixel off 6 to 12."""
EXACT_LEVELS, EXACT_LEVELS_MAX, EXACT_SHARE_MIN = 1, 3, 0.999
"""Ours, decoded whole: so large a share of all values within one level of the reference, none further off than three."""
LEVEL_MAX, LEVEL_MEAN_MAX, CORRELATION_MIN = 110.0, 25.0, 0.7
"""Of random crops: how far the mean level may be from the whole picture's, in one picture and in the mean over an epoch; and how
closely levels and colours must go with those of the whole pictures."""
DETAIL = (0.3, 1.5)
"""Of random crops: the mean step from row to row over an epoch, as a share of that of the whole pictures at the same size."""


class PictureError(Exception):
    """What a contender delivered is not what should be made of the pictures."""


@dataclasses.dataclass(frozen=True)
class Made:
    """What one epoch delivered: pictures uint8 [n, 224, 224, 3] and labels i64 [n], in the order of delivery."""

    pictures: np.ndarray
    labels: np.ndarray


def check_pictures(contender: Contender, feed: Feed, files: Files, epochs: int) -> dict[str, Any]:
    """Checks `epochs` whole epochs. Raises PictureError. For central crops the result has the distance from the reference."""
    work = WORKS[contender.work]
    paths = photographs.of(files).images(work.large)
    found: dict[str, Any] = {"samples": epochs * len(paths), "epochs": epochs, "whole": True}
    if contender.limit:
        for epoch in range(epochs):
            check_sizes(contender, feed, epoch, paths)
        return found
    taken = [take(contender, feed, epoch, len(paths)) for epoch in range(epochs)]
    for made in taken:
        if work.random:
            check_random(contender, made, paths)
        else:
            found |= check_central(contender, made, paths)
    if work.random:
        check_chance(contender, taken)
    return found


def take(contender: Contender, feed: Feed, epoch: int, count: int) -> Made:
    """One epoch. A batch is looked at once the next one has come, so that memory which is written again too soon is noticed."""
    pictures: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    for batch, _next in itertools.pairwise(itertools.chain(feed.epoch(epoch), [None])):
        pictures.append(to_levels(contender, batch[0]))
        labels.append(np.asarray(batch[1]).copy())
        if str(labels[-1].dtype) != "int64" or labels[-1].ndim != 1:
            raise PictureError(
                f"{contender.name}: labels are {labels[-1].dtype} {labels[-1].shape}, not one int64 for each picture"
            )
        if pictures[-1].shape[0] != len(labels[-1]) or len(labels[-1]) > WORKS[contender.work].batch_size:
            raise PictureError(
                f"{contender.name}: a batch of {len(pictures[-1])} pictures and {len(labels[-1])} labels, "
                f"of at most {WORKS[contender.work].batch_size} each"
            )
    made = Made(np.concatenate(pictures), np.concatenate(labels))
    check_labels(contender, made.labels, epoch, count)
    return made


def check_labels(contender: Contender, labels: np.ndarray, epoch: int, count: int) -> None:
    """Every label once."""
    seen = np.bincount(labels, minlength=count) if labels.min(initial=0) >= 0 else np.zeros(0, np.int64)
    if len(seen) != count:
        raise PictureError(f"{contender.name}: labels from {labels.min()} to {labels.max()}, of {count} pictures")
    if (seen != 1).any():
        raise PictureError(
            f"{contender.name}: epoch {epoch} has {int((seen == 0).sum())} of {count} pictures never and "
            f"{int((seen > 1).sum())} more than once, the first is {int((seen != 1).argmax())}"
        )


def to_levels(contender: Contender, x: Any) -> np.ndarray:
    """A batch's pictures as uint8 [b, 224, 224, 3], copied. Raises PictureError for another shape or dtype than the work's."""
    dtype = WORKS[contender.work].dtype
    planes = tuple(x.shape[1:]) == (3, SIDE, SIDE)
    rows = tuple(x.shape[1:]) == (SIDE, SIDE, 3)
    if str(x.dtype).removeprefix("torch.") != dtype or not (planes or (rows and dtype == "uint8")):
        raise PictureError(f"{contender.name}: pictures are {x.dtype} {tuple(x.shape)}, of the work {contender.work}")
    if dtype == "uint8":
        levels = np.asarray(x).copy()
        return levels.transpose(0, 2, 3, 1) if planes else levels
    numbers = x.float().numpy().transpose(0, 2, 3, 1)
    # Half a level of rounding is lost in bfloat16 at most, which none of the bounds below sees.
    return np.clip(np.rint((numbers * np.float32(STD) + np.float32(MEAN)) * 255), 0, 255).astype(np.uint8)


def check_sizes(contender: Contender, feed: Feed, epoch: int, paths: list[str]) -> None:
    """A limit yields the shapes [h, w, 3] of whole pictures."""
    from PIL import Image

    labels = []
    for shapes, of_batch in feed.epoch(epoch):
        for shape, label in zip(shapes, of_batch.tolist(), strict=True):
            labels.append(label)
            with Image.open(paths[label]) as image:
                if tuple(shape) != (image.height, image.width, 3):
                    raise PictureError(f"{contender.name}: picture {label} is {shape}, the file {image.size}")
    check_labels(contender, np.array(labels), epoch, len(paths))


def check_central(contender: Contender, made: Made, paths: list[str]) -> dict[str, float]:
    """The distance from the reference, in levels: the mean over all values, the mean of the worst picture, and the greatest."""
    counts = np.zeros(256, np.int64)
    worst = 0.0
    for picture, label in zip(made.pictures, made.labels, strict=True):
        distance = np.abs(picture.astype(np.int16) - reference(decode_whole(paths[label])))
        mean = float(distance.mean())
        if mean > DIFFERENCE_MAX:
            raise PictureError(
                f"{contender.name}: picture {label} is {mean:.1f} levels from the reference in the mean, more than {DIFFERENCE_MAX}"
            )
        worst = max(worst, mean)
        counts += np.bincount(distance.ravel(), minlength=256)
    total = int(counts.sum())
    greatest = int(np.flatnonzero(counts).max())
    within = float(counts[: EXACT_LEVELS + 1].sum() / total)
    if contender.ours and not WORKS[contender.work].large and (within < EXACT_SHARE_MIN or greatest > EXACT_LEVELS_MAX):
        raise PictureError(
            f"{contender.name}: {within:.2%} of the values are within {EXACT_LEVELS} level of the reference and the furthest is "
            f"{greatest} off; exact pictures have at least {EXACT_SHARE_MIN:.1%}, and none over {EXACT_LEVELS_MAX}"
        )
    return {
        "difference_mean": float((counts * np.arange(256)).sum() / total),
        "difference_mean_worst": worst,
        "difference_max": greatest,
        "within_one_share": within,
    }


def check_random(contender: Contender, made: Made, paths: list[str]) -> None:
    """Levels, colours and detail of random crops against the whole pictures'."""
    from PIL import Image

    wholes = [decode_whole(paths[label]) for label in made.labels]
    squares = np.stack([np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)) for image in wholes])
    crop_means, whole_means = made.pictures.mean((1, 2)), squares.mean((1, 2))
    distance = np.abs(crop_means - whole_means).mean(1)
    if distance.max() > LEVEL_MAX or distance.mean() > LEVEL_MEAN_MAX:
        raise PictureError(
            f"{contender.name}: the crops' levels are {distance.mean():.0f} from the whole pictures' in the mean and "
            f"{distance.max():.0f} at most; plausible are {LEVEL_MEAN_MAX:.0f} and {LEVEL_MAX:.0f}"
        )
    # Red less blue tells pictures apart whose levels are alike, and channels in another order.
    for title, crops, others in (
        ("levels", crop_means.mean(1), whole_means.mean(1)),
        ("colours", crop_means[:, 0] - crop_means[:, 2], whole_means[:, 0] - whole_means[:, 2]),
    ):
        correlation = float(np.corrcoef(crops, others)[0, 1])
        if not correlation >= CORRELATION_MIN:
            raise PictureError(
                f"{contender.name}: the {title} of the crops go with those of their pictures by {correlation:.2f} only; crops of "
                f"the right pictures have at least {CORRELATION_MIN}"
            )
    ratio = row_steps(made.pictures) / row_steps(squares)
    if not DETAIL[0] <= ratio <= DETAIL[1]:
        raise PictureError(
            f"{contender.name}: the crops' rows differ from their neighbours {ratio:.2f} times as much as those of the whole "
            f"pictures; of right crops it is {DETAIL[0]} to {DETAIL[1]} times"
        )


def row_steps(pictures: np.ndarray) -> float:
    """The mean difference between a pixel and the one below, in levels."""
    return float(np.mean([np.abs(np.diff(picture.astype(np.int16), axis=0)).mean() for picture in pictures]))


def check_chance(contender: Contender, taken: list[Made]) -> None:
    """Another epoch has another order and, of nearly every picture, another crop."""
    for made in taken:
        if (np.diff(made.labels) > 0).all():
            raise PictureError(f"{contender.name} is said to shuffle, but an epoch was in the files' order")
    for earlier, later in itertools.pairwise(taken):
        if np.array_equal(earlier.labels, later.labels):
            raise PictureError(f"{contender.name} is said to shuffle, but two epochs had the same order")
        pairs = zip(earlier.pictures[np.argsort(earlier.labels)], later.pictures[np.argsort(later.labels)], strict=True)
        same = sum(np.array_equal(one, other) for one, other in pairs)
        if same > len(later.labels) // 20:
            raise PictureError(f"{contender.name}: {same} of {len(later.labels)} crops are the same in two epochs")
