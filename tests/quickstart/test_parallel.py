from __future__ import annotations

from pathlib import Path

import pytest

from fledge.quickstart.parallel import Job, JobFailedError, run_jobs
from fledge.recipe import load_recipe


def test_a_failed_training_passes_its_code_and_message_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    recipe = load_recipe("quickstart_student", data=str(tmp_path / "absent"), device="cpu")
    with pytest.raises(JobFailedError, match="a training failed: first") as caught:
        run_jobs([Job("first", recipe, tmp_path / "run")])
    assert caught.value.exit_code == 3
    assert "first | fledge: no such folder" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []
