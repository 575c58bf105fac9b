"""The built wheel, installed in a clean environment outside the checkout, does the main job."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    command = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"fledge"}
    sources = {str(p.relative_to(ROOT / "src")) for p in (ROOT / "src" / "fledge").rglob("*.*")}
    assert {n for n in sources if "__pycache__" not in n} <= set(names)
    assert "fledge/recipes/kd_rnet_quickstart.toml" in names
    assert "fledge/py.typed" in names


@pytest.mark.slow
def test_the_wheel_runs_the_quickstart_in_a_clean_environment(wheel: Path, tmp_path: Path) -> None:
    """Its dependencies are lent by this environment, whose own fledge stays out of reach."""
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = tmp_path / "env" / "lib" / version / "site-packages"
    (site / "lent.pth").write_text(sysconfig.get_path("purelib"))  # only this folder: .pth files in it are not read
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", str(python)]
    subprocess.run([*pip, "install", "--no-deps", str(wheel)], check=True, capture_output=True, timeout=300)

    def run(*command: str) -> str:
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
        assert ended.returncode == 0, ended.stderr[-3000:]
        return ended.stdout

    where = run(str(python), "-c", "import fledge; print(fledge.__file__)").strip()
    assert Path(where).is_relative_to(site)
    fledge = str(tmp_path / "env" / "bin" / "fledge")
    run(fledge, "quickstart", "--smallest", "--out", "out")
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000
    assert (tmp_path / "out" / "scene" / "scene.gpkg").is_file()
    assert "kd_rnet" in run(fledge, "methods")
