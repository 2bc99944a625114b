from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from adapter_factories import plain_tensors, random_adapter, raw_peft_folder, tiny_spec

from lora_gen.adapter.algebra import norm, scale
from lora_gen.adapter.doctor import doctor
from lora_gen.adapter.io import load_adapter, save_adapter


def saved(tmp_path, adapter=None):
    spec = tiny_spec()
    save_adapter(adapter or random_adapter(spec), tmp_path / "out", base=spec)
    return tmp_path / "out"


def test_doctor_finds_nothing_wrong_with_what_we_write(tmp_path):
    report = doctor(saved(tmp_path), base=tiny_spec())
    assert report.ok
    assert report.warnings == ()
    assert report.base_matches is True
    assert report.norm == pytest.approx(norm(load_adapter(tmp_path / "out")))
    assert json.loads(json.dumps(report.to_dict()))["ok"] is True


def test_doctor_says_when_an_adapter_has_no_effect(tmp_path):
    adapter = random_adapter(tiny_spec())
    silent = scale(adapter, 0.0)
    assert "has no effect" in doctor(saved(tmp_path, silent)).warnings[0]
    first = next(iter(adapter.pairs))
    partly = replace(adapter, pairs={**adapter.pairs, first: silent.pairs[first]})
    save_adapter(partly, tmp_path / "out", base=tiny_spec(), overwrite=True)
    assert "1 of 14 modules have no effect" in doctor(tmp_path / "out").warnings[0]


def test_doctor_reports_a_broken_adapter_instead_of_raising(tmp_path):
    report = doctor(raw_peft_folder(tmp_path, use_dora=True))
    assert not report.ok
    assert "`use_dora` is set" in report.errors[0]
    assert "vLLM" in {v.runtime for v in report.runtimes if not v.accepts}


def test_doctor_reports_what_is_no_adapter(tmp_path):
    report = doctor(tmp_path / "absent")
    assert report.format is None
    assert "does not exist" in report.errors[0]


def test_doctor_reports_another_base(tmp_path):
    folder = saved(tmp_path)
    report = doctor(folder, base=tiny_spec("GPT2LMHeadModel"))
    assert report.base_matches is False
    assert "is not a module of the base" in report.errors[0]
    renamed = doctor(folder, base=replace(tiny_spec(), id="acme/cousin"))
    assert "names the base `acme/tiny`, not `acme/cousin`" in renamed.warnings[0]


def test_doctor_warns_of_edited_files_and_unknown_fields(tmp_path):
    folder = saved(tmp_path)
    (folder / "README.md").write_text("edited")
    assert "`README.md`" in doctor(folder).warnings[0]
    unknown = doctor(raw_peft_folder(tmp_path / "raw", future_field=1))
    assert "fields unknown to PEFT 0.21.2: `future_field`" in unknown.warnings[0]


def test_doctor_warns_of_keys_that_peft_ignores(tmp_path):
    tensors = {k.removeprefix("base_model.model."): t for k, t in plain_tensors().items()}
    report = doctor(raw_peft_folder(tmp_path, tensors=tensors))
    assert "PEFT loads them silently as no adapter" in report.warnings[0]


def test_doctor_names_tensors_that_are_not_finite(tmp_path):
    name = "base_model.model.q.lora_B.weight"
    tensors = {**plain_tensors(), name: torch.full((3, 2), float("nan"))}
    assert (
        "`q.lora_B` has 6 values of 6"
        in doctor(raw_peft_folder(tmp_path, tensors=tensors)).errors[0]
    )
