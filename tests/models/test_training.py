"""The arithmetic of training against torch's own optimisers and sums by hand."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from geoxai.errors import GeoxaiError, OptionError
from geoxai.models.architectures import build
from geoxai.models.training import (
    Examples,
    Recipe,
    penalised_weights,
    rescale_outputs,
    standardised,
    target_scale,
    train,
)


def net(outputs=(2,), hidden=(4,), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return build("mlp", {"hidden": hidden}, channels=1, grid=(2, 3), outputs=outputs, generator=generator), generator


def data(n=50, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 1, 2, 3, generator=generator)
    return Examples(x, (x[:, 0, 0, 0] > 0).long())


def test_l2_is_half_of_torch_s_weight_decay():
    """One full batch per epoch with plain SGD: the very same weights as torch with weight_decay = 2 * l2."""
    examples = data()
    module, generator = net()
    theirs = copy.deepcopy(module)
    recipe = Recipe(epochs=5, batch_size=50, optimiser="sgd", learning_rate=0.1, momentum=0.9, l2={"all": 0.05})
    train(module, examples, recipe, generator, task="classification")
    decayed = [p for name, p in theirs.named_parameters() if "weight" in name]
    free = [p for name, p in theirs.named_parameters() if "bias" in name]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": free}]
    optimiser = torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True)
    for _ in range(5):
        optimiser.zero_grad()
        nn.functional.cross_entropy(theirs(examples.inputs), examples.targets).backward()
        optimiser.step()
    for a, b in zip(module.parameters(), theirs.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_the_penalty_is_the_sum_of_squares_of_the_named_layer():
    module, generator = net()
    curves = train(
        module,
        data(),
        Recipe(epochs=1, l2={"first": 25, "last": 0.5, "all": 99}),
        generator,
        task="classification",
    )
    first, last = (module.layers[i].weight.detach() for i in (0, 2))
    assert curves.penalty[-1] == pytest.approx(float(25 * (first**2).sum() + 0.5 * (last**2).sum()), rel=1e-5)


@pytest.mark.parametrize(
    ("l2", "factors"),
    [
        ({"all": 1}, [1, 1, 1]),
        ({"first": 25, "second": 0.01}, [25, 0.01]),
        ({"last": 3, "all": 2}, [2, 2, 3]),
        ({"third": 4, "last": 3}, [4]),
        ({"first": 0, "all": 2}, [2, 2]),
    ],
)
def test_layers_are_named_by_position_then_last_then_all(l2, factors):
    assert [factor for _, factor in penalised_weights(net(hidden=(4, 4))[0], l2)] == factors


def test_an_l2_for_a_layer_that_is_not_there_is_refused():
    with pytest.raises(OptionError, match="the third layer, but the network has 2"):
        penalised_weights(net()[0], {"third": 1})


def test_one_logit_is_trained_as_the_difference_of_two():
    """Binary cross-entropy of f equals cross-entropy of (0, f), class weights included."""
    from geoxai.models.training import _loss

    f, label = torch.randn(9, 1), torch.tensor([0, 1, 1, 0, 1, 0, 0, 0, 1])
    for weights in (None, (0.3, 2.0)):
        loss = _loss("classification", weights, "cpu")
        two = torch.cat([torch.zeros_like(f), f], dim=1)
        torch.testing.assert_close(loss(f, label), loss(two, label))


def test_missing_targets_do_not_count():
    from geoxai.models.training import _loss

    target = torch.tensor([[1.0, float("nan")], [3.0, 5.0]])
    output = torch.tensor([[2.0, 9.0], [3.0, 3.0]], requires_grad=True)
    value = _loss("image", None, "cpu")(output, target)
    assert value.item() == pytest.approx((1 + 0 + 4) / 3)
    value.backward()
    assert torch.isfinite(output.grad).all()
    assert output.grad[0, 1] == 0


@pytest.mark.parametrize(("outputs", "shape"), [((1,), (40,)), ((2, 2, 3), (40, 2, 2, 3))])
def test_folding_the_scale_of_targets_into_the_network_changes_no_prediction(outputs, shape):
    module, _ = net(outputs=outputs)
    targets = 280 + 7 * torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    targets.reshape(-1)[3] = float("nan")
    scale = target_scale(targets)
    axes = (0,) if len(shape) == 1 else (0, 2, 3)
    np.testing.assert_allclose(scale.mean, np.atleast_1d(np.nanmean(targets.numpy().astype(float), axis=axes)))
    np.testing.assert_allclose(scale.sd, np.atleast_1d(np.nanstd(targets.numpy().astype(float), axis=axes)))
    z = standardised(Examples(torch.zeros(40, 1, 2, 3), targets), scale).targets
    assert float(z.nanmean()) == pytest.approx(0, abs=1e-5)
    x = torch.randn(6, 1, 2, 3)
    with torch.no_grad():
        mean, sd = scale.shaped(targets)
        before = module(x).reshape(6, *shape[1:]).double() * sd + mean
        rescale_outputs(module, scale)
        torch.testing.assert_close(module(x).reshape(6, *shape[1:]).double(), before, rtol=1e-5, atol=1e-4)


def test_how_often_checkpoints_are_written_changes_no_bit(tmp_path):
    recipe = Recipe(epochs=4, checkpoint_every=1)
    a, ga = net()
    b, gb = net()
    train(a, data(), recipe, ga, task="classification", checkpoint=tmp_path / "c.pt")
    train(b, data(), dataclasses.replace(recipe, checkpoint_every=3), gb, task="classification")
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters()))


def test_a_finished_training_is_only_read_from_its_checkpoint(tmp_path):
    recipe, seen = Recipe(epochs=4, checkpoint_every=2), []
    a, ga = net()
    first = train(a, data(), recipe, ga, task="classification", checkpoint=tmp_path / "c.pt")
    b, gb = net()
    again = train(
        b,
        data(),
        recipe,
        gb,
        task="classification",
        checkpoint=tmp_path / "c.pt",
        on_epoch=lambda epoch, loss: seen.append(epoch),
    )
    assert again.training_loss == first.training_loss
    assert seen == []
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters()))


def regression(n=64, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 1, 2, 3, generator=generator)
    return Examples(x, x.sum((1, 2, 3)))


def test_a_loss_that_is_not_a_number_stops_with_epoch_and_extremes():
    examples = regression()
    examples.inputs[3, 0, 0, 0] = torch.inf
    module, generator = net(outputs=(1,))
    with pytest.raises(GeoxaiError, match=r"the training loss of epoch 1 is (not a number|infinite); inputs run from"):
        train(module, examples, Recipe(epochs=5), generator, task="regression")


def test_a_loss_that_grows_without_bound_stops_before_it_is_infinite():
    module, generator = net(outputs=(1,))
    recipe = Recipe(epochs=200, batch_size=64, optimiser="sgd", learning_rate=0.6, momentum=0.0)
    done = []
    with pytest.raises(GeoxaiError, match=r"grew from .* in epoch 1 to .* in epoch \d+; inputs .*, targets") as caught:
        train(module, regression(), recipe, generator, task="regression", on_epoch=lambda *told: done.append(told))
    assert all(np.isfinite(loss) for _, loss in done)
    assert 1 <= len(done) < 199
    assert "learning_rate" in str(caught.value)


def test_extreme_inputs_are_pointed_at():
    examples = regression()
    examples.inputs[3] = 1e15
    module, generator = net(outputs=(1,))
    with pytest.raises(GeoxaiError, match=r"inputs run from .* to 1e\+15") as caught:
        train(module, examples, Recipe(epochs=50, optimiser="sgd", learning_rate=0.01), generator, task="regression")
    assert "look for fill values" in str(caught.value)


def test_a_validation_loss_that_is_not_finite_stops_too():
    held = regression(8)
    held.inputs[:] = torch.nan
    module, generator = net(outputs=(1,))
    with pytest.raises(GeoxaiError, match="the validation loss of epoch 1 is not a number"):
        train(module, regression(), Recipe(epochs=3), generator, task="regression", validation=held)


def test_losses_that_fall_late_or_rise_a_little_do_not_stop():
    from geoxai.models.divergence import refuse_divergence

    x = torch.zeros(1)
    for loss in (5.0, 999.0, 1e-9):
        refuse_divergence(7, {"training": loss, "validation": 1e9}, 0.1, x, x)
    refuse_divergence(7, {"training": 1.0}, 0.0, x, x)


@pytest.mark.parametrize("how", ["emptied", "truncated", "flipped", "no zip", "swapped", "one byte more"])
def test_a_damaged_checkpoint_is_said_and_not_taken_up(tmp_path, caplog, how):
    recipe, path, seen = Recipe(epochs=4, checkpoint_every=2), tmp_path / "c.pt", []
    a, ga = net()
    train(a, data(), recipe, ga, task="classification", checkpoint=path)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(flipped) // 2] ^= 1
    if how == "swapped":
        other, go = net(seed=1)
        path.unlink()
        train(other, data(), recipe, go, task="classification", checkpoint=path)
    else:
        path.write_bytes(
            {
                "emptied": b"",
                "truncated": whole[:1000],
                "flipped": flipped,
                "no zip": b"x" * 99,
                "one byte more": whole + b"x",
            }[how]
        )
    b, gb = net()
    train(
        b, data(), recipe, gb, task="classification", checkpoint=path, on_epoch=lambda epoch, loss: seen.append(epoch)
    )
    assert len(seen) == 4
    (told,) = caplog.messages
    assert told.startswith(f"the checkpoint {path} is {'of another training' if how == 'swapped' else 'damaged'}")
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters()))
