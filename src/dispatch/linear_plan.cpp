#include "dispatch/linear_plan.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#include "linear_shape.hpp"
#include "tuning/linear_stream.hpp"
#include "tuning/linear_tile.hpp"

namespace floatx::dispatch {
namespace {

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

int tiles_of(int64_t n, int strips) { return static_cast<int>(divide_up(n, 16 * strips)); }

// How much of the chip works until the last thread block ends, if each takes whole tiles.
double balance(int64_t tiles, int64_t multiprocessors) {
  return static_cast<double>(tiles) /
         static_cast<double>(divide_up(tiles, multiprocessors) * multiprocessors);
}

// Thread blocks that work side by side on a token tile: one a multiprocessor, shared among the token tiles.
int64_t slots(const device_limits& device, const linear_plan& plan) {
  return std::max(1, device.multiprocessors / plan.token_blocks);
}

int cell_scale_bytes(const linear_problem& problem) {
  if (problem.group_size == 0) return 0;
  return static_cast<int>(kernels::cell_rows * kernels::tile_k / problem.group_size) *
         scale_bytes(problem.scale_type);
}

// Of x, that tiles touch that are worked on at the same time; see kernels::place_of.
double x_bytes_at_once(const linear_problem& problem, const device_limits& device, const linear_plan& plan) {
  const int64_t token_tiles =
      std::min<int64_t>(plan.token_blocks, divide_up(device.multiprocessors, plan.band_rows));
  return 2.0 * static_cast<double>(token_tiles * 8 * plan.kernel.token_tiles * problem.k);
}

// By how much faster memory is than where the tuning tables were measured.
double memory_factor(const device_limits& device) {
  return device.memory_bytes_per_us / tuning::memory_bytes_per_us;
}

// What the tile family reads at best.
double tile_bytes_per_us(const device_limits& device) {
  const double faster = device.memory_bytes_per_us - tuning::memory_bytes_per_us;
  return faster > 0 ? tuning::bytes_per_us + tuning::faster_part * faster
                    : tuning::bytes_per_us * memory_factor(device);
}

// With its share of a group's scale.
double bytes_of_weight(const linear_problem& problem) {
  const double of_scale = problem.group_size == 0 ? 0
                                                  : static_cast<double>(scale_bytes(problem.scale_type)) /
                                                        static_cast<double>(problem.group_size);
  return problem.bits / 8.0 + of_scale;
}

// Of shared memory, for a plan of the stream family.
int stream_bytes(const linear_problem& problem, const linear_plan& plan) {
  const linear_kernel& kernel = plan.kernel;
  const int tile_tokens = 8 * kernel.token_tiles;
  const int tokens = static_cast<int>(std::min<int64_t>(problem.m, tile_tokens));
  return plan.warps * (kernels::ring_header_bytes +
                       plan.stages * kernels::stage_bytes(kernel.bits, cell_scale_bytes(problem),
                                                          kernel.strips, tokens)) +
         kernels::reduction_bytes(plan.warps, kernel.strips, tile_tokens);
}

bool stream_fits(const linear_problem& problem, const device_limits& device, const linear_plan& plan) {
  return stream_bytes(problem, plan) + kernels::static_shared_bytes <= device.block_shared_bytes;
}

// Thread blocks that share as many tiles, of the tile family, and their workspace.
int64_t share_blocks(const linear_problem& problem, const device_limits& device, int64_t tiles) {
  return std::min<int64_t>(tiles * divide_up(problem.k, kernels::tile_k), device.multiprocessors);
}

size_t share_bytes(int64_t blocks, int warps, int token_tiles) {
  return arrivals_bytes +
         static_cast<size_t>(blocks) * static_cast<size_t>(16 * warps * 8 * token_tiles) * sizeof(float);
}

void lay_out_tiles(const linear_problem& problem, const device_limits& device, linear_plan& plan) {
  const linear_kernel& kernel = plan.kernel;
  const int strips = kernel.strips / plan.ways;
  plan.token_blocks = static_cast<int>(divide_up(problem.m, 8 * kernel.token_tiles));
  plan.tiles = tiles_of(problem.n, strips);
  plan.warps = kernels::tile_threads(kernel.strips) / 32;
  const int64_t all = static_cast<int64_t>(plan.tiles) * plan.token_blocks;
  const bool by_cluster = plan.split * plan.ways > 1;
  const int64_t processors = device.multiprocessors;
  // With what is left over go as many tiles as there are thread blocks: a share is then more than a tile.
  const int64_t rest = plan.whole_tiles ? 0 : all % processors;
  plan.shared_tiles = static_cast<int>(rest == 0 || all < processors ? rest : rest + processors);
  plan.blocks = static_cast<int>(by_cluster                       ? all * plan.split
                                 : rest == 0 || all >= processors ? std::min(all, processors)
                                                                  : share_blocks(problem, device, all));
  plan.workspace_bytes =
      plan.shared_tiles == 0 ? 0 : share_bytes(plan.blocks, kernel.strips, kernel.token_tiles);
  // Tiles of which as many as there are multiprocessors touch the fewest bytes: R x C of them, R rows' bytes
  // = C tokens'.
  const double row_tiles =
      std::sqrt(device.multiprocessors * (8.0 * kernel.token_tiles * 2) / (strips * 16.0 * problem.bits / 8));
  plan.band_rows = std::max(1, static_cast<int>(std::lround(row_tiles)));
  const auto bytes = [&] {
    return kernels::tile_shared_bytes(kernel.bits, cell_scale_bytes(problem), strips, kernel.strips,
                                      kernel.token_tiles, plan.stages, plan.x_slots);
  };
  // As many slots as there is room for, each of x as many k as one of cells. A slot is always the same way's:
  // parities tell a phase of a barrier from the next alone, so who waits for it must have seen all of them.
  const auto fits = [&] { return bytes() <= device.block_shared_bytes; };
  const int least = std::max(2, plan.ways);
  plan.stages = plan.x_slots = 8 * plan.ways;
  while (!fits() && plan.stages > least) plan.x_slots = plan.stages -= plan.ways;
  while (fits() && plan.x_slots <= plan.stages) plan.x_slots += plan.ways;
  while (!fits() && plan.x_slots > least) plan.x_slots -= plan.ways;
  plan.shared_bytes = bytes();
}

}  // namespace

bool has_room(const linear_problem& problem, const device_limits& device, const linear_plan& plan) {
  const linear_kernel& kernel = plan.kernel;
  if (plan.shared_bytes > device.block_shared_bytes) return false;
  if (plan.shared_tiles > 0) {
    return kernels::has_shares(kernel.strips) && plan.split * plan.ways == 1 &&
           static_cast<size_t>(plan.shared_tiles) * sizeof(unsigned) <= arrivals_bytes;
  }
  return plan.split * plan.ways == 1 ||
         kernels::shared_sums_bytes(kernel.token_tiles, kernel.strips, plan.ways, plan.split) <=
             kernels::rings_bytes(kernel.bits, cell_scale_bytes(problem), kernel.strips / plan.ways,
                                  kernel.token_tiles, plan.stages, plan.x_slots);
}

linear_kernel kernel_of(linear_family family, const linear_problem& problem, int strips, int token_tiles) {
  using kernels::scaling;
  linear_kernel kernel = {family,      problem.bits,      problem.bf16, {scaling::rows, 0},
                          token_tiles, problem.unpacking, strips};
  if (problem.group_size == 0) return kernel;
  const bool is_tile = family == linear_family::tile;
  kernel.scaling = {is_tile && problem.folds ? scaling::folded : scaling::apart,
                    problem.group_size == 16 ? 1 : 2};
  if (problem.group_size != kernels::tile_k) return kernel;
  const auto has = [&](linear_scaling of_blocks) {
    return std::any_of(
        std::begin(tuning::tile_rows), std::end(tuning::tile_rows), [&](const tuning::tile_row& row) {
          return row.warps == strips && row.token_tiles == token_tiles && has_kernels(row, of_blocks);
        });
  };
  constexpr linear_scaling apart = {scaling::apart, kernels::steps},
                           folded = {scaling::folded, kernels::steps};
  if (is_tile && problem.folds && has(folded)) {
    kernel.scaling = folded;
  } else if (!is_tile || has(apart)) {
    kernel.scaling = apart;
  }
  return kernel;
}

void lay_out(const linear_problem& problem, const device_limits& device, linear_plan& plan) {
  if (plan.kernel.family == linear_family::tile) return lay_out_tiles(problem, device, plan);
  const linear_kernel& kernel = plan.kernel;
  const int tile_tokens = 8 * kernel.token_tiles;
  plan.token_blocks = static_cast<int>(divide_up(problem.m, tile_tokens));
  plan.tiles = tiles_of(problem.n, kernel.strips);
  const int64_t most_blocks = slots(device, plan), k_blocks = divide_up(problem.k, kernels::tile_k);
  plan.shared_tiles = plan.whole_tiles ? 0 : static_cast<int>(plan.tiles % most_blocks);
  const bool has_whole = plan.shared_tiles < plan.tiles;
  plan.blocks = static_cast<int>(std::min(most_blocks, has_whole ? plan.tiles : plan.tiles * k_blocks));
  plan.workspace_bytes = 0;
  if (plan.shared_tiles > 0) {
    plan.workspace_bytes =
        arrivals_bytes + static_cast<size_t>(plan.blocks) * static_cast<size_t>(plan.token_blocks) * 2 *
                             static_cast<size_t>(tile_tokens * kernel.strips * 16) * sizeof(float);
  }

  while (plan.warps > kernels::least_stream_warps(kernel.strips) && !stream_fits(problem, device, plan))
    --plan.warps;
  plan.pause = plan.ahead = 0;
  if (problem.programmatic) {
    const int bytes =
        plan.warps * kernels::stage_bytes(kernel.bits, cell_scale_bytes(problem), kernel.strips, 0);
    plan.pause = bytes / tuning::waiting_bytes_per_clock;
    plan.ahead = tuning::ahead_bytes / bytes;
  }
  // More than half of a multiprocessor's, so that each has one thread block. Those of the next kernel,
  // launched early, would else join some that are not done while others are idle. With a programmatic launch
  // all of it: what an attention kernel's thread blocks gain by waiting beside this one's is lost by those
  // that have to begin later than others.
  plan.shared_bytes = problem.programmatic
                          ? device.block_shared_bytes - kernels::static_shared_bytes
                          : std::max(stream_bytes(problem, plan), device.block_shared_bytes / 2);
}

namespace {

// The first row that holds.
const tuning::stream_row* find_row(const tuning::stream_row* row, const linear_problem& problem) {
  while (problem.m > row->max_tokens || problem.bits < row->min_bits ||
         (problem.group_size != 0 && !row->of_groups)) {
    ++row;
  }
  return row;
}

// As a row says, but for slots that shared memory does not hold: how many warps there are decides in which
// order sums are added, and must not depend on how the kernel is launched.
void set_rings(const linear_problem& problem, const device_limits& device, const tuning::stream_row& row,
               linear_plan& plan) {
  plan.warps = std::min(row.warps, kernels::max_stream_warps(problem.bits, plan.kernel.token_tiles,
                                                             plan.kernel.scaling.interval));
  plan.stages = problem.programmatic ? row.programmatic_stages : row.stages;
  while (plan.stages > 2 && !stream_fits(problem, device, plan)) --plan.stages;
}

// Whether thread blocks should share tiles, where whole ones keep as much of the chip busy as `balance` says.
bool pays_to_share(const linear_problem& problem, int64_t blocks, double balance) {
  const int64_t tiles = tiles_of(problem.n, 4);
  if (tiles < blocks) return balance < tuning::least_whole_tile_balance;
  const double pieces = static_cast<double>(tiles * divide_up(problem.k, kernels::tile_k));
  return pieces / static_cast<double>(blocks) * (1 / balance - 1) >= tuning::least_saved_pieces;
}

linear_plan plan_stream(const linear_problem& problem, const device_limits& device, size_t workspace_bytes) {
  const tuning::stream_row* row = find_row(tuning::stream_rows, problem);

  linear_plan plan = {};
  plan.kernel = kernel_of(linear_family::stream, problem, row->strips, row->token_tiles);
  plan.token_blocks = static_cast<int>(divide_up(problem.m, 8 * row->token_tiles));

  const double with_four = balance(tiles_of(problem.n, 4), slots(device, plan));
  const double with_two = row->token_tiles <= 2 ? balance(tiles_of(problem.n, 2), slots(device, plan))
                                                : 0.0;  // the instances there are
  if (pays_to_share(problem, slots(device, plan), std::max(with_two, with_four))) {
    set_rings(problem, device, *row, plan);
    lay_out(problem, device, plan);
    const size_t arrivals = static_cast<size_t>(plan.blocks) * static_cast<size_t>(plan.token_blocks);
    const int64_t k_blocks = divide_up(problem.k, kernels::tile_k);
    // Nothing is saved where a thread block's share is a whole tile.
    if (divide_up(plan.shared_tiles * k_blocks, plan.blocks) < k_blocks && plan.shared_tiles > 0 &&
        plan.workspace_bytes <= workspace_bytes && arrivals * sizeof(unsigned) <= arrivals_bytes) {
      return plan;
    }
  }
  plan.whole_tiles = true;
  if (with_two > with_four * tuning::two_strips_gain) {
    plan.kernel.strips = 2;
    if (row->token_tiles == 1) {
      const int64_t share =
          divide_up(tiles_of(problem.n, 2), slots(device, plan)) * divide_up(problem.k, kernels::tile_k);
      const bool is_short = problem.group_size == 0 && share <= tuning::short_share;
      row = find_row(is_short ? tuning::short_share_rows : tuning::two_strips_rows, problem);
    }
  }
  set_rings(problem, device, *row, plan);
  lay_out(problem, device, plan);
  return plan;
}

// What a plan of the stream family takes, in microseconds.
double stream_us(const linear_problem& problem, const device_limits& device, const linear_plan& plan) {
  const int64_t k_blocks = divide_up(problem.k, kernels::tile_k);
  const int64_t of_block = divide_up(plan.shared_tiles * k_blocks, plan.blocks) +
                           divide_up(plan.tiles - plan.shared_tiles, plan.blocks) * k_blocks;
  const int of_four = plan.kernel.strips / 4;
  // What memory decides, and what unpacking does.
  const double slower = 1 / memory_factor(device);
  const double read_us = tuning::stream_piece_us[of_four][of_block > k_blocks] -
                         tuning::stream_token_us[of_four] * static_cast<double>(16 - problem.m);
  const double piece_us =
      slower * read_us +
      (problem.group_size == 0 ? 0 : tuning::stream_group_us[of_four][problem.group_size == 16]);
  const double start_us = tuning::stream_start_us + tuning::stream_faster_us * std::max(0.0, 1 - slower);
  const double share_us = plan.whole_tiles                 ? 0
                          : plan.shared_tiles < plan.tiles ? tuning::stream_share_us
                                                           : tuning::stream_all_shared_us;
  return start_us + share_us + piece_us * static_cast<double>(of_block);
}

// What scales take a round.
double scaling_us(const tuning::tile_row& row, linear_scaling scaling, const linear_problem& problem) {
  if (scaling.way == kernels::scaling::rows) return 0;
  if (scaling.way == kernels::scaling::apart) return row.apart_us;
  const bool lack_loop = kernels::are_standard(problem.scale_type, problem.group_size, scaling.interval) &&
                         !kernels::has_standard_loop(scaling.interval, row.warps, row.token_tiles);
  return row.folded_us + (lack_loop ? tuning::lacking_loop_us(row.warps) : 0);
}

// The best of the tile family's plans, and what it takes in microseconds.
class tile_search {
 public:
  tile_search(const linear_problem& problem, const device_limits& device, size_t workspace_bytes)
      : problem_(problem),
        device_(device),
        workspace_bytes_(workspace_bytes),
        k_blocks_(divide_up(problem.k, kernels::tile_k)),
        weights_(1e-9 * static_cast<double>(problem.n) * static_cast<double>(problem.k)),
        memory_us_(weights_ * 1e9 * bytes_of_weight(problem) / tile_bytes_per_us(device)) {
    if (!device.has_wgmma || !problem.x_is_aligned || problem.m < tuning::least_tile_tokens) return;
    for (const tuning::tile_row& row : tuning::tile_rows) {
      const linear_kernel kernel = kernel_of(linear_family::tile, problem, row.warps, row.token_tiles);
      if (has_kernels(row, kernel.scaling)) consider(row, kernel);
    }
    for (const tuning::tile_row& row : tuning::apart_rows) {
      const linear_kernel kernel = kernel_of(linear_family::tile, problem, row.warps, row.token_tiles);
      if (is_apart_in_block(kernel.scaling)) consider(row, kernel);
    }
  }

  bool has_plan() const { return us_ < std::numeric_limits<double>::infinity(); }
  const linear_plan& plan() const { return plan_; }
  double us() const { return us_; }

 private:
  const linear_problem& problem_;
  const device_limits& device_;
  size_t workspace_bytes_;
  int64_t k_blocks_;
  double weights_, memory_us_;  // 10^9 weights
  linear_plan plan_ = {};
  double us_ = std::numeric_limits<double>::infinity();

  void consider(const tuning::tile_row& row, const linear_kernel& kernel) {
    for (const int ways : {1, 2, 3, 4}) {
      // Ways divide the slots among themselves, of which wide tiles have few.
      if (row.warps / 4 % ways != 0 || ways * row.token_tiles > tuning::most_way_tiles) continue;
      for (const tuning::cluster_row& cluster : tuning::cluster_rows) {
        if (cluster.split * ways <= k_blocks_) consider(row, kernel, ways, cluster);
      }
    }
  }

  void consider(const tuning::tile_row& row, const linear_kernel& kernel, int ways,
                const tuning::cluster_row& cluster) {
    const int64_t token_tiles = divide_up(problem_.m, 8 * row.token_tiles);
    const int64_t tiles = tiles_of(problem_.n, row.warps / ways) * token_tiles;
    const int64_t slots =
        std::max<int64_t>(cluster.split, static_cast<int64_t>(device_.multiprocessors) *
                                             cluster.multiprocessors / 132 / cluster.split * cluster.split);
    const int64_t waves = divide_up(tiles * cluster.split, slots);
    const int64_t rounds = divide_up(divide_up(k_blocks_, cluster.split), ways);
    const double next_tile_us = tuning::next_tile_us(row.token_tiles);
    const bool is_shared = cluster.split * ways > 1;
    const double cluster_us = cluster.split == 2 && ways == 1 ? tuning::pair_us(row.token_tiles) : cluster.us;
    const double round_us = row.round_us + scaling_us(row, kernel.scaling, problem_);
    const double power_us =
        (row.power_us + (problem_.bf16 ? tuning::bf16_power_us(row.warps, row.token_tiles) : 0)) * weights_ *
        static_cast<double>(token_tiles * 8 * row.token_tiles);
    const auto consider_rounds = [&](bool whole_tiles, int64_t all_rounds, double between_us,
                                     double share_us) {
      const double loop_us =
          tuning::way_factor[ways] * std::max(static_cast<double>(all_rounds) * round_us, memory_us_);
      const double us = std::max(row.start_us + cluster_us + between_us + loop_us, power_us) + share_us;
      if (us >= us_) return;
      linear_plan plan = {};
      plan.kernel = kernel;
      plan.split = cluster.split;
      plan.ways = ways;
      plan.whole_tiles = whole_tiles;
      lay_out(problem_, device_, plan);
      if (plan.workspace_bytes > workspace_bytes_ || !has_room(problem_, device_, plan)) return;
      if (!whole_tiles && x_bytes_at_once(problem_, device_, plan) > tuning::most_shared_x_bytes) return;
      plan_ = plan;
      us_ = us;
    };
    if (!is_shared || waves <= tuning::most_shared_waves) {
      const double next_us = is_shared ? tuning::next_wave_us : next_tile_us;
      consider_rounds(true, waves * rounds, static_cast<double>(waves - 1) * next_us, 0);
    }
    if (!is_shared && tiles > slots && tiles % slots != 0 && kernels::has_shares(row.warps)) {
      consider_rounds(
          false, divide_up(tiles * k_blocks_, slots), static_cast<double>(tiles / slots) * next_tile_us,
          tuning::share_us(row.token_tiles) + tuning::share_square_us * row.warps * row.token_tiles);
    }
  }
};

}  // namespace

size_t most_workspace_bytes(linear_problem problem, const device_limits& device) {
  const int64_t most_tokens = problem.m;
  size_t bytes = 0;
  const auto consider = [&](int64_t tokens) {
    problem.m = tokens;
    bytes = std::max(bytes, plan_stream(problem, device, SIZE_MAX).workspace_bytes);
  };
  // The plan depends on m by way of the rows of the tuning table and of how many token tiles share the chip,
  // so few values decide.
  for (int64_t tokens = 1; tokens < std::min<int64_t>(most_tokens, 8192);
       tokens = std::max(tokens + 1, tokens * 9 / 8)) {
    consider(tokens);
  }
  consider(most_tokens);
  if (!device.has_wgmma || most_tokens < tuning::least_tile_tokens) return bytes;
  for (const tuning::tile_row& row : tuning::tile_rows) {
    if (!kernels::has_shares(row.warps)) continue;
    const int64_t tiles = tiles_of(problem.n, row.warps) * divide_up(most_tokens, 8 * row.token_tiles);
    bytes = std::max(bytes, share_bytes(share_blocks(problem, device, tiles), row.warps, row.token_tiles));
  }
  return bytes;
}

linear_plan plan_linear(const linear_problem& problem, const device_limits& device, size_t workspace_bytes) {
  const linear_plan stream = plan_stream(problem, device, workspace_bytes);
  const tile_search tile(problem, device, workspace_bytes);
  if (tile.has_plan() && (problem.m >= tuning::least_tokens_without_stream ||
                          tile.us() * tuning::stream_preference < stream_us(problem, device, stream))) {
    return tile.plan();
  }
  return stream;
}

}  // namespace floatx::dispatch
