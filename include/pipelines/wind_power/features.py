"""From the historian's signals to the model's eight features; numpy alone.

One definition for three places: `train.py` (its sibling, in the trainer image), the player beside each device,
and the golden rows. A second copy of this arithmetic would be a skew between training and serving.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

SIGNALS = ("Ws_avg", "Ot_avg", "Va_avg", "Wa_avg", "Ya_avg", "Ba_avg")
FEATURES = ("Ws", "Ot", "Va", "Wa_sin", "Wa_cos", "Ya_sin", "Ya_cos", "Ba")  # the names in pipeline.yaml
MIN_WIND_SPEED = 2.5  # m/s; below it the turbine stands and its power says nothing about the wind
MIN_TEMPERATURE = -50.0  # degrees C; the real data holds -273.2, a sensor's way to say "broken"


def derive(signals: Mapping[str, ArrayLike]) -> NDArray[np.float32]:
    """The feature matrix, float32 [n, 8], columns as in FEATURES.

    Wind speed in m/s, temperature in degrees C, the angles in degrees: absolute wind and nacelle direction become
    sine and cosine, because 359 and 1 degrees are neighbours. float32 here, so that training sees exactly the
    numbers that serving will send.
    """
    wind_speed, temperature, vane, wind, nacelle, pitch = (np.asarray(signals[s], dtype=np.float64) for s in SIGNALS)
    wind, nacelle = np.deg2rad(wind), np.deg2rad(nacelle)
    columns = (wind_speed, temperature, vane, np.sin(wind), np.cos(wind), np.sin(nacelle), np.cos(nacelle), pitch)
    return np.stack(columns, axis=1).astype(np.float32)


def in_domain(signals: Mapping[str, ArrayLike]) -> NDArray[np.bool_]:
    """Mask [n] of the rows the model answers for: every signal there, the wind blowing, the thermometer alive."""
    stacked = np.stack([np.asarray(signals[s], dtype=np.float64) for s in SIGNALS])
    finite = np.isfinite(stacked).all(axis=0)
    with np.errstate(invalid="ignore"):
        return np.asarray(finite & (stacked[0] > MIN_WIND_SPEED) & (stacked[1] > MIN_TEMPERATURE))
