"""Cascades that extend others, or hold them as subworkflows."""

from pathlib import Path
from textwrap import dedent

import pytest

from ccdflow.cascade.planning.graph import cascade_graph
from ccdflow.cascade.specification.model import Cascade
from ccdflow.config.cascadefile import cascade_files, load_cascade
from ccdflow.config.yamlfile import ConfigError
from ccdflow.tasks.workspace import open_workspace

FLATS = """
    name: flats
    description: Bias and flat.
    parameters:
      use_bias: {default: true}
      least: {default: 3, description: Fewest flats.}
    parameter_sets:
      quick: {workflow: {use_bias: false}, tasks: {flat: {sigma: 3.0}}}
    sources:
      raw_bias: {class: bias, group: all, rules: [{level: 0, within: unlimited}]}
      raw_flat: {class: flat, group: {by: [filter], min_size: $least}, rules: [{level: 0, match: [filter]}]}
    tasks:
      bias: {recipe: bias, stage: calibrate, main: raw_bias}
      flat:
        recipe: flat
        stage: calibrate
        main: raw_flat
        condition: use_bias or count > 0
        inputs: {bias: {source: bias}}
        tags: [calibration]
"""


def write(folder: Path, **texts: str) -> Path:
    """Files by name; gives the path of the last."""
    path = folder
    for name, text in texts.items():
        path = folder / f"{name}.yaml"
        path.write_text(dedent(text))
    return path


def load(folder: Path, **texts: str) -> Cascade:
    return load_cascade(write(folder, flats=FLATS, **texts))


def refusal(folder: Path, **texts: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, **texts)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(f"{folder}/", "")


@pytest.mark.parametrize("least", ["5", "{default: 5}"])
def test_a_parameter_may_be_a_value_alone(tmp_path: Path, least: str) -> None:
    mine = load(tmp_path, mine=f"{{name: mine, extends: flats.yaml, parameters: {{least: {least}}}}}")
    assert mine.parameters["least"].default == 5
    assert mine.parameters["least"].description == "Fewest flats."
    assert mine.sources["raw_flat"].group.min_size == 5
    alone = FLATS.replace("use_bias: {default: true}", "use_bias: true")
    assert load_cascade(write(tmp_path, alone=alone)).parameters["use_bias"].default is True


def test_a_cascade_changes_entries_of_the_one_that_it_extends(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        mine="""
        name: mine
        extends: flats.yaml
        tasks:
          flat:
            parameters: {sigma: 4.0}
            inputs: {dark: {source: dark, min: 0, rules: [{level: 0, within: 7}]}}
          dark: {recipe: dark, stage: calibrate, main: raw_dark, inputs: {bias: {source: bias}}}
        sources:
          raw_dark: {class: dark, group: each}
        """,
    )
    assert list(found.tasks) == ["bias", "flat", "dark"]
    flat = found.tasks["flat"]
    assert (flat.main, dict(flat.parameters), list(flat.inputs)) == (
        "raw_flat",
        {"sigma": 4.0},
        ["bias", "dark"],
    )
    assert found.sources["raw_flat"].group.min_size == 3
    assert (found.name, found.description) == ("mine", "Bias and flat.")
    assert found.tuned({"least": 5}).sources["raw_flat"].group.min_size == 5


def test_null_takes_something_out(tmp_path: Path) -> None:
    mine = "{name: mine, extends: [flats.yaml], tasks: {flat: {inputs: {bias: null}}}, parameter_sets: {quick: null}}"
    found = load(tmp_path, mine=mine)
    assert not found.tasks["flat"].inputs and not found.parameter_sets


def test_the_shipped_cascade_is_extended_by_name(tmp_path: Path) -> None:
    found = load(
        tmp_path, mine="{name: mine, extends: imaging, tasks: {stack: {groups: {sequence: {max_stack: 9}}}}}"
    )
    assert found.tasks["stack"].groups["sequence"].max_stack == 9
    assert "object" in found.tasks["stack"].groups


def test_of_two_things_of_one_name_it_must_be_said_which(tmp_path: Path) -> None:
    other = FLATS.replace("stage: calibrate, main: raw_bias", "stage: science, main: raw_bias")
    mine = "{name: mine, extends: [flats.yaml, other.yaml]}"
    assert refusal(tmp_path, other=other, mine=mine) == (
        "mine.yaml: task 'bias' stands in flats.yaml and in other.yaml; give it here to say which"
    )
    said = mine[:-1] + ", tasks: {bias: {stage: stack}}}"
    assert load(tmp_path, other=other, mine=said).tasks["bias"].stage == "stack"


def test_a_subworkflow_has_names_of_its_own(tmp_path: Path) -> None:
    outer = """
        name: outer
        sources:
          raw_science: {class: science, group: each}
          raw_bias: {class: bias, group: all, rules: [{level: 0, within: unlimited}]}
        subworkflows:
          lamp: {cascade: flats.yaml, bind: {raw_bias: raw_bias}, parameters: {least: 5}}
          sky: {cascade: flats.yaml, bind: {raw_bias: raw_bias}}
        tasks:
          science:
            recipe: science
            stage: science
            main: raw_science
            tags: [science]
            inputs:
              bias: {source: lamp.bias}
              flat: {any_of: [{source: sky.flat}, {source: lamp.flat}]}
        """
    found = load(tmp_path, outer=outer)
    assert set(found.tasks) == {"science", "lamp.bias", "lamp.flat", "sky.bias", "sky.flat"}
    assert set(found.sources) == {"raw_science", "raw_bias", "lamp.raw_flat", "sky.raw_flat"}
    assert found.tasks["lamp.flat"].condition == "lamp_use_bias or count > 0"
    assert found.tasks["lamp.flat"].inputs["bias"].source == "lamp.bias"
    assert [found.sources[f"{one}.raw_flat"].group.min_size for one in ("lamp", "sky")] == [5, 3]
    assert found.parameters["lamp_least"].default == 5
    quick = found.parameter_sets["quick"]
    assert quick.workflow == {"lamp_use_bias": False, "sky_use_bias": False}
    assert quick.tasks == {"lamp.flat": {"sigma": 3.0}, "sky.flat": {"sigma": 3.0}}
    assert found.targets(["lamp"]) == ["lamp.bias", "lamp.flat"]
    simple, detailed = cascade_graph(found), cascade_graph(found, detailed=True)
    assert {one.key for one in simple.nodes} == {"raw_science", "raw_bias", "lamp", "sky", "science"}
    assert {(one.start, one.end) for one in simple.edges} >= {("lamp", "science"), ("raw_bias", "lamp")}
    assert "lamp.flat" in {one.key for one in detailed.nodes}


@pytest.mark.parametrize(
    ("held", "said"),
    [
        ("{lamp: {cascade: none.yaml}}", "outer.yaml: cascade 'none.yaml' is no file in"),
        (
            "{lamp: {cascade: flats.yaml, bind: {raw_bais: x}}}",
            "subworkflow 'lamp' binds: unknown source 'raw_bais'",
        ),
        (
            "{lamp: {cascade: flats.yaml, parameters: {most: 1}}}",
            "unknown workflow parameter 'most'; known: use_bias",
        ),
        (
            "{lamp: {cascade: flats.yaml, binds: {}}}",
            "subworkflows.lamp.binds: extra inputs are not permitted",
        ),
        ("{la.mp: {cascade: flats.yaml}}", "a name has letters, digits and _ only"),
        ("{lamp: {cascade: outer.yaml}}", "cascades contain each other: outer.yaml -> outer.yaml"),
        ("{lamp: {cascade: flats.yaml, bind: {raw_bias: nothing}}}", "takes unknown input 'nothing'"),
    ],
)
def test_wrong_subworkflows_are_refused(tmp_path: Path, held: str, said: str) -> None:
    found = refusal(tmp_path, outer=f"{{name: outer, sources: {{}}, tasks: {{}}, subworkflows: {held}}}")
    assert said in found, found


def test_a_mistake_is_told_with_the_file_that_holds_it(tmp_path: Path) -> None:
    wrong = FLATS.replace("recipe: flat", "recipee: flat")
    path = write(tmp_path, flats=wrong, mine="{name: mine, extends: flats.yaml}")
    with pytest.raises(
        ConfigError, match=r"flats.yaml, line 15: tasks.flat: unknown key 'recipee'; did you mean 'recipe'"
    ):
        load_cascade(path)


def test_a_changed_file_far_up_counts_at_the_next_command(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        flats=FLATS,
        middle="{name: middle, extends: flats.yaml}",
        mine="{name: mine, extends: middle.yaml}",
    )
    assert [one.stem for one in cascade_files(path)] == ["mine", "middle", "flats"]
    (tmp_path / "ccdflow.yaml").write_text("cascade: mine.yaml\n")
    assert "sky" not in open_workspace(tmp_path).cascade.sources
    assert open_workspace(tmp_path).cascade is open_workspace(tmp_path).cascade
    write(
        tmp_path,
        flats=FLATS + "    # sky too\n",
        middle="{name: middle, extends: flats.yaml, sources: {sky: {class: sky}}}",
    )
    assert "sky" in open_workspace(tmp_path).cascade.sources


def test_the_outer_cascade_may_change_its_subworkflow(tmp_path: Path) -> None:
    outer = """
        name: outer
        sources: {}
        subworkflows: {lamp: {cascade: flats.yaml}}
        tasks: {lamp.flat: {parameters: {sigma: 9.0}}}
        """
    found = load(tmp_path, outer=outer)
    assert (found.tasks["lamp.flat"].parameters["sigma"], found.tasks["lamp.flat"].main) == (
        9.0,
        "lamp.raw_flat",
    )


def test_conditions_of_sources_follow_their_subworkflow(tmp_path: Path) -> None:
    inner = FLATS.replace("raw_flat: {class: flat,", "raw_flat: {class: flat, condition: use_bias,")
    outer = "{name: outer, sources: {}, tasks: {}, subworkflows: {lamp: {cascade: inner.yaml}}}"
    found = load(tmp_path, inner=inner, outer=outer)
    assert found.sources["lamp.raw_flat"].condition == "lamp_use_bias"


def test_a_misspelt_extends_is_told(tmp_path: Path) -> None:
    assert "unknown key 'extnds'; did you mean 'extends'" in refusal(
        tmp_path, mine="{name: mine, extnds: flats.yaml, sources: {}, tasks: {}}"
    )


def test_what_is_not_there_can_not_be_taken_out(tmp_path: Path) -> None:
    mine = "{name: mine, extends: flats.yaml, tasks: {flat: {inputs: {drak: null}}}}"
    assert "'drak' can't be taken out: there is none; known: bias" in refusal(tmp_path, mine=mine)
