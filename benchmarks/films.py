"""Which decoder reads videos: right frames of odd files, and frames a second, of PyAV, torchcodec and OpenCV.

    python -m benchmarks.films [--frames 240] [--rounds 3]

Odd files are those of tests/unit/test_video_files.py: an edit list, a cut file, B-frames in AVI, uneven times,
a cover beside the video, AV1. A decoder is right about one when its pictures show the numbers that a player
shows, in order, and no other. Speed: one 640 x 360 H.264 file with B-frames, frames a second of CPU time on one thread,
all in order (`frames_s`) and 24 at random places, each as RGB in memory; `list` is counting and timing them. A decoder
that cannot be imported is null. Prints one JSON line last.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hyperloom.stages.ingest.film import Film, FilmOptions, listed
from tests.unit import films


def odd_files(folder: Path) -> dict[str, tuple[Path, list[int]]]:
    """Name -> a file, and the numbers that it shows."""
    numbers, b_frames = list(range(30)), {"bf": "3", "g": "9"}
    cut = films.write(folder / "cut.mp4", options={"g": "1"})
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 8 // 10])
    good = len(listed(str(cut), "", FilmOptions("av")).times)
    edited = films.edited(films.write(folder / "edit.mp4", codec="libx264", options=b_frames), 13, 10)
    return {
        "edit_list": (edited, list(range(13, 23))),
        "cut": (cut, list(range(good))),
        "b_frames_in_avi": (films.write(folder / "h.avi", codec="libx264", options=b_frames), numbers),
        "uneven_times": (
            films.write(folder / "v.mp4", range(15), "libx264", films.UNEVEN, options={"bf": "0"}),
            [*range(15)],
        ),
        "cover": (films.streams(folder / "cover.mp4", "sound", "cover", "video"), list(range(20, 25))),
        "av1": (films.write(folder / "av1.mp4", codec="libsvtav1", options={"preset": "12"}), numbers),
    }


def ours(decoder: Any) -> tuple[Callable[[str], int], Callable[[str, list[int]], list[np.ndarray]]]:
    """Counting and reading with this project's readers."""

    def count(path: str) -> int:
        listed.cache_clear()
        return len(listed(path, "", FilmOptions(decoder)).times)

    def read(path: str, frames: list[int]) -> list[np.ndarray]:
        film = Film(FilmOptions(decoder))
        return [film.at(path, n).pixels for n in frames]

    return count, read


def torchcodec() -> tuple[Callable[[str], int], Callable[[str, list[int]], list[np.ndarray]]]:
    from torchcodec.decoders import VideoDecoder

    def read(path: str, frames: list[int]) -> list[np.ndarray]:
        decoder = VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=1)
        return [decoder[n].numpy() for n in frames]

    return lambda path: len(VideoDecoder(path, num_ffmpeg_threads=1)), read


def shows(count: Callable[[str], int], read: Any, path: Path, expected: list[int]) -> bool:
    try:
        return [films.number(frame) for frame in read(str(path), list(range(count(str(path)))))] == expected
    except (ValueError, RuntimeError, IndexError):
        return False


def large(folder: Path, frames: int) -> Path:
    """Noise that moves, 640 x 360."""
    rough = np.random.default_rng(0).integers(0, 255, (45 + frames, 80, 3), np.uint8)
    look = lambda n: rough[n : n + 45].repeat(8, 0).repeat(8, 1)  # noqa: E731
    return films.write(folder / "large.mp4", range(frames), "libx264", look=look, options={"bf": "3", "g": "48"})


def measured(action: Callable[[], Any], rounds: int) -> float:
    """The median of some rounds, in seconds of CPU time."""
    spent = []
    for _ in range(rounds):
        start = time.process_time()
        action()
        spent.append(time.process_time() - start)
    return statistics.median(spent)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=240)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        files, path = odd_files(Path(name)), str(large(Path(name), options.frames))
        places = random.Random(0).sample(range(options.frames), 24)
        makers: dict[str, Callable[[], Any]] = {
            "av": lambda: ours("av"), "opencv": lambda: ours("opencv"), "torchcodec": torchcodec,
        }  # fmt: skip
        for decoder, maker in makers.items():
            try:
                count, read = maker()
            except (ImportError, OSError, RuntimeError) as error:
                print(f"{decoder}: {str(error).splitlines()[0][:200]}")
                figures[decoder] = None
                continue
            right = {kind: shows(count, read, *file) for kind, file in files.items()}
            whole = measured(lambda: read(path, list(range(options.frames))), options.rounds)  # noqa: B023
            some = measured(lambda: read(path, places), options.rounds)  # noqa: B023
            figures[decoder] = {
                "right": right,
                "frames_s": round(options.frames / whole, 1),
                "random_frames_s": round(len(places) / some, 1),
                "list_frames_s": round(options.frames / measured(lambda: count(path), options.rounds), 1),  # noqa: B023
            }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
