// Orders with NestJS on Express and pg's pool: a controller and a service that is injected into it. Decorators are applied by hand, as a
// compiler of TypeScript would.
require("reflect-metadata");
const { Body, Controller, Get, Headers, HttpCode, Inject, Injectable, Module, Param, ParseIntPipe, Post } = require("@nestjs/common");
const { NestFactory } = require("@nestjs/core");
const { Pool } = require("pg");

const INSERT = "INSERT INTO orders (id, customer, nonce) VALUES ($1, $2, $3)";
const LOOK = "SELECT status FROM orders WHERE id = $1 AND (nonce = $2 OR customer IS NOT NULL)";
const CONFIRM = "UPDATE orders SET status = 'confirmed', nonce = $1 WHERE id = $2";

class Orders {
  pool = new Pool({ connectionString: process.env.DATABASE_URL, max: 6 });

  store(order, nonce) {
    // Named: prepared once in each connection.
    return this.pool.query({ name: "store", text: INSERT, values: [order.order_id, order.customer, nonce + "-a"] });
  }

  async status(order, nonce) {
    const { rows } = await this.pool.query(LOOK, [order, nonce + "-a"]);
    return rows[0].status;
  }

  async confirm(order, nonce) {
    const client = await this.pool.connect();
    try {
      await client.query("BEGIN");
      await client.query(LOOK + " FOR UPDATE", [order, nonce + "-a"]);
      await client.query(CONFIRM, [nonce + "-b", order]);
      await client.query("COMMIT");
    } finally {
      client.release();
    }
  }
}
Injectable()(Orders);

class OrdersController {
  constructor(orders) {
    this.orders = orders;
  }

  async make(order, nonce) {
    await this.orders.store(order, nonce);
    return { order_id: order.order_id };
  }

  async look(order, nonce) {
    return { order_id: order, status: await this.orders.status(order, nonce) };
  }

  async confirm(order, nonce) {
    await this.orders.confirm(order, nonce);
    return { order_id: order };
  }
}
Inject(Orders)(OrdersController, undefined, 0);
const route = (method, decorators, parameters) => {
  parameters.forEach((parameter, index) => parameter(OrdersController.prototype, method, index));
  const descriptor = Object.getOwnPropertyDescriptor(OrdersController.prototype, method);
  decorators.forEach((decorator) => decorator(OrdersController.prototype, method, descriptor));
};
const order = Param("order", ParseIntPipe);
route("make", [Post(), HttpCode(200)], [Body(), Headers("x-nonce")]);
route("look", [Get(":order")], [order, Headers("x-nonce")]);
route("confirm", [Post(":order/confirm"), HttpCode(200)], [order, Headers("x-nonce")]);
Controller("orders")(OrdersController);

class Shop {}
Module({ controllers: [OrdersController], providers: [Orders] })(Shop);

NestFactory.create(Shop, { logger: ["error", "warn"] }).then((shop) => shop.listen(Number(process.env.PORT), "127.0.0.1"));
