"""Commands that ask what runs: without its keys they make none, and say where to look."""

import pytest

from service.asking import GateClient, ask, said_of
from service.keyfiles import NoKeys
from service.settings import Settings


@pytest.fixture
def settings(tmp_path):
    return Settings(data_dir=tmp_path / "data")


@pytest.mark.parametrize(
    "client",
    [
        lambda settings: ask(settings, "/v1/reports", {}),
        GateClient,
    ],
)
def test_whoever_asks_in_a_folder_without_keys_is_told_where_to_look_and_makes_none(settings, client):
    with pytest.raises(NoKeys, match=f"no keys in {settings.data_dir}; set IMPLEDGER_DATA_DIR to the folder that"):
        client(settings)
    assert not settings.data_dir.exists()


def test_whoever_is_not_known_is_told_which_folder_the_key_is_of(settings):
    said = said_of(settings, 401, {"title": "The bearer token is not known", "detail": "send one"})
    assert said.startswith("The bearer token is not known: send one. It does not run on")
    assert f"{settings.data_dir}; set IMPLEDGER_DATA_DIR" in said


def test_a_problem_without_detail_is_told_without_a_colon(settings):
    assert said_of(settings, 503, {"title": "The ledger does not answer"}) == "The ledger does not answer"
