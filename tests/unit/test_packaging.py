"""What a wheel is told to hold: every folder of Python, and every file beside it, under the one name `hyperloom`."""

from __future__ import annotations

import tomllib
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
FOLDERS = ("pipeline", "stages", "clusters", "mlflow", "recipes")
STUDIES = Path("recipes/papers")
"""Recipes of studies, with code of their own: they need a checkout."""
SETUPTOOLS = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["setuptools"]


def files() -> list[Path]:
    inside = (p for folder in FOLDERS for p in (CHECKOUT / folder).rglob("*") if p.is_file())
    named = (p.relative_to(CHECKOUT) for p in inside if "__pycache__" not in p.parts)
    return [p for p in named if not p.is_relative_to(STUDIES)]


def package(file: Path) -> str:
    if file.parent == Path("pipeline/python"):
        return "hyperloom"
    return "hyperloom." + ".".join(file.parent.parts)


def test_every_folder_is_a_package_of_the_wheel() -> None:
    assert sorted(SETUPTOOLS["packages"]) == sorted({package(f) for f in files()})
    assert SETUPTOOLS["package-dir"] == {
        "hyperloom": "pipeline/python",
        **{f"hyperloom.{folder}": folder for folder in FOLDERS},
    }


def test_every_file_is_in_the_wheel() -> None:
    data = SETUPTOOLS["package-data"]
    lost = [f for f in files() if f.suffix != ".py" and not any(f.match(p) for p in data.get(package(f), []))]
    assert lost == []
