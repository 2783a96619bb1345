// Orders with Express and pg's pool; with AMQP_URL a new order is stored by a worker that is called by a message and answers
// by RabbitMQ's direct reply-to, as NestJS and others do. `worker` as the argument is that worker.
const express = require("express");
const { Pool } = require("pg");

const pool = new Pool({ connectionString: process.env.DATABASE_URL, max: 6 });
const QUEUE = "orders";
const INSERT = "INSERT INTO orders (id, customer, nonce) VALUES ($1, $2, $3)";
const LOOK = "SELECT status FROM orders WHERE id = $1 AND (nonce = $2 OR customer IS NOT NULL)";

// Named: prepared once in each connection.
const store = (order, nonce) =>
  pool.query({ name: "store", text: INSERT, values: [order.order_id, order.customer, nonce + "-a"] });

async function gateway() {
  let call = null;
  if (process.env.AMQP_URL) {
    const channel = await (await require("amqplib").connect(process.env.AMQP_URL)).createChannel();
    const waiting = new Map();
    const answered = (message) => waiting.get(message.properties.correlationId)();
    await channel.consume("amq.rabbitmq.reply-to", answered, { noAck: true });
    let calls = 0;
    call = (order, nonce) =>
      new Promise((resolve) => {
        const correlationId = `call-${++calls}`;
        waiting.set(correlationId, resolve);
        channel.sendToQueue(QUEUE, Buffer.from(JSON.stringify({ pattern: "make", data: { ...order, nonce: nonce + "-p" } })), {
          replyTo: "amq.rabbitmq.reply-to",
          correlationId,
          contentType: "application/json",
        });
      });
  }
  const app = express();
  app.use(express.json());
  app.post("/orders", async (request, response) => {
    const nonce = request.get("x-nonce");
    await (call ? call(request.body, nonce) : store(request.body, nonce));
    response.json({ order_id: request.body.order_id });
  });
  app.get("/orders/:order", async (request, response) => {
    const { rows } = await pool.query(LOOK, [request.params.order, request.get("x-nonce") + "-a"]);
    response.json({ order_id: Number(request.params.order), status: rows[0].status });
  });
  app.post("/orders/:order/confirm", async (request, response) => {
    const [order, nonce] = [request.params.order, request.get("x-nonce")];
    const client = await pool.connect();
    await client.query("BEGIN");
    await client.query(LOOK + " FOR UPDATE", [order, nonce + "-a"]);
    await client.query("UPDATE orders SET status = 'confirmed', nonce = $1 WHERE id = $2", [nonce + "-b", order]);
    await client.query("COMMIT");
    client.release();
    response.json({ order_id: Number(order) });
  });
  app.listen(Number(process.env.PORT), "127.0.0.1");
}

async function worker() {
  const channel = await (await require("amqplib").connect(process.env.AMQP_URL)).createChannel();
  await channel.assertQueue(QUEUE);
  await channel.prefetch(8);
  await channel.consume(
    QUEUE,
    async (message) => {
      const order = JSON.parse(message.content).data;
      await store(order, order.nonce);
      const answer = { response: { order_id: order.order_id, nonce: order.nonce + "-r" }, isDisposed: true };
      const { replyTo, correlationId } = message.properties;
      channel.sendToQueue(replyTo, Buffer.from(JSON.stringify(answer)), { correlationId, contentType: "application/json" });
    },
    { noAck: true },
  );
  console.log("ready");
}

process.argv[2] === "worker" ? worker() : gateway();
