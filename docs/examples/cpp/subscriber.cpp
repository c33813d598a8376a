// A subscriber in C++. Debian: apt install librdkafka-dev libmsgpack-cxx-dev
//   g++ -std=c++17 subscriber.cpp -o subscriber -lrdkafka++
//   ./subscriber BROKER TOPIC GROUP [COUNT]

#include <librdkafka/rdkafkacpp.h>

#include <cstdint>
#include <iostream>
#include <map>
#include <memory>
#include <msgpack.hpp>
#include <set>
#include <stdexcept>
#include <string>

int main(int argc, char **argv) {
  if (argc < 4) {
    std::cerr << "subscriber BROKER TOPIC GROUP [COUNT]\n";
    return 2;
  }
  const std::size_t count = argc > 4 ? std::stoul(argv[4]) : 0;
  std::string error;
  std::unique_ptr<RdKafka::Conf> conf(RdKafka::Conf::create(RdKafka::Conf::CONF_GLOBAL));
  for (auto [name, value] : {std::pair{"bootstrap.servers", argv[1]},
                             {"group.id", argv[3]},
                             {"auto.offset.reset", const_cast<char *>("earliest")}})
    if (conf->set(name, value, error) != RdKafka::Conf::CONF_OK) throw std::runtime_error(error);
  std::unique_ptr<RdKafka::KafkaConsumer> consumer(RdKafka::KafkaConsumer::create(conf.get(), error));
  if (!consumer) throw std::runtime_error(error);
  consumer->subscribe({argv[2]});

  std::set<std::string> seen;  // grows by one a part: forget old ones in a program that runs for weeks
  while (count == 0 || seen.size() < count) {
    std::unique_ptr<RdKafka::Message> record(consumer->consume(1000));
    if (record->err() == RdKafka::ERR__TIMED_OUT) continue;
    if (record->err()) {
      std::cerr << record->errstr() << "\n";
      continue;
    }
    const auto handle = msgpack::unpack(static_cast<const char *>(record->payload()), record->len());
    const auto verdict = handle.get().as<std::map<std::string, msgpack::object>>();
    if (verdict.at("v").as<int>() != 1) throw std::runtime_error("this reader is too old");
    const auto key = verdict.at("part").as<std::vector<msgpack::object>>();
    const std::string part = key.at(0).as<std::string>() + "/" + std::to_string(key.at(1).as<std::int64_t>()) + "/" +
                             std::to_string(key.at(2).as<std::int64_t>());
    if (seen.insert(part).second)  // the first verdict of a part counts
      std::cout << part << " " << verdict.at("decision").as<std::string>() << " " << verdict.at("score") << std::endl;
  }
  consumer->close();
}
