"""Neighbours in time: what to say where an expert compares samples that may not be consecutive frames.

Flow between pictures that only happen to lie beside each other in a folder is no motion, and over every fifth frame it
is that of five. A source says how its samples follow one another (`Source.order`), and ingest notes it of its columns.
"""

from __future__ import annotations

from hyperloom.stages.base import ORDER
from hyperloom.stages.label.graph import ExpertGraph


def apart(drawn: ExpertGraph) -> list[str]:
    """A sentence for each expert and raw column whose neighbours may not be consecutive."""
    sentences = []
    for node in drawn.nodes:
        for column in sorted(node.expert.offsets()):
            producer = drawn.catalogue.producers.get(column)
            if order := producer and producer.about.get(ORDER):
                sentences.append(
                    f"{', '.join(node.expert.out)}: samples are compared with their neighbours, and {column} holds "
                    f"{order}: where these do not follow one another in time, or not at once, it is no motion of one "
                    "frame. Next: number frames in the source's pattern ((?P<index>..)), or leave it out"
                )
    return sentences
