"""Dates, times, durations and UUIDs as patterns: what pydantic reads, written in one way each.

A grammar engine's own formats also know February 30, seconds of 60 and durations of any length.
"""

_LONG = r"(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])"
_SHORT = r"(0[469]|11)-(0[1-9]|[12][0-9]|30)"
_FEBRUARY = r"02-(0[1-9]|1[0-9]|2[0-8])"
_LEAP = r"([12][0-9](0[48]|[2468][048]|[13579][26])|(12|16|20|24|28)00)-02-29"
_DATE = rf"[12][0-9]{{3}}-({_LONG}|{_SHORT}|{_FEBRUARY})|{_LEAP}"

_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]"
_TIME = rf"{_CLOCK}:[0-5][0-9](\.[0-9]{{1,6}})?(Z|[+-]{_CLOCK})?"

_N = "[0-9]{1,5}"
_PARTS = rf"{_N}H({_N}M)?({_N}S)?|{_N}M({_N}S)?|{_N}S"

_X = "[0-9a-f]"


def _uuid(version: int) -> str:
    return f"{_X}{{8}}-{_X}{{4}}-{version}{_X}{{3}}-[89ab]{_X}{{3}}-{_X}{{12}}"


PATTERNS: dict[str, str] = {
    "date": _DATE,
    "time": _TIME,
    "date-time": rf"({_DATE})T{_TIME}",
    "duration": rf"P({_N}D|({_N}D)?T({_PARTS}))",
    **{f"uuid{version}": _uuid(version) for version in range(1, 9)},
}
"""Of each format's whole text. Years are from 1000 to 2999, a zone may be left out."""
