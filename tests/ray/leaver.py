"""An augmentation that changes nothing and, once, sends SIGTERM to the process that trains."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hyperloom.pipeline.config import placement
from hyperloom.stages.augment.views import Augment


class Leaver(Augment):
    """`once` is a file that is created at the signal; while `slow` updates take a tenth of a second longer."""

    once: str = placement()
    slow: bool = placement(True)

    def apply(self, batch: Any, columns: Mapping[str, Any], drawn: Mapping[str, Any]) -> Any:
        if self.slow:
            time.sleep(0.1)
        if not Path(self.once).exists():
            Path(self.once).touch()
            os.kill(os.getpid(), signal.SIGTERM)
        return batch
