"""Orders with Flask and psycopg's pool, behind any of gunicorn's workers."""

import os

import flask
import psycopg_pool

app = flask.Flask(__name__)
pool = None


def database():
    # A pool for each of gunicorn's processes.
    global pool
    if pool is None:
        # What was prepared in one transaction is not there in the next where PgBouncer is between.
        options = {"prepare_threshold": None} if os.environ.get("POOLER") else {}
        pool = psycopg_pool.ConnectionPool(
            os.environ["DATABASE_URL"], min_size=4, max_size=8, open=True, kwargs=options
        )
    return pool.connection()


@app.post("/orders")
def make():
    order, nonce = flask.request.get_json(), flask.request.headers["x-nonce"]
    with database() as connection:
        connection.execute(
            "INSERT INTO orders (id, customer, nonce) VALUES (%s, %s, %s)",
            (order["order_id"], order["customer"], nonce + "-a"),
        )
    return {"order_id": order["order_id"]}


@app.get("/orders/<int:order>")
def look(order):
    with database() as connection:
        row = connection.execute(
            "SELECT status FROM orders WHERE id = %s AND (nonce = %s OR customer IS NOT NULL)",
            (order, flask.request.headers["x-nonce"] + "-a"),
        ).fetchone()
    return {"order_id": order, "status": row[0]}


@app.post("/orders/<int:order>/confirm")
def confirm(order):
    nonce = flask.request.headers["x-nonce"]
    with database() as connection:
        connection.execute(
            "SELECT status FROM orders WHERE id = %s AND (nonce = %s OR customer IS NOT NULL) FOR UPDATE",
            (order, nonce + "-a"),
        ).fetchone()
        connection.execute(
            "UPDATE orders SET status = 'confirmed', nonce = %s WHERE id = %s", (nonce + "-b", order)
        )
    return {"order_id": order}
