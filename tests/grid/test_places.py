"""Places and dates as people write them."""

import cftime
import numpy as np
import pytest

from geoxai.grid.places import target_words
from geoxai.grid.time import resolution
from geoxai.plotting.captions import explained
from geoxai.plotting.titles import date_words


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ('{"point": {"lat": 0.0, "lon": 220.0}}', "0°, 140°W"),
        ('{"box": "nino34"}', "Niño 3.4"),
        ('{"box": {"lat": [30, 40], "lon": [250, 260]}, "channel": "rain"}', "rain, 30°N to 40°N, 110°W to 100°W"),
        ('{"box": "tropics", "reduce": "sum", "step": 2}', "tropics, step 2, summed"),
        ('{"polygon": {"lat": [30, 40, 35], "lon": [1, 2, 3]}}', "polygon of 3 corners, 30°N to 40°N"),
        ('{"mask": "land.nc"}', "mask land.nc"),
        ("[0, 128, 128]", "output (0, 128, 128)"),
        ("3", "output 3"),
        ("el_nino", "El Niño"),
        ("storms 0", "storms 0"),
    ],
)
def test_targets_in_words(target, expected):
    assert target_words(target) == expected


@pytest.mark.parametrize(
    ("attrs", "expected"),
    [
        ({"target": '"predicted"', "score": "logit"}, "the predicted class (its logit)"),
        (
            {"target": '["el_nino", "la_nina"]', "score": "one"},
            "the class El Niño, the class La Niña (shared out as 1)",
        ),
        ({"target": '{"box": "nino34"}', "score": "contrast"}, "Niño 3.4"),
        ({"target": "[0, 3]", "score": "contrast"}, "output (0, 3)"),
        (
            {"target": "2", "reference": '{"climatology": "train", "value": null}'},
            "output 2, compared with the output for the mean input of the train split",
        ),
        ({"target": "2", "reference": "0.5"}, "output 2, compared with 0.5"),
    ],
)
def test_explained_outputs_in_words(attrs, expected):
    assert explained(attrs) == expected


@pytest.mark.parametrize(
    ("times", "known", "words"),
    [
        (["1998-01-16", "1998-02-15", "1999-07-01"], "month", "January 1998"),
        (["1998-07-01", "1999-07-02", "2001-07-01"], "year", "1998"),
        (["1998-01-01", "1998-01-02"], "day", "1 January 1998"),
        (["1998-01-01T12", "1998-01-02T12"], "day", "1 January 1998"),
        (["1998-01-01T00", "1998-01-01T06"], "minute", "1 January 1998 00:00"),
        (["1998-05-01"], "day", "1 May 1998"),
        (["1998-05-01T18:05"], "minute", "1 May 1998 18:05"),
    ],
)
def test_dates_to_the_resolution_of_the_data(times, known, words):
    stamps = np.array(times, dtype="datetime64[ns]")
    assert resolution(stamps) == known
    assert date_words(stamps[0], known) == words


def test_dates_of_other_calendars():
    months = np.array([cftime.Datetime360Day(850, month, 30) for month in (1, 2, 3)])
    assert resolution(months) == "month"
    assert date_words(months[1], "month") == "February 850"
