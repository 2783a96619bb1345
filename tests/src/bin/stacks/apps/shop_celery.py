"""Orders with Flask; what comes after an order is made is a task of Celery: `celery --app shop_celery worker`."""

import os

import celery
import psycopg

import orders

app = celery.Celery("shop", broker=os.environ["AMQP_URL"])
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True, worker_prefetch_multiplier=2)
connection = None


@app.task
def made(order_id, nonce):
    # Each of the pool's processes has a connection of its own.
    global connection
    if connection is None:
        connection = psycopg.connect(os.environ["DATABASE_URL"])
    with connection.transaction():
        orders.plan(connection, order_id, nonce)


shop = orders.application(lambda order_id, nonce: made.delay(order_id=order_id, nonce=nonce + "-p"))
