"""The ratios that Zenith must reach with pictures, on two cores."""

from __future__ import annotations

from benchmarks.loaders.bar import Bar

NORMALISED_RATE_MIN = 0.87
"""Normalised numbers may cost 15 % more time than uint8: 1 / 1.15 of its rate."""


def tensorflow(work: str) -> tuple[str, ...]:
    """tf.data with antialias, the same work, and without, less work: the better one counts."""
    return f"tensorflow-{work}-t2", f"tensorflow-{work}-no-antialias-t2"


def others(work: str) -> tuple[str, ...]:
    """The peers that make pictures, but tf.data."""
    processes = (f"{peer}-{work}-w2" for peer in ("torch-pil", "torch-torchvision", "webdataset", "grain"))
    threads = (f"{peer}-{work}-t2" for peer in ("dali", "grain", "spdl", "turbo-opencv"))
    return *processes, *threads


def picture_bars() -> tuple[Bar, ...]:
    """All of them."""
    crop, two = "images-crop", ("zenith-images-crop-w2",)
    return (
        Bar(f"{crop}, 2 threads ÷ tf.data", two, tensorflow(crop), 1.6),
        Bar(f"{crop}, 2 threads ÷ the best other peer", two, others(crop), 2.3),
        Bar(f"{crop}, 2 threads ÷ libjpeg-turbo's whole decoding", two, (f"turbo-decode-{crop}-t2",), 1.25),
        *(
            Bar(f"{name}, 2 threads ÷ the best peer", (f"zenith-{name}-w2",), (*tensorflow(work), *others(work)), bound)
            for work, name, bound in (
                ("images-resize", "images-resize", 1.6),
                ("images-12mp", "images-12mp-indexed", 4.0),
                ("images-12mp", "images-12mp", 2.2),
            )
        ),
        *(
            Bar(f"{crop}, normalised {dtype} NCHW ÷ uint8", (f"zenith-{crop}-{dtype}-w2",), two, NORMALISED_RATE_MIN)
            for dtype in ("float32", "bfloat16")
        ),
        Bar(f"2 threads ÷ 1: {crop}", two, (f"zenith-{crop}-w1",), 1.9),
        Bar(f"memory: {crop} ÷ torch + PIL with 2 workers", two, (f"torch-pil-{crop}-w2",), 0.5, "peak_mib", True),
    )
