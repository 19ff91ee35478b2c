"""What an ingest step gives, and the groups and counts that names and containers tell before anything is read."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from hyperloom.pipeline.errors import HyperloomError
from hyperloom.pipeline.fingerprint import fingerprint, payload
from hyperloom.pipeline.planning.check import Listed, StepCheck
from hyperloom.stages.base import modality_of
from hyperloom.stages.ingest.limit import limited
from hyperloom.stages.ingest.source import Piece, Source
from hyperloom.stages.results import Ingested
from hyperloom.stages.schema import Column, Counted, Listing, SamplesSchema

if TYPE_CHECKING:
    from hyperloom.stages.ingest.stage import Ingest


def checked(stage: Ingest, step: StepCheck) -> SamplesSchema:
    """The columns of the source. Its files are not looked at here."""
    source: Source = stage.source
    try:
        columns = source.offers()
        modalities = {column: step.modalities.get(modality_of(column)) for column in columns}
    except HyperloomError as error:
        step.mistake(("source",), str(error))
        return SamplesSchema({}, (), stage.group)
    for column, modality in modalities.items():
        if modality is None:
            what = f"{column}: the recipe defines no modality"
            step.unknown(("source", "columns", column), modality_of(column), what, step.modalities)
    if not step.mistakes:
        try:
            source.check({modality_of(c): m for c, m in modalities.items()})
        except HyperloomError as error:
            step.mistake(("source",), str(error))
    offered = {c: Column(c, "raw", partial(_identity, source, c, modalities[c])) for c in columns}
    return SamplesSchema(offered, (Pieces(step.name, source, stage.limit),), stage.group)


def _identity(source: Source, column: str, modality: Any) -> str:
    return fingerprint([source.meaning(column), payload(modality) if modality else ""])


class Pieces:
    """The listing of an ingest step: of its manifest where it is done, else of its source. What cannot be listed is
    said by the plan or the run."""

    def __init__(self, step: str, source: Source, limit: int | None):
        self._step, self._source, self._limit = step, source, limit
        self._found: Listing | list[Piece] | None = None

    def groups(self, listed: Listed) -> Sequence[str] | None:
        listing = self._list(listed)
        if isinstance(listing, list):
            return list(dict.fromkeys(piece.group for piece in listing))
        return listing.groups(listed)

    def rows(self, listed: Listed, group: str) -> Iterator[int]:
        listing = self._list(listed)
        if isinstance(listing, list) and self._limit is not None:
            groups = [piece.group for piece in listing]
            kept = limited(groups, [self._source.items(piece) for piece in listing], self._limit)
            return (len(items) for name, items in zip(groups, kept, strict=True) if name == group)
        if isinstance(listing, list):
            return (len(self._source.items(piece)) for piece in listing if piece.group == group)
        return listing.rows(listed, group)

    def unread(self, listed: Listed) -> Collection[str]:
        listing = self._list(listed)
        return () if isinstance(listing, list) else listing.unread(listed)

    def _list(self, listed: Listed) -> Listing | list[Piece]:
        if self._found is None:
            manifest = listed.manifests.get(self._step)
            ingested = manifest and Ingested.of(manifest)
            counted = manifest and ingested and Counted(ingested.partitions, manifest)
            self._found = counted or self._source.listed(listed.digests)
        return self._found
