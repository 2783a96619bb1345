"""Orders in psycopg's pool, and a Flask application for them: what is the same whatever else is done for a new order."""

import os

import flask
import psycopg_pool

pool = None
MAKE = "INSERT INTO orders (id, customer, nonce) VALUES (%s, %s, %s)"
LOOK = "SELECT status FROM orders WHERE id = %s AND (nonce = %s OR customer IS NOT NULL)"
CONFIRM = "UPDATE orders SET status = 'confirmed', nonce = %s WHERE id = %s"
PLAN = "UPDATE orders SET status = 'planned', nonce = %s WHERE id = %s"
NOTE = "INSERT INTO events (order_id, what, nonce) VALUES (%s, 'planned', %s)"


def database():
    # A pool for each of the server's processes.
    global pool
    if pool is None:
        # What was prepared in one transaction is not there in the next where PgBouncer is between.
        options = {"prepare_threshold": None} if os.environ.get("POOLER") else {}
        pool = psycopg_pool.ConnectionPool(
            os.environ["DATABASE_URL"], min_size=4, max_size=8, open=True, kwargs=options
        )
    return pool.connection()


def store(order_id, customer, nonce):
    with database() as connection:
        connection.execute(MAKE, (order_id, customer, nonce + "-a"))


def status(order_id, nonce):
    with database() as connection:
        return connection.execute(LOOK, (order_id, nonce + "-a")).fetchone()[0]


def confirm(order_id, nonce):
    with database() as connection:
        connection.execute(LOOK + " FOR UPDATE", (order_id, nonce + "-a")).fetchone()
        connection.execute(CONFIRM, (nonce + "-b", order_id))


def plan(connection, order_id, nonce):
    connection.execute(PLAN, (nonce + "-a", order_id))
    connection.execute(NOTE, (order_id, nonce + "-b"))


def application(made=None, stores=True):
    """`made` is called for a new order; another service may store it instead of this one."""
    app = flask.Flask("shop")

    @app.post("/orders")
    def make():
        order, nonce = flask.request.get_json(), flask.request.headers["x-nonce"]
        if stores:
            store(order["order_id"], order["customer"], nonce)
        if made:
            made(order["order_id"], nonce)
        return {"order_id": order["order_id"]}

    @app.get("/orders/<int:order>")
    def look(order):
        return {"order_id": order, "status": status(order, flask.request.headers["x-nonce"])}

    @app.post("/orders/<int:order>/confirm")
    def confirmed(order):
        confirm(order, flask.request.headers["x-nonce"])
        return {"order_id": order}

    return app
