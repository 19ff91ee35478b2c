"""Identity: what moves a fingerprint, what cannot, and that it is the same for ever."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyperloom.pipeline.config import Config, StepName, placement
from hyperloom.pipeline.fields import step_refs
from hyperloom.pipeline.fingerprint import canonical, fingerprint, payload
from hyperloom.pipeline.plugins import Plugin

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


class Inner(Plugin):
    revision: ClassVar[int] = 2
    weight: float = 1.0
    path: str = placement("here")
    model: StepName | None = None


class Outer(Config):
    data: list[StepName]
    in_: str = "rgb"
    inner: Inner = Inner(type="inner")
    workers: int = placement(1)


@given(JSON)
def test_the_order_of_keys_means_nothing(value: Any) -> None:
    def turned(v: Any) -> Any:
        if isinstance(v, dict):
            return {k: turned(v[k]) for k in reversed(list(v))}
        return [turned(x) for x in v] if isinstance(v, list) else v

    assert fingerprint(value) == fingerprint(turned(value))


@given(st.integers(), st.text(), st.text())
def test_placement_cannot_move_a_fingerprint(workers: int, path: str, name: str) -> None:
    plain = Outer(data=["a"])
    moved = Outer(data=["a"], workers=workers, inner=Inner(type="inner", path=path))
    assert payload(moved, lambda n: "f") == payload(plain, lambda n: "f")
    assert payload(Outer(data=[name]), lambda n: "f") == payload(plain, lambda n: "f")  # a step's name is no meaning


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_meaning_moves_it(weight: float) -> None:
    plain = fingerprint(payload(Inner(type="inner")))
    assert (fingerprint(payload(Inner(type="inner", weight=weight))) == plain) == (weight == 1.0)


def test_a_field_at_its_default_is_left_out_so_a_new_field_moves_nothing() -> None:
    assert payload(Inner(type="inner")) == {"type": "inner", "revision": 2}


def test_a_field_whose_meaning_changed_moves_who_uses_it_alone() -> None:
    class Mended(Inner):
        def revised(self) -> int:
            return 3 if self.weight != 1.0 else super().revised()

    assert payload(Mended(type="inner")) == payload(Inner(type="inner"))
    assert payload(Mended(type="inner", weight=2.0)) == {"type": "inner", "revision": 3, "weight": 2.0}


@pytest.mark.parametrize("value", [math.nan, math.inf, {1: 2}, {"a": {1, 2}}, b"bytes", object()])
def test_what_has_no_canonical_form_raises(value: Any) -> None:
    with pytest.raises(TypeError, match=r"\$"):
        canonical({"x": value} if not isinstance(value, dict) else value)


def test_steps_that_are_read_are_found_in_nested_plugins_too() -> None:
    config = Outer(data=["frames", "labels"], inner=Inner(type="inner", model="teacher"))
    assert list(step_refs(config)) == ["frames", "labels", "teacher"]
    assert payload(config, lambda n: n.upper())["inner"]["model"] == {"step": "TEACHER"}


def test_golden() -> None:
    """These may change only with a decision that every stored result becomes stale."""
    assert canonical({"b": [1, 2.5, None, True], "a": "é"}) == '{"a":"é","b":[1,2.5,null,true]}'
    assert fingerprint({}) == "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    config = Outer(data=["frames"], inner=Inner(type="inner", weight=0.5, model="teacher"), workers=7)
    assert fingerprint(payload(config, lambda n: "0" * 64)) == GOLDEN


GOLDEN = "ea2d80cc7039d12341abc7806adadbf6c55226c8ffda07c5175fc9e92b7700d3"
