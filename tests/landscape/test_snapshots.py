import json
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import critpoints as cp
from critpoints.errors import InvalidArgument, InvalidData
from critpoints.landscape import results, snapshots
from critpoints.landscape.interpolation import interpolate_snapshots
from critpoints.landscape.networks import build
from critpoints.landscape.snapshots import Snapshots, SnapshotWriter, flatten_state
from critpoints.landscape.training import Recipe, fit


def network(width: int = 3) -> nn.Module:
    return build("vgg", (1, 4, 4), 2, seed=0, plan=(width,))


def test_a_run_is_recorded_at_the_wanted_steps(tmp_path: Path) -> None:
    model = network()
    x, y = torch.randn(12, 1, 4, 4), torch.arange(12) % 2
    seen = {}

    def remember(step: int, model: nn.Module) -> None:
        seen[step] = {name: each.clone() for name, each in model.state_dict().items()}
        write(step, model)

    write = SnapshotWriter(tmp_path, when=(0, 2, 3), metadata={"seed": 5})
    fit(model, (x, y), Recipe(lr=0.1, batch_size=4, epochs=1), seed=0, on_step=remember)
    found = Snapshots(tmp_path)
    assert found.steps == (0, 2, 3)
    assert found.metadata == {"seed": 5}
    for step, state in found.items():
        assert state.keys() == seen[step].keys()
        assert all(torch.equal(each, seen[step][name]) for name, each in state.items())
    matrix = found.matrix()
    parameters = nn.utils.parameters_to_vector(model.parameters()).detach().double()
    assert torch.equal(matrix[-1], parameters)
    assert not torch.equal(matrix[0], parameters)
    assert found.matrix(["0.bias"]).shape == (3, 3)


def test_a_resumed_run_goes_on_in_the_same_folder(tmp_path: Path) -> None:
    SnapshotWriter(tmp_path)(0, network())
    SnapshotWriter(tmp_path)(7, network())
    assert Snapshots(tmp_path).steps == (0, 7)


def test_states_of_another_shape_are_refused(tmp_path: Path) -> None:
    write = SnapshotWriter(tmp_path)
    write(0, network())
    with pytest.raises(InvalidData, match=r"step 1: 0.weight has shape \[4, 1, 3, 3\], expected \[3, 1, 3, 3\]"):
        write(1, network(4))
    with pytest.raises(InvalidData, match=r"9.weight has shape None"):
        SnapshotWriter(tmp_path / "other")(0, {"9.weight": torch.zeros(2)})
        SnapshotWriter(tmp_path / "other")(1, {"8.weight": torch.zeros(2)})
    with pytest.raises(InvalidData, match=r"the state has no 1.bias"):
        flatten_state({"0.bias": torch.zeros(2)}, ["1.bias"])


def test_snapshots_of_another_architecture_are_not_joined_to_a_run(tmp_path: Path) -> None:
    SnapshotWriter(tmp_path)(0, network(4))
    model = network(3).eval()
    objective = cp.ModuleObjective(model, F.cross_entropy, (torch.randn(6, 1, 4, 4), torch.arange(6) % 2))
    with pytest.raises(InvalidArgument, match=r"a belongs to another architecture.*\(4, 1, 3, 3\) instead of \(3, 1"):
        interpolate_snapshots(objective, Snapshots(tmp_path), model.state_dict(), 3, batch_norm="interpolate")


@pytest.mark.parametrize("failing", ["snapshot", "index"])
def test_a_run_that_dies_while_writing_leaves_what_was_complete(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = SnapshotWriter(tmp_path)
    write(0, network())

    def die(path: Path, content: bytes) -> None:
        path.write_bytes(content[: len(content) // 2])
        if (failing == "snapshot") == content.startswith(b"{"):
            return complete(path, content)
        raise OSError("killed")

    complete = snapshots._write
    monkeypatch.setattr(snapshots, "_write", die)
    with pytest.raises(OSError, match="killed"):
        write(1, network())
    monkeypatch.undo()
    assert Snapshots(tmp_path).steps == (0,)
    assert Snapshots(tmp_path)[0].keys() == network().state_dict().keys()
    SnapshotWriter(tmp_path)(1, network())
    assert Snapshots(tmp_path).steps == (0, 1)
    assert not list(tmp_path.glob(".*"))


def test_missing_and_damaged_snapshots_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidData, match="there are no snapshots in"):
        Snapshots(tmp_path)
    write = SnapshotWriter(tmp_path)
    write(0, network())
    write(10, network())
    path = tmp_path / "step-00000010.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    found = Snapshots(tmp_path)
    assert len(found[0]) > 0
    with pytest.raises(InvalidData, match=r"step-00000010.safetensors is damaged"):
        found[10]
    path.unlink()
    with pytest.raises(InvalidData, match=r"step-00000010.safetensors is missing"):
        found[10]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"schema": 1, "snapshots": {"x": {}}}', '{"schema": 9, "snapshots": {}}']
)
def test_a_damaged_index_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(InvalidData, match=r"index.json (is damaged|has schema 9)"):
        Snapshots(tmp_path)


def test_the_index_is_plain_json(tmp_path: Path) -> None:
    SnapshotWriter(tmp_path, metadata={"lr": 0.1})(3, network())
    index = json.loads((tmp_path / "index.json").read_text())
    assert index["metadata"] == {"lr": 0.1}
    assert list(index["snapshots"]) == ["3"]
    assert results.SCHEMA == index["schema"] == 1
