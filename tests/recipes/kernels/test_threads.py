"""Work in threads: in order, and not more than is allowed."""

import threading

import pytest

from ccdflow.recipes.kernels.threads import ahead, at_most


def test_one_item_is_worked_on_while_the_one_before_it_is_taken():
    begun = [threading.Event() for _ in range(5)]

    def work(number):
        begun[number].set()
        return number * number

    with at_most(2):
        found = []
        for number, result in enumerate(ahead(work, range(5))):
            found.append(result)
            if number + 1 < len(begun):
                assert begun[number + 1].wait(10)

    assert found == [0, 1, 4, 9, 16]


def test_with_one_thread_nothing_is_worked_on_ahead():
    begun = []

    def work(number):
        begun.append(number)
        return number

    with at_most(1):
        assert [(one, len(begun)) for one in ahead(work, range(3))] == [(0, 1), (1, 2), (2, 3)]


def test_what_goes_wrong_ahead_is_raised_where_it_is_taken():
    with at_most(2):
        results = ahead(lambda number: 1 // number, [1, 0, 1])
        assert next(results) == 1
        with pytest.raises(ZeroDivisionError):
            next(results)


def test_nothing_gives_nothing():
    assert list(ahead(str, [])) == []
