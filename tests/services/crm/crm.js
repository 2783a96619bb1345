// The CRM: orders from the shop and sellers' decisions over HTTP in, confirmed orders to RabbitMQ and status changes to the shop out.
//
// One event loop; a pool of PostgreSQL connections and of connections to the shop, both smaller than the work in flight.
'use strict';

const fs = require('node:fs');
const http = require('node:http');
const https = require('node:https');
const { createHash } = require('node:crypto');
const amqp = require('amqplib');
const { Pool } = require('pg');
const { Work } = require('../truth/truth.js');

const pool = new Pool({ connectionString: process.env.DATABASE_URL, max: Number(process.env.POOL_SIZE ?? 3), idleTimeoutMillis: 0 });
const web = process.env.SHOP_URL.startsWith('https:') ? https : http;
const toShop = new web.Agent({ keepAlive: true, maxSockets: Number(process.env.SHOP_SOCKETS ?? 3) });

async function query(work, text, values, name, on = pool) {
  // The entry starts when a connection is free: waiting for one is not yet a statement.
  const client = on === pool ? await pool.connect() : on;
  const entry = work.begin('sql', { text, error: null });
  try {
    return await client.query({ text, values, name });
  } catch (error) {
    entry.error = error.code;
    throw error;
  } finally {
    work.end(entry, {});
    if (on === pool) client.release();
  }
}

function call(work, method, path, body) {
  return new Promise((resolve, reject) => {
    const payload = JSON.stringify(body);
    const entry = work.begin('http.client', { method, path });
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) };
    const request = web.request(new URL(path, process.env.SHOP_URL), { method, agent: toShop, headers }, (response) => {
      response.resume().on('end', () => {
        work.end(entry, { status: response.statusCode });
        resolve(response.statusCode);
      });
    });
    request.on('error', reject).end(payload);
  });
}

function publish(work, channel, exchange, routingKey, message, properties) {
  return new Promise((resolve, reject) => {
    const body = Buffer.from(JSON.stringify(message));
    const digest = createHash('sha256').update(body).digest('hex');
    const entry = work.begin('publish', { exchange, routing_key: routingKey, body: digest });
    channel.publish(exchange, routingKey, body, { persistent: true, contentType: 'application/json', ...properties }, (error) => {
      work.end(entry, {});
      if (error) reject(error);
      else resolve();
    });
  });
}

async function accept(work, order) {
  const text = 'INSERT INTO crm_orders (order_id, user_id, material, quantity, model_key, status) VALUES ($1, $2, $3, $4, $5, $6)';
  await query(work, text, [order.order_id, order.user_id, order.material, order.quantity, order.model_key, order.status ?? 'new']);
  return [201, { order_id: order.order_id, status: 'new' }];
}

async function confirm(work, id, seller, channel) {
  const client = await pool.connect();
  let order;
  try {
    await query(work, 'BEGIN', undefined, undefined, client);
    const found = await query(work, 'SELECT user_id, material, quantity, model_key FROM crm_orders WHERE order_id = $1 FOR UPDATE', [id], 'lock', client);
    order = found.rows[0];
    if (order) {
      await query(work, "UPDATE crm_orders SET status = 'confirmed', seller_id = $2 WHERE order_id = $1", [id, seller], 'confirm', client);
      await query(work, "INSERT INTO crm_events (order_id, seller_id, status) VALUES ($1, $2, 'confirmed')", [id, seller], undefined, client);
    }
    await query(work, 'COMMIT', undefined, undefined, client);
  } finally {
    client.release();
  }
  if (!order) return [404, { error: 'no such order' }];
  await publish(work, channel, 'orders', 'order.confirmed', { order_id: id, seller_id: seller, ...order }, { messageId: `confirm-${id}`, timestamp: Math.floor(Date.now() / 1000) });
  return [202, { order_id: id, status: 'confirmed' }];
}

async function list(work, limit) {
  const found = await query(work, 'SELECT order_id, status FROM crm_orders ORDER BY order_id DESC LIMIT $1', [limit], 'list');
  return [200, { orders: found.rows }];
}

async function route(work, request, body, channel) {
  const url = new URL(request.url, 'http://crm');
  const confirmed = /^\/api\/orders\/(\d+)\/confirm$/.exec(url.pathname);
  if (request.method === 'POST' && confirmed) {
    work.order = Number(confirmed[1]);
    return confirm(work, work.order, Number(request.headers['x-seller-id']), channel);
  }
  if (request.method === 'POST' && url.pathname === '/api/orders') {
    const order = JSON.parse(body);
    work.order = order.order_id;
    return accept(work, order);
  }
  if (request.method === 'GET' && url.pathname === '/api/orders') return list(work, Number(url.searchParams.get('limit') ?? 10));
  return [404, { error: 'no such page' }];
}

function serve(channel) {
  return (request, response) => {
    const work = new Work();
    const entry = work.begin('http.server', { method: request.method, path: request.url.split('?')[0] });
    const chunks = [];
    request.on('data', (chunk) => chunks.push(chunk)).on('end', async () => {
      let status = 500;
      let answer = { error: 'internal' };
      try {
        [status, answer] = await route(work, request, Buffer.concat(chunks).toString(), channel);
      } catch (error) {
        answer = { order_id: work.order, error: error.message };
      }
      const payload = JSON.stringify(answer);
      response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) });
      response.end(payload, () => {
        work.end(entry, { status });
        work.write();
      });
    });
  };
}

function followStatus(channel) {
  return async (message) => {
    const change = JSON.parse(message.content);
    const work = new Work(change.order_id);
    const digest = createHash('sha256').update(message.content).digest('hex');
    const { exchange, routingKey } = message.fields;
    const entry = work.begin('deliver', { exchange, routing_key: routingKey, queue: 'crm.status', body: digest });
    await query(work, 'UPDATE crm_orders SET status = $2 WHERE order_id = $1', [change.order_id, change.status], 'follow');
    await call(work, 'PUT', `/orders/${change.order_id}/status`, { order_id: change.order_id, status: change.status, note: 'by the MES' });
    channel.ack(message);
    work.end(entry, { settled: 'ack' });
    work.write();
  };
}

async function main() {
  const connection = await amqp.connect(process.env.AMQP_URL);
  const channel = await connection.createConfirmChannel();
  await channel.assertExchange('orders.dead', 'fanout', { durable: true });
  await channel.assertExchange('orders', 'direct', { durable: true });
  await channel.assertQueue('mes.orders', { durable: true, arguments: { 'x-dead-letter-exchange': 'orders.dead' } });
  await channel.bindQueue('mes.orders', 'orders', 'order.confirmed');
  await channel.assertExchange('status', 'topic', { durable: true });
  await channel.assertQueue('crm.status', { durable: true });
  await channel.bindQueue('crm.status', 'status', 'order.*');
  const consumer = await connection.createChannel();
  await consumer.prefetch(8);
  await consumer.consume('crm.status', followStatus(consumer));
  // Open all connections of the pool before the first order.
  const clients = await Promise.all(Array.from({ length: pool.options.max }, () => pool.connect()));
  clients.forEach((client) => client.release());
  const { TLS_CERTIFICATE: certificate, TLS_KEY: key } = process.env;
  const server = certificate
    ? https.createServer({ cert: fs.readFileSync(certificate), key: fs.readFileSync(key) }, serve(channel))
    : http.createServer(serve(channel));
  // Never: whoever writes on an idle connection that is just being closed has lost a request.
  server.keepAliveTimeout = 0;
  server.listen(Number(process.env.PORT), '127.0.0.1', () => console.error('crm: ready'));
}

main();
