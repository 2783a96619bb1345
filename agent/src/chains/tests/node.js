// A program that stops while a request waits for something (an argument says for what and how) -> "connection fd, number of the
// connection that is expected at the end of the chain, fd of that": 0 where none is.
'use strict';
const EventEmitter = require('events');
const http = require('http');
const net = require('net');

const scenario = process.argv.at(-1);
const number = (socket) => socket[Object.getOwnPropertySymbols(socket).find((key) => key.description === 'async_id_symbol')];
const descriptor = (socket) => socket._handle.fd;
let asking, served = [], backend;

// Says what is expected, once the backend has been asked.
let told = false;
function tell() {
  if (told || !asking) return;
  told = true;
  const [socket] = served;
  const none = ['detached', 'module', 'message', 'finished', 'shared', 'row', 'again'].includes(scenario);
  setTimeout(() => console.log(descriptor(asking), none ? 0 : number(socket), none ? 0 : descriptor(socket)), 50);
}

// HTTP.
const agent = new http.Agent({ keepAlive: true });
function ask(done) {
  const request = http.request({ port: backend, path: '/', agent }, (response) => response.resume().on('end', done));
  request.on('socket', (socket) => { asking = socket; });
  request.end();
}
const call = () => new Promise((resolve) => ask(resolve));

// What pg has in memory.
class Connection extends EventEmitter {
  constructor(stream) {
    super();
    this.stream = stream;
    this.attach(stream);
  }
  attach(stream) { parse(stream, (message) => this.emit(String(message), message)); }
}
function parse(stream, callback) {
  const parser = { parse: (data, each) => each(data) };
  stream.on('data', (buffer) => parser.parse(buffer, callback));
  return new Promise((resolve) => stream.on('end', () => resolve()));
}
class Query extends EventEmitter {
  constructor(callback) { super(); this.text = 'SELECT 1'; this.callback = callback; }
}
class Client extends EventEmitter {
  constructor(stream) {
    super();
    this.connection = new Connection(stream);
    this._activeQuery = null;
    this.connection.on('readyForQuery', this._ready.bind(this));
  }
  _ready() { this._activeQuery = null; }
  query(callback) {
    let result;
    if (!callback) {
      result = new Promise((resolve, reject) => { callback = (error, rows) => (error ? reject(error) : resolve(rows)); });
    }
    this._activeQuery = new Query(callback);
    asking = this.connection.stream;
    this.connection.stream.write('?');
    return result;
  }
}
// One connection for all; others wait for it.
class Pool {
  constructor(client) { this.client = client; this.waiting = []; this.isBusy = false; }
  connect(callback) {
    if (this.isBusy) this.waiting.push(callback);
    else { this.isBusy = true; process.nextTick(() => callback(null, this.client)); }
  }
  query(callback) {
    let result;
    if (!callback) {
      result = new Promise((resolve, reject) => { callback = (error, rows) => (error ? reject(error) : resolve(rows)); });
    }
    this.connect((error, client) => {
      client.query((failed, rows) => { this.isBusy = false; callback(failed, rows); });
    });
    return result;
  }
}
let pool;

async function one() { await call(); return 1; }
async function two() { return (await one()) + 1; }
const later = [], acknowledged = [];
let common;

const handlers = {
  async awaited(request, response) { await call(); response.end(); },
  async nested(request, response) { await two(); response.end(); },
  async returned(request, response) { const through = async () => two(); await through(); response.end(); },
  async together(request, response) { await Promise.all([two(), two()]); response.end(); },
  async settled(request, response) { await Promise.allSettled([two()]); response.end(); },
  async raced(request, response) { await Promise.race([two(), new Promise(() => {})]); response.end(); },
  chained(request, response) { two().then((value) => value + 1).catch(() => 0).finally(() => {}).then(() => response.end()); },
  callback(request, response) { ask(() => response.end()); },
  onlyRequest(request, response) { ask(() => console.log(request.url)); response.write('a'); },
  async context(request, response) { const ctx = { app: {}, req: request, res: response }; await two(); ctx.res.end(); },
  async express(request, response) { request.res = response; response.req = request; await two(); response.end(); },
  listener(request, response) { request.resume().on('end', () => { two().then(() => response.end()); }); },
  async query(request, response) { await pool.query(); response.end(); },
  queryCallback(request, response) { pool.query(() => response.end()); },
  async direct(request, response) { await pool.client.query(); response.end(); },
  async stored(request, response) { const work = async () => { await pool.client.query(); }; await Promise.all([work()]); response.end(); },
  // As amqplib hands messages over.
  message() {
    const text = Buffer.from('amq.ctag-Uh8dm1YUvx_i5gMKcCLVrg').toString();
    const fields = { consumerTag: text, deliveryTag: 4711, redelivered: false, exchange: '', routingKey: 'a' };
    const message = { fields, properties: {}, content: Buffer.from('a') };
    (async (received) => { await two(); acknowledged.push(received); })(message);
  },
  // Nobody waits for it.
  detached(request, response) { (async () => { await call(); })(); response.write('a'); },
  // The answer is out.
  finished(request, response) { response.end('a', () => { two().then(() => response.destroyed); }); },
  // The connection has another request by now.
  again(request, response) {
    if (served.length > 1) return;
    response.end('a');
    response.on('finish', () => two().then(() => response.destroyed));
  },
  // Two wait for one result.
  shared(request, response) { common ??= two(); common.then(() => response.end()); },
};
if (scenario === 'waits') {
  // The second request waits for the connection that the first one's query has; that is answered, and the second one goes on.
  handlers.waits = async (request, response) => {
    later.push(pool.query());
    if (later.length === 2) { setTimeout(() => pool.client._activeQuery.callback(null, []), 20); }
    await later[later.length - 1];
    response.end();
  };
}
// Its stream is nobody's in particular.
function atTheTop() { call().then(() => console.log('never')); }

const asked = net.createServer((socket) => socket.on('data', tell)).listen(0, '127.0.0.1', () => {
  backend = asked.address().port;
  const stream = net.connect(backend, '127.0.0.1', () => {
    pool = new Pool(new Client(stream));
    if (scenario === 'message') return handlers.message();
    const server = http.createServer((request, response) => {
      served.push(request.socket);
      handlers[scenario](request, response);
    }).listen(0, '127.0.0.1', () => {
      if (scenario === 'module') return atTheTop();
      const port = server.address().port;
      const user = new http.Agent({ keepAlive: true, maxSockets: scenario === 'again' ? 1 : 8 });
      const get = (then) => http.get({ port, path: '/a', agent: user }, (answer) => answer.resume().on('end', then));
      if (scenario === 'again') get(() => get(() => {}));
      else get(() => {});
      if (scenario === 'shared') get(() => {});
    });
  });
});
process.stdin.on('data', () => process.exit());
