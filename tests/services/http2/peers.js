// HTTP/2 without TLS: a server and a client of Node's own, each with a line of JSON per stream in a log of its own.
//
//   node peers.js serve PORT LOG
//   node peers.js call PORT LOG STREAMS            plain requests, uploads, resets and gRPC calls, many side by side
//   node peers.js wait PORT LOG STREAMS FILE       one request, then plain requests once FILE is there
'use strict';
const fs = require('fs');
const http2 = require('http2');
const { NGHTTP2_CANCEL, NGHTTP2_REFUSED_STREAM } = http2.constants;
const [mode, port, log, streams, file] = process.argv.slice(2);

function note(headers, status, grpc) {
  const line = { method: headers[':method'] || 'GET', path: headers[':path'], status: status || 0 };
  if (grpc !== undefined) line.grpc = Number(grpc);
  fs.appendFileSync(log, JSON.stringify(line) + '\n');
}

// A message of gRPC: not compressed, its length, the bytes.
function message(bytes) {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
}

function answerCall(stream, path) {
  const status = path.endsWith('/Missing') ? 5 : 0;
  const count = path.endsWith('/Watch') ? 3 : 1 - Math.sign(status);
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
  stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': String(status) }));
  for (let n = 0; n < count; n += 1) stream.write(message(Buffer.alloc(100 * (n + 1), 'm')));
  stream.end();
  return status;
}

function serve() {
  const server = http2.createServer();
  server.on('stream', (stream, headers) => {
    const path = headers[':path'];
    let grpc;
    let size = 0;
    stream.on('error', () => {});
    stream.on('close', () => note(headers, stream.sentHeaders && stream.sentHeaders[':status'], grpc));
    stream.on('data', (part) => { size += part.length; });
    stream.on('end', () => {
      if (stream.destroyed) return;
      if (headers['content-type'] === 'application/grpc') {
        grpc = answerCall(stream, path);
      } else if (path === '/endless') {
        stream.respond({ ':status': 200 });
        stream.write('begun');
      } else if (path === '/refused') {
        stream.close(NGHTTP2_REFUSED_STREAM);
      } else if (headers[':method'] === 'POST') {
        stream.respond({ ':status': 201, 'content-type': 'application/json' });
        stream.end(JSON.stringify({ size }));
      } else if (path.startsWith('/orders/')) {
        stream.respond({ ':status': 200, 'content-type': 'application/json' });
        stream.end(JSON.stringify({ order_id: path.slice(8) }));
      } else {
        stream.respond({ ':status': 404 }, { endStream: true });
      }
    });
    stream.resume();
  });
  server.listen(Number(port), '127.0.0.1', () => console.error('listening'));
}

function call(client, headers, body) {
  return new Promise((resolve) => {
    const stream = client.request(headers, { endStream: body === undefined });
    let status;
    let grpc;
    stream.on('error', () => {});
    stream.on('response', (answer) => { status = answer[':status']; });
    stream.on('trailers', (trailers) => { grpc = trailers['grpc-status']; });
    stream.on('data', () => { if (headers[':path'] === '/endless') stream.close(NGHTTP2_CANCEL); });
    stream.on('close', () => { note(headers, status, grpc); resolve(); });
    if (body !== undefined) stream.end(body);
  });
}

function grpc(client, method) {
  const headers = { ':method': 'POST', ':path': `/shop.v1.Orders/${method}`, 'content-type': 'application/grpc', te: 'trailers' };
  return call(client, headers, message(Buffer.from('request')));
}

async function run() {
  const client = http2.connect(`http://127.0.0.1:${port}`);
  if (mode === 'wait') {
    await call(client, { ':path': '/orders/before', 'user-agent': 'peers/1' });
    console.error('connected');
    while (!fs.existsSync(file)) await new Promise((resolve) => setTimeout(resolve, 20));
    for (let n = 0; n < Number(streams); n += 5) {
      const some = [0, 1, 2, 3, 4].map((k) => call(client, { ':path': `/orders/${1000 + n + k}`, 'user-agent': 'peers/1' }));
      await Promise.all(some);
    }
  } else {
    const all = [];
    for (let n = 0; n < Number(streams); n += 1) {
      all.push(call(client, { ':path': `/orders/${n}`, 'x-request': `r${n}` }));
      if (n % 10 === 0) {
        all.push(call(client, { ':path': '/orders', ':method': 'POST' }, Buffer.alloc(n * 100 + 1, 'x')));
        all.push(call(client, { ':path': '/nowhere' }));
        all.push(grpc(client, 'Get'), grpc(client, 'Watch'), grpc(client, 'Missing'));
      }
    }
    await Promise.all(all);
    await call(client, { ':path': '/endless' });
    await call(client, { ':path': '/refused' });
  }
  client.close();
  console.error('done');
}

if (mode === 'serve') serve();
else run();
