"""tf.data over TFRecord files: it decodes only the crop's blocks, with libjpeg's fast transform, and tunes its own parallelism.

Resizing with antialias is the work that all others do; without it tf.data does less and blurs less, and is what its examples
use. Both are here, and the better one counts.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.loaders import photographs
from benchmarks.loaders.contender import Contender, Feed
from benchmarks.loaders.data import Files
from benchmarks.loaders.pictures import RATIO, SCALE, SHORT_SIDE, SIDE, WORKS, PictureWork, peer_works

THREADS = 2
SHUFFLE_BUFFER = 1000


def records(files: Files, large: bool) -> list[str]:
    """A TFRecord file beside each shard."""
    return [str(Path(shard).with_suffix(".tfrecord")) for shard in photographs.of(files).shards(large)]


def write_records(large: bool) -> Callable[[Files], None]:
    """Writes the records of the shards: `tf.train.Example` of the encoded picture and its label."""

    def prepare(files: Files) -> None:
        import tarfile

        import tensorflow as tf

        for shard, path in zip(photographs.of(files).shards(large), records(files, large), strict=True):
            if os.path.exists(path) and os.path.getmtime(path) >= os.path.getmtime(shard):
                continue
            with tarfile.open(shard) as archive, tf.io.TFRecordWriter(path + ".part") as writer:
                for member in archive:
                    if member.name.endswith(".jpg"):
                        encoded = archive.extractfile(member).read()  # type: ignore[union-attr]
                        image = tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded]))
                        label = tf.train.Feature(int64_list=tf.train.Int64List(value=[int(Path(member.name).stem)]))
                        features = tf.train.Features(feature={"image": image, "label": label})
                        writer.write(tf.train.Example(features=features).SerializeToString())
            os.replace(path + ".part", path)

    return prepare


@dataclasses.dataclass
class Parse:
    """A record → (uint8 [224, 224, 3], i64)."""

    work: PictureWork
    antialias: bool

    def __call__(self, record: Any) -> tuple[Any, Any]:
        import tensorflow as tf

        wanted = {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.FixedLenFeature([], tf.int64)}
        found = tf.io.parse_single_example(record, wanted)
        made = self.random_crop(found["image"]) if self.work.random else self.central_crop(found["image"])
        return tf.cast(tf.clip_by_value(tf.round(made), 0, 255), tf.uint8), found["label"]

    def random_crop(self, encoded: Any) -> Any:
        """RandomResizedCrop and a flip; f32."""
        import tensorflow as tf

        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(encoded),
            bounding_boxes=tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
            min_object_covered=0.0,
            area_range=SCALE,
            aspect_ratio_range=RATIO,
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        window = tf.stack([begin[0], begin[1], size[0], size[1]])
        image = tf.image.decode_and_crop_jpeg(encoded, window, channels=3, dct_method="INTEGER_FAST")
        image = tf.image.random_flip_left_right(image)
        return tf.image.resize(image, [SIDE, SIDE], antialias=self.antialias)

    def central_crop(self, encoded: Any) -> Any:
        """Resize and CenterCrop; f32. Pictures of 12 megapixels are decoded at an eighth, 500 × 375."""
        import tensorflow as tf

        ratio = 8 if self.work.large else 1
        image = tf.image.decode_jpeg(encoded, channels=3, dct_method="INTEGER_FAST", ratio=ratio)
        height, width = tf.shape(image)[0], tf.shape(image)[1]
        shorter = tf.minimum(height, width)
        height, width = height * SHORT_SIDE // shorter, width * SHORT_SIDE // shorter
        image = tf.image.resize(image, [height, width], antialias=self.antialias)
        # Rounded halves to even, as Python does, on which torchvision relies.
        top = tf.cast(tf.round(tf.cast(height - SIDE, tf.float32) / 2), tf.int32)
        left = tf.cast(tf.round(tf.cast(width - SIDE, tf.float32) / 2), tf.int32)
        made = image[top : top + SIDE, left : left + SIDE]
        made.set_shape([SIDE, SIDE, 3])
        return made


@dataclasses.dataclass
class TensorFlowFeed:
    """A `tf.data.Dataset`; an iterator of it per epoch."""

    dataset: Any

    def epoch(self, epoch: int) -> Iterator[tuple[Any, Any]]:
        return self.dataset.as_numpy_iterator()  # type: ignore[no-any-return]


def open_records(work: PictureWork, antialias: bool) -> Callable[[Files], Feed]:
    """Opens the records on two threads."""

    def open_feed(files: Files) -> Feed:
        import tensorflow as tf

        paths = records(files, work.large)
        dataset = tf.data.Dataset.from_tensor_slices(paths)
        if work.random:
            dataset = dataset.shuffle(len(paths))
        dataset = dataset.interleave(
            tf.data.TFRecordDataset, num_parallel_calls=tf.data.AUTOTUNE, deterministic=not work.random
        )
        if work.random:
            dataset = dataset.shuffle(SHUFFLE_BUFFER)
        options = tf.data.Options()
        options.threading.private_threadpool_size = THREADS
        options.deterministic = not work.random
        dataset = dataset.map(Parse(work, antialias), num_parallel_calls=tf.data.AUTOTUNE)
        return TensorFlowFeed(dataset.batch(work.batch_size).prefetch(tf.data.AUTOTUNE).with_options(options))

    return open_feed


CONTENDERS = [
    Contender(
        name=f"tensorflow-{work}{'' if antialias else '-no-antialias'}-t2",
        title=f"tf.data, 2 threads, {'antialias' if antialias else 'no antialias'}",
        work=work,
        order="shuffled" if WORKS[work].random else "interleaved",
        open=open_records(entry, antialias),
        path=None,
        requires=("tensorflow",),
        prepare=write_records(entry.large),
    )
    for work, entry in peer_works().items()
    for antialias in (True, False)
]
