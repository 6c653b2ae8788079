"""Networks of several inputs and outputs, and networks whose samples do not come first."""

from collections import namedtuple

import pytest
import torch
import torch.nn as nn

from geoxai.attribution import attribute, rule_table
from geoxai.errors import OptionError
from tests.attribution.networks import inputs, seeded

Heads = namedtuple("Heads", ["rain", "wind"])


class TwoInputs(nn.Module):
    """Maps and a series, joined; several outputs in whatever form is asked for."""

    def __init__(self, form):
        super().__init__()
        self.conv, self.series = nn.Conv2d(2, 3, 3), nn.Conv1d(1, 3, 3)
        self.rain, self.wind = nn.Linear(6, 2), nn.Linear(6, 1)
        self.form = form

    def forward(self, maps, series):
        joined = torch.cat([self.conv(maps).relu().mean((2, 3)), self.series(series).relu().mean(2)], 1)
        return self.form(self.rain(joined), self.wind(joined))


FORMS = [
    (lambda rain, wind: (rain, wind), 1),
    (lambda rain, wind: {"rain": rain, "wind": wind}, "wind"),
    (lambda rain, wind: {"all": [rain, {"wind": wind}]}, ("all", 1, "wind")),
    (Heads, "wind"),
]


@pytest.mark.parametrize("method", ["lrp", "gradient_x_input"])
@pytest.mark.parametrize(("form", "output"), FORMS)
def test_the_output_to_explain_can_be_chosen(form, output, method):
    x = inputs(3, 2, 5, 5), inputs(3, 1, 6, seed=1)
    rules = {"rules": "alpha2_beta1"} if method == "lrp" else {}
    wanted = attribute(seeded(TwoInputs(lambda rain, wind: wind)), x, target=0, method=method, **rules)
    got = attribute(seeded(TwoInputs(form)), x, target=0, method=method, output=output, batch_size=2, **rules)
    for a, b in zip(got.relevance, wanted.relevance):
        torch.testing.assert_close(a, b)
    torch.testing.assert_close(got.target_value, wanted.target_value)
    if method == "lrp":
        total = sum(r.flatten(1).sum(1) for r in got.relevance)
        torch.testing.assert_close(total + got.bias + got.lost, got.target_value)
        assert rule_table(seeded(TwoInputs(form)), x, "epsilon", output=output)


@pytest.mark.parametrize(
    ("form", "output", "words"),
    [
        (FORMS[0][0], None, "a tuple of 2: one tensor of shape (2, 2)"),
        (FORMS[1][0], None, "'wind': one tensor"),
        (FORMS[1][0], "snow", "output 'snow' is not in"),
        (FORMS[0][0], 2, "output 2 is not in"),
        (lambda rain, wind: wind, 0, "one tensor of shape"),
    ],
)
def test_an_output_that_is_not_there_is_answered_with_what_is(form, output, words):
    x = inputs(2, 2, 5, 5), inputs(2, 1, 6)
    with pytest.raises(OptionError) as caught:
        attribute(seeded(TwoInputs(form)), x, target=0, output=output)
    assert words in str(caught.value)
    assert caught.value.fix


def test_samples_on_another_axis_of_the_network():
    """A recurrent layer with time first equals its twin with samples first."""

    class Series(nn.Module):
        def __init__(self, samples_first):
            super().__init__()
            self.lstm = nn.LSTM(3, 4, batch_first=samples_first)

        def forward(self, x):
            return self.lstm(x)[0]

    x = inputs(2, 5, 3)
    wanted = attribute(seeded(Series(True)), x, rules="epsilon", target=(4, 1))
    for batch in (1, 2):
        got = attribute(seeded(Series(False)), x, rules="epsilon", target=(4, 1), sample_axis=1, batch_size=batch)
        torch.testing.assert_close(got.relevance, wanted.relevance)
        torch.testing.assert_close(got.bias, wanted.bias)
    with pytest.raises(OptionError, match="samples along its first axis"):
        attribute(lambda t: seeded(Series(False))(t.movedim(0, 1)), x, target=(4, 1))
    with pytest.raises(OptionError, match="cannot lie along its axis 3"):
        attribute(lambda t: t.sum(), inputs(2, 3, 3, 3), target=0, sample_axis=3)
