"""Orders with Flask, their models put into S3 by boto3."""

import os

import boto3
import flask
import psycopg_pool

s3 = None


def bucket():
    # A client for each of gunicorn's processes; it may be used by several threads.
    global s3
    if s3 is None:
        s3 = boto3.client(
            "s3",
            endpoint_url="http://127.0.0.1:" + os.environ["STORE_PORT"],
            region_name="us-east-1",
            aws_access_key_id="shop",
            aws_secret_access_key="shop",
        )
        s3.create_bucket(Bucket="models")
    return s3


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
    bucket().put_object(
        Bucket="models",
        Key=f"orders/{order['order_id']}/model.stl",
        Body=b"solid cube\n" * 20,
        Metadata={"nonce": nonce + "-c"},
    )
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
