"""Orbit files in the form of ESA's precise orbits (POEORB, Earth Explorer file format)."""

from datetime import timedelta
from pathlib import Path

import numpy as np

from standalone.synthetic.radar import document
from standalone.synthetic.radar.document import Attributed, Content, Items
from standalone.synthetic.radar.orbit import FlownOrbit, Pass

_STEP_S = 10
_TAI_S = 37
_LATENCY = timedelta(days=20)


def write_orbit_file(folder: Path, flight: Pass, orbit: FlownOrbit) -> Path:
    """Write the true orbit of a pass as a POEORB file.

    Real files cover 26 hours; these hold the vectors of the orbit's span, at whole ten seconds.

    Args:
        folder: where the file goes.
        flight: the overpass.
        orbit: its orbit.

    Returns:
        The file.
    """
    first, last = orbit.span_s
    tens = orbit.epoch.replace(second=orbit.epoch.second // _STEP_S * _STEP_S, microsecond=0)
    begin = (tens - orbit.epoch).total_seconds()
    steps = np.arange(np.ceil((first - begin) / _STEP_S), np.floor((last - begin) / _STEP_S) + 1)
    times = begin + _STEP_S * steps
    rows = [
        _vector(flight, orbit, float(t), np.concatenate([s, v]).tolist())
        for t, s, v in zip(times, *orbit.state(times), strict=True)
    ]
    start, stop = (orbit.utc(float(t)) for t in (times[0], times[-1]))
    made, form = stop + _LATENCY, "%Y%m%dT%H%M%S"
    name = f"{flight.platform}_OPER_AUX_POEORB_OPOD_{made:{form}}_V{start:{form}}_{stop:{form}}"
    header: dict[str, Content] = {
        "Fixed_Header": {
            "File_Name": name,
            "File_Description": "Precise Orbit Ephemerides (POE) Orbit File",
            "Mission": f"Sentinel-1{flight.platform[-1]}",
            "File_Class": "OPER",
            "File_Type": "AUX_POEORB",
            "Validity_Period": {
                "Validity_Start": f"UTC={start:%Y-%m-%dT%H:%M:%S}",
                "Validity_Stop": f"UTC={stop:%Y-%m-%dT%H:%M:%S}",
            },
            "File_Version": "0001",
        },
        "Variable_Header": {"Ref_Frame": "EARTH_FIXED", "Time_Reference": "UTC"},
    }
    block = Attributed({"List_of_OSVs": Items("OSV", rows)}, {"type": "xml"})
    path = folder / f"{name}.EOF"
    content: Content = {"Earth_Explorer_Header": header, "Data_Block": block}
    document.write(path, "Earth_Explorer_File", content)
    return path


def _vector(flight: Pass, orbit: FlownOrbit, t_s: float, state: list[float]) -> Content:
    utc, form = orbit.utc(t_s), "%Y-%m-%dT%H:%M:%S.%f"
    content: dict[str, Content] = {
        "TAI": f"TAI={utc + timedelta(seconds=_TAI_S):{form}}",
        "UTC": f"UTC={utc:{form}}",
        "UT1": f"UT1={utc:{form}}",
        "Absolute_Orbit": f"+{flight.absolute_orbit}",
    }
    for name, value in zip(("X", "Y", "Z", "VX", "VY", "VZ"), state, strict=True):
        unit = "m/s" if name.startswith("V") else "m"
        digits = 6 if name.startswith("V") else 3
        content[name] = Attributed(f"{value:+.{digits}f}", {"unit": unit})
    content["Quality"] = "NOMINAL"
    return content
