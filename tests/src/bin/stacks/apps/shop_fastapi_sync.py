"""Orders with FastAPI's synchronous handlers, which run in anyio's threads, and psycopg's pool."""

import fastapi

import orders

app = fastapi.FastAPI()


@app.post("/orders")
def make(order: dict = fastapi.Body(), x_nonce: str = fastapi.Header()):
    orders.store(order["order_id"], order["customer"], x_nonce)
    return {"order_id": order["order_id"]}


@app.get("/orders/{order}")
def look(order: int, x_nonce: str = fastapi.Header()):
    return {"order_id": order, "status": orders.status(order, x_nonce)}


@app.post("/orders/{order}/confirm")
def confirm(order: int, x_nonce: str = fastapi.Header()):
    orders.confirm(order, x_nonce)
    return {"order_id": order}
