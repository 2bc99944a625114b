"""The page on the encoder says what the reports say."""

import pytest

from recipes.tiny_lm import encoder_figures


def test_page_and_picture_are_those_of_the_reports(monkeypatch):
    monkeypatch.setattr("sys.argv", ["encoder_figures", "--check"])
    encoder_figures.main()


def test_changed_page_is_told(monkeypatch, tmp_path):
    page = tmp_path / "encoder.md"
    page.write_text(encoder_figures.PAGE.read_text().replace("| **encoder** |", "| **better** |"))
    monkeypatch.setattr(encoder_figures, "PAGE", page)
    monkeypatch.setattr("sys.argv", ["encoder_figures", "--check"])
    with pytest.raises(SystemExit, match="and the reports differ"):
        encoder_figures.main()
