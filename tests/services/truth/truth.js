// What a Node.js service did, one JSON line per operation: the ground truth that spans are counted against.
//
// This is file I/O of the service itself, not tracing: nothing of it travels to another service.
'use strict';

const { appendFileSync } = require('node:fs');
const { randomUUID } = require('node:crypto');
const { performance } = require('node:perf_hooks');

function nowNs() {
  return BigInt(Math.round((performance.timeOrigin + performance.now()) * 1e3)) * 1000n;
}

// One request served or message handled, with everything done for it. `order` may become known late.
class Work {
  constructor(order = null) {
    this.order = order;
    this.entries = [];
    this.cause = null;
  }

  // Starts an operation; the first one is the cause of all others.
  begin(kind, facts) {
    const entry = {
      nonce: randomUUID(), service: process.env.TRUTH_SERVICE, pid: process.pid, kind, cause: this.cause, start_ns: nowNs(), ...facts,
    };
    this.cause ??= entry.nonce;
    this.entries.push(entry);
    return entry;
  }

  end(entry, facts) {
    Object.assign(entry, facts, { end_ns: nowNs() });
  }

  // Puts all operations on file, with the order they turned out to belong to.
  write() {
    // Nanoseconds since 1970 do not fit a JavaScript number.
    const plain = (key, value) => (typeof value === 'bigint' ? `@${value}@` : value);
    const line = (entry) => `${JSON.stringify({ ...entry, order: this.order }, plain)}\n`.replace(/"@(\d+)@"/g, '$1');
    appendFileSync(process.env.TRUTH_LOG, this.entries.map(line).join(''));
  }
}

module.exports = { Work };
