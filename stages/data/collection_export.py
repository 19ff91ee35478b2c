"""Export as collections of plain files: tars of WebDataset, or files and a list of them.

    webdataset   DIR/{group}.tar                     files of a sample side by side, told apart by their endings
    csv, jsonl   DIR/metadata.csv (.jsonl), files/   a row a sample; `file_name` names its file, as `datasets` reads
                                                     folders of pictures, sounds and films
    manifest     DIR/manifest.jsonl, files/          the same for sounds: `audio_filepath` and `duration` in seconds

What `{type: webdataset}` and `{type: table}` read back is equal to the pixel, the sample of sound and the class;
DIR/source.yaml is the source that does it. Pictures and sounds are the bytes that are stored (else PNG, wav), clips
films without loss (arrays in a tar), maps of classes PNGs of ids (255: unknown), classes their names, other arrays
`.npy`. A missing value has no file, and an empty cell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from hyperloom.pipeline.errors import RecipeError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.data.collection_files import ListedFiles, Tars
from hyperloom.stages.data.dataset_export import field_names
from hyperloom.stages.data.portable import PortableField, portable
from hyperloom.stages.data.reader import SampleReader, modality

CollectionLayout = Literal["webdataset", "csv", "jsonl", "manifest"]


def export_collection(
    reader: SampleReader, modalities: Mapping[str, Any], target: Storage, layout: CollectionLayout
) -> int:
    """Write everything that `reader` gives below `target`; returns the number of files. Raises RecipeError for columns
    that have no form there, StorageError."""
    import yaml

    kinds = {c: modality(c, dict(modalities)) for c in reader.columns}
    if without := [c for c, kind in kinds.items() if portable(kind, layout != "webdataset") is None]:
        raise RecipeError(f"{layout} has no form for {', '.join(without)}. Next: --columns with the others")
    fields = {c: PortableField(n, kinds[c], layout != "webdataset") for c, n in field_names(reader.columns).items()}
    if layout == "manifest" and not any(field.feature["_type"] == "Audio" for field in fields.values()):
        raise RecipeError("a manifest lists sounds, and there is none. Next: --columns with one, or --layout jsonl")
    writer = Tars(target, fields) if layout == "webdataset" else ListedFiles(target, fields, layout)
    for rows in reader:
        cells = {c: field.cells(rows.columns[c]) for c, field in fields.items()}
        for i, (key, group) in enumerate(zip(rows.keys, rows.groups, strict=True)):
            writer.add(key, group, {c: cells[c][i] for c in fields})
    count = writer.finish()
    known = {n: m.to_recipe() for n, m in modalities.items() if any(m is kind for kind in kinds.values())}
    source = {"modalities": known, "source": writer.source()}
    target.write("source.yaml", yaml.safe_dump(source, sort_keys=False, allow_unicode=True).encode())
    return count + 1
