"""The loader: every sample once, the same batches on any world size, and continuing as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from itertools import islice
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hyperloom.pipeline.errors import IntegrityError, RecipeError
from hyperloom.pipeline.root.storage import Storage
from hyperloom.stages.base import VALID
from hyperloom.stages.shard.loader import Loader
from hyperloom.stages.table import write_table
from tests.unit.inline import modalities

KNOWN = modalities(
    rgb={"type": "image", "size": [3, 2]},
    depth={"type": "dense"},
    soft={"type": "soft", "classes": ["a", "b"]},
    id={"type": "vector", "length": 1},
    pick={"type": "scalar"},
)
ID, DEPTH, PICK = "id@test", "depth@test", "pick@test"


def shards(storage: Storage, sizes: list[int], row_group: int) -> list[dict[str, Any]]:
    """Files with samples numbered through; every third has no depth, the others their number as depth. Of four in a
    row the second and third are picked, and nobody knows of the fourth."""
    made, first = [], 0
    for number, rows in enumerate(sizes):
        ids = np.arange(first, first + rows, dtype=np.float32)
        values = {
            ID: list(ids[:, None]),
            DEPTH: [np.full((3, 2, 1), i, np.float32) if i % 3 else None for i in ids],
            "rgb@test": [np.full((3, 2, 3), i % 256, np.uint8) for i in ids],
            "soft@test": [np.full((3, 2, 2), 0.4, np.float32)] * rows,
            PICK: [(np.float32([0]), np.float32([1]), np.float32([0.5]), None)[int(i) % 4] for i in ids],
        }
        fields = [KNOWN[c.partition("@")[0]].field(c) for c in values]
        columns = {c: KNOWN[c.partition("@")[0]].encode(v) for c, v in values.items()}
        storage.write(f"{number}.parquet", write_table(columns, fields, rows=row_group))
        made.append({"path": f"{number}.parquet", "split": "train", "rows": rows, "row_group": row_group})
        first += rows
    return made


PHOTO = modalities(photo={"type": "image", "size": [16, 24], "codec": "jpeg"})


def photographs(storage: Storage, count: int) -> tuple[list[dict[str, Any]], list[np.ndarray]]:
    """Shards with JPEGs, each fifth missing, and what OpenCV reads in them; a picture's first pixel is about 8 times
    its number."""
    photo, files = PHOTO["photo"], []
    for i in range(count):
        picture = np.random.default_rng(i).integers(0, 256, (2, 3, 3), np.uint8)
        picture[0, 0] = 8 * i + 4
        files.append(photo.compress(cv2.resize(picture, (24, 16), interpolation=cv2.INTER_NEAREST)) if i % 5 else None)
    read = [None if f is None else cv2.imdecode(np.frombuffer(f, np.uint8), cv2.IMREAD_COLOR_RGB) for f in files]
    table = write_table({"photo@test": pa.array(files, pa.binary())}, [photo.field("photo@test")], rows=4)
    storage.write("photos.parquet", table)
    return [{"path": "photos.parquet", "split": "train", "rows": count, "row_group": 4}], read


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Callable[[tuple[int, ...], int], tuple[Storage, list[dict[str, Any]]]]:
    """Shards of these sizes, made once."""

    @cache
    def make(sizes: tuple[int, ...], row_group: int) -> tuple[Storage, list[dict[str, Any]]]:
        storage = Storage(str(tmp_path_factory.mktemp("data")))
        return storage, shards(storage, list(sizes), row_group)

    return make


def loader(storage: Storage, listed: list[dict[str, Any]], columns: tuple[str, ...] = (ID,), **how: Any) -> Loader:
    return Loader(storage, listed, KNOWN, columns, **{"batch": 4, "ahead": 0, **how})


def ids(batch: dict[str, torch.Tensor]) -> list[int]:
    return batch[ID][:, 0].int().tolist()


def together(parts: Iterable[list[int]]) -> list[int]:
    return [i for part in parts for i in part]


DATA = st.sampled_from([(1,), (2, 7), (12, 1, 5), (31,)])
SETTINGS = settings(max_examples=20, deadline=None)
FEW = settings(max_examples=8, deadline=None)


@SETTINGS
@given(
    sizes=DATA, row_group=st.sampled_from([1, 4]), world_size=st.integers(1, 4), batch=st.integers(1, 9),
    pool=st.integers(1, 6), epoch=st.integers(0, 2), shuffle=st.booleans(),
)  # fmt: skip
def test_every_sample_comes_once_and_the_batches_are_the_same_on_any_world_size(
    made, sizes, row_group, world_size, batch, pool, epoch, shuffle
) -> None:
    storage, listed = made(sizes, row_group)
    how = {"batch": batch, "pool": pool, "shuffle": shuffle, "seed": 3}

    def epochs(world_size: int) -> list[list[list[int]]]:
        ranks = [loader(storage, listed, world_size=world_size, rank=r, **how) for r in range(world_size)]
        for rank in ranks:
            rank.load_state_dict({**rank.state_dict(), "epoch": epoch})
        return [[ids(part) for part in parts] for parts in zip(*ranks, strict=True)]

    many, one = epochs(world_size), epochs(1)
    assert sorted(i for parts in many for part in parts for i in part) == list(range(sum(sizes)))
    assert [together(parts) for parts in many] == [parts[0] for parts in one], "ranks hold slices of the same batch"
    assert all(max(map(len, parts)) - min(map(len, parts)) <= 1 for parts in many)


@SETTINGS
@given(
    sizes=DATA, batch=st.integers(1, 6), worlds=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    steps=st.integers(0, 14), drop_last=st.booleans(), ahead=st.sampled_from([0, 2]),
)  # fmt: skip
def test_continuing_on_another_world_size_is_as_if_nothing_had_happened(
    made, sizes, batch, worlds, steps, drop_last, ahead
) -> None:
    storage, listed = made(sizes, 4)
    how = {"batch": batch, "drop_last": drop_last, "pool": 2, "ahead": ahead}

    def walk(ranks: list[Loader], count: int) -> list[list[int]]:
        """`count` global batches, over the ends of epochs."""
        found: list[list[int]] = []
        while len(found) < count:
            for parts in islice(zip(*ranks, strict=True), count - len(found)):
                found.append(together(map(ids, parts)))
        return found

    assume(not drop_last or batch <= sum(sizes))
    undisturbed = walk([loader(storage, listed, **how)], steps + 6)
    before = [loader(storage, listed, world_size=worlds[0], rank=r, **how) for r in range(worlds[0])]
    assert walk(before, steps) == undisturbed[:steps]
    state = before[-1].state_dict()
    assert all(rank.state_dict() == state for rank in before)
    after = [loader(storage, listed, world_size=worlds[1], rank=r, **how) for r in range(worlds[1])]
    for rank in after:
        rank.load_state_dict(state)
    assert walk(after, 6) == undisturbed[steps:]


@FEW
@given(
    sizes=st.sampled_from([(2, 7), (12, 1, 5), (31,)]), batch=st.integers(1, 5), world_size=st.integers(1, 3),
    pool=st.integers(1, 6), shuffle=st.booleans(),
)  # fmt: skip
def test_only_what_a_column_chooses_is_handed_out(made, sizes, batch, world_size, pool, shuffle) -> None:
    storage, listed = made(sizes, 4)
    how = {"batch": batch, "pool": pool, "shuffle": shuffle, "only": PICK, "columns": (ID, DEPTH)}
    chosen = [i for i in range(sum(sizes)) if i % 4 in (1, 2)]
    ranks = [loader(storage, listed, world_size=world_size, rank=r, **how) for r in range(world_size)]
    parts = [together(map(ids, batches)) for batches in zip(*ranks, strict=True)]
    assert sorted(together(parts)) == chosen and ranks[0].rows == len(chosen)
    assert parts == [ids(batch) for batch in loader(storage, listed, **how)]
    for given_ in loader(storage, listed, **how):
        there = given_[DEPTH + "?"]
        assert (given_[DEPTH][there][:, 0, 0] == given_[ID][there]).all(), "values are those of the sample"


def test_a_choice_goes_with_parts_of_shards_and_with_two_kinds(made) -> None:
    """A part of a shard is what a split `val` out of its end leaves."""
    storage, listed = made((31,), 4)
    part = [{**listed[0], "rows": 16, "part": (6, 31)}]
    assert sorted(together(map(ids, loader(storage, part, only=PICK)))) == [6, 9, 10, 13, 14, 17, 18, 21]
    two = loader(storage, part, only=PICK, batch=2)
    two.divide(DEPTH, 0.5)
    for batch in islice(two, 8):
        assert sorted(i % 3 == 0 for i in ids(batch)) == [False, True]
    with pytest.raises(RecipeError, match=r"only: pick@test is above 0 for no sample of the split 'train'"):
        loader(storage, [{**listed[0], "rows": 1, "part": (3, 31)}], only=PICK, batch=1)


def test_epochs_and_seeds_differ_and_repeat(tmp_path) -> None:
    storage = Storage(str(tmp_path))
    listed = shards(storage, [40, 40], 5)
    one = loader(storage, listed)
    first, second = [together(map(ids, one)) for _ in range(2)]
    assert sorted(first) == sorted(second) and first != second
    assert together(map(ids, loader(storage, listed))) == first
    assert together(map(ids, loader(storage, listed, seed=1))) != first


def test_the_order_is_pinned(tmp_path) -> None:
    storage = Storage(str(tmp_path))
    listed = shards(storage, [5, 4], 3)
    found = [sorted(ids(b)) for b in loader(storage, listed, seed=7, pool=2)]
    assert found == [[0, 1, 6, 8], [2, 3, 5, 7], [4]], "with another order, interrupted trainings continue wrongly"


def test_missing_values_are_masked_and_types_are_those_of_memory(tmp_path) -> None:
    storage = Storage(str(tmp_path))
    listed = shards(storage, [7], 3)
    columns = (ID, DEPTH, "rgb@test", "soft@test")
    batches = list(loader(storage, listed, columns, batch=3, ahead=2))
    assert [len(b[ID]) for b in batches] == [3, 3, 1]
    for batch in batches:
        assert batch[DEPTH].dtype == torch.float32 and batch["rgb@test"].dtype == torch.uint8
        there = batch[ID][:, 0] % 3 != 0
        assert torch.equal(batch[DEPTH + "?"], there)
        assert torch.equal(batch[DEPTH][there][:, 0, 0], batch[ID][there]) and not batch[DEPTH][~there].any()
        assert torch.equal(batch["rgb@test"][:, 2, 1, 0], batch[ID][:, 0].byte())
        assert torch.allclose(batch["soft@test"], torch.tensor(0.4), atol=0.002)
    native = next(iter(loader(storage, listed, columns, native=True)))
    assert native[DEPTH].dtype == torch.float16 and native["soft@test"].dtype == torch.float16


@pytest.mark.parametrize("cache_mb", [0, 100])
def test_files_are_decoded_as_they_were_encoded_wherever_that_is_done(tmp_path, cache_mb) -> None:
    storage, photo = Storage(str(tmp_path)), PHOTO["photo"]
    listed, pictures = photographs(storage, 30)
    for _ in range(2):
        seen = 0
        for batch in Loader(storage, listed, PHOTO, ("photo@test",), batch=7, cache_mb=cache_mb, threads=2, pool=2):
            for value, there in zip(batch["photo@test"].numpy(), batch["photo@test" + VALID].tolist(), strict=True):
                number = int(value[0, 0].mean().round()) // 8 if there else None
                expected = np.zeros(photo.shape, np.uint8) if number is None else pictures[number]
                assert np.array_equal(value, expected)
                seen += 1
        assert seen == 30


FILES = modalities(
    png={"type": "image", "size": [5, 7], "codec": "png"},
    jpeg={"type": "image", "size": [5, 7], "codec": "jpeg"},
    webp={"type": "image", "size": [5, 7], "codec": "webp"},
    came={"type": "image", "size": [5, 7], "codec": "file"},
    wav={"type": "audio", "rate": 8000, "seconds": 0.01, "codec": "wav"},
    flac={"type": "audio", "rate": 8000, "seconds": 0.01, "codec": "flac"},
    heard={"type": "audio", "rate": 8000, "seconds": 0.01, "codec": "file"},
)
"""All that keep files."""


def a_file(name: str, number: int) -> bytes | None:
    """Also grey pictures, short sounds, and each fourth missing."""
    modality, draw = FILES[name], np.random.default_rng(number)
    if number % 4 == 3:
        return None
    if modality.type == "audio":
        return modality.compress(draw.integers(-999, 999, int(draw.integers(1, 81)), np.int16))
    picture = draw.integers(0, 256, (5, 7, 3), np.uint8)
    if name == "came" and number % 4:
        return cv2.imencode(".png" if number % 4 == 1 else ".jpg", picture[..., 0])[1].tobytes()
    return modality.compress(picture)


@pytest.mark.parametrize("cache_mb", [0, 0.003, 100])
@pytest.mark.parametrize("dirt", [0, 0x55, 0xFF])
def test_a_batch_is_what_each_file_holds_whatever_lay_in_its_memory(tmp_path, monkeypatch, cache_mb, dirt) -> None:
    storage, rows, columns = Storage(str(tmp_path)), 13, [f"{name}@x" for name in FILES]
    files = {f"{name}@x": [a_file(name, i) for i in range(rows)] for name in FILES}
    values = {c: pa.array(f, pa.binary()) for c, f in files.items()} | {
        ID: KNOWN["id"].encode(np.arange(rows)[:, None])
    }
    fields = [{**FILES, **KNOWN}[c.partition("@")[0]].field(c) for c in values]
    storage.write("0.parquet", write_table(values, fields, rows=4))
    alone = {c: [None if f is None else FILES[c[:-2]].decompress(f) for f in files[c]] for c in columns}

    def empty(shape: Any, dtype: Any = float, **how: Any) -> np.ndarray:
        made = real(shape, dtype, **how)
        made.view(np.uint8)[...] = dirt
        return made

    real = np.empty
    monkeypatch.setattr(np, "empty", empty)
    listed = [{"path": "0.parquet", "split": "train", "rows": rows, "row_group": 4}]
    data = Loader(storage, listed, {**FILES, **KNOWN}, [*columns, ID], batch=5, cache_mb=cache_mb, threads=2, pool=2)
    for batch in (batch for _ in range(3) for batch in data):
        for c in columns:
            modality = FILES[c[:-2]]
            for i, got, there in zip(ids(batch), batch[c].numpy(), batch[c + VALID].tolist(), strict=True):
                known = alone[c][i]
                stored = np.full(modality.shape, modality.missing, modality.stored) if known is None else known
                assert there == (known is not None) and np.array_equal(got, modality.to_memory(stored)), (c, i)


@pytest.mark.parametrize("cache_mb", [0, 100])
@pytest.mark.parametrize("fault", ["turned", "torn", "none"])
def test_a_file_of_another_size_or_cut_short_is_said_with_its_column(tmp_path, cache_mb, fault) -> None:
    storage, whole = Storage(str(tmp_path)), cv2.imencode(".jpg", np.full((16, 24, 3), 90, np.uint8))[1].tobytes()
    turned = cv2.imencode(".jpg", np.full((24, 16, 3), 90, np.uint8))[1].tobytes()
    data = {"turned": turned, "torn": whole[: len(whole) // 2], "none": b""}[fault]
    table = write_table({"photo@test": pa.array([whole, data], pa.binary())}, [PHOTO["photo"].field("photo@test")])
    storage.write("0.parquet", table)
    listed = [{"path": "0.parquet", "split": "train", "rows": 2, "row_group": 2}]
    with pytest.raises(IntegrityError, match=r"0\.parquet, column photo@test: .*Next: hyperloom verify"):
        list(Loader(storage, listed, PHOTO, ("photo@test",), batch=2, cache_mb=cache_mb))


@pytest.mark.parametrize("cache_mb", [0, 0.0002, 100])
def test_memory_changes_nothing_but_the_reads(tmp_path, cache_mb) -> None:
    storage = Storage(str(tmp_path))
    listed = shards(storage, [30], 3)
    plain, kept = (loader(storage, listed, (ID, DEPTH), cache_mb=mb, pool=3) for mb in (0, cache_mb))
    for _ in range(2):
        for a, b in zip(plain, kept, strict=True):
            assert ids(a) == ids(b) and torch.equal(a[DEPTH], b[DEPTH])
    (tmp_path / "0.parquet").unlink()
    if cache_mb == 100:
        assert sum(len(ids(b)) for b in kept) == 30, "a data set that fits is not read again"
    else:
        with pytest.raises(IntegrityError, match=r"0\.parquet"):
            list(kept)


def test_shards_may_lie_in_another_store(tmp_path) -> None:
    local, remote = Storage(str(tmp_path)), Storage(f"memory://{tmp_path.name}")
    found = [[ids(b) for b in loader(s, shards(s, [9, 4], 2), (ID, DEPTH))] for s in (local, remote)]
    assert found[0] == found[1]


def test_only_the_columns_asked_for_are_read(tmp_path) -> None:
    storage = Storage(str(tmp_path))
    listed = shards(storage, [6], 3)
    path = tmp_path / "0.parquet"
    data, value = path.read_bytes(), KNOWN["rgb"].encode(np.zeros((1, 3, 2, 3)))
    import pyarrow.parquet as pq

    column = pq.read_metadata(pa.BufferReader(data)).row_group(0).column(2)
    assert column.path_in_schema == "rgb@test" and value.nbytes
    start = column.data_page_offset
    path.write_bytes(data[:start] + bytes(column.total_compressed_size) + data[start + column.total_compressed_size :])
    assert sum(len(ids(b)) for b in loader(storage, listed, (ID, DEPTH))) == 6
    with pytest.raises(IntegrityError, match="is not a whole Parquet file"):
        list(loader(storage, listed, ("rgb@test",)))


def test_a_reader_that_leaves_early_continues_where_it_was(tmp_path) -> None:
    storage = Storage(str(tmp_path))
    listed = shards(storage, [20], 3)
    whole = [ids(b) for b in loader(storage, listed)]
    one = loader(storage, listed, ahead=3)
    first = next(iter(one))
    assert [ids(first)] + [ids(b) for b in one] == whole
    assert one.state_dict()["epoch"] == 1 and len(one) == len(whole) == 5


def test_neighbours_are_torn_apart(tmp_path) -> None:
    """Over an epoch, positions before and after correlate as little as in a true permutation (within 4 sigma)."""
    from hyperloom.stages.shard.order import epoch

    order = epoch([8] * 400, seed=0, number=0, pool=32)
    position = order.visits * 8 + order.rows
    correlation = np.corrcoef(position, np.arange(len(position)))[0, 1]
    assert abs(correlation) < 4 / np.sqrt(400), "row groups are the units that are permuted"
    batches = [set(b[:, 0].tolist()) for _, b in order.batches(0, 32)]
    assert np.mean([len(b) for b in batches]) > 18, "a batch of 32 comes from many places"
    opened = [len({g for b in batches[:i] for g in b} & {g for b in batches[i:] for g in b}) for i in range(1, 100)]
    assert max(opened) <= 34, "and yet only about `pool` row groups are open"


def test_ranks_keep_to_their_row_groups() -> None:
    from hyperloom.stages.shard.order import epoch, share

    order = epoch([8] * 256, seed=0, number=0, pool=32)
    reads = sum(len({int(g) for _, b in order.batches(0, 64) for g in share(b, r, 2)[:, 0]}) for r in range(2))
    assert reads < 1.5 * 256, "two ranks together read little more than one would"


def test_mistakes_are_said_plainly(tmp_path) -> None:
    storage = Storage(str(tmp_path))
    listed = shards(storage, [6], 3)
    with pytest.raises(RecipeError, match="no shard is in the split 'test'; there are: train"):
        loader(storage, listed, split="test")
    with pytest.raises(RecipeError, match="6 samples, fewer than one batch of 7"):
        loader(storage, listed, batch=7, drop_last=True)
    with pytest.raises(ValueError, match="other data or another seed"):
        loader(storage, listed, seed=1).load_state_dict(loader(storage, listed).state_dict())
    with pytest.raises(IntegrityError, match="other row groups"):
        list(loader(storage, [{**listed[0], "row_group": 2}]))
