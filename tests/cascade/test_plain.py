"""A user's values: numpy's numbers and texts, dates, and one text for a list of one, are what they mean."""

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ccdflow.cascade.plain import ids, night, no_path_in_words, plain, words
from ccdflow.cascade.planning.request import Request


@pytest.mark.parametrize(
    "value",
    [
        np.array([7, 8]),
        np.array([7, 8], np.uint8),
        np.array([7.0, 8.0], np.float32),
        [np.int64(7), np.uint16(8)],
        ["7", "p8"],
        np.array(["p7", "8"]),
        (number for number in (7, 8)),
        {7: "a", 8: "b"},
        [7.0, np.float64(8)],
        np.array([7, 8], object),
    ],
)
def test_ids_of_any_type_are_numbers(value: Any) -> None:
    numbers = ids(value, "p")
    assert numbers == (7, 8) and {type(number) for number in numbers} == {int}


@pytest.mark.parametrize("value", [7, np.int32(7), "p7", " 7 ", np.array(7), np.array([7]), b"7", b"p7"])
def test_one_id_is_a_list_of_one(value: Any) -> None:
    assert ids(value, "p") == (7,)


@pytest.mark.parametrize("value", ["f7", "seven", 7.5, True, None, [None], "-1", np.nan, np.inf, 2**63, "p²"])
def test_what_is_no_id_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"is no id; wanted a number, such as 7, or p7"):
        ids(value, "p")


@pytest.mark.parametrize(
    ("value", "texts"),
    [
        ("bias", ("bias",)),
        (np.str_("bias"), ("bias",)),
        (np.array(["bias", "dark"]), ("bias", "dark")),
        ([np.str_("bias")], ("bias",)),
        ((), ()),
        (b"bias", ("bias",)),
        (np.array([b"bias", b"dark"]), ("bias", "dark")),
        (date(2026, 3, 1), ("2026-03-01",)),
    ],
)
def test_texts_of_any_type_are_texts(value: Any, texts: tuple[str, ...]) -> None:
    found = words(value)
    assert found == texts and all(type(text) is str for text in found)


@pytest.mark.parametrize(
    "value",
    [
        "2026-03-01",
        np.str_("2026-03-01"),
        date(2026, 3, 1),
        np.datetime64("2026-03-01"),
        datetime(2026, 3, 1, 20),
    ],
)
def test_a_night_of_any_type_is_its_date(value: Any) -> None:
    assert night(value) == "2026-03-01"


@pytest.mark.parametrize("value", ["2026-02-30", "last night", 20260332])
def test_what_is_no_date_is_no_night(value: Any) -> None:
    with pytest.raises(ValueError, match="is no date; wanted the evening's, for instance 2026-03-01"):
        night(value)


def test_values_within_values_are_plain_too() -> None:
    value = {"a": np.float32(0.5), "b": [np.int8(1), np.bool_(True)], np.str_("c"): (np.arange(2),)}
    assert plain(value) == {"a": 0.5, "b": [1, True], "c": ([0, 1],)}
    zone = timezone(timedelta(hours=2))
    assert plain(datetime(2026, 3, 1, 1, tzinfo=zone)) == plain(datetime(2026, 2, 28, 23, tzinfo=UTC))


def test_a_request_takes_a_users_values() -> None:
    values: dict[str, Any] = {
        "targets": np.array(["science"]),
        "parameters": {"stack.sigma": np.float64(3.5), "stack.most": np.int64(4)},
        "quality_threshold": np.int64(1),
        "night": date(2026, 3, 1),
    }
    request = Request(**values)
    assert (request.targets, request.night, request.quality_threshold) == (("science",), "2026-03-01", 1)
    assert {type(value) for value in request.parameters.values()} == {float, int}
    assert Request.model_validate({"targets": "science"}).targets == ("science",)


@pytest.mark.parametrize(
    "path",
    [
        *("https://example.org/a.fits", "s3://bucket/night", "ftp://host/x", "HTTP://x", "sftp://me@host/x"),
        Path("https://example.org/a.fits"),
    ],
)
def test_a_url_is_no_path(path: str | Path) -> None:
    assert "is a URL; wanted a path on this machine" in no_path_in_words(path)


@pytest.mark.parametrize(
    "path", ["a.fits", "/data/2026-03-01", "C:/data", "night:1", "./http://x", "a b://c"]
)
def test_a_path_is_a_path(path: str) -> None:
    assert no_path_in_words(path) == ""


def test_of_a_file_url_the_path_is_told() -> None:
    assert (
        no_path_in_words("file:///data/a.fits")
        == "'file:///data/a.fits' is a URL; wanted the path: /data/a.fits"
    )


@pytest.mark.parametrize("until", ["2026-03-01", date(2026, 3, 1), np.datetime64("2026-03-01")])
def test_a_date_alone_is_all_of_its_day(until: Any) -> None:
    assert Request(since=until, until=until).until == "2026-03-01T23:59:59.999999"
    assert Request(since=until).since == "2026-03-01T00:00:00"


@pytest.mark.parametrize("wanted", [{"since": "yesterday"}, {"until": "2026-13-01"}, {"night": "2026-02-30"}])
def test_a_request_for_no_time_is_refused(wanted: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"is no (time|date); wanted"):
        Request(**wanted)


def test_nothing_is_no_path() -> None:
    assert no_path_in_words("") == "'' is no path; wanted one, or . for the current folder"
    assert no_path_in_words(".") == ""
