// An agent in Java. mvn package dependency:copy-dependencies, then
//   java -cp 'target/classes:target/dependency/*' Agent BROKER TOPIC STATIONS.json STATION PRODUCT COUNT [DEADLINE_S]

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.File;
import java.io.IOException;
import java.time.Instant;
import java.util.Map;
import java.util.zip.CRC32C;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.msgpack.core.MessageBufferPacker;
import org.msgpack.core.MessagePack;

public class Agent {
    static final int WIDTH = 64;
    static final int HEIGHT = 48;

    /** Your camera: red, green, blue of each pixel, row by row. */
    static byte[] colour(int trigger) {
        byte[] data = new byte[WIDTH * HEIGHT * 3];
        for (int at = 0; at < data.length; at++) data[at] = (byte) (at * 7 + trigger);
        return data;
    }

    /** Your depth sensor: counts as 16-bit little-endian, 0 where there is no reading. */
    static byte[] depth(int trigger) {
        byte[] data = new byte[WIDTH * HEIGHT * 2];
        for (int at = 0; at < WIDTH * HEIGHT; at++) {
            int counts = 1000 + at % WIDTH + trigger % 50;
            data[2 * at] = (byte) counts;
            data[2 * at + 1] = (byte) (counts >> 8);
        }
        return data;
    }

    static long now() {
        Instant instant = Instant.now();
        return instant.getEpochSecond() * 1_000_000_000L + instant.getNano();
    }

    static void image(MessageBufferPacker out, String name, String encoding, byte[] data) throws IOException {
        CRC32C crc = new CRC32C();
        crc.update(data);
        out.packString(name).packMapHeader(5);
        out.packString("encoding").packString(encoding);
        out.packString("height").packInt(HEIGHT);
        out.packString("width").packInt(WIDTH);
        out.packString("digest").packLong(crc.getValue());
        out.packString("data").packBinaryHeader(data.length).writePayload(data);
    }

    public static void main(String[] args) throws Exception {
        if (args.length < 6) {
            System.err.println("Agent BROKER TOPIC STATIONS.json STATION PRODUCT COUNT [DEADLINE_S]");
            System.exit(2);
        }
        long deadline = Math.round(1e9 * (args.length > 6 ? Double.parseDouble(args[6]) : 2.0));
        String station = args[3];
        JsonNode place = new ObjectMapper().readTree(new File(args[2])).path("stations").path(station);
        if (!place.isInt()) throw new IllegalArgumentException(station + " is not on the station map " + args[2]);
        Map<String, Object> settings = Map.of(
            "bootstrap.servers", args[0], "acks", "all", "enable.idempotence", true, "max.request.size", 16_842_752);
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new ByteArraySerializer())) {
            long run = now();
            for (int trigger = 0; trigger < Integer.parseInt(args[5]); trigger++) {
                long captured = now();
                MessageBufferPacker out = MessagePack.newDefaultBufferPacker();
                out.packMapHeader(8);
                out.packString("v").packInt(1);
                out.packString("kind").packString("frame");
                out.packString("part").packArrayHeader(3).packString(station).packLong(run).packInt(trigger);
                out.packString("product").packString(args[4]);
                out.packString("captured_at").packLong(captured);
                out.packString("deadline").packLong(captured + deadline);
                image(out, "rgb", "raw", colour(trigger));
                image(out, "depth", "raw16", depth(trigger));
                String key = station + "/" + run + "/" + trigger;
                producer.send(new ProducerRecord<>(args[1], place.asInt(), key, out.toByteArray())).get();
                System.out.println(key);
            }
        }
    }
}
