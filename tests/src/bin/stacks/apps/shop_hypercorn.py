"""Orders with FastAPI on hypercorn and psycopg's asynchronous pool; with AMQP_URL a new order is published by aio-pika."""

import contextlib
import json
import os

import aio_pika
import fastapi
import psycopg_pool

from orders import CONFIRM, LOOK, MAKE

pool = psycopg_pool.AsyncConnectionPool(os.environ["DATABASE_URL"], min_size=4, max_size=8, open=False)
channel = None


@contextlib.asynccontextmanager
async def running(_app):
    global channel
    async with pool:
        if os.environ.get("AMQP_URL"):
            connection = await aio_pika.connect_robust(os.environ["AMQP_URL"])
            channel = await connection.channel()
            await channel.declare_queue("stages.first", durable=True)
        yield


app = fastapi.FastAPI(lifespan=running)


@app.post("/orders")
async def make(order: dict = fastapi.Body(), x_nonce: str = fastapi.Header()):
    async with pool.connection() as connection:
        await connection.execute(MAKE, (order["order_id"], order["customer"], x_nonce + "-a"))
    if channel:
        body = json.dumps({"order_id": order["order_id"], "nonce": x_nonce + "-p"}).encode()
        message = aio_pika.Message(body, content_type="application/json")
        await channel.default_exchange.publish(message, routing_key="stages.first")
    return {"order_id": order["order_id"]}


@app.get("/orders/{order}")
async def look(order: int, x_nonce: str = fastapi.Header()):
    async with pool.connection() as connection:
        cursor = await connection.execute(LOOK, (order, x_nonce + "-a"))
        return {"order_id": order, "status": (await cursor.fetchone())[0]}


@app.post("/orders/{order}/confirm")
async def confirm(order: int, x_nonce: str = fastapi.Header()):
    async with pool.connection() as connection:
        await connection.execute(LOOK + " FOR UPDATE", (order, x_nonce + "-a"))
        await connection.execute(CONFIRM, (x_nonce + "-b", order))
    return {"order_id": order}
