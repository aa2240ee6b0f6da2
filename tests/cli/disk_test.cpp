// Disks and folders that take no file, and programs that are interrupted.
//
// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>

#include "cli/program.hpp"
#include "support/catch.hpp"

using namespace cli_test;
namespace fs = std::filesystem;

namespace {

using names = std::vector<std::string>;

contents small_model() {
  contents c;
  c.tensors["a.weight"] = random_tensor("BF16", 8, 32, 1);
  c.tensors["b.bias"] = random_tensor("F32", 1, 5, 2);
  return c;
}

}  // namespace

TEST_CASE("a folder that cannot be written") {
  // Risk: work is done for nothing, or the failure is not an error.
  const temporary_folder folder;
  write_safetensors(folder / "in.safetensors", small_model());
  // Nobody can make a file here, not even root, for whom the rights of a folder mean nothing.
  CHECK(failed_with(run({"quantize", folder / "in.safetensors", "/proc/out.safetensors"}), 1,
                    "/proc/out.safetensors: cannot write to its folder"));
  CHECK(failed_with(run({"quantize", folder / "in.safetensors", "/proc/out"}), 1,
                    "/proc/out: cannot make the folder"));
  CHECK(failed_with(
      run({"quantize", folder / "in.safetensors", folder / "o.safetensors", "--json", "/proc/r.json"}), 1,
      "/proc/r.json: cannot write to its folder"));
  CHECK(failed_with(run({"quantize", folder / "in.safetensors", "/dev/full"}), 1, "/dev/full"));
  if (geteuid() != 0) {
    fs::create_directory(folder / "locked");
    fs::permissions(folder / "locked", fs::perms::owner_read | fs::perms::owner_exec);
    CHECK(failed_with(run({"quantize", folder / "in.safetensors", folder / "locked/o.safetensors"}), 1,
                      "cannot write to its folder: Permission denied"));
    fs::remove(folder / "locked");
  }
  CHECK(folder.entries() == names{"in.safetensors"});
}

TEST_CASE("a disk that fills up: an error, no partial output, and the old file is still there") {
  // Risk: half a model under the final name.
  const temporary_folder folder;
  contents c = small_model();
  c.tensors["big.weight"] = random_tensor("F32", 256, 1024, 1);  // 196608 bytes of codes
  write_safetensors(folder / "in.safetensors", c);
  write_file(folder / "out.safetensors", "old");

  SECTION("a limit on the size of files") {
    const auto limit = [] {
      const rlimit bytes = {100000, 100000};
      setrlimit(RLIMIT_FSIZE, &bytes);
    };
    for (const std::string& out : {folder / "out.safetensors", folder / "fresh"}) {
      const outcome result = run({"quantize", folder / "in.safetensors", out}, limit);
      INFO(describe(result));
      CHECK(failed_with(result, 1, "File too large"));
    }
    CHECK(folder.entries() == names{"in.safetensors", "out.safetensors"});
    CHECK(read_file(folder / "out.safetensors") == "old");
  }

  SECTION("a small file system") {
    // In a mount namespace of its own, which goes with the process.
    fs::create_directory(folder / "disk");
    const std::string disk = folder / "disk";
    const std::string listing = folder / "listing";
    const auto mount_and_list = [&] {
      const bool mounted = unshare(CLONE_NEWNS | (geteuid() == 0 ? 0 : CLONE_NEWUSER)) == 0 &&
                           mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                           mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=102400") == 0;
      if (!mounted) {
        _exit(126);
      }
      const int old = open((disk + "/out.safetensors").c_str(), O_WRONLY | O_CREAT, 0600);
      if (write(old, "old", 3) != 3) {
        _exit(126);
      }
      close(old);
      // The program runs as a child, because the file system can only be looked at from in here.
      const pid_t child = fork();
      if (child != 0) {
        int status = 0;
        waitpid(child, &status, 0);
        const std::string command = "ls -A '" + disk + "' > '" + listing + "' && cat '" + disk +
                                    "/out.safetensors' >> '" + listing + "'";
        if (std::system(command.c_str()) != 0) {
          _exit(125);
        }
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
      }
    };
    const outcome result =
        run({"quantize", folder / "in.safetensors", disk + "/out.safetensors"}, mount_and_list);
    INFO(describe(result));
    if (result.status == 126) {
      WARN("skipped: a small file system cannot be mounted here");
    } else {
      CHECK(failed_with(result, 1, "No space left on device"));
      CHECK(read_file(listing) == "out.safetensors\nold");
    }
  }

  SECTION("standard output") {
    const auto full = [] { dup2(open("/dev/full", O_WRONLY), STDOUT_FILENO); };
    const outcome result = run({"formats"}, full);
    INFO(describe(result));
    CHECK(failed_with(result, 1, "standard output"));
  }
}

TEST_CASE("an interrupted program leaves nothing behind") {
  // Risk: Ctrl-C leaves gigabytes under a hidden name.
  const temporary_folder folder;
  // 256 MB of zeros, which take no place on the disk.
  const std::string header =
      R"({"a.weight":{"dtype":"F32","shape":[16384,4096],"data_offsets":[0,268435456]}})";
  const uint64_t length = header.size();
  write_file(folder / "in.safetensors", std::string(reinterpret_cast<const char*>(&length), 8) + header);
  fs::resize_file(folder / "in.safetensors", 8 + length + 268435456);
  const running program =
      start({"quantize", folder / "in.safetensors", folder / "out.safetensors", "--jobs", "1"});
  // The temporary file is the sign that the work has begun; it goes on for a good while after that.
  while (folder.entries().size() < 2 && kill(program.process, 0) == 0) {
    usleep(1000);
  }
  kill(program.process, SIGTERM);
  const outcome result = finish(program);
  INFO(describe(result));
  CHECK(failed_with(result, 130, "interrupted"));
  CHECK(folder.entries() == names{"in.safetensors"});
}
