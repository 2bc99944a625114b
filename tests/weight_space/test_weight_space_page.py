"""docs/weight_space.md holds what the reports beside it say."""

import json

from recipes.tiny_lm.weight_space import REPORTS
from recipes.tiny_lm.weight_space.figures import PAGE, TABLES, page, stale

KNOWN = {path.stem: json.loads(path.read_text()) for path in REPORTS.glob("*.json")}


def test_every_table_of_the_page_is_as_its_report_says() -> None:
    assert stale(PAGE.read_text(), KNOWN) == []


def test_a_changed_figure_is_found() -> None:
    text = PAGE.read_text().replace("| given adapter | 0.", "| given adapter | 1.")
    assert stale(text, KNOWN) == ["invert"]
    assert page(text, KNOWN) == PAGE.read_text()


def test_every_table_has_its_report_and_its_place() -> None:
    text = PAGE.read_text()
    for section, (report, _) in TABLES.items():
        assert report in KNOWN
        assert text.count(f"<!-- {section}:begin -->") == 1
