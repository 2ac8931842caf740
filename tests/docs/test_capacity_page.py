"""docs/capacity.md says what the command says: its tables to the letter, its sentences figure by figure."""

import json
import sys
from math import ceil
from pathlib import Path

import pytest

from service.capacity import Ledger, gate_us, ledger_bytes_per_commit, one_machine, plan
from service.capacity_figures import inputs_of, load_book, with_assignments
from service.capacity_screen import number

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from figures import BLOCK, mended_page  # noqa: E402 (a script is found by its folder)

PAGE = (ROOT / "docs" / "capacity.md").read_text()
PROSE = " ".join(BLOCK.sub("", PAGE).split())
README = " ".join((ROOT / "benchmarks" / "README.md").read_text().split())
BOOK = load_book()
INPUTS = inputs_of(BOOK)
BASE, STREAMS = plan(INPUTS, Ledger.POSTGRES), plan(INPUTS, Ledger.STREAMS)
HOT_S = INPUTS.hot_days * 86_400
RENDERS_A_DAY = INPUTS.renders_per_s / INPUTS.peak_to_mean * 86_400
ALONE = one_machine(INPUTS)
BENCH = json.loads((ROOT / "benchmarks" / "results" / "bench-1.json").read_text())
STORAGE = json.loads((ROOT / "benchmarks" / "results" / "storage.json").read_text())


def changed(*assignments):
    return plan(inputs_of(with_assignments(BOOK, assignments)), Ledger.POSTGRES)


AS_THEY_ARE = ("stored_ratio=1", "postgres_ratio=1.275", "wal_ratio=1.227", "compress_us=0", "expand_us=0")
SHORT = ("hot_days=14", "cold_days=441")
FAST = changed("gate_us=12", "postgres_us=6", "desk_us=7", "clickhouse_us=3.5")
STREAMS_IN_ALL = STREAMS.cell_streams * STREAMS.cells
BY_LEADER = STREAMS_IN_ALL / STREAMS.bounds["leader"]
INDEX = STREAMS.mean_commits_per_s * HOT_S * 3 / STREAMS.bounds["leader"] * INPUTS.esdb_index_bytes


GATES = gate_us(INPUTS, Ledger.STREAMS) / gate_us(INPUTS, Ledger.POSTGRES)


def times(found):
    return f"{BASE.all_machines / found.all_machines:.1f}".removesuffix(".0")


SATURATED, HALF = (number(BENCH[run]["decisions_per_s"]) for run in ("saturation", "half_of_saturation"))
STORED = number(ledger_bytes_per_commit(INPUTS, Ledger.POSTGRES))
CELL = changed(*SHORT)
NODE_TB = CELL.hot_pb["ledger"] * 1e3 / CELL.ledger_nodes
COUNTERS_MB = json.loads((ROOT / "benchmarks" / "results" / "counters.json").read_text())[
    "default_capacities_mb_at_most"
]
COUNTED = BASE.gate_processes * COUNTERS_MB * 2**20 / INPUTS.person_bytes
PACKED = plan(inputs_of(with_assignments(BOOK, [f"esdb_stored_ratio={INPUTS.archive_ratio}"])), Ledger.SEGMENTS)
SENTENCES = [
    f"are what matters: {STREAMS.gate_processes / plan(INPUTS, Ledger.SEGMENTS).gate_processes:.1f} times fewer gates",
    f"then it is {number(PACKED.all_machines)} machines instead of {number(STREAMS.all_machines)}",
    f"is {ceil(CELL.gate_processes / CELL.cells)} gate processes, {CELL.ledger_nodes // CELL.cells} PostgreSQL nodes",
    f"with {number(NODE_TB)} TB each, a desk with {CELL.clickhouse_nodes // CELL.cells} ClickHouse nodes,",
    f"{CELL.brokers // CELL.cells} brokers, a worker and a scheduler: {CELL.all_cores / CELL.cells:.1f} cores in all",
    f"(at most {COUNTERS_MB} MB a gate) hold {COUNTED / 1e6:.0f} million of the 2.8 billion people",
    f"takes {number(BASE.all_cores)} cores, {ceil(BASE.all_cores / 64)} machines of 64,",
    f"but {number(BASE.all_hot_pb)} PB of flash: {number(BASE.all_machines)} machines of 60 TB,",
    f"of which {number(BASE.machines['ledger'])} do little but hold the ledger",
    f"90 days at {BASE.mean_commits_per_s / 1e6:.1f} million commits/s",
    f"are {number(BASE.mean_commits_per_s * HOT_S)} commits,",
    f"of {INPUTS.commit_bytes + INPUTS.features_bytes:,.0f} bytes, which PostgreSQL keeps in {STORED}, three times",
    f"compressed. As they are it would be {number(changed(*AS_THEY_ARE).all_machines)} machines",
    f"**Cells:** {number(BASE.cells)}, because",
    f"holds no more than {number(BASE.cell_commits_per_s)} commits/s",
    f"would do with {number(BASE.bounds['lock'])} cells of {number(ALONE.commits_per_s_by_ledger)}/s each",
    f"a map per region of {ceil(BASE.bounds['lock'] / INPUTS.regions)} would",
    f"on flash ({times(changed(*SHORT))} times fewer machines with 14 days, {number(changed(*SHORT).all_machines)})",
    f"machines with more flash ({times(changed('machine_disk_tb=240'))} times fewer with four times as much)",
    f"**25 µs instead of {BENCH['saturation']['cpu_us_in_all']:.0f} µs a decision**",
    f"would leave {number(FAST.all_cores)} of the cores,",
    f"and save {BASE.all_machines - FAST.all_machines} of the {number(BASE.all_machines)} machines",
    f"{number(RENDERS_A_DAY)} renders a day, {number(RENDERS_A_DAY / INPUTS.people_per_day)} a person",
    f"99.99 % lets {BASE.renders_may_fail_a_day / 1e6:.1f} million renders a day fail",
    f"90 days are {number(STREAMS_IN_ALL)} streams",
    f"By throughput {number(STREAMS.bounds['leader'])} clusters would do",
    f"each would hold {number(BY_LEADER)} streams",
    f"a filter of {number(BY_LEADER / 1e9)} GB and an index of {number(INDEX / 1e12)} TB on each node",
    f"With {number(INPUTS.streams_per_cluster)} streams a cluster,",
    f"which is what this page allows, it takes {number(STREAMS.bounds['streams'])}",
    f"The client's {INPUTS.esdb_append_us:g} µs per append alone asks for {GATES:.1f} times the gates",
    f"see {INPUTS.renders_per_s / INPUTS.campaigns:.1f} renders/s each in the whole world",
    f"decides {SATURATED} renders/s at saturation, {HALF} at half of it",
    f"Machines: {INPUTS.machine_cores:g} cores, {INPUTS.machine_memory_gb:g} GB,",
    f"{INPUTS.machine_disk_tb:g} TB of flash, {INPUTS.machine_gbit_per_s:g} Gbit/s",
]


@pytest.mark.parametrize("sentence", SENTENCES)
def test_a_sentence_has_the_figures_of_the_command(sentence):
    assert sentence in PROSE


def test_one_machine_carries_as_many_ledgers_as_the_page_says():
    assert "twelve times what one ledger takes" in PROSE
    assert round(ALONE.commits_per_s_by_cores / ALONE.commits_per_s_by_ledger) == 12


def test_every_table_is_that_of_the_command():
    assert mended_page(PAGE, BOOK) == PAGE
    assert [block[2] for block in BLOCK.finditer(PAGE)] == [
        "bounds postgres",
        "ledgers",
        "sensitivity postgres machines",
        "sensitivity postgres cores",
        "levers",
        "one-machine",
        "figures",
    ]


def test_what_the_benchmarks_say_of_sizes_is_their_result():
    today, scored, wire = STORAGE["commits"], STORAGE["commit_with_30_features"], STORAGE["wire"]
    postgres, clickhouse = STORAGE["postgres"]["bytes_per_commit"], STORAGE["clickhouse"]
    in_archive, scored_in_archive = (kind["zstd_3_in_1024_kib"]["bytes"] for kind in (today, scored))
    for words in (
        f"{today['bytes']:,} bytes of JSON ({scored['bytes']:,} with a model's features)",
        f"{postgres['in_all']:,.0f} bytes in PostgreSQL, {clickhouse['bytes_per_impression']:.0f} in ClickHouse",
        f"{in_archive:.0f} in an archive by zstd ({scored_in_archive:.0f} with features)",
        f"{wire['100']['request']} on the wire in a request of 100 and {wire['1']['request']:,} alone",
        f"A request costs the gate {INPUTS.request_us:.0f} µs beside its renders",
    ):
        assert words in README, words


def test_the_ratios_of_compression_on_the_page_are_measured():
    compact = json.loads((ROOT / "benchmarks" / "results" / "compact.json").read_text())
    generated, real = compact["generated"]["decisions"], compact["ledger"]["decisions"]
    assert f"takes {generated['ratio']:.0%} of its bytes, one of a real access log {real['ratio']:.0%}" in PROSE
    assert f"--ledger segments --set esdb_stored_ratio={INPUTS.archive_ratio:.4f}" in PAGE
    assert f"{INPUTS.archive_ratio:.4f}" in BOOK["esdb_stored_ratio"].says
