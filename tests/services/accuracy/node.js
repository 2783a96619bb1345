// One event loop: http as server and client with a keep-alive agent, pg with a pool, amqplib.
'use strict';

const fs = require('fs');
const http = require('http');
const amqp = require('amqplib');
const { Pool } = require('pg');

const POOL = Number(process.env.POOL || 20);
const agent = new http.Agent({ keepAlive: true, maxSockets: POOL });
const sql = new Pool({ connectionString: process.env.DATABASE_URL, max: POOL });
const log = fs.openSync(process.env.LOG, 'a');
const done = (nonce, cause) => fs.writeSync(log, `${nonce} ${cause}\n`);
const failed = (nonce, error) => fs.writeSync(log, `! ${nonce} ${String(error).replace(/\n/g, ' ')}\n`);
let channel;

function read(nonce) {
  const lines = fs.readFileSync(`${process.env.PLANS}/${nonce}`, 'utf8').split('\n').filter(Boolean);
  const steps = [];
  while (lines.length) steps.push(step(lines));
  return steps;
}

function step(lines) {
  const [word, ...rest] = lines.shift().split(' ');
  switch (word) {
    case 'together': return { word, branches: Array.from({ length: Number(rest[0]) }, () => step(lines)) };
    case 'think': return { word, ms: Number(rest[0]) };
    case 'http': return { word, nonce: rest[0], method: rest[1], target: rest[2], body: rest.slice(3).join(' ') };
    case 'sql': return { word, nonce: rest[0], values: rest[1].split(',').map(Number), text: rest.slice(2).join(' ') };
    case 'publish': return { word, nonce: rest[0], body: rest.slice(1).join(' ') };
    default: return { word, text: rest.join(' ') };
  }
}

function call({ method, target, body }) {
  return new Promise((resolve, reject) => {
    const headers = body ? { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) } : {};
    const options = { host: '127.0.0.1', port: process.env.BACKEND_PORT, method, path: target, agent, headers };
    const request = http.request(options, (response) => {
      response.resume().on('end', resolve).on('error', reject);
    });
    request.on('error', reject);
    request.end(body);
  });
}

async function single(step, cause) {
  if (step.word === 'http') await call(step);
  else if (step.word === 'sql') await sql.query(step.text, step.values);
  else channel.publish('accuracy', `work.${step.nonce}`, Buffer.from(step.body), { contentType: 'application/json' });
  done(step.nonce, cause);
}

async function carryOut(cause, answer) {
  let connection = null;
  for (const step of read(cause)) {
    switch (step.word) {
      case 'think': await new Promise((resolve) => setTimeout(resolve, step.ms)); break;
      case 'answer': if (answer) answer(step.text); break;
      case 'begin': connection = await sql.connect(); await connection.query('BEGIN'); break;
      case 'commit': await connection.query('COMMIT'); connection.release(); connection = null; break;
      case 'together': await Promise.all(step.branches.map((branch) => single(branch, cause))); break;
      default:
        if (step.word === 'sql' && connection) {
          await connection.query(step.text, step.values);
          done(step.nonce, cause);
        } else await single(step, cause);
    }
  }
}

const nonceOf = (url) => url.split('?')[0].split('/').pop();

const server = http.createServer((request, response) => {
  request.resume().on('end', () => {
    const nonce = nonceOf(request.url);
    const answer = (text) => {
      response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
      response.end(text);
    };
    carryOut(nonce, answer).then(() => done(nonce, '-'), (error) => { failed(nonce, error); response.destroy(); });
  });
});
server.keepAliveTimeout = 60_000;

async function work(connection) {
  const consumer = await connection.createChannel();
  await consumer.assertExchange('accuracy', 'topic', { durable: false });
  await consumer.assertQueue('node', { durable: false, autoDelete: true });
  await consumer.bindQueue('node', 'accuracy', 'work.#');
  await consumer.prefetch(8);
  await consumer.consume('node', async (message) => {
    const nonce = message.fields.routingKey.split('.').pop();
    try {
      await carryOut(nonce);
      done(nonce, nonce);
    } catch (error) { failed(nonce, error); }
    consumer.ack(message);
  });
  console.log('ready');
}

async function main() {
  const connection = await amqp.connect(process.env.AMQP_URL);
  if (process.env.ROLE === 'worker') return work(connection);
  channel = await connection.createChannel();
  return server.listen({ port: process.env.PORT, host: '127.0.0.1', backlog: 512 });
}
main();
