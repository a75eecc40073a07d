"""The machine's description for the results, and `python -m benchmarks.loaders.environment`, which makes the peers' environment.

The peers get an environment of their own, `.venv-bench`, which sees the packages of the environment that makes it. So torch
and zenith are the same for all contenders, and the project's own environment gains nothing.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from benchmarks.loaders.process import ROOT

DISTRIBUTIONS = ("torch", "zenith-loader", "pyarrow", "numpy", "datasets")


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


def make(folder: Path) -> None:
    """Makes the peers' environment at `folder`, or brings it up to date."""
    if not (folder / "bin" / "python").exists():
        print(f"making {folder.name} …", flush=True)
        venv.create(folder, with_pip=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = folder / "lib" / version / "site-packages"
    # addsitedir, not a bare path: an editable install is itself a .pth file, which only this reads.
    (packages / "zenith-base.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    requirements = ROOT / "requirements" / "bench.txt"
    subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "--quiet", "-r", requirements], check=True)


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / ".venv-bench")
