// A subscriber in Java. mvn package dependency:copy-dependencies, then
//   java -cp 'target/classes:target/dependency/*' Subscriber BROKER TOPIC GROUP [COUNT]

import java.time.Duration;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.msgpack.core.MessagePack;
import org.msgpack.value.Value;
import org.msgpack.value.ValueFactory;

public class Subscriber {
    static Value field(Map<Value, Value> verdict, String name) {
        return verdict.getOrDefault(ValueFactory.newString(name), ValueFactory.newNil());
    }

    public static void main(String[] args) throws Exception {
        if (args.length < 3) {
            System.err.println("Subscriber BROKER TOPIC GROUP [COUNT]");
            System.exit(2);
        }
        int count = args.length > 3 ? Integer.parseInt(args[3]) : 0;
        Map<String, Object> settings = Map.of(
            "bootstrap.servers", args[0], "group.id", args[2], "auto.offset.reset", "earliest");
        Set<String> seen = new HashSet<>(); // grows by one a part: forget old ones in a program that runs for weeks
        try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new ByteArrayDeserializer())) {
            consumer.subscribe(List.of(args[1]));
            while (count == 0 || seen.size() < count) {
                for (ConsumerRecord<String, byte[]> record : consumer.poll(Duration.ofSeconds(1))) {
                    Map<Value, Value> verdict =
                        MessagePack.newDefaultUnpacker(record.value()).unpackValue().asMapValue().map();
                    if (field(verdict, "v").asIntegerValue().toInt() != 1) throw new Exception("this reader is too old");
                    List<Value> key = field(verdict, "part").asArrayValue().list();
                    // toLong: the run of a part has 61 bits.
                    String part = key.get(0).asStringValue() + "/" + key.get(1).asIntegerValue().toLong() + "/"
                        + key.get(2).asIntegerValue().toLong();
                    if (seen.add(part)) { // the first verdict of a part counts
                        System.out.println(part + " " + field(verdict, "decision") + " " + field(verdict, "score"));
                    }
                }
            }
        }
    }
}
