"""Experts that need no weights: appearance, motion, surfaces. (Segmenters by rule: see stages.label.segmenters.)

Each is a plug-in that says what it reads and makes; the algorithm is a function in `stages.label.algorithms`, imported
when a worker builds the expert. Frames before are asked for with `offsets`; where the group has none there is no
answer, which is a null.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pydantic import Field, model_validator

from hyperloom.pipeline.counting import counted
from hyperloom.stages.base import modality_of
from hyperloom.stages.label.expert import Batch, Expert, Function

if TYPE_CHECKING:
    import numpy as np

    from hyperloom.pipeline.root.storage import Storage

E = TypeVar("E", bound=Expert)


class Hsv(Expert):
    """`{type: hsv, in: rgb@camera, out: hsv@rgb}`: hue, saturation, value in 0..1; `out` is dense, 3 channels."""

    @model_validator(mode="after")
    def _columns(self) -> Hsv:
        return takes(self, 1, 1)

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        from hyperloom.stages.label.algorithms.appearance import hsv

        return each(self, hsv)


class Edges(Expert):
    """`{type: edges, in: rgb@camera, out: edges@gradient}`: 0..1, dense with 1 channel.

    `gradient` is the strength of the strongest channel's gradient (Scharr's kernel) and `sobel` that of the grey
    picture's (Sobel's), 1 at `full` grey values (of 0..1) a pixel; `canny` is 1 on thin edges. `sigma` is the blur
    before, in pixels.
    """

    method: Literal["gradient", "sobel", "canny"] = "gradient"
    sigma: float = Field(0.7, ge=0)
    full: float = Field(0.25, gt=0)

    @model_validator(mode="after")
    def _columns(self) -> Edges:
        return takes(self, 1, 1)

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        from hyperloom.stages.label.algorithms import appearance

        if self.method == "canny":
            return each(self, lambda rgb: appearance.canny_edges(rgb, self.sigma)[..., None])
        strength = appearance.sobel_edges if self.method == "sobel" else appearance.gradient_edges
        return each(self, lambda rgb: strength(rgb, self.sigma, self.full)[..., None])


class SoftColors(Expert):
    """`{type: soft-colors, in: rgb@camera, out: softseg@color}`: soft segments by colour, 0..1, one a channel of `out`.

    See algorithms.softcolors. `seeds` squared patches are compared, colours in `bins` steps an axis; `sigma` is the
    smoothing of the result, in pixels.
    """

    seeds: int = Field(8, ge=2, le=16)
    bins: int = Field(12, ge=2, le=32)
    sigma: float = Field(1.0, ge=0)

    @model_validator(mode="after")
    def _columns(self) -> SoftColors:
        return takes(self, 1, 1)

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        from hyperloom.stages.label.algorithms.softcolors import soft_colors

        count = modalities[modality_of(self.out[0])].channels
        return each(self, lambda rgb: soft_colors(rgb, count, self.seeds, self.bins, self.sigma))


class Flow(Expert):
    """`{type: flow, in: rgb@camera, out: flow@dis}`: where each pixel was in the frame before, dense with 2 channels.

    Values are pixels (x, y) of the frames as they come: now + flow is the same point in the frame before. The first
    frame of a group has no answer, nor has one whose frame before is more than `max_gap` indices away, or was shown
    more than `max_seconds` before, where that is given: frames of phones come at any pace.
    """

    preset: Literal["ultrafast", "fast", "medium"] = "fast"
    zoom: int = Field(1, ge=1, le=4)
    max_gap: int = Field(1, ge=1)
    max_seconds: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _columns(self) -> Flow:
        return takes(self, 1, 1)

    def offsets(self) -> dict[str, tuple[int, ...]]:
        return {self.in_[0]: (-1,)}

    @property
    def timed(self) -> bool:
        return self.max_seconds is not None

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        from hyperloom.stages.label.algorithms.flow import dis_flow

        flow = dis_flow(self.preset, self.zoom)

        def call(batch: Batch) -> Batch:
            now, before = batch[self.in_[0]], batch[f"{self.in_[0]}[-1]"]
            gaps = batch["index"] - batch["index[-1]"]
            near = (gaps > 0) & (gaps <= self.max_gap)
            if self.max_seconds is not None:
                near &= batch["time"] - batch["time[-1]"] <= self.max_seconds + 1e-6
            flows = [flow(n, b) if known else None for n, b, known in zip(now, before, near, strict=True)]
            return {self.out[0]: flows}  # type: ignore[dict-item]

        return call


class DepthFromFlow(Expert):
    """`{type: depth-from-flow, in: [flow@dis, pose@telemetry], out: depth@motion}`: metres, dense with 1 channel.

    Triangulates flow with the camera's known motion (see algorithms.triangulation and algorithms.pose).
    `range` is the least and greatest depth; `parallax` the least motion in pixels that a point at the least depth must
    show; `tolerance` the distance in pixels from the epipolar line at which a pixel is filled in from around instead.
    A frame with no parallax at all (the camera stood still) has no answer.
    """

    range: tuple[float, float] = (2.0, 500.0)
    parallax: float = Field(1.0, gt=0)
    tolerance: float = Field(1.0, gt=0)
    sigma: float = Field(1.5, ge=0)

    @model_validator(mode="after")
    def _columns(self) -> DepthFromFlow:
        if not 0 < self.range[0] < self.range[1]:
            raise ValueError(f"range: expected [least, greatest] depth in metres, got {list(self.range)}")
        return takes(self, 2, 1)

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        from hyperloom.stages.label.algorithms.pose import Pose
        from hyperloom.stages.label.algorithms.triangulation import depth_from_flow

        def depth(flow: np.ndarray, pose: np.ndarray) -> np.ndarray | None:
            depth_ = depth_from_flow(flow, Pose.of(pose), *self.range, self.parallax, self.tolerance, self.sigma)
            return None if depth_ is None else depth_[..., None]

        return each(self, depth)


class Normals(Expert):
    """`{type: normals, in: [depth@motion, pose@telemetry], out: normals@depth}`: unit vectors in camera coordinates.

    `out` is dense with 3 channels. The plane is fitted over a window of `sigma` pixels: `inverse-depth` as the gradient
    of inverse depth, `svd` as the direction in which the points of a square of 2 sigma to each side vary least, which
    leaves out depths of 0 and below. Without a pose the camera's focal length is `focal`, as a share of the picture's
    width. With one, `level` (0..1) is how much is given to the prior that the world is horizontal: depth from motion
    is noisy, and its derivatives more so.
    """

    method: Literal["inverse-depth", "svd"] = "inverse-depth"
    sigma: float = Field(3.0, gt=0)
    focal: float = Field(0.85, gt=0)
    level: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _columns(self) -> Normals:
        if self.level and len(self.in_) == 1:
            raise ValueError("level: only a pose says what is horizontal; give in: [depth, pose]")
        return takes(self, (1, 2), 1)

    def build(self, modalities: dict[str, Any], storage: Storage) -> Function:
        import numpy as np

        from hyperloom.stages.label.algorithms import surface
        from hyperloom.stages.label.algorithms.pose import Pose, rays

        fit = surface.normals_by_svd if self.method == "svd" else surface.normals_from_depth

        def normals(depth: np.ndarray, *pose: np.ndarray) -> np.ndarray:
            height, width = depth.shape[:2]
            if not pose:
                return fit(depth[..., 0], rays(height, width, (self.focal, self.focal * width / height)), self.sigma)
            known = Pose.of(pose[0])
            normals_ = fit(depth[..., 0], known.rays(height, width), self.sigma)
            normals_ = (1 - self.level) * normals_ + self.level * known.up.astype(np.float32)
            return normals_ / np.maximum(np.linalg.norm(normals_, axis=-1, keepdims=True), 1e-6)

        return each(self, normals)


def each(expert: Expert, function: Callable[..., np.ndarray | None]) -> Function:
    """A batch function from one of single samples: the inputs' values in, the only output's value or None out."""

    def call(batch: Batch) -> Batch:
        rows = zip(*(batch[column] for column in expert.in_), strict=True)
        return {expert.out[0]: [function(*values) for values in rows]}  # type: ignore[dict-item]

    return call


def takes(expert: E, inputs: int | tuple[int, int], outputs: int) -> E:
    """`expert`, once it has so many columns. Raises ValueError."""
    least, most = inputs if isinstance(inputs, tuple) else (inputs, inputs)
    if not least <= len(expert.in_) <= most:
        expected = counted(least, "column") if least == most else f"{least} to {most} columns"
        raise ValueError(f"in: expected {expected}, got {list(expert.in_)}")
    if len(expert.out) != outputs:
        raise ValueError(f"out: expected {counted(outputs, 'column')}, got {list(expert.out)}")
    return expert
