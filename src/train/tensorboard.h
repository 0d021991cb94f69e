#pragma once
// TensorBoard event files: TFRecords with masked CRC-32C around Event protobufs of scalar summaries.

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

namespace flagscale::train {

class EventWriter {
 public:
  // Makes the folder and opens events.out.tfevents.<time>.<host>.<pid> in it. Throws Error{kResource}.
  explicit EventWriter(const std::string& dir);
  ~EventWriter();
  EventWriter(const EventWriter&) = delete;

  void scalar(std::string_view tag, double value, int64_t step);
  void flush();

 private:
  void record(const std::string& event);
  std::FILE* file_;
  std::string path_;
};

uint32_t crc32c(std::string_view bytes);

}  // namespace flagscale::train
