"""The decoded cache: what it holds, how it is made, and what a training reads from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from outcomes import losses
from PIL import Image

from antioversmooth import cli
from antioversmooth.datasets import dataset, decoded
from antioversmooth.datasets.dataset import open_dataset
from antioversmooth.datasets.decoded import DecodedCache, decoded_cache, training_images
from antioversmooth.datasets.images import FileImages, encode_names
from antioversmooth.errors import DataError
from antioversmooth.runs import Run, RunRecord, RunState
from antioversmooth.training.data.caching import make_parts, readable_again, shortened
from antioversmooth.training.data.decoding import open_image
from antioversmooth.training.train import train

SIDE = 32


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileImages:
    """Five images of several sizes, the fourth damaged; two a part."""
    monkeypatch.setattr(decoded, "PART", 2)
    generator = np.random.default_rng(0)
    names = [f"{number}.png" for number in range(5)]
    for name, (height, width) in zip(
        names, [(64, 96), (90, 40), (20, 50), (9, 9), (32, 33)], strict=True
    ):
        pixels = generator.integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "3.png").write_bytes(b"no image")
    return FileImages(tmp_path, encode_names(names), np.arange(5))


@pytest.fixture
def cache(images: FileImages, tmp_path: Path) -> DecodedCache:
    return DecodedCache(tmp_path / "cache", images)


def made(cache: DecodedCache) -> list[int]:
    return list(make_parts(cache, cache.missing(), side=SIDE, processes=0))


def test_it_holds_the_images_at_their_short_side_and_small_ones_as_they_are(
    cache: DecodedCache, images: FileImages
) -> None:
    assert made(cache) == [0, 1, 2]
    opened = cache.open()
    assert [opened.pixels(index).shape[:2] for index in (0, 1, 2, 4)] == [
        (32, 48),
        (72, 32),
        (20, 50),
        (32, 33),
    ]
    for index in (0, 1, 2, 4):
        expected = shortened(open_image(images, index), SIDE)
        assert torch.equal(open_image(opened, index), expected)
    assert torch.equal(open_image(opened, 2), open_image(images, 2))
    assert opened.labels.tolist() == [0, 1, 2, 3, 4]


def test_resizing_is_pillows_within_a_level() -> None:
    ramp = np.stack([*np.meshgrid(np.arange(120), np.arange(90)), np.full((90, 120), 7)], 2)
    image = Image.fromarray(ramp.astype(np.uint8))
    expected = np.asarray(image.resize((43, 32), Image.Resampling.BICUBIC)).astype(int)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    found = shortened(pixels, SIDE).permute(1, 2, 0).numpy().astype(int)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1


def test_an_image_that_could_not_be_read_is_an_error_where_it_is_read(cache: DecodedCache) -> None:
    made(cache)
    with pytest.raises(OSError, match=r"3\.png could not be read when the cache was made"):
        open_image(cache.open(), 3)


def test_a_file_that_is_cut_off_is_an_error_where_its_end_is_read(cache: DecodedCache) -> None:
    made(cache)
    opened = cache.open()
    path = cache.folder / "000000.pixels"
    path.write_bytes(path.read_bytes()[:-1])
    assert open_image(opened, 0).shape == (3, 32, 48)
    with pytest.raises(OSError, match=r"000000\.pixels ends before the pixels of .*1\.png do"):
        open_image(opened, 1)


def test_parts_that_are_torn_or_missing_are_made_again_and_no_others(cache: DecodedCache) -> None:
    made(cache)
    whole = {path.name: path.read_bytes() for path in cache.folder.iterdir()}
    (cache.folder / "000000.pixels").write_bytes(b"torn")
    (cache.folder / "000002.json").unlink()
    with pytest.raises(DataError, match=r"2 of 3 parts are missing.*--build-cache"):
        cache.open()
    assert made(cache) == [0, 2]
    assert {path.name: path.read_bytes() for path in cache.folder.iterdir()} == whole


def test_a_part_is_made_again_once_more_of_its_images_can_be_read(
    cache: DecodedCache, tmp_path: Path
) -> None:
    made(cache)
    assert cache.state.endswith(
        f"whole; 1 image(s) cannot be read: {tmp_path / '3.png'}; restore them and build it again,"
        " or set data.max_corrupt=1"
    )
    assert not any(readable_again(cache, part) for part in cache.parts)
    Image.new("RGB", (9, 9)).save(tmp_path / "3.png")
    wanted = [part for part in cache.parts if readable_again(cache, part)]
    assert wanted == [1]
    list(make_parts(cache, wanted, side=SIDE, processes=0))
    assert (cache.open().unreadable, cache.state) == ([], "whole")


@pytest.mark.parametrize(
    "shapes", ["[[1, 2], [3]]", "null", "[]", '[["a", 1], [2, 3]]', "[[1e9, 1], [2, 3]]", "7"]
)
def test_a_record_of_other_shapes_is_that_of_no_part(cache: DecodedCache, shapes: str) -> None:
    made(cache)
    (cache.folder / "000001.json").write_text(f'{{"sha256": "x", "shapes": {shapes}}}')
    assert cache.missing() == [1]
    assert made(cache) == [1]


def test_shapes_that_were_swapped_and_parts_that_were_exchanged_are_not_whole(
    cache: DecodedCache,
) -> None:
    made(cache)
    record = cache.folder / "000000.json"
    found = json.loads(record.read_text())
    found["shapes"] = [shape[::-1] for shape in found["shapes"]]
    record.write_text(json.dumps(found))
    assert cache.missing() == [0]
    made(cache)
    for ending in ("json", "pixels"):
        first, second = (cache.folder / f"00000{part}.{ending}" for part in (0, 1))
        contents = first.read_bytes(), second.read_bytes()
        second.write_bytes(contents[0])
        first.write_bytes(contents[1])
    with pytest.raises(DataError, match=r"2 of 3 parts are missing.*--build-cache"):
        cache.open()


def test_bytes_that_changed_are_found_by_their_sum(cache: DecodedCache) -> None:
    made(cache)
    path = cache.folder / "000001.pixels"
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(content)
    assert cache.missing() == []
    assert list(cache.damaged(cache.parts)) == [1]


@pytest.fixture
def of_trees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command on six training images, two a part."""
    monkeypatch.setattr(decoded, "PART", 2)
    for number in range(8):
        split = "train" if number < 6 else "val"
        path = tmp_path / "trees" / split / ("ash", "birch")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 50), (number, 0, 0)).save(path)
    return [
        "data",
        "deit_s12",
        f"data.root={tmp_path / 'trees'}",
        f"data.cache_root={tmp_path / 'caches'}",
        "data.num_classes=2",
        "data.num_train=6",
        "data.num_val=2",
        "recipe.global_batch=2",
        "recipe.mix_group=2",
        "recipe.min_lr=0",
    ]


def test_the_command_makes_shares_which_together_are_the_cache(
    of_trees: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = of_trees
    assert cli.main([*given, "--build-cache"]) == 2
    assert "data.cache: ImageNet-1k has no cache to build" in capsys.readouterr().err
    given += ["data.cache=32", "--build-cache"]
    assert cli.main([*given, "--share", "2/2"]) == 0
    assert "1 part(s) made, 2 of 3 parts are missing" in capsys.readouterr().err
    assert cli.main([*given, "--share", "1/2"]) == 0
    assert "2 part(s) made, whole" in capsys.readouterr().err
    assert cli.main(given) == 0
    assert "0 part(s) made, whole" in capsys.readouterr().err
    (folder,) = (tmp_path / "caches").iterdir()
    shapes = json.loads((folder / "000000.json").read_text())["shapes"]
    assert shapes == [[40, 32], [40, 32]]


def test_a_build_names_the_images_that_it_lacks_and_tries_them_again(
    of_trees: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # the damaged image is none of the sample that names the cache
    monkeypatch.setattr(dataset, "NUM_SAMPLED", 2)
    damaged = tmp_path / "trees" / "train" / "birch" / "3.png"
    content = damaged.read_bytes()
    damaged.write_bytes(content[:20])
    given = [*of_trees, "data.cache=32", "--build-cache"]
    assert cli.main(given) == 1
    said = capsys.readouterr().err
    assert f"3 part(s) made, whole; 1 image(s) cannot be read: {damaged}" in said
    assert "data.max_corrupt=1" in said
    assert cli.main([*given, "data.max_corrupt=1"]) == 0
    assert "0 part(s) made, whole; 1 image(s) cannot be read" in capsys.readouterr().err
    damaged.write_bytes(content)
    assert cli.main(given) == 0
    assert capsys.readouterr().err.endswith("-32: 1 part(s) made, whole\n")


def test_the_facts_of_a_cache_say_whether_it_is_whole_and_shares_need_a_build(
    of_trees: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*of_trees, "data.cache=32"]
    assert cli.main([*given, "--share", "1/2"]) == 2
    assert "--share: is for --build-cache" in capsys.readouterr().err
    assert cli.main(given) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith(f"cache        {tmp_path / 'caches'}")
    assert line.endswith("-32: 3 of 3 parts are missing")


def test_no_cache_is_built_inside_the_data(
    of_trees: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inside = tmp_path / "caches"
    inside.symlink_to(tmp_path / "trees" / "train")
    assert cli.main([*of_trees, "data.cache=32", "--build-cache"]) == 2
    assert f"data.cache_root: {inside} lies inside the data" in capsys.readouterr().err
    assert sorted(path.name for path in inside.iterdir()) == ["ash", "birch"]


def test_a_run_from_a_cache_of_two_shares_is_the_run_from_its_images(
    folder_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The images are smaller than the cache's side: their pixels are the same, and all losses."""
    monkeypatch.setattr(decoded, "PART", 4)
    plain = folder_run()
    root = Path(plain.experiment.data.root or "")
    cached = folder_run("data.cache=32", f"data.cache_root={root / 'caches'}")
    data = cached.experiment.data
    with pytest.raises(DataError, match=r"data\.cache: 6 of 6 parts are missing"):
        train(cached)
    cache = decoded_cache(data, open_dataset(data))
    for share in (1, 0):
        list(make_parts(cache, cache.parts[share::2], side=32, processes=0))
    pixels = cache.folder / "000003.pixels"
    whole = pixels.read_bytes()
    pixels.write_bytes(whole[:-1])
    with pytest.raises(DataError, match=r"1 of 6 parts are missing"):
        train(cached)
    pixels.write_bytes(whole)
    train(cached)
    train(plain)
    assert losses(cached) == losses(plain)
    assert RunRecord.read(cached).status.state is RunState.done
    # it lacks an image
    (root / "train" / "cedar" / "cedar7.png").write_bytes(b"")
    lacking = decoded_cache(data, open_dataset(data))
    list(make_parts(lacking, lacking.parts, side=32, processes=0))
    with pytest.raises(
        DataError,
        match=rf"1 image\(s\) cannot be read in the cache {lacking.folder}, data.max_corrupt allows"
        r" 0: .*cedar7\.png; restore them and run `antioversmooth data SPEC --build-cache`, or",
    ):
        training_images(data, open_dataset(data))
    # other images have another fingerprint, or another sum: the cache is not theirs
    (root / "train" / "ash" / "ash0.png").write_bytes(
        (root / "train" / "birch" / "birch0.png").read_bytes()
    )
    assert decoded_cache(data, open_dataset(data)).folder != cache.folder
    other = folder_run("data.cache=32", f"data.cache_root={root / 'caches'}", "recipe.hflip=0.4")
    with pytest.raises(DataError, match=r"6 of 6 parts are missing"):
        train(other)


def test_a_training_reads_the_cache_once_it_is_whole(folder_run: Callable[..., Run]) -> None:
    """It has other pixels, so it is another run; a cache that is missing is said at the start."""
    plain = folder_run()
    config = plain.experiment.data
    run = folder_run("data.cache=32", f"data.cache_root={Path(config.root or '') / 'caches'}")
    assert run.id != plain.id
    data = run.experiment.data
    dataset = open_dataset(data)
    assert training_images(config, dataset) is dataset.train
    with pytest.raises(DataError, match=r"parts are missing in .*; make them with"):
        training_images(data, dataset)
    cache = decoded_cache(data, dataset)
    list(make_parts(cache, cache.parts, side=32, processes=0))
    found = training_images(data, dataset)
    assert torch.equal(open_image(found, 1), shortened(open_image(dataset.train, 1), 32))
