"""Linear models and scores against closed forms and slow counts."""

import numpy as np
import pytest
import torch
import xarray as xr

from geoxai.models import baselines as module
from geoxai.models.baselines import baselines, linear_model, majority_class
from geoxai.models.scores import ClassTally, ValueTally, spread


def splits(n=60, features=5, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(2 * n, features)) + 3
    return {"train": x[:n], "test": x[n:]}, rng


@pytest.mark.parametrize("features", [5, 200], ids=["fewer inputs than samples", "more"])
def test_ridge_is_its_closed_form_whatever_is_larger(features):
    inputs, rng = splits(features=features)
    w = rng.normal(size=features)
    targets = {split: x @ w + 7 + rng.normal(size=len(x)) for split, x in inputs.items()}
    predicted, strength = linear_model(inputs, targets, None)
    assert strength in module.STRENGTHS
    x = inputs["train"] - inputs["train"].mean(axis=0)
    size = (x**2).sum(axis=1).mean()
    gram = x.T @ x + len(x) * strength * size * np.eye(features)
    by_hand = np.linalg.solve(gram, x.T @ (targets["train"] - targets["train"].mean()))
    expected = (inputs["test"] - inputs["train"].mean(axis=0)) @ by_hand + targets["train"].mean()
    np.testing.assert_allclose(predicted["test"], expected, rtol=1e-6)


@pytest.mark.parametrize("features", [5, 200])
def test_logistic_regression_is_at_the_minimum_of_its_loss(features):
    inputs, rng = splits(features=features)
    w = rng.normal(size=(features, 3))
    targets = {split: (x @ w).argmax(axis=1) for split, x in inputs.items()}
    x = module._features(inputs)["train"]
    assert (x**2).sum(axis=1).mean() == pytest.approx(1)
    score = module._logistic(x, targets["train"], 0.01, 3)
    bias = score(np.zeros((1, x.shape[1])))[0]
    weights = torch.tensor(score(np.eye(x.shape[1])) - bias, requires_grad=True)
    logits = torch.tensor(x) @ weights + torch.tensor(bias)
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(targets["train"])) + 0.01 * weights.square().sum()
    loss.backward()
    assert weights.grad.abs().max() < 1e-5


def test_the_penalty_is_chosen_on_the_validation_samples():
    """Noise alone asks for a strong penalty, exact data for the weakest."""
    rng = np.random.default_rng(0)
    inputs = {split: rng.normal(size=(80, 30)) for split in ("train", "validation")}
    noise = {split: rng.normal(size=80) for split in inputs}
    assert linear_model(inputs, noise, None)[1] >= 0.1
    exact = {split: x.sum(axis=1) for split, x in inputs.items()}
    assert linear_model(inputs, exact, None)[1] == min(module.STRENGTHS)


def test_baselines_never_see_test_targets():
    rng = np.random.default_rng(0)
    n = 60
    samples = xr.Dataset(
        {
            "inputs": (("sample", "channel", "lat", "lon"), rng.normal(size=(n, 1, 2, 3)).astype(np.float32)),
            "target": ("sample", rng.normal(size=n)),
            "split": ("sample", np.repeat([0, 2], n // 2).astype(np.int8)),
        }
    )
    found = baselines(samples, "regression", ())
    changed = samples.copy(deep=True)
    changed["target"][n // 2 :] += 100
    again = baselines(changed, "regression", ())
    assert again["linear"]["train"] == found["linear"]["train"]
    assert again["climatology"]["train"] == found["climatology"]["train"]
    assert again["climatology"]["test"]["rmse"] > 90


@pytest.mark.filterwarnings("error")
def test_land_in_target_maps_does_not_matter():
    """The same scores as of maps whose land is filled with anything, over the cells that are not land."""
    rng = np.random.default_rng(1)
    n = 40
    maps = rng.normal(size=(n, 1, 2, 3)).astype(np.float32)
    samples = xr.Dataset(
        {
            "inputs": (("sample", "channel", "lat", "lon"), rng.normal(size=(n, 1, 2, 3)).astype(np.float32)),
            "target": (("sample", "target_channel", "lat", "lon"), maps),
            "split": ("sample", np.repeat([0, 2], n // 2).astype(np.int8)),
        }
    )
    land = samples.copy(deep=True)
    land["target"][:, 0, 1, 2] = np.nan
    inputs = {
        name: samples["inputs"].values[samples["split"] == i].reshape(n // 2, -1)
        for i, name in ((0, "train"), (2, "test"))
    }
    cells = maps.reshape(n, -1)[:, :5]
    predicted, _ = module.linear_model(inputs, {"train": cells[: n // 2], "test": cells[n // 2 :]}, None)
    expected = np.sqrt(np.square(predicted["test"] - cells[n // 2 :]).mean())
    assert baselines(land, "image", ())["linear"]["test"]["rmse"] == pytest.approx(expected, rel=1e-6)
    land["target"][3, 0, 0, 0] = np.nan
    assert "vary in time" in baselines(land, "image", ())["linear"]["not_fitted"]


def test_what_is_too_large_for_a_linear_model_is_said(monkeypatch):
    monkeypatch.setattr(module, "LARGEST", 4)
    samples = xr.Dataset(
        {
            "inputs": (("sample", "channel", "lat", "lon"), np.zeros((10, 1, 2, 3), np.float32)),
            "label": ("sample", np.arange(10) % 2),
        }
    )
    found = baselines(samples, "classification", ("no", "yes"))
    assert "more than 4" in found["linear"]["not_fitted"]
    assert found["majority_class"] == {
        "class": "no",
        "train": {"samples": 10, "accuracy": 0.5, "recall": {"no": 1.0, "yes": 0.0}},
    }


def test_majority_class_is_the_first_of_equals():
    assert majority_class(np.array([2, 2, 1, 1, 0])) == 1


def test_class_tally_counts_what_a_loop_counts():
    rng = np.random.default_rng(0)
    label, predicted = rng.integers(-1, 3, 100), rng.integers(0, 3, 100)
    one = ClassTally(("a", "b", "c"))
    for start in range(0, 100, 30):
        one.add(predicted[start : start + 30], label[start : start + 30])
    known = [(p, t) for p, t in zip(predicted, label) if t >= 0]
    scores = one.scores()
    assert scores["samples"] == len(known)
    assert scores["accuracy"] == sum(p == t for p, t in known) / len(known)
    assert scores["recall"]["b"] == sum(p == 1 for p, t in known if t == 1) / sum(t == 1 for _, t in known)


def test_value_tally_is_rmse_and_r2_over_all_blocks():
    rng = np.random.default_rng(0)
    target = 1e4 + rng.normal(size=(50, 3))
    predicted = target + rng.normal(size=target.shape) * 0.3
    target[4, 1] = np.nan
    one = ValueTally()
    for start in range(0, 50, 7):
        one.add(predicted[start : start + 7], target[start : start + 7])
    t, p = target[np.isfinite(target)], predicted[np.isfinite(target)]
    assert one.scores()["rmse"] == pytest.approx(np.sqrt(((p - t) ** 2).mean()))
    assert one.scores()["r2"] == pytest.approx(1 - ((p - t) ** 2).sum() / ((t - t.mean()) ** 2).sum())
    constant = ValueTally()
    constant.add(np.zeros(4), np.full(4, 0.1))
    assert constant.scores()["r2"] is None


def test_spread_over_networks():
    found = spread([{"accuracy": 0.5}, {"accuracy": 0.7}, {}], "accuracy")
    assert found == pytest.approx({"mean": 0.6, "sd": np.std([0.5, 0.7], ddof=1), "min": 0.5, "max": 0.7})
    assert spread([{"accuracy": 0.5}], "accuracy") is None
