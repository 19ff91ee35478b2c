"""The driver's memory: peak resident size of a fresh process that runs a label step of N units on a private Ray.

Five experts that are stubbed out, so the records are all that is made; the manifest of their input, the graph, the
window of open units, the records and the step's own manifest are what a real step has.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile

RECIPE = """
name: bench-memory
root: {root}
modalities: {{rgb: {{type: image, size: [32, 32]}}, value: {{type: dense, size: [8, 8]}}}}
steps:
  frames: {{stage: "benchmarks.noop:Promised", count: {partitions}}}
  labels: {{stage: "benchmarks.noop:Stub", data: frames, experts: [{experts}]}}
"""
EXPERT = '{{type: "benchmarks.noop:Free", number: {n}, in: rgb@camera, out: value@x{n}}}'


def memory(few: int, many: int, experts: int) -> dict[str, float]:
    """Peak MB of the driver at `few` and at `many` units, and bytes a unit between them."""
    peaks = {count: _apart(count, experts) for count in (few, many)}
    return {
        f"driver_rss_mb_{few}": round(peaks[few] / 1024, 1),
        f"driver_rss_mb_{many}": round(peaks[many] / 1024, 1),
        "driver_bytes_a_unit": round((peaks[many] - peaks[few]) * 1024 / (many - few)),
    }


def _apart(count: int, experts: int) -> int:
    """Peak KiB of a process of its own that runs `count` units."""
    code = f"from benchmarks.label_memory import run_here; run_here({count}, {experts})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return int(json.loads(done.stdout.splitlines()[-1]))


def run_here(count: int, experts: int) -> None:
    import hyperloom.stages  # noqa: F401  registers the plug-ins
    from hyperloom.clusters.connect import connect, disconnect
    from hyperloom.clusters.spec import Cluster
    from hyperloom.pipeline.output.progress import Progress
    from hyperloom.pipeline.recipes import recipe
    from hyperloom.pipeline.running.runner import run

    with tempfile.TemporaryDirectory() as folder:
        listed = ", ".join(EXPERT.format(n=n) for n in range(experts))
        loaded = recipe.parse(RECIPE.format(root=folder, partitions=count // experts, experts=listed))
        outcome = run(loaded, lambda: connect(Cluster(address="local")), progress=Progress(quiet=True), track=False)
        assert outcome.ok, outcome.problems
        disconnect()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
