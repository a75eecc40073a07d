"""Prints the folder of the XLA headers that zenith_jax is built against; unpacks them from the pinned jaxlib where needed.

They come from one wheel, named with its hash in requirements/xla.txt, and are kept in the user's cache.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
REQUIREMENT = ROOT / "requirements/xla.txt"
HEADERS = re.compile(r"jaxlib/include/(xla/ffi/api/\w+\.h)")
# The headers are the same for every platform, so one is named: the hash is that of its wheel.
PLATFORM = (
    "--platform",
    "manylinux_2_27_x86_64",
    "--python-version",
    "3.11",
    "--implementation",
    "cp",
    "--abi",
    "cp311",
)


class UnavailableError(Exception):
    """The wheel cannot be had."""


def folder() -> Path:
    """Where the headers of the pinned version are kept."""
    chosen = os.environ.get("XDG_CACHE_HOME")
    cache = Path(chosen) if chosen else Path.home() / ".cache"
    version = re.search(r"^jaxlib==(\S+) --hash=sha256:(\w+)", REQUIREMENT.read_text(), re.M)
    if version is None:
        raise UnavailableError(f"{REQUIREMENT} names no jaxlib with a hash")
    return cache / "zenith" / f"xla-headers-{version[1]}-{version[2][:16]}"


def headers() -> Path:
    """The include folder; downloads the wheel (80 MB) where it was not unpacked before."""
    found = folder()
    if found.is_dir():
        return found
    found.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=found.parent) as temporary:
        # Moved into place as a whole, so that a build that is stopped leaves nothing that looks finished.
        unpacked = Path(temporary) / "include"
        unpack(download(Path(temporary)), unpacked)
        try:
            unpacked.rename(found)
        except OSError:
            # Another build was quicker.
            if not found.is_dir():
                raise
    return found


def download(into: Path) -> Path:
    """Fetches the wheel; pip compares its hash."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", *PLATFORM, "--require-hashes", "-r", str(REQUIREMENT), "-d", str(into)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(into.glob("jaxlib-*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        said = done.stderr.strip().splitlines()[-1:] or ["pip gave no reason"]
        raise UnavailableError(
            f"the jaxlib that {REQUIREMENT.name} pins could not be downloaded: {said[0]}. Build once with a network (the headers "
            f"are then kept in {folder()}), or set ZENITH_BUILD_JAX=0 to leave zenith_jax's handlers out"
        )
    return wheels[0]


def unpack(wheel: Path, into: Path) -> None:
    """Takes the headers of the FFI out of the wheel, and nothing else."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if header := HEADERS.fullmatch(name):
                target = into / header[1]
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as source, target.open("wb") as copy:
                    shutil.copyfileobj(source, copy)
    if not (into / "xla/ffi/api/ffi.h").is_file():
        raise UnavailableError(f"{wheel.name} has no XLA headers")


if __name__ == "__main__":
    try:
        print(headers())
    except UnavailableError as error:
        sys.exit(f"error: {error}.")
