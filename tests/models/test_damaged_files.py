"""Damaged network files say so; none gives another network, hangs or ends the process."""

import os
import subprocess
import sys
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from geoxai.errors import GeoxaiError, InputError
from geoxai.models.load import load_network
from geoxai.storage import hdf5
from tests.models.test_untrusted_files import exported

ARGS = {"in_features": 3, "out_features": 2}


def flipped(path, byte, target, bit=4):
    content = bytearray(path.read_bytes())
    content[byte] ^= 1 << bit
    target.write_bytes(content)
    return target


def outputs(path):
    options = {"architecture": "torch.nn:Linear", "args": ARGS} if path.suffix == ".pt" else {}
    module = load_network(path, **options).module
    shape = {".pt": (2, 3), ".pt2": (2, 1, 8, 12)}.get(path.suffix, (2, 6))
    with torch.no_grad():
        return module(torch.linspace(-1, 1, int(np.prod(shape))).reshape(shape)).numpy()


def made(path):
    torch.manual_seed(0)
    if path.suffix == ".pt":
        torch.save(nn.Linear(**ARGS).state_dict(), path)
    elif path.suffix == ".pt2":
        exported(path)
    else:
        keras = pytest.importorskip("keras")
        keras.utils.set_random_seed(0)
        dense = keras.layers.Dense(5, activation="relu")
        keras.Sequential([keras.layers.Input((6,)), dense, keras.layers.Dense(2)]).save(path)
    return path


@pytest.mark.parametrize("suffix", [".pt", ".pt2", ".keras"])
def test_a_flipped_bit_never_gives_another_network(tmp_path, suffix):
    path = made(tmp_path / f"net{suffix}")
    whole = outputs(path)
    refused = 0
    size = path.stat().st_size
    for byte in np.random.default_rng(1).integers(0, size, 40):
        try:
            found = outputs(flipped(path, int(byte), tmp_path / f"flipped{suffix}"))
        except GeoxaiError:
            refused += 1
        else:
            np.testing.assert_array_equal(found, whole)
    assert refused > 10


def test_a_weight_with_a_flipped_exponent_is_refused_without_a_checksum(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = made(tmp_path / "net.h5")
    with h5py.File(path) as file:
        names = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        kernel = next(file[name] for name in names if file[name].ndim == 2)
        values, where = kernel[()], kernel.id.get_offset()
    place = where + 4 * int(np.argmin(abs(abs(values.ravel()) - 0.4))) + 3
    with pytest.raises(InputError, match=r"the weights .* are up to 1\.\d+e\+38: the file is damaged"):
        load_network(flipped(path, place, tmp_path / "flipped.h5", bit=6))


def test_weights_that_are_nan_are_refused(tmp_path):
    state = nn.Linear(**ARGS).state_dict()
    state["weight"][0, 0] = torch.nan
    torch.save(state, tmp_path / "net.pt")
    with pytest.raises(InputError, match="the weights weight are NaN or infinite"):
        load_network(tmp_path / "net.pt", architecture="torch.nn:Linear", args=ARGS)


def test_a_checksum_of_hdf5_is_compared(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("kernel", data=np.arange(1000.0), fletcher32=True, chunks=(1000,))
        where = file["kernel"].id.get_chunk_info(0).byte_offset
    damaged = flipped(tmp_path / "a.h5", where + 100, tmp_path / "b.h5")
    with pytest.raises(InputError, match="damaged"):
        hdf5.rewritten(damaged, tmp_path / "copy.h5")


@pytest.mark.parametrize(
    ("does", "message"),
    [("while True: pass", "busy without end"), ("import os; os.kill(os.getpid(), 11)", "crashes the HDF5 library")],
)
def test_a_file_that_hangs_or_crashes_the_library_ends_with_a_sentence(tmp_path, monkeypatch, does, message):
    """As damaged files do, here with certainty: in place of the library there is a loop, or a crash."""
    child = tmp_path / "child.py"
    child.write_text(does)
    monkeypatch.setattr(hdf5, "_CHILD", child)
    (tmp_path / "a.h5").write_bytes(b"\x89HDF")
    with pytest.raises(InputError, match=message):
        hdf5.rewritten(tmp_path / "a.h5", tmp_path / "b.h5", seconds=1)


def test_the_copy_of_a_file_is_the_file(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["names"] = np.array([b"one", b"three"])
        file.attrs["long"] = "x" * 100_000
        group = file.create_group("layer/inner")
        group.create_dataset("half", data=np.arange(6, dtype="f2").reshape(2, 3))
        group.create_dataset("text", data="words")
        group.create_dataset("empty", data=np.zeros((0, 4), "f4"))
        file["elsewhere"] = h5py.ExternalLink("/etc/passwd", "x")
    hdf5.rewritten(tmp_path / "a.h5", tmp_path / "b.h5")
    with h5py.File(tmp_path / "b.h5") as copy:
        assert list(copy.attrs["names"]) == [b"one", b"three"]
        assert copy.attrs["long"] == "x" * 100_000
        half = copy["layer/inner/half"]
        assert half.dtype == np.float16
        assert half[()].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert copy["layer/inner/text"][()] == b"words"
        assert copy["layer/inner/empty"].shape == (0, 4)
        assert "elsewhere" not in copy


def test_a_truncated_archive_says_so(tmp_path):
    path = made(tmp_path / "net.pt2")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match="cut short or damaged"):
        load_network(path)


def test_two_members_of_one_name_are_refused(tmp_path):
    path = made(tmp_path / "net.pt2")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(archive.namelist()[0], b"another")
    with pytest.raises(InputError, match="two members of the same name"):
        load_network(path)
    assert os.path.exists(path)


def test_torch_logs_no_traceback_above_our_sentence(tmp_path):
    path = tmp_path / "net.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/archive_format", "pt2")
    code = f"from geoxai.models.load import load_network; load_network({str(path)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "InputError" in done.stderr
    assert "is not a readable torch.export program" in done.stderr
    assert "Ran into the following error" not in done.stderr
