"""Which crate may depend on which, and what no crate or module may be called."""

import json
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
BANNED_NAMES = {"utils", "util", "common", "misc", "types", "core"}


def declared_edges() -> set[tuple[str, str]]:
    """Edges between our crates, from their manifests (not those of their tests)."""
    command = ["cargo", "metadata", "--format-version", "1", "--no-deps", "--offline", "--locked"]
    packages = json.loads(subprocess.check_output(command, cwd=ROOT))["packages"]
    names = {package["name"] for package in packages}
    return {
        (package["name"], dependency["name"])
        for package in packages
        for dependency in package["dependencies"]
        if dependency["name"] in names and dependency["kind"] is None
    }


def documented_edges() -> set[tuple[str, str]]:
    """Edges that the table of docs/architecture.md allows."""
    rows = re.findall(
        r"^\| `(zenith[a-z-]*)` \| [^|]* \| ([^|]*) \|$", (ROOT / "docs/architecture.md").read_text(), re.M
    )
    assert rows, "docs/architecture.md has lost its table of crates"
    edges = set()
    above: list[str] = []
    for crate, text in rows:
        if text == "all above":
            allowed = list(above)
        elif text == "no zenith crate":
            allowed = []
        else:
            allowed = [name if name.startswith("zenith") else f"zenith-{name}" for name in re.findall(r"[a-z-]+", text)]
        edges |= {(crate, name) for name in allowed}
        above.append(crate)
    return edges


def test_crates_depend_on_what_the_table_says() -> None:
    assert declared_edges() == documented_edges()


def test_a_folder_is_called_as_its_crate() -> None:
    for manifest in (ROOT / "rust").glob("*/Cargo.toml"):
        assert re.search(r'^name = "(.*)"', manifest.read_text(), re.M)[1] == manifest.parent.name


def test_nothing_is_called_utils() -> None:
    files = subprocess.check_output(["git", "ls-files", "rust", "python", "cpp"], cwd=ROOT, text=True).splitlines()
    names = {file: {re.sub(r"^zenith[-_]", "", part) for part in Path(file).with_suffix("").parts} for file in files}
    assert [file for file, parts in names.items() if parts & BANNED_NAMES] == []
