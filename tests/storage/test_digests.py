"""Whole files count, are read once, and the cache can only save time."""

import hashlib
import os
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from geoxai.storage import digests
from geoxai.storage.digests import file_digest

SIZE = 3 * 2**20


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    digests._known.cache_clear()
    return tmp_path / "cache" / "geoxai" / "digests.jsonl"


@pytest.fixture
def read(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], tuple[str, bool]]:
    """The digest of a file as a new process finds it, and whether the file was read for it."""
    done: list[Path] = []
    plain = digests._read
    monkeypatch.setattr(digests, "_read", lambda path: done.append(path) or plain(path))

    def find(path: Path) -> tuple[str, bool]:
        digests._known.cache_clear()
        done.clear()
        return file_digest(path), bool(done)

    return find


def old(path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that was written long ago, as far as its digest can tell."""
    path.write_bytes(content)
    monkeypatch.setattr(digests, "_SETTLED", -(10**12))
    return path


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, SIZE])
def test_the_digest_is_that_of_the_content(cache, tmp_path, monkeypatch, size) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    path = old(tmp_path / "a", content[:size], monkeypatch)
    assert file_digest(path) == file_digest(path) == sha(content[:size])


def test_a_file_is_read_once_and_wherever_it_changed_again(read, tmp_path, monkeypatch) -> None:
    path = old(tmp_path / "a", b"a" * SIZE, monkeypatch)
    assert read(path) == (sha(b"a" * SIZE), True)
    assert read(path) == (sha(b"a" * SIZE), False)
    for place in (0, 1000, SIZE // 3, SIZE - 1):
        with path.open("r+b") as handle:
            handle.seek(place)
            handle.write(b"b")
        content = path.read_bytes()
        assert read(path) == (sha(content), True)
        assert read(path) == (sha(content), False)


def test_a_large_file_counts_everywhere(cache, tmp_path) -> None:
    """A file of 200 MB, of which nothing but one byte between two evenly spaced megabytes differs."""
    path = tmp_path / "large"
    with path.open("wb") as handle:
        handle.truncate(200 * 10**6)
    before = file_digest(path)
    with path.open("r+b") as handle:
        handle.seek(2_000_000)  # was not among 64 samples of 2**20 bytes, at multiples of 3.16e6
        handle.write(b"x")
    tracemalloc.start()
    assert file_digest(path) != before
    assert tracemalloc.get_traced_memory()[1] < 5 * 10**6
    tracemalloc.stop()


def test_size_and_times_set_back_are_seen_through(read, tmp_path, monkeypatch) -> None:
    path = old(tmp_path / "a", b"a" * SIZE, monkeypatch)
    stat = path.stat()
    read(path)
    with path.open("r+b") as handle:
        handle.write(b"b")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert read(path) == (sha(path.read_bytes()), True)


def test_another_file_in_its_place_is_read(read, tmp_path, monkeypatch) -> None:
    path = old(tmp_path / "a", b"a" * SIZE, monkeypatch)
    read(path)
    other = old(tmp_path / "b", b"b" * SIZE, monkeypatch)
    other.replace(path)
    assert read(path) == (sha(b"b" * SIZE), True)


def test_a_file_that_may_still_be_written_is_not_kept(read, tmp_path) -> None:
    (tmp_path / "a").write_bytes(b"a" * SIZE)
    assert read(tmp_path / "a")[1]
    assert read(tmp_path / "a")[1]


@pytest.mark.parametrize("damage", [b"\x00\xff" * 40, b'[["', b"[1, 2]\n{}\n[[1], 2, 3]\n", b""])
def test_a_damaged_cache_only_costs_time(read, cache, tmp_path, monkeypatch, damage) -> None:
    path = old(tmp_path / "a", b"a" * SIZE, monkeypatch)
    cache.parent.mkdir(parents=True)
    cache.write_bytes(damage)
    assert read(path) == (sha(b"a" * SIZE), True)
    assert read(path) == (sha(b"a" * SIZE), False)
    text = cache.read_text(errors="replace").replace(sha(b"a" * SIZE), "f" * 16)
    cache.write_text(text)
    assert read(path) == (sha(b"a" * SIZE), True)


def test_a_cache_that_cannot_be_written_does_not_matter(read, cache, tmp_path, monkeypatch) -> None:
    path = old(tmp_path / "a", b"a" * SIZE, monkeypatch)
    cache.parent.parent.write_text("a file where the folder should be")
    assert read(path) == read(path) == (sha(b"a" * SIZE), True)


def test_the_oldest_entries_go(read, cache, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(digests, "_KEPT", 3)
    paths = [old(tmp_path / str(i), bytes([i]) * SIZE, monkeypatch) for i in range(8)]
    for path in paths:
        read(path)
    assert read(paths[-1]) == (sha(bytes([7]) * SIZE), False)
    assert len(cache.read_text().splitlines()) <= 6
    assert read(paths[0])[1]


def _many(paths: list[Path]) -> list[str]:
    digests._SETTLED = -(10**12)
    return [file_digest(path) for path in paths]


def test_processes_may_write_at_once(read, cache, tmp_path, monkeypatch) -> None:
    paths = [old(tmp_path / str(i), bytes([i]) * 2**20, monkeypatch) for i in range(40)]
    with ProcessPoolExecutor(4, mp_context=get_context("fork")) as pool:
        found = list(pool.map(_many, [paths[i:] + paths[:i] for i in (0, 10, 20, 30)]))
    assert {digest for digests_ in found for digest in digests_} == {sha(bytes([i]) * 2**20) for i in range(40)}
    assert not any(read(path)[1] for path in paths)
