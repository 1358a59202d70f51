from __future__ import annotations

from rlstab.runs.run import Run


def test_environments(call_json, call):
    _, document = call_json("list", "envs")
    names = {row["name"]: row["runs"] for row in document["envs"]}
    assert names["Hopper-v5"] == "native batch"
    assert names["CartPole-v1"] == "gymnasium"
    assert "CartPole-v0" not in names
    assert "Hopper-v4" not in names
    _, everything = call_json("list", "envs", "--all")
    assert "CartPole-v0" in {row["name"] for row in everything["envs"]}
    code, out, _ = call("list", "envs", "--search", "HOPPER")
    assert code == 0
    assert "Hopper-v5" in out
    assert "Ant-v5" not in out


def test_methods(call_json, call):
    _, document = call_json("list", "methods")
    rows = {row["name"]: row for row in document["methods"]}
    assert rows["dqn"]["actions"] == "discrete"
    assert "Hopper-v5" in rows["sac"]["presets"]
    assert "Soft actor-critic" in call("list", "methods")[1]


def test_runs(call_json, call, trained, tmp_path):
    _, document = call_json("list", "runs", "--run-dir", trained.parent)
    (row,) = document["runs"]
    assert (row["name"], row["method"], row["status"], row["path"]) == ("run", "ppo", "finished", str(trained))
    code, _, err = call("list", "runs", "--run-dir", tmp_path)
    assert code == 0
    assert "no runs in" in err


def test_a_run_that_died_is_listed_as_interrupted(call_json, tmp_path):
    Run.create(tmp_path, method="ppo", env_id="X-v0", config={}, seed=0, device="cpu", command=[], name="a")
    (row,) = call_json("list", "runs", "--run-dir", tmp_path)[1]["runs"]
    assert (row["status"], row["reason"]) == ("interrupted", "killed")


def test_mistake(refused):
    assert "'envs', 'methods', 'runs'" in refused("list", "environments")
