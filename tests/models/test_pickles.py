"""Files of torch.save from elsewhere: their weights are read, whatever lies beside them, and
nothing in them is imported, called or built."""

from __future__ import annotations

import argparse
import collections
import datetime
import decimal
import enum
import functools
import operator
import os
import pathlib
import pickle
import resource
import subprocess
import sys
import types
import uuid
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from antioversmooth.errors import CheckpointError
from antioversmooth.models import pickles
from antioversmooth.models.state_files import read_state

STATE = {"norm.weight": torch.arange(3.0), "norm.bias": torch.ones(2, 2).T}
OLD = pytest.mark.parametrize("old", [False, True], ids=["zip", "before 1.6"])


class Plain:
    def __init__(self) -> None:
        self.value = 1


class Slots:
    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 1


class ListOfOwn(list): ...  # type: ignore[type-arg]


class DictOfOwn(dict): ...  # type: ignore[type-arg]


class Colour(enum.Enum):
    red = "red"


Pair = collections.namedtuple("Pair", "one two")


def dict_with_attributes() -> DictOfOwn:
    value = DictOfOwn(a=1, b={"c": [2]})
    value.frozen = True
    return value


BESIDE: dict[str, Callable[[], Any]] = {
    "arguments with paths": lambda: argparse.Namespace(out=pathlib.PosixPath("/x"), lr=[1e-3]),
    "omegaconf": lambda: OmegaConf.create({"a": [1, {"b": 2}]}),
    "dict of own, as of yacs": dict_with_attributes,
    "list of own": lambda: ListOfOwn([1, Plain()]),
    "NumPy scalars": lambda: [np.float64(81.2), np.int64(3), np.bool_(True)],
    "NumPy arrays": lambda: {"a": np.arange(5), "names": np.array(["x", "y"])},
    "NumPy generators": lambda: [np.random.RandomState(3), np.random.default_rng(3)],
    "times": lambda: [datetime.datetime(2026, 1, 2), datetime.timedelta(3), datetime.UTC],
    "enum, also as a key": lambda: {Colour.red: Colour.red},
    "objects": lambda: [Plain(), Slots(), types.SimpleNamespace(a=1), ValueError("x")],
    "a module": lambda: nn.Sequential(nn.Linear(2, 2)),
    "an optimizer, its class and its schedule": lambda: schedule(),
    "functions": lambda: [os.path.join, functools.partial(int, base=2), operator.attrgetter("a")],
    "containers": lambda: [
        collections.deque([1], maxlen=2), collections.defaultdict(list, {"a": [1]}), {1, 2},
        frozenset([3]), collections.Counter("aab"), Pair(1, 2), range(3), slice(1, 2), ...,
    ],
    "numbers": lambda: [decimal.Decimal("1.5"), 2**70, 1j, uuid.UUID(int=5), b"raw"],
}  # fmt: skip


def schedule() -> list[Any]:
    optimizer = torch.optim.AdamW([nn.Parameter(torch.ones(2))])
    return [optimizer, torch.optim.AdamW, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3)]


def save(content: Any, path: Path, *, old: bool) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    return path


def assert_read(path: Path) -> None:
    stored = read_state(path)
    assert stored.tensors.keys() == STATE.keys()
    assert all(torch.equal(stored.tensors[key], value) for key, value in STATE.items())


@OLD
@pytest.mark.parametrize("kind", BESIDE)
def test_weights_are_read_whatever_lies_beside_them(kind: str, old: bool, tmp_path: Path) -> None:
    if old and kind == "a module":
        pytest.skip("the old format stores the class of a module in a place of its own")
    content = {"epoch": 3, "config": BESIDE[kind](), "model": STATE, "last": BESIDE[kind]()}
    assert_read(save(content, tmp_path / "weights.pth", old=old))


@OLD
def test_weights_within_a_dict_of_a_foreign_class_are_read(old: bool, tmp_path: Path) -> None:
    assert_read(save(DictOfOwn(model=DictOfOwn(STATE)), tmp_path / "weights.pth", old=old))


def test_a_class_that_is_not_installed_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = types.ModuleType("elsewhere")
    module.Config = type("Config", (dict,), {"__module__": "elsewhere"})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "elsewhere", module)
    save({"model": STATE, "config": module.Config(a=1)}, tmp_path / "weights.pth", old=False)
    monkeypatch.delitem(sys.modules, "elsewhere")
    assert_read(tmp_path / "weights.pth")
    assert "elsewhere" not in sys.modules


def test_values_between_the_tensors_are_named_in_the_report(tmp_path: Path) -> None:
    torch.save({"model": {**STATE, "version": 3, "config": Plain()}}, tmp_path / "weights.pth")
    assert read_state(tmp_path / "weights.pth").no_tensors == ("version", "config")
    assert_read(tmp_path / "weights.pth")


# -- hostile files ---------------------------------------------------------------------------------


class Reduced:
    """Pickled as a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any, state: Any = None) -> None:
        self.result = (function, arguments, *([state] if state else []))

    def __reduce__(self) -> Any:
        return self.result


def marker(folder: Path) -> Path:
    return folder / "executed"


class Armed:
    """Writes the file that it is given, by whatever way it is built."""

    def __init__(self, path: str) -> None:
        Path(path).touch()

    def __setstate__(self, path: str) -> None:
        Path(path).touch()

    def __setitem__(self, path: str, _: object) -> None:
        Path(path).touch()

    def append(self, path: str) -> None:
        Path(path).touch()

    def extend(self, paths: list[str]) -> None:
        touch(*paths)


def touch(path: str) -> None:
    Path(path).touch()


CALLS: dict[str, Callable[[str], Any]] = {
    "os.system": lambda path: Reduced(os.system, f"touch {path}"),
    "subprocess": lambda path: Reduced(subprocess.call, ["touch", path]),
    "eval": lambda path: Reduced(eval, f"open({path!r}, 'w')"),
    "exec": lambda path: Reduced(exec, f"open({path!r}, 'w')"),
    "open": lambda path: Reduced(open, path, "w"),
    "a function of ours": lambda path: Reduced(touch, path),
    "a class of ours": lambda path: Reduced(Armed, path),
    "partial": lambda path: Reduced(functools.partial(touch, path)),
    "map": lambda path: Reduced(list, Reduced(map, touch, [path])),
    "a method": lambda path: Reduced(operator.methodcaller("touch"), Path(path)),
    "the state of an object": lambda path: Reduced(object.__new__, Armed, state=path),
    "torch.hub": lambda path: Reduced(torch.hub.load, path, "model"),
    "torch.load": lambda path: Reduced(torch.load, path),
    "a default": lambda path: collections.defaultdict(functools.partial(touch, path), {"a": 1}),
}
PLACES: dict[str, Callable[[Any], Any]] = {
    "beside": lambda call: {"model": STATE, "config": call},
    "within the weights": lambda call: {"model": {**STATE, "more": call}},
    "as a tensor": lambda call: {"model": {"norm.weight": call}},
    "deeply": lambda call: {"model": STATE, "a": [{"b": ({"c": [call]},)}]},
    "alone": lambda call: call,
}


@OLD
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("call", CALLS)
def test_no_call_in_a_file_is_made(call: str, place: str, old: bool, tmp_path: Path) -> None:
    """The weights beside it are read, or the file is refused."""
    try:
        save(PLACES[place](CALLS[call](str(marker(tmp_path)))), tmp_path / "evil.pth", old=old)
    except TypeError:
        pytest.skip("cannot be pickled")
    marker(tmp_path).unlink(missing_ok=True)
    try:
        read_state(tmp_path / "evil.pth")
    except CheckpointError as err:
        refusal = str(err)
    else:
        refusal = f"{tmp_path}/evil.pth "
    assert refusal.startswith(f"{tmp_path}/evil.pth ")
    assert not marker(tmp_path).exists()


def raw(opcodes: bytes) -> bytes:
    return b"\x80\x02" + opcodes + b"."


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


ARMED = f"c{__name__}\nArmed\n".encode()
TOUCH = f"c{__name__}\ntouch\n".encode()
OPCODES: dict[str, Callable[[bytes], bytes]] = {
    "INST": lambda path: b"(" + path + f"i{__name__}\nArmed\n".encode(),
    "OBJ": lambda path: b"(" + ARMED + path + b"o",
    "NEWOBJ and BUILD": lambda path: ARMED + b")\x81" + path + b"b",
    "BUILD of a class": lambda path: ARMED + b"}" + text("__init__") + TOUCH + b"sb",
    "BUILD of a function": lambda path: TOUCH + b"}" + text("__code__") + path + b"sb",
    "BUILD of torch's function": lambda path: (
        b"ctorch._utils\n_rebuild_tensor_v2\n}" + text("__defaults__") + path + b"\x85sb"
    ),
    "SETITEM": lambda path: ARMED + b")\x81" + path + b"K\x01s",
    "APPEND": lambda path: ARMED + b")\x81" + path + b"a",
    "APPENDS": lambda path: ARMED + b")\x81(" + path + b"e",
    "a name with dots": lambda path: b"cos\npath.os.system\n" + path + b"\x85R",
    "Python 2's name": lambda path: b"c__builtin__\neval\n" + path + b"\x85R",
    "getattr": lambda path: (
        b"c__builtin__\ngetattr\ncposixpath\nos\n" + text("mkdir") + b"\x86R" + path + b"\x85R"
    ),
    "STACK_GLOBAL": lambda path: text(__name__) + text("touch") + b"\x93" + path + b"\x85R",
    "an extension": lambda path: b"\x82\x01" + path + b"\x85R",
    "a persistent id": lambda path: path + b"\x85Q",
    "rebuilt by a foreign function": lambda path: (
        b"ctorch._tensor\n_rebuild_from_type_v2\n" + b"(" + TOUCH + TOUCH + path + b"\x85}tR"
    ),
}


def replace_pickle(path: Path, content: bytes) -> None:
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, content if name.endswith("data.pkl") else part)


@pytest.mark.parametrize("kind", OPCODES)
def test_no_opcode_of_a_file_reaches_a_real_object(kind: str, tmp_path: Path) -> None:
    """A zip file as of torch.save, with a pickle that no pickler writes."""
    content = raw(OPCODES[kind](text(str(marker(tmp_path)))))
    replace_pickle(save({}, tmp_path / "evil.pth", old=False), content)
    defaults = torch._utils._rebuild_tensor_v2.__defaults__
    with pytest.raises(CheckpointError):
        read_state(tmp_path / "evil.pth")
    assert not marker(tmp_path).exists()
    assert "__init__" in vars(Armed)
    assert Armed.__init__ is not touch
    assert torch._utils._rebuild_tensor_v2.__defaults__ == defaults


def test_the_hostile_files_would_run_if_they_were_unpickled(tmp_path: Path) -> None:
    """The test of the tests."""
    for name in ("INST", "OBJ", "NEWOBJ and BUILD", "SETITEM", "APPENDS", "STACK_GLOBAL"):
        pickle.loads(raw(OPCODES[name](text(str(marker(tmp_path))))))
        assert marker(tmp_path).exists(), name
        marker(tmp_path).unlink()


def test_the_list_of_classes_that_torch_may_build_is_as_before_after_a_file(tmp_path: Path) -> None:
    before = set(torch.serialization.get_safe_globals())
    pickles.load(save({"model": STATE, "a": Plain()}, tmp_path / "weights.pth", old=False))
    assert set(torch.serialization.get_safe_globals()) == before


def test_a_memo_of_four_billion_entries_costs_no_memory(tmp_path: Path) -> None:
    """Four damaged bytes make one."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    content = raw(b"K\x01r" + (2**31 - 1).to_bytes(4, "little"))
    replace_pickle(save({}, tmp_path / "evil.pth", old=False), content)
    with pytest.raises(CheckpointError, match="holds no state dict"):
        read_state(tmp_path / "evil.pth")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20, "kibibytes"


@pytest.mark.parametrize("place", [0, 1000, -1])
def test_a_tensor_that_is_damaged_in_the_file_is_refused(place: int, tmp_path: Path) -> None:
    """Its number is finite, and torch.load would give it."""
    values = torch.rand(2000)
    path = save({"model": {"norm.weight": values}}, tmp_path / "weights.pth", old=False)
    content = bytearray(path.read_bytes())
    start = content.index(values.numpy().tobytes())
    content[start + 4 * (place % len(values))] ^= 1
    path.write_bytes(content)
    assert not torch.equal(torch.load(path, weights_only=True)["model"]["norm.weight"], values)
    with pytest.raises(CheckpointError, match=r"a part of it is damaged, .*/data/0; fetch"):
        read_state(path)


# -- advice ----------------------------------------------------------------------------------------


def test_the_advice_for_another_pickle_protocol_works_and_executes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "the fourth.pth"
    content = {"model": STATE, "config": Colour.red}
    torch.save(content, path, pickle_protocol=4)
    with pytest.raises(CheckpointError, match="save it again without pickle_protocol") as raised:
        read_state(path)
    assert "weights_only" not in str(raised.value)
    torch.save(content, path)
    assert_read(path)
