"""The stages, in the order data flows, and the table of every plug-in that ships with Hyperloom.

Importing this package imports nothing else: the table holds names, and a plug-in's module loads when a recipe asks.
Workers import it before they unpickle anything of ours, so `type:` names mean the same everywhere.
"""

from pipeline import plugins

PLUGINS: dict[str, dict[str, str]] = {
    "stage": {
        "ingest": "stages.ingest.stage:Ingest",
        "label": "stages.label.stage:Label",
        "consensus": "stages.consensus.stage:ConsensusStage",
        "shard": "stages.shard.stage:Shard",
        "train": "stages.train.stage:Train",
        "distill": "stages.distill.stage:Distill",
        "evaluate": "stages.evaluate.stage:Evaluate",
        "release": "stages.release.stage:Release",
    },
    "modality": {
        "image": "stages.modality:Image",
        "dense": "stages.modality:Dense",
        "segmentation": "stages.modality:Segmentation",
        "soft": "stages.modality:Soft",
        "category": "stages.modality:Category",
        "multilabel": "stages.modality:Multilabel",
        "ordinal": "stages.modality:Ordinal",
        "vector": "stages.modality:Vector",
        "scalar": "stages.modality:Scalar",
        "boxes": "stages.modality:Boxes",
        "keypoints": "stages.modality:Keypoints",
        "text": "stages.modality:Text",
        "tags": "stages.modality:Tags",
        "embedding": "stages.modality:Embedding",
        "audio": "stages.modality:Audio",
        "series": "stages.modality:Series",
        "graph": "stages.modality:Graph",
        "clip": "stages.modality:Clip",
    },
    "source": {
        "files": "stages.ingest.files:Files",
        "video": "stages.ingest.video:Video",
        "arrays": "stages.ingest.arrays:Arrays",
        "flights": "stages.ingest.flights:Flights",
    },
    "expert": {
        "hsv": "stages.label.procedural:Hsv",
        "edges": "stages.label.procedural:Edges",
        "flow": "stages.label.procedural:Flow",
        "depth-from-flow": "stages.label.procedural:DepthFromFlow",
        "normals": "stages.label.procedural:Normals",
        "color-classes": "stages.label.segmenters:ColorClasses",
        "texture-classes": "stages.label.segmenters:TextureClasses",
        "relief-classes": "stages.label.segmenters:ReliefClasses",
        "remap": "stages.label.segmenters:Remap",
        "resize": "stages.label.resize:Resize",
        "onnx": "stages.label.onnx:Onnx",
        "litert": "stages.label.litert:LiteRT",
        "torch": "stages.label.torch:Torch",
        "model": "stages.label.model:Model",
    },
    "decoder": {
        "classes": "stages.label.decoders:Classes",
        "probabilities": "stages.label.decoders:Probabilities",
        "dense": "stages.label.decoders:DenseMap",
        "boxes": "stages.label.boxes:Boxes",
        "fastestdet": "stages.label.nets.fastestdet:FastestDet",
    },
    "net": {"espnet": "stages.label.nets.espnet:ESPNet", "pidinet": "stages.label.nets.pidinet:PiDiNet"},
    "consensus": {
        "vote": "stages.consensus.methods:Vote",
        "mean": "stages.consensus.methods:Mean",
        "median": "stages.consensus.methods:Median",
        "copy": "stages.consensus.methods:Copy",
    },
    "trunk": {"unet": "stages.train.trunks:UNet"},
    "objective": {
        "cross-entropy": "stages.train.objectives:CrossEntropy",
        "kl": "stages.train.objectives:SoftCrossEntropy",
        "huber": "stages.train.objectives:Huber",
        "l1": "stages.train.objectives:L1",
        "cosine": "stages.train.objectives:Cosine",
    },
    "mask": {"modality": "stages.train.masks:ModalityMask", "none": "stages.train.masks:NoMask"},
    "augment": {"flip": "stages.train.augments:Flip", "colour": "stages.train.augments:Colour"},
    "balancer": {
        "static": "stages.train.balancers:Static",
        "uncertainty": "stages.train.balancers:Uncertainty",
        "torchjd": "stages.train.aggregators:Aggregated",
        "alignedmtl": "stages.train.aggregators:Aggregated",
        "cagrad": "stages.train.aggregators:Aggregated",
        "dualproj": "stages.train.aggregators:Aggregated",
        "excessmtl": "stages.train.aggregators:Aggregated",
        "fairgrad": "stages.train.aggregators:Aggregated",
        "graddrop": "stages.train.aggregators:Aggregated",
        "gradvac": "stages.train.aggregators:Aggregated",
        "imtlg": "stages.train.aggregators:Aggregated",
        "mgda": "stages.train.aggregators:Aggregated",
        "pcd": "stages.train.aggregators:Aggregated",
        "pcgrad": "stages.train.aggregators:Aggregated",
        "upgrad": "stages.train.aggregators:Aggregated",
    },
    "ensemble": {"masks": "stages.label.model:Masks", "single": "stages.label.model:Single"},
}

for _kind, _types in PLUGINS.items():
    plugins.register(_kind, _types)
