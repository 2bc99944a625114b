from tests.crash.kill_rounds import READERS, WRITERS, promised, run


def test_kill_rounds_lose_nothing_that_was_acknowledged(tmp_path):
    result = run(3, tmp_path, seed=7)
    assert (result.lost, result.resurrected, result.half_visible) == (0, 0, 0)
    assert result.failures == []
    assert result.kills == 3 * (WRITERS + READERS)
    assert result.added > 0


def test_ledger_demands_what_was_added_and_forbids_what_was_removed():
    lines = ["added a", "added b", "removing a", "removed a", "removing c"]
    assert promised(lines, {"c", "d"}) == ({"b", "d"}, {"a"})
