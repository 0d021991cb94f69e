#pragma once
// Text in, .bin/.idx out: what Megatron's tools/preprocess_data.py does, resumable and in bounded memory.
//
// A document becomes one sequence for each of its pieces that has tokens; the end-of-document token, where
// wanted, ends its last one. A document without tokens is kept as a document without sequences. Output is
// PREFIX_KEY_document.{bin,idx} (for plain text the key is "text"), u16 below 65500 ids and i32 from there
// on. Of conversations two pairs are written, PREFIX_text_document and PREFIX_loss_mask_document, a document
// and a sequence each (FlagScale's layout). The same bytes whatever the number of workers and however often
// the run was killed and started again.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/conversation_encoder.h"
#include "data/documents.h"

namespace flagscale::data {

// Appends the ids of a text. Used by one thread at a time; throws Error for a text that cannot be encoded.
using Encoder = std::function<void(std::string_view text, std::vector<int32_t>& ids)>;

struct PreprocessOptions {
  std::vector<std::string> inputs;  // files, read in this order
  std::string output_prefix;
  InputFormat format = InputFormat::kJsonLines;
  std::vector<std::string> keys{"text"};
  std::function<Encoder()> make_encoder;  // called once a worker
  // Instead of it: records are conversations, the keys "text" and "loss_mask" (1 for each token to learn).
  std::shared_ptr<const ConversationEncoder> conversations;
  ConversationFormat conversation_format = ConversationFormat::kAuto;
  std::string tokenizer_id;  // differs when the tokenizer does: a journal of another one is not continued
  int64_t vocab_size = 0;    // chooses u16 or i32
  bool append_eod = false;
  int32_t eod = -1;
  int workers = 0;  // 0: every core this process may use
  // Pass over documents that cannot be read, listing them in PREFIX.skipped.jsonl (skipped_file.h); else the
  // first one stops the run.
  bool skip_broken = false;
  size_t block_bytes = size_t{4} << 20;
  double seconds_between_checkpoints = 2;
};

// Something that conversations have and may not be meant to (EncodedConversation's notes).
struct PreprocessNote {
  std::string words, first;  // first: "chats.jsonl:9"
  int64_t count = 0;
};

struct PreprocessReport {
  std::vector<std::string> prefixes;  // one a key
  std::vector<int64_t> tokens;        // one a key
  int64_t documents = 0, skipped = 0, input_bytes = 0;
  int64_t learnt = 0;  // tokens that the loss masks of conversations keep
  std::vector<PreprocessNote> notes;
  std::string skipped_file;  // empty: nothing was skipped
  bool resumed = false;
};

// Runs to the end, or throws and leaves PREFIX.preprocess.json, from which the same call goes on:
// kInvalidArgument naming FILE:LINE for a broken document, kInterrupted on Ctrl-C, kResource for a full disk.
PreprocessReport preprocess(const PreprocessOptions& options);

std::string to_json(const PreprocessReport& report);  // one line

}  // namespace flagscale::data
