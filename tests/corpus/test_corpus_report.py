"""The count of cases that hold: what failed, was skipped or was never reached does not."""

from tests.corpus.case import CASES
from tests.corpus.elsewhere import ELSEWHERE, NUMBERS
from tests.corpus.report import PAIRS, failures, passed_elsewhere

ALL = {name for names in ELSEWHERE.values() for name in names}
GOOD = {pair: list[str]() for pair in PAIRS}


def test_nothing_is_wrong_when_everything_passed():
    assert failures(GOOD, ALL) == {}


def test_case_that_failed_or_was_not_reached_takes_its_number():
    case, entrance = PAIRS[0]
    number = CASES[case].number
    assert failures({**GOOD, PAIRS[0]: ["O1: no"]}, ALL) == {
        number: [f"{case} at {entrance}: O1: no"]
    }
    assert set(failures({}, ALL)) == {case.number for case in CASES.values()} & NUMBERS


def test_test_elsewhere_that_was_skipped_takes_its_number(tmp_path):
    name = ELSEWHERE["F03"][0]
    assert failures(GOOD, ALL - {name})["F03"] == [f"{name} failed or was skipped"]
    assert passed_elsewhere([name], tmp_path) == {name}
