import os
import subprocess
import sys

import pytest

NICE = "import os; from service.process import begin; begin({name!r}); print(os.nice(0))"


@pytest.mark.parametrize(("name", "nicer"), [("gate", 0), ("desk", 5), ("work", 10), ("scheduler", 10)])
def test_whoever_can_wait_gives_way_to_the_gate(tmp_path, name, nicer):
    settings = {**os.environ, "IMPLEDGER_DATA_DIR": str(tmp_path)}
    told = subprocess.run(
        [sys.executable, "-c", NICE.format(name=name)], env=settings, check=True, capture_output=True, text=True
    )
    assert int(told.stdout) == os.nice(0) + nicer
