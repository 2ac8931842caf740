"""A fresh installation scores from its first minute: `up` trains a starter model beside a gate that decides already."""

import time
from dataclasses import replace

import pytest
from helpers_processes import eventually
from test_cli import Up

from ml.features.schema import PLACE
from ml.models.s3 import load_any
from service.asking import GateClient
from service.settings import Settings
from service.stage import on_free_ports
from service.starter import NOTE, UNSCALED, kept_starter

pytestmark = pytest.mark.slow


def models_of(settings):
    with GateClient(settings) as gate:
        return gate.get("/v1/models")


def test_up_puts_a_starter_model_in_force_once_and_keeps_it(tmp_path):
    settings = replace(on_free_ports(Settings()), data_dir=tmp_path / "data")
    with Up(settings):
        assert models_of(settings)["in_force"]["s2"]["champion"] is None  # the gate did not wait
        eventually(lambda: all(one["champion"] for one in models_of(settings)["in_force"].values()), within_s=240)
        eventually(lambda: models_of(settings)["gate"]["champion"])
        told = models_of(settings)
    starter = kept_starter(settings)
    assert {stage: one["champion"] for stage, one in told["in_force"].items()} == starter.models
    assert told["gate"]["champion"] == starter.models["s2"]
    for model in starter.models.values():
        kept = load_any((settings.data_dir / "models" / f"{model}.model").read_bytes(), model)
        assert kept.card.note == NOTE
        assert set(kept.trees.feature.tolist()).isdisjoint(PLACE[name] for name in UNSCALED)
    began = time.monotonic()
    with Up(settings):
        eventually(lambda: models_of(settings)["gate"]["champion"] == starter.models["s2"], within_s=60)
    assert time.monotonic() - began < 60
    assert len(list((settings.data_dir / "models").glob("*.model"))) == len(starter.models)
