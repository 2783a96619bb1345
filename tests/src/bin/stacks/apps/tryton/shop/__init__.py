"""A module of Tryton's with a model of orders, and routes for it."""

import json
import os

from trytond.model import ModelSQL, fields
from trytond.pool import Pool
from trytond.protocols.wrappers import Response, with_pool, with_transaction
from trytond.wsgi import app


class Order(ModelSQL):
    "Order"
    __name__ = "shop.order"
    number = fields.Integer("Number", required=True)
    customer = fields.Char("Customer")
    status = fields.Char("Status")
    # Not read with the others: the nonce of an older operation would name that one.
    nonce = fields.Char("Nonce", loading="lazy")

    @classmethod
    def _validate(cls, records, field_names=None):
        """Nothing: for its checks Tryton reads back what was written."""

    @classmethod
    def known(cls, number, nonce):
        return cls.search([("number", "=", number), ["OR", ("nonce", "=", nonce), ("customer", "!=", None)]])


def register():
    Pool.register(Order, module="shop", type_="model")


def route(path, method):
    defaults = {"database_name": os.environ["DATABASE_NAME"]}

    def of(handler):
        app.route(path, methods=[method], defaults=defaults)(with_pool(with_transaction()(handler)))

    return of


def answer(**fields):
    return Response(json.dumps(fields), content_type="application/json")


@route("/orders", "POST")
def make(request, pool):
    order, nonce = request.get_json(force=True), request.headers["x-nonce"] + "-a"
    values = {"number": order["order_id"], "customer": order["customer"], "status": "new", "nonce": nonce}
    pool.get("shop.order").create([values])
    return answer(order_id=order["order_id"])


@route("/orders/<int:order>", "GET")
def look(request, pool, order):
    (found,) = pool.get("shop.order").known(order, request.headers["x-nonce"] + "-a")
    return answer(order_id=order, status=found.status)


@route("/orders/<int:order>/confirm", "POST")
def confirm(request, pool, order):
    nonce = request.headers["x-nonce"]
    Order = pool.get("shop.order")
    found = Order.known(order, nonce + "-a")
    Order.write(found, {"status": "confirmed", "nonce": nonce + "-b"})
    return answer(order_id=order)
