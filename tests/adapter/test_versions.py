import re
from pathlib import Path

import pytest

from lora_gen.adapter.versions import (
    SECURITY_FLOORS,
    _order,
    python_warning,
    require_safe_versions,
)
from lora_gen.errors import MissingDependencyError

ROOT = Path(__file__).parents[2]


def test_installed_packages_are_above_their_floors():
    require_safe_versions()


def test_tested_pins_are_above_the_floors():
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "constraints.txt").read_text(), re.M))
    pins = {name.replace("-", "_").lower(): pin for name, pin in pins.items()}
    for name, floor in SECURITY_FLOORS.items():
        pin = pins.get(name.replace("-", "_"))
        assert pin is None or _order(pin) >= _order(floor), name


def test_package_below_its_floor_is_refused_with_the_command():
    sentence = r"`torch` is .*, and releases before 999 have .*Run `pip install 'torch>=999'`\.$"
    with pytest.raises(MissingDependencyError, match=sentence):
        require_safe_versions({"torch": "999"})


def test_absent_package_is_no_risk():
    require_safe_versions({"no-such-package-here": "1"})


@pytest.mark.parametrize(
    ("low", "high"),
    [("2.9.1", "2.10.0"), ("0.42", "0.42.1"), ("5.3.0rc1", "5.3.0"), ("0.8.dev1", "0.8.0")],
)
def test_versions_are_ordered_as_releases(low, high):
    assert _order(low) < _order(high)
    assert _order("2.10.0+cpu") == _order("2.10") == _order("2.10.0")


@pytest.mark.parametrize(
    ("running", "warns"),
    [((3, 11, 7), True), ((3, 11, 8), False), ((3, 12, 1), True), ((3, 13, 0), False)],
)
def test_python_with_a_known_hole_is_named(running, warns):
    assert bool(python_warning(running)) == warns
