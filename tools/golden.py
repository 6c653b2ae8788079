"""Small results of every kind of stage, kept in the repository: they must not change while revisions stay the same.

    python tools/golden.py            computes and stores them again
    python tools/golden.py --check    only reports what changed

Users' results are computed again where a revision was raised, and only there. So a change to the numbers must raise the
`revision` of the stage, or that of the library in geoxai/revisions.py; this script refuses to store numbers that
changed without it, and tests/golden fails.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "tests" / "golden"
RESULTS = FOLDER / "results"
TOLERANCE = 1e-4  # of the largest value: training and convolutions in float32 differ that little between machines
ROUNDING = 1e-6  # sums of rounding errors, such as what a stabiliser takes, differ entirely between machines
PICKED = 6


@dataclass(frozen=True)
class Result:
    """What one stage of the experiment gave, and the part of its fingerprint that decides whether it may change."""

    use: str
    code: str
    above: list[str]
    revisions: dict[str, int]
    options: dict[str, Any]
    numbers: dict[str, list[Any]]


def computed(folder: Path) -> dict[str, Result]:
    """Run the experiment in a folder, and measure what each stage gave."""
    from geoxai import run
    from geoxai.config import load
    from geoxai.pipeline.fingerprints import revisions
    from geoxai.pipeline.workspace import bind, upstream
    from geoxai.stages.stage import LazyStage

    path = folder / "experiment.yaml"
    weights, grid = folder / "weights.pt", (15, 34)
    save_weights(weights, grid)
    text = (FOLDER / "experiment.yaml").read_text(encoding="utf-8")
    text = text.replace("WEIGHTS", str(weights)).replace("GRID", str(list(grid)))
    path.write_text(text, encoding="utf-8")
    config = load(path, [f"output.dir={folder / 'run'}", f"vars.data={ROOT / 'data_samples'}"])
    ended = run(config)
    if ended.exit_code:
        raise SystemExit(f"the experiment failed: {ended.message}")
    workspace, results = bind(config), {}
    for name, stage in config.stages.items():
        above = upstream(config, name)
        opened = workspace.open(name)
        inherited = {str(c) for source in above for c in getattr(workspace.open(source), "coords", ())}
        numbers = dict(networks(opened) if stage.gives == "network" else variables(opened, inherited))
        if not isinstance(stage, LazyStage) and (summary := workspace.run_dir / f"{name}.json").exists():
            numbers |= leaves(json.loads(summary.read_text(encoding="utf-8")), "summary")
        options = workspace.ingredients(name)["options"]
        code = f"{type(stage).__module__.replace('.', '/')}.py"
        results[name] = Result(stage.use, code, above, revisions(stage), options, numbers)
    return {**results, "engine": engine()}


def save_weights(path: Path, grid: tuple[int, int]) -> None:
    """Weights of the network, set without any training."""
    import torch

    from geoxai.models.architectures import CNN
    from tests.golden.networks import set_waves

    torch.save(set_waves(CNN(1, grid, (2,), filters=[4, 4], hidden=[6], batch_norm=True)).state_dict(), path)


def engine() -> Result:
    """Relevance by many rules of networks of many operations, without stages."""
    from geoxai.attribution import attribute
    from geoxai.revisions import LIBRARIES
    from tests.golden.networks import METHODS, NETWORKS, RULES, inputs, set_waves

    numbers: dict[str, list[Any]] = {}
    options = [(rules, {"rules": rules}) for rules in RULES] + [(method, {"method": method}) for method in METHODS]
    for name, build in NETWORKS.items():
        network = set_waves(build())
        for said, how in options:
            result = attribute(network, inputs(), target=1, **how)
            numbers[f"{name} {said}"] = measured(result.relevance.numpy())
            if result.lost is not None:
                account = np.stack([result.target_value.numpy(), result.bias.numpy(), result.lost.numpy()])
                numbers[f"{name} {said}, target, bias, lost"] = measured(account)
    revision = {"attribution": LIBRARIES["attribution"]}
    asked = {"networks": list(NETWORKS), "rules": list(RULES), "methods": list(METHODS)}
    return Result("attribution", "geoxai/attribution", [], revision, asked, numbers)


def variables(dataset: Any, inherited: set[str]) -> Iterator[tuple[str, list[Any]]]:
    """The variables of a dataset and the coordinates that the stages above do not have."""
    for name in sorted(map(str, dataset.variables)):
        if name not in inherited:
            yield name, measured(dataset[name].values)


def networks(opened: Any) -> Iterator[tuple[str, list[Any]]]:
    """The weights of networks."""
    for number, module in enumerate(opened.modules):
        for name, tensor in module.state_dict().items():
            yield f"network {number}: {name}", measured(tensor.numpy())


def leaves(value: Any, at: str) -> dict[str, list[Any]]:
    """The numbers of a summary, by where they are in it; its words may change."""
    inside = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else None
    if inside is not None:
        return {path: found for key, item in inside for path, found in leaves(item, f"{at}.{key}").items()}
    return {at: measured(np.array(value))} if isinstance(value, int | float) else {}


def measured(values: np.ndarray) -> list[Any]:
    """Shape, number of missing values, extremes, mean, root mean square, and some values; of text, the text."""
    if values.dtype.kind not in "biufmM":
        words = [str(word) for word in values.ravel()]
        return [list(values.shape), " ".join(words[:: max(1, len(words) // PICKED)])]
    if values.dtype.kind in "mM":
        values = values.astype(f"{values.dtype.kind}8[h]").astype(np.int64)
    numbers = values.astype(np.float64)
    there = numbers[np.isfinite(numbers)]
    if not there.size:
        return [list(values.shape), int(numbers.size)]
    if numbers.ndim == 0:
        return [_rounded(float(numbers))]
    picked = there[np.linspace(0, there.size - 1, min(PICKED, there.size)).round().astype(int)]
    told = [there.min(), there.max(), there.mean(), np.sqrt(np.square(there).mean()), *picked]
    return [list(values.shape), int(numbers.size - there.size), *(_rounded(float(number)) for number in told)]


def _rounded(number: float) -> float:
    return float(f"{number:.7g}")


def stored() -> dict[str, Result]:
    """What the repository holds."""
    return {path.stem: Result(**json.loads(path.read_text(encoding="utf-8"))) for path in RESULTS.glob("*.json")}


def store(results: Mapping[str, Result]) -> None:
    """Write a file for each stage, a line for each variable, so that changes show and merge."""
    RESULTS.mkdir(exist_ok=True)
    for path in RESULTS.glob("*.json"):
        if path.stem not in results:
            path.unlink()
    for name, result in results.items():
        parts = []
        for key, value in asdict(result).items():
            lines = [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items()] if key == "numbers" else []
            parts.append(f" {json.dumps(key)}: " + ("{\n" + ",\n".join(lines) + "\n }" if lines else json.dumps(value)))
        (RESULTS / f"{name}.json").write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def moved(old: Result, new: Result) -> list[str]:
    """Which numbers differ by more than the tolerance, in words."""
    found = []
    for name in dict.fromkeys([*old.numbers, *new.numbers]):
        before, after = old.numbers.get(name), new.numbers.get(name)
        if before is None or after is None:
            found.append(f"{name} is {'new' if before is None else 'gone'}")
        elif not _close(before, after):
            found.append(f"{name}: {before} -> {after}")
    return found


def _close(before: list[Any], after: list[Any]) -> bool:
    if len(before) != len(after):
        return False
    scale = max((abs(item) for item in before if isinstance(item, float)), default=0.0)
    return all(
        abs(a - b) <= TOLERANCE * scale + ROUNDING if isinstance(a, float) and isinstance(b, float) else a == b
        for a, b in zip(before, after)
    )


def with_kept(old: Result, new: Result) -> Result:
    """The new result with the stored numbers where they are the same: machines differ in their last digits."""
    kept = {
        name: old.numbers[name]
        for name in old.numbers.keys() & new.numbers
        if _close(old.numbers[name], new.numbers[name])
    }
    return replace(new, numbers=new.numbers | kept)


def may_move(name: str, old: Mapping[str, Result], new: Mapping[str, Result]) -> bool:
    """Whether the fingerprint of a stage differs from that of its stored result, by itself or by a stage above."""
    if name not in old or name not in new:
        return True
    before, after = old[name], new[name]
    shared = before.options.keys() & after.options.keys()
    return (
        (before.use, before.above, before.revisions) != (after.use, after.above, after.revisions)
        or any(before.options[key] != after.options[key] for key in shared)
        or any(may_move(source, old, new) for source in after.above)
    )


def unrevised(old: Mapping[str, Result], new: Mapping[str, Result]) -> dict[str, str]:
    """For each stage whose numbers moved while its revision did not: what moved, and which revision to raise."""
    told = {}
    for name in new:
        if not may_move(name, old, new) and (changes := moved(old[name], new[name])):
            result = new[name]
            more = f"\n  and {len(changes) - 4} more" if len(changes) > 4 else ""
            told[name] = (
                f"the numbers of {name} ({result.use}) moved, so that stored results of users are stale:\n  "
                + "\n  ".join(changes[:4])
                + f"{more}\n  {remedy(new[name])}; then: python tools/golden.py"
            )
    return told


def remedy(result: Result) -> str:
    """Which revision to raise."""
    libraries = " or ".join(library for library in result.revisions if library != "stage")
    if "stage" not in result.revisions:
        return f"raise {libraries} in geoxai/revisions.py"
    shared = f", or {libraries} in geoxai/revisions.py if the change is there" if libraries else ""
    return f"raise revision (now {result.revisions['stage']}) of {result.use} in {result.code}{shared}"


def outdated(old: Mapping[str, Result], new: Mapping[str, Result]) -> list[str]:
    """Stages whose stored results are of another revision, or moved as they may."""
    return [
        name
        for name in dict.fromkeys([*old, *new])
        if name not in old
        or name not in new
        or old[name].revisions != new[name].revisions
        or (may_move(name, old, new) and moved(old[name], new[name]))
    ]


def main(check: bool) -> int:
    """Store the results anew, unless a stage moved that may not; the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        new = computed(Path(folder))
    old = stored()
    wrong = unrevised(old, new)
    for told in wrong.values():
        print(told)
    late = outdated(old, new)
    if wrong or check:
        print(f"to be stored again: {', '.join(late) or 'nothing'}")
        return int(bool(wrong or late))
    store({name: with_kept(old[name], result) if name in old else result for name, result in new.items()})
    print(f"stored {len(new)} results in {RESULTS.relative_to(ROOT)}; new numbers: {', '.join(late) or 'none'}")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    raise SystemExit(main("--check" in sys.argv[1:]))
