#pragma once
// Writes a Megatron dataset, byte for byte as megatron-core's IndexedDatasetBuilder does.
//
// Everything goes to PREFIX.bin.part and PREFIX.{lengths,documents,modes}.part; commit() makes PREFIX.bin and
// PREFIX.idx of them, the .idx last: a pair is there whole or its .idx is missing. Memory does not grow with
// the data.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/part_file.h"
#include "data/token_type.h"

namespace flagscale::data {

// How far a writer is: what a journal keeps.
struct WriterPosition {
  int64_t sequences = 0, documents = 0, tokens = 0;
  friend bool operator==(const WriterPosition&, const WriterPosition&) = default;
};

class IndexedWriter {
 public:
  // Starts anew, or goes on from a position that sync() returned. modes: one i8 a sequence is kept
  // (multimodal data).
  IndexedWriter(std::string prefix, TokenType type, bool modes = false, WriterPosition resume = {});

  // A sequence of the current document. kInvalidArgument for an id that the type cannot hold.
  void add_sequence(std::span<const int32_t> tokens, int8_t mode = 0);
  // Ends the document; one without sequences is kept as such.
  void end_document();

  const WriterPosition& position() const { return position_; }
  WriterPosition sync();  // everything so far is on disk: resuming from here loses nothing
  // Replaces PREFIX.bin and PREFIX.idx. May be repeated after a kill in the middle of it.
  void commit();
  void remove_parts();  // once nobody will resume

 private:
  void write_index();
  template <class T>
  void put(std::span<const int32_t> tokens);

  std::string prefix_;
  TokenType type_;
  WriterPosition position_;
  std::optional<PartFile> bin_;  // none once it has become PREFIX.bin
  PartFile lengths_, documents_;
  std::optional<PartFile> modes_;
  std::vector<std::byte> packed_;
};

}  // namespace flagscale::data
