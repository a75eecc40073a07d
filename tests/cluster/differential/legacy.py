"""Command lines of ``python -m torch.distributed.launch``, which tells ranks their number by an argument (T-58)."""

from __future__ import annotations

from pathlib import Path

from .cases import LOGS, RUN, case

RECORDED = Path(__file__).with_name("legacy.json")

CASES = [
    case("legacy-plain", f"--nproc-per-node=2 {LOGS} train.py --lr 0.1", PYTHON_EXEC="{worker}", workers=2),
    case("legacy-use-env", f"--use-env {LOGS} train.py --lr 0.1", PYTHON_EXEC="{worker}"),
    case("legacy-use_env", f"{LOGS} --use_env -m package.train", PYTHON_EXEC="{worker}"),
    case("legacy-module", f"-m {LOGS} package.train --use-env", PYTHON_EXEC="{worker}"),
    case("legacy-dashes", f"{LOGS} -- train.py -- --x", PYTHON_EXEC="{worker}"),
    case("legacy-program-without-use-env", f"{LOGS} {RUN}"),
    case("legacy-program", f"--use-env {LOGS} {RUN} a"),
    case("legacy-value", f"--use-env=1 {LOGS} {RUN}"),
    case("legacy-no-script", "--use-env"),
    case("legacy-failure", f"{LOGS} train.py", do="exit 4", PYTHON_EXEC="{worker}"),
]
