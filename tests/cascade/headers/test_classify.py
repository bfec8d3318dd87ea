from collections import Counter
from importlib.resources import files
from pathlib import Path

import pytest

from ccdflow.archive.fits.cards import read_cards
from ccdflow.archive.fits.rawfile import open_raw
from ccdflow.cascade.headers.classify import FileFacts, classify, describe
from ccdflow.cascade.headers.dates import night
from ccdflow.cascade.headers.instrument import Instrument
from ccdflow.cascade.records import Doubt, Extension, Value
from ccdflow.config.instruments import load_instruments

SHIPPED = Path(str(files("ccdflow.config"))) / "instruments"
HEADERS = Path(__file__).parents[2] / "headers"
SHAPE = (48, 64)


@pytest.fixture(scope="module")
def instruments():
    return load_instruments([SHIPPED])


@pytest.fixture(scope="module")
def generic(instruments):
    return next(one for one in instruments if one.name == "generic")


def cards_in(*names):
    values, comments = {}, {}
    for name in names:
        lines = (HEADERS / name).read_text(encoding="utf-8").splitlines()
        block = b"".join(line[:80].ljust(80).encode("latin-1") for line in lines)
        more, said = read_cards(block)
        values |= {key: value for key, value in more.items() if value != "" or key not in values}
        comments |= said
    return values, comments


def described(instruments, *names, shape=SHAPE):
    values, comments = cards_in(*names)
    return describe(values, shape, instruments, FileFacts(comments))


def common(found):
    return {
        name: getattr(found, name)
        for name in (
            "frame_class",
            "telescope",
            "camera",
            "instrument",
            "filter",
            "object",
            "exptime",
            "obsdate",
        )
    }


def test_maxim_light(instruments):
    found = described(instruments, "maxim_light.txt")
    assert common(found) == {
        "frame_class": "science",
        "telescope": "Meade",
        "camera": "",
        "instrument": "FLI PL16803",
        "filter": "V",
        "object": "M31",
        "exptime": 120.0,
        "obsdate": "2021-10-08T02:15:30.12",
    }
    assert (found.iobs, found.nobs, found.night) == (None, None, "2021-10-07")
    assert dict(found.keywords) == {
        "profile": "generic",
        "binning": "2x2",
        "readout_mode": "8 MHz",
        "ccd_temperature": -19.9375,
        "set_temperature": -20.0,
        "gain": 1.45,
        "shape": "48x64",
        "window": "[1:128,1:96]",
        "ra": pytest.approx(10.683333333),
        "dec": pytest.approx(41.268888889),
        "airmass": pytest.approx(1.0843),
    }
    assert (found.doubts, found.refused) == ((), "")


def test_the_gain_of_nina_is_a_setting_and_its_egain_the_gain(instruments):
    found = described(instruments, "nina_light.txt")
    assert common(found) == {
        "frame_class": "science",
        "telescope": "Esprit 120ED",
        "camera": "",
        "instrument": "ZWO ASI2600MM Pro",
        "filter": "Ha",
        "object": "Orion Nebula",
        "exptime": 300.0,
        "obsdate": "2023-02-18T00:20:14.531",
    }
    assert found.night == "2023-02-17"
    assert found.keywords["profile"] == "cmos"
    assert found.keywords["gain"] == pytest.approx(0.245)
    assert [found.keywords[name] for name in ("readout_mode", "gain_setting", "offset")] == [
        "Default",
        "100",
        "50",
    ]
    assert found.keywords["ra"] == pytest.approx(83.8220833)
    assert found.keywords["FOCPOS"] == 12345
    assert found.doubts == ()


def test_without_egain_a_setting_is_never_taken_for_a_gain(instruments):
    values, comments = cards_in("nina_light.txt")
    del values["EGAIN"]
    assert "gain" not in describe(values, SHAPE, instruments, FileFacts(comments)).keywords


def test_sbig_dark(instruments):
    found = described(instruments, "sbig_ccdops_dark.txt")
    assert common(found) == {
        "frame_class": "dark",
        "telescope": "LX200",
        "camera": "",
        "instrument": "SBIG ST-8 Dual CCD Camera",
        "filter": "",
        "object": "",
        "exptime": 300.0,
        "obsdate": "2004-07-16T04:05:06",
    }
    assert found.night == "2004-07-15"
    assert found.keywords["gain"] == 2.3
    assert found.keywords["ccd_temperature"] == -10.23
    assert found.doubts == ()


def test_acp_flat(instruments):
    found = described(instruments, "acp_flat.txt")
    assert common(found) == {
        "frame_class": "flat",
        "telescope": "ACP->Sitech.Telescope",
        "camera": "",
        "instrument": "Apogee Alta U47",
        "filter": "Rc",
        "object": "",
        "exptime": 4.25,
        "obsdate": "2019-11-28T23:58:59",
    }
    assert found.night == "2019-11-28"
    assert found.keywords["readout_mode"] == "Normal"
    assert "gain" not in found.keywords
    assert found.doubts == ()


def test_noao_zero(instruments):
    found = described(instruments, "noao_zero.txt")
    assert common(found) == {
        "frame_class": "bias",
        "telescope": "kp09m",
        "camera": "t2ka",
        "instrument": "ccdphot",
        "filter": "2",
        "object": "biases",
        "exptime": 0.0,
        "obsdate": "1998-06-21T03:14:15.9",
    }
    assert found.keywords["binning"] == "1x1"
    assert (found.keywords["gain"], found.keywords["read_noise"]) == (3.6, 4.0)
    assert found.doubts == ()


def test_arcon_object_of_two_amplifiers(instruments):
    found = described(instruments, "arcon_object.txt")
    assert common(found) == {
        "frame_class": "science",
        "telescope": "CTIO 0.9 meter telescope",
        "camera": "Tek2K_3",
        "instrument": "cfccd",
        "filter": "v",
        "object": "SA98",
        "exptime": 20.0,
        "obsdate": "1999-12-31T04:26:30.5",
    }
    assert found.keywords["gain"] == pytest.approx(3.15)
    assert found.keywords["read_noise"] == pytest.approx(5.0)
    assert found.doubts == ()


def test_lco_extension_filled_from_the_primary(instruments):
    found = described(instruments, "lco_primary.txt", "lco_sci.txt")
    assert common(found) == {
        "frame_class": "science",
        "telescope": "1m0-05",
        "camera": "DB-44",
        "instrument": "fa15",
        "filter": "rp",
        "object": "WASP-43",
        "exptime": 30.004,
        "obsdate": "2017-07-11T23:18:59.617",
    }
    assert (found.iobs, found.nobs, found.night) == (3, 10, "2017-07-11")
    assert found.keywords["saturation"] == 46000.0
    assert found.keywords["readout_mode"] == "default"
    assert found.doubts == ()


def test_odd_values_are_read_or_unknown_with_a_sentence_each(instruments):
    found = described(instruments, "odd.txt")
    assert found.frame_class == "flat"
    assert found.exptime == 1.5
    assert found.obsdate == "2020-01-02T01:04:05.5"
    assert found.filter == "g'"
    assert found.object == ""
    assert (found.iobs, found.nobs) == (None, None)
    assert found.night == "2020-01-01"
    assert found.keywords["ccd_temperature"] == -25.0
    assert found.keywords["binning"] == "one"
    assert not {"gain", "read_noise", "airmass"} & set(found.keywords)
    assert found.doubts == (
        Doubt("sequence", "exposure 5 of 3 can't be: its place in the sequence is unknown"),
    )
    assert found.refused == ""


@pytest.mark.parametrize(
    ("spellings", "wanted"),
    [
        (["Bias Frame", "bias", "BIAS", "zero", "ZERO", "Zero Frame"], "bias"),
        (["Dark Frame", "dark", "DARK", "DARKFLAT", "Dark Flat"], "dark"),
        (
            ["FLAT", "Flat Field", "Flat Frame", "sky flat", "SKYFLAT", "dome flat", "Dome_Flat", "twilight"],
            "flat",
        ),
        (["DFLAT", "SFLAT", "LAMPFLAT", "FLAT,SKY", "sky-flat", "projector flat"], "flat"),
        (["Light Frame", "light", "LIGHT", "object", "OBJECT", "EXPOSE", "science", "STANDARD"], "science"),
        (["arc", "COMP", "comparison", "WAVE,LAMP ARC"[10:]], "arc"),
        (["sky"], "sky"),
        (["FOCUS"], "focus"),
        (["Foo", "bias?flat", "tungsten"], "unclassified"),
    ],
)
def test_spellings_of_each_class(generic, spellings, wanted):
    for spelling in spellings:
        assert classify({"IMAGETYP": spelling}, generic)[0] == wanted, spelling


@pytest.mark.parametrize(
    "keyword", ["IMAGETYP", "OBSTYPE", "FRAME", "IMAGTYP", "DATA-TYP", "IMGTYPE", "ESO DPR TYPE"]
)
def test_keywords_of_the_class(generic, keyword):
    assert classify({keyword: "DARK"}, generic) == ("dark", "")


def test_a_number_is_a_class_only_in_its_own_keyword(generic):
    assert classify({"PICTTYPE": 2}, generic)[0] == "bias"
    assert classify({"IMAGETYP": 2}, generic)[0] == "unclassified"


def test_an_unknown_class_keyword_gives_way_to_one_that_is_known(generic):
    assert classify({"IMAGETYP": "Foo", "OBSTYPE": "BIAS"}, generic) == ("bias", "")


def test_unclassified_names_the_keywords_seen(generic):
    assert classify({"IMAGETYP": "Foo", "FRAME": 17}, generic) == (
        "unclassified",
        "class not known from IMAGETYP='Foo', FRAME='17'",
    )


def test_nothing_is_guessed_from_an_exposure_time_of_zero(instruments):
    found = describe({"EXPTIME": 0.0, "DATE-OBS": "2020-01-01T00:00:00", "IMAGETYP": " "}, SHAPE, instruments)
    assert found.frame_class == "unclassified"
    assert found.doubts[0].kind == "class" and "none of IMAGETYP" in found.doubts[0].text
    assert found.refused == ""


def test_a_rule_decides_before_the_class_keyword(generic):
    rule = {"class": "bias", "where": {"EXPTIME": "0", "OBJECT": ["*bias*", "zero*"]}}
    ruled = Instrument.model_validate({**generic.model_dump(by_alias=True), "rules": [rule]})
    assert classify({"EXPTIME": 0.0, "OBJECT": "Bias 3", "IMAGETYP": "object"}, ruled)[0] == "bias"
    assert classify({"EXPTIME": 1.0, "OBJECT": "Bias 3", "IMAGETYP": "object"}, ruled)[0] == "science"


def test_a_frame_without_date_has_its_class_and_is_refused(instruments):
    found = describe({"IMAGETYP": "bias", "DATE-OBS": "2020-02-31"}, SHAPE, instruments)
    assert (found.frame_class, found.obsdate, found.night) == ("bias", "", "")
    assert found.refused == "when it was taken is not known: DATE-OBS='2020-02-31' is no date of the calendar"


def test_contradictory_sections_refuse_a_frame_and_say_so(instruments):
    cards = {"IMAGETYP": "bias", "DATE-OBS": "2020-01-01T00:00:00", "TRIMSEC": "[1:2048,1:2048]"}
    found = describe(cards, SHAPE, instruments)
    assert found.refused.startswith(
        "TRIMSEC='[1:2048,1:2048]' lies outside of the raw array of 64 columns and 48 rows; say it in"
    )


def test_a_file_of_several_images_is_refused_by_their_names(instruments):
    cards = {"IMAGETYP": "bias", "DATE-OBS": "2020-01-01T00:00:00"}
    images = Extension(1, "SCI,1", SHAPE), Extension(2, "SCI,2", SHAPE, first_row=SHAPE[0])
    found = describe(cards, SHAPE, instruments, FileFacts(extensions=images))
    assert found.refused.startswith(
        "the file holds 2 images: SCI,1, SCI,2; instrument 'generic' does not say"
    )


@pytest.mark.parametrize("value", [-1.0, 0, "0.0 e-/adu", "unknown", 1000, True, "", float("nan")])
def test_a_gain_that_can_not_be_is_unknown(instruments, value):
    found = describe({"DATE-OBS": "2020-01-01T00:00:00", "GAIN": value, "RDNOISE": value}, SHAPE, instruments)
    assert "gain" not in found.keywords


@pytest.mark.parametrize(
    ("cards", "said"),
    [
        ({"EXPTIME": -5.0}, "EXPTIME='-5' is outside 0 to 1e+06"),
        ({"CCD-TEMP": -999.0}, "CCD-TEMP='-999' is outside -273 to 100"),
        ({"EXPTIME": "long"}, "EXPTIME='long' is not understood"),
    ],
)
def test_a_number_that_can_not_be_is_unknown_with_a_sentence(instruments, cards, said):
    found = describe({"DATE-OBS": "2020-01-01T00:00:00", "IMAGETYP": "bias", **cards}, SHAPE, instruments)
    assert found.exptime is None
    assert "ccd_temperature" not in found.keywords
    assert [doubt.text for doubt in found.doubts] == [said]


def test_the_sites_longitude_counts_before_the_headers(instruments, generic):
    cards = {"DATE-OBS": "2020-01-01T06:00:00", "SITELONG": "-105 49 13"}
    assert describe(cards, SHAPE, instruments).night == "2019-12-31"
    east = generic.model_copy(update={"site": generic.site.model_copy(update={"longitude": 150.0})})
    assert describe(cards, SHAPE, [east]).night == night("2020-01-01T06:00:00", 150.0) == "2020-01-01"
    west = generic.model_copy(update={"site": generic.site.model_copy(update={"west_positive": True})})
    assert describe(cards, SHAPE, [west]).night == "2020-01-01"


def test_values_of_a_field_may_have_other_names(generic):
    named = Instrument.model_validate(
        {**generic.model_dump(by_alias=True), "values": {"filter": {"r": ["sdss_r", "r'"]}}}
    )
    cards = {"DATE-OBS": "2020-01-01T06:00:00"}
    assert describe({**cards, "FILTER": "SDSS-R"}, SHAPE, [named]).filter == "r"
    assert describe({**cards, "FILTER": "sdss_i"}, SHAPE, [named]).filter == "sdss_i"


def test_a_row_without_file_is_described_too(instruments):
    found = describe(
        {"imagetype": "science", "DATE-OBS": "2020-01-01T06:00:00", "GAIN": 1.5}, None, instruments
    )
    assert found.frame_class == "science"
    assert found.keywords["gain"] == 1.5
    assert "shape" not in found.keywords


def test_a_description_makes_a_record(instruments):
    record = described(instruments, "maxim_light.txt").record(7, "ab", "x.fits")
    assert (record.id, record.sha256, record.path) == (7, "ab", "x.fits")
    assert record.value("gain") == 1.45
    assert record.stream == ("Meade", "", "FLI PL16803")


def test_any_header_is_described_and_none_raises(instruments):
    for value in ("", " ", "?", -1, 0, 1e30, True, "[0:0,0:0]", "''", "{X}", "\u00b0", "1 1 1", float("inf")):
        values = {key: value for key in cards_in("lco_sci.txt")[0]}
        assert describe(values, SHAPE, instruments).frame_class == "unclassified"


def test_every_frame_of_a_real_night(instruments, real_night):
    found = []
    for path in sorted(real_night.glob("*.fits")):
        raw = open_raw(path)
        facts = FileFacts(raw.comments, raw.extensions)
        found.append(describe(raw.header, raw.shape, instruments, facts))
    assert Counter(one.frame_class for one in found) == {"bias": 3, "dark": 3, "flat": 6, "science": 6}
    assert {one.night for one in found} == {"2019-05-02"}
    assert Counter(one.filter for one in found) == {"": 6, "sdss_r": 6, "sdss_i": 6}
    assert {one.object for one in found if one.frame_class == "science"} == {"M13"}
    assert all(one.doubts == () and one.refused == "" for one in found)
    assert not any("gain" in one.keywords for one in found)


@pytest.mark.parametrize("value", ["01/03/2026", "soon"])
def test_a_validity_that_is_no_time_refuses_the_frame(instruments, value):
    cards = {"IMAGETYP": "bias", "DATE-OBS": "2020-01-01T00:00:00", "VALFROM": value}
    assert (
        describe(cards, SHAPE, instruments).refused
        == f"valid_from={value!r} is no time, wanted ISO such as 2026-03-01"
    )


@pytest.mark.parametrize(
    ("cards", "wanted"),
    [
        *(
            ({"IMAGETYP": word}, "dark")
            for word in ("DARKFLAT", "Dark Flat Frame", "FlatDark", "Darks", "dark images")
        ),
        *(({"IMAGETYP": word}, "bias") for word in ("Biases", "bias frames", "Zero Frame", "Offset")),
        *(
            ({"IMAGETYP": word}, "flat")
            for word in ("Flats", "EL_FLAT", "FLAT,SCREEN", "Flat Panel", "AutoFlat", "PLU")
        ),
        *(({"IMAGETYP": word}, "science") for word in ("Lights", "Light Frames", "science images")),
        *(
            ({"IMAGETYP": word}, "unclassified")
            for word in ("Acquisition", "run", "frames", "images", "s", "Glass")
        ),
        ({"FLAVOR": "bias"}, "bias"),  # SDSS
        ({"CALFRAME": "MasterFlat"}, "flat"),  # Astro Pixel Processor
        ({"PICTTYPE": 3}, "dark"),  # TheSky
        ({"PICTTYPE": 3, "IMAGETYP": "Dark Frame"}, "dark"),
    ],
)
def test_classes_are_known_in_the_plural_too_and_by_the_words_of_many_programs(generic, cards, wanted):
    assert classify(cards, generic)[0] == wanted


@pytest.mark.parametrize(
    ("written", "camera"),
    [
        (r"ToupTek_\\?\usb#vid_0547&pid_157c#5&2ec8f72a&0&15", ""),
        ("/dev/video0", ""),
        ("ZWO ASI2600MM Pro (2)", "ZWO ASI2600MM Pro (2)"),
        ("112E900511080900", "112E900511080900"),
    ],
)
def test_the_socket_of_a_camera_is_not_its_name(instruments, written, camera):
    header = {"IMAGETYP": "Light", "DATE-OBS": "2026-03-01T20:00:00", "EXPTIME": 60.0, "CAMERAID": written}
    assert describe(header, SHAPE, instruments).camera == camera


@pytest.mark.parametrize(
    ("ra", "dec", "known"), [(0.0, 0.0, False), (0.0, 12.0, True), ("0:00:00", "+0:00:00", False)]
)
def test_a_position_of_exactly_0_is_none(ra: Value, dec: Value, known: bool) -> None:
    cards = {"IMAGETYP": "LIGHT", "DATE-OBS": "2026-03-01T20:00:00", "EXPTIME": 30.0, "RA": ra, "DEC": dec}
    said = describe(cards, (10, 10), load_instruments([SHIPPED]))
    assert ("dec" in said.keywords) is known
    assert any("exactly 0" in doubt.text for doubt in said.doubts) is not known
