// Orders with Express, pg and Rascal: a new order is published with a confirm, and a consumer of Rascal's does what comes after it.
// `worker` as the argument is that consumer.
const express = require("express");
const { Pool } = require("pg");
const { BrokerAsPromised } = require("rascal");

const pool = new Pool({ connectionString: process.env.DATABASE_URL, max: 6 });
const INSERT = "INSERT INTO orders (id, customer, nonce) VALUES ($1, $2, $3)";
const LOOK = "SELECT status FROM orders WHERE id = $1 AND (nonce = $2 OR customer IS NOT NULL)";
const CONFIRM = "UPDATE orders SET status = 'confirmed', nonce = $1 WHERE id = $2";
const PLAN = "UPDATE orders SET status = 'planned', nonce = $1 WHERE id = $2";
const NOTE = "INSERT INTO events (order_id, what, nonce) VALUES ($1, 'planned', $2)";
const CONFIG = {
  vhosts: {
    "/": {
      connection: { url: process.env.AMQP_URL },
      exchanges: ["shop"],
      queues: ["shop.made"],
      bindings: ["shop[order.made] -> shop.made"],
      publications: { made: { exchange: "shop", routingKey: "order.made" } },
      subscriptions: { made: { queue: "shop.made", prefetch: 8 } },
    },
  },
};

const both = async (first, second) => {
  const client = await pool.connect();
  try {
    await client.query("BEGIN");
    await client.query(...first);
    await client.query(...second);
    await client.query("COMMIT");
  } finally {
    client.release();
  }
};

const broker = async () => {
  const broker = await BrokerAsPromised.create(CONFIG);
  broker.on("error", (error) => console.error(error.message));
  return broker;
};

async function serve() {
  const made = await broker();
  const app = express();
  app.use(express.json());
  app.post("/orders", async (request, response) => {
    const [order, nonce] = [request.body, request.get("x-nonce")];
    await pool.query(INSERT, [order.order_id, order.customer, nonce + "-a"]);
    const publication = await made.publish("made", { order_id: order.order_id, nonce: nonce + "-p" });
    await new Promise((resolve, reject) => publication.on("success", resolve).on("error", reject));
    response.json({ order_id: order.order_id });
  });
  app.get("/orders/:order", async (request, response) => {
    const { rows } = await pool.query(LOOK, [request.params.order, request.get("x-nonce") + "-a"]);
    response.json({ order_id: Number(request.params.order), status: rows[0].status });
  });
  app.post("/orders/:order/confirm", async (request, response) => {
    const [order, nonce] = [request.params.order, request.get("x-nonce")];
    await both([LOOK + " FOR UPDATE", [order, nonce + "-a"]], [CONFIRM, [nonce + "-b", order]]);
    response.json({ order_id: Number(order) });
  });
  app.listen(Number(process.env.PORT), "127.0.0.1");
}

async function worker() {
  const subscription = await (await broker()).subscribe("made");
  subscription.on("error", (error) => console.error(error.message));
  subscription.on("message", async (_message, { order_id, nonce }, acknowledge) => {
    await both([PLAN, [nonce + "-a", order_id]], [NOTE, [order_id, nonce + "-b"]]);
    acknowledge();
  });
  console.log("ready");
}

process.argv[2] === "worker" ? worker() : serve();
