"""Which store an address opens, and what is loaded for it."""

import asyncio
import subprocess
import sys
from dataclasses import replace

import pytest
from esdbkit import DAY, NOON, an_append

from domain.vocabulary import DataSet
from ledger.store import Appended
from service.settings import Settings
from service.wiring import open_store


def test_an_esdb_address_opens_the_event_store_on_eventstoredb(esdb_url):
    async def main():
        store = open_store(replace(Settings(), ledger_url=esdb_url))
        await store.prepare_days(DAY, DAY, DataSet.LIVE)
        assert await store.append([an_append()], NOON) == [Appended()]
        await store.close()

    asyncio.run(main())


@pytest.mark.slow
def test_an_esdb_address_with_layout_segments_opens_the_ledger_in_segments(segments_urls):
    async def main():
        url, database_url = segments_urls
        store = open_store(replace(Settings(), ledger_url=url, database_url=database_url))
        await store.prepare_days(DAY, DAY, DataSet.LIVE)
        assert await store.append([an_append()], NOON) == [Appended()]
        assert await store.head() == 1
        await store.close()

    asyncio.run(main())


def test_grpc_is_loaded_by_none_but_who_uses_it():
    code = (
        "import sys; from dataclasses import replace; from service.settings import Settings; "
        "from service.wiring import open_store; open_store(replace(Settings(), ledger_url='memory')); "
        "assert not {'grpc', 'esdbclient', 'kurrentdbclient'} & sys.modules.keys()"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
