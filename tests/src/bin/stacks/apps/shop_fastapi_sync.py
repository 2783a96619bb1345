"""Orders with FastAPI's synchronous handlers, which run in anyio's threads, and psycopg's pool."""

import os

import fastapi
import psycopg_pool

app = fastapi.FastAPI()
pool = psycopg_pool.ConnectionPool(os.environ["DATABASE_URL"], min_size=4, max_size=8, open=True)

LOOK = "SELECT status FROM orders WHERE id = %s AND (nonce = %s OR customer IS NOT NULL)"


@app.post("/orders")
def make(order: dict = fastapi.Body(), x_nonce: str = fastapi.Header()):
    with pool.connection() as connection:
        connection.execute(
            "INSERT INTO orders (id, customer, nonce) VALUES (%s, %s, %s)",
            (order["order_id"], order["customer"], x_nonce + "-a"),
        )
    return {"order_id": order["order_id"]}


@app.get("/orders/{order}")
def look(order: int, x_nonce: str = fastapi.Header()):
    with pool.connection() as connection:
        row = connection.execute(LOOK, (order, x_nonce + "-a")).fetchone()
    return {"order_id": order, "status": row[0]}


@app.post("/orders/{order}/confirm")
def confirm(order: int, x_nonce: str = fastapi.Header()):
    with pool.connection() as connection:
        connection.execute(LOOK + " FOR UPDATE", (order, x_nonce + "-a")).fetchone()
        connection.execute(
            "UPDATE orders SET status = 'confirmed', nonce = %s WHERE id = %s", (x_nonce + "-b", order)
        )
    return {"order_id": order}
