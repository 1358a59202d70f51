from __future__ import annotations

import json
import math

import numpy as np
import pytest

from rlstab.envs.disturbance import (
    ActionDelay,
    ExternalWrench,
    GravityTilt,
    ObservationDelay,
    ObservationNoise,
    ParameterScale,
    RandomForce,
    Range,
    from_json,
    parse,
    to_json,
)
from rlstab.errors import UserError

EVERYTHING = (
    ExternalWrench("torso", force=(1.5, Range(-2, 2), 0), frame="body", start_s=Range(0, 1), duration_s=0.5),
    ExternalWrench("torso", torque=(0.0, 0.0, 1.0), period_s=2.0),
    RandomForce("torso", Range(1, 5), "horizontal", hold_steps=2, probability=0.5),
    ObservationNoise(Range(0.01, 0.1, "log"), "uniform", (1.0, 2.0)),
    ParameterScale("mass", 1.2, ("torso", "foot")),
    ParameterScale("friction", Range(0.5, 2.0, "log")),
    GravityTilt(5.0, Range(0, 360)),
    ActionDelay(Range(0, 3), jitter=1),
    ObservationDelay(2),
)


def test_json_brings_back_equal_disturbances():
    text = json.dumps(to_json(EVERYTHING), allow_nan=False)
    assert from_json(json.loads(text)) == EVERYTHING


NUMPY = (
    ParameterScale("mass", np.arange(0.5, 1.0, 0.25)[0]),
    ObservationNoise(np.float32(0.5), scale=tuple(np.linspace(0.5, 1.0, 2))),
    ActionDelay(np.int64(2), jitter=np.int64(1)),
    GravityTilt(np.float32(5), np.float64(90)),
    RandomForce("torso", np.float64(2), hold_steps=np.int32(3), probability=np.float32(0.5)),
    ExternalWrench("torso", np.ones(3), start_s=np.float64(0.5), period_s=np.float32(2)),
)


def test_numbers_of_numpy_become_plain_ones():
    text = json.dumps(to_json(NUMPY), allow_nan=False)
    assert from_json(json.loads(text)) == NUMPY
    assert "np." not in repr(NUMPY[:1] + NUMPY[2:])


def test_an_endless_wrench_survives_json_without_infinity():
    (back,) = from_json(json.loads(json.dumps(to_json([ExternalWrench("torso")]), allow_nan=False)))
    assert isinstance(back, ExternalWrench)
    assert back.duration_s == math.inf


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"kind": "action_dealy"}, "did you mean 'action_delay'"),
        ({}, "known: "),
        ({"kind": ["action_delay"]}, "did you mean 'action_delay'"),
        ({"kind": "action_delay", "steps": 1, "jitter": {"low": 0, "high": 1}}, "jitter must be a number, got"),
        ({"kind": "external_wrench", "body": "torso", "force": "123"}, "three numbers or ranges"),
        ("gain", "known: "),
        ({"kind": "action_delay", "step": 1}, "no setting step"),
        ({"kind": "parameter_scale", "parameter": "mass"}, "factor"),
        ({"kind": "parameter_scale", "parameter": "mass", "factor": {"lo": 1}}, "can't be made"),
        ({"kind": "observation_noise", "sigma": "much"}, "sigma"),
    ],
)
def test_wrong_json_is_refused_in_one_line(item, words):
    with pytest.raises(UserError, match=words) as caught:
        from_json([item])
    assert "\n" not in str(caught.value)


def test_short_text_is_read():
    assert parse("gain=0.8, latency=1,mass=0.5:2,noise=0.1,tilt=5,observation_delay=2,") == (
        ParameterScale("gain", 0.8),
        ActionDelay(1),
        ParameterScale("mass", Range(0.5, 2.0)),
        ObservationNoise(0.1),
        GravityTilt(5.0),
        ObservationDelay(2),
    )
    assert parse("") == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("gian=0.8", "did you mean 'gain'"),
        ("gain", "write gain=0.8"),
        ("gain=", "write gain=0.8"),
        ("gain=1:2:3", "write gain=0.8"),
        ("gain=2:1", "low <= high"),
        ("latency=0.5", "steps must be whole"),
    ],
)
def test_wrong_text_is_refused(text, words):
    with pytest.raises(UserError, match=words):
        parse(text)
