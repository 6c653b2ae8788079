"""Index tables as published, and label tables as people write them."""

from pathlib import Path

import numpy as np
import pytest

from geoxai.errors import InputError, OptionError
from geoxai.readers.tables import read_index_table, read_label_table, read_nino34_long, read_oni


def save(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_oni_seasons_stand_at_their_middle_month(tmp_path: Path) -> None:
    path = save(tmp_path / "oni.txt", " SEAS  YR   TOTAL   ANOM\n  DJF 1998 28.9  2.24\n  JFM 1998 28.5 1.93\n")
    table = read_oni(path)
    assert [str(t)[:10] for t in table["time"].values] == ["1998-01-01", "1998-02-01"]
    np.testing.assert_array_equal(table, [2.24, 1.93])
    assert table.attrs["units"] == "degC"


@pytest.mark.parametrize(
    ("text", "message"),
    [(" SEAS YR TOTAL ANOM\n DJF 1998 28.9\n", "line 2: expected a row"),
     (" SEAS YR TOTAL ANOM\n DJF 1998 1 1\n DJF 1998 1 1\n", r"row 2 \(1998-01\) is not later than"),
     ("", "is empty"), (" SEAS YR TOTAL ANOM\n", "has no row")],
)  # fmt: skip
def test_broken_oni_tables_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_oni(save(tmp_path / "oni.txt", text))


def test_nino34_long_with_header_footer_and_missing_months(tmp_path: Path) -> None:
    months = "  ".join(f"{m / 10:.2f}" for m in range(1, 13))
    last = "  ".join(["0.5", *["-99.99"] * 11])
    text = f"  1999 2000\n 1999 {months}\n 2000 {last}\n  -99.99\n  NINA34\n https://psl.noaa.gov/data\n"
    table = read_index_table(save(tmp_path / "nino34.txt", text))
    assert table.size == 13
    assert float(table.sel(time="1999-07")[0]) == 0.7
    with pytest.raises(InputError, match="line 2: expected a year and twelve numbers, found 12 columns"):
        read_nino34_long(save(tmp_path / "short.txt", f"1999 2000\n1999 {months[:-6]}\n"))


def test_published_tables(shared_data: Path) -> None:
    oni = read_index_table(shared_data / "enso_indices/oni.ascii.txt")
    assert (str(oni["time"].values[0])[:7], str(oni["time"].values[-1])[:7]) == ("1950-01", "2025-03")
    assert float(oni.sel(time="1950-01")[0]) == -1.53
    long = read_index_table(shared_data / "enso_indices/nino34.long.anom.data.txt")
    assert (str(long["time"].values[0])[:7], str(long["time"].values[-1])[:7]) == ("1870-01", "2019-01")
    assert float(long.sel(time="2015-11")[0]) == 2.57
    assert not long.isnull().any()


@pytest.mark.parametrize(
    "text",
    ["time,class,value\n1998-02,warm,1.5\n1998-01,,\n1999-01-01,cold,-2\n",
     "year;month;label;index\n1998;2;warm;1.5\n1998;1;;nan\n1999;1;cold;-2\n"],
)  # fmt: skip
def test_label_tables_come_back_in_order_of_time(tmp_path: Path, text: str) -> None:
    table = read_label_table(save(tmp_path / "labels.csv", "# from the diary\n" + text))
    assert [str(key)[:10] for key in table.keys] == ["1998-01-01", "1998-02-01", "1999-01-01"]
    assert table.classes == (None, "warm", "cold")
    assert table.values is not None
    np.testing.assert_array_equal(table.values, [np.nan, 1.5, -2])


def test_label_tables_by_sample_and_by_named_columns(tmp_path: Path) -> None:
    path = save(tmp_path / "labels.csv", "sample,storm\n3,yes\n1,no\n")
    table = read_label_table(path, class_="storm")
    assert (table.dim, table.keys.tolist(), table.classes) == ("sample", [1, 3], ("no", "yes"))
    with pytest.raises(OptionError, match="did you mean 'storm'"):
        read_label_table(path, class_="storms")


@pytest.mark.parametrize(
    ("text", "message"),
    [("time,class\n1998-13,a\n", "line 2: '1998-13' is not a date"),
     ("time,class\n1998-01,a\n1998-02\n", "line 3: 1 columns, the header has 2"),
     ("time,class\n1998-01,a\n1998-01,b\n", "lines 2 and 3 are both for time 1998-01-01$"),
     ("time,value\n1998-01,warm\n", "line 2: 'warm' in column 'value' is not a number"),
     ("time,colour\n1998-01,red\n", "neither a class nor a value column"),
     ("place,class\n1998-01,red\n", "no column of times or samples"),
     ("time,class\n", "no rows")],
)  # fmt: skip
def test_broken_label_tables_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_label_table(save(tmp_path / "labels.csv", text))
