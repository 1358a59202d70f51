from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from rlstab.analysis.certificates.lyapunov.region_certificate import RegionCertificate
from rlstab.cli.certify import read_budget
from rlstab.cli.main import main
from rlstab.errors import UserError


def _train(root: Path, name: str, *flags: str) -> Path:
    arguments = ["train", "lyapunov", "--preset", "quadratic", "--total-steps", "26", "--sweep-samples", "8000"]
    assert main([*arguments, "--run-dir", str(root), "--name", name, *flags]) == 0
    return root / name


@pytest.fixture(scope="module")
def path_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _train(tmp_path_factory.mktemp("runs"), "path", "--env", "rlstab/PlantPath-v0")


@pytest.fixture(scope="module")
def certified(path_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run with its certificate."""
    assert main(["certify", str(path_run), "--budget", "8s"]) == 0
    return next((path_run / "certificates").glob("*-sound.json"))


def test_a_certificate_says_what_is_proved_and_is_kept(path_run: Path, call: Any) -> None:
    code, out, err = call("certify", path_run, "--budget", "8s")
    assert code == 0
    for word in ("sound", "V(x) <=", "rho, c1, kappa", "convergence to 0", "proved: x'Px", "wall time", "float32"):
        assert word in out, word
    assert "the largest level that may hold" in err
    (kept,) = (path_run / "certificates").glob("*-sound.json")
    proof = RegionCertificate.load(kept)
    assert proof.is_proof
    assert proof.volume[0] > 14.0
    assert kept.with_suffix(".png").stat().st_size > 10_000


def test_json_is_one_document(path_run: Path, call_json: Any) -> None:
    code, document = call_json("certify", path_run, "--budget", "6s")
    assert code == 0
    assert document["status"] == "proved"
    assert document["certificate"]["grade"] == "sound"
    assert Path(document["files"]["certificate"]).exists()


def test_samples_are_labelled_so(path_run: Path, call: Any) -> None:
    code, out, _ = call("certify", path_run, "--statistical", 5000)
    assert code == 0
    assert "statistical" in out
    assert "not proved: samples say nothing of it" in out
    assert "of 5000 samples broke it" in out
    code, _, err = call("certify", path_run, "--statistical", 10)
    assert code == 2
    assert "10 samples say next to nothing" in err


def test_a_certificate_holds_for_its_run_alone(path_run: Path, certified: Path, call: Any, tmp_path: Path) -> None:
    code, out, _ = call("certify", path_run, "--check", certified)
    assert code == 0
    assert "the certificate is about it" in out
    code, out, _ = call("certify", path_run, "--check", certified, "--json")
    assert json.loads(out)["holds"] is True
    other = _train(tmp_path, "other", "--env", "rlstab/PlantPath-v0", "--total-steps", "40", "--seed", "3")
    code, _, err = call("certify", other, "--check", certified)
    assert code == 2
    assert "another controller or Lyapunov function" in err
    tight = _train(tmp_path, "tight", "--env", "rlstab/PlantPathTight-v0")
    code, _, err = call("certify", tight, "--check", certified)
    assert code == 2
    assert "for control_low/0=-0.84, not for control_low/0=-0.5" in err


def test_another_plant_than_the_trained_one_is_refused(path_run: Path, call: Any, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(path_run, changed)
    document = json.loads((changed / "run.json").read_text())
    document["config"]["env_kwargs"] = {"speed": 3.0}
    (changed / "run.json").write_text(json.dumps(document))
    code, _, err = call("certify", changed, "--budget", "2s")
    assert code == 2
    assert "was trained for speed=2, rlstab/PlantPath-v0 has speed=3" in err
    assert "Traceback" not in err


def test_six_states_need_samples(call: Any, tmp_path: Path) -> None:
    flags = ("--env", "rlstab/PlantQuadrotor2D-v0", "--total-steps", 26, "--sweep-samples", 8000)
    code, out, _ = call("train", "lyapunov", *flags, "--run-dir", tmp_path, "--name", "quadrotor")
    assert code == 0
    run = tmp_path / "quadrotor"
    assert f"rlstab certify {run}" in out
    code, _, err = call("certify", run)
    assert code == 2
    assert "6 states, more than the 4" in err
    assert "--statistical" in err
    assert call("certify", run, "--statistical", 2000)[0] == 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--budget", "soon"), "--budget is a time such as 60s"),
        (("--budget", "0.2s"), "too small to prove anything"),
        (("--statistical", "2000", "--delta", "1e-300"), "which says nothing"),
        (("--kappa", "2"), "--kappa is 2.0, but must be less than 1"),
        (("--checkpoint", "999"), "no checkpoint"),
        (("--check", "nothing.json"), "there is no result at nothing.json"),
    ],
)
def test_bad_input_is_one_line(path_run: Path, call: Any, flags: tuple[str, str], message: str) -> None:
    code, _, err = call("certify", path_run, *flags)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_other_things_than_such_runs_are_refused(call: Any, trained: Path, tmp_path: Path) -> None:
    code, _, err = call("certify", trained)
    assert code == 2
    assert "kind 'actor_critic' has nothing to certify" in err
    code, _, err = call("certify", tmp_path)
    assert code == 2
    assert "Traceback" not in err
    code, _, err = call("certify", tmp_path / "policy.onnx")
    assert code == 2
    assert "is not a run" in err


def test_it_evaluates_and_exports_like_every_policy(path_run: Path, call: Any) -> None:
    code, out, _ = call("evaluate", path_run, "--episodes", 2)
    assert code == 0
    assert "return" in out
    assert call("export", path_run)[0] == 0
    code, _, err = call("deploy", path_run / "exports" / "policy.onnx", "--duration", "0.1")
    assert code == 0, err


@pytest.mark.parametrize(("text", "seconds"), [("60", 60.0), ("60s", 60.0), ("1.5m", 90.0), ("1h", 3600.0)])
def test_budgets(text: str, seconds: float) -> None:
    assert read_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-3s", "1d", "nan", "2m30s"])
def test_no_budgets(text: str) -> None:
    with pytest.raises(UserError, match="--budget is a time"):
        read_budget(text)
