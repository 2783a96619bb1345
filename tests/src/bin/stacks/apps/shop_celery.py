"""Orders with Flask; what comes after an order is made is a task of Celery: `celery --app shop_celery worker`."""

import os

import celery
import flask
import psycopg
import psycopg_pool

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
        connection.execute(
            "UPDATE orders SET status = 'planned', nonce = %s WHERE id = %s", (nonce + "-a", order_id)
        )
        connection.execute(
            "INSERT INTO events (order_id, what, nonce) VALUES (%s, 'planned', %s)", (order_id, nonce + "-b")
        )


shop = flask.Flask(__name__)
pool = None
LOOK = "SELECT status FROM orders WHERE id = %s AND (nonce = %s OR customer IS NOT NULL)"


def database():
    global pool
    if pool is None:
        pool = psycopg_pool.ConnectionPool(os.environ["DATABASE_URL"], min_size=4, max_size=8, open=True)
    return pool.connection()


@shop.post("/orders")
def make():
    order, nonce = flask.request.get_json(), flask.request.headers["x-nonce"]
    with database() as connection:
        connection.execute(
            "INSERT INTO orders (id, customer, nonce) VALUES (%s, %s, %s)",
            (order["order_id"], order["customer"], nonce + "-a"),
        )
    made.delay(order_id=order["order_id"], nonce=nonce + "-p")
    return {"order_id": order["order_id"]}


@shop.get("/orders/<int:order>")
def look(order):
    with database() as connection:
        row = connection.execute(LOOK, (order, flask.request.headers["x-nonce"] + "-a")).fetchone()
    return {"order_id": order, "status": row[0]}


@shop.post("/orders/<int:order>/confirm")
def confirm(order):
    nonce = flask.request.headers["x-nonce"]
    with database() as connection:
        connection.execute(LOOK + " FOR UPDATE", (order, nonce + "-a")).fetchone()
        connection.execute(
            "UPDATE orders SET status = 'confirmed', nonce = %s WHERE id = %s", (nonce + "-b", order)
        )
    return {"order_id": order}
