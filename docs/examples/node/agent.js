// An agent in Node: npm install, then
//   node agent.js BROKER TOPIC STATIONS.json STATION PRODUCT COUNT [DEADLINE_S]
import { readFileSync } from "node:fs";
import { Encoder } from "@msgpack/msgpack";
import kafkajs from "kafkajs";

const [broker, topic, stations, station, product, count, deadlineS = "2"] = process.argv.slice(2);
if (!count) {
  console.error("node agent.js BROKER TOPIC STATIONS.json STATION PRODUCT COUNT [DEADLINE_S]");
  process.exit(2);
}

const WIDTH = 64;
const HEIGHT = 48;

// CRC-32C (Castagnoli). crc32c(Buffer.from("123456789")) is 0xe3069283.
const TABLE = new Uint32Array(256).map((_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0x82f63b78 : n >>> 1;
  return n >>> 0;
});
function crc32c(data) {
  let crc = 0xffffffff;
  for (const byte of data) crc = TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

const image = (encoding, data) => ({ encoding, height: HEIGHT, width: WIDTH, digest: crc32c(data), data });

// Your camera: red, green, blue of each pixel, row by row.
function colour(trigger) {
  const data = Buffer.alloc(WIDTH * HEIGHT * 3);
  for (let at = 0; at < data.length; at++) data[at] = (at * 7 + trigger) & 0xff;
  return data;
}

// Your depth sensor: counts as 16-bit little-endian, 0 where there is no reading.
function depth(trigger) {
  const data = Buffer.alloc(WIDTH * HEIGHT * 2);
  for (let at = 0; at < WIDTH * HEIGHT; at++) data.writeUInt16LE(1000 + (at % WIDTH) + (trigger % 50), at * 2);
  return data;
}

// Times and the run are 64-bit: BigInt, never Number.
const now = () => BigInt(Date.now()) * 1_000_000n;
const encoder = new Encoder({ useBigInt64: true });
const deadline = BigInt(Math.round(Number(deadlineS) * 1000)) * 1_000_000n;
const partition = JSON.parse(readFileSync(stations, "utf8")).stations[station];
if (partition === undefined) throw new Error(`${station} is not on the station map ${stations}`);

const kafka = new kafkajs.Kafka({ brokers: [broker], logLevel: kafkajs.logLevel.ERROR });
const producer = kafka.producer({
  idempotent: true,
  maxInFlightRequests: 1,
  createPartitioner: kafkajs.Partitioners.DefaultPartitioner,
});
await producer.connect();
const run = now();
for (let trigger = 0; trigger < Number(count); trigger++) {
  const captured = now();
  const frame = {
    v: 1,
    kind: "frame",
    part: [station, run, trigger],
    product,
    captured_at: captured,
    deadline: captured + deadline,
    rgb: image("raw", colour(trigger)),
    depth: image("raw16", depth(trigger)),
  };
  const key = `${station}/${run}/${trigger}`;
  const value = Buffer.from(encoder.encode(frame));
  await producer.send({ topic, acks: -1, messages: [{ key, value, partition }] });
  console.log(key);
}
await producer.disconnect();
