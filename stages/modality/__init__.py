"""What the values of a column are: from the recipe's words down to the bytes in Parquet.

A recipe names its modalities (`depth: {type: dense, unit: m}`); a column `depth@midas` is that modality from a source.
A modality knows the shape and dtype in memory, checks and resizes values, encodes them, and names the head, objective
and measure that training and evaluation take when the recipe says nothing else. Its definition, for identity, is
`pipeline.fingerprint.payload(modality)`. The table of types is `stages.PLUGINS["modality"]`; a type of one's own is a
class derived from `Modality`, named `module:Class` in the recipe.

Importing this package loads numpy and pydantic only.
"""

from hyperloom.stages.modality.audio import Audio
from hyperloom.stages.modality.base import Defaults, Modality
from hyperloom.stages.modality.boxes import Boxes
from hyperloom.stages.modality.choice import Category, Choice, Ordinal
from hyperloom.stages.modality.clip import Clip
from hyperloom.stages.modality.dense import Dense
from hyperloom.stages.modality.graph import Graph
from hyperloom.stages.modality.instances import Instances
from hyperloom.stages.modality.keypoints import Keypoints
from hyperloom.stages.modality.multilabel import Multilabel
from hyperloom.stages.modality.raster import Image, Raster, Size
from hyperloom.stages.modality.segmentation import Segmentation, Soft
from hyperloom.stages.modality.series import Series
from hyperloom.stages.modality.tags import Tags
from hyperloom.stages.modality.text import Text
from hyperloom.stages.modality.vector import Embedding, Scalar, Vector

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
    "Instances",
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
