from importlib.resources import files
from pathlib import Path

import pytest

from ccdflow.config.instruments import load_instruments
from ccdflow.config.yamlfile import ConfigError

SHIPPED = Path(str(files("ccdflow.config"))) / "instruments"


def write(folder, **contents):
    folder.mkdir(exist_ok=True)
    for name, content in contents.items():
        (folder / f"{name}.yaml").write_text(content)
    return folder


def test_the_shipped_instruments_are_valid_and_one_reads_everything():
    found = {one.name: one for one in load_instruments([SHIPPED])}
    assert [name for name, one in found.items() if not one.match] == ["generic"]
    assert found["cmos"].keywords.exptime == (*found["generic"].keywords.exptime, "EXP")
    assert found["cmos"].classes == found["generic"].classes
    assert found["cmos"].keywords.gain == ("EGAIN",)


def test_every_spelling_of_a_shipped_instrument_means_one_class():
    for instrument in load_instruments([SHIPPED]):
        for name, words in instrument.classes.items():
            for word in words:
                kept = "".join(sign for sign in word.casefold() if sign.isalnum() or sign == "=")
                assert instrument.spellings[kept] == name, word


def test_folders_come_in_order_and_the_first_of_a_name_counts(tmp_path):
    mine = write(tmp_path / "mine", z="name: zed\nmatch: {A: b}\n", a="name: generic\ndescription: mine\n")
    found = load_instruments([mine, SHIPPED])
    assert [one.name for one in found][:3] == ["generic", "zed", "arcsat"]
    assert found[0].description == "mine"


def test_an_instrument_takes_the_rest_from_another_folder(tmp_path):
    mine = write(
        tmp_path / "mine",
        a="name: a\nextends: b\nsite: {longitude: 3}\n",
        b="name: b\nextends: generic\nmatch: {TELESCOP: ours}\nkeywords: {filter: [WHEEL]}\n",
    )
    a = load_instruments([mine, SHIPPED])[0]
    assert (a.name, a.site.longitude, a.keywords.filter) == ("a", 3.0, ("WHEEL",))
    assert a.keywords.exptime[0] == "EXPTIME"
    assert a.match == ({"TELESCOP": ("ours",)},)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "name: a\nkeywords:\n  exptme: [X]\n",
            r"a\.yaml, line 3: keywords: unknown key 'exptme'; did you mean 'exptime'\?",
        ),
        ("name: a\nkeyword: {}\n", r"line 2: unknown key 'keyword'; did you mean 'keywords'\?"),
        (
            "name: a\nclasses:\n  bais: [x]\n",
            r"line 3: classes\.bais: unknown value 'bais'; did you mean 'bias'\?",
        ),
        ("name: a\nlimits: {gian: [0, 1]}\n", "line 2: limits: unknown field 'gian'; known: telescope"),
        ("name: a\nsite: {time_zone: Nowhere}\n", "line 2: site.time_zone: unknown time zone 'Nowhere'"),
        (
            "name: a\nsite:\n  longitude: 361\n",
            "line 3: site.longitude: Input should be less than or equal to 360",
        ),
        ("name: a\ndetectors:\n  - gain: 0\n", r"line 3: detectors\.0\.gain: .*greater than 0; found 0"),
        ("name: a\ndetectors:\n  - amplifiers:\n      - gian: 1\n", "line 4: .*did you mean 'gain'"),
        ("name: a\nextends: genric\n", r"extends unknown instrument 'genric'; did you mean 'generic'\?"),
        ("name: a\nextends: a\n", "instruments extend each other: a -> a"),
        ("description: x\n", "key 'name' is missing"),
    ],
)
def test_mistakes_are_named_with_file_and_line(tmp_path, content, said):
    with pytest.raises(ConfigError, match=said):
        load_instruments([write(tmp_path / "mine", a=content), SHIPPED])


def test_two_files_of_one_folder_can_not_share_a_name(tmp_path):
    with pytest.raises(ConfigError, match=r"instrument 'same' stands in .* already"):
        load_instruments([write(tmp_path / "mine", a="name: same\n", b="name: same\n")])


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ConfigError, match="nowhere: no such folder"):
        load_instruments([tmp_path / "nowhere"])
