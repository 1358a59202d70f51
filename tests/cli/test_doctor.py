from __future__ import annotations

import sys

import pytest

from rlstab.cli import doctor
from rlstab.envs import rendering
from rlstab.errors import UserError


def by_name(document):
    return {check["name"]: check for check in document["checks"]}


def test_a_working_installation(call_json, monkeypatch):
    monkeypatch.setattr(doctor, "_rendering", lambda: doctor.Check("rendering", "ok", "off-screen through egl"))
    code, document = call_json("doctor")
    checks = by_name(document)
    assert code == 0
    assert document["core_works"] is True
    assert checks["torch"]["level"] == "ok"
    assert checks["physics"]["level"] == "ok"
    assert all(check["fix"] for check in document["checks"] if check["level"] == "problem")
    assert all(
        check["fix"] for check in document["checks"] if check["name"].startswith("extra ") and check["level"] != "ok"
    )


def test_a_broken_package_fails_the_core(call, monkeypatch):
    monkeypatch.setitem(doctor._MODULES, "numpy", "no_such_module")
    monkeypatch.setattr(doctor, "_rendering", lambda: doctor.Check("rendering", "ok", ""))
    code, out, _ = call("doctor")
    assert code == 1
    assert f"{sys.executable} -m pip install --force-reinstall --no-deps 'numpy<3,>=2'" in out
    assert "the core does not work" in out


@pytest.mark.parametrize(("version", "level"), [("3.7.1", "ok"), (None, "note")])
def test_triton_s_version_is_told(monkeypatch, version, level):
    def look(name):
        if version is None:
            raise doctor.importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(doctor.importlib.metadata, "version", look)
    check = doctor._triton()
    assert check.level == level
    assert (version or "not here") in check.detail
    assert not check.core


def test_too_many_threads_are_a_problem(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "4096")
    problems = [check for check in doctor._threads() if check.level == "problem"]
    assert "export OMP_NUM_THREADS=1" in problems[0].fix


def test_disk_that_cannot_be_written(monkeypatch, tmp_path):
    def refuse(**arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    check = doctor._disk(tmp_path / "runs" / "deep")
    assert check.level == "problem"
    assert "--run-dir" in check.fix


def test_a_folder_that_is_not_there_yet_is_fine(tmp_path):
    check = doctor._disk(tmp_path / "runs" / "deep")
    assert "GiB free" in check.detail
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("level", "says"), [("ok", "everything that training needs works"), ("problem", "to mend")])
def test_verdict(capsys, level, says):
    doctor._print([doctor.Check("disk", level, "", "make room" if level == "problem" else "")], works=True)
    assert says in capsys.readouterr().out


def test_extras_are_installed_by_this_python():
    assert doctor._install_command("atari").startswith(f"{sys.executable} -m pip install ")
    assert "[atari]" in doctor._install_command("atari")


def test_without_rendering_the_packages_are_those_of_the_error(monkeypatch):
    def refuse():
        raise UserError("nothing renders off-screen here")

    monkeypatch.setattr(rendering, "choose_backend", refuse)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    check = doctor._rendering()
    assert (check.level, check.detail) == ("problem", "nothing renders off-screen here")
    assert check.fix.endswith(f"apt-get install {rendering.DEBIAN_PACKAGES['egl']}")
    monkeypatch.setenv("MUJOCO_GL", "off")
    assert doctor._rendering().fix == "unset MUJOCO_GL"
