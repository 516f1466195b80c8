"""What the schema of the REST API cannot say of a value: that a time is in the future."""

import datetime

import schemathesis
from hypothesis import strategies as st

TIMES = st.datetimes(
    min_value=datetime.datetime.now() + datetime.timedelta(days=2),
    max_value=datetime.datetime.now() + datetime.timedelta(days=300),
    timezones=st.sampled_from([datetime.UTC, datetime.timezone(datetime.timedelta(hours=-5, minutes=-30))]),
)

schemathesis.openapi.format("date-time", TIMES.map(datetime.datetime.isoformat))
