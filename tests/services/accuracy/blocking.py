"""Plans carried out by blocking calls: for servers with a thread or a process per request."""

import http.client
import os
import queue
import time
from concurrent.futures import ThreadPoolExecutor

import plan

if plan.DATABASE_URL:
    import psycopg2
if plan.AMQP_URL:
    import pika


class Pool:
    """Connections, at most so many; whoever finds none waits for one."""

    def __init__(self, size, make):
        self.make = make
        self.free = queue.LifoQueue()
        for _ in range(size):
            self.free.put(None)

    def take(self):
        return self.free.get() or self.make()

    def give(self, connection):
        self.free.put(connection)


HTTP = Pool(plan.POOL, lambda: http.client.HTTPConnection(*plan.BACKEND, timeout=60))
SQL = Pool(plan.POOL, lambda: psycopg2.connect(plan.DATABASE_URL))
BRANCHES = ThreadPoolExecutor(max_workers=64)
# Each request begins threads of its own for what it does together.
OWN_THREADS = os.environ.get("BRANCHES") == "own"


def channel():
    return pika.BlockingConnection(pika.URLParameters(plan.AMQP_URL)).channel()


def declare(queue_name):
    """The queue lives as long as its consumers."""
    first = channel()
    first.exchange_declare(plan.EXCHANGE, "topic", durable=False)
    first.queue_declare(queue_name, auto_delete=True)
    first.queue_bind(queue_name, plan.EXCHANGE, "work.#")


AMQP = Pool(min(plan.POOL, 8), channel)


def call(step):
    _, _, method, target, body = step
    connection = HTTP.take()
    try:
        headers = {"content-type": "application/json"} if body else {}
        connection.request(method, target, body, headers)
        connection.getresponse().read()
    finally:
        HTTP.give(connection)


def query(step, connection):
    _, _, values, text = step
    with connection.cursor() as cursor:
        cursor.execute(plan.with_values(text, values))
        cursor.fetchall()


def statement(step):
    connection = SQL.take()
    try:
        connection.autocommit = True
        query(step, connection)
    finally:
        SQL.give(connection)


def publish(step):
    _, nonce, body = step
    channel = AMQP.take()
    try:
        properties = pika.BasicProperties(content_type="application/json")
        channel.basic_publish(plan.EXCHANGE, f"work.{nonce}", body.encode(), properties)
    finally:
        AMQP.give(channel)


SINGLE = {"http": call, "sql": statement, "publish": publish}


def single(step, cause):
    SINGLE[step[0]](step)
    plan.done(step[1], cause)


def carry_out(cause, answer=None):
    """All steps, in this thread; those done together in others."""
    transaction = None
    for step in plan.read(cause):
        word = step[0]
        if word == "think":
            time.sleep(step[1])
        elif word == "answer":
            if answer:
                answer(step[1])
        elif word == "begin":
            transaction = SQL.take()
            transaction.autocommit = False
        elif word == "commit":
            transaction.commit()
            SQL.give(transaction)
            transaction = None
        elif word == "together":
            together(step[1], cause)
        elif word == "sql" and transaction:
            query(step, transaction)
            plan.done(step[1], cause)
        else:
            single(step, cause)


def together(branches, cause):
    """Several steps at once; what fails is raised when all have ended."""
    if OWN_THREADS:
        with ThreadPoolExecutor(max_workers=len(branches)) as own:
            results = [own.submit(single, branch, cause) for branch in branches]
    else:
        results = [BRANCHES.submit(single, branch, cause) for branch in branches]
    for result in results:
        result.result()


def consume(queue_name):
    """Messages, one after the other."""
    channel_ = channel()
    channel_.basic_qos(prefetch_count=4)
    for method, _, _ in channel_.consume(queue_name):
        nonce = method.routing_key.rsplit(".", 1)[-1]
        try:
            carry_out(nonce)
            plan.done(nonce, nonce)
        except Exception as error:
            plan.failed(nonce, error)
        channel_.basic_ack(method.delivery_tag)
