// Files: safetensors that are written, output that fails half way, models of several files.
//
// SPDX-License-Identifier: Apache-2.0
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "io/error.hpp"
#include "io/model.hpp"
#include "io/output_file.hpp"
#include "io/safetensors.hpp"
#include "support/catch.hpp"
#include "unit/safetensors_text.hpp"

using namespace floatx::test;

namespace {

namespace fs = std::filesystem;
namespace io = floatx::io;

class temporary_folder {
 public:
  temporary_folder() {
    std::string name = (fs::temp_directory_path() / "floatx-unit-XXXXXX").string();
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~temporary_folder() { fs::remove_all(path_); }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  std::string path() const { return path_.string(); }
  size_t entries() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(path_), fs::directory_iterator()));
  }

 private:
  fs::path path_;
};

void write_file(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_CASE("safetensors: what is written is what is read, aligned and without gaps") {
  // Risk: a tensor lands at another one's place, or where mapped memory is not aligned for its element.
  const temporary_folder folder;
  const std::string path = folder / "out.safetensors";
  const io::metadata_map metadata = {{"quote", "\"\n"}, {"z", ""}};
  {
    io::safetensors_writer writer(path,
                                  {{"odd", io::dtype::u8, {3}},
                                   {"f64", io::dtype::f64, {1}},
                                   {"name \"\n", io::dtype::f32, {2, 1}},
                                   {"none", io::dtype::f16, {0, 7}},
                                   {"half", io::dtype::bf16, {1}}},
                                  metadata);
    const std::string content = "0123456789abcdef";
    for (size_t i = 0; i < writer.tensors().size(); ++i) {
      // Backwards and in pieces: the order of writing must not matter.
      for (uint64_t offset = writer.tensors()[i].bytes(); offset-- > 0;) {
        writer.write(i, offset, content.data() + offset, 1);
      }
    }
    CHECK(writer.find("half") < writer.tensors().size());
    CHECK_THROWS_AS(writer.find("absent"), std::out_of_range);
    CHECK_THROWS_AS(writer.write(writer.find("odd"), 2, content.data(), 2), std::out_of_range);
    CHECK_THROWS_AS(writer.write(writer.find("odd"), 4, content.data(), 0), std::out_of_range);
    writer.file().sync();
    writer.file().commit();
    CHECK(fs::file_size(path) == writer.file_bytes());
  }
  const io::model model({path});
  const io::shard& shard = model.shards()[0];
  CHECK(shard.header.metadata == metadata);
  CHECK(shard.header.data_begin % 8 == 0);
  REQUIRE(shard.header.tensors.size() == 5);
  for (const io::tensor_info& tensor : shard.header.tensors) {
    INFO(tensor.name);
    CHECK((shard.header.data_begin + tensor.begin) % std::max(1u, io::bits(tensor.dtype) / 8) == 0);
    CHECK(std::memcmp(shard.data(tensor), "0123456789abcdef", tensor.bytes()) == 0);
  }
  CHECK(model.info(*model.find("name \"\n")).shape == std::vector<uint64_t>{2, 1});
  CHECK(folder.entries() == 1);
}

TEST_CASE("safetensors: a header that could not be read back is not written") {
  // Risk: two tensors under one name, or sizes that wrap, make a file that loses data.
  const temporary_folder folder;
  const auto message_of = [&](std::vector<io::tensor_info> tensors) -> std::string {
    try {
      const io::safetensors_writer writer(folder / "x.safetensors", std::move(tensors), {});
    } catch (const io::error& error) {
      return error.what();
    }
    return "written";
  };
  CHECK(contains(message_of({{"a", io::dtype::u8, {1}}, {"a", io::dtype::f32, {1}}}),
                 "two tensors would be named 'a'"));
  const uint64_t half = uint64_t{1} << 60;
  CHECK(contains(
      message_of(
          {{"a", io::dtype::u8, {half}}, {"b", io::dtype::u8, {half}}, {"c", io::dtype::u8, {half, 64}}}),
      "overflows 64 bits"));
  CHECK(folder.entries() == 0);
}

TEST_CASE("output files: nothing is seen until all is there") {
  // Risk: an error half way leaves a broken file, or has destroyed the one that was there.
  const temporary_folder folder;
  const std::string path = folder / "f";
  write_file(path, "old");
  {
    io::output_file file(path);
    file.write(0, "new content", 11);
    CHECK(read_file(path) == "old");
    CHECK(folder.entries() == 2);
  }
  CHECK(read_file(path) == "old");
  CHECK(folder.entries() == 1);
  {
    io::output_file file(path);
    file.write(4, "content", 7);
    file.write(0, "new ", 4);
    file.sync();
    file.commit();
  }
  CHECK(read_file(path) == "new content");
  CHECK(folder.entries() == 1);

  // The rights are those of any new file, not those of a secret one.
  const mode_t mask = umask(0);
  umask(mask);
  struct stat status = {};
  REQUIRE(stat(path.c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == (0666 & ~mask));

  CHECK_THROWS_AS(io::output_file(folder / "no/such/folder"), io::error);
  CHECK_THROWS_AS(io::output_file("/dev/full"), io::error);
  CHECK_THROWS_AS(io::output_file(folder.path()), io::error);
}

TEST_CASE("output files: a write that fails half way is an error, and leaves nothing") {
  // Risk: the space runs out after it was promised, and nobody looks.
  const temporary_folder folder;
  write_file(folder / "f", "old");
  const auto old_action = std::signal(SIGXFSZ, SIG_IGN);
  rlimit old_limit = {};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &old_limit) == 0);
  const std::string data(3000, 'x');
  std::string message;
  {
    io::output_file file(folder / "f");
    const rlimit small = {2000, old_limit.rlim_max};
    REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
    try {
      file.write(0, data.data(), data.size());
    } catch (const io::error& error) {
      message = error.what();
    }
    CHECK_THROWS_AS(file.reserve(3000), io::error);
    REQUIRE(setrlimit(RLIMIT_FSIZE, &old_limit) == 0);
  }
  std::signal(SIGXFSZ, old_action);
  CHECK(contains(message, "cannot write: File too large"));
  CHECK(read_file(folder / "f") == "old");
  CHECK(folder.entries() == 1);
}

TEST_CASE("models: shards and indices must fit together") {
  // Risk: a tensor is taken from the wrong file, or one that the index promises is missing from the result.
  const temporary_folder folder;
  const std::string tensor_b = R"("b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  const std::string a = folder / "a.safetensors";
  const std::string b = folder / "b.safetensors";
  const std::string index = folder / io::index_file_name;
  write_file(a, file_of("{" + tensor_a + "}", 8));
  write_file(b, file_of("{" + tensor_b + "}", 8));
  const auto message_of = [](const std::vector<std::string>& paths) -> std::string {
    try {
      const io::model model(paths);
    } catch (const io::error& error) {
      return error.what();
    }
    return "accepted";
  };
  const auto indexed = [&](const std::string& text) {
    write_file(index, text);
    return message_of({folder.path()});
  };

  CHECK(message_of({a, b}) == "accepted");
  CHECK(contains(message_of({folder.path()}), "holds neither"));
  CHECK(contains(message_of({a, a}), "given twice"));
  write_file(folder / "c.safetensors", file_of("{" + tensor_a + "}", 8));
  CHECK(contains(message_of({a, folder / "c.safetensors"}), "tensor 'a' is also in"));
  CHECK(contains(message_of({folder / "absent"}), "cannot open"));
  CHECK(contains(message_of({a, folder.path()}), "not a regular file"));

  CHECK(indexed(R"({"metadata":{"x":1},"weight_map":{"a":"a.safetensors","b":"b.safetensors"}})") ==
        "accepted");
  const io::model model({folder.path()});
  CHECK(model.shards().size() == 2);
  CHECK(*model.index_metadata() == R"({"x":1})");

  CHECK(contains(indexed("nonsense"), "not valid JSON"));
  CHECK(contains(indexed("[]"), "weight_map"));
  CHECK(contains(indexed("{}"), "weight_map"));
  CHECK(contains(indexed(R"({"weight_map":[]})"), "weight_map"));
  CHECK(contains(indexed(R"({"weight_map":{"a":1}})"), "must lie in a file of the same folder"));
  CHECK(contains(indexed(R"({"weight_map":{"a":"../a.safetensors"}})"),
                 "must lie in a file of the same folder"));
  CHECK(contains(indexed(R"({"weight_map":{"a":"/etc/passwd"}})"), "must lie in a file of the same folder"));
  CHECK(
      contains(indexed(R"({"weight_map":{"a":"a.safetensors","a":"b.safetensors"}})"), "'a' appears twice"));
  CHECK(contains(indexed(R"({"weight_map":{"a":"gone.safetensors"}})"), "gone.safetensors: cannot open"));
  CHECK(contains(indexed(R"({"weight_map":{"a":"b.safetensors"}})"), "tensor 'a' is not in 'b.safetensors'"));
}
