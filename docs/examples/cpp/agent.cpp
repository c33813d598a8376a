// An agent in C++. Debian: apt install librdkafka-dev libmsgpack-cxx-dev nlohmann-json3-dev
//   g++ -std=c++17 agent.cpp -o agent -lrdkafka++
//   ./agent BROKER TOPIC STATIONS.json STATION PRODUCT COUNT [DEADLINE_S]

#include <librdkafka/rdkafkacpp.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <memory>
#include <msgpack.hpp>
#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

constexpr int WIDTH = 64, HEIGHT = 48;

// CRC-32C (Castagnoli); of "123456789" it is 0xe3069283.
std::uint32_t crc32c(const std::string &data) {
  static const auto table = [] {
    std::array<std::uint32_t, 256> made{};
    for (std::uint32_t n = 0; n < 256; n++) {
      std::uint32_t crc = n;
      for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >> 1) ^ 0x82f63b78u : crc >> 1;
      made[n] = crc;
    }
    return made;
  }();
  std::uint32_t crc = 0xffffffffu;
  for (unsigned char byte : data) crc = table[(crc ^ byte) & 0xff] ^ (crc >> 8);
  return ~crc;
}

// Your camera: red, green, blue of each pixel, row by row.
std::string colour(int trigger) {
  std::string data(WIDTH * HEIGHT * 3, '\0');
  for (std::size_t at = 0; at < data.size(); at++) data[at] = static_cast<char>(at * 7 + trigger);
  return data;
}

// Your depth sensor: counts as 16-bit little-endian, 0 where there is no reading.
std::string depth(int trigger) {
  std::string data(WIDTH * HEIGHT * 2, '\0');
  for (int at = 0; at < WIDTH * HEIGHT; at++) {
    int counts = 1000 + at % WIDTH + trigger % 50;
    data[2 * at] = static_cast<char>(counts);
    data[2 * at + 1] = static_cast<char>(counts >> 8);
  }
  return data;
}

std::int64_t now() {
  using namespace std::chrono;
  return duration_cast<nanoseconds>(system_clock::now().time_since_epoch()).count();
}

using Packer = msgpack::packer<msgpack::sbuffer>;

void image(Packer &out, const std::string &name, const std::string &encoding, const std::string &data) {
  out.pack(name).pack_map(5);
  out.pack(std::string("encoding")).pack(encoding);
  out.pack(std::string("height")).pack(HEIGHT);
  out.pack(std::string("width")).pack(WIDTH);
  out.pack(std::string("digest")).pack(crc32c(data));
  out.pack(std::string("data")).pack_bin(data.size()).pack_bin_body(data.data(), data.size());
}

struct Failures : RdKafka::DeliveryReportCb {
  int count = 0;
  void dr_cb(RdKafka::Message &message) override {
    if (!message.err()) return;
    count++;
    std::cerr << "not delivered: " << message.errstr() << "\n";
  }
};

int main(int argc, char **argv) {
  if (argc < 7) {
    std::cerr << "agent BROKER TOPIC STATIONS.json STATION PRODUCT COUNT [DEADLINE_S]\n";
    return 2;
  }
  const std::string topic = argv[2], station = argv[4], product = argv[5];
  const auto deadline = static_cast<std::int64_t>(1e9 * (argc > 7 ? std::stod(argv[7]) : 2.0));
  std::ifstream file(argv[3]);
  const int partition = nlohmann::json::parse(file).at("stations").at(station).get<int>();

  std::string error;
  Failures failures;
  std::unique_ptr<RdKafka::Conf> conf(RdKafka::Conf::create(RdKafka::Conf::CONF_GLOBAL));
  for (auto [name, value] : {std::pair{"bootstrap.servers", argv[1]},
                             {"enable.idempotence", const_cast<char *>("true")},
                             {"message.max.bytes", const_cast<char *>("16842752")}})
    if (conf->set(name, value, error) != RdKafka::Conf::CONF_OK) throw std::runtime_error(error);
  conf->set("dr_cb", &failures, error);
  std::unique_ptr<RdKafka::Producer> producer(RdKafka::Producer::create(conf.get(), error));
  if (!producer) throw std::runtime_error(error);

  const std::int64_t run = now();
  for (int trigger = 0; trigger < std::stoi(argv[6]); trigger++) {
    const std::int64_t captured = now();
    msgpack::sbuffer bytes;
    Packer out(bytes);
    out.pack_map(8);
    out.pack(std::string("v")).pack(1);
    out.pack(std::string("kind")).pack(std::string("frame"));
    out.pack(std::string("part")).pack_array(3).pack(station).pack(run).pack(trigger);
    out.pack(std::string("product")).pack(product);
    out.pack(std::string("captured_at")).pack(captured);
    out.pack(std::string("deadline")).pack(captured + deadline);
    image(out, "rgb", "raw", colour(trigger));
    image(out, "depth", "raw16", depth(trigger));
    const std::string key = station + "/" + std::to_string(run) + "/" + std::to_string(trigger);
    const auto sent = producer->produce(topic, partition, RdKafka::Producer::RK_MSG_COPY, bytes.data(), bytes.size(),
                                        key.data(), key.size(), 0, nullptr);
    if (sent != RdKafka::ERR_NO_ERROR) throw std::runtime_error(RdKafka::err2str(sent));
    producer->poll(0);
    std::cout << key << std::endl;
  }
  return producer->flush(30000) != RdKafka::ERR_NO_ERROR || failures.count ? 1 : 0;
}
