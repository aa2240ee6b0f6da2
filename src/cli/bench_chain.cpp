// Method. One CUDA graph holds several blocks of different weights, enough that no cache holds them; us is
// the median replay over the blocks. The data flow as in a model without its attention, norms and
// activations: the random weights keep the variance of what passes through them, so nothing overflows. With
// programmatic launch the result must be the same to the last bit.
//
// SPDX-License-Identifier: Apache-2.0
#include "cli/bench_chain.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <floatx/codec.hpp>
#include <memory>
#include <stdexcept>

#include "cli/gpu_linear.hpp"
#include "cli/names.hpp"

namespace floatx::cli {
namespace {

constexpr int block_input = -1;

struct chain_step {
  layer shape;
  int source;  // the step whose first k outputs are x, or block_input
};

struct decoder {
  int64_t hidden;
  int64_t key_value;
  int64_t inner;
};

bool find_decoder(const std::string& shape, decoder& found) {
  if (shape == "llama-2-7b") {
    found = {4096, 4096, 11008};
  } else if (shape == "llama-2-70b") {
    found = {8192, 1024, 28672};
  } else if (shape == "llama-3-8b") {
    found = {4096, 1024, 14336};
  } else {
    return false;
  }
  return true;
}

std::vector<chain_step> seven_steps(const decoder& d) {
  return {{{"q", d.hidden, d.hidden}, block_input},
          {{"k", d.key_value, d.hidden}, block_input},
          {{"v", d.key_value, d.hidden}, block_input},
          {{"o", d.hidden, d.hidden}, d.key_value == d.hidden ? 2 : 0},
          {{"gate", d.inner, d.hidden}, 3},
          {{"up", d.inner, d.hidden}, 3},
          {{"down", d.hidden, d.inner}, 5}};
}

std::vector<chain_step> four_steps(const decoder& d) {
  return {{{"qkv", d.hidden + 2 * d.key_value, d.hidden}, block_input},
          {{"o", d.hidden, d.hidden}, 0},
          {{"gate_up", 2 * d.inner, d.hidden}, 1},
          {{"down", d.hidden, d.inner}, 2}};
}

class chain_weights {
 public:
  chain_weights(const std::vector<chain_step>& steps, const quantization& scheme, const workers& threads) {
    size_t first_bytes = 0;
    for (const chain_step& step : steps) {
      floatx_weight weight = {};
      weight.struct_size = sizeof weight;
      weight.format = scheme.format;
      weight.layout = FLOATX_LAYOUT_CUDA;
      weight.n = step.shape.n;
      weight.k = step.shape.k;
      weight.group_size = scheme.group_size;
      weight.scale_type = scheme.scale_type;
      floatx_sizes sizes = {};
      sizes.struct_size = sizeof sizes;
      check(floatx_weight_sizes(&weight, &sizes), step.shape.name);
      first_bytes += sizes.codes_bytes + sizes.scales_bytes;
    }
    blocks_ = gpu_rotation_count(first_bytes);
    for (const chain_step& step : steps) {
      steps_.push_back(std::make_unique<gpu_weights>(step.shape, scheme, threads, blocks_));
    }
  }
  int blocks() const { return blocks_; }
  const gpu_weights& of(size_t step) const { return *steps_[step]; }

 private:
  int blocks_ = 0;
  std::vector<std::unique_ptr<gpu_weights>> steps_;
};

// The buffers of a chain for one m and type.
class chain {
 public:
  chain(const std::vector<chain_step>& steps, const chain_weights& weights, int64_t m, floatx_type type,
        const gpu_stream& stream)
      : steps_(steps), weights_(weights), m_(m), type_(type), stream_(stream) {
    const aligned_buffer x = random_values(m, steps[0].shape.k, type);
    input_ = gpu_buffer(x.get(), x.size());
    for (size_t s = 0; s < steps.size(); ++s) {
      const size_t bytes = 2 * static_cast<size_t>(m * steps[s].shape.n);
      outputs_.emplace_back(bytes, 0xff);
      if (s + 1 == steps.size()) {
        // The output of one block is read by the next while that one's own is written.
        outputs_.emplace_back(bytes, 0xff);
      }
    }
    // One each: with programmatic launch calls overlap in time.
    for (int block = 0; block < weights.blocks(); ++block) {
      for (size_t s = 0; s < steps.size(); ++s) {
        workspaces_.push_back(gpu_workspace(weights.of(s).copies()[0], m, type));
      }
    }
  }

  void enqueue(int blocks, uint32_t flags) const {
    const size_t last = steps_.size() - 1;
    for (int block = 0; block < blocks; ++block) {
      const auto parity = static_cast<size_t>(block % 2);
      for (size_t s = 0; s <= last; ++s) {
        const layer& shape = steps_[s].shape;
        const int source = steps_[s].source;
        const void* x = source >= 0  ? outputs_[static_cast<size_t>(source)].get()
                        : block == 0 ? input_.get()
                                     : outputs_[last + 1 - parity].get();
        const int64_t x_stride = source >= 0 ? steps_[static_cast<size_t>(source)].shape.n : shape.k;
        void* y = outputs_[s == last ? last + parity : s].get();
        const auto call = static_cast<size_t>(block) * steps_.size() + s;
        enqueue_linear(weights_.of(s).copies()[static_cast<size_t>(block)],
                       {m_, type_, x, x_stride, y, shape.n}, workspaces_[call], flags, stream_);
      }
    }
  }

  // What the last of `blocks` blocks wrote.
  std::vector<uint16_t> result(int blocks) const {
    const gpu_buffer& y = outputs_[steps_.size() - 1 + static_cast<size_t>((blocks - 1) % 2)];
    std::vector<uint16_t> values(y.size() / 2);
    check(cudaMemcpy(values.data(), y.get(), y.size(), cudaMemcpyDeviceToHost), "reading y");
    return values;
  }

 private:
  const std::vector<chain_step>& steps_;
  const chain_weights& weights_;
  int64_t m_;
  floatx_type type_;
  const gpu_stream& stream_;
  gpu_buffer input_;
  std::vector<gpu_buffer> outputs_;  // one for each step, two for the last
  std::vector<gpu_buffer> workspaces_;
};

bool all_finite(const std::vector<uint16_t>& values, floatx_type type) {
  return std::all_of(values.begin(), values.end(), [type](uint16_t bits) {
    return std::isfinite(type == FLOATX_TYPE_F16 ? f16_to_f32(bits) : bf16_to_f32(bits));
  });
}

void bench_chain(const std::string& shape, const std::vector<chain_step>& steps, const named_scheme& scheme,
                 const std::vector<floatx_type>& types, const std::vector<int64_t>& ms,
                 const gpu_bench& bench, chain_report& report) {
  const chain_weights weights(steps, scheme.scheme, bench.threads);
  for (const floatx_type type : types) {
    for (const int64_t m : ms) {
      const std::string where = fmt::format("chain of {} in {}, {} group {} {} m={}", steps.size(), shape,
                                            scheme.format, scheme.scheme.group_size, name(type), m);
      bench.progress.label(where);
      double floor = 0;
      for (size_t s = 0; s < steps.size(); ++s) {
        floor += bench.floor_us(weights.of(s).bytes(), m, steps[s].shape.n, steps[s].shape.k);
      }
      const chain calls(steps, weights, m, type, bench.stream);
      // Kernels are loaded by their first call, which must not fall into the capture.
      calls.enqueue(1, bench.flags);
      bench.stream.wait();
      double us[2] = {};
      std::vector<uint16_t> results[2];
      for (const int programmatic : {0, 1}) {
        const uint32_t flags = bench.flags | (programmatic ? FLOATX_EXECUTION_PROGRAMMATIC_LAUNCH : 0);
        const gpu_graph graph(bench.stream, [&] { calls.enqueue(weights.blocks(), flags); });
        us[programmatic] = time_graph(graph, bench.stream, bench.seconds).us / weights.blocks();
        results[programmatic] = calls.result(weights.blocks());
      }
      if (results[0] != results[1] || !all_finite(results[0], type)) {
        throw std::runtime_error(fmt::format(
            "--cuda: WRONG RESULT: {}: {}", where,
            results[0] != results[1] ? "other bits with programmatic launch" : "y is not finite"));
      }
      report.add(shape, steps.size(), scheme, type, m, floor, us);
      bench.progress.advance(1);
    }
  }
}

}  // namespace

std::vector<std::string> chained_shapes(const bench_options& options) {
  std::vector<std::string> shapes;
  decoder ignored = {};
  std::copy_if(options.shapes.begin(), options.shapes.end(), std::back_inserter(shapes),
               [&](const std::string& shape) { return find_decoder(shape, ignored); });
  if (shapes.empty()) {
    throw usage_error("--chain: no --shape is a model: llama-2-7b, llama-2-70b or llama-3-8b");
  }
  return shapes;
}

void chain_report::add(const std::string& shape, size_t linears, const named_scheme& scheme, floatx_type type,
                       int64_t m, double floor_us, const double (&us)[2]) {
  const int64_t group = scheme.scheme.group_size;
  table_.add(
      {shape, fmt::format("{}", linears), scheme.format,
       fmt::format("{} / {}", name(scheme.scheme.scale_type), group == 0 ? "row" : fmt::format("{}", group)),
       std::string(name(type)), fmt::format("{}", m), fmt::format("{:.2f}", us[0]),
       fmt::format("{:.3f}", floor_us / us[0]), fmt::format("{:.2f}", us[1]),
       fmt::format("{:.3f}", floor_us / us[1])});
  for (const bool programmatic : {false, true}) {
    rows_.push_back({{"shape", shape},
                     {"linears", linears},
                     {"m", m},
                     {"format", scheme.format},
                     {"group", group},
                     {"act", name(type)},
                     {"programmatic", programmatic},
                     {"us", us[programmatic ? 1 : 0]},
                     {"floor_us", floor_us},
                     {"family", "cuda"}});
  }
}

void bench_chains(const std::string& shape, const std::vector<named_scheme>& schemes,
                  const std::vector<floatx_type>& types, const std::vector<int64_t>& ms,
                  const gpu_bench& bench, chain_report& report) {
  decoder found = {};
  find_decoder(shape, found);
  for (const named_scheme& scheme : schemes) {
    bench_chain(shape, four_steps(found), scheme, types, ms, bench, report);
    bench_chain(shape, seven_steps(found), scheme, types, ms, bench, report);
  }
}

}  // namespace floatx::cli
