"""Modalities: what a column's values are, from the recipe's words down to the bytes in Parquet.

A recipe names its modalities (`depth: {type: dense, unit: m}`); a column `depth@midas` is that modality from a source.
A modality knows the shape and dtype in memory, checks and resizes values, encodes them, and names the head, objective
and measure that training and evaluation take when the recipe says nothing else. Its definition, for identity, is
`pipeline.fingerprint.payload(modality)`. The table of types is `stages.PLUGINS["modality"]`; a type of one's own is a
class derived from `Modality`, named `module:Class` in the recipe.

Importing this package loads numpy and pydantic only.
"""

from stages.modality.audio import Audio
from stages.modality.base import Defaults, Modality
from stages.modality.boxes import Boxes
from stages.modality.choice import Category, Choice, Ordinal
from stages.modality.clip import Clip
from stages.modality.dense import Dense
from stages.modality.graph import Graph
from stages.modality.keypoints import Keypoints
from stages.modality.multilabel import Multilabel
from stages.modality.raster import Image, Raster, Size
from stages.modality.segmentation import Segmentation, Soft
from stages.modality.series import Series
from stages.modality.tags import Tags
from stages.modality.text import Text
from stages.modality.vector import Embedding, Scalar, Vector

__all__ = [
    "Audio",
    "Boxes",
    "Category",
    "Choice",
    "Clip",
    "Defaults",
    "Dense",
    "Embedding",
    "Graph",
    "Image",
    "Keypoints",
    "Modality",
    "Multilabel",
    "Ordinal",
    "Raster",
    "Scalar",
    "Segmentation",
    "Series",
    "Size",
    "Soft",
    "Tags",
    "Text",
    "Vector",
]
