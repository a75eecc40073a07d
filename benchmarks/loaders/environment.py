"""The machine's description for the results, and `python -m benchmarks.loaders.environment`, which makes the peers' environment.

The peers get an environment of their own, `.venv-bench`, which sees the packages of the environment that makes it. So torch
and zenith are the same for all contenders, and the project's own environment gains nothing.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from benchmarks.loaders.process import ROOT

DISTRIBUTIONS = (
    *("torch", "zenith-loader", "pyarrow", "numpy", "datasets"),
    *("torchvision", "pillow", "webdataset", "nvidia-dali-cuda130", "tensorflow-cpu", "grain", "spdl"),
    *("simplejpeg", "opencv-python-headless", "jax", "jaxlib"),
)


def machine() -> dict[str, object]:
    """Processor, cores, memory in GiB, kernel, Python and the versions of what is compared."""
    versions = {}
    for name in DISTRIBUTIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30), 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_at_start": os.getloadavg()[0],
        "versions": versions,
    }


def processor() -> str:
    """The processor's name as the kernel gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def make(folder: Path, pictures: bool) -> None:
    """Makes the peers' environment at `folder`, or brings it up to date; `pictures`: with the peers of the rows `images-*`.

    Those are installed one by one: what has no wheel here is left out, and its rows say so.
    """
    if not (folder / "bin" / "python").exists():
        print(f"making {folder.name} …", flush=True)
        venv.create(folder, with_pip=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / version / "site-packages"
    # addsitedir, not a bare path: an editable install is itself a .pth file, which only this reads.
    (packages / "zenith-base.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    install = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, "-r", ROOT / "requirements" / "bench.txt"], check=True)
    if pictures:
        for requirement in requirements_of(ROOT / "requirements" / "bench-images.txt"):
            if subprocess.run([*install, requirement], check=False).returncode != 0:
                print(f"{requirement} cannot be installed here; its rows will be left out", file=sys.stderr)


def requirements_of(path: Path) -> list[str]:
    """The lines of a requirements file without its comments."""
    lines = (line.split("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def wants_pictures(argv: list[str]) -> bool:
    """Whether the benchmark's arguments ask for pictures: `--parts` with images, or `--only` with images in the pattern."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loaders.environment", description=__doc__)
    parser.add_argument("--parts", default="", help="with images in it, their peers are installed too (2.5 GB)")
    parser.add_argument("--only", action="append", default=[], help="the same; other arguments are the benchmark's own")
    arguments, _ = parser.parse_known_args(argv)
    # The rows *-python-images-* are another work, of plain arrays.
    return "images" in arguments.parts.split(",") or any(
        "images-" in glob.replace("python-images", "") for glob in arguments.only
    )


if __name__ == "__main__":
    make(ROOT / ".venv-bench", wants_pictures(sys.argv[1:]))
