"""``python -m zenith.torchrun``: this process becomes `zenith-run`."""

from __future__ import annotations

import sys

from zenith.torchrun.child import become

become(sys.argv[1:])
