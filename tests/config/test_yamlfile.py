from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ccdflow.config.yamlfile import ConfigError, load_model


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Inner(Strict):
    frame_class: Literal["bias", "dark"] = Field("bias", alias="class")
    level: int = 0
    notes: dict[str, str] = Field(default_factory=dict)


class Other(Strict):
    by: tuple[str, ...]


class Outer(Strict):
    name: str = "none"
    size: float = 1.0
    items: tuple[Inner, ...] = ()
    table: dict[str, Inner | Other] = Field(default_factory=dict)
    marked: Annotated[Inner | None, Field(description="one")] = None
    on: bool = False

    @model_validator(mode="after")
    def _is_positive(self):
        if self.size <= 0:
            raise ValueError(f"size must be above 0; found {self.size}")
        return self


def message(content):
    with pytest.raises(ConfigError) as caught:
        load_model(content, Outer)
    said = str(caught.value)
    assert "\n" not in said
    return said


def test_a_file_and_a_text_give_the_same(tmp_path):
    content = "name: a\nitems:\n  - {class: dark, level: 2}\n"
    path = tmp_path / "some.yaml"
    path.write_text(content)
    assert load_model(path, Outer) == load_model(content, Outer)
    assert load_model(content, Outer).items[0].frame_class == "dark"


def test_an_empty_file_is_all_defaults():
    assert load_model("# nothing\n", Outer) == Outer()


def test_an_unknown_key_is_named_with_its_line_and_the_nearest_one():
    assert (
        message("size: 2\n\nnmae: x\n") == "configuration, line 3: unknown key 'nmae'; did you mean 'name'?"
    )


def test_an_unlike_key_is_answered_with_all_that_are_known():
    assert message("quux: 1\n").endswith("unknown key 'quux'; known: name, size, items, table, marked, on")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("items:\n  - level: 1\n  - levl: 2\n", "line 3: items.1: unknown key 'levl'; did you mean 'level'?"),
        ("table:\n  x:\n    levl: 2\n", "line 3: table.x: unknown key 'levl'; did you mean 'level'?"),
        ("table:\n  x:\n    bye: [a]\n", "line 3: table.x: unknown key 'bye'; did you mean 'by'?"),
        ("marked:\n  klass: bias\n", "line 2: marked: unknown key 'klass'; did you mean 'class'?"),
        (
            "x-a: &a\n  levl: 1\nmarked: {<<: *a}\n",
            "line 2: marked: unknown key 'levl'; did you mean 'level'?",
        ),
    ],
)
def test_keys_are_known_at_every_depth(content, said):
    assert said in message(content)


def test_a_word_out_of_a_choice_is_answered_with_the_nearest():
    said = message("items:\n  - class: drak\n")
    assert said == "configuration, line 2: items.0.class: unknown value 'drak'; did you mean 'dark'?"
    assert message("marked: {class: spectrum}\n").endswith("unknown value 'spectrum'; known: bias, dark")


def test_a_wrong_value_is_named_with_what_was_found():
    said = message("name: a\nsize: big\n")
    assert said.startswith("configuration, line 2: size: Input should be a valid number")
    assert "found 'big'" in said


def test_a_rule_of_the_model_speaks_for_itself():
    assert message("size: -1\n") == "configuration, line 1: size must be above 0; found -1.0"


def test_a_missing_key_is_named():
    class Needs(Strict):
        must: str

    with pytest.raises(ConfigError, match="line 1: key 'must' is missing"):
        load_model("{}", Needs)


def test_a_misspelt_key_is_told_before_the_one_that_misses_for_it():
    class Needs(Strict):
        must: str

    with pytest.raises(ConfigError, match=r"unknown key 'mst'; did you mean 'must'\? \(and 1 more\)"):
        load_model("mst: 1\n", Needs)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("name: a\nsize: 1\nname: b\n", "line 3: key 'name' stands in line 1 already"),
        ("name: [a\n", "not YAML"),
        ("name: a\n\tsize: 1\n", "line 2: not YAML"),
        ("- a\n- b\n", "line 1: found a list, wanted keys with values"),
        ("just words\n", "line 1: found a single value, wanted keys with values"),
        ("name: a\n---\nname: b\n", "not YAML"),
        ("name: *nobody\n", "line 1: not YAML: found undefined alias"),
        ("name: !!python/object:os.system x\n", "not YAML: could not determine a constructor"),
        ("? {a: 1}\n: 2\n", "line 1: a key must be a word"),
        ("marked: &a\n  notes: *a\n", "an anchor holds itself"),
        ("name: \x07\n", "not YAML"),
    ],
)
def test_what_is_no_configuration_is_refused_in_one_line(content, said):
    assert said in message(content)


def test_keys_for_anchors_are_left_out():
    found = load_model("x-notes: &notes {a: b}\nmarked: {notes: *notes}\n", Outer)
    assert found.marked is not None
    assert found.marked.notes == {"a": "b"}


@pytest.mark.parametrize(
    "word", ["no", "Y", "off", "12:30:00", "-105:49:13", "2026-03-01", "2026-03-01T01:02:03", "1_000"]
)
def test_words_that_old_yaml_takes_for_something_else_stay_words(word):
    assert load_model(f"name: {word}\n", Outer).name == word


@pytest.mark.parametrize(
    ("written", "wanted"), [("1e-3", 1e-3), ("2", 2.0), (".5", 0.5), ("1.5E+2", 150.0), ("0x10", 16.0)]
)
def test_numbers_are_numbers(written, wanted):
    assert load_model(f"size: {written}\n", Outer).size == wanted


def test_true_and_false_are_the_only_flags():
    assert load_model("on: true\n", Outer).on is True
    assert load_model("marked: null\n", Outer).marked is None


def test_files_that_can_not_be_read_are_named(tmp_path):
    with pytest.raises(ConfigError, match=r"missing\.yaml: no such file or directory"):
        load_model(tmp_path / "missing.yaml", Outer)
    with pytest.raises(ConfigError, match="is a directory"):
        load_model(tmp_path, Outer)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not a text in UTF-8"):
        load_model(tmp_path / "binary.yaml", Outer)


@given(st.text(alphabet="abcxyz:-{}[]&*#'\"\n 12<.|>!", max_size=40))
def test_any_text_is_a_model_or_one_line(content):
    try:
        load_model(content, Outer)
    except ConfigError as error:
        assert "\n" not in str(error)
