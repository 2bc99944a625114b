"""F10: a client that asks again under the same key gets the one result."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from app.service.retries import MAX_KEYS, Retries
from app.service.sessions import Session
from lora_gen.errors import ConditionError, GeneratorError


class Counted:
    """A request that is served in three steps; counts how often it was begun."""

    def __init__(self, *, fails: int = 0) -> None:
        self.begun, self._fails = 0, fails
        self.lock = threading.Lock()

    def __call__(self) -> Iterator[Any]:
        with self.lock:
            self.begun += 1
            number = self.begun
        yield "step"
        if number <= self._fails:
            raise GeneratorError("`steps` is wrong.")
        yield ["result", number]


def retries(**options: Any) -> Any:
    given = {"is_result": lambda u: isinstance(u, list), "is_alive": lambda u: True, **options}
    return Retries(**given)


@pytest.fixture
def visitor(tmp_path: Path) -> Session:
    return Session(tmp_path / "s")


def test_ten_retries_of_one_key_make_one_output(visitor: Session) -> None:
    table, make = retries(), Counted()
    found = [list(table.run(visitor, "a", 1, make))[-1] for _ in range(10)]
    assert found == [["result", 1]] * 10
    assert make.begun == 1


def test_retries_at_once_wait_for_the_first(visitor: Session) -> None:
    table, make = retries(), Counted()
    with ThreadPoolExecutor(10) as pool:
        jobs = [pool.submit(lambda: list(table.run(visitor, "a", 1, make))) for _ in range(10)]
        found = [job.result(60)[-1] for job in jobs]
    assert found == [["result", 1]] * 10
    assert make.begun == 1


def test_retry_after_the_client_left_early_makes_it_anew(visitor: Session) -> None:
    table, make = retries(), Counted()
    gone = table.run(visitor, "a", 1, make)
    next(gone)
    gone.close()
    assert list(table.run(visitor, "a", 1, make)) == ["step", ["result", 2]]


def test_retry_after_the_client_left_with_the_result_gives_that_result(visitor: Session) -> None:
    table, make = retries(), Counted()
    gone = table.run(visitor, "a", 1, make)
    assert [next(gone), next(gone)] == ["step", ["result", 1]]
    gone.close()
    assert list(table.run(visitor, "a", 1, make)) == [["result", 1]]


def test_retry_after_a_failure_makes_it_anew(visitor: Session) -> None:
    table, make = retries(), Counted(fails=1)
    with pytest.raises(GeneratorError, match="is wrong"):
        list(table.run(visitor, "a", 1, make))
    assert list(table.run(visitor, "a", 1, make))[-1] == ["result", 2]


def test_retry_of_a_result_that_is_gone_makes_it_anew(visitor: Session) -> None:
    table, make = retries(is_alive=lambda update: False), Counted()
    for number in (1, 2):
        assert list(table.run(visitor, "a", 1, make))[-1] == ["result", number]


def test_requests_without_a_key_are_all_served(visitor: Session) -> None:
    table, make = retries(), Counted()
    assert [list(table.run(visitor, "", 1, make))[-1][1] for _ in range(3)] == [1, 2, 3]


def test_keys_of_visitors_are_apart(visitor: Session, tmp_path: Path) -> None:
    table, make = retries(), Counted()
    other = Session(tmp_path / "other")
    assert [list(table.run(v, "a", 1, make))[-1][1] for v in (visitor, other)] == [1, 2]


def test_key_of_another_request_is_refused(visitor: Session) -> None:
    table = retries()
    list(table.run(visitor, "a", 1, Counted()))
    with pytest.raises(ConditionError, match="`a` was the key of another request"):
        list(table.run(visitor, "a", 2, Counted()))


@pytest.mark.parametrize("key", ["a b", "x" * 65, "../x", "\n", "ä"])
def test_malformed_key_is_refused(visitor: Session, key: str) -> None:
    with pytest.raises(ConditionError, match="`Idempotency-Key` must have 1 to 64"):
        list(retries().run(visitor, key, 1, Counted()))


def test_old_keys_are_forgotten(visitor: Session) -> None:
    table, make = retries(), Counted()
    for number in range(MAX_KEYS + 1):
        list(table.run(visitor, str(number), 1, make))
    list(table.run(visitor, "0", 1, make))
    assert make.begun == MAX_KEYS + 2
