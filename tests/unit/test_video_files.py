"""Videos as phones, cameras, editors and broken cards leave them: the right frames and times, or a reason."""

from __future__ import annotations

import itertools
import os
import random
import struct
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyperloom.pipeline.commits.manifest import Manifest
from hyperloom.pipeline.plugins import load
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.ingest.film import Film, FilmOptions, listed
from hyperloom.stages.modality import jpegfile
from hyperloom.stages.table import read_table
from tests.unit import films, inline
from tests.unit.films import UNEVEN, number, picture, streams, write
from tests.unit.test_ingest import left_out, stage

KNOWN = inline.modalities(
    rgb={"type": "image", "size": [48, 64]},
    stored={"type": "image", "size": [48, 64], "orientation": "ignore"},
    film={"type": "clip", "frames": 3, "size": [48, 64]},
    flow={"type": "dense", "channels": 2, "storage": "float32", "size": [48, 64]},
    semantic={"type": "segmentation", "classes": ["land", "road"], "size": [48, 64]},
)
BOTH = pytest.mark.parametrize("decoder", ["av", "opencv"])


def ingest(root: Path, path: Path, **fields: Any) -> tuple[Manifest, Storage]:
    source = {"type": "video", "path": str(path), **{k: v for k, v in fields.items() if k != "rows"}}
    storage = Storage(str(root / "root"))
    return inline.finish(inline.step(stage(source, rows=fields.get("rows", 32)), storage, KNOWN)), storage


def shown(root: Path, path: Path, **fields: Any) -> tuple[list[int], list[float], str]:
    """The numbers that the samples' pictures show, their times, and what was said."""
    made, storage = ingest(root, path, **fields)
    values = inline.column(storage, KNOWN, made, fields.get("column", "rgb@camera"))
    tables = [read_table(storage, f.path, ["key", "time"]) for r in made.records for f in r.files]
    times = [t for table in tables for t in table["time"].to_pylist()]
    assert list(values) == [k for table in tables for k in table["key"].to_pylist()]
    return [number(v) for v in values.values() if v is not None], times, " | ".join(made.body["remarks"])


# -- counts ------------------------------------------------------------------------------------------------------------
@BOTH
@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
@pytest.mark.parametrize("first", [20, 13])
def test_an_edit_list_hides_frames(tmp_path: Path, codec: str, first: int, decoder: str) -> None:
    options = {"bf": "2", "g": "8"} if codec == "libx264" else {"g": "8"}
    path = films.edited(write(tmp_path / "cut.mp4", codec=codec, options=options), first, 10)
    numbers, times, said = shown(tmp_path, path, decoder=decoder)
    assert numbers == list(range(first, first + 10)) and said == ""
    assert times == pytest.approx(np.arange(10) / 25, abs=1e-3)


@BOTH
@pytest.mark.parametrize("codec", ["mpeg4", "libx264"])
@pytest.mark.parametrize("share", [0.75, 0.85, 0.95])
def test_a_cut_file_gives_its_good_frames_and_one_line(tmp_path: Path, codec: str, share: float, decoder: str) -> None:
    options = {"bf": "3", "g": "8"} if codec == "libx264" else {"g": "1"}
    path = write(tmp_path / "cut.mp4", codec=codec, options=options)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    made, storage = ingest(tmp_path, path, decoder=decoder)
    numbers = [number(v) for v in inline.column(storage, KNOWN, made, "rgb@camera").values() if v is not None]
    assert 5 < len(numbers) < 30 and made.quarantined == 1, "a file counts as one"
    key = f"cut/{len(numbers):06d}-000029"
    assert left_out(made, storage) == {key: f"ValueError: cut.mp4 ends after {len(numbers)} of 30 frames"}
    assert made.body["remarks"] == [] and made.rows == len(numbers)
    if decoder == "av" or codec == "mpeg4":
        assert numbers == list(range(len(numbers))), "none after one that is missing"


@pytest.mark.parametrize("fields", [{"every": 4}, {"seconds": 0.16}, {"clip": 3, "every": 4, "column": "film@camera"}])
def test_a_cut_file_counts_as_one_and_its_samples_are_those_of_the_whole(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    whole = write(tmp_path / "a.mp4", codec="mpeg4", options={"g": "1"})
    expected = ingest(tmp_path / "whole", whole, **fields)[0].rows
    whole.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * 0.8)])
    made, storage = ingest(tmp_path / "cut", whole, **fields)
    assert 1 < made.rows < expected and made.quarantined == 1
    (error,) = left_out(made, storage).values()
    assert "a.mp4 ends after" in error


@BOTH
@pytest.mark.parametrize("says", [1000, 5])
def test_a_header_that_lies_about_the_count(tmp_path: Path, says: int, decoder: str) -> None:
    path = write(tmp_path / "lies.avi", range(20), "mjpeg", form="yuvj420p")
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"avih") + 8 + 16, says)
    struct.pack_into("<I", data, data.index(b"strh") + 8 + 32, says)
    path.write_bytes(data)
    numbers, _, said = shown(tmp_path, path, decoder=decoder, rows=6)
    assert numbers == list(range(20))
    assert said == ("lies.avi ends after 20 of 1000 frames" if says > 20 else "")


def test_a_cut_matroska_file_says_when_it_ends(tmp_path: Path) -> None:
    path = write(tmp_path / "cut.mkv", codec="libx264", options={"bf": "0", "g": "5"})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.7)])
    numbers, _, said = shown(tmp_path, path)
    assert numbers == list(range(len(numbers))) and 5 < len(numbers) < 30
    assert said.startswith("cut.mkv ends after 0.") and said.endswith("of 1.20 seconds")


def test_frames_before_the_first_key_frame_have_no_number(tmp_path: Path) -> None:
    options = {"bf": "0", "g": "8", "sc_threshold": "0"}
    path = write(tmp_path / "a.ts", codec="libx264", options=options, keep=lambda p: p >= 3)
    assert shown(tmp_path, path)[0] == list(range(8, 30))


# -- the right frame ---------------------------------------------------------------------------------------------------
KINDS = [
    ("a.mp4", "libx264", {"bf": "3", "g": "9"}, None),
    ("open.mp4", "libx264", {"bf": "3", "g": "9", "x264-params": "open-gop=1"}, None),
    ("uneven.mp4", "libx264", {"bf": "3", "g": "9"}, [n * 40 + n % 3 * 13 + (900 if n > 17 else 0) for n in range(30)]),
    ("b.avi", "mpeg4", {"bf": "2", "g": "9"}, None),
    ("h.avi", "libx264", {"bf": "3", "g": "9"}, None),
    ("m.avi", "mjpeg", {}, None),
    ("a.mkv", "libx264", {"bf": "3", "g": "9"}, None),
    ("a.webm", "libvpx", {"g": "9", "lag-in-frames": "8", "auto-alt-ref": "1"}, None),
    ("a.ts", "libx264", {"bf": "3", "g": "9"}, None),
    ("a.mpg", "mpeg2video", {"bf": "2", "g": "9"}, None),
    ("a.gif", "gif", {}, [n * 40 + (500 if n > 9 else 0) for n in range(30)]),
]


@pytest.mark.parametrize(("name", "codec", "options", "times"), KINDS, ids=[k[0] for k in KINDS])
def test_a_frame_is_the_same_in_whatever_order_it_is_read(
    tmp_path: Path, name: str, codec: str, options: dict[str, str], times: list[int] | None
) -> None:
    form = {"gif": "rgb8", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
    path = str(write(tmp_path / name, codec=codec, options=options, times=times, form=form))
    frames = list(range(30))
    random.Random(name).shuffle(frames)
    readers = {decoder: Film(FilmOptions(decoder)) for decoder in ("av", "opencv")}
    assert [number(readers["av"].at(path, n).pixels) for n in frames] == frames
    for n in range(30):
        seen = {decoder: film.at(path, n).pixels.astype(int) for decoder, film in readers.items()}
        assert np.abs(seen["av"] - seen["opencv"]).max() <= 4, n
    expected = np.array(times) / 1000 if times else np.arange(30) / 25
    for decoder in readers:
        seconds = listed(path, "", FilmOptions(decoder)).times  # type: ignore[arg-type]
        assert seconds == pytest.approx(expected - expected[0], abs=0.0101 if codec == "gif" else 0.0011), decoder


def test_frames_that_refer_to_before_their_key_frame_are_not_damaged(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    noise = chance.integers(0, 255, (24, 2, 2, 3), np.uint8).repeat(8, 1).repeat(8, 2)
    options = {"bf": "3", "g": "9", "x264-params": "open-gop=1"}
    path = str(write(tmp_path / "open.mp4", range(24), "libx264", options=options, look=lambda n: noise[n]))
    whole, other = Film(FilmOptions("av")), Film(FilmOptions("av"))
    pixels = [whole.at(path, n).pixels for n in range(24)]
    for n in chance.permutation(24).tolist() * 2:
        assert (other.at(path, n).pixels == pixels[n]).all()


def test_an_edit_list_and_b_frames_in_any_order(tmp_path: Path) -> None:
    path = str(films.edited(write(tmp_path / "a.mp4", codec="libx264", options={"bf": "3", "g": "6"}), 9, 15))
    film, frames = Film(FilmOptions("av")), list(range(15))
    random.Random(3).shuffle(frames)
    assert [number(film.at(path, n).pixels) for n in frames] == [n + 9 for n in frames]


# -- time --------------------------------------------------------------------------------------------------------------
@BOTH
def test_frames_by_seconds_follow_their_times(tmp_path: Path, decoder: str) -> None:
    path = write(tmp_path / "phone.mp4", range(15), "libx264", UNEVEN, options={"bf": "0"})
    numbers, times, _ = shown(tmp_path, path, decoder=decoder, seconds=0.5)
    assert numbers == [0, 6, 9, 11, 13, 14] and times == pytest.approx([0, 0.51, 1.01, 3, 3.5, 3.9], abs=1e-3)


def test_clips_by_seconds_lie_in_no_gap(tmp_path: Path) -> None:
    times = [*range(0, 400, 40), 1000, *range(1040, 1400, 40)]
    path = write(tmp_path / "phone.mp4", range(len(times)), "libx264", times)
    made, storage = ingest(tmp_path, path, column="film@camera", clip=3, pace=0.08, seconds=0.3)
    clips = inline.column(storage, KNOWN, made, "film@camera").values()
    assert [[number(f) for f in clip] for clip in clips if clip is not None] == [[0, 2, 4], [10, 12, 14], [15, 17, 19]]
    for wrong in ({"clip": 3, "seconds": 1}, {"clip": 3, "pace": 0.2, "seconds": 0.5}, {"seconds": 1, "every": 2}):
        with pytest.raises(ValueError, match="seconds"):
            ingest(tmp_path, path, column="film@camera", **wrong)


# -- streams -----------------------------------------------------------------------------------------------------------
def test_which_stream_is_the_video(tmp_path: Path) -> None:
    path = streams(tmp_path / "cover.mp4", "sound", "cover", "video")
    assert shown(tmp_path, path)[::2] == ([20, 21, 22, 23, 24], "")
    path = streams(tmp_path / "two.mkv", "video", "video")
    numbers, _, said = shown(tmp_path / "first", path)
    assert numbers == [0, 1, 2, 3, 4] and "several video streams" in said
    assert shown(tmp_path / "other", path, stream=1)[::2] == ([10, 11, 12, 13, 14], "")


@pytest.mark.parametrize(
    ("kinds", "why"),
    [(("sound",), "holds only sound"), (("sound", "cover"), "holds only the picture of a cover")],
)
def test_a_file_without_a_video_is_named(tmp_path: Path, kinds: tuple[str, ...], why: str) -> None:
    write(tmp_path / "raw" / "good.mp4", range(20))
    streams(tmp_path / "raw" / "song.mp4", *kinds)
    (tmp_path / "raw" / "none.avi").write_bytes(b"")
    (tmp_path / "raw" / "text.mkv").write_text("no video")
    made, storage = ingest(tmp_path, tmp_path / "raw")
    reasons = left_out(made, storage)
    assert f"song.mp4 {why}" in reasons["song"] and "none.avi is empty (0 bytes)" in reasons["none"]
    assert "text.mkv cannot be opened as a video" in reasons["text"] and len(reasons) == 3


# -- pictures ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
def test_a_video_is_turned_as_players_show_it(tmp_path: Path, degrees: int, mirrored: bool) -> None:
    path = str(write(tmp_path / "a.mp4", [5], "libx264", turn=(degrees, mirrored)))
    upright = np.rot90(picture(5), degrees // 90)  # PyAV: counter-clockwise, then mirrored
    upright = np.fliplr(upright) if mirrored else upright
    seen = Film(FilmOptions("av")).at(path, 0)
    assert seen.pixels.shape == upright.shape and np.abs(seen.pixels.astype(int) - upright).mean() < 4
    assert seen.stored == films.SIZE
    assert number(Film(FilmOptions("av", orientation="ignore")).at(path, 0).pixels) == 5
    if not mirrored:
        other = Film(FilmOptions("opencv")).at(path, 0)
        assert np.abs(other.pixels.astype(int) - upright).mean() < 4 and other.stored == films.SIZE
        assert number(Film(FilmOptions("opencv", orientation="ignore")).at(path, 0).pixels) == 5


@BOTH
def test_labels_of_a_turned_video_follow_the_rule_of_pictures(tmp_path: Path, decoder: str) -> None:
    path = write(tmp_path / "raw" / "a.mp4", range(3), turn=(90, False))
    labels = {0: np.zeros((64, 48)), 1: np.zeros((48, 64)), 2: np.zeros((32, 24))}
    for n, label in labels.items():
        np.save(tmp_path / f"{n}.npy", label.astype(np.uint8))
    columns = {"semantic@truth": f"{tmp_path}/{{frame}}.npy"}
    made, storage = ingest(tmp_path, path, columns=columns, decoder=decoder)
    assert list(left_out(made, storage)) == ["a/000001"]
    assert "orientation: ignore" in left_out(made, storage)["a/000001"]
    made, storage = ingest(tmp_path / "other", path, columns=columns, decoder=decoder, column="stored@camera")
    assert list(left_out(made, storage)) == ["a/000000"] or "another aspect" in " ".join(made.body["remarks"])


@pytest.mark.parametrize(
    ("name", "codec", "form"),
    [
        ("ten.mp4", "libx265", "yuv420p10le"),
        ("grey.mkv", "ffv1", "gray"),
        ("odd.mkv", "ffv1", "bgr0"),
        ("clear.mkv", "ffv1", "bgra"),
        ("field.mp4", "libx264", "yuv420p"),
    ],
)
def test_pixel_formats(tmp_path: Path, name: str, codec: str, form: str) -> None:
    import av

    def look(n: int) -> Any:
        if form != "bgra":
            return picture(n, (47, 63) if name == "odd.mkv" else films.SIZE)
        pixels = np.dstack([picture(n)[..., ::-1], np.full(films.SIZE, 128, np.uint8)])
        return av.VideoFrame.from_ndarray(pixels, format="bgra")

    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    options |= {"flags": "+ilme+ildct"} if name == "field.mp4" else {}
    path = write(tmp_path / name, range(4), codec, form=form, options=options, look=look)
    numbers, _, said = shown(tmp_path, path)
    assert numbers == [0, 1, 2, 3]
    expected = {"clear.mkv": "an alpha channel that is not opaque", "field.mp4": "interlaced frames are taken"}
    assert said.startswith(expected[name]) if name in expected else said == ""


def test_numbers_of_a_sensor_need_their_levels(tmp_path: Path) -> None:
    import av

    def look(n: int) -> Any:
        return av.VideoFrame.from_ndarray(picture(n)[..., 0].astype(np.uint16) * 16, format="gray16le")

    path = str(write(tmp_path / "raw.mkv", range(3), "ffv1", form="gray16le", look=look))
    for decoder in ("av", "opencv"):
        with pytest.raises(ValueError, match=r"raw.mkv holds .*levels:"):
            Film(FilmOptions(decoder)).at(path, 0)  # type: ignore[arg-type]
    assert (Film(FilmOptions("av", levels=(0, 4080))).at(path, 2).pixels == picture(2)).all()


def test_frames_that_change_their_size(tmp_path: Path) -> None:
    options = {"bf": "0", "g": "5"}
    parts = [
        write(tmp_path / f"{size}.ts", range(5), "libx264", options=options, look=partial(picture, size=size))
        for size in (films.SIZE, (96, 128))
    ]
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(p.read_bytes() for p in parts))
    film = Film(FilmOptions("av"))
    sizes = [film.at(str(path), n).pixels.shape[:2] for n in range(len(listed(str(path), "", FilmOptions("av")).times))]
    assert sizes == [films.SIZE] * 5 + [(96, 128)] * 5
    made, _ = ingest(tmp_path, path)
    assert any("change their size" in text for text in made.body["remarks"])


def test_frames_too_large_are_refused_by_the_header(tmp_path: Path) -> None:
    path = str(write(tmp_path / "a.mp4", range(2)))
    with pytest.raises(ValueError, match=r"a.mp4 has frames of 48 x 64 pixels, more than 0.001 million.*megapixels"):
        Film(FilmOptions("av", megapixels=0.001)).at(path, 0)


# -- damage ------------------------------------------------------------------------------------------------------------
EXAMPLES = int(os.environ.get("HYPERLOOM_EXAMPLES", "8"))
"""How many random files the property test makes."""


def second_reader(path: Path) -> dict[bytes, list[int]]:
    """Every frame that PyAV's own loop gives, in order and without seeking: its pixels and its places."""
    import av
    from av.video.reformatter import VideoReformatter

    frames: dict[bytes, list[int]] = {}
    reformatter, place = VideoReformatter(), itertools.count()
    with av.open(str(path), metadata_errors="replace") as file:
        stream = file.streams.video[0]
        stream.thread_type = "NONE"
        for packet in file.demux(stream):
            try:
                decoded = packet.decode()
            except av.error.FFmpegError:
                continue
            for frame in decoded:
                rgb = reformatter.reformat(frame, format="rgb24", interpolation="BICUBIC").to_ndarray()
                frames.setdefault(rgb.tobytes(), []).append(next(place))
    return frames


def damaged(data: bytes, damage: str, share: float) -> bytes:
    place = int(share * (len(data) - 1))
    if damage == "cut":
        return data[:place]
    if damage == "byte":
        return data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :]
    length = {"none": 0, "zeros": 40, "hole": 188}[damage]
    middle = bytes(min(length, len(data) - place)) if damage == "zeros" else b""
    return data[:place] + middle + data[place + length :]


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(KINDS),
    st.integers(1, 30),
    st.tuples(st.integers(8, 40), st.integers(8, 40)),
    st.integers(0, 9),
    st.sampled_from(["none", "cut", "byte", "zeros", "hole"]),
    st.floats(0, 1),
)
def test_any_video_is_what_a_second_reader_gives_or_a_reason(
    kind: Any, count: int, sides: tuple[int, int], seed: int, damage: str, share: float
) -> None:
    """And whatever is read, in any order, lies at its own time."""
    name, codec, options, times = kind
    count = max(count, 6) if name == "a.ts" else count  # FFmpeg does not know shorter ones for what they are
    form = {"gif": "rgb8", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
    chance, size = np.random.default_rng(seed), (2 * sides[0], 2 * sides[1])
    noise = chance.integers(0, 255, (count, *(n // 8 + 1 for n in size), 3), np.uint8)
    noise = noise.repeat(8, 1).repeat(8, 2)[:, : size[0], : size[1]]
    times = times[:count] if times else [40 * n for n in range(count)]
    with tempfile.TemporaryDirectory() as folder:
        path = write(
            Path(folder) / name, range(count), codec, kind[3] and times, form, options, look=lambda n: noise[n]
        )
        path.write_bytes(damaged(path.read_bytes(), damage, share))
        try:
            seconds = listed(str(path), f"{chance}", FilmOptions("av")).times
        except ValueError as error:
            assert damage != "none" and str(error).startswith(name), error
            return
        other, film, places = second_reader(path), Film(FilmOptions("av")), {}
        for n in chance.permutation(len(seconds)).tolist():
            try:
                pixels = film.at(str(path), n).pixels
            except ValueError as error:
                assert damage != "none" and name in str(error), error
                continue
            if codec == "libvpx" and damage != "none" and pixels.tobytes() not in other:
                continue  # a damaged frame of VP8 shows what lay in the decoder's memory
            assert pixels.tobytes() in other, f"frame {n} is none of the second reader's"
            places[n] = other[pixels.tobytes()]
        last = -1
        for n in sorted(places):
            assert places[n][-1] > last, "order"
            last = next(place for place in places[n] if place > last)
        if damage == "none":
            assert all(n in places[n] for n in range(count)) and len(places) == count
            assert seconds == pytest.approx(np.array(times) / 1000 - times[0] / 1000, abs=0.0101)


@pytest.mark.parametrize("shift", [1 << 28, 5 << 11, 3 << 12, -(1 << 13)])
def test_a_damaged_time_stamp_moves_no_frame(tmp_path: Path, shift: int) -> None:
    """One bit of a transport stream lies; the pictures' order is the decoder's."""
    path = write(tmp_path / "a.ts", range(20), "libx264", options={"bf": "3", "g": "20"})
    data, coded = path.read_bytes(), [films.stamp(7200 + 3600 * n) for n in range(20)]
    at = data.index(b"\x00\x00\x01\xe0", data.index(coded[6]) - 20)
    bent = films.stamp(7200 + 3600 * 6 + shift)
    path.write_bytes(data[:at] + data[at:].replace(coded[6], bent, 1))
    numbers, times, said = shown(tmp_path, path)
    assert numbers == list(range(20)) and said == ""
    assert times == sorted(times) and len(set(times)) == 20


@pytest.mark.parametrize(
    ("name", "codec", "share"), [("m.avi", "mjpeg", 0.7), ("a.ts", "libx264", 0.55), ("a.mkv", "mpeg4", 0.7)]
)
def test_a_picture_with_a_hole_is_left_out(tmp_path: Path, name: str, codec: str, share: float) -> None:
    form, chance = "yuvj420p" if codec == "mjpeg" else "yuv420p", np.random.default_rng(1)
    noise = chance.integers(0, 255, (12, 6, 8, 3), np.uint8).repeat(16, 1).repeat(16, 2)
    path = write(tmp_path / name, range(12), codec, form=form, options={"g": "4"}, look=lambda n: noise[n])
    data = path.read_bytes()
    place = int(share * len(data))
    path.write_bytes(data[:place] + bytes(120) + data[place + 120 :])
    made, storage = ingest(tmp_path, path)
    assert 1 <= len(left_out(made, storage)) <= 4 and all(name in why for why in left_out(made, storage).values())


def test_a_camera_may_leave_bytes_before_the_end_of_a_jpeg(tmp_path: Path) -> None:
    path = write(tmp_path / "m.avi", range(3), "mjpeg", form="yuvj420p")
    path.write_bytes(path.read_bytes().replace(b"\xff\xd9", b"\x12\xff\xd9"))
    import av

    with av.open(str(path)) as file:
        packets = [bytes(p) for p in file.demux(video=0) if p.size]
    assert jpegfile.fault(packets[0][:-2] + b"\x12\x34\xff\xd9") == ""
    assert jpegfile.fault(packets[0][:-40] + b"\xff\xd9") != ""


def test_flow_goes_by_seconds_and_shards_keep_them(tmp_path: Path) -> None:
    times = [0, 40, 80, 3000, 3040]
    for name in ("a", "b"):
        write(tmp_path / "raw" / f"{name}.mp4", range(5), "libx264", times)
    frames, storage = ingest(tmp_path, tmp_path / "raw", group="(?P<group>mp4)", rows=2)
    experts = [{"type": "flow", "in": "rgb@camera", "out": "flow@dis", "max_seconds": 0.1}]
    label = load("stage", "label").model_validate({"stage": "label", "data": ["frames"], "experts": experts})
    flows = inline.finish(inline.step(label, storage, KNOWN, "labels", frames=frames))
    known = [v is not None for v in inline.column(storage, KNOWN, flows, "flow@dis").values()]
    assert known == [False, True, True, False, True] * 2, "not over a gap, nor from one film to the next"
    shard = load("stage", "shard").model_validate(
        {"stage": "shard", "data": ["frames", "labels"], "split": {"pin": {"train": ["mp4"]}}}
    )
    shards = inline.finish(inline.step(shard, storage, KNOWN, "shards", frames=frames, labels=flows))
    seconds = read_table(storage, shards.body["shards"][0]["path"])["time"].to_pylist()
    assert seconds == pytest.approx([t / 1000 for t in times] * 2, abs=1e-3)
