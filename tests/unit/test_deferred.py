"""Deferred imports: what is deferred is loaded at its first use, however that comes about."""

from __future__ import annotations

import subprocess
import sys

import pytest

USES = {
    "a name": "import numpy as np; assert np.arange(3).sum() == 3",
    "a submodule first": "import numpy.linalg; assert numpy.linalg.norm([3, 4]) == 5",
    "a name from it": "from numpy import ones; assert ones(2).sum() == 2",
    "from C": "import pyarrow as pa; import numpy as np; assert pa.array(np.ones(2)).to_numpy().sum() == 2",
    "several threads": (
        "import numpy as np; from concurrent.futures import ThreadPoolExecutor as T\n"
        "assert set(T(8).map(lambda i: float(np.linalg.norm(np.ones(4))), range(64))) == {2.0}"
    ),
    "where it lies": "import numpy as np; assert np.__file__.endswith('__init__.py') and np.ones(1).sum() == 1",
    "a name it lacks": "import numpy as np; assert not hasattr(np, 'no_such_name') and np.ones(1).sum() == 1",
}


@pytest.mark.parametrize("use", USES)
def test_it_is_loaded_when_it_is_used(use: str) -> None:
    before = "import sys; from hyperloom.pipeline.host import deferred; deferred.defer(); import numpy"
    code = f"{before}\nassert 'numpy._core' not in sys.modules\n{USES[use]}\nassert 'numpy._core' in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
