"""Records what torchrun makes of every case: `make differential`, after a change of the cases or of torch."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from . import legacy
from .cases import CASES, Case
from .observe import observe

RECORDED = Path(__file__).with_name("torchrun.json")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
LAUNCH = [sys.executable, "-W", "ignore", "-m", "torch.distributed.launch"]


def main() -> None:
    """With arguments only these cases are recorded anew."""
    wanted = set(sys.argv[1:])
    record(TORCHRUN, CASES, RECORDED, wanted)
    record(LAUNCH, legacy.CASES, legacy.RECORDED, wanted)


def record(launcher: list[str], cases: list[Case], file: Path, wanted: set[str]) -> None:
    recorded = json.loads(file.read_text()) if wanted and file.exists() else {}
    for case in cases:
        if not wanted or case.id in wanted:
            recorded[case.id] = observe(launcher, case)
            print(case.id, recorded[case.id]["code"], recorded[case.id].get("error", ""), flush=True)
    file.write_text(json.dumps({case.id: recorded[case.id] for case in cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
