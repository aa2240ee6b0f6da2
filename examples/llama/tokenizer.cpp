// SPDX-License-Identifier: Apache-2.0
#include "tokenizer.hpp"

#include <fmt/format.h>

#include "support.hpp"

#ifdef LLAMA_SENTENCEPIECE
#include <sentencepiece_processor.h>
#endif

namespace llama {

#ifdef LLAMA_SENTENCEPIECE

struct tokenizer::implementation {
  sentencepiece::SentencePieceProcessor processor;
};

tokenizer::tokenizer(const std::string& folder, int64_t vocabulary)
    : implementation_(std::make_unique<implementation>()) {
  const std::string path = folder + "/tokenizer.model";
  const mapped_file file(path);
  const auto status = implementation_->processor.LoadFromSerializedProto(
      absl::string_view(file.text().data(), file.text().size()));
  if (!status.ok()) {
    throw error(fmt::format("{}: is no SentencePiece model: {}", path, show(status.error_message())));
  }
  if (implementation_->processor.GetPieceSize() > vocabulary) {
    throw error(fmt::format("{}: has {} pieces, more than the {} of vocab_size in config.json", path,
                            implementation_->processor.GetPieceSize(), vocabulary));
  }
}

std::vector<int32_t> tokenizer::encode(const std::string& text) const {
  std::vector<int> tokens;
  const auto status = implementation_->processor.Encode(text, &tokens);
  if (!status.ok()) throw error(fmt::format("SentencePiece: {}", show(status.error_message())));
  return {tokens.begin(), tokens.end()};
}

std::string tokenizer::decode(const std::vector<int32_t>& tokens) const {
  std::string text;
  const auto status =
      implementation_->processor.Decode(std::vector<int>(tokens.begin(), tokens.end()), &text);
  if (!status.ok()) throw error(fmt::format("SentencePiece: {}", show(status.error_message())));
  return text;
}

#else

struct tokenizer::implementation {};

tokenizer::tokenizer(const std::string& folder, int64_t) {
  throw error(fmt::format("{}: this program was built without SentencePiece (libsentencepiece-dev)", folder));
}
std::vector<int32_t> tokenizer::encode(const std::string&) const { return {}; }
std::string tokenizer::decode(const std::vector<int32_t>&) const { return {}; }

#endif

tokenizer::~tokenizer() = default;

}  // namespace llama
