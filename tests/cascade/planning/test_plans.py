"""The data sets of a plan: each target job with all that it needs."""

from dataclasses import replace

from tests.cascade.planning.test_jobqueue import job

from ccdflow.cascade.planning.jobs import Missing
from ccdflow.cascade.planning.plans import DataSet, Plan, data_sets

CHAIN = (job("b", "bias"), job("f", "flat", "b"), job("s1", "science", "f"), job("s2", "science", "f"))


def names(data_set: DataSet) -> object:
    return {data_set.job.key: [names(need) for _, need in data_set.needs]}


def test_what_no_job_takes_is_a_data_set_with_all_that_it_needs() -> None:
    assert [names(one) for one in data_sets(Plan(CHAIN))] == [
        {"s1": [{"f": [{"b": []}]}]},
        {"s2": [{"f": [{"b": []}]}]},
    ]


def test_a_task_that_is_asked_for_by_name_has_data_sets_though_others_take_its_products() -> None:
    assert [one.job.key for one in data_sets(Plan(CHAIN, asked=("flat",)))] == ["f", "s1", "s2"]


def test_a_data_set_is_complete_only_where_all_that_it_needs_is() -> None:
    bias = replace(CHAIN[0], state="incomplete", missing=(Missing("main", "no file"),))
    other = job("d", "dark")
    assert [(one.job.key, one.complete) for one in data_sets(Plan((bias, *CHAIN[1:], other)))] == [
        ("s1", False),
        ("s2", False),
        ("d", True),
    ]
