// Threads over blocks of work.
//
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "floatx.h"

namespace floatx::cli {

class workers {
 public:
  // 0 = one for each processor.
  explicit workers(int jobs);

  int count() const { return static_cast<int>(single_.size()); }

  // Runs task(index, worker) for every index in [0, count), worker in [0, count()); indices are handed out in
  // rising order. After an exception no more are; the one of the lowest index is thrown, so that what is
  // reported does not depend on the number of threads.
  void run(int64_t count, const std::function<void(int64_t index, int worker)>& task) const;

  // For library calls inside a task, which run on that worker alone, and outside, which use all.
  floatx_execution inside(int worker) const;
  floatx_execution outside() const;

 private:
  struct destroy {
    void operator()(floatx_threads* threads) const { floatx_threads_destroy(threads); }
  };
  using handle = std::unique_ptr<floatx_threads, destroy>;

  std::vector<handle> single_;
  handle all_;
};

}  // namespace floatx::cli
