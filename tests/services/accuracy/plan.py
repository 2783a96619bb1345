"""What a service is to do for one request or message, and its own account of what it did.

The plan of nonce N is the file $PLANS/N; a line `N CAUSE` in $LOG says that N was done for CAUSE.
"""

import os
import re

PLANS = os.environ["PLANS"]
POOL = int(os.environ.get("POOL", "20"))
BACKEND = ("127.0.0.1", int(os.environ["BACKEND_PORT"]))
DATABASE_URL = os.environ.get("DATABASE_URL", "")
AMQP_URL = os.environ.get("AMQP_URL", "")
EXCHANGE = "accuracy"

_log = os.open(os.environ["LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def done(nonce, cause):
    os.write(_log, f"{nonce} {cause}\n".encode())


def failed(nonce, error):
    os.write(_log, f"! {nonce} {error!r}\n".replace("\n", " ").encode() + b"\n")


def nonce_of(path):
    """The last segment of a request's path."""
    return path.split("?")[0].rsplit("/", 1)[-1]


def read(nonce):
    """A list of steps; those done together are a step with a list of steps."""
    with open(f"{PLANS}/{nonce}", encoding="utf-8") as file:
        lines = file.read().splitlines()
    steps = []
    while lines:
        steps.append(step(lines))
    return steps


def step(lines):
    word, _, rest = lines.pop(0).partition(" ")
    if word == "together":
        return (word, [step(lines) for _ in range(int(rest))])
    if word == "think":
        return (word, int(rest) / 1000)
    if word == "http":
        nonce, method, target, *body = rest.split(" ", 3)
        return (word, nonce, method, target, body[0] if body else None)
    if word == "sql":
        nonce, values, text = rest.split(" ", 2)
        return (word, nonce, [int(value) for value in values.split(",")], text)
    if word == "publish":
        nonce, body = rest.split(" ", 1)
        return (word, nonce, body)
    return (word, rest)


def with_values(text, values):
    """The statement with its values in its text, as psycopg2 sends it."""
    return re.sub(r"\$(\d)", lambda match: str(values[int(match[1]) - 1]), text)
