// A server, or a client over one TLS connection:
//   node peer.js serve PORT CERTIFICATE KEY VERSION
//   node peer.js call URL CA COUNT GO LOG
'use strict';
const fs = require('fs');
const https = require('https');

const [what, ...args] = process.argv.slice(2);

function serve(port, cert, key, version) {
  const options = {
    cert: fs.readFileSync(cert), key: fs.readFileSync(key),
    minVersion: `TLSv${version}`, maxVersion: `TLSv${version}`,
  };
  https.createServer(options, (request, response) => {
    const body = JSON.stringify({ path: request.url });
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': body.length });
    response.end(body);
  }).listen(Number(port), '127.0.0.1', () => console.log('listening'));
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function call(url, ca, count, go, log) {
  const agent = new https.Agent({ keepAlive: true, maxSockets: 1, ca: fs.readFileSync(ca) });
  const ask = (path) => new Promise((done, failed) => {
    https.get(new URL(path, url), { agent }, (response) => {
      response.on('data', () => {}).on('end', () => done(response.statusCode));
    }).on('error', failed);
  });
  const base = new URL(url).pathname;
  if (go !== '-') {
    await ask('/before');
    console.log('connected');
    while (!fs.existsSync(go)) await pause(20);
  }
  const out = fs.openSync(log, 'w');
  for (let number = 0; number < Number(count); number += 1) {
    const status = await ask(`${base}/${number}`);
    fs.writeSync(out, `GET ${base}/${number} ${status}\n`);
    await pause(10);
  }
  // Its secret is looked for while it is open.
  await pause(go !== '-' ? 1000 : 0);
  fs.writeSync(out, 'done\n');
  process.exit(0);
}

(what === 'serve' ? serve : call)(...args);
