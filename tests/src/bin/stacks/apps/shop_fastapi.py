"""Orders with FastAPI and SQLAlchemy's asynchronous engine on asyncpg."""

import os

import fastapi
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

app = fastapi.FastAPI()
url = os.environ["DATABASE_URL"].replace("postgresql:", "postgresql+asyncpg:")
engine = create_async_engine(url, pool_size=4, max_overflow=4)

MAKE = text("INSERT INTO orders (id, customer, nonce) VALUES (:id, :customer, :nonce)")
LOOK = text("SELECT status FROM orders WHERE id = :id AND (nonce = :nonce OR customer IS NOT NULL)")
LOCK = text("SELECT status FROM orders WHERE id = :id AND (nonce = :nonce OR customer IS NOT NULL) FOR UPDATE")
CONFIRM = text("UPDATE orders SET status = 'confirmed', nonce = :nonce WHERE id = :id")


@app.post("/orders")
async def make(order: dict = fastapi.Body(), x_nonce: str = fastapi.Header()):
    async with engine.begin() as connection:
        values = {"id": order["order_id"], "customer": order["customer"], "nonce": x_nonce + "-a"}
        await connection.execute(MAKE, values)
    return {"order_id": order["order_id"]}


@app.get("/orders/{order}")
async def look(order: int, x_nonce: str = fastapi.Header()):
    async with engine.connect() as connection:
        rows = await connection.execute(LOOK, {"id": order, "nonce": x_nonce + "-a"})
    return {"order_id": order, "status": rows.scalar_one()}


@app.post("/orders/{order}/confirm")
async def confirm(order: int, x_nonce: str = fastapi.Header()):
    async with engine.begin() as connection:
        await connection.execute(LOCK, {"id": order, "nonce": x_nonce + "-a"})
        await connection.execute(CONFIRM, {"id": order, "nonce": x_nonce + "-b"})
    return {"order_id": order}
