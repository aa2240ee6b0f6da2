// Text to tokens and back: SentencePiece.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace llama {

class tokenizer {
 public:
  // tokenizer.model of the folder. Throws error, also where the vocabulary is larger than the model's, and in
  // a program that was built without SentencePiece.
  tokenizer(const std::string& folder, int64_t vocabulary);
  ~tokenizer();
  tokenizer(const tokenizer&) = delete;
  tokenizer& operator=(const tokenizer&) = delete;

  // Without a BOS.
  std::vector<int32_t> encode(const std::string& text) const;
  std::string decode(const std::vector<int32_t>& tokens) const;

 private:
  struct implementation;
  std::unique_ptr<implementation> implementation_;
};

}  // namespace llama
