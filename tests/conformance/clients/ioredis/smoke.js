// ioredis against HOST PORT PROTOCOL: connect, set/get, pipeline, transaction, expire.
import assert from 'node:assert/strict';
import { Redis } from 'ioredis';

const [host, port, protocol] = process.argv.slice(2);
const options = { host, port: Number(port), protocol: Number(protocol), maxRetriesPerRequest: 1, lazyConnect: true };
const client = new Redis(options);
const other = new Redis(options);
await client.connect();
await other.connect();

assert.equal(await client.ping(), 'PONG');
assert.equal(await client.set('io:k', 'v'), 'OK');
assert.equal(await client.get('io:k'), 'v');
assert.equal(await client.get('io:none'), null);
assert.deepEqual(await client.mget('io:k', 'io:none'), ['v', null]);

await client.del('io:n');
const pipeline = client.pipeline();
for (let i = 0; i < 100; i++) pipeline.incr('io:n');
assert.deepEqual(await pipeline.exec(), Array.from({ length: 100 }, (_, i) => [null, i + 1]));

await client.watch('io:n');
assert.deepEqual(await client.multi().incr('io:n').get('io:n').exec(), [[null, 101], [null, '101']]);
await client.watch('io:n');
await other.incr('io:n');
assert.equal(await client.multi().set('io:n', 'lost').exec(), null);
assert.equal(await client.get('io:n'), '102');

assert.equal(await client.expire('io:k', 100), 1);
const ttl = await client.ttl('io:k');
assert.ok(ttl > 0 && ttl <= 100);
assert.equal(await client.set('io:short', 'x', 'PX', 1), 'OK');
while ((await client.get('io:short')) !== null);
await assert.rejects(client.incr('io:k'), /not an integer/);
assert.equal(await client.del('io:k', 'io:n'), 2);
client.disconnect();
other.disconnect();
