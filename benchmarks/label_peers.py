"""The label stage beside Ray Data, which people use today.

It reads the partitions that ingest made, calls the same expert by `map_batches` on one actor a core, and writes
Parquet. It and the stage are timed as a whole, start of the actors included, on a Ray that is up.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from hyperloom.pipeline.recipes import recipe
from hyperloom.pipeline.root.storage import Storage


class Called:
    """The expert as an actor of Ray Data."""

    def __init__(self, text: str, folder: str):
        sys.path.insert(0, folder)  # Ray Data's processes know nothing of the working folder
        import hyperloom.stages  # noqa: F401  registers the plug-ins
        from benchmarks.label_speed import limit_threads

        limit_threads()
        ready = recipe.parse(text)
        self.expert, self.known = ready.recipe.steps["labels"].experts[0], ready.recipe.modalities
        self.function: Callable[[Any], Any] = self.expert.build(self.known, Storage("memory://bench"))
        limit_threads()

    def __call__(self, table: Any) -> Any:
        import pyarrow as pa

        pixels = self.known["photo"].decode(table["photo@camera"].combine_chunks())[0]
        made = self.function({"photo@camera": pixels})
        columns = {c: self.known[c.partition("@")[0]].encode(list(values)) for c, values in made.items()}
        return pa.table({"key": table["key"], **columns})


def ray_data(files: list[str], out: str, text: str, batch: int, processes: int) -> None:
    """The expert over Parquet files by Ray Data. Its reading and writing tasks share the cores with the actors, so an
    actor is declared half a core: with a whole one each they would leave nothing to read with."""
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.data.DataContext.get_current().enable_progress_bars = False
    data = ray.data.read_parquet(files, columns=["key", "photo@camera"])
    mapped = data.map_batches(
        Called,
        fn_constructor_args=(text, os.getcwd()),
        batch_size=batch,
        batch_format="pyarrow",
        concurrency=processes,
        num_cpus=0.5,
    )
    mapped.write_parquet(out)
