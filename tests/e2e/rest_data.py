"""What the schema of the REST API cannot say of a value: that a time is in the future, that a text can be seen."""

import datetime

import schemathesis
from hypothesis import strategies as st

TIMES = st.datetimes(
    min_value=datetime.datetime.now() + datetime.timedelta(days=2),
    max_value=datetime.datetime.now() + datetime.timedelta(days=300),
    timezones=st.sampled_from([datetime.UTC, datetime.timezone(datetime.timedelta(hours=-5, minutes=-30))]),
)

schemathesis.openapi.format("date-time", TIMES.map(datetime.datetime.isoformat))

# Unicode calls these letters or marks, and they draw nothing.
BLANK = [
    *map(chr, [0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0]),
    *map(chr, range(0x180B, 0x1810)),
    *map(chr, range(0xFE00, 0xFE10)),
    *map(chr, range(0xE0100, 0xE01F0)),
]
SEEN = st.characters(exclude_categories=["C", "Z"], exclude_characters=BLANK)

schemathesis.openapi.format("visible-text", st.text(SEEN, min_size=1, max_size=40))


@schemathesis.hook
def filter_case(context, case):
    """Schemathesis counts null as a violation of `format`, which holds for strings alone (JSON Schema, validation 7.1)."""
    is_negative = case.meta is not None and case.meta.generation.mode.is_negative
    return not (is_negative and isinstance(case.body, dict) and case.body.get("expires_at", "") is None)
