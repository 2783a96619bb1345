// Orders with Express and a library that writes the SQL: `knex`, `sequelize` or `typeorm` as the argument.
const express = require("express");

const URL = process.env.DATABASE_URL;

// What is looked for is never read back: a row with an older operation's nonce would name that one.
//
// Each is what an application would have: a new order, its status, its confirmation in a transaction with a lock.
const LIBRARIES = {
  knex() {
    const knex = require("knex")({ client: "pg", connection: URL, pool: { min: 2, max: 6 } });
    const find = (of, order, nonce) => of("orders").where({ id: order }).andWhere((or) => or.where({ nonce }).orWhereNotNull("customer"));
    return {
      store: (order, nonce) => knex("orders").insert({ id: order.order_id, customer: order.customer, nonce }),
      status: async (order, nonce) => (await find(knex, order, nonce).first("status")).status,
      confirm: (order, [looked, changed]) =>
        knex.transaction(async (transaction) => {
          await find(transaction, order, looked).forUpdate().first("status");
          await transaction("orders").where({ id: order }).update({ status: "confirmed", nonce: changed });
        }),
    };
  },

  sequelize() {
    const { DataTypes, Op, Sequelize } = require("sequelize");
    const sequelize = new Sequelize(URL, { logging: false, pool: { min: 2, max: 6 } });
    const columns = { id: { type: DataTypes.BIGINT, primaryKey: true }, customer: DataTypes.TEXT, status: DataTypes.TEXT, nonce: DataTypes.TEXT };
    const Order = sequelize.define("Order", columns, { tableName: "orders", timestamps: false });
    const find = (order, nonce, options) =>
      Order.findOne({ attributes: ["id", "status"], where: { id: order, [Op.or]: [{ nonce }, { customer: { [Op.ne]: null } }] }, ...options });
    return {
      store: (order, nonce) => Order.create({ id: order.order_id, customer: order.customer, status: "new", nonce }),
      status: async (order, nonce) => (await find(order, nonce)).status,
      confirm: (order, [looked, changed]) =>
        sequelize.transaction(async (transaction) => {
          const found = await find(order, looked, { transaction, lock: transaction.LOCK.UPDATE });
          await found.update({ status: "confirmed", nonce: changed }, { transaction });
        }),
    };
  },

  async typeorm() {
    require("reflect-metadata");
    const { DataSource, EntitySchema, IsNull, Not } = require("typeorm");
    const text = { type: "text" };
    const columns = { id: { type: "bigint", primary: true }, customer: text, status: { ...text, default: "new" }, nonce: text };
    const Order = new EntitySchema({ name: "Order", tableName: "orders", columns });
    const source = await new DataSource({ type: "postgres", url: URL, entities: [Order], extra: { max: 6 } }).initialize();
    const either = (order, nonce) => [{ id: order, nonce }, { id: order, customer: Not(IsNull()) }];
    return {
      store: (order, nonce) => source.getRepository(Order).insert({ id: order.order_id, customer: order.customer, nonce }),
      status: async (order, nonce) => (await source.getRepository(Order).findOne({ select: { id: true, status: true }, where: either(order, nonce) })).status,
      confirm: (order, [looked, changed]) =>
        source.transaction(async (manager) => {
          await manager.findOne(Order, { select: { id: true }, where: either(order, looked), lock: { mode: "pessimistic_write" } });
          await manager.update(Order, { id: order }, { status: "confirmed", nonce: changed });
        }),
    };
  },
};

async function serve(library) {
  const orders = await LIBRARIES[library]();
  const app = express();
  app.use(express.json());
  app.post("/orders", async (request, response) => {
    await orders.store(request.body, request.get("x-nonce") + "-a");
    response.json({ order_id: request.body.order_id });
  });
  app.get("/orders/:order", async (request, response) => {
    const status = await orders.status(request.params.order, request.get("x-nonce") + "-a");
    response.json({ order_id: Number(request.params.order), status });
  });
  app.post("/orders/:order/confirm", async (request, response) => {
    const nonce = request.get("x-nonce");
    await orders.confirm(request.params.order, [nonce + "-a", nonce + "-b"]);
    response.json({ order_id: Number(request.params.order) });
  });
  app.listen(Number(process.env.PORT), "127.0.0.1");
}

serve(process.argv[2]);
