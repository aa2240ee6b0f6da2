// What the program draws where its messages go to a terminal.
//
// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string>
#include <vector>

#include "cli/program.hpp"
#include "support/catch.hpp"
#include "support/skip.hpp"

using namespace cli_test;

namespace {

// The program with a terminal of 80 columns for standard error.
class terminal {
 public:
  terminal() : master_(posix_openpt(O_RDWR | O_NOCTTY)) {
    if (master_ >= 0 && grantpt(master_) == 0 && unlockpt(master_) == 0) {
      slave_ = open(ptsname(master_), O_RDWR | O_NOCTTY);
    }
    if (!exists()) return;
    winsize size = {};
    size.ws_row = 24;
    size.ws_col = 80;
    REQUIRE(ioctl(slave_, TIOCSWINSZ, &size) == 0);
  }
  ~terminal() {
    close(slave_);
    close(master_);
  }
  terminal(const terminal&) = delete;
  terminal& operator=(const terminal&) = delete;

  // A container may have none.
  bool exists() const { return slave_ >= 0; }

  outcome run(const std::vector<std::string>& arguments) {
    outcome result = cli_test::run(arguments, [this] { dup2(slave_, STDERR_FILENO); });
    // All has been written; a small model draws far less than a terminal holds unread.
    pollfd ready = {master_, POLLIN, 0};
    std::array<char, 4096> buffer;
    while (poll(&ready, 1, 0) == 1) {
      const ssize_t count = read(master_, buffer.data(), buffer.size());
      REQUIRE(count > 0);
      result.err.append(buffer.data(), static_cast<size_t>(count));
    }
    return result;
  }

 private:
  int master_;
  int slave_ = -1;
};

}  // namespace

TEST_CASE("a progress bar on a terminal, gone when the work is done, and none with --quiet") {
  // Risk: long work looks like a hung program; or the remains of the bar stand before the shell's prompt.
  const temporary_folder folder;
  const std::string out = folder / "out.safetensors";
  terminal screen;
  if (!screen.exists()) {
    floatx::test::skip("no pseudo-terminals here");
    return;
  }
  const outcome shown = screen.run({"quantize", std::string(FLOATX_MODEL) + "/model.safetensors", out});
  INFO(describe(shown));
  REQUIRE(shown.status == 0);
  CHECK(has(shown.err, ".] "));
  CHECK(has(shown.err, " %  'model."));
  const std::string erase = "\r\x1b[K";
  REQUIRE(shown.err.size() > erase.size());
  CHECK(shown.err.substr(0, erase.size()) == erase);
  CHECK(shown.err.substr(shown.err.size() - erase.size()) == erase);
  // Each drawing stays on its line.
  for (size_t begin = 0; begin < shown.err.size();) {
    const size_t end = std::min(shown.err.find('\r', begin + 1), shown.err.size());
    CHECK(end - begin < erase.size() + 80);
    begin = end;
  }
  CHECK(!has(shown.err, "\n"));
  CHECK(!has(shown.out, "\x1b"));

  const outcome quiet = screen.run({"dequantize", out, folder / "back.safetensors", "--quiet"});
  INFO(describe(quiet));
  CHECK(quiet.status == 0);
  CHECK(quiet.err.empty());
  CHECK(quiet.out.empty());
}
