"""Half of the requests name a property that there is, so that they come further than "no such property"."""

import random

import schemathesis

PROPERTIES = [f"00000000-0000-4000-8000-00000000000{n}" for n in (1, 2)]


def _named(values):
    if isinstance(values, dict) and random.random() < 0.5:
        for name in ("property", "property_id"):
            if isinstance(values.get(name), str):
                values[name] = random.choice(PROPERTIES)
    return values


@schemathesis.hook
def map_body(context, body):
    return _named(body)


@schemathesis.hook
def map_query(context, query):
    return _named(query)
