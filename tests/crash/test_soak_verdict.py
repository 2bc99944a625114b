"""What the soak calls flat; the soak itself is a command of two hours."""

import pytest

from tests.crash.soak import KEPT, WARM_UP, Counts, judge, report

STEADY = {
    **{"rss_bytes": 1e9, "handles": 15, "threads": 9},
    **{"temporary_files": 100, "temporary_bytes": 1e7, "cpu_seconds": 500.0},
}


def samples(seconds=7_200, **growth):
    """One a minute; each figure of `growth` grows by that share in an hour after the warm-up."""
    found = []
    for second in range(60, seconds + 1, 60):
        hours = max(0, second - WARM_UP) / 3_600
        grown = {name: STEADY[name] * (1 + share * hours) for name, share in growth.items()}
        found.append({"second": second, **STEADY, **grown})
    return found


def test_steady_app_is_flat():
    assert all(verdict["flat"] for verdict in judge(samples()).values())


@pytest.mark.parametrize("name", ["rss_bytes", "handles", "threads", "temporary_files"])
def test_figure_that_grows_is_not_flat(name):
    verdicts = judge(samples(**{name: 0.5}))
    assert [other for other in verdicts if not verdicts[other]["flat"]] == [name]
    assert verdicts[name]["late"] > verdicts[name]["early"]


def test_files_may_pile_up_until_the_first_are_deleted():
    found = samples()
    for one in found:
        one["temporary_bytes"] = 1e4 * min(one["second"], KEPT)
    assert judge(found)["temporary_bytes"]["flat"]


def test_short_run_is_not_judged():
    assert {verdict["flat"] for verdict in judge(samples(600)).values()} == {None}


def test_failed_request_fails_the_soak():
    counts = Counts()
    assert report(samples(), counts, asked=7_200, visit_every=30)["ok"]
    counts.failures.append("broke off")
    assert not report(samples(), counts, asked=7_200, visit_every=30)["ok"]
    assert report(samples(3_600), counts, asked=7_200, visit_every=30)["ok"] is None
