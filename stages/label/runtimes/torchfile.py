"""What a file of PyTorch says of itself before PyTorch is imported: which form it is, and whether it is whole.

`torch.save` and TorchScript write zip archives (older versions a bare pickle), `torch.export` a zip of JSON,
safetensors a JSON header with places. Nothing is unpickled: of a pickle, only the names that it would import are read.
"""

from __future__ import annotations

import json
import os
import pickletools
import zipfile
from collections.abc import Iterator
from typing import Literal

TorchForm = Literal["state", "script", "export"]
WORDS: dict[TorchForm, str] = {
    "state": "weights alone (a state dict)",
    "script": "a TorchScript archive",
    "export": "an archive of torch.export",
}
NEXT: dict[TorchForm, str] = {
    "state": "net: with the network's class (a known name or module:Class)",
    "script": "leave net and format out, which are for weights alone",
    "export": "format: export",
}
OLD = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8"
"""The number at the beginning of what torch.save wrote before it wrote archives."""
PLAIN = ("torch", "collections", "numpy", "_codecs", "builtins", "__builtin__", "copyreg", "copy_reg")
"""What a file that holds tensors may import; other modules belong to whoever saved it."""
FOREIGN = {
    b"TFL3": "a LiteRT (TFLite) file. Next: type: litert",
    b"\x89HDF": "an HDF5 file, as of Keras. Next: export the network to ONNX",
    b"<!DO": "a web page, no file of PyTorch. Next: download it anew",
    b"<htm": "a web page, no file of PyTorch. Next: download it anew",
    b"vers": "a pointer of Git LFS. Next: git lfs pull",
}


def fault(path: str, expected: TorchForm) -> str:
    """Why a local file cannot be `expected`, with what to write instead; empty where nothing tells."""
    size = os.path.getsize(path)
    if not size:
        return "is empty (0 bytes)"
    with open(path, "rb") as file:
        head = file.read(16)
    for mark, what in FOREIGN.items():
        if head.startswith(mark) or head[4:8] == mark == b"TFL3":
            return f"is {what}"
    if path.endswith(".safetensors"):
        return _safetensors(path, size) or _other("state", expected)
    if head.startswith(b"PK"):
        return _zipped(path, expected)
    if head[:1] != b"\x80" or not head[2:].startswith(OLD):
        return "is no file of PyTorch: neither an archive nor a pickle of torch.save"
    return _other("state", expected)


def _other(form: TorchForm, expected: TorchForm) -> str:
    return "" if form == expected else f"holds {WORDS[form]}, and is read as {WORDS[expected]}. Next: {NEXT[form]}"


def _zipped(path: str, expected: TorchForm) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()}
            form = _form(names)
            if form is None:
                return "is an archive, but none of PyTorch"
            own = [n for n in archive.namelist() if n.endswith("/data.pkl")]
            objects = sorted(set(_objects(archive.read(own[0])))) if form == expected == "state" and own else []
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        return f"is damaged or was cut off ({error})"
    if objects:
        return (
            f"holds Python objects ({', '.join(objects[:3])}), which would run code. Next: save its weights alone, "
            "torch.save(model.state_dict(), path)"
        )
    return _other(form, expected)


def _form(names: set[str]) -> TorchForm | None:
    if "constants.pkl" in names and any(name.startswith("code/") for name in names):
        return "script"
    if any(name.endswith(".json") for name in names) and (
        "archive_format" in names or "serialized_exported_program.json" in names
    ):
        return "export"
    return "state" if "data.pkl" in names else None


def _objects(pickled: bytes) -> Iterator[str]:
    """Classes that a pickle would import and that hold more than tensors."""
    words: list[str] = []
    for code, argument, _ in pickletools.genops(pickled):
        if code.name == "GLOBAL":
            module, name = str(argument).split(" ", 1)
        elif code.name == "STACK_GLOBAL" and len(words) > 1:
            module, name = words[-2:]
        else:
            if isinstance(argument, str):
                words.append(argument)
            continue
        if module.partition(".")[0] not in PLAIN or module.startswith("torch.nn.modules"):
            yield f"{module}.{name}"


def _safetensors(path: str, size: int) -> str:
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= size - 8:
            return "is no safetensors file, or was cut off within its header"
        try:
            header = json.loads(file.read(length))
            ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError):
            return "is no safetensors file: its header does not say where its tensors lie"
    if ends and 8 + length + max(ends) > size:
        return f"was cut off: {size} of {8 + length + max(ends)} bytes"
    return ""
