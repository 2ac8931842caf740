"""What `replay-log` refuses before anything is started or sent."""

import pytest
from screenkit import impledger


@pytest.mark.parametrize("site", ["", "a\tb", "a\udcffb"])
def test_a_site_that_no_token_can_name_is_refused(site, tmp_path):
    log = tmp_path / "access.log"
    log.touch()
    refused = impledger("replay-log", str(log), "--site", site, port=1, data_dir=tmp_path, columns=200)
    assert refused.exit_code == 2
    assert "a site is a name that can be printed" in refused.stderr
