from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlstab.errors import NonFiniteState, UserError
from rlstab.runs.failure import add_clause, failure_name, save_failure


def test_the_arrays_of_an_error_and_more_are_kept_in_a_folder_that_is_made(tmp_path: Path) -> None:
    arrays = {"qpos": np.array([[np.nan]]), "info": np.array([{}], dtype=object)}
    path = tmp_path / "a" / "b" / "state.npz"
    told = save_failure(path, NonFiniteState("x", step=3, worlds=[1], arrays=arrays), action=[1.0, 2.0])
    assert told == f"the state is saved in {path}"
    with np.load(path, allow_pickle=False) as saved:
        assert set(saved) == {"qpos", "environment_step", "worlds", "action"}
        assert int(saved["environment_step"]) == 3
        np.testing.assert_array_equal(saved["action"], [1.0, 2.0])


def test_other_errors_carry_nothing_of_their_own(tmp_path: Path) -> None:
    save_failure(tmp_path / "state.npz", ValueError("x"), action=1)
    with np.load(tmp_path / "state.npz") as saved:
        assert set(saved) == {"action"}


def test_a_disk_that_refuses_is_told_and_not_raised(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    told = save_failure(tmp_path / "file" / "state.npz", ValueError("x"))
    assert told.startswith("the state could not be saved: cannot make")
    assert "\n" not in told
    assert (tmp_path / "file").read_text() == "kept"


class Fault(UserError):
    """What a safety layer of the user's may raise."""


@pytest.mark.parametrize("error", [UserError("tilt"), Fault("tilt"), NonFiniteState("tilt", 1, [0], {})])
def test_a_clause_keeps_the_type_and_what_the_error_carries(error: UserError) -> None:
    kind, carried = type(error), error.args[1:]
    add_clause(error, "saved in x")
    assert str(error) == "tilt; saved in x"
    assert (type(error), error.args[1:]) == (kind, carried)


def test_a_defect_gets_a_note() -> None:
    error = ZeroDivisionError("division by zero")
    add_clause(error, "saved in x")
    assert (str(error), error.__notes__) == ("division by zero", ["saved in x"])


@given(st.lists(st.text(), min_size=1))
def test_any_words_make_the_name_of_one_file(words: list[str]) -> None:
    name = failure_name(*words)
    assert Path(name).name == name
    assert name.endswith(".npz")
