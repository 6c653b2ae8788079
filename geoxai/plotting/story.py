"""The summaries of a run as charts and sentences for its report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from geoxai.grid.places import target_words, words
from geoxai.plotting.charts import BLUE, GREEN, GREY, ORANGE, PURPLE, Comparison, Stacks, comparison, stacks
from geoxai.plotting.tables import Table

_PARTS = {"map": BLUE, "biases": ORANGE, "stabiliser": PURPLE, "lost": GREY}
_LEFT_OUT = {
    "n_nonpositive": "explained value not positive, which the rules presume",
    "n_absent": "no pixel met the condition",
    "n_empty": "a map of zeros, so nothing to divide by",
}
_MOST_BARS = 40


def skill(title: str, summary: Mapping[str, Any], units: str = "") -> Comparison | None:
    """Scores of networks beside those of simpler models, on the test split if there is one."""
    networks = summary.get("networks")
    if not isinstance(networks, list) or not networks:
        return None
    splits = [key for key, value in networks[0].items() if isinstance(value, Mapping) and value.get("samples")]
    split = next((name for name in ("test", "validation", "all", "train") if name in splits), None)
    if split is None:
        return None
    score = "accuracy" if "accuracy" in networks[0][split] else "rmse"
    rows = [(f"{len(networks)} networks" if len(networks) > 1 else "network", _scores(networks, split, score), BLUE)]
    for name, record in summary.get("baselines", {}).items():
        rows.append((words(str(name)), _scores([record], split, score), GREY))
    given = [(label, values, None, color) for label, values, color in rows if values]
    samples = networks[0][split]["samples"]
    what = "accuracy" if score == "accuracy" else "root mean square error (smaller is better)"
    note = f"{samples} samples of the {split} split." if split != "all" else f"{samples} samples."
    if len(networks) > 1:
        note += " Dots are networks; the range is from the lowest to the highest."
    if not summary.get("baselines"):
        note += " No simpler model was fitted to compare with."
    return comparison(f"{title}: {what}", given, percent=score == "accuracy", units=units, note=note) if given else None


_OF_GRID = ("cell", "area")


def _share(numbers: Mapping[str, Any]) -> Any:
    """The share of the maps in a region, named after what the maps hold."""
    return next(value for key, value in numbers.items() if key.endswith("_share") and key.split("_")[0] not in _OF_GRID)


def shares(summary: Mapping[str, Any]) -> list[Comparison]:
    """For each class (and target), the shares of regions in the mean map beside their shares of area."""
    found = []
    for (name, target), entry in _classes(summary):
        rows = [
            (words(str(region)), values, float(numbers["area_share"]), BLUE)
            for region, numbers in entry.get("regions", {}).items()
            if (values := _values(_of(_share(numbers), target))) and isinstance(numbers.get("area_share"), int | float)
        ]
        if rows:
            title = ", ".join(filter(None, (words(name), target_words(target) if target else "")))
            found.append(comparison(title, rows, percent=True, note=""))
    return found


def account(title: str, summary: Mapping[str, Any]) -> Stacks | None:
    """Where the explained value went, for each class (target) and network: the map, biases, stabilisers, lost."""
    bars = []
    for label, entry in _accounts(summary.get("account", {})):
        listed = isinstance(entry["bias"], list)
        for number, terms in enumerate(zip(*(_listed(entry[key]) for key in ("bias", "stabiliser", "lost")))):
            if any(value is None for value in terms):
                continue
            bias, stabiliser, lost = terms
            parts = {"map": 1 - bias - stabiliser - lost, "biases": bias, "stabiliser": stabiliser, "lost": lost}
            kept = {key: value for key, value in parts.items() if key == "map" or abs(value) > 5e-5}
            bars.append((f"{label}, network {number}" if listed else label, kept))
    note = "Shares of the explained value summed over samples; the map is what the other terms leave."
    if len(bars) > _MOST_BARS:
        note += f" The first {_MOST_BARS} of {len(bars)} are shown."
    return stacks(title, bars[:_MOST_BARS], _PARTS, note) if bars else None


def _accounts(entries: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The entries of classes with their names, or of targets and classes if there are several targets."""
    for name, entry in entries.items():
        label = "all samples" if name == "all" else target_words(str(name))
        label = ", ".join(filter(None, (before, label if not (before and name == "all") else "")))
        if "bias" in entry:
            yield label, entry
        else:
            yield from _accounts(entry, label)


def left_out(summary: Mapping[str, Any]) -> Table | None:
    """Which maps a composite leaves out of each class, how many and why."""
    rows = []
    for (name, target), entry in _classes(summary):
        for key, reason in _LEFT_OUT.items():
            counts = _values(_of(entry.get(key, 0), target))
            if any(counts):
                low, high = int(min(counts)), int(max(counts))
                label = ", ".join(filter(None, (words(name), target_words(target) if target else "")))
                rows.append((label, str(high) if low == high else f"{low} to {high}", reason))
    return Table("", ("class", "maps", "why"), tuple(rows)) if rows else None


def curves_of(curves: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, Sequence[Sequence[float]]]:
    """Loss curves under their names in a chart, without those that have no value."""
    names = {"training_loss": "training", "validation_loss": "validation"}
    return {
        name: curves[key] for key, name in names.items() if any(v == v for line in curves.get(key, ()) for v in line)
    }


LOSS_COLORS = (BLUE, ORANGE, GREEN)


def _scores(records: Sequence[Mapping[str, Any]], split: str, score: str) -> list[float]:
    found = [record.get(split, {}).get(score) for record in records if isinstance(record.get(split), Mapping)]
    return [float(value) for value in found if value is not None]


def _classes(summary: Mapping[str, Any]) -> list[tuple[tuple[str, str], Mapping[str, Any]]]:
    """The entries of a composite by class, by target if it has several, and by input if these have entries."""
    found = []
    for name, entry in summary.get("classes", {}).items():
        entries = [(name, entry)] if "inputs" not in entry else [(name, entry), *_inputs(name, entry["inputs"])]
        for label, one in entries:
            targets = next((list(v) for k, v in one.items() if k == "n_used" and isinstance(v, Mapping)), [""])
            found += [((str(label), str(target)), one) for target in targets]
    return found


def _inputs(name: str, inputs: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(f"{words(name)}, input {one}", entry) for one, entry in inputs.items()]


def _of(value: Any, target: str) -> Any:
    return value.get(target) if isinstance(value, Mapping) else value


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _values(value: Any) -> list[float]:
    return [float(v) for v in _listed(value) if isinstance(v, int | float) and v == v]
