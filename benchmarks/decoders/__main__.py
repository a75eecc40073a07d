"""`python -m benchmarks.decoders`: pictures a second on one core, as a table.

All decoders are measured in turns, several times, and the best turn of each counts: what else the machine does slows a turn
down, nothing speeds one up. Time is that of the processor. Ours is called as the others are, through Python, and its pixels
are copied once more for it than a loader's are. The row of zune-jpeg needs
`cargo build --release -p zenith-image --example decoder_speed`.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from zenith import _engine

from .corpus import crops, pictures

Decode = Callable[[bytes, int], object]
TURNS = 7
EXAMPLE = Path(os.environ.get("CARGO_TARGET_DIR", "target")) / "release/examples/decoder_speed"


def contenders(count: int) -> dict[str, Decode]:
    regions = [json.dumps({"region": crop}) for crop in crops(count)]
    found: dict[str, Decode] = {
        "Zenith, whole": lambda data, _: _engine.decode_image(data, "{}"),
        "Zenith, region": lambda data, place: _engine.decode_image(data, regions[place]),
        "Pillow": lambda data, _: Image.open(io.BytesIO(data)).convert("RGB"),
    }
    try:
        import simplejpeg

        found["libjpeg-turbo (simplejpeg)"] = lambda data, _: simplejpeg.decode_jpeg(data, "RGB")
    except ImportError:
        print("simplejpeg is not installed: without it there is no row of libjpeg-turbo to compare with")
    try:
        import torch
        from torchvision.io import ImageReadMode, decode_jpeg

        torch.set_num_threads(1)
        found["torchvision"] = lambda data, _: decode_jpeg(
            torch.frombuffer(bytearray(data), dtype=torch.uint8), mode=ImageReadMode.RGB
        )
    except ImportError:
        print("torchvision is not installed")
    return found


def example_rate(folder: str) -> dict[str, float]:
    """Pictures a second of what is measured in Rust."""
    return dict(json.loads(subprocess.check_output([EXAMPLE, folder], text=True)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.decoders")
    parser.add_argument("--pictures", type=int, default=64)
    arguments = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    files = pictures(arguments.pictures)
    found = contenders(len(files))
    rates = dict.fromkeys(found, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        for place, data in enumerate(files):
            Path(folder, f"{place:04}.jpg").write_bytes(data)
        for _ in range(TURNS):
            for name, decode in found.items():
                begun = time.process_time()
                for place, data in enumerate(files):
                    decode(data, place)
                rates[name] = max(rates[name], len(files) / (time.process_time() - begun))
            if EXAMPLE.exists():
                for name, rate in example_rate(folder).items():
                    rates[name] = max(rates.get(name, 0.0), rate)
    reference = rates.get("libjpeg-turbo (simplejpeg)")
    print(f"\n{len(files)} pictures, {sum(map(len, files)) / len(files) / 1000:.1f} kB each\n")
    print("| decoder | pictures/s | of libjpeg-turbo |\n|---|---|---|")
    for name, rate in sorted(rates.items(), key=lambda item: -item[1]):
        ratio = f"{rate / reference:.2f} ×" if reference else "?"
        print(f"| {name} | {rate:,.0f} | {ratio} |")


if __name__ == "__main__":
    main()
