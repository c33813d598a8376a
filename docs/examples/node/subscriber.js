// A subscriber in Node: npm install, then
//   node subscriber.js BROKER TOPIC GROUP [COUNT]
import { decode } from "@msgpack/msgpack";
import kafkajs from "kafkajs";

const [broker, topic, groupId, count = "0"] = process.argv.slice(2);
if (!groupId) {
  console.error("node subscriber.js BROKER TOPIC GROUP [COUNT]");
  process.exit(2);
}

const kafka = new kafkajs.Kafka({ brokers: [broker], logLevel: kafkajs.logLevel.ERROR });
const consumer = kafka.consumer({ groupId });
await consumer.connect();
await consumer.subscribe({ topic, fromBeginning: true });
const seen = new Set(); // grows by one a part: forget old ones in a program that runs for weeks
const enough = new Promise((resolve) => {
  consumer.run({
    eachMessage: async ({ message }) => {
      if (Number(count) && seen.size >= Number(count)) return;
      // Without useBigInt64 the run of a part, about 1.7e18, comes back rounded: another part.
      const verdict = decode(message.value, { useBigInt64: true });
      if (verdict.v !== 1 || verdict.kind !== "verdict") throw new Error("this reader is too old");
      const part = verdict.part.join("/");
      if (seen.has(part)) return; // the first verdict of a part counts
      seen.add(part);
      console.log(part, verdict.decision, verdict.score);
      if (seen.size === Number(count)) resolve();
    },
  });
});
await enough;
await consumer.disconnect();
