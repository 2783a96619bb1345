"""The same behind gunicorn, with its sync or its gthread workers."""

import queue

import blocking
import plan


def application(environ, start_response):
    length = int(environ.get("CONTENT_LENGTH") or 0)
    environ["wsgi.input"].read(length)
    nonce = plan.nonce_of(environ["PATH_INFO"])
    answers = queue.SimpleQueue()
    try:
        blocking.carry_out(nonce, answers.put)
        plan.done(nonce, "-")
    except Exception as error:
        plan.failed(nonce, error)
        raise
    body = answers.get().encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
